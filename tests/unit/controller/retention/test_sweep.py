# ruff: noqa: ARG002 - a fake takes what the seam gives
"""Retention is done as it was decided: once more on fresh pods, guarded, and silent where nothing changes."""

import asyncio
from contextlib import suppress

import pytest

from contract.api import keys
from contract.config.storage import storage_from_values
from controller.checkpoints.diagnose.job_events import JobEvents
from controller.retention.sweeper import PERIOD, Surroundings, Sweeper
from kube.api import Listing
from kube.errors import ConflictError, ForbiddenError, ServerUnavailableError
from kube.informer import Informer
from kube.resources import CHECKPOINTS, EVENTS, JOBS, PODS
from tests.support.builders.checkpoints import NOW, condition, load_values
from tests.unit.controller.retention.test_retention import LONG_AGO, at, made, user

TTL = "retention: {ttlAfterLastUse: 1m}"


class Server:
    """Remembers writes; lists the pods that it is given."""

    def __init__(self, pods=(), error=None, only=""):
        self.pods, self.error, self.only, self.calls, self.events = pods, error, only, [], ()

    async def list(self, resource, namespace=None, *, labels="", fields=""):
        if resource == EVENTS:
            return Listing(self.events, "1")
        return Listing(tuple(self.pods) if keys.LABEL_RESTORE in labels.split(",")[0] else (), "1")

    async def create(self, resource, body, namespace=None, *, dry_run=False):
        self._call("create", resource, body["metadata"]["name"])
        return body

    async def patch(self, resource, name, body, namespace=None, **options):
        self._call("patch", resource, name, body)
        return {"metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}", "resourceVersion": "8"}}

    async def delete(self, resource, name, namespace=None, **options):
        self._call("delete", resource, name, options.get("resource_version", ""))

    def _call(self, *call):
        self.calls.append(call)
        if self.error and self.only in call[2]:
            raise self.error


class Recorder:
    def __init__(self):
        self.said = []

    def record(self, about, kind, reason, message):
        self.said.append((str(reason), message))


def sweeper(*checkpoints, values="", jobs=(), pods=(), **server):
    kube, recorder, loaded = Server(**server), Recorder(), load_values(values)
    around = Surroundings(
        checkpoints=Informer(kube, CHECKPOINTS),
        jobs=Informer(kube, JOBS),
        pods=(Informer(kube, PODS),),
        storage=storage_from_values(loaded),
        release_namespace="ns",
        told=lambda _: None,
    )
    for obj in checkpoints:
        obj["metadata"]["resourceVersion"] = "7"
        around.checkpoints.store.put(obj)
    for informer, objects in ((around.jobs, jobs), (around.pods[0], pods)):
        for obj in objects:
            informer.store.put(obj)
    return Sweeper(kube, around, recorder, loaded, lambda: NOW), kube, recorder


def trim(*conditions):
    notes = {keys.ANN_CHECKPOINT: "a", keys.ANN_CHECKPOINT_NAMESPACE: "ns", keys.ANN_ARTIFACT_VERSION: "1"}
    labels = {keys.LABEL_CHECKPOINT_ID: "a"}
    metadata = {"name": "checkpoint-trim-a-1", "namespace": "ns", "annotations": notes, "labels": labels, "uid": "j"}
    return {"kind": "Job", "metadata": metadata, "status": {"conditions": list(conditions)}}


async def test_an_old_version_goes_by_a_job():
    sweep, kube, _ = sweeper(made("a", "1", "2", "3"))
    await sweep.sweep()

    assert [("create", JOBS, "checkpoint-trim-a-1")] == kube.calls


@pytest.mark.parametrize(
    ("expected", "age"),
    [
        pytest.param(5.0, 7, id="when-the-newest-has-settled"),
        pytest.param(PERIOD, LONG_AGO, id="after-a-period"),
    ],
)
async def test_the_next_look(expected, age):
    sweep, _, _ = sweeper(made("a", "1", "2", "3", age=age))

    assert expected == await sweep.sweep()


async def test_a_pod_that_no_copy_knows_yet_keeps_its_version():
    sweep, kube, _ = sweeper(made("a", "1", "2", "3"))
    kube.pods = [user("a", "1")]
    await sweep.sweep()

    assert [] == kube.calls


