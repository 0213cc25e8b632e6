"""The demo's objects: the example manifests, and the stopwatch that is added to the measured pods."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

from contract.api import keys

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples" / "demo"
STOPWATCH_NAME = "stopwatch"
WORKER_PORT = 8000
WORKER_IMAGE = "dynamo-snapshot/demo-worker-placeholder:dev"
"""As the images room names it; on a user's own cluster the registry's name takes its place."""


def load(path: Path) -> dict[str, Any]:
    """Read a manifest that holds one object."""
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def example(name: str, image: str) -> dict[str, Any]:
    """Read one of the demo's manifests, its worker's image replaced by *image*."""
    document = load(EXAMPLES / name)
    if document["kind"] == "Deployment":
        template = document["spec"]["template"]
    else:
        template = document["spec"]["job"]["podTemplateSpec"]
    template["spec"]["containers"][0]["image"] = image
    return document


def opted_in_pod() -> dict[str, Any]:
    """Return the least pod that admission has something to say about; it is never really made."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "is-the-webhook-there-",
            "labels": {keys.LABEL_RESTORE: keys.RESTORE_BY_NAME},
            "annotations": {keys.ANN_CHECKPOINT_NAME: "none"},
        },
        "spec": {"containers": [{"name": "main", "image": "none"}]},
    }


def stopwatch_configmap() -> dict[str, Any]:
    """Return the ConfigMap that carries the stopwatch's source."""
    source = (Path(__file__).parent / "stopwatch.py").read_text(encoding="utf-8")
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": STOPWATCH_NAME},
        "data": {"stopwatch.py": source},
    }


def with_stopwatch(deployment: dict[str, Any]) -> dict[str, Any]:
    """Return the Deployment with the stopwatch as a native sidecar, started before the worker's container."""
    measured = deepcopy(deployment)
    spec = measured["spec"]["template"]["spec"]
    worker = spec["containers"][0]
    sidecar = {
        "name": STOPWATCH_NAME,
        "image": worker["image"],
        "imagePullPolicy": worker["imagePullPolicy"],
        "restartPolicy": "Always",
        "command": ["python3", f"/{STOPWATCH_NAME}/stopwatch.py", str(WORKER_PORT)],
        "volumeMounts": [{"name": STOPWATCH_NAME, "mountPath": f"/{STOPWATCH_NAME}", "readOnly": True}],
    }
    spec.setdefault("initContainers", []).append(sidecar)
    spec.setdefault("volumes", []).append({"name": STOPWATCH_NAME, "configMap": {"name": STOPWATCH_NAME}})
    return measured
