"""An artifact that is in storage already is taken over: looked at by a Job, believed only when it is whole.

Asked for by annotation ``nvidia.com/snapshot-adopt: <version>``, or by asking for a version that the checkpoint had
before. The annotation is taken away once it is answered, whatever the answer, so the same question can be asked again;
it is taken away only after the answer is in the status, so a controller that dies in between answers it again.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from contract.api import keys
from contract.api.checkpoint import (
    annotations_of,
    artifact_version,
    captured_image,
    captured_version,
    job_name,
    resolve_id,
)
from contract.api.objects import JobView
from contract.api.states import CheckpointReason, ConditionType, Phase, Proof
from contract.api.times import format_time, parsed_time
from contract.config.storage import BadIdError, Storage, artifact_dir, check_version
from contract.config.values import Values
from contract.nodes.node_facts import read_source
from contract.pods.injected_tools import tools_for
from controller.checkpoints.actions import Action, CreateJob, DeleteJob, SetAnnotations
from controller.checkpoints.diagnose import pods
from controller.checkpoints.observed import Pass
from controller.checkpoints.plan.status import Status, Step
from controller.checkpoints.reasons import Problem, note
from controller.checkpoints.storage_jobs import adopt_job_name, build_adopt_job
from kube.api import Object
from kube.errors import bounded
from kube.resources import JOBS

POLL_SECONDS: Final = 2.0
REFUSED_SECONDS: Final = 30.0
MAX_WORDS: Final = 400
"""Characters of a reason; what to do about it comes behind and must not be cut off."""
_DIGEST_LENGTH: Final = len("blake3:") + 64


def wanted_version(checkpoint: Object) -> str:
    """Return the version that is to be taken over, unchecked; empty if none is."""
    if asked := _asked(checkpoint):
        return asked
    had = {str(each["version"]) for each in _recorded(checkpoint)}
    if not had:
        return ""
    try:
        version = artifact_version(checkpoint)
        current = captured_version(checkpoint, resolve_id(checkpoint))
    except BadIdError:
        return ""
    return version if version in had and version != current else ""


def job_to_adopt(checkpoint: Object) -> str:
    """Return the name of the Job that looks at the wanted artifact; empty if there is nothing to look at."""
    version = wanted_version(checkpoint)
    try:
        checkpoint_id = resolve_id(checkpoint)
        return adopt_job_name(checkpoint_id, check_version(version)) if checkpoint_id and version else ""
    except BadIdError:
        return ""


def store_namespace(checkpoint: Object, release_namespace: str, storage: Storage) -> str:
    """Say where the volume can be mounted: with agentMount in the release's namespace, else in the checkpoint's."""
    own = str(checkpoint["metadata"].get("namespace", ""))
    return own if storage.in_pod else release_namespace or own


def adopt(current: Pass, status: Status) -> Step:
    """Plan one pass over a checkpoint that wants an artifact."""
    job, version = current.adopt_job, wanted_version(current.checkpoint)
    try:
        check_version(version)
    except BadIdError as error:
        return Step(_refuse(current.checkpoint, status, version, f"annotation {keys.ANN_ADOPT}: {error}"))
    if _answered(current, status, version):
        # Only a pass after the answer was written: if the question went first, a restart would lose the answer.
        return Step(status, _forget_the_question(current.checkpoint, status, version, job))
    if job is None:
        return _look(current, status, version)
    if job.is_finished:
        return Step(_answer(current, status, version, job))
    problem = pods.store_job_problem(job, current.adopt_pod, current.observed.adopt_events, current.now)
    return Step(_wait(status, version, problem), requeue=POLL_SECONDS)


def _answered(current: Pass, status: Status, version: str) -> bool:
    if _is_taken(status, version):
        return True
    entry = status.condition(ConditionType.ADOPTED) or {}
    refused = entry.get("reason") == CheckpointReason.ADOPTION_FAILED
    return refused and current.adopt_job is not None and str(entry.get("message")).startswith(_about(version))


def _is_taken(status: Status, version: str) -> bool:
    return status.phase == Phase.READY and status.job_name == job_name(status.checkpoint_id, version)


def _forget_the_question(checkpoint: Object, status: Status, version: str, job: JobView | None) -> tuple[Action, ...]:
    """Take the annotation away; a version that was taken over is the wanted one from now on."""
    actions: list[Action] = []
    if keys.ANN_ADOPT in annotations_of(checkpoint):
        taken: dict[str, str | None] = {keys.ANN_ARTIFACT_VERSION: version} if _is_taken(status, version) else {}
        actions.append(SetAnnotations(taken | {keys.ANN_ADOPT: None}))
    if job is not None and not job.is_deleting:
        actions.append(DeleteJob(job.raw))
    return tuple(actions)


def _look(current: Pass, status: Status, version: str) -> Step:
    observed, checkpoint, storage = current.observed, current.checkpoint, current.storage
    refusal = observed.refusal
    if refusal is not None and refusal.kind == JOBS.kind:
        words = f"its Job was refused: {refusal.message}; it is tried again every 30 s"
        return Step(_wait(status, version, words), requeue=REFUSED_SECONDS)
    namespace = store_namespace(checkpoint, observed.release_namespace, storage)
    job = build_adopt_job(checkpoint, status.checkpoint_id, version, namespace, values=current.values, storage=storage)
    return Step(_wait(status, version, ""), (CreateJob(job),), POLL_SECONDS)


def _wait(status: Status, version: str, problem: str) -> Status:
    """Say that it is being looked at; what is Ready stays so meanwhile."""
    words = _about(version) + (problem or "the artifact in storage is being verified")
    reason = CheckpointReason.ADOPTION_BLOCKED if problem else CheckpointReason.ADOPTION_RUNNING
    before = status.reason_before(ConditionType.ADOPTED)
    status = status.with_condition(ConditionType.ADOPTED, met=False, reason=reason, message=words)
    if status.phase != Phase.READY:
        return status.with_fields(phase=Phase.PENDING.value).waiting(Problem(reason, words))
    return status.with_event(note(reason, words)) if before != reason else status


def _answer(current: Pass, status: Status, version: str, job: JobView) -> Status:
    found = _reported(current)
    words = _wrong(current, job, found, version)
    if not words:
        return _take(current, status, found)
    if not _asked(current.checkpoint):
        # It is not there any more as it was captured: from now on its version means a new capture.
        status = status.without_version(version)
    return _refuse(current.checkpoint, status, version, words)


def _wrong(current: Pass, job: JobView, found: Mapping[str, Any], version: str) -> str:
    """Say why the Job's answer is not a whole artifact of this version; empty if it is."""
    if found.get("error"):
        return f"{found.get('message')} ({found['error']})"
    if not job.is_complete or not found:
        pod, failure = current.adopt_pod, job.conditions.get("Failed")
        why = (failure and failure.message) or "its pod no longer exists"
        return (
            pods.store_job_problem(job, pod, current.observed.adopt_events, current.now)
            or (pod and pods.exited(pod))
            or f"Job {job.name} did not say what it found: {why}"
        )
    digest, size = found.get("digest"), found.get("size")
    is_digest = isinstance(digest, str) and len(digest) == _DIGEST_LENGTH and digest.startswith("blake3:")
    if found.get("version") != version or not is_digest or not isinstance(size, int) or size < 0:
        return f"Job {job.name} reported something else than an artifact"
    known = {str(each["version"]): each["manifestDigest"] for each in _recorded(current.checkpoint)}
    if not _asked(current.checkpoint) and known.get(version) != digest:
        return f"the artifact in storage is {digest}, captured was {known.get(version)}: it was changed"
    return ""


