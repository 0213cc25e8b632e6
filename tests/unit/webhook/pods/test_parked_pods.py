"""Pods whose worker is parked once it is restored: what they get at admission, and which are refused."""

import jsonpatch
import pytest

from contract.api import keys
from contract.api.states import Admission
from contract.config.values import load_values
from contract.pods.parking import parking_containers
from contract.pods.unshape import unshaped
from tests.support.builders.objects import checkpoint, container, copied, opted_in, pod, ready, request
from webhook.decide import decide

PARK = {keys.ANN_STANDBY: keys.STANDBY_PARKS}
GPU = "nvidia.com/gpu"


def parked(*containers, **parts):
    return opted_in(*containers, annotations=PARK | parts.pop("annotations", {}), **parts)


def ask(obj, *stored):
    found = {each["metadata"]["name"]: each for each in stored}
    return decide(request(obj), lambda _, name: found.get(name), load_values(""))


def shaped(obj, *stored):
    decision = ask(obj, *(stored or (ready(),)))
    assert Admission.RESTORE_SHAPED == decision.code, decision.message
    return jsonpatch.JsonPatch(copied(decision.operations)).apply(copied(obj))


def test_it_restores_and_its_standby_may_keep_the_worker_stopped():
    found = shaped(parked())
    main = found["spec"]["containers"][0]

    assert ("main",) == parking_containers(found)
    assert [keys.STANDBY, keys.STANDBY_PARK, "--", "python3", "-m", "worker"] == main["command"]
    assert keys.ENV_STANDBY_ID in {each["name"] for each in main["env"]}
    assert "qwen" == found["metadata"]["annotations"][keys.ANN_CHECKPOINT]
    assert found["metadata"]["labels"][keys.LABEL_CHECKPOINT_ID]


def test_its_startup_probe_waits_without_a_limit():
    probe = shaped(parked(container(readinessProbe={"httpGet": {"path": "/", "port": 80}})))
    probe = probe["spec"]["containers"][0]["startupProbe"]

    assert [keys.STANDBY, "--gate"] == probe["exec"]["command"][:2]
    assert 2**31 - 1 == probe["failureThreshold"]


def test_what_woke_another_pod_is_taken_off():
    found = shaped(parked(annotations={keys.ANN_WAKE: "now"}))

    assert keys.ANN_WAKE not in found["metadata"]["annotations"]


def test_a_command_that_is_standbys_already_parks_too():
    """A manifest copied from a pod that was made to restore at its start."""
    copy = container(command=[keys.STANDBY, "--", "python3"])

    assert [keys.STANDBY, keys.STANDBY_PARK, "--", "python3"] == shaped(parked(copy))["spec"]["containers"][0][
        "command"
    ]


def test_without_a_checkpoint_it_starts_cold():
    assert Admission.CHECKPOINT_NOT_READY == ask(parked(), checkpoint()).code


def test_asked_again_it_is_left_as_it_is():
    again = ask(shaped(parked()), ready())

    assert (Admission.ALREADY_SHAPED, ()) == (again.code, again.operations)


def test_the_shape_leaves_nothing_behind():
    before = parked()

    assert before["spec"]["containers"] == unshaped(shaped(before))["spec"]["containers"]


def test_a_pod_that_does_not_ask_for_it_is_not_parked():
    assert () == parking_containers(shaped(opted_in()))


def with_parked(number):
    found = ready()
    found["spec"]["parked"] = number
    return found


def test_a_checkpoint_has_all_of_its_pods_parked():
    found = shaped(opted_in(), with_parked(1))

    assert ("main",) == parking_containers(found)
    assert "true" == found["metadata"]["annotations"][keys.ANN_SPARE]
    assert keys.ANN_SPARE not in unshaped(found)["metadata"]["annotations"]


@pytest.mark.parametrize(
    ("expected", "obj", "number"),
    [
        pytest.param((), opted_in(), 0, id="none is to stay parked"),
        pytest.param(("main",), parked(), 1, id="by its own annotation"),
        pytest.param((), opted_in(annotations={keys.ANN_SPARE: "true"}), 0, id="copied from a pod that was"),
    ],
)
def test_a_pod_that_is_not_its_checkpoints_spare(expected, obj, number):
    found = shaped(obj, with_parked(number))

    assert expected == parking_containers(found)
    assert keys.ANN_SPARE not in found["metadata"]["annotations"]


def test_an_automatic_pod_shares_its_checkpoint_with_those_that_are_not_parked():
    labels = {keys.LABEL_RESTORE: keys.RESTORE_AUTO}
    worker = container(readinessProbe={"tcpSocket": {"port": 80}})
    stamps = []
    for notes in ({}, PARK):
        decision = ask(pod(worker, labels=labels, annotations=notes))
        assert Admission.CHECKPOINT_REQUESTED == decision.code
        made = jsonpatch.JsonPatch(copied(decision.operations)).apply(
            copied(pod(worker, labels=labels, annotations=notes))
        )
        stamps.append(made["metadata"]["annotations"][keys.ANN_TEMPLATE_HASH])

    assert stamps[0] == stamps[1]


@pytest.mark.parametrize(
    ("expected", "resources", "spec"),
    [
        pytest.param(Admission.PARKED_EXCLUSIVE_GPU, {"limits": {GPU: 1}}, {}, id="a whole GPU"),
        pytest.param(Admission.PARKED_EXCLUSIVE_GPU, {"requests": {GPU: "2"}}, {}, id="two, in requests"),
        pytest.param(
            Admission.PARKED_EXCLUSIVE_GPU,
            {"limits": {GPU: 1}},
            {"nodeSelector": {"nvidia.com/gpu.sharing-strategy": "none"}},
            id="nodes that share none",
        ),
        pytest.param(
            Admission.RESTORE_SHAPED,
            {"limits": {GPU: 1}},
            {"nodeSelector": {"nvidia.com/gpu.sharing-strategy": "time-slicing"}},
            id="nodes with time slices",
        ),
        pytest.param(Admission.RESTORE_SHAPED, {"limits": {GPU + ".shared": 1}}, {}, id="a named time slice"),
        pytest.param(Admission.RESTORE_SHAPED, {"limits": {GPU: 0}}, {}, id="none"),
        pytest.param(
            Admission.RESTORE_SHAPED,
            {"claims": [{"name": "gpu"}]},
            {"resourceClaims": [{"name": "gpu", "resourceClaimName": "shared"}]},
            id="a claim that pods share",
        ),
    ],
)
def test_a_whole_gpu_is_not_kept_idle(expected, resources, spec):
    decision = ask(parked(container(resources=resources), **spec), ready())

    assert expected == decision.code
    if expected == Admission.PARKED_EXCLUSIVE_GPU:
        assert "would keep a whole GPU" in decision.message
