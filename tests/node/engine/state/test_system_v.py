"""System V objects around captures and restores: whose they are, what fails, and what is left in the pod."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest
import yaml

from agent.container.network import in_namespace
from agent.executor import engine as engine_module
from agent.executor.capture.running import RUNNING
from agent.executor.restore.phases import RESTORE
from agent.executor.restore.state import Restore
from agent.preflight import ipc
from artifact.digest import digest_of, sum_of
from artifact.manifest import IPC, MANIFEST
from contract.api import control_files
from contract.api.reports import ReportPhase
from contract.api.states import AgentReason
from linux.ipc import calls
from linux.ipc.calls import Wanted
from linux.ipc.sysvipc import SysvObject, sysv_objects
from tests.node.engine.failures.test_failing_phases import each, failing
from tests.support.fixtures.bare_container import PYTHON, BareContainer, wait_for
from tests.support.fixtures.dying_agent import die_after
from tests.support.fixtures.engine import COLD, until_ready
from tests.support.fixtures.runc_container import RuncContainer
from tests.support.kinds.system_v import CALLS

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

USER = 65532
WORKER = f"""
import ctypes, http.server, json, os, signal, struct, sys, threading
sys.path.insert(0, "/tools")
import snapshot_sdk
libc = ctypes.CDLL(None, use_errno=True)
def must(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
{CALLS}
much = os.urandom(int(os.environ.get("MEGABYTES", "0")) << 20)
i = must(libc.shmget(0x1234, 1 << 20, CREATE))
s = must(libc.semget(0x1235, 2, CREATE))
q = must(libc.msgget(0x1236, CREATE))
a = attached(i)
ctypes.memmove(a + 500000, b'captured', 8)
operate(s, (1, 7, 0))
must(send(q, 3, b'hello'))

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/more":
            must(libc.msgget(0x2000, CREATE))
        found = dict(memory=ctypes.string_at(a + 500000, 8).decode(), value=must(libc.semctl(s, 1, 12)),
                     queued=[row["qnum"] for row in rows("msg")], ids=[i, s, q], attached=rows("shm")[0]["nattch"])
        body = json.dumps(found).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

server = http.server.ThreadingHTTPServer(("0.0.0.0", 8000), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("warm", flush=True)
if sys.argv[1:] == ["goes-on"]:
    threading.Event().wait()
snapshot_sdk.quiesce()
threading.Event().wait()
"""
ANSWER = {"memory": "captured", "value": 7, "queued": [1], "ids": [0, 0, 0], "attached": 1}
COMMAND = (PYTHON, "-c", WORKER)
STAYS = (PYTHON, "-c", "import time; print('cold', flush=True); time.sleep(60)")
COLD_COMMAND = (PYTHON, "-c", "print('cold', flush=True)")


def ready(node, kind=BareContainer, **options):
    source = node.start_as(kind, "--capture", "--", *COMMAND, **options)
    until_ready(source)
    return source


def waiting(node, kind=BareContainer, command=COLD_COMMAND, **options):
    target = node.start_as(kind, "--", *command, **options)
    target.init()
    return target


def objects(container, init=None) -> list[SysvObject]:
    return in_namespace("ipc", init or container.init(), lambda: list(sysv_objects()))


def answer(container) -> dict:
    return json.loads(wait_for(container.get, "an answer"))


async def sealed(node, checkpoint_id, **options) -> str:
    outcome = await node.capture(ready(node, **options), checkpoint_id)
    assert outcome.ok, outcome.message
    return outcome.manifest_digest


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="root"),
        pytest.param({"env": {"MEGABYTES": "96"}}, id="memory-that-is-filled-while-it-runs"),
        pytest.param({"kind": RuncContainer, "user": USER}, id="a-user-under-a-seccomp-filter"),
    ],
)
async def test_a_worker_has_its_objects_in_another_pod(node, options, request):
    name = request.node.callspec.id
    digest = await sealed(node, name, **options)
    target = waiting(node, **options)
    outcome = await node.restore(target, name, digest)
    assert outcome.ok, outcome
    assert ANSWER == answer(target)
    assert ReportPhase.IPC in outcome.seconds


UNDOES = f"{WORKER.partition('class Handler')[0]}operate(s, (0, 1, UNDO))"
CAPTURED = 'print("warm", flush=True)\nsnapshot_sdk.quiesce()\nthreading.Event().wait()'


async def test_semaphores_that_are_given_back_at_the_very_end_are_refused(node, monkeypatch):
    """A worker may use them after it was looked at: then they differ once it has ended."""
    monkeypatch.setattr(ipc, "undoes", lambda *_: False)
    source = node.start_as(BareContainer, "--capture", "--", PYTHON, "-c", f"{UNDOES}\n{CAPTURED}")
    until_ready(source)
    outcome = await node.capture(source, "undoes")
    assert (False, AgentReason.SYSV_IPC) == (outcome.ok, outcome.reason)
    assert "have got something back at the worker's end (SEM_UNDO)" in outcome.message
    assert "dump" in outcome.seconds


async def test_memory_counts_for_the_pod(node):
    digest = await sealed(node, "counted")
    target = waiting(node)
    assert (await node.restore(target, "counted", digest)).ok
    files = [group / "memory.stat" for group in target.cgroups if (group / "memory.stat").exists()]
    shared = [int(line.split()[1]) for line in files[0].read_text().splitlines() if line.startswith("shmem ")]
    if not shared:
        pytest.skip("this kernel does not say")
    assert shared[0] >= 4096


@pytest.fixture
def another(node) -> Iterator:
    """Have a process of another container of the pod, which runs a script in the pod's IPC namespace."""
    started = []

    def start(container, script):
        command = ["nsenter", "-t", str(container.init()), "-i", "unshare", "--pid", "--fork", "--kill-child"]
        text = f"import ctypes, os, struct\nlibc = ctypes.CDLL(None, use_errno=True)\n{CALLS}\n{script}"
        text += "\nprint('done', flush=True)\nimport threading; threading.Event().wait()"
        process = subprocess.Popen([*command, PYTHON, "-c", text.replace("must(", "(")], stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        assert b"done\n" == process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        pytest.param("attached(0)", "is attached by a process outside of the worker", id="attached"),
        pytest.param("libc.semget(0x9000, 1, CREATE)", "may be of another container of the pod", id="semaphores"),
        pytest.param("libc.msgget(0x9000, CREATE)", "may be of another container of the pod", id="queue"),
        pytest.param("libc.shmget(0x9000, 1, CREATE)", "may be of another container of the pod", id="memory"),
    ],
)
async def test_what_is_another_containers_is_refused(node, another, script, words, request):
    source = ready(node)
    another(source, script)
    outcome = await node.capture(source, f"another-{request.node.callspec.id}")
    assert (False, AgentReason.SYSV_IPC) == (outcome.ok, outcome.reason)
    assert words in outcome.message
    assert "dump" not in outcome.seconds


async def test_the_workers_own_are_kept_beside_another_container(node, another):
    """It has made or used each of them, so they are known to be its."""
    source = ready(node)
    another(source, "pass")
    outcome = await node.capture(source, "beside")
    assert outcome.ok, outcome.message


def made(kind="sem", key=0x9000, number=0):
    calls.make(Wanted(kind, key, number, 0o600, 0, 0, 0, 0), 1)


@pytest.mark.parametrize(
    ("kind", "key", "number"),
    [
        pytest.param("sem", 0x9000, 0, id="id"),
        pytest.param("shm", 0x1234, 3, id="key"),
        pytest.param("msg", 0x9000, 32768, id="place-of-an-id"),
    ],
)
async def test_what_is_taken_leads_to_a_cold_start(node, kind, key, number, request):
    name = f"taken-{request.node.callspec.id}"
    digest = await sealed(node, name)
    target = waiting(node, command=STAYS)
    in_namespace("ipc", target.init(), lambda: made(kind, key, number))
    before = objects(target)
    outcome = await node.restore(target, name, digest)
    assert (False, AgentReason.SYSV_IPC_TAKEN) == (outcome.ok, outcome.reason), outcome
    target.says("cold")
    assert COLD in target.text()
    assert before == objects(target, target.first_process())


@pytest.mark.parametrize("number", each(RESTORE, but=("canary", "verdict", "gpu-prefetch", "gpu-restore", "pages")))
async def test_a_restore_that_fails_leaves_none(node, monkeypatch, number):
    name = f"undone-{number}"
    digest = await sealed(node, name)
    target = waiting(node, command=STAYS)
    monkeypatch.setattr(engine_module, "RESTORE", failing(RESTORE, number))
    outcome = await node.restore(target, name, digest)
    assert "injected" in outcome.message, outcome
    target.says("cold")
    assert [] == objects(target, target.first_process())
    assert not list(target.volumes.rglob(".ipc-*"))


@pytest.mark.parametrize("phase", [ReportPhase.IPC, ReportPhase.ENTER, ReportPhase.LOOK])
async def test_a_restore_that_was_cut_off_is_done_again(node, phase):
    name = f"killed-{phase}"
    digest = await sealed(node, name)
    target = waiting(node)
    die_after(phase, node, target, name, digest)
    outcome = await node.restore(target, name, digest)
    assert outcome.ok, outcome
    assert ANSWER == answer(target)


def copied(node, name, checkpoint_id, change) -> str:
    """Copy the artifact with other words in its file of objects, its manifest made to fit; return the digest."""
    version = node.store / checkpoint_id / "versions/1"
    shutil.copytree(node.store / name / "versions/1", version)
    found = json.loads((version / IPC).read_text())
    change(found)
    (version / IPC).write_text(json.dumps(found))
    manifest = yaml.safe_load((version / MANIFEST).read_text())
    manifest["checkpointId"] = checkpoint_id
    with (version / IPC).open("rb") as file:
        manifest["files"][IPC] = {"size": os.fstat(file.fileno()).st_size, "blake3": sum_of(file.fileno())}
    text = yaml.safe_dump(manifest).encode()
    (version / MANIFEST).write_bytes(text)
    return digest_of(text)


def other(kind, **fields):
    return lambda found: found[kind][0].update(fields)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(other("segments", creatorUid=0), AgentReason.IMAGES_WIDER, id="made-by-root"),
        pytest.param(other("queues", creatorGid=0), AgentReason.IMAGES_WIDER, id="made-by-roots-group"),
        pytest.param(other("segments", size=1 << 57), AgentReason.MANIFEST_UNREADABLE, id="size"),
        pytest.param(other("segments", size=4096), AgentReason.MANIFEST_UNREADABLE, id="smaller-than-attached"),
        pytest.param(other("attachments", id=9), AgentReason.MANIFEST_UNREADABLE, id="memory-of-others"),
        pytest.param(other("attachments", process=77777), AgentReason.RESTORE_FAILED, id="another-process"),
        pytest.param(
            lambda found: [piece.update(start=1 << 56) for piece in found["attachments"][0]["mappings"]],
            AgentReason.RESTORE_FAILED,
            id="an-address-that-nobody-may-have",
        ),
    ],
)
async def test_an_artifact_that_was_tampered_with_is_refused(node, change, reason, request):
    if not (node.store / "tampered").exists():
        await sealed(node, "tampered", kind=RuncContainer, user=USER)
    name = f"tampered-{request.node.callspec.id}"
    digest = copied(node, "tampered", name, change)
    target = waiting(node, kind=RuncContainer, user=USER, command=STAYS)
    outcome = await node.restore(target, name, digest)
    assert (False, reason) == (outcome.ok, outcome.reason), outcome
    assert [] == objects(target, target.first_process())


