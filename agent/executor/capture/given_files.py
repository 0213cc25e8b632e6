"""Saves open files that criu could not make again: programs in memfds, some eventfds, POSIX message queues."""

import fcntl
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from agent.container.network import in_namespace
from agent.criu.images.given_files import name_eventfds, name_programs, name_queues
from agent.errors import RefusedError
from artifact.manifest import QUEUES
from artifact.parts.process import MOST_EVENTFDS, MOST_PROGRAM_BYTES, MOST_PROGRAMS, Eventfd, Program
from artifact.publish import Staging
from artifact.queues import MOST_OPEN_QUEUES, PosixQueues, QueuedMessage, write_queues
from contract.api.states import AgentReason
from linux.anonymous import EVENTFD, anonymous
from linux.descriptors import MEMFD, memory_device
from linux.ipc import mqueue
from linux.ipc.mqueue import QueueStatus
from linux.proc import open_files, status
from linux.syscalls import MQUEUE_MAGIC, file_system_magic

_DELETED: Final = " (deleted)"
_GET_SEALS: Final = 1034


@dataclass(frozen=True)
class Programs:
    """Those of one tree, open: they outlive its processes so."""

    descriptors: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    of: dict[int, int] = field(default_factory=dict)
    """Pid inside the container -> which of them it runs."""

    @property
    def given(self) -> Sequence[str]:
        """As criu names files that a restore is given: of a program that nothing is mapped of it would dump no more."""
        return [_given(f"/proc/self/fdinfo/{each}", os.fstat(each).st_ino) for each in self.descriptors]

    @property
    def bytes(self) -> int:
        """Of all of them."""
        return sum(os.fstat(descriptor).st_size for descriptor in self.descriptors)


def _given(info: str, inode: int) -> str:
    about = Path(info).read_text(encoding="ascii").split()
    mount = int(about[about.index("mnt_id:") + 1])
    return f"file[{mount:x}:{inode:x}]"


def open_programs(pids: Iterable[int], proc: Path, resources: ExitStack) -> Programs:
    """Open the programs that processes run from memfds.

    Args:
        pids: of the tree, in the agent's namespace.
        proc: where processes show.
        resources: closes them.

    Raises:
        RefusedError: ``unsupported-memory``: there is more than an artifact may have.
    """
    found, known = Programs(), dict[tuple[int, int], int]()
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            program = str((proc / str(pid) / "exe").readlink())
            if not program.startswith(MEMFD):
                continue
            descriptor = os.open(proc / str(pid) / "exe", os.O_RDONLY | os.O_CLOEXEC)
            resources.callback(os.close, descriptor)
            about = os.fstat(descriptor)
            if about.st_dev != memory_device():  # a file of the root folder that is called so
                continue
            number = known.setdefault((about.st_dev, about.st_ino), len(known))
            found.of[status(pid, proc).inner_pid] = number
            if number == len(found.descriptors):
                found.descriptors.append(descriptor)
                found.names.append(program.removeprefix(MEMFD).removesuffix(_DELETED))
    if len(found.descriptors) > MOST_PROGRAMS or found.bytes > MOST_PROGRAM_BYTES:
        words = f"the worker runs {len(found.descriptors)} programs of {found.bytes >> 20} MiB from memfds"
        most = f"at most {MOST_PROGRAMS} of {MOST_PROGRAM_BYTES >> 20} MiB can be kept"
        raise RefusedError(AgentReason.UNSUPPORTED_MEMORY, f"{words}: {most}")
    return found


def save_programs(staged: Staging, programs: Programs) -> list[Program]:
    """Write programs to files of the artifact, and have the images restored with them; return what the manifest says.

    Raises:
        CriuError: ``dump-failed``: the images cannot be read.
    """
    if not programs.descriptors:
        return []
    name_programs(staged.directory, programs.of)
    return [_save(staged, *each) for each in enumerate(zip(programs.descriptors, programs.names, strict=True))]


def _save(staged: Staging, number: int, program: tuple[int, str]) -> Program:
    descriptor, name = program
    about, done = os.fstat(descriptor), 0
    size = about.st_size
    file = f"program-{number}.img"
    with os.fdopen(staged.file(file), "wb") as opened:
        while done < size and (sent := os.sendfile(opened.fileno(), descriptor, done, size - done)):
            done += sent
    return Program(
        file=file,
        name=name,
        seals=fcntl.fcntl(descriptor, _GET_SEALS),
        mode=about.st_mode & 0o777,
        uid=about.st_uid,
        gid=about.st_gid,
    )


@dataclass(frozen=True)
class Special:
    """Open files of a tree that criu would restore as others, or not at all: by pid inside the container and number."""

    eventfds: dict[tuple[int, int], bool] = field(default_factory=dict)
    """Whether each is a semaphore."""
    queues: dict[tuple[int, int], str] = field(default_factory=dict)
    """Names of message queues."""
    queue_files: list[tuple[int, int]] = field(default_factory=list)
    """The same, by pid in the agent's namespace."""
    given: set[str] = field(default_factory=set)
    """Queues, as criu names files that a restore is given."""


