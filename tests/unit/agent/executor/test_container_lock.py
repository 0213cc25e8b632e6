"""The agent's side of the claim: who may acquire it, and what a hostile control directory cannot do."""

import fcntl
import os

import pytest

from agent.errors import ContainerError
from agent.executor import lock
from agent.executor.lock import ControlDir, acquire, open_control_dir
from contract.api import control_files, keys
from contract.api.states import AgentReason

NONCE = "0123456789abcdef" * 2


@pytest.fixture
def directory(tmp_path):
    """Make a control directory in which this very process plays standby: it has the claim file open."""
    (tmp_path / control_files.CLAIM).write_text(f"{NONCE}\n")
    standby = os.open(tmp_path / control_files.CLAIM, os.O_RDWR)
    made = ControlDir(os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY))
    yield made
    made.close()
    os.close(standby)


def test_verdicts(directory, tmp_path):
    with acquire(directory, os.getpid()) as acquired:
        assert (NONCE, False) == (acquired.nonce, acquired.taken_before)
        acquired.allow(75.4)
        acquired.restored(1001)
        assert f"restored {NONCE} 1001\n" == (tmp_path / control_files.VERDICT).read_text()
        acquired.restored(1001, [1003, 1009])
        assert f"restored {NONCE} 1001 1003 1009\n" == (tmp_path / control_files.VERDICT).read_text()
        acquired.failed("two\nlines  of reason", clean=False)
        assert f"failed {NONCE} dirty two lines of reason\n" == (tmp_path / control_files.VERDICT).read_text()
        acquired.captured()
        assert f"captured {NONCE}\n" == (tmp_path / control_files.VERDICT).read_text()
        assert control_files.DONE == (tmp_path / control_files.SNAPSHOT_COMPLETE).read_text()
    assert f"{NONCE}\n75\n" == (tmp_path / control_files.CLAIM).read_text()
    assert 0o644 == (tmp_path / control_files.VERDICT).stat().st_mode & 0o777


@pytest.mark.parametrize(
    ("looks", "expected"),
    [
        pytest.param([True, True], True, id="obeys"),
        pytest.param([True, False], False, id="starts-cold"),
        pytest.param([False], False, id="has-started-cold"),
        pytest.param([True] * 10_000, False, id="neither-in-time"),
    ],
)
def test_a_verdict_that_comes_as_standby_gives_up(directory, tmp_path, monkeypatch, looks, expected):
    """It takes its note away if it obeys, before the second look here; a later container takes away what is left."""
    monkeypatch.setattr(lock, "GIVING_UP_SECONDS", 0.05)
    note, left = tmp_path / control_files.GAVE_UP, iter(looks)
    note.write_text("restore timed out")

    def is_awaited():
        if len(looks) == 2:
            note.unlink(missing_ok=True)
        return next(left)

    with acquire(directory, os.getpid()) as acquired:
        acquired.is_awaited = is_awaited
        if expected:
            acquired.restored(1001)
        else:
            with pytest.raises(ContainerError, match="starts cold") as refused:
                acquired.restored(1001)
            assert AgentReason.ALREADY_STARTED == refused.value.code


def test_a_long_reason_still_fits_what_standby_reads(directory, tmp_path):
    with acquire(directory, os.getpid()) as acquired:
        acquired.failed("x" * 10_000, clean=True)
    assert len((tmp_path / control_files.VERDICT).read_text()) < 4096


def test_many_stopped_processes_still_fit_what_standby_reads(directory, tmp_path):
    with acquire(directory, os.getpid()) as acquired:
        acquired.restored(4_194_304, [4_194_304] * 1000)
    assert 3000 < len((tmp_path / control_files.VERDICT).read_text()) < 4096


