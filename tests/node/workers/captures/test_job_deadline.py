"""A Job of twelve seconds that is to wait for its checkpoint: it does its five seconds of work in time."""

import json

from contract.api import keys
from demo.kubectl import Kubectl, wait_for
from tests.node.workers.captures.test_automatic import note, pods
from tests.support.fixtures import node

APP = "hurried"
WORK = "import pathlib, time; pathlib.Path('/tmp/ready').touch(); time.sleep(5); print('done', flush=True)"


def job() -> dict:
    ready = {"exec": {"command": ["cat", "/tmp/ready"]}, "periodSeconds": 1}
    spec = {
        "terminationGracePeriodSeconds": 1,
        "restartPolicy": "Never",
        "containers": [node.container(command=["python3", "-c", WORK], readinessProbe=ready)],
    }
    metadata = {
        "labels": {"app": APP, keys.LABEL_RESTORE: keys.RESTORE_AUTO},
        "annotations": {keys.ANN_STARTUP_POLICY: "WaitForCheckpoint"},
    }
    body = {"backoffLimit": 0, "activeDeadlineSeconds": 12, "template": {"metadata": metadata, "spec": spec}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": APP}, "spec": body}


def test_it_is_complete_before_its_deadline(installed: Kubectl):
    installed("apply", "-f", "-", stdin=json.dumps(job()))

    def ended() -> list | None:
        conditions = installed.get("job", APP).get("status", {}).get("conditions") or []
        found = [each for each in conditions if each["type"] in ("Complete", "Failed") and each["status"] == "True"]
        return found or None

    (condition,) = wait_for(ended, "the end of the Job", node.READY_SECONDS)
    assert "Complete" == condition["type"], condition
    (pod,) = pods(installed, APP)
    assert "job-deadline" == note(pod, keys.ANN_GATE)
    assert "done" in installed("logs", pod["metadata"]["name"], "-c", "main")
    installed("delete", "job", APP)
