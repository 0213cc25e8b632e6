"""On which systems a pod may run, in every way in which a pod says so."""

import pytest

from contract.pods.common import unsupported
from contract.pods.systems import ARCHITECTURE_LABELS, excludes, only_architecture, other_system

OS = "kubernetes.io/os"
ARCH = "kubernetes.io/arch"
REQUIRED = "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution"


def terms(*alternatives):
    """Build a spec that requires one of these alternatives, each a list of (key, operator, *values)."""
    found = [{"matchExpressions": [_expression(*each) for each in term]} for term in alternatives]
    kind = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": found}}
    return {"affinity": {"nodeAffinity": kind}}


def _expression(key, operator, *values):
    return {"key": key, "operator": operator} | ({"values": list(values)} if values else {})


@pytest.mark.parametrize(
    ("field", "spec"),
    [
        pytest.param("os.name", {"os": {"name": "windows"}}, id="os"),
        pytest.param(f"nodeSelector[{OS}]", {"nodeSelector": {OS: "windows"}}, id="selector"),
        pytest.param(
            "nodeSelector[beta.kubernetes.io/os]", {"nodeSelector": {"beta.kubernetes.io/os": "windows"}}, id="beta"
        ),
        pytest.param(REQUIRED, terms([(OS, "In", "windows")]), id="affinity-in"),
        pytest.param(REQUIRED, terms([(OS, "NotIn", "linux")]), id="affinity-not-in"),
        pytest.param(
            REQUIRED, terms([(OS, "In", "windows")], [("beta.kubernetes.io/os", "In", "windows")]), id="every"
        ),
        pytest.param(
            "securityContext.windowsOptions",
            {"securityContext": {"windowsOptions": {"hostProcess": True}}},
            id="pod-options",
        ),
        pytest.param(
            "containers[main].securityContext.windowsOptions",
            {"containers": [{"name": "main", "securityContext": {"windowsOptions": {"runAsUserName": "x"}}}]},
            id="container-options",
        ),
        pytest.param(None, {}, id="says-nothing"),
        pytest.param(None, {"os": {"name": "linux"}, "nodeSelector": {OS: "linux"}}, id="linux"),
        pytest.param(None, terms([(OS, "In", "windows", "linux")]), id="affinity-either"),
        pytest.param(None, terms([(OS, "In", "windows")], [("gpu", "Exists")]), id="one-alternative-is-open"),
        pytest.param(None, terms([(OS, "Exists")]), id="exists"),
        pytest.param(None, {"tolerations": [{"key": "os", "value": "windows"}]}, id="tolerates-windows"),
        pytest.param(None, {"securityContext": {"windowsOptions": {}}}, id="empty-options"),
    ],
)
def test_another_system(field, spec):
    found = other_system(spec)

    assert field == (found and found[0])


@pytest.mark.parametrize(
    ("architecture", "spec"),
    [
        pytest.param("arm64", {"nodeSelector": {ARCH: "arm64"}}, id="selector"),
        pytest.param("arm64", {"nodeSelector": {"beta.kubernetes.io/arch": "arm64"}}, id="beta"),
        pytest.param("arm64", terms([(ARCH, "In", "arm64"), ("gpu", "Exists")]), id="affinity"),
        pytest.param("arm64", terms([(ARCH, "In", "arm64")], [(ARCH, "In", "arm64"), ("a", "Exists")]), id="every"),
        pytest.param("arm64", {"nodeSelector": {ARCH: "arm64"}} | terms([(ARCH, "In", "arm64", "amd64")]), id="both"),
        pytest.param("", {}, id="says-nothing"),
        pytest.param("", terms([(ARCH, "In", "arm64", "amd64")]), id="either"),
        pytest.param("", terms([(ARCH, "In", "arm64")], [("gpu", "Exists")]), id="one-alternative-is-open"),
        pytest.param("", terms([(ARCH, "NotIn", "amd64")]), id="any-but-one"),
        pytest.param("", {"nodeSelector": {ARCH: "arm64"}} | terms([(ARCH, "In", "amd64")]), id="none-is-left"),
    ],
)
def test_the_only_architecture(architecture, spec):
    assert architecture == only_architecture(spec)


def test_any_but_one_excludes_that_one():
    spec = terms([(ARCH, "NotIn", "amd64")])

    assert REQUIRED == excludes(spec, ARCHITECTURE_LABELS, "amd64")
    assert excludes(spec, ARCHITECTURE_LABELS, "arm64") is None


@pytest.mark.parametrize(
    ("field", "spec"),
    [
        *(
            pytest.param("runtimeClassName", {"runtimeClassName": name}, id=name)
            for name in (
                "kata",
                "kata-qemu",
                "kata-cc-isolation",
                "gvisor",
                "runsc",
                "x-firecracker",
                "wasmtime-spin-v2",
            )
        ),
        *(
            pytest.param(None, {"runtimeClassName": name}, id=name)
            for name in ("nvidia", "runc", "crun", "katarina", "high-performance")
        ),
        pytest.param("hostUsers", {"hostUsers": False}, id="own-users"),
        pytest.param(None, {"hostUsers": True}, id="the-nodes-users"),
    ],
)
def test_a_sandbox_or_users_of_its_own(field, spec):
    found = unsupported(spec)

    assert field == (found and found[0])
