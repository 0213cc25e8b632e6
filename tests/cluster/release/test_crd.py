"""The CRD in a real API server: what people write is accepted, and mistakes are refused by field."""

import copy
import json
import time
from uuid import uuid4

import pytest
import yaml

from cluster.errors import CommandError
from contract.api import keys
from contract.crds.generate import crd
from tests.support.builders.objects import checkpoint, container, template

CHREK = """
apiVersion: nvidia.com/v1alpha1
kind: DynamoCheckpoint
metadata:
  name: e5962d34ba272638
spec:
  identity:
    model: "meta-llama/Meta-Llama-3-8B-Instruct"
    backendFramework: "vllm"
    tensorParallelSize: 1
    dtype: "bfloat16"
  job:
    activeDeadlineSeconds: 3600
    backoffLimit: 3
    podTemplateSpec:
      spec:
        containers:
          - name: main
            image: example.test/dynamo-vllm:latest
            command: ["python3", "-m", "dynamo.vllm"]
            args:
              - "--model"
              - "meta-llama/Meta-Llama-3-8B-Instruct"
              - "--tensor-parallel-size"
              - "1"
              - "--dtype"
              - "bfloat16"
            env:
              - name: HF_TOKEN
                valueFrom:
                  secretKeyRef:
                    name: hf-token-secret
                    key: HF_TOKEN
            resources:
              limits:
                nvidia.com/gpu: "1"
        restartPolicy: Never
"""
SNAPSHOTTING = """
apiVersion: nvidia.com/v1alpha1
kind: DynamoCheckpoint
metadata:
  name: qwen3-06b-bf16
spec:
  identity:
    model: Qwen/Qwen3-0.6B
    backendFramework: vllm
    tensorParallelSize: 1
    dtype: bfloat16
    maxModelLen: 2048

  job:
    activeDeadlineSeconds: 3600
    podTemplateSpec:
      spec:
        containers:
        - name: main
          image: example.test/dynamo/vllm-placeholder:1.0.0
"""


class Api:
    """The control plane's kubectl in a namespace of its own; a refusal is an answer, not an error."""

    def __init__(self, plane, namespace):
        self._plane, self.namespace = plane, namespace

    def kubectl(self, *arguments):
        return self._plane.kubectl("--namespace", self.namespace, *arguments)

    def create(self, obj, *options):
        text = self._plane.kubectl(
            "--namespace", self.namespace, "create", "-o", "json", *options, "-f", "-", stdin=json.dumps(obj)
        )
        return json.loads(text)

    def refused(self, action):
        with pytest.raises(CommandError) as caught:
            action()
        return str(caught.value)

    def patch(self, name, body, *options):
        return self.kubectl("patch", "dckpt", name, "--type=merge", "-p", json.dumps(body), *options)


@pytest.fixture(scope="module")
def api(control_plane):
    control_plane.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(crd()))
    control_plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", f"crd/{crd()['metadata']['name']}")
    namespace = f"crd-{uuid4().hex[:8]}"
    control_plane.kubectl("create", "namespace", namespace)
    api = Api(control_plane, namespace)
    _served(api)
    return api


