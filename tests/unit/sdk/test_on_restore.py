"""Hooks after a restore: once, in order, each with its time; generators and environment renewed before them."""

import os
import sys
import threading
from types import SimpleNamespace

import pytest

import snapshot_sdk
from contract.api import control_files, keys
from snapshot_sdk import HookTimeoutError, Outcome, _renewed, _restored
from tests.support.fixtures.bare_container import wait_for


@pytest.fixture
def called(monkeypatch):
    """Gather what is called; generators only say so."""
    names = []
    monkeypatch.setattr(_renewed, "SECRET", (lambda _: names.append("secret"),))
    monkeypatch.setattr(_renewed, "REPEATABLE", (lambda _: names.append("generators"),))
    monkeypatch.setattr(_restored, "_process", _restored._Process())
    monkeypatch.setattr(snapshot_sdk, "_keeps_seeds", False)
    return names


@pytest.fixture
def restored(tmp_path, monkeypatch, called):
    monkeypatch.setenv(keys.ENV_CONTROL_DIR, str(tmp_path))
    (tmp_path / control_files.RESTORE_COMPLETE).write_text(control_files.DONE)
    return called


def note(called, name):
    return lambda: called.append(name)


class TestQuiesce:
    def test_hooks_are_called_once_and_in_order(self, restored):
        for name in ("first", "second"):
            snapshot_sdk.on_restore(note(restored, name))
        assert [Outcome.RESTORED] * 2 == [snapshot_sdk.quiesce(), snapshot_sdk.quiesce()]
        assert ["secret", "generators", "first", "second"] == restored

    def test_seeds_are_kept_on_request(self, restored):
        snapshot_sdk.keep_seeds()
        snapshot_sdk.quiesce()
        assert ["secret"] == restored

    @pytest.mark.parametrize(
        ("words", "options"),
        [
            pytest.param("hook lease did not return within 0.01 s", {"name": "lease"}, id="named"),
            pytest.param("hook TestQuiesce.test_a_late_hook", {}, id="name-of-the-function"),
        ],
    )
    def test_a_late_hook_is_named(self, restored, words, options):
        release = threading.Event()

        def late():
            release.wait(30)

        snapshot_sdk.on_restore(late, seconds=0.01, **options)
        snapshot_sdk.on_restore(note(restored, "after"))
        with pytest.raises(HookTimeoutError, match=words):
            snapshot_sdk.quiesce()
        release.set()
        assert ["secret", "generators"] == restored

    @pytest.mark.usefixtures("restored")
    def test_what_a_hook_raises_is_raised(self):
        @snapshot_sdk.on_restore
        def reconnect():
            raise ConnectionError("no server")

        with pytest.raises(ConnectionError, match="no server"):
            snapshot_sdk.quiesce()

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            pytest.param(control_files.RESTORE_COMPLETE, control_files.COLD_START, id="cold"),
            pytest.param(control_files.SNAPSHOT_COMPLETE, control_files.DONE, id="captured"),
        ],
    )
    def test_nothing_is_called_without_a_restore(self, restored, tmp_path, name, content):
        (tmp_path / control_files.RESTORE_COMPLETE).unlink()
        (tmp_path / name).write_text(content)
        snapshot_sdk.on_restore(note(restored, "hook"))
        snapshot_sdk.quiesce()
        assert [] == restored