def test_a_parked_worker_is_that_of_this_start(directory, tmp_path):
    with acquire(directory, os.getpid()) as acquired:
        assert not acquired.is_parked()
        acquired.park(1001, "blake3:ab")
        assert (True, "blake3:ab") == (acquired.is_parked(), acquired.parked_digest())
        assert f"{NONCE} 1001 blake3:ab\n" == (tmp_path / control_files.PARKED).read_text()
        (tmp_path / control_files.PARKED).write_text(f"{NONCE[::-1]} 1001 blake3:ab\n")
        assert (False, "") == (acquired.is_parked(), acquired.parked_digest())


def test_an_attempt_that_was_cut_off_shows(directory):
    with acquire(directory, os.getpid()) as acquired:
        acquired.allow(10)
    with acquire(directory, os.getpid()) as acquired:
        assert acquired.taken_before


def test_only_one_holds_it(directory, monkeypatch):
    monkeypatch.setattr(lock, "LOCK_PATIENCE", 0.01)
    with acquire(directory, os.getpid()), pytest.raises(ContainerError, match="claimed"):
        acquire(directory, os.getpid())


def test_standby_testing_the_lock_does_not_keep_it_from_us(directory, tmp_path):
    """Standby takes it shared for a moment; we look again."""
    testing = os.open(tmp_path / control_files.CLAIM, os.O_RDONLY)
    fcntl.flock(testing, fcntl.LOCK_SH)
    os.close(testing)
    acquire(directory, os.getpid()).release()


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda d: (d / control_files.RESTORE_COMPLETE).write_text("cold-start\n"), id="started"),
        pytest.param(lambda d: (d / control_files.CLAIM).unlink(), id="gone"),
        pytest.param(lambda d: (d / control_files.CLAIM).write_text("half"), id="half-written"),
        pytest.param(
            lambda d: [(d / control_files.CLAIM).unlink(), (d / control_files.CLAIM).symlink_to("/etc/passwd")],
            id="link",
        ),
    ],
)
def test_what_cannot_be_claimed(directory, tmp_path, spoil):
    spoil(tmp_path)
    with pytest.raises(ContainerError):
        acquire(directory, os.getpid())


def test_a_claim_file_that_its_first_process_does_not_hold_open_is_a_former_containers(directory):
    with pytest.raises(ContainerError, match="no longer waits"):
        acquire(directory, os.getppid())


def test_writing_does_not_follow_a_link(directory, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("kept")
    (tmp_path / control_files.VERDICT).symlink_to(victim)
    directory.write(control_files.VERDICT, "x")
    assert "kept" == victim.read_text()
    assert "x" == (tmp_path / control_files.VERDICT).read_text()


class TestControlDirectory:
    UID = "0f9e8d7c-1a2b-4c3d-8e9f-001122334455"

    def volume(self, pods):
        path = pods / self.UID / "volumes" / "kubernetes.io~empty-dir" / keys.CONTROL_VOLUME
        path.mkdir(parents=True)
        return path

    def test_found(self, tmp_path):
        (self.volume(tmp_path) / "main").mkdir()
        os.close(open_control_dir(tmp_path, self.UID, "main"))

    def test_link_is_refused(self, tmp_path):
        (self.volume(tmp_path) / "main").symlink_to("/")
        with pytest.raises(OSError, match="symbolic links"):
            open_control_dir(tmp_path, self.UID, "main")

    @pytest.mark.parametrize("name", ["../x", "a/b", "", "."])
    def test_hostile_names(self, tmp_path, name):
        self.volume(tmp_path)
        with pytest.raises(ValueError, match="must be"):
            open_control_dir(tmp_path, self.UID, name)


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda directory: directory.write(control_files.VERDICT, "x"), id="write"),
        pytest.param(lambda directory: directory.remove(control_files.VERDICT), id="remove"),
    ],
)
def test_a_folder_in_the_way_has_a_name(directory, tmp_path, act):
    (tmp_path / control_files.VERDICT / "full").mkdir(parents=True)
    with pytest.raises(ContainerError, match="standby-verdict in the control directory: Is a directory") as blocked:
        act(directory)
    assert "control-blocked" == blocked.value.code
