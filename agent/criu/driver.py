"""CRIU as the rest of this room sees it: dump a tree, restore a tree, say its version.

Command lines are pure functions; ``agent.criu.nsenter`` runs them in the container's namespaces.
criu then shares every namespace with its target, so images hold the process tree alone: no mounts, no network.
"""

import errno
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from agent.criu.helpers import Helpers
from agent.criu.images.mended import forget_parent, mend_timers
from agent.criu.images.pids import LOWEST
from agent.criu.nsenter import EXIT_ENTER, EXIT_FILES
from agent.criu.page_server import Lazy, PageServer
from agent.criu.runner import CriuCommand, NamespaceRun, RunResult, run_in_namespaces
from agent.errors import ContainerError, CriuError
from contract.api.reports import Step
from contract.api.states import AgentReason

if TYPE_CHECKING:
    from contract.config.sections import Criu as CriuOptions

OLDEST: Final = (4, 2)
"""4.1 cannot dump any inet socket on kernels from 6.16 on (SO_PASSCRED is refused there)."""
LOG_LINES: Final = 3
"""Error lines that become the reason: the first names the cause, later ones only repeat that it failed."""
_ONLY_ERRORS: Final = "-v1"
"""All that is read of a log, which is then removed: at the fourth level, a restore of 40 processes writes 16 MB."""
_DUMP_LOG: Final = "dump.log"
_RESTORE_LOG: Final = "restore.log"
_NOISE: Final = ("rlimit: Can't setup", "tun: Unable to create tun", "Dumping FAILED", "Restoring FAILED")
_FULL: Final = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))
_TAKEN: Final = re.compile(r"Can't fork for (\d+): File exists")
_REGISTERS: Final = re.compile(rf"Can't obtain FPU registers for (\d+): {os.strerror(errno.EBUSY)}")
"""From native/criu_preload, of a thread that has registers in use which criu does not know."""
_ERROR: Final = re.compile(r"Error \([^)]*\): (?P<text>.*)")


@dataclass(frozen=True, kw_only=True)
class CriuDump:
    """What to dump, and where to."""

    init_pid: int
    """Host pid of the container's first process: whose namespaces are entered."""
    worker_pid: int
    """Root of the tree, as numbered inside the container."""
    images: int
    """Descriptor of the directory for images."""
    leave_running: bool = False
    """Whether the tree is as it was once it is dumped."""
    with_ipc: bool = False
    """Whether the IPC namespace is dumped too: criu does so from outside of it, and only then takes memory of it."""
    given: Sequence[str] = ()
    """Files that a restore is given, as criu names them: their content is not dumped."""
    timeout: float


@dataclass(frozen=True, kw_only=True)
class CriuRestore:
    """What to restore, and with what of the new container."""

    init_pid: int
    images: int
    cgroup_files: Sequence[str]
    """``cgroup.procs`` files of the container's cgroups, joined before criu starts."""
    inherit: Mapping[str, int]
    """Resource as recorded at the dump (``pipe:[123]``) -> descriptor that takes its place."""
    keeps_connections: bool = False
    """The images say of each connection what becomes of it; an earlier release left all of them to be closed."""
    has_profile: bool = False
    """The images name a profile of AppArmor, which criu cannot see to be on in there."""
    last_pid: int = LOWEST
    """What the container's pid counter is set to: what starts meanwhile gets the pids after it."""
    lazy: Lazy | None = None
    """Have private memory filled by a page server, while the worker runs already."""
    file_changes: Sequence[Mapping[str, Any]] = ()
    """Files to put in place first, in the words of ``agent.criu.nsenter``: one entry into the container serves both."""
    timeout: float


@dataclass(frozen=True, kw_only=True)
class CriuRestored:
    """A tree that criu has restored and left stopped."""

    steps: Sequence[Step]
    """What was done in the container, by the monotonic clock."""
    pages: PageServer | None = None
    """What still fills its memory."""
    copied_because: str = ""
    """Why all memory was copied, although a page server was asked for."""


class Criu(Protocol):
    """What captures and restores need of criu."""

    def version(self) -> str:
        """Return the version, for example ``4.2.1``; raises CriuError if criu does not run or is too old."""
        ...

    def dump(self, request: CriuDump) -> None:
        """Dump a tree, and end it unless it is to be left; raises CriuError, and then the tree continues to run."""
        ...

    def restore(self, request: CriuRestore) -> CriuRestored:
        """Restore a tree and leave it stopped.

        Raises CriuError or ContainerError, and then files and processes may be left.
        """
        ...


