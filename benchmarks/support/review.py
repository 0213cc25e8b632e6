"""The review that every arm answers: a pod as a ReplicaSet of an inference service makes it, about 6.7 kB as sent.

The API server sends compact JSON with the pod's managed fields; so does this.
"""

import json
from typing import Any

from contract.api import keys
from contract.api.states import Phase

Json = dict[str, Any]

NAMESPACE = "inference"
CHECKPOINT = "llama-8b"
CHECKPOINT_ID = "96429b2725761a09"
IMAGE = "registry.example.com/serving/worker-placeholder:1.4.2"
UID = "00000000-0000-4000-8000-000000000000"
"""Replaced in every request, so the same length as any other and nowhere else in the review."""

STORAGE = {"pvcName": "snapshot-pvc", "basePath": keys.DEFAULT_BASE_PATH}
"""The chart's default volume, mounted by the pods themselves: podMount, the mode with the longest patch."""

VALUES = "storage: {accessMode: podMount}"
"""The chart's values for our arm; what they leave out has the chart's default."""

COMMAND = ["python3", "-m", "serving.worker", "--model", "meta-llama/Llama-3.1-8B", "--port", "8000"]


def checkpoint() -> Json:
    """Return the Ready checkpoint that the pod names."""
    container = {"name": "main", "image": IMAGE, "command": COMMAND}
    return {
        "apiVersion": keys.API_VERSION,
        "kind": keys.CHECKPOINT_KIND,
        "metadata": {
            "name": CHECKPOINT,
            "namespace": NAMESPACE,
            "uid": "6a5c1c52-8f0e-4b1e-9d93-0c6c5d2a7f11",
            "generation": 1,
            "resourceVersion": "4711",
            "labels": {keys.LABEL_CHECKPOINT_ID: CHECKPOINT_ID},
        },
        "spec": {
            "identity": {"model": "meta-llama/Llama-3.1-8B", "backendFramework": "vllm"},
            "job": {"podTemplateSpec": {"spec": {"containers": [container]}}},
        },
        "status": {
            "phase": Phase.READY.value,
            "checkpointID": CHECKPOINT_ID,
            "identityHash": CHECKPOINT_ID,
            "createdAt": "2026-11-21T02:00:00Z",
            "manifestDigest": "blake3:" + "5e" * 32,
            "observedGeneration": 1,
        },
    }


