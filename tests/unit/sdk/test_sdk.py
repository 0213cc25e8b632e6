"""The SDK's words are the contract's; it waits for the right file, and never if no answer can come."""

import http.server
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import snapshot_sdk
from contract.api import control_files, keys, trigger
from snapshot_sdk import Outcome, _restored

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


def test_the_trigger_is_where_the_agent_listens():
    assert (str(trigger.ADDRESS), trigger.PORT, trigger.PATH) == snapshot_sdk.TRIGGER


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
        pytest.param('{"checkpointId": "a", "env": {}}', {"checkpointId": "a", "env": {}}, id="object"),
        pytest.param('{"env": {}}', {}, id="standby's-own"),
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


class Agent(http.server.BaseHTTPRequestHandler):
    """Answers as the node agent does, or as the test says."""

    answer = b""
    before = staticmethod(lambda: None)

    def do_POST(self):
        self.before()
        if self.answer:
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.answer)))
            self.end_headers()
            self.wfile.write(self.answer)

    def log_message(self, *_):
        pass


@pytest.fixture
def agent(monkeypatch):
    """Listen where the SDK asks; return the handler, whose answer a test sets."""
    handler = type("Handler", (Agent,), {})
    server = http.server.HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setattr(snapshot_sdk, "TRIGGER", (*server.server_address, "/checkpoint"))
    yield handler
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "reason", "answer"),
    [
        pytest.param("created", "", b'{"status": "created", "checkpoint": "c", "id": "i"}', id="created"),
        pytest.param("skipped", "exists", b'{"status": "skipped", "reason": "exists"}', id="skipped"),
        pytest.param("failed", "not understood", b"[]", id="no-object"),
        pytest.param("failed", "no answer from a snapshot agent", b"{", id="no-json"),
        pytest.param("failed", "RemoteDisconnected", b"", id="hung-up"),
    ],
)
def test_the_answer_is_returned_whatever_it_is(agent, status, reason, answer):
    agent.answer = answer
    found = snapshot_sdk.checkpoint()
    assert status == found["status"]
    assert reason in found["reason"]
    assert {"status", "reason", "checkpoint", "id"} == found.keys()


def test_nothing_is_raised_where_no_agent_listens(monkeypatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr(snapshot_sdk, "TRIGGER", (*closed.getsockname(), "/checkpoint"))
        assert "failed" == snapshot_sdk.checkpoint()["status"]


def test_a_restored_process_says_so(agent, tmp_path, monkeypatch):
    """Its connection has ended, and its container is another one."""
    monkeypatch.setenv(keys.ENV_CONTROL_DIR, str(tmp_path))
    monkeypatch.setattr(_restored, "renew", lambda: None)
    (tmp_path / "standby-claim").write_text("a" * 32 + "\n")
    (tmp_path / "restore-complete").write_text("cold-start\n")

    def restore():
        (tmp_path / "standby-claim").write_text("b" * 32 + "\n")
        (tmp_path / "restore-complete").write_text("done\n")

    agent.before = staticmethod(restore)
    assert "restored" == snapshot_sdk.checkpoint()["status"]