def special_files(pids: Iterable[int], proc: Path) -> Special:
    """Find them.

    Args:
        pids: of the tree, in the agent's namespace.
        proc: where processes show.

    Raises:
        RefusedError: ``message-queue``: more are open than an artifact may have.
    """
    found = Special()
    for pid in pids:
        base = proc / str(pid)
        with suppress(FileNotFoundError, ProcessLookupError):
            inner = status(pid, proc).inner_pid
            for number, target in _may_be_special(base / "fd"):
                with suppress(FileNotFoundError):
                    _look(base, number, target, (inner, int(number)), found)
    if len(found.queues) > MOST_OPEN_QUEUES and (opened := open_files(found.queue_files)) > MOST_OPEN_QUEUES:
        words = f"the worker has POSIX message queues open {opened} times"
        raise RefusedError(AgentReason.MESSAGE_QUEUE, f"{words}: at most {MOST_OPEN_QUEUES} can be kept")
    return found


def _may_be_special(folder: Path) -> list[tuple[str, str]]:
    """Return number and target of descriptors whose target does not say that they are none; there may be ten thousand.

    Raises:
        OSError: the process has ended.
    """
    found, opened = [], os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for number in os.listdir(opened):  # noqa: PTH208 - a descriptor
            try:
                target = os.readlink(number, dir_fd=opened)
            except FileNotFoundError:
                continue
            if target == EVENTFD or (target.startswith("/") and target.count("/") == 1):
                found.append((number, target))
    finally:
        os.close(opened)
    return found


def _look(base: Path, number: str, target: str, known_as: tuple[int, int], found: Special) -> None:
    link = f"{base}/fd/{number}"
    if target == EVENTFD:
        eventfd = anonymous(target, f"{base}/fdinfo/{number}", base.parent)
        if eventfd is not None and eventfd.is_special:
            found.eventfds[known_as] = eventfd.is_semaphore
    elif file_system_magic(link) == MQUEUE_MAGIC:
        about = os.stat(link)  # noqa: PTH116 - a link of /proc
        if about.st_nlink:  # criu fails at one that was removed since it was looked for
            found.queues[known_as] = target.removeprefix("/")
            found.queue_files.append((int(base.name), int(number)))
            found.given.add(_given(f"{base}/fdinfo/{number}", about.st_ino))


def save_eventfds(staged: Staging, found: Mapping[tuple[int, int], bool]) -> list[Eventfd]:
    """Have the images restored with eventfds that are given; return what the manifest says of them.

    Raises:
        CriuError: ``dump-failed``: the images cannot be read.
        RefusedError: ``unsupported-descriptor``: there are more than an artifact may have.
    """
    dumped = name_eventfds(staged.directory, found) if found else []
    if len(dumped) > MOST_EVENTFDS:
        words = f"the worker has {len(dumped)} eventfds that are semaphores or hold more than 32 bits"
        raise RefusedError(AgentReason.UNSUPPORTED_DESCRIPTOR, f"{words}: at most {MOST_EVENTFDS} can be kept")
    return [
        Eventfd(number=each.number, count=each.held, semaphore=each.is_semaphore, nonblocking=each.is_nonblocking)
        for each in dumped
    ]


def refuse_late_queues(before: Sequence[QueueStatus], after: Sequence[QueueStatus], *, goes_on: bool) -> None:
    """Refuse message queues that came while the worker was captured, before anything is taken out of one; pure.

    Args:
        before: queues before the dump.
        after: those after it.
        goes_on: whether the worker is still there.

    Raises:
        RefusedError: ``message-queue``.
    """
    known = {each.name for each in before} if not goes_on else set()
    if late := next((each for each in [*before, *after] if each.name not in known), None):
        words = f"the POSIX message queue /{late.name} was made while the worker was captured"
        raise RefusedError(AgentReason.MESSAGE_QUEUE, words)


def save_queues(staged: Staging, found: Mapping[tuple[int, int], str], init_pid: int, proc: Path) -> PosixQueues | None:
    """Take all message queues of a container whose worker has ended into a file; None if there are none.

    Args:
        staged: with the images.
        found: descriptors of the tree, and which queue each is.
        init_pid: of the container.
        proc: where processes show.

    Raises:
        RefusedError: ``message-queue``: there is more than an artifact may have.
        CriuError: ``dump-failed``: the images cannot be read.
    """
    states = in_namespace("ipc", init_pid, lambda: [mqueue.take(each.name) for each in mqueue.queues()], proc)
    if not states:
        return None
    opened = name_queues(staged.directory, found)
    try:
        queues = PosixQueues.model_validate(
            {
                "queues": [_described(each) for each in states],
                "opened": [{"number": each.number, "name": each.name, "flags": each.flags} for each in opened],
            }
        )
    except ValidationError as error:
        words = f"message queues that no artifact can have: {error.errors()[0]['msg']}"
        raise RefusedError(AgentReason.MESSAGE_QUEUE, words) from error
    write_queues(queues, staged.file(QUEUES))
    return queues


def _described(state: mqueue.QueueState) -> dict[str, object]:
    messages = [QueuedMessage(priority=priority, text=text) for priority, text in state.messages]
    return {name: getattr(state, name) for name in ("name", "mode", "uid", "gid", "most", "size")} | {
        "messages": messages
    }
