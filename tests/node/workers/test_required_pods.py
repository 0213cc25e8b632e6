"""Pods that must not start cold, end to end: refused, restored, or ended with the reason, and never cold."""

from typing import Any

import pytest

from contract.api import control_files, keys
from demo import story
from demo.kubectl import CommandError, Kubectl, wait_for
from tests.support.fixtures import node

NAME = "required"
REQUIRE = {keys.ANN_POLICY: keys.POLICY_REQUIRE}


@pytest.fixture(scope="module")
def ready(installed: Kubectl) -> str:
    """The id of a Ready checkpoint."""
    node.create(installed, node.checkpoint(NAME))
    return str(node.phase(installed, NAME, "Ready", "Failed")["status"]["checkpointID"])


def ended(kubectl: Kubectl, name: str) -> dict[str, Any]:
    """How the pod's container ended."""

    def look() -> dict[str, Any] | None:
        statuses = kubectl.get("pod", name)["status"].get("containerStatuses", ())
        return next((each["state"]["terminated"] for each in statuses if "terminated" in each["state"]), None)

    return wait_for(look, f"the end of {name}", node.READY_SECONDS)


def test_it_is_refused_where_it_would_start_cold(installed: Kubectl):
    with pytest.raises(CommandError) as refused:
        node.create(installed, node.pod("required-0", "nothing", annotations=REQUIRE))

    assert "would start cold (nvidia.com/snapshot-admission: checkpoint-not-found)" in str(refused.value)


def test_it_is_restored(ready: str, installed: Kubectl):
    node.create(installed, node.pod("required-1", NAME, annotations=REQUIRE))
    node.await_answer(installed, "required-1")

    assert node.first_line(installed, "required-1").startswith("SNAPSHOT_RESTORED:")


def test_it_ends_with_the_reason_where_the_restore_fails(ready: str, installed: Kubectl):
    story.delete_artifact(installed, installed.namespace, ready, keys.DEFAULT_BASE_PATH)
    pod = node.pod("required-2", NAME, annotations=REQUIRE)
    # Once kubelet has restarted a container, its log is the new one's, which may be empty still.
    pod["spec"]["restartPolicy"] = "Never"
    node.create(installed, pod)
    found = ended(installed, "required-2")

    assert control_files.EXIT_REQUIRED == found["exitCode"]
    log = installed("logs", "required-2", "-c", "main")
    assert "No such file or directory" in log
    assert "ready, token" not in log
