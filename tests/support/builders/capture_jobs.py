"""The capture Job of a checkpoint, as the contract builds it."""

from contract.config.storage import storage_from_values
from contract.config.values import load_values
from contract.pods.capture_job import build_capture_job

PROBE = {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 5}


def shape(obj, values=""):
    loaded = load_values(values)
    return build_capture_job(obj, values=loaded, storage=storage_from_values(loaded))


def pod_of(job):
    return job["spec"]["template"]["spec"]


def target_of(job):
    (target,) = pod_of(job)["containers"]
    return target


def named(items, name):
    return next((item for item in items if item["name"] == name), None)
