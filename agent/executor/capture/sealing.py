"""Makes an artifact of what was dumped: files, manifest, proof, publication."""

import time

from agent.container.ipc import queues as message_queues
from agent.container.ipc.objects import remove
from agent.container.questions.probe import askable
from agent.criu.images.file_locks import record_locks
from agent.criu.images.inet import bound_ports
from agent.criu.images.interrupted import make_again
from agent.criu.images.own import read_in_place
from agent.executor.api import RestoreRequest
from agent.executor.capture.state import Capture
from agent.executor.memory.page_cache import Version
from agent.executor.proof import keep_hot_set, prove
from agent.executor.restore.state import Restore
from agent.executor.serving import Questions
from agent.executor.store import sums
from artifact.manifest import IPC, QUEUES, Captured
from artifact.read import open_sealed, verify


def save_files(capture: Capture) -> None:
    """Add what the worker keeps in files: its changes to the root file system, shared memory, volumes."""
    capture.saved = capture.files.save(capture.staged)


def seal(capture: Capture) -> None:
    """Write the manifest, which makes an artifact of the staged files."""
    make_again(capture.staged.directory, capture.polls)  # here, since a worker that goes on does so by now
    plan, request = capture.plan, capture.request
    outside = {"outside": list(capture.outside.values()), "weights": list(capture.weights)}
    captured = Captured(
        created_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        taken_on=plan.taken_on,
        container=plan.container,
        process=plan.process.model_copy(update=_process(capture)),
        used_mounts=list(plan.used_mounts),
        rootfs=capture.saved.rootfs,
        volumes=capture.saved.volumes,
        held=capture.saved.held,
        gpu=plan.gpu.model_copy(update=outside) if plan.gpu else None,
        canary=capture.answer,
        connections=capture.connections,
        ipc=IPC if capture.ipc is not None else None,
        posix_queues=QUEUES if capture.queues is not None else None,
    )
    capture.published = capture.store.seal(capture.staged, request.checkpoint_id, request.version, captured)


def _process(capture: Capture) -> dict[str, object]:
    """Return what is known of the processes only once they were dumped."""
    return {
        "stopped": capture.stopped,
        "amx": capture.amx,
        "protection_keys": capture.protection_keys,
        "settings": capture.settings,
        "record_locks": bool(record_locks(capture.staged.directory)),
        "databases": [each.noted for each in capture.databases if each.structures],
        "programs": capture.programs,
        "eventfds": capture.eventfds,
    }


def verify_sealed(capture: Capture) -> None:
    """Open what was sealed as a restore would, and read all of it, but for what the proof will read as a restore does.

    It copies all that is not named here, and takes the sums of what it copies.
    """
    directory, digest = capture.staged.directory, capture.published.digest
    by = sums(through_pod=capture.request.through_pod)
    capture.artifact = open_sealed(directory, capture.request.checkpoint_id, digest, by)
    capture.resources.callback(capture.artifact.close)
    files = capture.artifact.manifest.files
    is_copied = is_to_be_proved(capture) and not capture.goes_on
    verify(capture.artifact, capture.environment.verified, read_in_place(files) if is_copied else files)


def is_to_be_proved(capture: Capture) -> bool:
    """Say whether an artifact is restored before it counts as complete."""
    return capture.environment.proof


def prove_artifact(capture: Capture) -> None:
    """Restore what was sealed, here: Ready means that it was restored once."""
    request = capture.request
    restore = Restore(request.place, capture.lock, capture.init_pid, capture.environment)
    restore.request = RestoreRequest(
        place=request.place,
        checkpoint_id=request.checkpoint_id,
        version=request.version,
        base_path=request.base_path,
        through_pod=request.through_pod,
        manifest_digest=capture.published.digest,
    )
    restore.artifact = capture.artifact
    if capture.queues is not None:
        message_queues.remove([each.name for each in capture.queues.queues], capture.init_pid, capture.environment.proc)
    if capture.ipc is not None:  # the restored worker has them too, under the same ids
        names = [(kind, each.id) for kind, each in capture.ipc.objects()]
        remove(names, capture.init_pid, capture.environment.proc)
    questions = Questions(askable(request.probe, capture.lock.control.directory), request.canary, capture.answer)
    ranges = prove(restore, capture.plan.pids, bound_ports(capture.staged.directory), questions)
    keep_hot_set(capture.staged, capture.published.digest, ranges, restore.memory or restore.engine.memory)


def publish(capture: Capture) -> None:
    """Give the artifact its place in the store."""
    request = capture.request
    capture.store.publish(capture.staged, request.checkpoint_id, request.version)
    capture.is_published = True
    if not request.through_pod:
        capture.environment.page_cache.used(Version(request.base_path, request.checkpoint_id, request.version))


def withdraw(capture: Capture) -> bool:
    """Remove what was published: it has not been reported, and the next attempt may have its version."""
    if capture.is_published:
        capture.store.withdraw(capture.request.checkpoint_id, capture.request.version)
        capture.is_published = False
    return True


def report(capture: Capture) -> None:
    """Give standby its verdict; it ends with the worker."""
    capture.lock.captured()
