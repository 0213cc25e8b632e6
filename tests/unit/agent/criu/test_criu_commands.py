"""Command lines of criu, and what its output means."""

from pathlib import Path

import pytest

from agent.criu.driver import (
    CriuDump,
    CriuRestore,
    EnteringCriu,
    check_version,
    dump_argv,
    dump_failed,
    fails_at_private_memfds,
    first_errors,
    restore_argv,
    restore_failed,
    why,
)
from agent.criu.nsenter import EXIT_ENTER
from agent.criu.runner import RunResult
from agent.errors import CriuError
from contract.api.states import AgentReason
from contract.config.values import load_values

OPTIONS = load_values("").config.criu


def test_dump():
    argv = dump_argv(CriuDump(init_pid=5, worker_pid=1001, images=7, timeout=1), 8, OPTIONS)
    assert ["dump", "-t", "1001", "-D", "/proc/self/fd/7", "-W", "/proc/self/fd/8"] == argv[:7]
    assert {"--manage-cgroups=ignore", "--file-locks", "--link-remap"} <= set(argv)
    assert {"--tcp-established", "--skip-in-flight"} <= set(argv)
    assert "--leave-running" not in argv


def test_a_file_that_a_restore_is_given_is_not_dumped():
    argv = dump_argv(CriuDump(init_pid=5, worker_pid=1001, images=7, given=("file[0:7a]",), timeout=1), 8, OPTIONS)
    assert "file[0:7a]" == argv[argv.index("--external") + 1]


def test_no_options_come_from_files():
    argv = dump_argv(CriuDump(init_pid=5, worker_pid=1001, images=7, timeout=1), 8, OPTIONS)
    assert "--no-default-config" in argv


def test_criu_logs_no_more_than_is_read_of_a_log():
    dump = CriuDump(init_pid=5, worker_pid=1001, images=7, timeout=1)
    restore = CriuRestore(init_pid=5, images=7, cgroup_files=[], inherit={}, timeout=1)
    levels = [word for argv in (dump_argv(dump, 8, OPTIONS), restore_argv(restore, 8, OPTIONS)) for word in argv]
    assert ["-v1", "-v1"] == [word for word in levels if word.startswith("-v")]


@pytest.mark.parametrize(
    ("keeps", "expected"),
    [
        pytest.param(True, "--tcp-established", id="as-the-images-say"),
        pytest.param(False, "--tcp-close", id="of-an-earlier-release"),
    ],
)
def test_restore_is_detached_and_stopped(keeps, expected):
    request = CriuRestore(
        init_pid=5, images=7, cgroup_files=[], inherit={"pipe:[11]": 9}, keeps_connections=keeps, timeout=1
    )
    argv = restore_argv(request, 8, OPTIONS)
    assert {"--restore-detached", "--leave-stopped"} <= set(argv)
    assert [expected] == [word for word in argv if word.startswith("--tcp")]
    assert "--lazy-pages" not in argv
    assert "--lazy-pages" in restore_argv(request, 8, OPTIONS, lazy=True)
    assert "fd[9]:pipe:[11]" == argv[argv.index("--inherit-fd") + 1]


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        pytest.param(
            "(00.1) Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: no\n"
            "(00.2) Error (criu/files-reg.c:1790): Can't lookup mount=24\n"
            "(00.3) Error (criu/cr-dump.c:1975): Dumping FAILED.\n",
            "Can't lookup mount=24",
            id="without-noise",
        ),
        pytest.param("\n".join(f"Error (a:{n}): e{n}" for n in range(9)), "e0; e1; e2", id="the-first-ones"),
        pytest.param("", "criu left no error in its log", id="none"),
    ],
)
def test_first_errors(log, expected):
    assert expected == first_errors(log)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        pytest.param(RunResult(1), "no space", id="its-log"),
        pytest.param(RunResult(-1, error="not done within 5 s"), "not done within 5 s", id="its-helper"),
        pytest.param(RunResult(EXIT_ENTER), "could not enter the container", id="not-started"),
    ],
)
def test_why(result, expected):
    assert expected in why(result, "Error (criu/pages.c:1): no space")


@pytest.mark.parametrize(
    ("explain", "code", "words", "log"),
    [
        pytest.param(
            dump_failed,
            AgentReason.STORAGE_UNWRITABLE,
            "checkpoint storage: No space left on device; is it full? criu: page-xfer: Unable to spice data: No space",
            "(00.1) Error (criu/page-xfer.c:1): page-xfer: Unable to spice data: No space left on device\n",
            id="full",
        ),
        pytest.param(
            dump_failed,
            AgentReason.STORAGE_UNWRITABLE,
            "checkpoint storage: Disk quota exceeded; is it full?",
            "(00.1) Error (criu/image.c:1): cannot write: Disk quota exceeded\n",
            id="quota",
        ),
        pytest.param(
            dump_failed,
            AgentReason.DUMP_FAILED,
            "Can't lookup mount=24",
            "(00.1) No space left on device, said a worker's file\n(00.2) Error (criu/a.c:1): Can't lookup mount=24\n",
            id="another-of-a-dump",
        ),
        pytest.param(
            dump_failed,
            AgentReason.UNSUPPORTED_REGISTERS,
            "thread 1001 of the worker has registers in use",
            "(00.1) Error (compel/arch/x86/src/lib/infect.c:354): Can't obtain FPU registers for 1001: "
            "Device or resource busy\n",
            id="registers",
        ),
        pytest.param(
            restore_failed,
            AgentReason.PIDS_TAKEN,
            "process id 1001 of the worker is in use in the container",
            "(00.01) Error (criu/cr-restore.c:1234): Can't fork for 1001: File exists\n",
            id="number-taken",
        ),
        pytest.param(
            restore_failed,
            AgentReason.RESTORE_FAILED,
            "Can't fork for 1001: Cannot allocate memory",
            "(00.01) Error (criu/cr-restore.c:1234): Can't fork for 1001: Cannot allocate memory\n",
            id="another-of-a-restore",
        ),
    ],
)
def test_no_fault_of_the_worker_is_said_as_one(explain, code, words, log):
    failed = explain(RunResult(1), log)

    assert code == failed.code
    assert words in str(failed)


@pytest.mark.parametrize(
    ("text", "version"), [("Version: 4.2\n", "4.2"), ("Version: 4.2.1\nGitID: 0", "4.2.1"), ("Version: 10.0", "10.0")]
)
def test_version(text, version):
    assert version == check_version(text)


@pytest.mark.parametrize("text", ["Version: 4.1.1", "Version: 3.17.1", "", "nonsense"])
def test_too_old(text):
    with pytest.raises(CriuError, match=r"4\.2 or newer"):
        check_version(text)


def test_missing_folder(tmp_path):
    with pytest.raises(CriuError, match="does not run"):
        EnteringCriu(Path(tmp_path), tmp_path, OPTIONS).version()


@pytest.mark.parametrize(
    ("expected", "version"),
    [(False, "4.2.1"), (True, "4.3"), (True, "4.3.2"), (True, "5.0"), (False, "unknown")],
)
def test_the_version_that_fails_at_private_memfds(expected, version):
    assert expected == fails_at_private_memfds(version)
