import jsonpatch
import pytest

from contract.api import keys
from contract.api.states import Admission
from contract.config.values import load_values
from tests.support.builders.objects import (
    ID,
    IMAGE,
    checkpoint,
    container,
    graph_pod,
    opted_in,
    pod,
    ready,
    request,
    template,
)
from webhook.decide import decide

VALUES = load_values("")


def with_memory_service(found):
    found["spec"]["gpuMemoryService"] = {"enabled": True}
    return found


def answer(obj, *stored, values=VALUES, **fields):
    found = {(item["metadata"]["namespace"], item["metadata"]["name"]): item for item in stored}
    return decide(request(obj, **fields), lambda namespace, name: found.get((namespace, name)), values)


def phase(name, **status):
    return checkpoint(status={"phase": name, **status})


def without_claim():
    entry = {"type": "StorageReady", "status": "False", "reason": "VolumeClaimMissing"}
    obj = ready()
    obj["status"]["conditions"] = [entry | {"message": "PersistentVolumeClaim ns/gone is not there any more"}]
    return obj


UNSHAPED = [
    pytest.param(
        Admission.TARGETS_INVALID,
        "names captured container 'engine', DynamoCheckpoint qwen is of container 'main'",
        opted_in(annotations={keys.ANN_TARGET_CONTAINERS: "engine=main"}),
        [ready()],
        "",
        id="continues-what-was-not-captured",
    ),
    pytest.param(
        Admission.CHECKPOINT_DISABLED,
        "checkpoint.enabled=true",
        opted_in(),
        [ready()],
        "checkpoint: {enabled: false}",
        id="checkpoint-disabled",
    ),
    pytest.param(
        Admission.NAMESPACE_EXCLUDED,
        "webhook.excludedNamespaces",
        opted_in(),
        [ready()],
        "webhook: {excludedNamespaces: [ns]}",
        id="namespace-excluded",
    ),
    pytest.param(
        Admission.ALREADY_SHAPED,
        "take these labels out",
        opted_in(labels={keys.LABEL_CHECKPOINT_ID: "x"}),
        [ready()],
        "",
        id="id-label-copied",
    ),
    pytest.param(
        Admission.ALREADY_SHAPED,
        keys.LABEL_IS_SOURCE,
        opted_in(labels={keys.LABEL_IS_SOURCE: "true"}),
        [ready()],
        "",
        id="source-label",
    ),
    pytest.param(
        Admission.OS_UNSUPPORTED,
        "spec.os.name is windows",
        opted_in(os={"name": "windows"}),
        [ready()],
        "",
        id="windows",
    ),
    pytest.param(
        Admission.ARCHITECTURE_MISMATCH,
        "spec.nodeSelector[kubernetes.io/arch] asks for nodes of another architecture than amd64",
        opted_in(nodeSelector={"kubernetes.io/arch": "arm64"}),
        [ready(status=ready()["status"] | {"image": {"reference": IMAGE, "architecture": "amd64"}})],
        "",
        id="another-architecture-than-was-captured",
    ),
    pytest.param(
        Admission.ARCHITECTURE_MISMATCH,
        "than arm64",
        opted_in(nodeSelector={"kubernetes.io/arch": "amd64"}),
        [ready(pod_template=template(nodeSelector={"kubernetes.io/arch": "arm64"}))],
        "",
        id="another-architecture-than-the-template",
    ),
    pytest.param(
        Admission.CHECKPOINT_NAME_MISSING,
        keys.ANN_CHECKPOINT_NAME,
        pod(labels={keys.LABEL_RESTORE: "enabled"}),
        [ready()],
        "",
        id="name-missing",
    ),
    pytest.param(
        Admission.CHECKPOINT_NAME_MISSING,
        keys.ANN_CHECKPOINT_NAME,
        graph_pod(name=""),
        [ready()],
        "",
        id="name-empty",
    ),
    *(
        pytest.param(
            Admission.NOT_OPERATOR_STAMPED,
            key,
            graph_pod(labels={key: ""}),
            [ready()],
            "",
            id=f"no-{key.split('/')[1]}",
        )
        for key in keys.GRAPH_LABELS
    ),
    pytest.param(
        Admission.CHECKPOINT_NOT_FOUND, "ns/qwen does not exist", opted_in(), [ready("other")], "", id="not-found"
    ),
    pytest.param(
        Admission.CHECKPOINT_DELETING,
        "being deleted",
        opted_in(),
        [ready() | {"metadata": {"name": "qwen", "namespace": "ns", "deletionTimestamp": "2026-01-01T00:00:00Z"}}],
        "",
        id="deleting",
    ),
    pytest.param(Admission.CHECKPOINT_NOT_READY, "is Pending", opted_in(), [checkpoint()], "", id="no-status"),
    pytest.param(Admission.CHECKPOINT_NOT_READY, "is Creating", opted_in(), [phase("Creating")], "", id="creating"),
    pytest.param(
        Admission.CHECKPOINT_FAILED,
        "failed: no space left; correct the cause",
        opted_in(),
        [phase("Failed", message="no space left")],
        "",
        id="failed",
    ),
    pytest.param(
        Admission.CHECKPOINT_FAILED,
        "spec.gpuMemoryService.enabled, which is not supported",
        opted_in(),
        [with_memory_service(ready())],
        "",
        id="gpu-memory-service",
    ),
    pytest.param(
        Admission.CHECKPOINT_ID_UNAVAILABLE,
        "has no id in status.checkpointID",
        opted_in(),
        [checkpoint(status={"phase": "Ready"}, identity={})],
        "",
        id="no-id",
    ),
    pytest.param(
        Admission.CHECKPOINT_ID_UNAVAILABLE,
        "checkpoint id '../x'",
        opted_in(),
        [phase("Ready", checkpointID="../x")],
        "",
        id="hostile-id",
    ),
    pytest.param(
        Admission.CHECKPOINT_ID_UNAVAILABLE,
        "artifact version '..'",
        opted_in(),
        [checkpoint(status={"phase": "Ready"}, annotations={keys.ANN_ARTIFACT_VERSION: ".."})],
        "",
        id="hostile-version",
    ),
    pytest.param(
        Admission.TARGETS_INVALID,
        "'gpu' is not in the pod; it has: main",
        opted_in(annotations={keys.ANN_TARGET_CONTAINERS: "gpu"}),
        [ready()],
        "",
        id="target-absent",
    ),
    pytest.param(
        Admission.TARGETS_INVALID,
        "more than one container",
        opted_in(container("a"), container("b")),
        [ready()],
        "",
        id="target-ambiguous",
    ),
    pytest.param(
        Admission.STORAGE_UNAVAILABLE,
        "storage.pvc.basePath",
        opted_in(),
        [ready()],
        "storage: {pvc: {basePath: /a/../b}}",
        id="storage",
    ),
    pytest.param(
        Admission.VOLUME_CLAIM_UNAVAILABLE,
        "PersistentVolumeClaim ns/gone is not there any more",
        opted_in(),
        [without_claim()],
        "storage: {accessMode: podMount}",
        id="claim-gone",
    ),
    pytest.param(
        Admission.IMAGE_MISMATCH,
        "has image other:1, the checkpoint was taken of",
        opted_in(container(image="other:1")),
        [ready()],
        "",
        id="image",
    ),
    *(
        pytest.param(
            Admission.BYPASS_INVALID,
            f"annotation {keys.ANN_BYPASS}: {words}",
            opted_in(annotations={keys.ANN_BYPASS: said}),
            [ready()],
            "",
            id=f"bypass-of-{said}",
        )
        for said, words in (
            ("cpu", "no check 'cpu'"),
            ("cpu-mismatch,wider-rights", "wider-rights cannot be bypassed"),
        )
    ),
    *(
        pytest.param(
            Admission.POD_UNSUPPORTED,
            f"spec.{field} must not be true",
            opted_in(**{field: True}),
            [ready()],
            "",
            id=field,
        )
        for field in ("hostPID", "hostNetwork", "hostIPC", "shareProcessNamespace")
    ),
    pytest.param(
        Admission.ACCELERATOR_UNSUPPORTED,
        "spec.containers[main].resources.limits[amd.com/gpu]: AMD GPUs are not captured",
        opted_in(container(resources={"limits": {"amd.com/gpu": "1"}})),
        [ready()],
        "",
        id="accelerator",
    ),
    pytest.param(
        Admission.POD_UNSUPPORTED,
        "mounts volume 'data' at /checkpoints",
        opted_in(container(volumeMounts=[{"name": "data", "mountPath": "/checkpoints"}])),
        [ready()],
        "storage: {accessMode: podMount}",
        id="path-taken",
    ),
]


