"""A rollout of the webhook that is done is one that API servers reach: a pod made in that moment is seen."""

import json

from contract.api import keys
from demo import manifests
from demo.kubectl import Kubectl

WEBHOOK = "deployment/snapshot-webhook"
STARTS = 4


def admission_now(kubectl: Kubectl) -> str | None:
    """Return the admission code of a pod that is made at this moment."""
    probe = json.dumps(manifests.opted_in_pod())
    made = json.loads(kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=probe))
    found: str | None = made["metadata"].get("annotations", {}).get(keys.ANN_ADMISSION)
    return found


def test_a_pod_that_is_made_when_the_rollout_is_done_is_seen(installed: Kubectl):
    codes = []
    for _ in range(STARTS):
        installed("scale", WEBHOOK, "--replicas=0")
        installed("wait", "--for=delete", "pod", "-l", "app.kubernetes.io/component=webhook", "--timeout=120s")
        installed("scale", WEBHOOK, "--replicas=2")
        installed("rollout", "status", WEBHOOK, "--timeout=120s")
        codes.append(admission_now(installed))

    assert ["checkpoint-not-found"] * STARTS == codes
    logs = installed("logs", "-l", "app.kubernetes.io/component=webhook", "--tail=-1", "--prefix")
    assert "first behind Service snapshot-webhook" in logs
    assert "reached through Service snapshot-webhook" in logs