async def test_while_a_job_is_at_work_nothing_is_asked_or_written():
    sweep, kube, recorder = sweeper(made("a", "1", "2", "3"), jobs=[trim()])
    await sweep.sweep()

    assert ([], []) == (kube.calls, recorder.said)


@pytest.mark.parametrize(
    "ends",
    [pytest.param((), id="waits"), pytest.param((condition("Failed", message="DeadlineExceeded"),), id="gave up")],
)
async def test_a_job_that_cannot_begin_is_told_once_with_what_to_do(ends):
    """Each try of the Job controller speaks of another pod."""
    waiting = trim(*ends)
    waiting["metadata"]["creationTimestamp"] = at(60)
    sweep, kube, recorder = sweeper(made("a", "1", "2", "3"), jobs=[waiting])
    for number in range(2):
        words = f'pods "p-{number}" is forbidden: violates PodSecurity "restricted:latest"'
        kube.events = ({"metadata": {}, "type": "Warning", "involvedObject": waiting["metadata"], "message": words},)
        sweep._warnings = JobEvents(kube)
        await sweep.sweep()

    ((reason, message),) = recorder.said
    assert "CleanupBlocked" == reason
    assert "version 1 cannot be removed: " in message
    assert "`kubectl label namespace ns pod-security.kubernetes.io/enforce=baseline --overwrite`" in message


async def test_the_status_follows_when_it_is_done():
    sweep, kube, recorder = sweeper(made("a", "1", "2", "3"), jobs=[trim(condition("Complete"))])
    await sweep.sweep()
    (_, _, _, body), deleted = kube.calls[:2]

    assert ["2", "3"] == [each["version"] for each in body["status"]["versions"]]
    assert "7" == body["metadata"]["resourceVersion"]
    assert ("delete", JOBS, "checkpoint-trim-a-1", "") == deleted
    assert "VersionRemoved" == recorder.said[0][0]


@pytest.mark.parametrize(
    ("age", "calls"),
    [pytest.param(5, 0, id="its-log-can-be-read"), pytest.param(99, 1, id="then-it-is-tried-again")],
)
async def test_a_failed_job_is_said_once(age, calls):
    ended = condition("Failed", message="disk on fire") | {"lastTransitionTime": at(age)}
    sweep, kube, recorder = sweeper(made("a", "1", "2", "3"), jobs=[trim(ended)])
    for _ in range(2):
        await sweep.sweep()

    assert ["CleanupFailed"] == [reason for reason, _ in recorder.said]
    assert 2 * calls == len(kube.calls)


async def test_a_refused_job_is_said_once():
    refused = ForbiddenError(403, "Forbidden", "exceeded quota")
    sweep, _, recorder = sweeper(made("a", "1", "2", "3"), error=refused)
    for _ in range(3):
        await sweep.sweep()

    assert ["CleanupBlocked"] == [reason for reason, _ in recorder.said]


async def test_an_unused_checkpoint_is_deleted_as_it_was_seen():
    obj = made("a", "1", workload="D/x", used=LONG_AGO)
    obj["metadata"]["finalizers"] = [keys.FINALIZER]
    sweep, kube, recorder = sweeper(obj, values=TTL)
    await sweep.sweep()

    assert [("delete", CHECKPOINTS, "a", "7")] == kube.calls
    assert "CheckpointExpired" == recorder.said[0][0]


async def test_one_made_by_hand_is_held_until_its_artifacts_are_gone():
    sweep, kube, _ = sweeper(made("a", "1", spec={"retention": {"ttlAfterLastUse": "1m"}}))
    await sweep.sweep()
    (_, _, _, body), deleted = kube.calls

    assert [keys.FINALIZER] == body["metadata"]["finalizers"]
    assert ("delete", CHECKPOINTS, "a", "8") == deleted


