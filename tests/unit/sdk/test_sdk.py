"""The SDK's words are the contract's; it waits for the right file, and never if no answer can come."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

import snapshot_sdk
from contract.api import control_files, keys
from snapshot_sdk import Outcome

SDK = Path(snapshot_sdk.__file__).parents[1]


@pytest.fixture
def control_dir(tmp_path, monkeypatch):
    monkeypatch.setenv(keys.ENV_CONTROL_DIR, str(tmp_path))
    monkeypatch.setattr(snapshot_sdk, "_keeps_seeds", True)  # those of this process are pytest's
    return tmp_path


@pytest.mark.parametrize("word", ["READY_FOR_SNAPSHOT", "SNAPSHOT_COMPLETE", "RESTORE_COMPLETE", "RESTORE_CONTEXT",
                                  "CLAIM", "DONE", "COLD_START"])  # fmt: skip
def test_words_equal_the_contract(word):
    assert getattr(control_files, word) == getattr(snapshot_sdk, word)


def test_environment_equals_the_contract():
    assert (keys.ENV_CONTROL_DIR, keys.ENV_CONTROL_DIR_NEW) == snapshot_sdk.ENV_CONTROL_DIR


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        pytest.param(control_files.RESTORE_COMPLETE, control_files.DONE, Outcome.RESTORED, id="restored"),
        pytest.param(control_files.RESTORE_COMPLETE, control_files.COLD_START, Outcome.COLD, id="cold"),
        pytest.param(control_files.SNAPSHOT_COMPLETE, control_files.DONE, Outcome.CAPTURED, id="captured"),
    ],
)
def test_waits_for_the_answer(control_dir, name, content, expected):
    outcomes = []
    worker = threading.Thread(target=lambda: outcomes.append(snapshot_sdk.quiesce()))
    worker.start()
    while not (control_dir / control_files.READY_FOR_SNAPSHOT).exists():
        worker.join(0.01)
    assert not outcomes
    assert control_files.DONE == (control_dir / control_files.READY_FOR_SNAPSHOT).read_text()
    (control_dir / name).write_text(content)
    worker.join(5)
    assert [expected] == outcomes


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({}, id="no-variable"),
        pytest.param({keys.ENV_CONTROL_DIR: "/nonexistent"}, id="no-directory"),
        pytest.param({keys.ENV_CONTROL_DIR: "/proc"}, id="not-writable"),
    ],
)
def test_never_waits_where_nobody_would_answer(monkeypatch, environment):
    for name in snapshot_sdk.ENV_CONTROL_DIR:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert snapshot_sdk.quiesce() is Outcome.NOT_MANAGED


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param('{"podName": "b"}', {"podName": "b"}, id="object"),
        pytest.param("[1]", {}, id="not-an-object"),
        pytest.param("{", {}, id="not-json"),
        pytest.param("[" * 100_000, {}, id="nested-without-end"),
    ],
)
def test_restore_context(control_dir, content, expected):
    (control_dir / control_files.RESTORE_CONTEXT).write_text(content)
    assert expected == snapshot_sdk.restore_context()


def test_a_sign_is_a_sign_whatever_it_holds(control_dir):
    (control_dir / control_files.RESTORE_COMPLETE).write_bytes(b"\xff")
    assert snapshot_sdk.quiesce() is Outcome.RESTORED


def test_restore_context_is_empty_without_a_file(control_dir):
    assert {} == snapshot_sdk.restore_context()


def test_import_is_tiny():
    """Strangers import this: it may load no module that a bare interpreter has not loaded, but enum's few."""
    before = "import sys, os, enum, time, __future__; before = set(sys.modules)"
    script = f"{before}; import snapshot_sdk; print(set(sys.modules) - before)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", script], env={"PYTHONPATH": str(SDK)}, capture_output=True, text=True, check=True
    )
    assert "{'snapshot_sdk'}" == done.stdout.strip()
