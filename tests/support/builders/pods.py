"""Pods that ask for an automatic checkpoint, and random pods of every kind that a cluster may hold."""

from __future__ import annotations

from random import Random
from typing import Any

from contract.api import keys
from contract.api.checkpoint import find_container
from contract.pods.template_hash import automatic_id, automatic_name, template_hash
from tests.support.builders.objects import IMAGE, checkpoint, container, copied, graph_pod, opted_in, pod

Json = dict[str, Any]

PROBE = {"httpGet": {"path": "/ready", "port": 8000}, "periodSeconds": 5}


def worker(name: str = "main", **fields: Any) -> Json:
    """Build a container that reports when it is ready."""
    return container(name, **{"readinessProbe": dict(PROBE), **fields})


def auto_pod(*containers: Json, **parts: Any) -> Json:
    """Build a pod whose checkpoint is made from its own template."""
    labels = {"app": "web", keys.LABEL_RESTORE: keys.RESTORE_AUTO} | parts.pop("labels", {})
    return pod(*(containers or (worker(),)), labels=labels, **parts)


def stamp_of(obj: Json, target: str = "main") -> str:
    return template_hash(obj, target)


def name_of(obj: Json, target: str = "main") -> str:
    """Return the name of the checkpoint that belongs to an automatic pod."""
    return automatic_name(automatic_id(obj["metadata"]["namespace"], stamp_of(obj, target)))


def checkpoint_of(obj: Json, *, phase: str = "Ready", target: str = "main", **status: Any) -> Json:
    """Return the checkpoint that the controller makes for an automatic pod, of its stock image."""
    stamp = stamp_of(obj, target)
    found = automatic_id(obj["metadata"]["namespace"], stamp)
    spec = {key: copied(value) for key, value in obj["spec"].items() if key != "nodeName"}
    image = (find_container(spec, target) or {}).get("image", IMAGE)
    usual: Json = {"phase": phase, "checkpointID": found, "jobName": f"checkpoint-job-{found}-1"}
    if phase == "Ready":
        usual["image"] = {"reference": image, "entrypoint": ["/entry"], "cmd": ["serve"], "injected": True}
    return checkpoint(
        automatic_name(found),
        pod_template={"spec": spec},
        job={"targetContainerName": target, "readySignal": "Probe"},
        labels={keys.LABEL_CHECKPOINT_ID: found},
        annotations={
            keys.ANN_AUTO_CHECKPOINT: "true",
            keys.ANN_ARTIFACT_VERSION: "1",
            keys.ANN_TEMPLATE_HASH: stamp,
        },
        status=usual | status,
    )


def random_pod(chance: Random, *, wanted: str | None = None) -> Json:
    """Return a pod that asks for something and that an API server accepts.

    Args:
        chance: decides everything; the same state gives the same pod.
        wanted: ``name``, ``auto``, ``graph`` or ``waits``; else one of these.
    """
    volumes = _volumes(chance)
    targets = [_container(chance, "main", volumes)]
    beside = [_container(chance, name, volumes) for name in ("proxy", "logs", "metrics") if chance.random() < 0.3]
    containers = [*targets, *beside]
    chance.shuffle(containers)
    spec: Json = {"restartPolicy": chance.choice(["Always", "OnFailure", "Never"])}
    if volumes:
        spec["volumes"] = volumes
    if inits := _inits(chance, volumes):
        spec["initContainers"] = inits
    for field, choices in _POD_FIELDS.items():
        if chance.random() < 0.3:
            spec[field] = copied(chance.choice(choices))
    build = _WISHES[wanted or chance.choice(list(_WISHES))]
    obj = build(*containers, annotations=_annotations(chance), **spec)
    obj["metadata"]["generateName"] = "random-"
    return obj


def _annotations(chance: Random) -> Json:
    pool = {
        "team": "a",
        "checksum/config": "9f86d0",
        keys.ANN_STARTUP_POLICY: chance.choice(["Immediate", "WaitForCheckpoint"]),
        keys.ANN_POLICY: keys.POLICY_REQUIRE,
        keys.ANN_IMAGE_POLICY: keys.IMAGE_POLICY_CHECKPOINT,
        keys.ANN_RESTORE_STATUS_PREFIX + "main": "failed",
        keys.ANN_GATE: "wait-timeout",
        keys.ANN_ADMISSION: "webhook-unreachable",
        keys.ANN_IDENTITY: keys.IDENTITY_REFRESHED,
    }
    return {key: value for key, value in pool.items() if chance.random() < 0.3} | {keys.ANN_TARGET_CONTAINERS: "main"}


