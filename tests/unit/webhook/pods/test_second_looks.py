"""Asked again about a mutated pod: what another webhook made of it is judged, and the shape taken back."""

import json
from random import Random

import jsonpatch
import pytest

from contract.api import keys
from contract.api.states import Admission
from contract.config.values import load_values
from contract.pods.unshape import unshaped
from tests.support.builders.objects import IMAGE, checkpoint, container, copied, graph_pod, opted_in, ready, request
from tests.support.builders.pods import auto_pod, checkpoint_of, random_pod, worker
from webhook.decide import decide

VALUES = load_values("")
SHAPED = (Admission.RESTORE_SHAPED, Admission.HELD)
ENTITY = {"name": "DD_ENTITY_ID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}
WAIT = {keys.ANN_STARTUP_POLICY: "WaitForCheckpoint"}
LIVE = {"httpGet": {"path": "/live", "port": 8000}}


def ask(obj, *stored, values=VALUES, **fields):
    found = {each["metadata"]["name"]: each for each in stored}
    return decide(request(obj, **fields), lambda _, name: found.get(name), values)


def patched(obj, decision):
    return jsonpatch.JsonPatch(copied(decision.operations)).apply(copied(obj))


def mutated(obj, *stored, values=VALUES):
    decision = ask(obj, *stored, values=values)
    assert decision.code in SHAPED
    return patched(obj, decision)


def with_entity(obj):
    changed = copied(obj)
    changed["spec"]["containers"][0].setdefault("env", []).append(ENTITY)
    return changed


def with_host_network(obj):
    return {**obj, "spec": {**obj["spec"], "hostNetwork": True}}


def for_windows(obj):
    return {**obj, "spec": {**obj["spec"], "nodeSelector": {"kubernetes.io/os": "windows"}}}


def in_a_sandbox(obj):
    return {**obj, "spec": {**obj["spec"], "runtimeClassName": "gvisor"}}


RICH = auto_pod(
    worker(
        startupProbe=LIVE,
        livenessProbe=LIVE,
        env=[{"name": "A", "value": "1"}],
        volumeMounts=[{"name": "cache", "mountPath": "/cache"}],
    ),
    container("beside"),
    volumes=[{"name": "cache", "emptyDir": {}}],
    securityContext={"runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
    affinity={"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}, "podAffinity": {}},
    annotations={keys.ANN_TARGET_CONTAINERS: "main", "mine": "1"},
    schedulingGates=[{"name": "example.com/quota"}],
)


@pytest.mark.parametrize(
    ("code", "change"),
    [
        pytest.param(Admission.PER_POD_IDENTITY, with_entity, id="identity"),
        pytest.param(Admission.POD_UNSUPPORTED, with_host_network, id="network-of-the-node"),
        pytest.param(Admission.OS_UNSUPPORTED, for_windows, id="another-system"),
        pytest.param(Admission.POD_UNSUPPORTED, in_a_sandbox, id="sandbox"),
    ],
)
@pytest.mark.parametrize("phase", ["Ready", "Creating", None])
def test_what_another_webhook_did_is_judged_whatever_the_first_look_did(code, change, phase):
    obj = copied(RICH)
    obj["metadata"]["annotations"] |= {} if phase == "Ready" else WAIT
    stored = [checkpoint_of(obj, phase=phase)] if phase else []
    again = ask(change(mutated(obj, *stored)), *stored)
    result = patched(change(mutated(obj, *stored)), again)

    assert code == again.code
    assert change(RICH)["spec"] | {"affinity": {"podAffinity": {}}} == result["spec"]
    assert RICH["metadata"]["labels"] == result["metadata"]["labels"]
    noted = {keys.ANN_TARGET_CONTAINERS: "main", "mine": "1", keys.ANN_ADMISSION: code.value}
    assert noted == result["metadata"]["annotations"]
    (warning,) = again.warnings
    assert "another webhook has changed the pod" in warning
    assert ask(result, *stored).code == code
    assert () == ask(result, *stored).operations


def test_by_name_the_request_comes_back():
    again = ask(with_host_network(mutated(opted_in(), ready())), ready())
    notes = patched(with_host_network(mutated(opted_in(), ready())), again)["metadata"]["annotations"]

    assert "qwen" == notes[keys.ANN_CHECKPOINT_NAME]
    assert keys.ANN_RESTORE_CANDIDATE not in notes


def test_of_a_graph_the_request_comes_back():
    changed = with_host_network(mutated(graph_pod(), ready()))
    notes = patched(changed, ask(changed, ready()))["metadata"]["annotations"]

    assert {keys.ANN_CHECKPOINT_NAME: "qwen", keys.ANN_RESTORE_CANDIDATE: "true"}.items() <= notes.items()


def test_by_name_an_identity_is_the_owners_own_business():
    again = ask(with_entity(mutated(opted_in(), ready())), ready())

    assert (Admission.ALREADY_SHAPED, ()) == (again.code, again.operations)


def test_a_worker_that_renews_its_identity_stays_as_it_is():
    obj = auto_pod(annotations={keys.ANN_IDENTITY: keys.IDENTITY_REFRESHED})
    again = ask(with_entity(mutated(obj, checkpoint_of(obj))), checkpoint_of(obj))

    assert (Admission.ALREADY_SHAPED, ()) == (again.code, again.operations)


def test_a_manifest_copied_from_a_mutated_pod_is_nobodys_second_look():
    """The client sent the labels itself, so there is no shape of this admission to take back."""
    changed = with_entity(mutated(RICH, checkpoint_of(RICH)))
    fields = {"f:metadata": {"f:annotations": {f"f:{keys.ANN_ADMISSION}": {}}}}
    changed["metadata"]["managedFields"] = [{"manager": "kubectl", "fieldsV1": fields}]
    again = ask(changed, checkpoint_of(RICH))

    assert (Admission.ALREADY_SHAPED, ()) == (again.code, again.operations)


@pytest.mark.parametrize(
    "note",
    [
        "{",
        "[]",
        "[" * 20_000,
        '{"startupProbes": [], "volumes": {}, "seccompProfile": 1}',
        '{"startupProbes": {"main": 1}}',
    ],
    ids=["no-json", "a-list", "deep", "other-types", "no-probe"],
)
def test_a_bad_note_is_no_note(note):
    changed = mutated(RICH, checkpoint_of(RICH))
    changed["metadata"]["annotations"][keys.ANN_REPLACED] = note
    result = unshaped(changed)

    assert "startupProbe" not in result["spec"]["containers"][0]
    assert {"runAsUser": 1000} == result["spec"]["securityContext"]


def test_only_what_cannot_be_worked_out_is_noted():
    plain = mutated(opted_in(), ready())["metadata"]["annotations"]
    noted = json.loads(mutated(RICH, checkpoint_of(RICH))["metadata"]["annotations"][keys.ANN_REPLACED])

    assert keys.ANN_REPLACED not in plain
    assert {"startupProbes": {"main": LIVE}, "seccompProfile": {"type": "RuntimeDefault"}} == noted


def plain(value):
    """Without what says no more than its absence, and what of ours a pod had before."""
    if isinstance(value, dict):
        found = {key: plain(item) for key, item in value.items()}
        return {key: item for key, item in found.items() if item not in ({}, [], None)}
    return [plain(item) for item in value] if isinstance(value, list) else value


def own(spec):
    """The spec as it came, less the environment of our names, which is replaced, and added pull secrets."""
    spec = copied(spec)
    spec.pop("imagePullSecrets", None)
    for each in spec["containers"]:
        env = each.get("env") or ()
        each["env"] = [entry for entry in env if not entry["name"].startswith(("DYN_SNAPSHOT_", "DYN_CHECKPOINT_"))]
    return plain(spec)


def test_whatever_was_mutated_comes_back_as_it_was():
    assert 150 < sum(map(comes_back, range(300)))


def comes_back(seed):
    """Check one pod; says whether it was mutated at all."""
    obj = random_pod(Random(seed))
    # A command: of a stock image without one, what the image runs is written out, which means the same.
    obj["spec"]["containers"] = [each | {"command": each.get("command") or ["x"]} for each in obj["spec"]["containers"]]
    stored = [ready(), checkpoint_of(obj)]
    decision = ask(obj, *stored)
    if decision.code not in SHAPED:
        return False
    assert own(obj["spec"]) == own(unshaped(patched(obj, decision))["spec"])
    return True


def test_the_image_comes_back():
    obj = opted_in(container(image="other:1"), annotations={keys.ANN_IMAGE_POLICY: keys.IMAGE_POLICY_CHECKPOINT})
    changed = mutated(obj, ready(status=ready()["status"] | {"image": {"reference": IMAGE}}))

    assert IMAGE == changed["spec"]["containers"][0]["image"]
    assert "other:1" == unshaped(changed)["spec"]["containers"][0]["image"]


def test_an_images_own_command_is_absent_again():
    obj = opted_in({"name": "main", "image": IMAGE, "args": ["serve"]})
    made = ready(pod_template={"spec": copied(obj["spec"])})
    changed = mutated(obj, made)

    assert "--image-entrypoint" in changed["spec"]["containers"][0]["command"]
    assert obj["spec"]["containers"] == unshaped(changed)["spec"]["containers"]


def test_a_checkpoint_that_changed_meanwhile_is_no_reason():
    """What the pod alone does not decide was decided at the first look."""
    changed = mutated(opted_in(), ready())

    assert Admission.ALREADY_SHAPED == ask(changed, checkpoint(status={"phase": "Failed"})).code