def running(node):
    worker = node.start_as(BareContainer, "--serve", "--", *COMMAND, "goes-on")
    worker.says("warm")
    return worker


async def test_a_worker_that_goes_on_keeps_its_objects(node):
    worker = running(node)
    before = objects(worker)
    outcome = await node.capture_running(worker, "goes-on")
    assert outcome.ok, outcome.message
    assert [replace(each, users=frozenset()) for each in before] == [
        replace(each, users=frozenset()) for each in objects(worker)
    ]
    assert ANSWER == answer(worker)
    target = waiting(node)
    restored = await node.restore(target, "goes-on", outcome.manifest_digest)
    assert restored.ok, restored
    assert ANSWER == answer(target)
    # A restored worker is captured as any other: the objects are known to be its own.
    again = await node.capture_running(target, "goes-on", "2")
    assert again.ok, again.message


async def test_a_restored_worker_is_captured_beside_another_container(node, another):
    digest = await sealed(node, "again")
    target = waiting(node)
    assert (await node.restore(target, "again", digest)).ok
    assert ANSWER == answer(target)
    another(target, "pass")
    outcome = await node.capture_running(target, "again", "2")
    assert outcome.ok, outcome.message


@pytest.mark.parametrize("number", [n for n, phase in enumerate(RUNNING) if phase.name in ("dump", "files", "seal")])
async def test_a_capture_that_fails_removes_nothing(node, monkeypatch, number):
    worker = running(node)
    before = objects(worker)
    monkeypatch.setattr(engine_module, "RUNNING", failing(RUNNING, number))
    outcome = await node.capture_running(worker, f"fails-{number}")
    assert "injected" in outcome.message
    assert [each.id for each in before] == [each.id for each in objects(worker)]
    assert ANSWER == answer(worker)