def _volumes(chance: Random) -> list[Json]:
    pool: list[Json] = [
        {"name": "cache", "emptyDir": {"sizeLimit": "1024Mi"}},
        {"name": "models", "persistentVolumeClaim": {"claimName": "models"}},
        {"name": "settings", "configMap": {"name": "settings", "items": [{"key": "a", "path": "a"}]}},
        {"name": "secret", "secret": {"secretName": "hub"}},
        {"name": "dshm", "emptyDir": {"medium": "Memory"}},
        {"name": "info", "downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        {"name": "host", "hostPath": {"path": "/srv"}},
    ]
    return [volume for volume in pool if chance.random() < 0.3]


def _container(chance: Random, name: str, volumes: list[Json]) -> Json:
    result: Json = {"name": name, "image": IMAGE}
    for field, choices in _CONTAINER_FIELDS.items():
        if chance.random() < 0.4:
            result[field] = copied(chance.choice(choices))
    mounts = [
        {"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in volumes if chance.random() < 0.5
    ]
    for mount in mounts:
        if mount["name"] == "dshm":
            mount["mountPath"] = "/dev/shm"
    if mounts:
        result["volumeMounts"] = mounts
    return result


def _inits(chance: Random, volumes: list[Json]) -> list[Json]:
    inits = [_container(chance, name, volumes) for name in ("fetch", "migrate", "mesh") if chance.random() < 0.2]
    for init in inits:
        if chance.random() < 0.5:
            init["restartPolicy"] = "Always"
        else:
            for field in ("startupProbe", "readinessProbe", "livenessProbe", "lifecycle"):
                init.pop(field, None)
    return inits


def _waiting(*containers: Json, annotations: Json, **spec: Any) -> Json:
    return opted_in(*containers, annotations=annotations | {keys.ANN_STANDBY: keys.STANDBY_WAITS}, **spec)


_WISHES = {"name": opted_in, "auto": auto_pod, "graph": graph_pod, "waits": _waiting}
_EXEC = {"exec": {"command": ["/bin/true"]}}
_HTTP = {"httpGet": {"path": "/health", "port": 8000}, "initialDelaySeconds": 60, "failureThreshold": 500}
_NODES = {"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}
_CONTAINER_FIELDS: dict[str, list[Any]] = {
    "command": [["python3", "-m", "worker"], ["/bin/sh", "-c", "exec worker --name $(A)"]],
    "args": [["--port", "8000"], [""]],
    "workingDir": ["/work"],
    "env": [
        [{"name": "A", "value": "1"}],
        [{"name": "EMPTY"}, {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}}],
        [{"name": keys.ENV_CONTROL_DIR, "value": "/run/control"}],
        [
            {"name": keys.ENV_STANDBY_ID, "value": "stale"},
            {"name": "NS", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        ],
    ],
    "envFrom": [[{"configMapRef": {"name": "settings"}}, {"prefix": "P_", "secretRef": {"name": "hub"}}]],
    "resources": [
        {"limits": {"nvidia.com/gpu": 1, "cpu": "1500m", "memory": "1Gi"}},
        {"requests": {"cpu": "0.5"}, "limits": {"cpu": 1}},
    ],
    "startupProbe": [_HTTP, _EXEC],
    "readinessProbe": [_HTTP, PROBE, _EXEC],
    "livenessProbe": [_HTTP, _EXEC],
    "securityContext": [
        {"runAsUser": 1000, "allowPrivilegeEscalation": False},
        {"capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True},
    ],
    "ports": [[{"containerPort": 8000, "name": "http"}]],
    "lifecycle": [{"preStop": _EXEC}],
    "terminationMessagePolicy": ["FallbackToLogsOnError"],
}
_POD_FIELDS: dict[str, list[Any]] = {
    "schedulingGates": [[{"name": "example.com/quota"}]],
    "imagePullSecrets": [[{"name": "pull"}], [{"name": "pull"}, {"name": "other"}]],
    "securityContext": [{"runAsNonRoot": True, "runAsUser": 1000}, {"seccompProfile": {"type": "RuntimeDefault"}}],
    "affinity": [
        {"podAntiAffinity": {}},
        {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [_NODES, _NODES]}}},
        {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": _NODES}]}},
    ],
    "tolerations": [[{"key": "nvidia.com/gpu", "operator": "Exists"}]],
    "nodeSelector": [{"pool": "gpu"}],
    "hostname": ["worker"],
    "dnsPolicy": ["ClusterFirst", "Default"],
    "terminationGracePeriodSeconds": [0, 120],
    "topologySpreadConstraints": [
        [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {}}]
    ],
    "readinessGates": [[{"conditionType": "example.com/ready"}]],
    "shareProcessNamespace": [False, True],
    "hostNetwork": [False],
    "enableServiceLinks": [False],
}
