"""Replicas that were restored from one artifact draw numbers of their own, and each knows its own container."""

import json
import os
import shutil

import pytest

from tests.support.fixtures.bare_container import PYTHON, BareContainer

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

START = """
import ctypes, json, os, random, ssl, sys, threading, time, uuid
sys.path.insert(0, "/tools")
import snapshot_sdk

libc = ctypes.CDLL(None)
def of_libc(function, *more):
    drawn = ctypes.create_string_buffer(16)
    getattr(libc, function)(drawn, 16, *more)
    return drawn.raw.hex()

random.random()
ssl.RAND_bytes(8)
threads = threading.local()

def draw():
    return {
        "random": random.getrandbits(64), "openssl": ssl.RAND_bytes(8).hex(), "urandom": os.urandom(8).hex(),
        "uuid4": str(uuid.uuid4()), "getrandom": of_libc("getrandom", 0), "arc4random": of_libc("arc4random_buf"),
    }

def report():
    print("report", json.dumps({"drawn": draw(), "place": os.environ["PLACE"], "own": os.environ["OWN"]}), flush=True)

draw()
os.environ["OWN"] = "the worker's"
"""
QUIESCES = 'print("warm", flush=True)\nsnapshot_sdk.quiesce()\nreport()\nthreading.Event().wait()'
KEEPS = "snapshot_sdk.keep_seeds()\n" + QUIESCES
HOOKED = 'snapshot_sdk.on_restore(report)\nprint("warm", flush=True)\nwhile True: time.sleep(0.05)'
FORKED = """
snapshot_sdk.on_restore(lambda: report() if os.getpid() != parent else None)
parent = os.getpid()
if os.fork() == 0:
    while True: time.sleep(0.05)
print("warm", flush=True)
threading.Event().wait()
"""


async def replicas(node, name: str, command: list[str], count: int = 3) -> list[dict]:
    """Capture the worker once, restore it *count* times; return what each reports."""
    environment = {"PLACE": "source", "OWN": "kubelet's"}
    source = node.start_as(BareContainer, "--capture", "--", *command, env=environment)
    source.says("warm")
    outcome = await node.capture(source, name)
    assert outcome.ok, outcome
    reports = []
    for number in range(count):
        target = node.start_as(BareContainer, "--", *command, env={"PLACE": f"pod-{number}", "OWN": "new"})
        target.init()
        restored = await node.restore(target, name, outcome.manifest_digest)
        assert restored.ok, restored
        text = target.says("report ")
        line = next(line for line in text.splitlines() if line.startswith("report "))
        reports.append(json.loads(line.removeprefix("report ")))
    return reports


def shared(reports: list[dict]) -> set[str]:
    """Name the generators from which two replicas drew the same."""
    kinds = reports[0]["drawn"]
    return {kind for kind in kinds if len({report["drawn"][kind] for report in reports}) < len(reports)}


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(QUIESCES, id="quiesce"),
        pytest.param(HOOKED, id="hook"),
        pytest.param(FORKED, id="forked-child"),
    ],
)
async def test_replicas_draw_numbers_of_their_own(node, script, request):
    name = f"random-{request.node.callspec.id}"
    reports = await replicas(node, name, [PYTHON, "-c", START + script])
    assert set() == shared(reports)
    assert [f"pod-{number}" for number in range(3)] == [report["place"] for report in reports]
    assert {"the worker's"} == {report["own"] for report in reports}


async def test_seeds_are_kept_if_the_worker_wants_so(node):
    """What it does not have in its own memory differs all the same."""
    reports = await replicas(node, "random-kept", [PYTHON, "-c", START + KEEPS], 2)
    assert {"random"} == shared(reports)


LIBRARY = "/tools/newer-libc"
OPAQUE = """
state = "dp" in [flag for line in open("/proc/self/smaps") if line.startswith("VmFlags") for flag in line.split()]
print("opaque state", state, flush=True)
"""


async def test_what_the_c_library_draws_without_a_system_call_differs(node):
    """From 2.41 on glibc keeps the kernel's generator state in the process; here it comes with criu's own libraries."""
    shutil.copytree(node.criu_folder / "lib", node.folder / "tools/newer-libc", dirs_exist_ok=True)
    paths = f"{LIBRARY}:/lib/x86_64-linux-gnu:/usr/lib/x86_64-linux-gnu"
    command = [f"{LIBRARY}/ld.so", "--library-path", paths, PYTHON, "-c", START + OPAQUE + KEEPS]
    reports = await replicas(node, "random-libc", command)
    assert {"random"} == shared(reports)
    assert "opaque state True" in node.containers[0].text()