def common_options(options: "CriuOptions") -> list[str]:
    """Return the options that dump and restore must agree on."""
    flags = {
        "--file-locks": options.file_locks,
        "--ext-unix-sk": options.ext_unix_sk,
        "--link-remap": options.link_remap,
        "--shell-job": options.shell_job,
        "--evasive-devices": options.evasive_devices,
    }
    chosen = [flag for flag, wanted in flags.items() if wanted]
    # The files that criu would read its options from are the container's.
    return ["--no-default-config", "--manage-cgroups=ignore", *chosen]


def dump_argv(request: CriuDump, work: int, options: "CriuOptions") -> list[str]:
    """Return the arguments of ``criu dump``."""
    extra = ["--force-irmap"] if options.force_irmap else []
    extra += ["--allow-uprobes"] if options.allow_uprobes else []
    extra += ["--leave-running"] if request.leave_running else []
    extra += [part for file in request.given for part in ("--external", file)]
    return [
        *("dump", "-t", str(request.worker_pid), "-D", f"/proc/self/fd/{request.images}"),
        *("-W", f"/proc/self/fd/{work}", "-o", _DUMP_LOG, _ONLY_ERRORS),
        *("--ghost-limit", str(options.ghost_limit)),
        # A connection that the worker has not accepted yet has no owner: its peer connects again.
        *("--tcp-established", "--skip-in-flight", "--network-lock", "skip"),
        *common_options(options),
        *extra,
    ]


def restore_argv(request: CriuRestore, work: int, options: "CriuOptions", *, lazy: bool = False) -> list[str]:
    """Return the arguments of ``criu restore``: detached, and stopped until standby has said that this is a restore."""
    inherited = [part for name, fd in request.inherit.items() for part in ("--inherit-fd", f"fd[{fd}]:{name}")]
    return [
        *("restore", "-D", f"/proc/self/fd/{request.images}"),
        *("-W", f"/proc/self/fd/{work}", "-o", _RESTORE_LOG, _ONLY_ERRORS),
        *("--restore-detached", "--leave-stopped"),
        "--tcp-established" if request.keeps_connections else "--tcp-close",
        *(["--lazy-pages"] if lazy else []),
        *common_options(options),
        *inherited,
    ]


def _errors(log: str) -> list[str]:
    return [match["text"].strip() for match in _ERROR.finditer(log)]


def first_errors(log: str) -> str:
    """Return the lines of a log that say why, without those that say only that it failed."""
    causes = [text for text in _errors(log) if not text.startswith(_NOISE)]
    return "; ".join(causes[:LOG_LINES]) or "criu left no error in its log"


def why(result: RunResult, log: str) -> str:
    """Say why a run failed, in a sentence."""
    if result.code == EXIT_ENTER:
        return "criu could not enter the container: its mount namespace has ended, or its /proc is not the kernel's"
    return result.error or first_errors(log)


def dump_failed(result: RunResult, log: str) -> CriuError:
    """Distinguish a full volume from a worker that cannot be captured: criu says both among its errors."""
    words = why(result, log)
    if thread := next(filter(None, map(_REGISTERS.search, _errors(log))), None):
        words = f"thread {thread[1]} of the worker has registers in use that CRIU cannot carry (AMX tiles, APX)"
        return CriuError(AgentReason.UNSUPPORTED_REGISTERS, words)
    full = next((text for text in _FULL if any(text in error for error in _errors(log))), None)
    if full is None:
        return CriuError(AgentReason.DUMP_FAILED, words)
    return CriuError(AgentReason.STORAGE_UNWRITABLE, f"checkpoint storage: {full}; is it full? criu: {words}")


def restore_failed(result: RunResult, log: str) -> CriuError:
    """Distinguish a number that is taken after all: by a process from outside of the pod, or since it was looked at."""
    taken = next(filter(None, map(_TAKEN.search, _errors(log))), None)
    if taken is None:
        return CriuError(AgentReason.RESTORE_FAILED, why(result, log))
    words = f"process id {taken[1]} of the worker is in use in the container, by a process from outside of its pod?"
    return CriuError(AgentReason.PIDS_TAKEN, words)


