"""What is built from the Go modules in ``cluster/builder/toolchain``: names, flags and cache keys. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

KUBERNETES_PROGRAMS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "kubectl",
)

STRIP = "-s -w"
"""No symbol table and no debug information: halves the binaries."""


@dataclass(frozen=True)
class Component:
    """One Go module and what it leaves in its folder."""

    name: str
    packages: tuple[str, ...]
    binaries: tuple[str, ...]
    links: tuple[str, ...] = ()
    """Further names of the only binary, which asks how it was called."""
    module: str = ""
    """The module whose version is stamped in."""
    stamps: tuple[tuple[str, str], ...] = ()
    """Variables to set at link time, and their values with {version}, {major} and {minor}."""
    folders: tuple[tuple[str, str], ...] = ()
    """Folders of that module that are kept beside the programs, and under which names."""


KUBERNETES = Component(
    "kubernetes",
    (".",),
    ("kubernetes",),
    KUBERNETES_PROGRAMS,
    module="k8s.io/kubernetes",
    stamps=(
        ("k8s.io/component-base/version.gitVersion", "v{version}"),
        ("k8s.io/component-base/version.gitMajor", "{major}"),
        ("k8s.io/component-base/version.gitMinor", "{minor}"),
    ),
)
CONTAINERD = Component(
    "containerd",
    tuple(f"github.com/containerd/containerd/v2/cmd/{n}" for n in ("containerd", "containerd-shim-runc-v2", "ctr")),
    ("containerd", "containerd-shim-runc-v2", "ctr"),
    module="github.com/containerd/containerd/v2",
    stamps=(("github.com/containerd/containerd/v2/version.Version", "{version}"),),
)
HELM = Component("helm", ("helm.sh/helm/v4/cmd/helm",), ("helm",))
ETCD = Component("etcd", (".",), ("etcd",))
CNI = Component(
    "cni",
    tuple(
        f"github.com/containernetworking/plugins/plugins/{n}"
        for n in ("main/bridge", "ipam/host-local", "main/loopback", "meta/portmap")
    ),
    ("bridge", "host-local", "loopback", "portmap"),
)
PAUSE = Component("pause", (".",), ("pause",))
HELM3 = Component(
    "helm3",
    ("helm.sh/helm/v3/cmd/helm",),
    ("helm",),
    # It asks for charts as if on a cluster as old as 1.20 unless its version is set, as in its own releases.
    module="k8s.io/client-go",
    stamps=(
        ("helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor", "{minor}"),
        ("helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor", "{minor}"),
    ),
)
CERT_MANAGER = Component(
    "cert-manager",
    (".",),
    ("cert-manager",),
    ("cert-manager-controller", "cert-manager-cainjector"),
    module="github.com/cert-manager/cert-manager",
    stamps=(("github.com/cert-manager/cert-manager/pkg/util.AppVersion", "v{version}"),),
    folders=(("deploy/charts/cert-manager", "chart"),),
)

COMPONENTS = (KUBERNETES, HELM, CONTAINERD, ETCD, CNI, PAUSE)
"""Longest first: what is built side by side ends soonest that way."""

CONTROL_PLANE_COMPONENTS = (KUBERNETES, ETCD)

TEST_COMPONENTS = (CERT_MANAGER, HELM3)
"""What users have beside our chart, and no cluster of ours runs. Both share most of their packages with Helm's, and so
cost seconds once that is compiled."""

ALL_COMPONENTS = (*COMPONENTS, *TEST_COMPONENTS)


def ldflags(component: Component, go_mod: str) -> str:
    """Return linker flags, which also set a program's version if it would not know it. Pure."""
    found = re.search(rf"^(?:require)?\s*{re.escape(component.module)} v((\d+)\.(\d+)\.\S+)", go_mod, re.MULTILINE)
    if not component.module or not found:
        return STRIP
    version, major, minor = found.groups()
    stamps = [
        f"-X {name}={value.format(version=version, major=major, minor=minor)}" for name, value in component.stamps
    ]
    return " ".join([STRIP, *stamps])


def go_required(go_mods: Mapping[str, str]) -> tuple[int, ...]:
    """Return the least Go version that all modules accept, e.g. ``(1, 26, 6)``."""
    lines = (re.search(r"^go (\S+)$", text, re.MULTILINE) for text in go_mods.values())
    return max(version_tuple(found.group(1)) for found in lines if found)


def version_tuple(text: str) -> tuple[int, ...]:
    """Return ``go1.26.6`` or ``1.26.6`` as numbers; a suffix such as rc1 counts as nothing."""
    found = re.match(r"(?:go)?(\d+(?:\.\d+)*)", text)
    return tuple(int(word) for word in found.group(1).split(".")) if found else ()


def key(component: Component, files: Mapping[str, bytes], go_version: str, architecture: str) -> str:
    """Name one build: any change of sources, flags or compiler gives another."""
    content: dict[str, Any] = {
        "packages": component.packages,
        "links": component.links,
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())},
        "flags": ldflags(component, files.get("go.mod", b"").decode()),
        "go": go_version,
        "architecture": architecture,
    }
    if component.folders:  # else a part without any would be built again for nothing
        content["folders"] = component.folders
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
