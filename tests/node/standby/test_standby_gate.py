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
from tests.support.fixtures.standby_container import Container, containers

DECIDED = {
    "restored": {control_files.RESTORE_COMPLETE: control_files.DONE, control_files.VERDICT: "restored 00 7\n"},
    "cold": {control_files.RESTORE_COMPLETE: control_files.COLD_START},
}
UNDECIDED = {
    "waiting": {},
    "asked-its-canary": {control_files.RESTORE_COMPLETE: control_files.DONE},
    "a-verdict-that-standby-has-not-seen": {control_files.VERDICT: "restored 00 7\n"},
}
AS_STANDBY = 'printf snapshot-standb > /proc/$$/comm; "$@"; exit $?'
WAITING = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "bash", "-c", AS_STANDBY, "-"]
"""In a container whose first process is standby by its name."""


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
        return subprocess.run([*WAITING, standby, *words], check=False, timeout=20).returncode

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
    asked = [*WAITING, standby, "--gate", *words]
    assert 0 != subprocess.run(asked, check=False, capture_output=True).returncode


def test_the_words_are_those_of_the_control_files():
    source = (Path(__file__).parents[3] / "native/standby/gate.c").read_text()
    for word in (control_files.RESTORE_COMPLETE, control_files.VERDICT, control_files.COLD_START.strip()):
        assert f'"{word}"' in source


class TestAControlDirectoryThatCannotBeWritten:
    """The cold start leaves no file there, and kubelet would end the worker once the gate's time is over."""

    WORKER = ("--", "bash", "-c", "echo worker; trap 'exit 7' TERM; while :; do read -t 1 x < /dev/zero || :; done")
    GATES = pytest.mark.parametrize("gate", [["--opened"], ["--gate", "5"]], ids=["opened", "gate"])

    @pytest.fixture
    def start(self, standby, tmp_path):
        mounted = []

        def full(directory: Path) -> None:
            mounted.append(directory)
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k,mode=777", "control", directory], check=True)
            (directory / "other").write_bytes(b"x" * 4096)

        def read_only(directory: Path) -> None:
            mounted.append(directory)
            subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "control", directory], check=True)

        ways = {"full": full, "read-only": read_only, "writable": lambda _: None}
        with containers(standby, tmp_path) as make:
            yield lambda way: make(*self.WORKER, prepare=ways[way])
        for directory in mounted:
            subprocess.run(["umount", directory], check=True)

    @GATES
    @pytest.mark.parametrize("way", ["full", "read-only"])
    def test_the_gate_opens_once_the_worker_runs(self, standby, start, way, gate):
        container = start(way)
        assert "SNAPSHOT_COLD_START" in container.says("worker")
        assert not (container.dir / control_files.RESTORE_COMPLETE).exists()
        assert 0 == asked(container, standby, gate)

    @GATES
    def test_it_is_shut_while_standby_waits(self, standby, start, gate):
        container = start("writable")
        container.nonce()
        assert 1 == asked(container, standby, gate)


def asked(container: Container, standby: Path, gate: list[str]) -> int:
    """Ask as kubelet does, in the container."""
    inside = ["nsenter", "-t", str(container.init()), "-p", "-m", "--", standby, gate[0], container.dir, *gate[1:]]
    return subprocess.run(inside, check=False, timeout=20).returncode