async def test_somebody_who_was_faster_wins():
    conflict = ConflictError(409, "Conflict", "changed")
    obj = made("a", "1", workload="D/x", used=LONG_AGO)
    sweep, kube, recorder = sweeper(obj, values=TTL, error=conflict)
    await sweep.sweep()

    assert (1, []) == (len(kube.calls), recorder.said)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ForbiddenError(403, "Forbidden", "a policy says no"), id="refused"),
        pytest.param(ServerUnavailableError("no answer"), id="no-answer"),
    ],
)
async def test_one_that_cannot_go_keeps_no_other_from_going(error):
    """Of two unused checkpoints the first may not be deleted; the second goes in the same look."""
    unused = [made(name, "1", workload=f"D/{name}", used=LONG_AGO) for name in "ab"]
    for each in unused:
        each["metadata"]["finalizers"] = [keys.FINALIZER]
    sweep, kube, recorder = sweeper(*unused, values=TTL, error=error, only="a")
    with suppress(ServerUnavailableError):
        await sweep.sweep()

    assert ["a", "b"] == [name for _, _, name, _ in kube.calls]
    assert "CheckpointExpired" in [reason for reason, _ in recorder.said]


async def test_a_checkpoint_that_may_not_be_deleted_is_said_once():
    obj = made("a", "1", workload="D/x", used=LONG_AGO)
    obj["metadata"]["finalizers"] = [keys.FINALIZER]
    sweep, _, recorder = sweeper(obj, values=TTL, error=ForbiddenError(403, "Forbidden", "a policy says no"))
    for _ in range(2):
        await sweep.sweep()

    assert ["CleanupBlocked"] == [reason for reason, _ in recorder.said]
    assert "a policy says no" in recorder.said[0][1]


async def test_a_job_that_cannot_be_ended_keeps_no_checkpoint_from_going():
    unused = made("b", "1", workload="D/x", used=LONG_AGO)
    unused["metadata"]["finalizers"] = [keys.FINALIZER]
    sweep, kube, _ = sweeper(
        made("a", "2", "3"),
        unused,
        values=TTL,
        jobs=[trim(condition("Complete"))],
        error=ForbiddenError(403, "Forbidden", "no"),
        only="trim",
    )
    await sweep.sweep()

    assert ("delete", CHECKPOINTS, "b", "7") in kube.calls


async def test_what_was_said_is_forgotten_with_the_checkpoint():
    sweep, _, _ = sweeper(made("a", "1", "2", "3"), error=ForbiddenError(403, "Forbidden", "exceeded quota"))
    await sweep.sweep()
    assert sweep._told
    sweep._around.checkpoints.store.replace(())
    await sweep.sweep()

    assert not sweep._told


async def test_a_dry_run_names_what_the_real_one_removes_and_says_it_once():
    values = "retention: {ttlAfterLastUse: 1m, dryRun: true}"
    sweep, kube, recorder = sweeper(
        made("a", "1", "2", "3"), made("b", "1", workload="D/x", used=LONG_AGO), values=values
    )
    for _ in range(3):
        await sweep.sweep()

    assert [] == kube.calls
    assert {"would remove version 1", "would remove the checkpoint"} == {
        message.partition(":")[0] for _, message in recorder.said
    }
    assert ["RetentionDryRun"] * 2 == [reason for reason, _ in recorder.said]


async def test_a_namespace_over_its_quota_is_said_once():
    sweep, _, recorder = sweeper(made("hand", "1", size=300), values="retention: {namespaceQuota: '10'}")
    for _ in range(3):
        await sweep.sweep()

    assert ["QuotaExceeded"] == [reason for reason, _ in recorder.said]


@pytest.mark.parametrize(
    "error", [pytest.param(ServerUnavailableError("no answer"), id="server"), pytest.param(KeyError("spec"), id="bug")]
)
async def test_it_goes_on_after_trouble(caplog, error):
    sweep, kube, _ = sweeper(made("a", "1", "2", "3"), jobs=[trim(condition("Complete"))], error=error)
    for informer in (sweep._around.checkpoints, sweep._around.jobs, *sweep._around.pods):
        informer.synced.set()
    task = asyncio.create_task(sweep.run())
    async with asyncio.timeout(5):
        while "retention" not in caplog.text:  # noqa: ASYNC110 - what is waited for is the other task's doing
            await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])

    assert kube.calls