@pytest.mark.parametrize(("code", "message", "obj", "stored", "values"), UNSHAPED)
def test_a_pod_that_opted_in_is_told_why_it_starts_cold(code, message, obj, stored, values):
    """It stays as it is but for one annotation, and the person who creates it sees a warning."""
    decision = answer(obj, *stored, values=load_values(values))
    assert code == decision.code
    assert message in decision.message
    patched = jsonpatch.JsonPatch(list(decision.operations)).apply(obj)
    assert code == patched["metadata"]["annotations"].pop(keys.ANN_ADMISSION)
    assert obj["spec"] == patched["spec"]
    assert obj["metadata"].get("annotations", {}) == patched["metadata"]["annotations"]
    (warning,) = decision.warnings
    assert warning.startswith(f"{keys.ANN_ADMISSION}={code}: this pod starts cold: ")


@pytest.mark.parametrize(
    ("code", "obj", "fields"),
    [
        pytest.param(Admission.NOT_OPTED_IN, pod(), {}, id="nothing"),
        pytest.param(Admission.NOT_OPTED_IN, pod(labels={keys.LABEL_RESTORE: "disabled"}), {}, id="disabled"),
        pytest.param(
            Admission.NOT_OPTED_IN, pod(annotations={keys.ANN_RESTORE_CANDIDATE: "True"}), {}, id="candidate-not-true"
        ),
        pytest.param(Admission.NOT_OPTED_IN, pod(annotations={keys.ANN_CHECKPOINT_NAME: "qwen"}), {}, id="only-a-name"),
        pytest.param(Admission.NAMESPACE_EXCLUDED, pod(), {"namespace": "kube-system", "object": {}}, id="kube-system"),
        pytest.param(Admission.ALREADY_SHAPED, pod(labels={keys.LABEL_IS_SOURCE: "true"}), {}, id="capture-pod"),
        pytest.param(Admission.NOT_A_CREATE, opted_in(), {"operation": "UPDATE"}, id="update"),
        pytest.param(Admission.NOT_A_CREATE, opted_in(), {"subResource": "ephemeralcontainers"}, id="subresource"),
    ],
)
def test_who_did_not_ask_is_not_touched(code, obj, fields):
    decision = answer(obj, ready(), **fields)
    assert code == decision.code
    assert () == decision.operations
    assert () == decision.warnings


