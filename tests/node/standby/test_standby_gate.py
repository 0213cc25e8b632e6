"""The startup probe of a container with a canary, as kubelet runs it: in the container, by its exit code."""

import http.server
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from contract.api import control_files
from contract.pods.startup_gate import startup_gate
from tests.support.builders.objects import container

DECIDED = {
    "restored": {control_files.RESTORE_COMPLETE: control_files.DONE, control_files.VERDICT: "restored 00 7\n"},
    "cold": {control_files.RESTORE_COMPLETE: control_files.COLD_START},
}
UNDECIDED = {
    "waiting": {},
    "asked-its-canary": {control_files.RESTORE_COMPLETE: control_files.DONE},
    "a-verdict-that-standby-has-not-seen": {control_files.VERDICT: "restored 00 7\n"},
}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response({"/health": 200, "/moved": 302}.get(self.path, 503))
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def port():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def run(standby, tmp_path):
    def run(files: dict[str, str], probe: dict) -> int:
        for name, content in files.items():
            (tmp_path / name).write_text(content)
        gate = startup_gate(container(readinessProbe=probe), str(tmp_path), canary=True)
        words = gate["exec"]["command"][1:]
        return subprocess.run([standby, *words], check=False, timeout=20).returncode

    return run


def http_get(port: int, path: str = "/health") -> dict:
    return {"httpGet": {"path": path, "port": port, "host": "127.0.0.1"}}


@pytest.mark.parametrize("files", DECIDED.values(), ids=DECIDED)
def test_a_worker_that_serves_passes_once_there_is_a_verdict(run, port, files):
    assert 0 == run(files, http_get(port))


@pytest.mark.parametrize("files", UNDECIDED.values(), ids=UNDECIDED)
def test_until_then_it_does_not_though_it_serves(run, port, files):
    assert 1 == run(files, http_get(port))


@pytest.mark.parametrize(
    ("probe", "passes"),
    [
        pytest.param(lambda port: http_get(port, "/moved"), True, id="a-redirect-is-success-as-for-kubelet"),
        pytest.param(lambda port: http_get(port, "/none"), False, id="an-error"),
        pytest.param(lambda _: http_get(1), False, id="nobody-listens"),
        pytest.param(lambda port: {"tcpSocket": {"port": port, "host": "127.0.0.1"}}, True, id="tcp"),
        pytest.param(lambda _: {"tcpSocket": {"port": 1, "host": "127.0.0.1"}}, False, id="tcp-nobody"),
        pytest.param(lambda _: {"tcpSocket": {"port": 1, "host": "name.example"}}, False, id="names-are-not-resolved"),
        pytest.param(lambda _: {"exec": {"command": ["true"]}}, True, id="program"),
        pytest.param(lambda _: {"exec": {"command": ["false"]}}, False, id="program-fails"),
        pytest.param(lambda _: {"exec": {"command": ["no-such-program"]}}, False, id="no-program"),
    ],
)
def test_the_workers_own_probe_counts(run, port, probe, passes):
    assert passes == (run(DECIDED["cold"], probe(port)) == 0)


def test_without_a_host_the_pods_own_address_is_asked(run):
    with socket.create_server(("0.0.0.0", 0)) as server:
        assert 0 == run(DECIDED["cold"], {"tcpSocket": {"port": server.getsockname()[1]}})


def test_a_worker_that_never_answers_fails_in_time(run):
    with socket.create_server(("127.0.0.1", 0)) as server:
        started = time.monotonic()
        assert 0 != run(DECIDED["cold"], http_get(server.getsockname()[1]))
        assert time.monotonic() - started < 10


@pytest.mark.parametrize("words", [[], ["/no-such-folder", "1"]], ids=["no-words", "no-folder"])
def test_what_is_not_understood_does_not_pass(standby, words):
    assert 0 != subprocess.run([standby, "--gate", *words], check=False, capture_output=True).returncode


def test_the_words_are_those_of_the_control_files():
    source = (Path(__file__).parents[3] / "native/standby/gate.c").read_text()
    for word in (control_files.RESTORE_COMPLETE, control_files.VERDICT, control_files.COLD_START.strip()):
        assert f'"{word}"' in source
