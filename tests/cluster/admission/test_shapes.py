"""Capture Jobs as the API server sees them: whatever a template holds, the Job made from it is accepted."""

import json
from uuid import uuid4

import pytest

from contract.config.storage import storage_from_values
from contract.config.values import load_values
from contract.pods.capture_job import build_capture_job
from tests.support.builders.objects import checkpoint, container, template

POD_MOUNT = "storage: {accessMode: podMount}"
PROBE = {"httpGet": {"path": "/health", "port": 8000}, "initialDelaySeconds": 5}
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
ZONE = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
AFFINITY = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [ZONE]},
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": ZONE}],
    }
}


@pytest.fixture(scope="module")
def namespace(control_plane):
    name = f"shapes-{uuid4().hex[:8]}"
    control_plane.kubectl("create", "namespace", name)
    return name


@pytest.mark.parametrize(
    ("values", "obj"),
    [
        pytest.param("", checkpoint(), id="agent-mount"),
        pytest.param(POD_MOUNT, checkpoint(), id="pod-mount"),
        pytest.param("admission: {nodeAffinity: Preferred}", checkpoint(), id="preferred-nodes"),
        pytest.param("checkpoint: {seccomp: {disabled: true}}", checkpoint(), id="no-seccomp"),
        pytest.param(POD_MOUNT, checkpoint(pod_template=template({"name": "main", "image": "i"})), id="no-command"),
        pytest.param(
            "",
            checkpoint(
                job={"readySignal": "Probe"},
                pod_template=template(container(readinessProbe=PROBE, livenessProbe=PROBE, startupProbe=PROBE)),
            ),
            id="probes",
        ),
        pytest.param(
            POD_MOUNT,
            checkpoint(
                pod_template=template(
                    container(volumeMounts=[{"name": "dshm", "mountPath": "/dev/shm"}], securityContext=RESTRICTED),
                    container("side", startupProbe=PROBE, livenessProbe=PROBE, readinessProbe=PROBE),
                    container("istio-proxy"),
                    initContainers=[container("init")],
                    volumes=[{"name": "dshm", "emptyDir": {"medium": "Memory"}}],
                    affinity=AFFINITY,
                    restartPolicy="Always",
                    priorityClassName="none-of-that-name",
                    nodeName="n1",
                    schedulingGates=[{"name": "example.test/gate"}],
                    securityContext={"runAsUser": 1000, "fsGroup": 1000},
                    terminationGracePeriodSeconds=60,
                )
            ),
            id="everything",
        ),
        pytest.param(
            "",
            checkpoint(pod_template=template(container(resources={"limits": {"nvidia.com/gpu": "2"}}))),
            id="two-gpus",
        ),
        pytest.param("", checkpoint(job={"sharedMemory": {"size": "1Gi"}}), id="shared-memory"),
    ],
)
def test_capture_jobs_are_accepted(control_plane, namespace, values, obj):
    loaded = load_values(values)
    obj["metadata"]["namespace"] = namespace
    job = build_capture_job(obj, values=loaded, storage=storage_from_values(loaded))
    stored = json.loads(
        control_plane.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(job))
    )
    spec = stored["spec"]["template"]["spec"]
    assert ["main"] == [each["name"] for each in spec["containers"]]
    assert 0 == stored["spec"]["backoffLimit"]
    assert not {"nodeName", "priorityClassName", "schedulingGates"} & spec.keys()
