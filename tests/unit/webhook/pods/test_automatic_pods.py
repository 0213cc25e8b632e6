import copy

import jsonpatch
import pytest

from contract.api import keys
from contract.api.states import Admission
from contract.config.values import load_values
from tests.support.builders.objects import container, graph_pod, pod, ready, request
from tests.support.builders.pods import auto_pod, checkpoint_of, name_of, stamp_of, worker
from webhook.decide import decide

VALUES = load_values("")
INJECT = "placeholder: {mode: inject}"
STOCK = {"name": "main", "image": "stock:1", "readinessProbe": {"exec": {"command": ["true"]}}}


def ask(obj, *stored, text=""):
    found = {item["metadata"]["name"]: item for item in stored}
    return decide(request(obj), lambda _, name: found.get(name), load_values(text))


def patched(obj, decision):
    return jsonpatch.JsonPatch(copy.deepcopy(list(decision.operations))).apply(obj)


def notes_of(obj):
    return obj["metadata"].get("annotations", {})


def other_webhook(obj):
    """Another webhook changes the pod, so the API server asks ours again."""
    obj = copy.deepcopy(obj)
    main = obj["spec"]["containers"][0]
    main["env"] = [*main.get("env", []), {"name": "MESH", "value": "on"}]
    obj["spec"]["containers"].append(container("proxy"))
    return obj


def test_the_first_pod_asks_for_the_checkpoint_and_starts_cold():
    obj = auto_pod()
    decision = ask(obj)
    assert Admission.CHECKPOINT_REQUESTED == decision.code
    result = patched(obj, decision)
    assert {
        keys.ANN_ADMISSION: "checkpoint-requested",
        keys.ANN_TEMPLATE_HASH: stamp_of(obj),
        keys.ANN_CHECKPOINT: name_of(obj),
    } == notes_of(result)
    assert obj["spec"] == result["spec"]
    (warning,) = decision.warnings
    assert "this pod starts cold: no checkpoint of this template exists yet" in warning
    assert name_of(obj) in warning


@pytest.mark.parametrize(
    ("phase", "status", "code", "message"),
    [
        pytest.param("Pending", {}, Admission.CHECKPOINT_NOT_READY, "is Pending", id="pending"),
        pytest.param("Creating", {}, Admission.CHECKPOINT_NOT_READY, "is Creating", id="creating"),
        pytest.param("Failed", {"message": "no space"}, Admission.CHECKPOINT_FAILED, "failed: no space", id="failed"),
    ],
)
def test_pods_beside_an_unfinished_checkpoint_are_stamped_and_start_cold(phase, status, code, message):
    obj = auto_pod()
    decision = ask(obj, checkpoint_of(obj, phase=phase, **status))
    assert code == decision.code
    assert message in decision.message
    result = patched(obj, decision)
    assert (code, stamp_of(obj), name_of(obj)) == tuple(
        notes_of(result)[key] for key in (keys.ANN_ADMISSION, keys.ANN_TEMPLATE_HASH, keys.ANN_CHECKPOINT)
    )
    assert obj["spec"] == result["spec"]


