"""Databases of SQLite around captures of workers that go on, and record locks that a restored worker cannot have."""

import fcntl
import os

import pytest

from artifact.manifest import DATABASES_FORMAT_VERSION, parse_manifest
from contract.api.states import AgentReason
from tests.support.fixtures.bare_container import PYTHON, BareContainer, wait_for
from tests.support.fixtures.engine import COLD, AfterCriu, until_ready
from tests.support.fixtures.runc_container import RuncContainer

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

SERVES = """
import ctypes, http.server, os, sqlite3, sys
ctypes.CDLL(None).mallopt(-3, 1 << 30)  # all of the heap is in one piece, which is filled while the worker runs
held = [os.urandom(1 << 20) for _ in range(int(sys.argv[2]))]
database = sqlite3.connect("/scratch/jobs", isolation_level=None)
database.execute(f"pragma journal_mode={sys.argv[1]}")
database.execute("create table jobs (number integer primary key)")

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        database.execute("insert into jobs default values")
        other = sqlite3.connect("/scratch/jobs")
        body = str(other.execute("select count(*) from jobs").fetchone()[0]).encode()
        other.close()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

server = http.server.HTTPServer(("0.0.0.0", 8000), Handler)
print("serves", flush=True)
server.serve_forever()
"""
STAYS = (PYTHON, "-c", "import time; print('cold', flush=True); time.sleep(60)")
LOCKS = """
import fcntl, mmap, os, sys, threading
sys.path.insert(0, "/tools")
import snapshot_sdk
file = open("/scratch/locked", "w+b")
file.truncate(4096)
memory = mmap.mmap(file.fileno(), 4096)
fcntl.lockf(file, fcntl.LOCK_EX, 1, 7)
print("warm", flush=True)
snapshot_sdk.quiesce()
print("restored", flush=True)
threading.Event().wait()
"""


def jobs(worker: BareContainer) -> int:
    """Have a worker add a job; return how many its database has then."""
    return int(wait_for(worker.get, "an answer"))


LARGE = 100
"""MiB: memory of so much is filled while the worker runs already."""


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize(
    ("options", "mebibytes"),
    [
        pytest.param({}, 0, id="root"),
        pytest.param({}, LARGE, id="large"),
        pytest.param({"kind": RuncContainer, "user": 1000}, LARGE, id="user"),
    ],
)
async def test_a_worker_that_goes_on_writes_on_and_so_do_those_restored_from_it(
    node, mode, options, mebibytes, request
):
    name = "databases-" + request.node.callspec.id
    kind, rest = options.get("kind", BareContainer), {"user": options["user"]} if "user" in options else {}
    source = node.start_as(kind, "--serve", "--", PYTHON, "-c", SERVES, mode, str(mebibytes), **rest)
    source.says("serves")
    assert [1, 2] == [jobs(source), jobs(source)]
    for generation in range(1, 3):
        captured = await node.capture_running(source, f"{name}-{generation}")
        assert captured.ok, captured
        text = (node.store / f"{name}-{generation}" / "versions/1/manifest.yaml").read_bytes()
        manifest = parse_manifest(text, f"{name}-{generation}")
        (database,) = manifest.process.databases
        assert (DATABASES_FORMAT_VERSION, 1) == (manifest.format_version, len(database.places))
        target = node.start_as(kind, "--", *STAYS, **rest)
        target.init()
        restored = await node.restore(target, f"{name}-{generation}", captured.manifest_digest)
        assert restored.ok, restored
        for worker in (source, target):  # each has a copy of its own
            assert [2 * generation + 1, 2 * generation + 2] == [jobs(worker), jobs(worker)]
        source = target


async def test_a_lock_that_another_container_has_by_then_is_a_cold_start(node):
    """The restored worker would take for its own what another one writes."""
    source = node.start_as(BareContainer, "--capture", "--", PYTHON, "-c", LOCKS)
    until_ready(source)
    captured = await node.capture(source, "databases-locked")
    assert captured.ok, captured
    target = node.start_as(BareContainer, "--", *STAYS)
    taken = []
    target.init()

    def take(_) -> None:
        taken.append((target.volumes / "scratch/locked").open("r+b"))
        fcntl.lockf(taken[0], fcntl.LOCK_SH | fcntl.LOCK_NB, 1, 7)

    AfterCriu(node, take)
    outcome = await node.restore(target, "databases-locked", captured.manifest_digest)
    taken[0].close()
    assert (False, AgentReason.RESTORE_FAILED) == (outcome.ok, outcome.reason), outcome
    assert "is locked by another container of the pod" in outcome.message
    target.says("cold")
    assert COLD in target.text()
    assert "restored" not in target.text()