@dataclass(frozen=True)
class EnteringCriu:
    """The real one: loaded from the folder ``tree`` (bin/criu, lib/ld.so, lib/*.so), then taken into the container."""

    tree: Path
    work: Path
    options: "CriuOptions"
    helpers: Helpers = field(default_factory=Helpers)
    """Processes that enter containers; shared by all copies of this."""

    def version(self) -> str:
        """See ``Criu``."""
        try:
            found = (self.tree / "bin/criu").stat()
        except OSError as error:
            raise CriuError(AgentReason.CRIU_MISSING, f"criu in {self.tree} does not run: {error}") from error
        return _version(self.tree, (found.st_ino, found.st_size, found.st_mtime_ns))

    def dump(self, request: CriuDump) -> None:
        """See ``Criu``."""
        with NamespaceRun(self.work) as run:
            argv = dump_argv(request, run.work_fd, self.options)
            result = run_in_namespaces(
                pid=request.init_pid,
                criu=CriuCommand(self.tree, argv, [run.work_fd, request.images], stays_out_of_ipc=request.with_ipc),
                helpers=self.helpers,
                timeout=request.timeout,
            )
            if result.code != 0:
                raise dump_failed(result, run.read(_DUMP_LOG))
        mend_timers(request.images)
        forget_parent(request.images, request.worker_pid)

    def restore(self, request: CriuRestore) -> CriuRestored:
        """See ``Criu``."""
        with NamespaceRun(self.work) as run:
            pages, copied_because = self._page_server(request, run)
            try:
                steps = self._run_restore(request, run, lazy=pages is not None)
            except BaseException:
                if pages is not None:
                    pages.stop()
                raise
            return CriuRestored(steps=steps, pages=pages, copied_because=copied_because)

    def _page_server(self, request: CriuRestore, run: NamespaceRun) -> tuple[PageServer | None, str]:
        if request.lazy is None:
            return None, ""
        try:
            program = self.tree / "bin/page-server"
            return PageServer.start(program, request.images, run.work_fd, request.lazy), ""
        except CriuError as error:
            return None, str(error)

    def _run_restore(self, request: CriuRestore, run: NamespaceRun, *, lazy: bool) -> Sequence[Step]:
        argv = self._restore_argv(request, run, lazy=lazy)
        result = run_in_namespaces(
            pid=request.init_pid,
            cgroups=request.cgroup_files,
            file_changes=request.file_changes,
            criu=CriuCommand(
                self.tree,
                argv,
                [run.work_fd, request.images, *request.inherit.values()],
                has_profile=request.has_profile,
                last_pid=request.last_pid,
            ),
            helpers=self.helpers,
            timeout=request.timeout,
        )
        if result.code == EXIT_FILES:
            raise ContainerError(AgentReason.FILES_FAILED, f"cannot put the worker's files back: {result.error}")
        if result.code != 0:
            raise restore_failed(result, run.read(_RESTORE_LOG))
        return result.steps

    def _restore_argv(self, request: CriuRestore, run: NamespaceRun, *, lazy: bool) -> list[str]:
        return restore_argv(request, run.work_fd, self.options, lazy=lazy)


@lru_cache(maxsize=8)
def _version(tree: Path, _file: tuple[int, int, int]) -> str:
    """Ask the criu of a folder once: that takes longer than most of what a restore does before criu."""
    library = tree / "lib"
    argv = [str(library / "ld.so"), "--library-path", str(library), str(tree / "bin/criu"), "--version"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError) as error:
        raise CriuError(AgentReason.CRIU_MISSING, f"criu in {tree} does not run: {error}") from error
    return check_version(done.stdout)


def fails_at_private_memfds(version: str) -> bool:
    """Say whether a criu of that version fails with ``--lazy-pages`` at private mappings of memfds.

    Seen of 4.3 as it comes: ``async: send req error: Socket operation on non-socket; Can't fixup VMA's fd``. 4.2.1 does
    not; of later ones it is not known.
    """
    found = re.match(r"(\d+)\.(\d+)", version)
    return found is not None and (int(found[1]), int(found[2])) >= (4, 3)


def check_version(text: str) -> str:
    """Return the version in ``criu --version``'s output.

    Raises:
        CriuError: if it is older than what this kernel generation needs, or there is none.
    """
    found = re.search(r"Version: (\d+)\.(\d+)(\.\d+)?", text)
    if found is None or (int(found[1]), int(found[2])) < OLDEST:
        raise CriuError(
            AgentReason.CRIU_TOO_OLD, f"criu {OLDEST[0]}.{OLDEST[1]} or newer is needed, found {text.strip()!r}"
        )
    return found[0].removeprefix("Version: ")