def review() -> bytes:
    """Return the AdmissionReview as the API server would send it."""
    pod_kind = {"group": "", "version": "v1", "kind": "Pod"}
    pods = {"group": "", "version": "v1", "resource": "pods"}
    request = {
        "uid": UID,
        "kind": pod_kind,
        "resource": pods,
        "requestKind": pod_kind,
        "requestResource": pods,
        "namespace": NAMESPACE,
        "operation": "CREATE",
        "userInfo": {
            "username": "system:serviceaccount:kube-system:replicaset-controller",
            "uid": "1f0a3b6e-56d7-4b3b-8b1a-6f7f1f2b9a10",
            "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
            "extra": {"authentication.kubernetes.io/credential-id": ["JTI=8d9e3f6a-9a50-4f0e-a3e1-8f5f5a3b0a77"]},
        },
        "object": pod(),
        "oldObject": None,
        "dryRun": False,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    }
    whole = {"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request}
    return json.dumps(whole, separators=(",", ":")).encode()


def pod() -> Json:
    """Return the pod before admission, defaults filled in."""
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": _metadata(),
        "spec": {
            "volumes": [{"name": "model-cache", "emptyDir": {"sizeLimit": "20Gi"}}, _token_volume()],
            "containers": [_main(), _proxy()],
            "restartPolicy": "Always",
            "terminationGracePeriodSeconds": 60,
            "dnsPolicy": "ClusterFirst",
            "serviceAccountName": "worker",
            "serviceAccount": "worker",
            "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000},
            "schedulerName": "default-scheduler",
            "tolerations": [
                {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
                {
                    "key": "node.kubernetes.io/not-ready",
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": 300,
                },
                {
                    "key": "node.kubernetes.io/unreachable",
                    "operator": "Exists",
                    "effect": "NoExecute",
                    "tolerationSeconds": 300,
                },
            ],
            "priority": 0,
            "enableServiceLinks": True,
            "preemptionPolicy": "PreemptLowerPriority",
        },
        "status": {},
    }


def pod_to_create() -> Json:
    """Return the review's pod as a client sends it: without what the server adds."""
    made = pod()
    labels, annotations = made["metadata"]["labels"], made["metadata"]["annotations"]
    made["metadata"] = {"generateName": "worker-", "labels": labels, "annotations": annotations}
    return made


def _metadata() -> Json:
    return {
        "name": "llama-8b-6d5f7c9b8d-x7x2k",
        "generateName": "llama-8b-6d5f7c9b8d-",
        "namespace": NAMESPACE,
        "uid": "c0ffee00-3f51-4a5e-9d0c-21b8cf7a9b01",
        "creationTimestamp": "2026-11-21T03:00:00Z",
        "labels": {
            "app.kubernetes.io/name": "llama-8b",
            "app.kubernetes.io/part-of": "inference",
            "pod-template-hash": "6d5f7c9b8d",
            keys.LABEL_RESTORE: keys.RESTORE_BY_NAME,
        },
        "annotations": {
            keys.ANN_CHECKPOINT_NAME: CHECKPOINT,
            "prometheus.io/scrape": "true",
            "prometheus.io/port": "9090",
        },
        "ownerReferences": [
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "name": "llama-8b-6d5f7c9b8d",
                "uid": "5b7a2c7e-9a1d-4d8e-bb0f-62a1f0a1f2c3",
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
        "managedFields": [_managed()],
    }


def _managed() -> Json:
    names = ["main", "metrics-proxy"]
    fields: Json = {
        f'k:{{"name":"{name}"}}': {
            ".": {},
            **{f"f:{field}": {} for field in ("command", "image", "imagePullPolicy", "name", "terminationMessagePath")},
            "f:env": {
                ".": {},
                **{
                    f'k:{{"name":"{env["name"]}"}}': {".": {}, "f:name": {}, "f:value": {}}
                    for env in _environment()[:6]
                },
            },
            "f:resources": {".": {}, "f:limits": {".": {}, "f:memory": {}}, "f:requests": {".": {}, "f:cpu": {}}},
        }
        for name in names
    }
    spec = {
        "f:containers": fields,
        "f:dnsPolicy": {},
        "f:restartPolicy": {},
        "f:schedulerName": {},
        "f:tolerations": {},
    }
    return {
        "manager": "kube-controller-manager",
        "operation": "Update",
        "apiVersion": "v1",
        "time": "2026-11-21T03:00:00Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": {
            "f:metadata": {"f:generateName": {}, "f:labels": {".": {}, "f:pod-template-hash": {}}},
            "f:spec": spec,
        },
    }


def _environment() -> list[Json]:
    plain = {
        "MODEL": "meta-llama/Llama-3.1-8B",
        "MAX_MODEL_LEN": "8192",
        "GPU_MEMORY_UTILIZATION": "0.92",
        "HF_HOME": "/models/huggingface",
        "LOG_LEVEL": "info",
        "NCCL_DEBUG": "WARN",
        "OMP_NUM_THREADS": "8",
        "OTEL_SERVICE_NAME": "llama-8b",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.observability.svc:4317",
        "PYTHONUNBUFFERED": "1",
    }
    fields = {"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace", "POD_IP": "status.podIP"}
    named = [{"name": name, "value": value} for name, value in plain.items()]
    read = [
        {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
        for name, path in fields.items()
    ]
    return named + read


def _probe(path: str, threshold: int) -> Json:
    get = {"path": path, "port": 8000, "scheme": "HTTP"}
    return {
        "httpGet": get,
        "timeoutSeconds": 2,
        "periodSeconds": 5,
        "successThreshold": 1,
        "failureThreshold": threshold,
    }


def _main() -> Json:
    return {
        "name": "main",
        "image": IMAGE,
        "command": COMMAND,
        "ports": [{"name": "http", "containerPort": 8000, "protocol": "TCP"}],
        "env": _environment(),
        "resources": {
            "limits": {"memory": "64Gi", "nvidia.com/gpu": "1"},
            "requests": {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": "1"},
        },
        "volumeMounts": [{"name": "model-cache", "mountPath": "/models"}, _token_mount()],
        "livenessProbe": _probe("/live", 6),
        "readinessProbe": _probe("/ready", 3),
        "startupProbe": _probe("/ready", 120),
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
    }


def _proxy() -> Json:
    return {
        "name": "metrics-proxy",
        "image": "registry.example.com/platform/metrics-proxy:2.11.0",
        "args": ["--upstream=http://127.0.0.1:8000/metrics", "--listen=:9090"],
        "ports": [{"name": "metrics", "containerPort": 9090, "protocol": "TCP"}],
        "resources": {"limits": {"memory": "128Mi"}, "requests": {"cpu": "50m", "memory": "64Mi"}},
        "volumeMounts": [_token_mount()],
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
        "securityContext": {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False},
    }


def _token_mount() -> Json:
    path = "/var/run/secrets/kubernetes.io/serviceaccount"
    return {"name": "kube-api-access-7xk2p", "readOnly": True, "mountPath": path}


def _token_volume() -> Json:
    sources = [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {
            "downwardAPI": {
                "items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]
            }
        },
    ]
    return {"name": "kube-api-access-7xk2p", "projected": {"sources": sources, "defaultMode": 420}}
