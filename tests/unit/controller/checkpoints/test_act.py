# ruff: noqa: ARG002 - a fake takes what the seam gives
"""Each action is idempotent, and a refusal is told apart from a failure."""

import pytest

from contract.api import keys
from controller.checkpoints.act import Actor
from controller.checkpoints.actions import (
    CheckJob,
    CreateClaim,
    CreateJob,
    DeleteJob,
    SetAnnotations,
    SetDeadline,
    SetFinalizer,
    SetLabel,
)
from controller.checkpoints.observed import Refused
from kube.errors import (
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    ServerUnavailableError,
)
from kube.resources import CHECKPOINTS, JOBS
from tests.support.builders.checkpoints import claim, job, labelled, status_of

TAKEN = AlreadyExistsError(409, "AlreadyExists", "there")
ENDING = ForbiddenError(403, "Forbidden", "unable to create new content in namespace ns because it is being terminated")
QUOTA = ForbiddenError(403, "Forbidden", "exceeded quota")
INVALID = InvalidError(422, "Invalid", "spec.template: no")


class Server:
    """Answers writes with what it is given, and remembers them."""

    def __init__(self, *, error=None, there=None):
        self.error, self.there, self.calls, self.version = error, there, [], 100

    async def create(self, resource, body, namespace=None, *, dry_run=False):
        self.calls.append(("create", resource.plural, dry_run))
        if self.error:
            raise self.error
        return body

    async def get(self, resource, name, namespace=None):
        return self.there

    async def patch(self, resource, name, body, namespace=None, **options):
        self.calls.append(("patch", resource.plural, options.get("subresource", ""), body))
        if self.error:
            raise self.error
        self.version += 1
        return {"metadata": {"name": name, "namespace": namespace, "resourceVersion": str(self.version)}}

    async def delete(self, resource, name, namespace=None, **options):
        self.calls.append(("delete", resource.plural, options["uid"]))
        if self.error:
            raise self.error


async def act(*actions, obj=None, **server):
    kube, learned = Server(**server), []
    actor = Actor(kube, lambda resource, made: learned.append((resource, made)))
    checkpoint, refusal = await actor.act(obj or stored(), actions)
    return kube, learned, checkpoint, refusal


def stored():
    obj = labelled(status=status_of("Pending", message="old"))
    obj["metadata"]["resourceVersion"] = "7"
    return obj


@pytest.mark.parametrize(
    ("action", "error", "there", "how"),
    [
        pytest.param(CreateJob(job()), None, None, None, id="job-created"),
        pytest.param(CreateJob(job()), TAKEN, job(), None, id="job-there-and-ours"),
        pytest.param(CreateJob(job()), TAKEN, job(owner="another"), Refused.NOT_OURS, id="job-of-another"),
        pytest.param(CreateJob(job()), INVALID, None, Refused.INVALID, id="job-invalid"),
        pytest.param(CreateJob(job()), QUOTA, None, Refused.FORBIDDEN, id="job-forbidden"),
        pytest.param(CreateJob(job()), ENDING, None, Refused.NAMESPACE_ENDING, id="namespace-ending"),
        pytest.param(CheckJob(job()), None, None, None, id="job-checked"),
        pytest.param(CheckJob(job()), INVALID, None, Refused.INVALID, id="job-checked-invalid"),
        pytest.param(CheckJob(job()), TAKEN, job(owner="another"), None, id="job-checked-name-taken"),
        pytest.param(CreateClaim(claim()), None, None, None, id="claim-created"),
        pytest.param(CreateClaim(claim()), TAKEN, None, None, id="claim-there"),
        pytest.param(CreateClaim(claim()), QUOTA, None, Refused.FORBIDDEN, id="claim-forbidden"),
    ],
)
async def test_creating(action, error, there, how):
    _, _, _, refusal = await act(action, error=error, there=there)

    assert how == (refusal.how if refusal else None)


