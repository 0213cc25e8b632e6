"""What a process may have, kind by kind: kept and working as before, or refused by name, or known to be lost."""

import os
import platform
from pathlib import Path

import pytest

from agent.executor.capture import look
from contract.api.states import AgentReason
from tests.support.fixtures.bare_container import PYTHON, BareContainer, is_removed, wait_for
from tests.support.fixtures.engine import until_ready
from tests.support.kinds import descriptors, processes, sockets
from tests.support.kinds.databases import KEPT_DATABASES, REFUSED_DATABASES
from tests.support.kinds.kept_corners import KEPT_CORNERS
from tests.support.kinds.kept_details import KEPT_DETAILS
from tests.support.kinds.message_queues import KEPT_QUEUES, REFUSED_QUEUES
from tests.support.kinds.others import EXIT, LOST_WITHOUT_THE_CHECK, REFUSED
from tests.support.kinds.reset import RESET
from tests.support.kinds.reset_details import RESET_DETAILS
from tests.support.kinds.system_v import CALLS, KEPT_SYSTEM_V, REFUSED_SYSTEM_V, RESET_SYSTEM_V

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

WORKER = """
import array, ctypes, errno, fcntl, mmap, os, resource, select, signal, socket, struct, sys, tempfile, threading, time
sys.path.insert(0, "/tools")
import snapshot_sdk
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = libc.shmat.restype = ctypes.c_void_p
def must(result):
    if result in (-1, None):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
def status(name):
    with open("/proc/self/status") as file:
        return next(line.split()[1] for line in file if line.startswith(name + ":"))
def in_child(act):
    pid = os.fork()
    if pid == 0:
        try:
            act()
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
        os._exit(0)
    return pid
def succeeds(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
{before}
print("warm", flush=True)
snapshot_sdk.quiesce()
{after}
print("kept", flush=True)
threading.Event().wait()
"""
LOST = RESET | RESET_DETAILS | RESET_SYSTEM_V
KEPT = descriptors.KEPT | processes.KEPT | sockets.KEPT | KEPT_DETAILS | KEPT_CORNERS | KEPT_SYSTEM_V | KEPT_QUEUES
KEPT |= KEPT_DATABASES


def start(node, before: str, after: str, user: int = 0) -> BareContainer:
    script = WORKER.replace("{before}", before).replace("{after}", after)
    source = node.start_as(BareContainer, "--capture", "--", PYTHON, "-c", script)
    until_ready(source)
    return source


@pytest.mark.parametrize(("before", "after"), KEPT.values(), ids=KEPT)
async def test_it_is_kept(node, before, after, request):
    name = request.node.callspec.id
    captured = await node.capture(start(node, before, after), name)
    assert captured.ok, captured.message
    target = node.start_as(BareContainer, "--", PYTHON, "-c", "print('cold', flush=True)")
    target.init()
    restored = await node.restore(target, name, captured.manifest_digest)
    assert restored.ok, restored
    target.says("kept")


def started(node, before: str) -> BareContainer:
    """Start a worker, or skip where this machine has no such thing."""
    try:
        return start(node, before, "pass")
    except AssertionError as error:
        pytest.skip(f"this machine has none: {str(error)[-200:]}")


NOT_CARRIED = REFUSED | REFUSED_SYSTEM_V | REFUSED_QUEUES | REFUSED_DATABASES


@pytest.mark.parametrize(("before", "reason"), NOT_CARRIED.values(), ids=NOT_CARRIED)
async def test_it_is_refused_and_not_touched(node, before, reason, request):
    outcome = await node.capture(started(node, before), request.node.callspec.id)
    assert (False, reason) == (outcome.ok, outcome.reason), outcome.message
    assert "dump" not in outcome.seconds


def set_apart(source: BareContainer) -> list[Path]:
    """Move the worker's child to control groups below the container's; return these."""
    (worker,) = source.children()
    child = Path(f"/proc/{worker}/task/{worker}/children").read_text().strip()
    made = [group / "inner" for group in source.cgroups]
    for group in made:
        group.mkdir()
        (group / "cgroup.procs").write_text(child)
    return made


