"""A pass as a whole: how many writes a checkpoint costs, and that a refusal is one more fact."""

from prometheus_client import CollectorRegistry

from controller.checkpoints.act import Actor
from controller.checkpoints.metrics import Metrics
from controller.checkpoints.observed import Observed
from controller.checkpoints.reconciler import Reconciler
from controller.runtime.manager import ManagerContext
from kube.errors import ConflictError, InvalidError
from kube.queue import CONFLICT_PAUSE
from tests.support.builders.checkpoints import AGENT_MOUNT, JOB, NOW
from tests.support.builders.objects import checkpoint


class Server:
    """Takes every write, or none."""

    def __init__(self, refusal=None, conflict=None):
        self.refusal, self.conflict, self.calls = refusal, conflict, []

    async def create(self, resource, body, _namespace=None, *, dry_run=False):
        self.calls.append(("create", resource.plural, dry_run))
        if self.refusal:
            raise self.refusal
        return body

    async def patch(self, resource, name, body, _namespace=None, **options):
        self.calls.append(("patch", resource.plural, options.get("subresource", "")))
        if self.conflict:
            raise self.conflict
        self.body = body
        changed = checkpoint(name)
        changed["metadata"]["resourceVersion"] = "8"
        return changed


class Look:
    """The same world at every look."""

    def __init__(self, obj):
        self.obj = obj

    async def observe(self, _key, _now):
        return Observed(checkpoint=self.obj)


class Recorder:
    def __init__(self):
        self.said = []

    def record(self, _about, _kind, reason, _message):
        self.said.append(str(reason))


async def passed(**server):
    kube, recorder = Server(**server), Recorder()
    obj = checkpoint()
    obj["metadata"]["resourceVersion"] = "7"
    actor = Actor(kube, lambda *_: None)
    registry = CollectorRegistry()
    context = ManagerContext(
        kube=kube,
        settings=None,
        values=AGENT_MOUNT,
        recorder=recorder,
        registry=registry,
        checkpoints=None,
        now=lambda: NOW,
    )
    loop = Reconciler(context, Look(obj), actor, Metrics(registry))
    return await loop.handle(("ns", "qwen")), kube, recorder


async def test_a_new_checkpoint_has_its_job_after_three_writes():
    _, kube, recorder = await passed()

    label, job, status = kube.calls
    assert ("patch", "dynamocheckpoints", "") == label
    assert ("create", "jobs", False) == job
    assert ("patch", "dynamocheckpoints", "status") == status
    assert ("Creating", JOB) == (kube.body["status"]["phase"], kube.body["status"]["jobName"])
    assert ["JobCreated"] == recorder.said


async def test_what_the_server_refuses_is_in_the_status_of_the_same_pass():
    _, kube, recorder = await passed(refusal=InvalidError(422, "Invalid", "spec.template: no"))

    assert "Failed" == kube.body["status"]["phase"]
    assert "spec.template: no" in kube.body["status"]["message"]
    assert ["CheckpointFailed"] == recorder.said


async def test_a_collision_is_looked_at_again_soon():
    pause, _, recorder = await passed(conflict=ConflictError(409, "Conflict", "changed"))

    assert (CONFLICT_PAUSE, []) == (pause, recorder.said)