class TestWithoutQuiesce:
    @pytest.fixture
    def waiting(self, restored, tmp_path):  # noqa: ARG002 - the file that it removes
        """Let the thread that waits for a restore see one, and wait until it is done."""
        (tmp_path / control_files.RESTORE_COMPLETE).unlink()

        def wake(claim="a"):
            (tmp_path / control_files.CLAIM).write_text(f"{claim}\n")
            (tmp_path / control_files.RESTORE_COMPLETE).write_text(control_files.DONE)
            wait_for(lambda: _restored._process.done_in == claim, "the thread", 5)
            with _restored._process.lock:
                pass

        return wake

    def test_hooks_are_called_from_a_thread(self, waiting, restored):
        for name in ("first", "second"):
            snapshot_sdk.on_restore(note(restored, name))
        waiting()
        assert ["secret", "generators", "first", "second"] == restored

    def test_and_again_in_the_next_container_but_not_in_the_same(self, waiting, restored):
        snapshot_sdk.on_restore(note(restored, "hook"))
        for claim in ("a", "a", "b"):
            waiting(claim)
        assert 2 * ["secret", "generators", "hook"] == restored

    def test_also_of_a_worker_that_was_captured_while_it_ran(self, waiting, restored, tmp_path):
        (tmp_path / control_files.CLAIM).write_text("a\n")
        (tmp_path / control_files.RESTORE_COMPLETE).write_text(control_files.COLD_START)
        snapshot_sdk.on_restore(note(restored, "hook"))
        waiting("b")
        assert ["secret", "generators", "hook"] == restored

    def test_an_error_is_printed(self, waiting, restored, capsys):
        snapshot_sdk.on_restore(lambda: 1 // 0)
        snapshot_sdk.on_restore(note(restored, "after"))
        waiting()
        said = []
        words = "snapshot_sdk: after the restore: ZeroDivisionError"
        wait_for(lambda: said.append(capsys.readouterr().err) or words in "".join(said), words, 5)
        assert ["secret", "generators"] == restored

    def test_no_thread_without_a_control_directory(self, called, monkeypatch):
        for name in snapshot_sdk.ENV_CONTROL_DIR:
            monkeypatch.delenv(name, raising=False)
        before = threading.active_count()
        snapshot_sdk.on_restore(note(called, "hook"))
        assert before == threading.active_count()


class Seeded(SimpleNamespace):
    """Is there for a module: it gives the same numbers always, and notes its seeds."""

    def __init__(self):
        self.seeds = []
        super().__init__(seed=self.seeds.append, manual_seed=self.seeds.append, RAND_add=self.note)

    def note(self, fresh, entropy):
        self.seeds.append((fresh, entropy))

    def getrandbits(self, _):
        return 7

    def bytes(self, count):
        return b"7" * count

    def initial_seed(self):
        return 7


class TestGenerators:
    @pytest.mark.parametrize(
        ("module", "reseed", "same_for_ranks"),
        [
            pytest.param("random", _renewed.reseed_random, True, id="random"),
            pytest.param("_ssl", _renewed.reseed_openssl, False, id="openssl"),
            pytest.param("numpy.random", _renewed.reseed_numpy, True, id="numpy"),
            pytest.param("torch", _renewed.reseed_torch, True, id="torch"),
        ],
    )
    def test_another_seed_in_each_container(self, monkeypatch, module, reseed, same_for_ranks):
        """And the same in two processes of one container whose generators were the same; secrets never are."""
        stand_in = Seeded()
        monkeypatch.setitem(sys.modules, module, stand_in)
        for place in (b"one", b"one", b"other"):
            reseed(place)
        first, second, other = stand_in.seeds
        assert first != other
        assert same_for_ranks == (first == second)

    @pytest.mark.parametrize("reseed", [*_renewed.SECRET, *_renewed.REPEATABLE])
    def test_nothing_is_imported_for_it(self, monkeypatch, reseed):
        for name in ("random", "_ssl", "numpy.random", "torch"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        before = set(sys.modules)
        reseed(b"one")
        assert before == set(sys.modules)


@pytest.mark.parametrize(
    ("expected", "captured", "own", "now"),
    [
        pytest.param("b", "a", "a", "b", id="follows-the-container"),
        pytest.param("own", "a", "own", "b", id="the-workers-own-stays"),
        pytest.param("b", None, None, "b", id="new-in-this-container"),
        pytest.param("a", "a", "a", None, id="gone-from-the-container"),
        pytest.param(None, "a", None, "b", id="removed-by-the-worker"),
    ],
)
@pytest.mark.parametrize("name", ["POD_NAME", "DYN_SNAPSHOT_POLICY"])
def test_environment(monkeypatch, tmp_path, expected, captured, own, now, name):
    monkeypatch.delenv(name, raising=False)
    if own is not None:
        monkeypatch.setenv(name, own)
    (tmp_path / "environ").write_text("" if now is None else f"A=1\0{name}={now}\0")
    monkeypatch.setattr(_renewed, "_FIRST_PROCESS", str(tmp_path / "environ"))
    monkeypatch.setenv("A", "1")
    _renewed.renew_environment({"A": "1"} | ({} if captured is None else {name: captured}))
    assert (own if name.startswith(_renewed.OURS) else expected) == os.environ.get(name)


def test_an_environment_that_cannot_be_read_changes_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(_renewed, "_FIRST_PROCESS", str(tmp_path / "none"))
    before = dict(os.environ)
    _renewed.renew_environment({})
    assert before == dict(os.environ)


def test_what_the_watching_thread_met_first_is_raised_for_the_second_as_well(restored):
    def fails():
        raise ConnectionError("no peer")

    _restored._process.hooks.append(_restored._Hook(fails, 5, "fails"))
    for _ in range(2):
        with pytest.raises(ConnectionError, match="no peer"):
            _restored.renew()