async def test_a_refusal_stops_the_rest_and_keeps_the_servers_words():
    kube, _, _, refusal = await act(CheckJob(job()), CreateClaim(claim()), CreateJob(job()), error=INVALID)

    assert ("Job", "spec.template: no") == (refusal.kind, refusal.message)
    assert [("create", "jobs", True)] == kube.calls


async def test_a_server_in_trouble_is_no_refusal():
    with pytest.raises(ServerUnavailableError):
        await act(CreateJob(job()), error=ServerUnavailableError("503"))


async def test_what_was_created_is_learned_and_a_check_is_not():
    _, learned, _, _ = await act(CheckJob(job()), CreateJob(job()))

    assert [JOBS] == [resource for resource, _ in learned]


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(None, id="there"),
        pytest.param(NotFoundError(404, "NotFound", "gone"), id="gone"),
        pytest.param(ConflictError(409, "Conflict", "uid"), id="another-by-now"),
    ],
)
async def test_deleting_is_done_however_it_is_found(error):
    kube, _, _, refusal = await act(DeleteJob(job()), error=error)

    assert refusal is None
    assert [("delete", "jobs", "job-uid")] == kube.calls


async def test_a_deadline_that_cannot_be_moved_fails_nothing(caplog):
    _, _, _, refusal = await act(SetDeadline(job(), 10), error=INVALID)

    assert refusal is None
    assert "not extended" in caplog.text


@pytest.mark.parametrize(
    ("present", "before", "after"),
    [
        pytest.param(True, ["a/b"], ["a/b", keys.FINALIZER], id="added"),
        pytest.param(True, [keys.FINALIZER], [keys.FINALIZER], id="there-already"),
        pytest.param(False, ["a/b", keys.FINALIZER], ["a/b"], id="removed"),
    ],
)
async def test_the_finalizer_leaves_others_alone_and_is_guarded(present, before, after):
    obj = stored()
    obj["metadata"]["finalizers"] = before
    kube, _, _, _ = await act(SetFinalizer(present=present), obj=obj)

    assert {"resourceVersion": "7", "finalizers": after} == kube.calls[0][3]["metadata"]


async def test_writes_build_on_each_other():
    """The status is written for the version that the label's write made."""
    kube = Server()
    actor = Actor(kube, lambda *_: None)
    checkpoint, _ = await actor.act(stored(), [SetLabel("k", "v")])
    await actor.write_status(checkpoint, {"phase": "Pending", "message": "old"}, {"phase": "Creating"})

    (_, _, subresource, body) = kube.calls[-1]
    assert "status" == subresource
    assert "101" == body["metadata"]["resourceVersion"]
    assert {"phase": "Creating", "message": None} == body["status"]


async def test_a_status_write_leaves_alone_what_the_plan_did_not_touch():
    """Other rooms write fields of their own, also between look and write."""
    kube = Server()
    before = {"phase": "Ready", "message": "old", "lastUsedAt": "yesterday"}
    checkpoint = stored() | {"status": before | {"lastUsedAt": "today", "versions": []}}
    await Actor(kube, lambda *_: None).write_status(checkpoint, before, {"phase": "Ready", "lastUsedAt": "yesterday"})

    assert {"message": None} == kube.calls[-1][3]["status"]


@pytest.mark.parametrize(
    ("action", "metadata"),
    [
        pytest.param(SetLabel("k", "v"), {"labels": {"k": "v"}}, id="label"),
        pytest.param(
            SetAnnotations({"k": "v", "gone": None}),
            {"annotations": {"k": "v", "gone": None}, "resourceVersion": "7"},
            id="annotations-are-guarded",
        ),
    ],
)
async def test_metadata_is_merged(action, metadata):
    kube, _, _, _ = await act(action)

    assert metadata == kube.calls[0][3]["metadata"]


async def test_what_was_written_to_the_checkpoint_is_learned():
    _, learned, _, _ = await act(SetLabel("k", "v"))

    assert [CHECKPOINTS] == [resource for resource, _ in learned]
