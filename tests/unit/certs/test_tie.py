import pytest

from certs.namespace_owner import own_by_namespace
from kube.errors import ConflictError, NotFoundError

OWNER = {"apiVersion": "v1", "kind": "Namespace", "name": "ns", "uid": "u"}
OTHER = {"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "v"}


class FakeKube:
    def __init__(self, *owners, error=None):
        self.objects = {
            "snap-ns": {"metadata": {"name": "snap-ns", "resourceVersion": "1", "ownerReferences": list(owners)}},
            "ns": {"metadata": {"name": "ns", "uid": "u"}},
        }
        self.error, self.bodies = error, []

    async def get(self, _resource, name, _namespace=None):
        if name not in self.objects:
            raise NotFoundError(404, "NotFound", name)
        return self.objects[name]

    async def patch(self, _resource, _name, body, *, field_manager):
        assert "snapshot-controller" == field_manager
        if self.error:
            raise self.error
        self.bodies.append(body["metadata"])


@pytest.mark.parametrize(
    ("expected", "owners"),
    [
        pytest.param([[OWNER]], (), id="new"),
        pytest.param([[OTHER, OWNER]], (OTHER,), id="besides-others"),
        pytest.param([], (OWNER,), id="tied"),
    ],
)
async def test_the_namespace_becomes_an_owner_once(expected, owners):
    kube = FakeKube(*owners)
    await own_by_namespace(kube, "snap-ns", "ns")

    assert expected == [body["ownerReferences"] for body in kube.bodies]


async def test_what_cannot_be_tied_stays_as_it_is():
    kube = FakeKube(error=ConflictError(409, "Conflict", "modified"))
    await own_by_namespace(kube, "snap-ns", "ns")
    del kube.objects["ns"]
    await own_by_namespace(kube, "snap-ns", "ns")

    assert [] == kube.bodies
