"""A worker is captured and restored only if it answers its owner's question as it should."""

import json
import os

import pytest

from contract.api import control_files
from contract.api.states import AgentReason
from contract.pods.canary import Canary, CanaryCall
from tests.node.engine.test_running_captures import SHELLS
from tests.support.fixtures.bare_container import PYTHON, BareContainer
from tests.support.fixtures.engine import until_ready

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

WORKER = """
import http.server, json, os, sys, threading
sys.path.insert(0, "/tools")
import snapshot_sdk
asked, weights, settled = 0, {weights}, threading.Event()
woken = os.environ["DYN_SNAPSHOT_CONTROL_DIR"] + "/restore-complete"
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        global asked
        asked += 1
        if os.path.exists(woken):  # a restored worker answers once it has done what it does after a restore
            settled.wait(30)
        body = json.dumps(dict(id=asked, weights=weights, path=self.path)).encode()
        self.send_response({status})
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        self.path = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.do_GET()
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("", 8000), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("warm", flush=True)
snapshot_sdk.quiesce()
{after}
settled.set()
threading.Event().wait()
"""
SAME = {"same": True, "select": ("/weights",)}
FORGETS = "weights = 'lost'"


def call(**fields) -> CanaryCall:
    return CanaryCall(Canary(path="/", seconds=5, **fields), 8000)


def worker(node, *, weights="[1, 2, 3]", after="pass", status="200", before="") -> BareContainer:
    script = before + WORKER.format(weights=weights, after=after, status=status)
    source = node.start_as(BareContainer, "--capture", "--", PYTHON, "-c", script)
    until_ready(source)
    return source


@pytest.mark.parametrize(
    ("checkpoint_id", "canary"),
    [
        pytest.param("canary-same", call(**SAME), id="same-in-what-counts"),
        pytest.param("canary-post", call(body={"prompt": "x"}, same=True, select=("/path",)), id="a-prompt"),
        pytest.param("canary-status", call(), id="status"),
    ],
)
async def test_a_worker_that_answers_as_before_is_restored(node, checkpoint_id, canary):
    captured = await node.capture(worker(node), checkpoint_id, canary=canary)
    assert captured.ok, captured
    assert canary.canary.same == ("canary" in captured.seconds)
    target = node.start_as(BareContainer, "--", PYTHON, "-c", "print('cold', flush=True)")
    target.init()
    restored = await node.restore(target, checkpoint_id, captured.manifest_digest, canary=canary)
    assert restored.ok, restored
    assert restored.seconds["canary"] > 0
    assert [1, 2, 3] == json.loads(target.get())["weights"]


async def test_no_process_that_is_woken_for_it_sees_its_children_stopped(node):
    captured = await node.capture(worker(node, before=f"import os, time\n{SHELLS}"), "canary-shells")
    target = node.start_as(BareContainer, "--", PYTHON, "-c", "print('cold', flush=True)")
    target.init()
    restored = await node.restore(target, "canary-shells", captured.manifest_digest, canary=call())
    assert restored.ok, restored
    assert "" == target.run("ls /var/tmp | grep stopped-").stdout


@pytest.mark.parametrize(
    ("fields", "canary", "words"),
    [
        pytest.param({"status": "500"}, call(same=True), "status 500, not 200", id="an-error"),
        pytest.param({}, call(same=True, select=("/no",)), "lacks what select names", id="nothing-to-compare"),
        pytest.param({}, CanaryCall(Canary(path="/", same=True), 8001), "Connection refused", id="nobody-there"),
        pytest.param({}, call(same=True, sha256="0" * 64), "sha256 of its answer", id="another-digest"),
    ],
)
async def test_a_source_that_fails_its_canary_is_not_touched(node, fields, canary, words):
    source = worker(node, **fields)
    outcome = await node.capture(source, "canary-source", canary=canary)
    assert (False, AgentReason.CANARY_FAILED) == (outcome.ok, outcome.reason)
    assert words in outcome.message
    assert "dump" not in outcome.seconds


@pytest.mark.parametrize(
    ("after", "canary", "words"),
    [
        pytest.param(FORGETS, call(**SAME), "another than just before the capture", id="another-answer"),
        pytest.param("Handler.send_response = None", call(**SAME), "canary: GET /", id="no-answer"),
        pytest.param("os._exit(3)", call(**SAME), "ended at once", id="ended"),
    ],
)
async def test_an_artifact_whose_worker_answers_wrongly_is_not_kept(node, after, canary, words):
    outcome = await node.capture(worker(node, after=after), "canary-proof", canary=canary)
    assert (False, AgentReason.PROOF_FAILED) == (outcome.ok, outcome.reason)
    assert words in outcome.message
    assert not (node.store / "canary-proof/versions/1").exists()


async def test_a_restored_worker_that_answers_wrongly_is_ended_and_its_container_starts_again(node):
    """It was awake and may have written files: a cold start in place would find them."""
    captured = await node.capture(worker(node, after=FORGETS), "canary-restore")
    assert captured.ok, captured
    target = node.start_as(BareContainer, "--", PYTHON, "-c", "print('cold', flush=True)")
    target.init()
    wanted = call(sha256="0" * 64, select=("/weights",))
    outcome = await node.restore(target, "canary-restore", captured.manifest_digest, canary=wanted)
    assert (False, AgentReason.CANARY_FAILED) == (outcome.ok, outcome.reason)
    assert "not " + "0" * 64 in outcome.message
    target.says("SNAPSHOT_RESTART: ")
    assert control_files.EXIT_RESTART_ME == target.code()


async def test_an_answer_that_was_not_asked_for_at_the_capture_cannot_be_compared(node):
    captured = await node.capture(worker(node), "canary-unasked")
    target = node.start_as(BareContainer, "--", PYTHON, "-c", "print('cold', flush=True)")
    target.init()
    outcome = await node.restore(target, "canary-unasked", captured.manifest_digest, canary=call(**SAME))
    assert (False, AgentReason.CANARY_FAILED) == (outcome.ok, outcome.reason)
    assert "capture it again" in outcome.message
    assert "criu" not in outcome.seconds
