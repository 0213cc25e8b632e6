"""On which systems a pod may run at all: operating system, architecture, and whether its processes are the node's.

A pod says so in several ways, and the scheduler goes by all of them: ``spec.os``, the node selector, each alternative
of the required node affinity, fields that only Windows has, the runtime class.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Problem = tuple[str, str]
"""A field below ``spec``, and what is wrong with it."""

LINUX: Final = "linux"
OS_LABELS: Final = ("kubernetes.io/os", "beta.kubernetes.io/os")
ARCHITECTURE_LABELS: Final = ("kubernetes.io/arch", "beta.kubernetes.io/arch")
_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_AFFINITY: Final = f"affinity.nodeAffinity.{_REQUIRED}"
_ONLY_LINUX: Final = "the pod is not for Linux, and checkpoints are taken with CRIU, which is"
_SANDBOX: Final = re.compile(r"(?:^|[-.])(kata|gvisor|runsc|firecracker|wasm[a-z]*)(?:$|[-.])")
"""Runtime classes are named by the cluster; these are the names under which such runtimes document themselves."""


def architecture_of(machine: str) -> str:
    """Return the name that Kubernetes and images have for what ``uname -m`` says."""
    return _MACHINES.get(machine, machine)


def other_system(spec: Mapping[str, Any]) -> Problem | None:
    """Say by which field a pod of this spec is for another operating system than Linux; None if by none."""
    said = (spec.get("os") or {}).get("name")
    if said and said != LINUX:
        return "os.name", f"is {said}: {_ONLY_LINUX}"
    if field := excludes(spec, OS_LABELS, LINUX):
        return field, f"asks for nodes that do not run Linux: {_ONLY_LINUX}"
    if (spec.get("securityContext") or {}).get("windowsOptions"):
        return "securityContext.windowsOptions", f"is set: {_ONLY_LINUX}"
    for container in spec.get("containers") or ():
        if (container.get("securityContext") or {}).get("windowsOptions"):
            return f"containers[{container.get('name')}].securityContext.windowsOptions", f"is set: {_ONLY_LINUX}"
    return None


def sandboxed(spec: Mapping[str, Any]) -> Problem | None:
    """Say that the pod's processes are not the node's, by the name of its runtime class; None if nothing says so."""
    name = str(spec.get("runtimeClassName") or "")
    found = _SANDBOX.search(name)
    if found is None:
        return None
    why = f"is {name}: under {found[1]} the worker is no process of the node's kernel, which CRIU could read"
    return "runtimeClassName", f"{why}; use a runtime class of runc or crun"


def excludes(spec: Mapping[str, Any], labels: tuple[str, ...], value: str) -> str | None:
    """Return the field by which no node with *value* under one of *labels* can take the pod; None if some may.

    Args:
        spec: a pod's spec.
        labels: keys that have the same value on every node.
        value: what they have on the nodes in question.
    """
    for key in labels:
        if key in (wanted := spec.get("nodeSelector") or {}) and wanted[key] != value:
            return f"nodeSelector[{key}]"
    terms = _terms(spec)
    if terms and all(_excluded(term, labels, value) for term in terms):
        return _AFFINITY
    return None


def only_architecture(spec: Mapping[str, Any]) -> str:
    """Return the one architecture whose nodes can take the pod, as far as it says so; empty if several may."""
    candidates: set[str] = {
        str(value) for key, value in (spec.get("nodeSelector") or {}).items() if key in ARCHITECTURE_LABELS
    }
    for term in _terms(spec):
        for each in term.get("matchExpressions") or ():
            if each.get("key") in ARCHITECTURE_LABELS and each.get("operator") == "In":
                candidates.update(map(str, each.get("values") or ()))
    fitting = [each for each in candidates if excludes(spec, ARCHITECTURE_LABELS, each) is None]
    elsewhere = excludes(spec, ARCHITECTURE_LABELS, "")
    return fitting[0] if len(fitting) == 1 and elsewhere else ""


def _terms(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    node = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    return list((node.get(_REQUIRED) or {}).get("nodeSelectorTerms") or ())


def _excluded(term: Mapping[str, Any], labels: tuple[str, ...], value: str) -> bool:
    """Say whether an alternative of the affinity rules out nodes with the value."""
    expressions = (each for each in term.get("matchExpressions") or () if each.get("key") in labels)
    return any(_rules_out(each.get("operator"), each.get("values") or (), value) for each in expressions)


def _rules_out(operator: object, values: Sequence[str], value: str) -> bool:
    match operator:
        case "In":
            return value not in values
        case "NotIn":
            return value in values
        case "DoesNotExist":
            return True
        case _:
            return False
