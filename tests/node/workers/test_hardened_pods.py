"""Workers under every usual security context are captured and restored, with their memory and their rights."""

import pytest

from demo.kubectl import Kubectl
from tests.support.fixtures import node

RESTORED = "SNAPSHOT_RESTORED: container restored from checkpoint"
RESTRICTED = {"runAsNonRoot": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
READ_RIGHTS = (
    "import re;"
    "text=open('/proc/{pid}/status').read();"
    "print(re.findall(r'(?m)^(?:Uid|Gid|Cap...|NoNewPrivs|Seccomp):.*', text))"
)


CONTEXTS: dict[str, dict[str, object]] = {
    "restricted": RESTRICTED,
    "read-only-root": RESTRICTED | {"readOnlyRootFilesystem": True},
    "root": {"runAsUser": 0},
    "more-capabilities": {"runAsUser": 0, "capabilities": {"add": ["NET_ADMIN"]}},
}


@pytest.fixture(scope="module")
def captured(installed: Kubectl) -> Kubectl:
    """A checkpoint for each, captured at the same time."""
    for kind, context in CONTEXTS.items():
        node.create(installed, node.checkpoint(f"hardened-{kind}", securityContext=context))
    return installed


@pytest.mark.parametrize("kind", CONTEXTS)
def test_restored_with_the_rights_of_its_pod(captured: Kubectl, kind: str):
    """The restored worker has exactly the rights that standby, which the runtime started, has."""
    name, context = f"hardened-{kind}", CONTEXTS[kind]
    status = node.phase(captured, name, "Ready", "Failed")["status"]
    assert status["phase"] == "Ready", status["message"]
    node.create(captured, node.pod(name, name, securityContext=context, readinessProbe=node.probe()))
    worker = node.await_answer(captured, name)
    line = node.first_line(captured, name)
    rights = [captured("exec", name, "-c", "main", "--", "python3", "-c", READ_RIGHTS.format(pid=pid))
              for pid in (1, worker["pid"])]  # fmt: skip
    node.remove(captured, f"pod/{name}", f"dynamocheckpoint/{name}", wait=False)

    assert line.startswith(RESTORED)
    assert rights[0] == rights[1]
