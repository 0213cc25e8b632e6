"""A Deployment that allows one replica on a node and a disruption budget: captured while it serves, then restored."""

import json
import platform

from contract.api import keys
from contract.pods.systems import architecture_of
from demo.kubectl import Kubectl
from tests.node.workers.captures.test_automatic import pods, ready, shaped
from tests.support.fixtures import node

APP = "placed"
PORT = {"containerPort": 8000, "hostPort": 18000}


def deployment() -> dict:
    labels = {"app": APP}
    apart = {"labelSelector": {"matchLabels": labels}, "topologyKey": "kubernetes.io/hostname"}
    spread = {**apart, "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}
    spec = {
        "terminationGracePeriodSeconds": 1,
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [apart]}},
        "topologySpreadConstraints": [spread],
        # A worker of its own kind: with one that other tests have as well it would share their checkpoint.
        "containers": [node.container(ports=[PORT], readinessProbe=node.probe(), env=[{"name": "KIND", "value": APP}])],
    }
    template = {"metadata": {"labels": labels | {keys.LABEL_RESTORE: keys.RESTORE_AUTO}}, "spec": spec}
    strategy = {"type": "Recreate"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": APP},
        "spec": {"selector": {"matchLabels": labels}, "template": template, "strategy": strategy},
    }


def budget() -> dict:
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": {"app": APP}}}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": APP}, "spec": spec}


def test_the_capture_takes_no_place_of_the_replica_and_is_not_counted(installed: Kubectl):
    for each in (budget(), deployment()):
        installed("apply", "-f", "-", stdin=json.dumps(each))
    try:
        ((name, found),) = ready(installed, f"Deployment/{APP}").items()
        (serving,) = pods(installed, APP)
        status = installed.get("poddisruptionbudget", APP)["status"]

        assert (1, 1, 1) == tuple(status[key] for key in ("expectedPods", "currentHealthy", "disruptionsAllowed"))
        assert architecture_of(platform.machine()) == found["status"]["image"]["architecture"]
        assert "checkpoint-requested" == serving["metadata"]["annotations"][keys.ANN_ADMISSION]
        installed("delete", "pod", serving["metadata"]["name"], "--wait=true")
        (restored,) = shaped(installed, APP, name, 1)
        assert PORT.items() <= restored["spec"]["containers"][0]["ports"][0].items()
    finally:
        installed("delete", "deployment,poddisruptionbudget", APP, "--wait=true")
