"""Graphs as users write them, and what the plan makes of them."""

import copy
from datetime import UTC, datetime

from contract.api import keys
from contract.api.states import StartupPolicy
from contract.config.values import values_from
from controller.graphs.actions import ApplyDeployment, CreateCheckpoint
from controller.graphs.observed import Observed
from controller.graphs.plan import plan
from controller.graphs.services import services_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
VALUES = values_from({})
WORKER = "Worker"
DEPLOYMENT = "demo-worker"


def service(**fields):
    main = {"image": "i:1", "args": ["run"]}
    return {"componentType": "worker", "replicas": 2, "extraPodSpec": {"mainContainer": main}, **fields}


def auto(**fields):
    return {"enabled": True, **fields}


def graph(status=None, **services):
    metadata = {"name": "demo", "namespace": "ns", "uid": "uid-1", "generation": 3, "resourceVersion": "7"}
    return {
        "apiVersion": keys.API_VERSION,
        "kind": keys.GRAPH_KIND,
        "metadata": metadata,
        "spec": {"services": services},
        "status": status or {},
    }


def observed(obj, checkpoints=(), deployments=(), taken=None, refusals=None):
    by_name = {each["metadata"]["name"]: each for each in checkpoints}
    references = {s.policy.reference for s in services_of(obj, StartupPolicy.IMMEDIATE) if s.policy}
    referred = {each: each for each in references if each in by_name}
    labelled = tuple(c for c in checkpoints if keys.LABEL_GRAPH in c["metadata"].get("labels", {}))
    return Observed(
        graph=obj,
        deployments={each["metadata"]["name"]: each for each in deployments},
        taken=taken or {},
        checkpoint=by_name.get,
        referred=referred,
        labelled=labelled,
        refusals=refusals or {},
    )


def run(obj, values=VALUES, **there):
    return plan(observed(obj, **there), NOW, values)


def of(step, kind):
    return [action for action in step.actions if isinstance(action, kind)]


def applied(step, name=DEPLOYMENT):
    (found,) = [action.body for action in of(step, ApplyDeployment) if action.body["metadata"]["name"] == name]
    return found


def created(obj):
    """Return the checkpoint that a first pass makes."""
    (action,) = of(run(obj), CreateCheckpoint)
    body = copy.deepcopy(action.body)
    body["metadata"] |= {"uid": "c-1", "resourceVersion": "1"}
    return body


def in_phase(checkpoint, phase, message=""):
    return {**checkpoint, "status": {"phase": phase, "message": message}}


def live(body, replicas=2):
    """Return a Deployment as the server has it."""
    found = copy.deepcopy(body)
    found["metadata"] |= {"uid": "d-1", "generation": 1}
    found["spec"]["replicas"] = replicas
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), replicas)
    found["status"] = {"observedGeneration": 1, **counts}
    return found


def condition(step, kind):
    (found,) = [entry for entry in step.status["conditions"] if entry["type"] == kind]
    return found["status"], found["reason"]


AUTO = graph(Worker=service(checkpoint=auto()))
WAIT = graph(Worker=service(checkpoint=auto(startupPolicy="WaitForCheckpoint")))
