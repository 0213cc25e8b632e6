"""Has the worker answer its owner, and gives standby the verdict."""

from agent.criu.images.own import read_in_place
from agent.errors import ContainerError
from agent.executor.restore.context import context
from agent.executor.restore.state import Restore
from agent.executor.serving import NotServingError, Questions, await_answers, forget_woken, wake
from contract.api import control_files
from contract.api.states import AgentReason


def has_canary(restore: Restore) -> bool:
    """Say whether the owner has a question."""
    return restore.request.canary is not None


def to_wake(restore: Restore) -> list[int]:
    """Host pids of the restored processes that ran when they were captured, children first.

    A parent that waits for them as a shell does, and runs before them, takes them for stopped.
    """
    stopped = restore.plan.stopped
    return [pid for pid, status in reversed([*restore.tree.items()]) if status.inner_pid not in stopped]


def ask_canary(restore: Restore) -> None:
    """Have the worker answer its owner's question before it serves other clients."""
    # From here on the worker may write: a cold start in place would find what it left.
    restore.lock.control.write(control_files.DIRTY, "")
    wake(to_wake(restore), restore.lock.control, context(restore))
    questions = Questions(canary=restore.request.canary, answer=restore.artifact.manifest.canary)
    try:
        await_answers(questions, restore.tree, restore.init_pid, restore.lock.control, restore.environment.proc)
    except NotServingError as error:
        raise ContainerError(AgentReason.CANARY_FAILED, str(error)) from error


def forget_canary(restore: Restore) -> bool:
    """Forget that the worker was awake; what it did cannot be taken back, so kubelet starts its container again."""
    if not restore.lock.is_awaited():
        return False
    was_awake = restore.lock.control.has(control_files.RESTORE_COMPLETE)
    forget_woken(restore.lock.control)
    return not was_awake


def hand_over(restore: Restore) -> None:
    """Give standby its verdict; it then wakes the tree."""
    worker_pid = restore.plan.worker_pid
    restore.lock.control.write(control_files.RESTORE_CONTEXT, context(restore))
    if restore.pages is not None:
        restore.pages.refuse_ended()
    restore.artifact.refuse_changed(read_in_place(restore.artifact.manifest.files))
    restore.lock.restored(worker_pid, restore.plan.stopped)