async def test_a_container_that_starts_again_is_restored_again(node):
    """The pod's IPC namespace outlives its containers: what the restore before has made gives way."""
    digest = await sealed(node, "restart")
    target = waiting(node)
    assert (await node.restore(target, "restart", digest)).ok
    assert ANSWER == answer(target)
    assert target.get("/more")
    again = restarted(node, target)
    left = objects(again)
    assert [0x1234, 0x1235, 0x1236, 0x2000] == sorted(each.key for each in left)
    outcome = await node.restore(again, "restart", digest)
    assert outcome.ok, outcome
    assert ANSWER | {"queued": [1, 0]} == answer(again)


def restarted(node, container):
    """Start the container of a pod again, in the pod's namespace of IPC."""
    namespace = os.open(f"/proc/{container.init()}/ns/ipc", os.O_RDONLY)
    try:
        node.containers.remove(container)
        container.close()
        (container.control / control_files.CLAIM).unlink()  # so that it is seen when there is another
        return waiting(node, pod=container, ipc=namespace)
    finally:
        os.close(namespace)


async def test_what_a_proof_made_is_gone(node, monkeypatch):
    """The capture's container is looked at while standby still has it: after the proof, before the verdict."""
    left = []
    publish = next(phase for phase in engine_module.CAPTURE if phase.name == ReportPhase.PUBLISH)

    def look(capture):
        left.append(in_namespace("ipc", capture.init_pid, lambda: list(sysv_objects())))
        publish.run(capture)

    phases = [replace(phase, run=look) if phase is publish else phase for phase in engine_module.CAPTURE]
    monkeypatch.setattr(engine_module, "CAPTURE", tuple(phases))
    await sealed(node, "proved")
    assert [[]] == left


async def test_a_process_that_is_killed_meanwhile_is_not_waited_for(node, monkeypatch):
    """Attaching fails if a process of the tree is gone, and nothing is left."""
    digest = await sealed(node, "gone")
    target = waiting(node, command=STAYS)
    make = next(phase for phase in RESTORE if phase.name == ReportPhase.IPC)

    def without_process(restore: Restore) -> None:
        make.run(restore)
        assert restore.ipc is not None
        moved = [each.model_copy(update={"process": 9999}) for each in restore.ipc.attachments]
        restore.ipc = restore.ipc.model_copy(update={"attachments": moved})

    phases = tuple(replace(phase, run=without_process) if phase is make else phase for phase in RESTORE)
    monkeypatch.setattr(engine_module, "RESTORE", phases)
    outcome = await node.restore(target, "gone", digest)
    assert (False, AgentReason.RESTORE_FAILED) == (outcome.ok, outcome.reason)
    target.says("cold")
    assert [] == objects(target, target.first_process())