def _take(current: Pass, status: Status, found: Mapping[str, Any]) -> Status:
    checkpoint, storage, now = current.checkpoint, current.storage, current.now
    version, image = str(found["version"]), _image(checkpoint, found, current.values)
    namespace = store_namespace(checkpoint, current.observed.release_namespace, storage)
    source = read_source(found.get("source"))
    status = status.with_fields(
        phase=Phase.READY.value,
        jobName=job_name(status.checkpoint_id, version),
        createdAt=format_time(now),
        location=str(artifact_dir(storage.base_path, status.checkpoint_id, version)),
        storageType=current.values.storage.type,
        storageClaim=f"{namespace}/{storage.pvc_name}",
        size=found["size"],
        manifestDigest=found["digest"],
        proof=Proof.READ.value,
        image=image,
        source=source.document() if source is not None else None,
        attempts=None,
    )
    # A manifest may name a time of the future: retention would then keep the artifact beyond its due.
    made = min(parsed_time(found.get("createdAt")) or now, now)
    entry = {"version": version, "manifestDigest": found["digest"], "size": found["size"]}
    status = status.with_version(entry | {"createdAt": format_time(made)} | ({"image": image} if image else {}))
    words = _about(version) + "the artifact in storage was verified and taken over"
    for kind in (ConditionType.ADOPTED, ConditionType.JOB_COMPLETED):
        status = status.with_condition(kind, met=True, reason=CheckpointReason.ADOPTED, message=words)
    return status.with_event(note(CheckpointReason.ADOPTED, words))


def _image(checkpoint: Object, found: Mapping[str, Any], values: Values) -> Object | None:
    """Return what was captured: as noted then if it was, else what a capture would be; never what an artifact says."""
    for each in _recorded(checkpoint):
        if each["version"] == found["version"] and each["manifestDigest"] == found["digest"] and each.get("image"):
            noted: Object = each["image"]
            return noted
    image = captured_image(checkpoint, values)
    injected = tools_for(checkpoint, image, values, capture=True) is not None
    return {"reference": image, "injected": injected} if image else None


def _refuse(checkpoint: Object, status: Status, version: str, words: str) -> Status:
    """Say why not; a checkpoint that is Ready stays so with what it has."""
    problem = Problem(
        CheckpointReason.ADOPTION_FAILED,
        f"{_about(version)}{bounded(words, MAX_WORDS)}; put the artifact in place and ask again, or raise annotation "
        f"{keys.ANN_ARTIFACT_VERSION} to capture",
    )
    status = status.unmet(ConditionType.ADOPTED, problem)
    if status.phase == Phase.READY:
        return status.with_event(note(problem.reason, problem.message))
    try:
        # The name that a capture of the wanted version would have: only another version starts one.
        name = job_name(status.checkpoint_id, artifact_version(checkpoint))
    except BadIdError:
        name = ""
    return status.with_fields(jobName=name).failed(problem)


def _asked(checkpoint: Object) -> str:
    return annotations_of(checkpoint).get(keys.ANN_ADOPT, "").strip()


def _recorded(checkpoint: Object) -> tuple[Object, ...]:
    return tuple((checkpoint.get("status") or {}).get("versions") or ())


def _about(version: str) -> str:
    return f"version {version[:40]}: "


def _reported(current: Pass) -> Mapping[str, Any]:
    """Return the JSON that the Job's pod left behind, empty if there is none."""
    for container in current.adopt_pod.containers if current.adopt_pod is not None else ():
        try:
            found = json.loads(container.terminated.message)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            return found
    return {}