@pytest.mark.parametrize(
    ("obj", "stored"),
    [
        pytest.param(opted_in(), ready(), id="by-name"),
        pytest.param(
            pod(labels={keys.LABEL_RESTORE: "enabled"}, annotations={keys.ANN_RESTORE_FROM: "qwen"}),
            ready(),
            id="synonym",
        ),
        pytest.param(graph_pod(), ready(), id="graph"),
        pytest.param(
            opted_in(), checkpoint(status={"phase": "Ready", "identityHash": ID}), id="id-from-the-deprecated-alias"
        ),
        pytest.param(opted_in(), checkpoint(status={"phase": "Ready"}), id="id-from-the-identity"),
        pytest.param(
            opted_in(),
            checkpoint(status={"phase": "Ready"}, labels={keys.LABEL_CHECKPOINT_ID: ID}),
            id="id-from-the-label",
        ),
        pytest.param(
            opted_in(annotations={keys.ANN_ADMISSION: "webhook-unreachable"}),
            ready(),
            id="pessimistic-mark-overwritten",
        ),
    ],
)
def test_shaped(obj, stored):
    decision = answer(obj, stored)
    assert Admission.RESTORE_SHAPED == decision.code
    shaped = jsonpatch.JsonPatch(list(decision.operations)).apply(obj)
    assert ID == shaped["metadata"]["labels"][keys.LABEL_CHECKPOINT_ID]
    assert "qwen" == shaped["metadata"]["annotations"][keys.ANN_CHECKPOINT]
    assert "restore-shaped" == shaped["metadata"]["annotations"][keys.ANN_ADMISSION]
    assert keys.STANDBY == shaped["spec"]["containers"][0]["command"][0]
    assert () == decision.warnings