async def test_a_control_group_of_its_own_is_reset(node):
    """A privileged worker can make one below its container's; the restored one is in that of its container."""
    source = start(node, "k = in_child(lambda: time.sleep(3600))", "")
    made = set_apart(source)
    captured = await node.capture(source, "inner-group")
    for group in made:
        wait_for(lambda inner=group: is_removed(inner), "inner group empty")
    assert captured.ok, captured.message
    target = node.start_as(BareContainer, "--", PYTHON, "-c", "print('cold', flush=True)")
    target.init()
    restored = await node.restore(target, "inner-group", captured.manifest_digest)
    assert restored.ok, restored
    assert 4 == len((target.cgroups[0] / "cgroup.procs").read_text().split())


@pytest.fixture
def huge_pages():
    """Two huge pages, for the time of a test; a machine may have no memory left in one piece."""
    number = Path("/proc/sys/vm/nr_hugepages")
    had = int(number.read_text())
    number.write_text(str(had + 2))
    if int(number.read_text()) < had + 2:
        number.write_text(str(had))
        pytest.skip("this machine has no huge pages")
    yield lambda: number.write_text("0")
    number.write_text(str(had))


@pytest.mark.parametrize("more", [pytest.param("attached(i)", id="attached"), pytest.param("pass", id="not-attached")])
async def test_system_v_memory_of_huge_pages_is_refused(node, huge_pages, more, request):
    source = start(node, f"{CALLS}\ni = must(libc.shmget(0x1234, 2 << 20, CREATE | 0o4000))\n{more}", "pass")
    outcome = await node.capture(source, request.node.callspec.id)
    assert (False, AgentReason.SYSV_IPC) == (outcome.ok, outcome.reason)
    assert "has huge pages" in outcome.message
    assert "dump" not in outcome.seconds


HUGE = """
m = must(libc.mmap(None, ctypes.c_size_t(2 << 20), 3, 0x40022, -1, ctypes.c_long(0)))
ctypes.memset(m, 7, 2 << 20)
"""


@pytest.mark.parametrize("are_gone", [pytest.param(False, id="left"), pytest.param(True, id="gone")])
async def test_huge_pages(node, huge_pages, are_gone, request):
    name = f"huge-{request.node.callspec.id}"
    captured = await node.capture(start(node, HUGE, "assert ctypes.string_at(m, 2) == b'\\x07' * 2"), name)
    assert captured.ok, captured.message
    target = node.start_as(BareContainer, "--", PYTHON, "-c", "print('cold', flush=True)")
    target.init()
    if are_gone:
        huge_pages()
    restored = await node.restore(target, name, captured.manifest_digest)
    assert (not are_gone, AgentReason.HUGE_PAGES if are_gone else "") == (restored.ok, restored.reason), restored
    target.says("cold" if are_gone else "kept")


async def test_a_worker_whose_own_first_thread_has_ended(node):
    """It looks as if it had ended."""
    body = f"""
def run():
    snapshot_sdk.quiesce()
threading.Thread(target=run).start()
print("warm", flush=True)
libc.syscall({EXIT[platform.machine()]}, 0)
"""
    outcome = await node.capture(start(node, body, "pass"), "headless")
    assert (False, AgentReason.THREAD_APART) == (outcome.ok, outcome.reason), outcome
    assert "dump" not in outcome.seconds


@pytest.mark.parametrize(
    "before", [pytest.param(body, id=name) for name, (body, _) in REFUSED.items() if name not in LOST_WITHOUT_THE_CHECK]
)
async def test_criu_would_fail_without_the_check(node, monkeypatch, before, request):
    """A check that is no longer needed shows here."""
    monkeypatch.setattr(look, "findings", lambda _: [])
    outcome = await node.capture(started(node, before), f"unchecked-{request.node.callspec.id}")
    assert outcome.reason in (AgentReason.DUMP_FAILED, AgentReason.PROOF_FAILED), outcome


@pytest.mark.parametrize(("before", "after"), LOST.values(), ids=LOST)
async def test_it_is_reset(node, before, after, request):
    name = f"reset-{request.node.callspec.id}"
    captured = await node.capture(start(node, before, after), name)
    assert captured.ok, captured.message
    target = node.start_as(BareContainer, "--", PYTHON, "-c", "print('cold', flush=True)")
    target.init()
    restored = await node.restore(target, name, captured.manifest_digest)
    assert restored.ok, restored
    target.says("kept")
