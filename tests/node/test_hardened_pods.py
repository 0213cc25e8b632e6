"""Workers under every usual security context are captured and restored, with their memory and their rights."""

import pytest

from demo.kubectl import Kubectl
from tests.node import scene

RESTORED = "SNAPSHOT_RESTORED: container restored from checkpoint"
RESTRICTED = {"runAsNonRoot": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
READ_RIGHTS = (
    "import re;"
    "text=open('/proc/{pid}/status').read();"
    "print(re.findall(r'(?m)^(?:Uid|Gid|Cap...|NoNewPrivs|Seccomp):.*', text))"
)


@pytest.mark.parametrize(
    "context",
    [
        pytest.param(RESTRICTED, id="restricted"),
        pytest.param(RESTRICTED | {"readOnlyRootFilesystem": True}, id="read-only-root"),
        pytest.param({"runAsUser": 0}, id="root"),
        pytest.param({"runAsUser": 0, "capabilities": {"add": ["NET_ADMIN"]}}, id="more-capabilities"),
    ],
)
def test_restored_with_the_rights_of_its_pod(
    installed: Kubectl, request: pytest.FixtureRequest, context: dict[str, object]
):
    """The restored worker has exactly the rights that standby, which the runtime started, has."""
    name = f"hardened-{request.node.callspec.id}"
    scene.create(installed, scene.checkpoint(name, securityContext=context))
    status = scene.phase(installed, name, "Ready", "Failed")["status"]
    assert status["phase"] == "Ready", status["message"]
    scene.create(installed, scene.pod(name, name, securityContext=context, readinessProbe=scene.probe()))
    worker = scene.await_answer(installed, name)
    line = scene.first_line(installed, name)
    rights = [installed("exec", name, "-c", "main", "--", "python3", "-c", READ_RIGHTS.format(pid=pid))
              for pid in (1, worker["pid"])]  # fmt: skip
    scene.remove(installed, f"pod/{name}", f"dynamocheckpoint/{name}")

    assert line.startswith(RESTORED)
    assert rights[0] == rights[1]
