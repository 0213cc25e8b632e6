"""What names a build, and what the linker is given."""

import dataclasses

import pytest

from cluster.builder import toolchain
from cluster.builder.toolchain import CERT_MANAGER, CONTAINERD, ETCD, HELM3, KUBERNETES

FILES = {"go.mod": b"module m\n\ngo 1.26.0\n", "main.go": b"package main\n"}


@pytest.mark.parametrize(
    ("files", "version", "machine"),
    [
        pytest.param({**FILES, "main.go": b"package main // changed\n"}, "go1.26.6", "x86_64", id="source"),
        pytest.param({**FILES, "more.go": b""}, "go1.26.6", "x86_64", id="further-file"),
        pytest.param(FILES, "go1.27.0", "x86_64", id="compiler"),
        pytest.param(FILES, "go1.26.6", "aarch64", id="architecture"),
    ],
)
def test_any_change_gives_another_key(files, version, machine):
    assert toolchain.key(ETCD, FILES, "go1.26.6", "x86_64") != toolchain.key(ETCD, files, version, machine)


def test_the_same_inputs_give_the_same_key():
    swapped = dict(reversed(FILES.items()))

    assert toolchain.key(ETCD, FILES, "go1.26.6", "x86_64") == toolchain.key(ETCD, swapped, "go1.26.6", "x86_64")


def test_what_is_kept_of_a_module_gives_another_key():
    more = dataclasses.replace(ETCD, folders=(("deploy", "chart"),))

    assert toolchain.key(ETCD, FILES, "go1.26.6", "x86_64") != toolchain.key(more, FILES, "go1.26.6", "x86_64")


def test_what_only_tests_need_is_in_no_cluster():
    assert set() == set(toolchain.COMPONENTS) & set(toolchain.TEST_COMPONENTS)
    assert set(toolchain.ALL_COMPONENTS) == {*toolchain.COMPONENTS, *toolchain.TEST_COMPONENTS}


@pytest.mark.parametrize(
    ("component", "go_mod", "expected"),
    [
        pytest.param(
            KUBERNETES,
            "require (\n\tk8s.io/kubernetes v1.36.3\n)\n",
            "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 -X k8s.io/component-base/version.gitMajor=1 "
            "-X k8s.io/component-base/version.gitMinor=36",
            id="kubernetes",
        ),
        pytest.param(
            CONTAINERD,
            "require github.com/containerd/containerd/v2 v2.4.2\n",
            "-s -w -X github.com/containerd/containerd/v2/version.Version=2.4.2",
            id="containerd-one-line",
        ),
        pytest.param(
            CERT_MANAGER,
            "require (\n\tgithub.com/cert-manager/cert-manager v1.21.2\n)\n",
            "-s -w -X github.com/cert-manager/cert-manager/pkg/util.AppVersion=v1.21.2",
            id="cert-manager",
        ),
        pytest.param(
            HELM3,
            "require (\n\tk8s.io/client-go v0.37.1 // indirect\n)\n",
            "-s -w -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=37 "
            "-X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor=37",
            id="helm-3",
        ),
        pytest.param(CONTAINERD, "require github.com/containerd/containerd/api v1.0.0\n", "-s -w", id="other-module"),
        pytest.param(ETCD, "require go.etcd.io/etcd/server/v3 v3.6.6\n", "-s -w", id="no-stamp"),
    ],
)
def test_programs_are_told_their_version(component, go_mod, expected):
    assert expected == toolchain.ldflags(component, go_mod)


def test_the_strictest_module_decides_the_compiler():
    mods = {"a": "module a\n\ngo 1.26.0\n", "b": "module b\n\ngo 1.26.6\n", "c": "module c\n\ngo 1.9\n"}

    assert (1, 26, 6) == toolchain.go_required(mods)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("go1.26.6", (1, 26, 6), id="as-go-says-it"),
        pytest.param("1.27", (1, 27), id="bare"),
        pytest.param("go1.27rc1", (1, 27), id="candidate"),
        pytest.param("devel +abc", (), id="unreleased"),
    ],
)
def test_versions_compare_as_numbers(text, expected):
    assert expected == toolchain.version_tuple(text)
