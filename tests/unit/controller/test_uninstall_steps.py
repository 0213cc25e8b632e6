import pytest

from contract.api import keys
from controller.uninstall import ATTEMPTS, HELD, open_all, release_all, uninstall
from kube.api import Listing, PatchKind
from kube.errors import ConflictError, ForbiddenError, NotFoundError


def a_checkpoint(name, *finalizers):
    return {"metadata": {"name": name, "namespace": "ns", "resourceVersion": "1", "finalizers": list(finalizers)}}


class FakeKube:
    """Objects behind the seam; *errors* are raised by the next patches."""

    def __init__(self, *checkpoints, errors=()):
        self.stored = {each["metadata"]["name"]: each for each in checkpoints}
        self.errors = list(errors)
        self.asked = self.labels = "nothing"
        self.patched = []

    async def list(self, _resource, namespace=None, *, labels=""):
        self.asked, self.labels = namespace, labels
        return Listing(tuple(self.stored.values()), "1")

    async def patch(self, _resource, name, body, _namespace, *, kind):
        if self.errors:
            raise self.errors.pop(0)
        self.stored[name]["metadata"] |= body["metadata"]
        self.patched.append((name, body.get("spec"), kind))
        return self.stored[name]


CONFLICT = ConflictError(409, "Conflict", "modified")
GONE = NotFoundError(404, "NotFound", "gone")
DENIED = ForbiddenError(403, "Forbidden", "policy x: no")


async def test_only_our_finalizer_goes():
    kube = FakeKube(a_checkpoint("a", keys.FINALIZER, "other/one"), a_checkpoint("b", "other/one"), a_checkpoint("c"))

    assert 1 == await release_all(kube, "ns")
    assert "ns" == kube.asked
    assert [["other/one"], ["other/one"], []] == [each["metadata"]["finalizers"] for each in kube.stored.values()]


@pytest.mark.parametrize(
    ("count", "left", "errors"),
    [
        pytest.param(1, [], [CONFLICT], id="lost-race"),
        pytest.param(0, [keys.FINALIZER], [GONE], id="gone-meanwhile"),
    ],
)
async def test_a_checkpoint_that_changes_or_goes_meanwhile_is_no_trouble(count, left, errors):
    kube = FakeKube(a_checkpoint("a", keys.FINALIZER), errors=errors)

    assert count == await release_all(kube, None)
    assert left == kube.stored["a"]["metadata"]["finalizers"]


async def test_a_checkpoint_that_changes_all_the_time_is_reported():
    kube = FakeKube(a_checkpoint("a", keys.FINALIZER), errors=[CONFLICT] * ATTEMPTS)

    with pytest.raises(ConflictError, match="ns/a changes all the time"):
        await release_all(kube, None)


async def test_without_the_crd_there_is_nothing_to_do(monkeypatch):
    kube = FakeKube()

    async def no_such_kind(*_, **__):
        raise GONE

    monkeypatch.setattr(kube, "list", no_such_kind)
    assert 0 == await release_all(kube, None)


def a_pod(name, *gates, **annotations):
    metadata = {"name": name, "namespace": "ns", "resourceVersion": "1", "annotations": annotations}
    return {"metadata": metadata, "spec": {"schedulingGates": [{"name": gate} for gate in gates]}}


async def test_held_pods_are_let_go_and_say_why():
    kube = FakeKube(
        a_pod("held", keys.SCHEDULING_GATE, "other/gate"),
        a_pod("free"),
        a_pod("of-others", "other/gate"),
        a_pod("required", keys.SCHEDULING_GATE, **{keys.ANN_POLICY: keys.POLICY_REQUIRE}),
    )

    assert 1 == await open_all(kube, "ns")
    assert HELD == kube.labels
    gates = [{"$patch": "delete", "name": keys.SCHEDULING_GATE}]
    assert [("held", {"schedulingGates": gates}, PatchKind.STRATEGIC)] == kube.patched
    assert "uninstalled" == kube.stored["held"]["metadata"]["annotations"][keys.ANN_GATE]


async def test_what_a_policy_keeps_does_not_keep_the_others():
    """All that may go goes, the checkpoints too; what stays is named, with what to do."""
    kube = FakeKube(a_pod("a", keys.SCHEDULING_GATE), a_pod("b", keys.SCHEDULING_GATE), errors=[DENIED])
    kube.stored["c"] = a_checkpoint("c", keys.FINALIZER)

    with pytest.raises(ForbiddenError, match=r"Pod ns/a may not be let go: policy x: no; .* gate .* by hand"):
        await uninstall(kube, "ns")
    assert ["b", "c"] == [name for name, *_ in kube.patched]


async def test_both_are_counted():
    kube = FakeKube(a_pod("a", keys.SCHEDULING_GATE), a_checkpoint("c", keys.FINALIZER))

    assert (1, 1) == await uninstall(kube, "ns")