def test_a_second_look_changes_nothing():
    """Reinvocation: another webhook changed the pod, and the API server asks again."""
    shaped = jsonpatch.JsonPatch(list(answer(opted_in(), ready()).operations)).apply(opted_in())
    again = answer(shaped, ready())
    assert Admission.ALREADY_SHAPED == again.code
    assert () == again.operations
    assert () == again.warnings


def test_the_pods_own_namespace_goes_before_the_requests():
    obj = opted_in()
    obj["metadata"]["namespace"] = "theirs"
    assert Admission.CHECKPOINT_NOT_FOUND == answer(obj, ready()).code


def test_a_pod_of_a_deployment_has_only_the_requests_namespace():
    obj = opted_in()
    del obj["metadata"]["namespace"]
    assert Admission.RESTORE_SHAPED == answer(obj, ready()).code


@pytest.mark.parametrize(
    ("image", "values", "policy"),
    [
        pytest.param("runtime:1", f"placeholder: {{images: {{'runtime:1': '{IMAGE}'}}}}", None, id="mapped"),
        pytest.param("other:1", "", "Checkpoint", id="accepted-by-policy"),
    ],
)
def test_the_captured_image_replaces_the_pods(image, values, policy):
    obj = opted_in(container(image=image), annotations={keys.ANN_IMAGE_POLICY: policy} if policy else {})
    decision = answer(obj, ready(), values=load_values(values))
    shaped = jsonpatch.JsonPatch(list(decision.operations)).apply(obj)
    assert IMAGE == shaped["spec"]["containers"][0]["image"]
    assert image == shaped["metadata"]["annotations"][keys.ANN_ORIGINAL_IMAGE_PREFIX + "main"]


def test_a_template_written_with_the_runtime_image_restores_runtime_pods():
    values = load_values("placeholder: {images: {'runtime:1': 'placeholder:1'}}")
    stored = ready(pod_template=template(container(image="runtime:1")))
    obj = opted_in(container(image="runtime:1"))
    shaped = jsonpatch.JsonPatch(list(answer(obj, stored, values=values).operations)).apply(obj)
    assert "placeholder:1" == shaped["spec"]["containers"][0]["image"]


def test_the_image_that_was_captured_counts_not_the_template_of_today():
    stored = ready(pod_template=template(container(image="new:2")))
    stored["status"]["image"] = {"reference": IMAGE}
    assert Admission.RESTORE_SHAPED == answer(opted_in(), stored).code
    assert Admission.IMAGE_MISMATCH == answer(opted_in(container(image="new:2")), stored).code


def test_the_version_that_was_captured_counts_not_the_one_asked_for_next():
    stored = ready(annotations={keys.ANN_ARTIFACT_VERSION: "2"})
    shaped = jsonpatch.JsonPatch(list(answer(opted_in(), stored).operations)).apply(opted_in())
    assert "1" == shaped["metadata"]["annotations"][keys.ANN_ARTIFACT_VERSION]


def test_another_command_line_is_a_warning():
    decision = answer(opted_in(container(args=["--port", "9000"])), ready())
    assert Admission.RESTORE_SHAPED == decision.code
    (warning,) = decision.warnings
    assert "container main: args differ from what DynamoCheckpoint qwen captured" in warning


