"""Which parked pods of a checkpoint with ``spec.parked`` are woken, and that they are."""

import pytest

from contract.api import keys
from controller.workloads.auto_checkpoint import Workload, automatic_checkpoint
from controller.workloads.spares.policy import face, to_wake
from tests.support.builders.opted_in import DEPLOYED, ago, deleting, pod, ready, whole
from tests.unit.controller.workloads.test_dispatcher import Scene

STATUS = keys.ANN_RESTORE_STATUS_PREFIX + "main"
OTHER = DEPLOYED | {"name": "web-8e0d", "uid": "rs-uid-2"}


def built(name, status="", *, woken=0, is_ready=None, age=60, owner=DEPLOYED, spare=True, phase="Running"):
    """Build a pod; *woken* and *is_ready* are seconds ago, the latter negative if it became unready then."""
    notes = {keys.ANN_SPARE: "true"} if spare else {keys.ANN_STANDBY: keys.STANDBY_PARKS}
    notes |= {STATUS: status} if status else {}
    notes |= {keys.ANN_WAKE: ago(woken)} if woken else {}
    found = whole("restore-shaped", name, age=age, owner=owner, notes=notes)
    found["status"]["phase"] = phase
    if is_ready is not None:
        ready_word = "True" if is_ready >= 0 else "False"
        found["status"]["conditions"] = [
            {"type": "Ready", "status": ready_word, "lastTransitionTime": ago(abs(is_ready))}
        ]
    return found


def running(name, **parts):
    return built(name, "completed", **({"woken": 50, "is_ready": 40} | parts))


def woken(pods, parked):
    return [found["metadata"]["name"] for found in to_wake(pods, parked)]


@pytest.mark.parametrize(
    ("expected", "pods", "parked"),
    [
        pytest.param(["old"], [built("new", age=1), built("old", age=9)], 1, id="the oldest of a new workload"),
        pytest.param(["a", "b"], [built("a", age=3), built("b", age=2), built("c", age=1)], 1, id="all but one"),
        pytest.param([], [running("a"), built("b", "parked")], 1, id="enough run"),
        pytest.param(["b"], [running("a"), built("b", "parked"), built("c", "parked", age=1)], 1, id="scaled up"),
        pytest.param(["b"], [built("a", age=90), built("b", "parked")], 1, id="a parked one is sooner there"),
        pytest.param(["b"], [deleting(running("a")), built("b", "parked")], 1, id="the last one is being deleted"),
        pytest.param(["b"], [running("a", phase="Failed"), built("b", "parked")], 1, id="the last one has ended"),
        pytest.param(["b"], [running("a", is_ready=-5), built("b", "parked")], 1, id="the last one is not ready now"),
        pytest.param([], [running("a", is_ready=-55), built("b", "parked")], 1, id="it is not ready yet"),
        pytest.param([], [running("a", is_ready=None), built("b", "parked")], 1, id="nothing is known of it yet"),
        pytest.param(
            [],
            [running("a", is_ready=-5), running("b"), built("c", "parked")],
            1,
            id="another still serves",
        ),
        pytest.param([], [built("a", "failed"), built("b", "parked")], 1, id="one that started cold runs too"),
        pytest.param(["a"], [built("a", "parked"), built("b", "parked")], 7, id="at least one runs"),
        pytest.param(["b"], [running("a"), built("b", "parked")], 0, id="none is to stay parked"),
        pytest.param(
            ["a", "b"],
            [built("a", "parked", age=2), built("b", "parked", owner=OTHER)],
            1,
            id="each workload has its own",
        ),
        pytest.param([], [built("a", "parked", spare=False)], 0, id="parked by its own annotation"),
        pytest.param(["a"], [built("a", "parked", owner=None), built("b", "parked", owner=None)], 1, id="no owner"),
    ],
)
def test_who_is_woken(expected, pods, parked):
    assert expected == sorted(woken(pods, parked))


def test_what_is_remembered_of_a_pod_is_enough():
    """The informer keeps a part of each."""
    kept = pod("restore-shaped", notes={keys.ANN_SPARE: "true"})
    whole_pod = running("a")

    assert face(kept) != face(whole_pod)
    assert [] == woken([whole_pod, built("b", "parked")], 1)


def test_the_pods_are_patched_as_they_were_seen_and_it_is_said():
    found = [running("a"), built("b", "parked"), built("c", "parked", age=1)]
    checkpoint = ready()
    checkpoint["spec"]["parked"] = 1
    server = Scene(*found, checkpoint=checkpoint).run()

    patches = [(name, body) for kind, name, body, _ in server.patched if kind == "Pod"]
    assert [("b", "7")] == [(name, body["metadata"]["resourceVersion"]) for name, body in patches]
    assert patches[0][1]["metadata"]["annotations"][keys.ANN_WAKE]
    assert ("Pod", "ParkedWorkerWoken") in server.events()


def test_nothing_is_woken_that_could_not_be_restored():
    checkpoint = deleting(ready())
    checkpoint["spec"]["parked"] = 1

    assert [] == Scene(built("b", "parked"), checkpoint=checkpoint).run().patched


def test_a_pod_that_is_no_longer_ready_is_noticed():
    found = [running("a"), built("b", "parked")]
    checkpoint = ready()
    checkpoint["spec"]["parked"] = 1

    def turn(scene):
        scene.informers.labelled.learn(pod_changed(running("a", is_ready=-5)))

    server = Scene(*found, checkpoint=checkpoint).run(turn)
    assert ["b"] == [name for kind, name, _, _ in server.patched if kind == "Pod"]


def pod_changed(found):
    found["metadata"]["resourceVersion"] = "8"
    return found


@pytest.mark.parametrize(
    ("expected", "notes"),
    [pytest.param(2, {keys.ANN_PARKED: "2"}, id="said"), pytest.param(None, {}, id="not said")],
)
def test_an_automatic_checkpoint_takes_it_from_the_template(expected, notes):
    asking = whole(notes=notes)
    made = automatic_checkpoint(asking, Workload("Deployment/web", asking))

    assert expected == made["spec"].get("parked")
