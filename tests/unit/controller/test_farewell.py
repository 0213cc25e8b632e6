import pytest

from contract import keys
from controller.farewell import ATTEMPTS, release_all
from kube.errors import ConflictError, NotFoundError
from kube.seam import Listing


def a_checkpoint(name, *finalizers):
    return {"metadata": {"name": name, "namespace": "ns", "resourceVersion": "1", "finalizers": list(finalizers)}}


class FakeKube:
    """Checkpoints behind the seam; *errors* are raised by the next patches."""

    def __init__(self, *checkpoints, errors=()):
        self.stored = {each["metadata"]["name"]: each for each in checkpoints}
        self.errors = list(errors)
        self.asked = "nothing"

    async def list(self, _resource, namespace=None):
        self.asked = namespace
        return Listing(tuple(self.stored.values()), "1")

    async def get(self, _resource, name, _namespace):
        return self.stored[name]

    async def patch(self, _resource, name, body, _namespace):
        if self.errors:
            raise self.errors.pop(0)
        self.stored[name]["metadata"] |= body["metadata"]
        return self.stored[name]


CONFLICT = ConflictError(409, "Conflict", "modified")
GONE = NotFoundError(404, "NotFound", "gone")


async def test_only_our_finalizer_goes():
    kube = FakeKube(a_checkpoint("a", keys.FINALIZER, "other/one"), a_checkpoint("b", "other/one"), a_checkpoint("c"))

    assert 1 == await release_all(kube, "ns")
    assert "ns" == kube.asked
    assert [["other/one"], ["other/one"], []] == [each["metadata"]["finalizers"] for each in kube.stored.values()]


@pytest.mark.parametrize(
    ("left", "errors"),
    [
        pytest.param([], [CONFLICT], id="lost-race"),
        pytest.param([keys.FINALIZER], [GONE], id="gone-meanwhile"),
    ],
)
async def test_a_checkpoint_that_changes_or_goes_meanwhile_is_no_trouble(left, errors):
    kube = FakeKube(a_checkpoint("a", keys.FINALIZER), errors=errors)

    assert 1 == await release_all(kube, None)
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