def test_a_checkpoint_that_goes_is_made_anew_later():
    obj = auto_pod()
    stored = checkpoint_of(obj)
    stored["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    decision = ask(obj, stored)
    assert Admission.CHECKPOINT_DELETING == decision.code
    assert "pods created after that make a new one" in decision.message


def test_a_ready_checkpoint_restores():
    obj = auto_pod()
    decision = ask(obj, checkpoint_of(obj))
    assert (Admission.RESTORE_SHAPED, ()) == (decision.code, decision.warnings)
    result = patched(obj, decision)
    assert stamp_of(obj) == notes_of(result)[keys.ANN_TEMPLATE_HASH]
    assert name_of(obj) == notes_of(result)[keys.ANN_CHECKPOINT]
    assert keys.STANDBY == result["spec"]["containers"][0]["command"][0]
    assert "schedulingGates" not in result["spec"]


def test_another_namespaces_checkpoint_is_not_used():
    obj = auto_pod()
    stored = checkpoint_of(obj)
    obj["metadata"]["namespace"] = "other"
    assert Admission.CHECKPOINT_REQUESTED == ask(obj, stored).code


def test_a_hundred_replicas_ask_for_one_checkpoint():
    names = set()
    for number in range(100):
        obj = auto_pod(worker(env=[{"name": "A", "value": "1"}]), hostname=f"web-{number}")
        obj["metadata"].update(generateName="", name=f"web-{number}", uid=f"u-{number}")
        names.add(notes_of(patched(obj, ask(obj)))[keys.ANN_CHECKPOINT])
    assert 1 == len(names)


@pytest.mark.parametrize("phase", [None, "Pending", "Failed"])
@pytest.mark.parametrize("mark", [{}, {keys.ANN_ADMISSION: "webhook-unreachable"}], ids=["unmarked", "marked"])
def test_the_stamp_stays_when_the_api_server_asks_again(phase, mark):
    obj = auto_pod(annotations=mark)
    stored = [checkpoint_of(obj, phase=phase)] if phase else []
    first = patched(obj, ask(obj, *stored))
    again = ask(other_webhook(first), *stored)
    assert () == again.operations
    assert notes_of(first)[keys.ANN_ADMISSION] == again.code


@pytest.mark.parametrize("policy", ["Immediate", "WaitForCheckpoint"])
def test_a_shaped_pod_stays_as_it_is(policy):
    obj = auto_pod(annotations={keys.ANN_STARTUP_POLICY: policy})
    stored = checkpoint_of(obj, phase="Ready" if policy == "Immediate" else "Creating")
    first = patched(obj, ask(obj, stored))
    again = ask(other_webhook(first), stored)
    assert (Admission.ALREADY_SHAPED, (), ()) == (again.code, again.operations, again.warnings)


def copied(obj):
    """A manifest written down from a pod that was stamped, with another command line."""
    result = copy.deepcopy(obj)
    result["spec"]["containers"][0]["args"] = ["--another"]
    return result


def test_a_stamp_that_came_with_the_manifest_counts_for_nothing():
    first = patched(auto_pod(), ask(auto_pod()))
    obj = copied(first)
    owned = {"f:annotations": {f"f:{keys.ANN_TEMPLATE_HASH}": {}}}
    obj["metadata"]["managedFields"] = [{"manager": "kubectl", "fieldsV1": {"f:metadata": owned}}]
    assert stamp_of(obj) == notes_of(patched(obj, ask(obj)))[keys.ANN_TEMPLATE_HASH]
    assert stamp_of(obj) != notes_of(first)[keys.ANN_TEMPLATE_HASH]


@pytest.mark.parametrize(
    "notes",
    [
        pytest.param({keys.ANN_TEMPLATE_HASH: "0" * 32}, id="no-admission"),
        pytest.param({keys.ANN_TEMPLATE_HASH: "0" * 32, keys.ANN_ADMISSION: "webhook-unreachable"}, id="only-the-mark"),
        pytest.param({keys.ANN_TEMPLATE_HASH: "../x", keys.ANN_ADMISSION: "checkpoint-requested"}, id="hostile"),
        pytest.param(
            {keys.ANN_TEMPLATE_HASH: "0" * 32, keys.ANN_ADMISSION: "checkpoint-requested", keys.ANN_CHECKPOINT: "x"},
            id="another-name",
        ),
    ],
)
def test_a_stamp_that_is_not_ours_is_replaced(notes):
    obj = auto_pod(annotations=notes)
    result = patched(obj, ask(obj))
    assert (stamp_of(obj), name_of(obj)) == tuple(
        notes_of(result)[key] for key in (keys.ANN_TEMPLATE_HASH, keys.ANN_CHECKPOINT)
    )


FIELD_REF = [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]


def owned_by(kind):
    obj = auto_pod()
    obj["metadata"]["ownerReferences"] = [{"kind": kind, "name": "web", "controller": True}]
    return obj


REFUSED = [
    pytest.param(
        auto_pod(worker(env=FIELD_REF)),
        Admission.PER_POD_IDENTITY,
        "env[POD].valueFrom.fieldRef: metadata.name",
        id="field-ref",
    ),
    pytest.param(owned_by("StatefulSet"), Admission.PER_POD_IDENTITY, "StatefulSet web", id="stateful-set"),
    pytest.param(auto_pod(container()), Admission.NO_READY_SIGNAL, "add a readiness probe", id="no-probe"),
    pytest.param(
        auto_pod(container(livenessProbe={"httpGet": {"port": 1}})),
        Admission.NO_READY_SIGNAL,
        "neither a startup nor a readiness probe",
        id="liveness-tells-nothing",
    ),
    pytest.param(auto_pod(hostPID=True), Admission.POD_UNSUPPORTED, "spec.hostPID must not be true", id="host-pid"),
    pytest.param(
        auto_pod(shareProcessNamespace=True), Admission.POD_UNSUPPORTED, "spec.shareProcessNamespace", id="shared-pids"
    ),
    pytest.param(
        auto_pod(nodeSelector={"kubernetes.io/os": "windows"}),
        Admission.OS_UNSUPPORTED,
        "spec.nodeSelector[kubernetes.io/os] asks for nodes that do not run Linux",
        id="windows-by-selector",
    ),
    pytest.param(
        auto_pod(worker(resources={"limits": {"nvidia.com/mig-1g.10gb": "1"}})),
        Admission.ACCELERATOR_UNSUPPORTED,
        "spec.containers[main].resources.limits[nvidia.com/mig-1g.10gb]: MIG devices are not captured",
        id="mig",
    ),
    pytest.param(
        auto_pod(worker("a"), worker("b", resources={"limits": {"google.com/tpu": "4"}})),
        Admission.ACCELERATOR_UNSUPPORTED,
        "spec.containers[b].resources.limits[google.com/tpu]",
        id="the-one-with-the-device-is-the-target",
    ),
    pytest.param(
        auto_pod(
            nodeSelector={"kubernetes.io/os": "windows"}, annotations={keys.ANN_STARTUP_POLICY: "WaitForCheckpoint"}
        ),
        Admission.OS_UNSUPPORTED,
        "which is",
        id="windows-that-would-wait",
    ),
    pytest.param(auto_pod(hostUsers=False), Admission.POD_UNSUPPORTED, "spec.hostUsers must not be", id="own-users"),
    pytest.param(
        auto_pod(runtimeClassName="kata-qemu"),
        Admission.POD_UNSUPPORTED,
        "spec.runtimeClassName is kata-qemu",
        id="sandbox",
    ),
    pytest.param(auto_pod(worker("a"), worker("b")), Admission.TARGETS_INVALID, "more than one container", id="which"),
    pytest.param(
        auto_pod(worker("a"), worker("b"), annotations={keys.ANN_TARGET_CONTAINERS: "a,b"}),
        Admission.TARGETS_INVALID,
        "an automatic checkpoint is taken of one",
        id="two-targets",
    ),
]


@pytest.mark.parametrize(("obj", "code", "message"), REFUSED)
def test_what_cannot_be_captured_asks_for_nothing(obj, code, message):
    decision = ask(obj)
    assert code == decision.code
    assert message in decision.message
    result = patched(obj, decision)
    assert keys.ANN_TEMPLATE_HASH not in notes_of(result)
    assert code == notes_of(result)[keys.ANN_ADMISSION]


@pytest.mark.parametrize(
    "obj",
    [pytest.param(auto_pod(worker(env=FIELD_REF)), id="field-ref"), pytest.param(owned_by("StatefulSet"), id="set")],
)
def test_a_worker_that_renews_its_identity_may_share(obj):
    obj["metadata"]["annotations"] = {keys.ANN_IDENTITY: "refreshed"}
    assert Admission.CHECKPOINT_REQUESTED == ask(obj).code


def test_the_values_name_further_annotations_that_count():
    one, two = (auto_pod(annotations={"team": team}) for team in ("a", "b"))
    text = "automatic: {hashAnnotations: [team]}"
    stamps = [notes_of(patched(obj, ask(obj, text=text)))[keys.ANN_TEMPLATE_HASH] for obj in (one, two)]
    assert stamp_of(one) == stamp_of(two)
    assert stamps[0] != stamps[1]


def test_a_graphs_worker_is_never_automatic():
    obj = graph_pod(labels={keys.LABEL_RESTORE: "auto"})
    result = patched(obj, ask(obj, ready()))
    assert "qwen" == notes_of(result)[keys.ANN_CHECKPOINT]
    assert keys.ANN_TEMPLATE_HASH not in notes_of(result)


@pytest.mark.parametrize("text", ["", INJECT, "automatic: {inject: false}"], ids=["default", "inject", "strict"])
def test_a_stock_image_is_restored_by_what_was_noted_of_it(text):
    obj = auto_pod(STOCK)
    result = patched(obj, ask(obj, checkpoint_of(obj), text=text))
    main = result["spec"]["containers"][0]
    assert [keys.STANDBY, "--", "/entry"] == main["command"]
    assert ["serve"] == main["args"]
    assert "snapshot-tools" == result["spec"]["initContainers"][0]["name"]


def test_a_stock_image_of_which_nothing_was_noted_starts_cold():
    obj = auto_pod(STOCK)
    decision = ask(obj, checkpoint_of(obj, image={"reference": "stock:1", "injected": True}))
    assert Admission.ENTRYPOINT_UNKNOWN == decision.code
    assert "write the command into the pod template" in decision.message
    assert stamp_of(obj) == notes_of(patched(obj, decision))[keys.ANN_TEMPLATE_HASH]


def test_the_mapped_placeholder_goes_before_injection():
    text = "placeholder: {mode: inject, images: {'stock:1': 'built:1'}}"
    obj = auto_pod(STOCK)
    result = patched(obj, ask(obj, checkpoint_of(obj, image={"reference": "built:1"}), text=text))
    main = result["spec"]["containers"][0]
    assert ("built:1", [keys.STANDBY, "--image-entrypoint", "--"]) == (main["image"], main["command"])
    assert "initContainers" not in result["spec"]


@pytest.mark.parametrize(
    "noted",
    [
        pytest.param({"reference": "stock:1", "injected": False}, id="noted"),
        pytest.param({"reference": "stock:1"}, id="by-an-earlier-release"),
    ],
)
def test_what_was_captured_of_a_placeholder_is_restored_without_tools(noted):
    """Whatever the default is by now: an upgrade changes nothing for the checkpoints that are there."""
    obj = auto_pod(STOCK)
    result = patched(obj, ask(obj, checkpoint_of(obj, image=noted)))
    assert "initContainers" not in result["spec"]
    assert [keys.STANDBY, "--image-entrypoint", "--"] == result["spec"]["containers"][0]["command"]


def test_the_fate_of_the_pod_that_a_manifest_was_copied_from_is_forgotten():
    obj = auto_pod(annotations={keys.ANN_REQUEST: "withdrawn", keys.ANN_GATE: "wait-timeout"})
    for stored in ([], [checkpoint_of(obj)]):
        assert not {keys.ANN_REQUEST, keys.ANN_GATE} & notes_of(patched(obj, ask(obj, *stored))).keys()


class TestWorkersThatSayWhen:
    """Label ``nvidia.com/snapshot-trigger``: until there is an artifact, a pod can be captured while it runs."""

    @staticmethod
    def triggered(**fields):
        obj = auto_pod(**fields)
        obj["metadata"]["labels"][keys.LABEL_TRIGGER] = "true"
        return obj

    @pytest.mark.parametrize(
        "phase",
        [
            pytest.param(None, id="none"),
            pytest.param("Pending", id="pending"),
            pytest.param("Creating", id="creating"),
            pytest.param("Failed", id="failed"),
        ],
    )
    @pytest.mark.parametrize("text", ["", "startupPolicy: WaitForCheckpoint", "automatic: {inject: false}"])
    def test_it_starts_cold_and_can_be_captured(self, phase, text):
        obj = self.triggered()
        stored = [checkpoint_of(obj, phase=phase)] if phase else []
        decision = ask(obj, *stored, text=text)
        result = patched(obj, decision)
        main = result["spec"]["containers"][0]
        assert Admission.CAPTURABLE == decision.code
        assert {
            keys.ANN_ADMISSION: "capturable",
            keys.ANN_TEMPLATE_HASH: stamp_of(obj),
            keys.ANN_CHECKPOINT: name_of(obj),
            keys.ANN_TARGET_CONTAINERS: "main",
        } == notes_of(result)
        assert obj["metadata"]["labels"] == result["metadata"]["labels"]
        assert [keys.STANDBY, "--serve", "--"] == main["command"][:3]
        assert [{"name": keys.ENV_CONTROL_DIR, "value": keys.CONTROL_DIR}] == main["env"][-1:]
        assert keys.CONTROL_VOLUME in {mount["name"] for mount in main["volumeMounts"]}
        assert obj["spec"]["containers"][0].get("startupProbe") == main.get("startupProbe")
        assert "schedulingGates" not in result["spec"]
        again = ask(other_webhook(result), *stored, text=text)
        assert (Admission.CAPTURABLE, ()) == (again.code, again.operations)

    def test_it_is_restored_once_there_is_an_artifact(self):
        obj = self.triggered()
        assert Admission.RESTORE_SHAPED == ask(obj, checkpoint_of(obj)).code

    @pytest.mark.parametrize("phase", [pytest.param(None, id="captured-later"), pytest.param("Ready", id="restored")])
    def test_the_label_alone_is_enough(self, phase):
        said, alone = self.triggered(), self.triggered()
        del alone["metadata"]["labels"][keys.LABEL_RESTORE]
        stored = [checkpoint_of(said, phase=phase)] if phase else []
        result = patched(alone, ask(alone, *stored))
        assert patched(said, ask(said, *stored)) == result
        again = ask(result, *stored)
        assert () == again.operations

    @pytest.mark.parametrize(
        ("expected", "labels", "annotations"),
        [
            pytest.param(Admission.NOT_OPTED_IN, {keys.LABEL_TRIGGER: "yes"}, {}, id="another-value"),
            pytest.param(
                Admission.NOT_OPTED_IN, {keys.LABEL_TRIGGER: "true", keys.LABEL_RESTORE: "no"}, {}, id="opted-out"
            ),
            pytest.param(
                Admission.CHECKPOINT_NAME_MISSING,
                {keys.LABEL_TRIGGER: "true", keys.LABEL_RESTORE: keys.RESTORE_BY_NAME},
                {},
                id="by-name",
            ),
            pytest.param(
                Admission.CHECKPOINT_NAME_MISSING,
                {keys.LABEL_TRIGGER: "true"},
                {keys.ANN_RESTORE_CANDIDATE: "true"},
                id="of-a-graph",
            ),
            pytest.param(
                Admission.ALREADY_SHAPED,
                {keys.LABEL_TRIGGER: "true", keys.LABEL_IS_SOURCE: "true"},
                {},
                id="of-a-capture-job",
            ),
        ],
    )
    def test_beside_other_words_it_is_not(self, expected, labels, annotations):
        obj = pod(labels={"app": "web"} | labels, annotations=annotations)
        decision = ask(obj)
        assert expected == decision.code
        assert labels.get(keys.LABEL_RESTORE) == patched(obj, decision)["metadata"]["labels"].get(keys.LABEL_RESTORE)

    def test_why_it_is_refused_is_on_the_pod(self):
        obj = self.triggered()
        del obj["metadata"]["labels"][keys.LABEL_RESTORE]
        obj["spec"]["hostPID"] = True
        result = patched(obj, ask(obj))
        assert ("pod-unsupported", "auto") == (
            notes_of(result)[keys.ANN_ADMISSION],
            result["metadata"]["labels"][keys.LABEL_RESTORE],
        )

    def test_it_needs_no_probe(self):
        obj = self.triggered()
        obj["spec"]["containers"][0].pop("readinessProbe", None)
        assert Admission.CAPTURABLE == ask(obj).code

    @pytest.mark.parametrize(
        ("code", "change", "text"),
        [
            pytest.param(
                Admission.CHECKPOINT_REQUESTED,
                lambda _: None,
                "storage: {accessMode: podMount}",
                id="volume-in-the-pod",
            ),
            pytest.param(
                Admission.POD_UNSUPPORTED, lambda obj: obj["spec"].update(hostPID=True), "", id="pod-unsupported"
            ),
            pytest.param(
                Admission.ENTRYPOINT_UNKNOWN,
                lambda obj: obj["spec"]["containers"][0].pop("command"),
                "",
                id="command-of-a-stock-image",
            ),
            pytest.param(
                Admission.POD_UNSUPPORTED,
                lambda obj: obj["spec"]["containers"][0].update(
                    volumeMounts=[{"name": "own", "mountPath": keys.CONTROL_DIR}]
                ),
                "",
                id="mount-taken",
            ),
        ],
    )
    def test_what_cannot_be_shaped_starts_as_it_came(self, code, change, text):
        obj = self.triggered()
        change(obj)
        decision = ask(obj, text=text)
        assert code == decision.code
        assert obj["spec"] == patched(obj, decision)["spec"]