def _served(api):
    """Established comes a moment before discovery knows the kind."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            return api.kubectl("get", "dckpt")
        except CommandError as error:
            last = error
    raise last


@pytest.fixture
def named(api):
    """A stored, minimal checkpoint."""
    obj = plain()
    obj["metadata"]["name"] = f"c-{uuid4().hex[:8]}"
    api.create(obj)
    return obj["metadata"]["name"]


def plain(**parts):
    """A checkpoint as a person writes it, without what the server fills in."""
    obj = checkpoint(**parts)
    obj["metadata"] = {"name": obj["metadata"]["name"]}
    return obj


@pytest.mark.parametrize(
    "obj",
    [
        pytest.param(yaml.safe_load(CHREK), id="seed-chrek"),
        pytest.param(yaml.safe_load(SNAPSHOTTING), id="seed-snapshotting"),
        pytest.param(plain(), id="minimal"),
        pytest.param(plain(job={"readySignal": "Probe", "settleSeconds": 0}), id="ready-signal"),
        pytest.param(plain(job={"targetContainerName": "gpu"}, pod_template=template(container("gpu"))), id="target"),
        pytest.param(plain(job={"sharedMemory": {"size": "16Gi"}}), id="shared-memory-text"),
        pytest.param(plain(job={"sharedMemory": {"size": 1073741824}}), id="shared-memory-number"),
        pytest.param(plain(identity={"model": "m", "backendFramework": "generic"}), id="any-process"),
        pytest.param(
            {**plain(), "spec": plain()["spec"] | {"source": {"podName": "p", "podUID": "u"}}}, id="running-pod"
        ),
    ],
)
def test_what_people_write_is_accepted(api, obj):
    made = api.create(obj, "--dry-run=server")
    assert 1 == made["spec"]["identity"]["tensorParallelSize"]
    assert 1 == made["spec"]["identity"]["pipelineParallelSize"]


def test_defaults(api):
    made = api.create(plain(), "--dry-run=server")
    job = made["spec"]["job"]
    assert ("main", 3600, 5) == (job["targetContainerName"], job["activeDeadlineSeconds"], job["settleSeconds"])
    # Absent: File where a person writes the checkpoint, Probe where the system does.
    assert "readySignal" not in job


def test_fields_that_this_version_does_not_know_are_kept(api):
    extra = {"futureField": {"a": [1]}}
    spec = template(container(**extra), volumes=[{"name": "v", **extra}], metadata={"labels": {"a": "b"}}, **extra)
    made = api.create(plain(pod_template=spec), "--dry-run=server", "--validate=false")
    kept = made["spec"]["job"]["podTemplateSpec"]["spec"]
    assert extra["futureField"] == kept["futureField"]
    assert extra["futureField"] == kept["containers"][0]["futureField"]
    assert extra["futureField"] == kept["volumes"][0]["futureField"]


def changed(path, value):
    """The minimal checkpoint with one field set, or removed where ``value`` is None."""
    obj = plain()
    *parents, last = path.split(".")
    part = obj
    for name in parents:
        part = part[int(name)] if name.isdecimal() else part.setdefault(name, {})
    if value is None:
        del part[last]
    else:
        part[last] = value
    return obj


TEMPLATE = "spec.job.podTemplateSpec.spec"
MAIN = f"{TEMPLATE}.containers.0"
TWICE = [container(), container()]
BAD = [
    ("spec", None, "spec: Required value"),
    ("spec.identity", None, "spec.identity: Required value"),
    ("spec.identity.model", None, "spec.identity.model: Required value"),
    ("spec.identity.model", "", "spec.identity.model: Invalid value"),
    ("spec.identity.model", 7, "spec.identity.model: Invalid value"),
    ("spec.identity.backendFramework", None, "spec.identity.backendFramework: Required value"),
    ("spec.identity.backendFramework", "tgi", "spec.identity.backendFramework: Unsupported value"),
    ("spec.identity.tensorParallelSize", 0, "spec.identity.tensorParallelSize: Invalid value"),
    ("spec.identity.pipelineParallelSize", 0, "spec.identity.pipelineParallelSize: Invalid value"),
    ("spec.identity.tensorParallelSize", "two", "spec.identity.tensorParallelSize: Invalid value"),
    ("spec.identity.maxModelLen", 0, "spec.identity.maxModelLen: Invalid value"),
    ("spec.identity.dtype", 16, "spec.identity.dtype: Invalid value"),
    ("spec.identity.extraParameters", {"a": 1}, "spec.identity.extraParameters.a: Invalid value"),
    ("spec.job", None, "spec.job: Required value: a pod template to capture is needed"),
    ("spec.job.podTemplateSpec", None, "spec.job.podTemplateSpec: Required value"),
    (TEMPLATE, None, f"{TEMPLATE}: Required value"),
    (f"{TEMPLATE}.containers", None, f"{TEMPLATE}.containers: Required value"),
    (f"{TEMPLATE}.containers", [], f"{TEMPLATE}.containers: Invalid value"),
    (f"{TEMPLATE}.containers", TWICE, f"{TEMPLATE}.containers[1]: Duplicate value"),
    (f"{TEMPLATE}.containers", "main", f"{TEMPLATE}.containers: Invalid value"),
    (f"{MAIN}.name", None, f"{TEMPLATE}.containers[0].name: Required value"),
    (f"{MAIN}.name", "Main", "write lower-case letters, digits and -, with a letter or digit at both ends"),
    (f"{MAIN}.name", "Main", f"{TEMPLATE}.containers[0].name: Invalid value"),
    (f"{MAIN}.image", True, f"{TEMPLATE}.containers[0].image: Invalid value"),
    (f"{MAIN}.image", "", f"{TEMPLATE}.containers[0].image: Invalid value"),
    (f"{MAIN}.image", " ", f"{TEMPLATE}.containers[0].image: Invalid value"),
    (f"{MAIN}.image", "example.test/w: 1", "write it without spaces, such as registry.example/team/worker:1"),
    (f"{MAIN}.command", "python3 -m worker", f"{TEMPLATE}.containers[0].command: Invalid value"),
    (f"{MAIN}.args", [8000], f"{TEMPLATE}.containers[0].args[0]: Invalid value"),
    (f"{MAIN}.env", [{"value": "1"}], f"{TEMPLATE}.containers[0].env[0].name: Required value"),
    (f"{MAIN}.env", [{"name": "A", "value": 1}], f"{TEMPLATE}.containers[0].env[0].value: Invalid value"),
    (f"{MAIN}.volumeMounts", [{"name": "v"}], f"{TEMPLATE}.containers[0].volumeMounts[0].mountPath: Required value"),
    (f"{TEMPLATE}.volumes", [{"emptyDir": {}}], f"{TEMPLATE}.volumes[0].name: Required value"),
    ("spec.job.podTemplateSpec.metadata", {"labels": {"a": 1}}, "podTemplateSpec.metadata.labels.a: Invalid value"),
    ("spec.job.targetContainerName", "gpu", "spec.job.targetContainerName: Invalid value"),
    ("spec.job.targetContainerName", "GPU", "spec.job.targetContainerName: Invalid value"),
    ("spec.job.targetContainerName", "m" * 64, "spec.job.targetContainerName: Too long"),
    ("spec.job.readySignal", "Signal", "spec.job.readySignal: Unsupported value"),
    ("spec.job.settleSeconds", -1, "spec.job.settleSeconds: Invalid value"),
    ("spec.job.activeDeadlineSeconds", 0, "spec.job.activeDeadlineSeconds: Invalid value"),
    ("spec.job.backoffLimit", -1, "spec.job.backoffLimit: Invalid value"),
    ("spec.job.ttlSecondsAfterFinished", -1, "spec.job.ttlSecondsAfterFinished: Invalid value"),
    ("spec.job.sharedMemory", {"size": "big"}, "spec.job.sharedMemory.size: Invalid value"),
    ("spec.job.sharedMemory", {"size": "big"}, "write a number with a unit, such as 512Mi or 100Gi"),
    ("spec.job.sharedMemory", {"size": -1}, "spec.job.sharedMemory.size: Invalid value"),
    ("spec.retention", {"ttlAfterLastUse": "3 days"}, "write hours, minutes and seconds in this order, such as 90s"),
    ("spec.job.sharedMemory", {"disabled": "no"}, "spec.job.sharedMemory.disabled: Invalid value"),
    ("spec.gpuMemoryService", {"mode": "both"}, "spec.gpuMemoryService.mode: Unsupported value"),
    (
        "spec.gpuMemoryService",
        {"extraClientContainers": ["a", "a"]},
        "spec.gpuMemoryService.extraClientContainers[1]: Duplicate value",
    ),
    ("spec.source", {"podName": "p"}, "spec.source.podUID: Required value"),
    ("spec.source", {"podName": "p"}, "spec.source.podUID: Required value"),
]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [pytest.param(*row, id=f"{row[0].removeprefix('spec.')}={json.dumps(row[1])[:24]}") for row in BAD],
)
def test_mistakes_are_refused_by_field(api, path, value, message):
    obj = changed(path, value)
    answer = api.refused(lambda: api.create(obj, "--dry-run=server", "--validate=false"))
    assert message in answer


def test_a_misspelt_field_is_named(api):
    obj = plain()
    obj["spec"]["job"]["podTemplate"] = {}
    assert 'unknown field "spec.job.podTemplate"' in api.refused(lambda: api.create(obj, "--dry-run=server"))


def test_the_identity_cannot_change(api, named):
    answer = api.refused(lambda: api.patch(named, {"spec": {"identity": {"maxModelLen": 8192}}}))
    assert "spec.identity: Forbidden: spec.identity is immutable after creation" in answer


def test_the_rest_of_the_spec_can_change(api, named):
    api.patch(named, {"spec": {"job": {"activeDeadlineSeconds": 60}}})
    stored = json.loads(api.kubectl("get", "dckpt", named, "-o", "json"))
    assert 60 == stored["spec"]["job"]["activeDeadlineSeconds"]


def test_status_is_a_subresource(api, named):
    api.patch(named, {"status": {"phase": "Ready"}})
    stored = json.loads(api.kubectl("get", "dckpt", named, "-o", "json"))
    assert "status" not in stored


STATUS = {
    "phase": "Ready",
    "checkpointID": "3bff874d069f0ed5",
    "identityHash": "3bff874d069f0ed5",
    "jobName": "checkpoint-job-3bff874d069f0ed5-1",
    "createdAt": "2026-01-29T10:05:00Z",
    "message": "",
    "location": "/checkpoints/3bff874d069f0ed5/versions/1",
    "storageType": "pvc",
    "size": 6442450944,
    "manifestDigest": "blake3:" + "0" * 64,
    "image": {"reference": "example.test/w:1", "entrypoint": ["python3"], "cmd": [], "user": "1000", "workingDir": "/"},
    "observedGeneration": 1,
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "reason": "CheckpointReady",
            "message": "",
            "lastTransitionTime": "2026-01-29T10:05:00Z",
            "observedGeneration": 1,
        }
    ],
}


@pytest.fixture
def ready(api, named):
    api.patch(named, {"status": STATUS}, "--subresource=status")
    return named


def test_every_field_of_the_status_is_kept(api, ready):
    stored = json.loads(api.kubectl("get", "dckpt", ready, "-o", "json"))
    assert STATUS == stored["status"]


def test_what_a_person_sees_and_can_select(api, ready):
    lines = api.kubectl("get", "dckpt", ready).splitlines()
    assert ["NAME", "MODEL", "BACKEND", "PHASE", "CHECKPOINTID", "AGE"] == lines[0].split()
    assert [ready, "Qwen/Qwen3-0.6B", "vllm", "Ready", "3bff874d069f0ed5"] == lines[1].split()[:5]
    assert ["REASON", "SIZE", "MESSAGE"] == [
        word for word in api.kubectl("get", "dckpt", ready, "-o", "wide").splitlines()[0].split() if word in WIDE
    ]
    found = json.loads(api.kubectl("get", "dckpt", "--field-selector", "status.phase=Ready", "-o", "json"))["items"]
    assert ready in {item["metadata"]["name"] for item in found}
    waited = api.kubectl("wait", "--for=jsonpath={.status.phase}=Ready", f"dynamocheckpoint/{ready}", "--timeout=10s")
    assert "condition met" in waited


WIDE = {"REASON", "SIZE", "MESSAGE"}


@pytest.mark.parametrize(
    ("part", "message"),
    [
        pytest.param({"phase": "Done"}, "status.phase: Unsupported value", id="phase"),
        pytest.param({"size": -1}, "status.size: Invalid value", id="size"),
        pytest.param({"createdAt": "yesterday"}, "status.createdAt: Invalid value", id="time"),
        pytest.param(
            {"conditions": [{"type": "Ready"}]}, "status.conditions[0].status: Required value", id="condition"
        ),
    ],
)
def test_a_wrong_status_is_refused(api, named, part, message):
    assert message in api.refused(lambda: api.patch(named, {"status": part}, "--subresource=status"))


def test_client_side_apply_works_twice(api):
    """A schema of hundreds of kilobytes would not fit the annotation that plain apply writes."""
    obj = copy.deepcopy(yaml.safe_load(SNAPSHOTTING))
    obj["metadata"]["name"] = f"applied-{uuid4().hex[:8]}"
    obj["metadata"]["labels"] = {keys.LABEL_CHECKPOINT_ID: "mine"}
    first = api._plane.kubectl("--namespace", api.namespace, "apply", "-f", "-", stdin=json.dumps(obj))
    second = api._plane.kubectl("--namespace", api.namespace, "apply", "-f", "-", stdin=json.dumps(obj))
    assert "created" in first
    assert "unchanged" in second