@pytest.mark.parametrize(
    ("expected", "notes", "stored"),
    [
        pytest.param([], {keys.ANN_ATTEMPTS: "5", keys.ANN_BYPASS: "cpu-mismatch"}, [ready()], id="valid"),
        pytest.param([keys.ANN_ATTEMPTS], {keys.ANN_ATTEMPTS: "6"}, [ready()], id="attempts"),
        pytest.param([keys.ANN_ATTEMPTS], {keys.ANN_ATTEMPTS: "often"}, [checkpoint()], id="attempts-of-a-cold-start"),
        pytest.param([keys.ANN_BYPASS], {keys.ANN_BYPASS: "cpu"}, [ready()], id="bypass-which-is-the-reason-too"),
        pytest.param([keys.ANN_BYPASS], {keys.ANN_BYPASS: "cpu"}, [checkpoint()], id="bypass-of-a-later-pod"),
    ],
)
def test_an_annotation_that_cannot_be_read_is_a_warning(expected, notes, stored):
    decision = answer(opted_in(annotations=notes), *stored)
    told = [text for text in decision.warnings if "annotation nvidia.com" in text]
    assert len(expected) == len(told)
    for key, text in zip(expected, told, strict=True):
        assert f"annotation {key}" in text
        assert "correct it" in text


def test_what_capture_had_is_passed_on():
    captured = template(
        container(volumeMounts=[{"name": "dshm", "mountPath": "/dev/shm"}]),
        volumes=[{"name": "dshm", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}}],
        imagePullSecrets=[{"name": "pull"}],
    )
    obj = opted_in()
    shaped = jsonpatch.JsonPatch(list(answer(obj, ready(pod_template=captured)).operations)).apply(obj)
    assert [{"name": "pull"}] == shaped["spec"]["imagePullSecrets"]
    memory = next(volume for volume in shaped["spec"]["volumes"] if volume["name"] == "shared-memory")
    assert "2Gi" == memory["emptyDir"]["sizeLimit"]


def test_several_targets_each_get_the_shape_and_the_rest_stays():
    """Sidecars, init containers and native sidecars are the pod's own business."""
    inits = [container("fetch"), container("logs", restartPolicy="Always")]
    obj = opted_in(
        container("gpu0"),
        container("proxy"),
        container("gpu1"),
        annotations={keys.ANN_TARGET_CONTAINERS: "gpu1,gpu0"},
        initContainers=inits,
    )
    captured = template(container("gpu0"))
    decision = answer(obj, ready(pod_template=captured, job={"targetContainerName": "gpu0"}))
    assert Admission.RESTORE_SHAPED == decision.code
    shaped = jsonpatch.JsonPatch(list(decision.operations)).apply(obj)["spec"]
    assert [keys.STANDBY, "python3", keys.STANDBY] == [each["command"][0] for each in shaped["containers"]]
    assert obj["spec"]["containers"][1] == shaped["containers"][1]
    assert inits == shaped["initContainers"]
    paths = [each["volumeMounts"][0]["subPath"] for each in shaped["containers"] if "volumeMounts" in each]
    assert ["gpu0", "gpu1"] == paths


def test_several_targets_of_a_stock_image_share_the_tools():
    values = load_values("placeholder: {mode: inject}")
    obj = opted_in(container("a"), container("b"), annotations={keys.ANN_TARGET_CONTAINERS: "a,b"})
    decision = answer(
        obj, ready(pod_template=template(container("a")), job={"targetContainerName": "a"}), values=values
    )
    shaped = jsonpatch.JsonPatch(list(decision.operations)).apply(obj)["spec"]
    assert ["snapshot-tools"] == [each["name"] for each in shaped["initContainers"]]
    assert {"snapshot-control", "snapshot-tools", "shared-memory"} == {each["name"] for each in shaped["volumes"]}
    assert 3 == len(shaped["volumes"])
    for each in shaped["containers"]:
        assert "/opt/dynamo-snapshot" in [mount["mountPath"] for mount in each["volumeMounts"]]


def test_ephemeral_containers_are_not_looked_at():
    """A new pod cannot have them; whatever is there passes through."""
    obj = opted_in(ephemeralContainers=[container("debug")])
    shaped = jsonpatch.JsonPatch(list(answer(obj, ready()).operations)).apply(obj)
    assert obj["spec"]["ephemeralContainers"] == shaped["spec"]["ephemeralContainers"]
