"""Programs with allocators and runtimes of every kind: a restored one and its unrestored twin find the same memory."""

import logging
import os
import re
import shutil
import subprocess

import pytest

from contract.api.reports import MemoryRestore
from images.native import compile_static, glibc_compiler
from tests.node.engine.memory.test_page_server import slow_criu
from tests.support.fixtures.bare_container import PYTHON, BareContainer, wait_for
from tests.support.fixtures.tools import PROJECT, of_packages

HEAP = PROJECT / "tests/support/native/heap"
MIB = os.environ.get("SNAPSHOT_HEAP_MIB", "128")
BLOCKS = os.environ.get("SNAPSHOT_HEAP_BLOCKS", "1000000")
DECAY = os.environ.get("SNAPSHOT_HEAP_DECAY", "")
"""Seconds between the free of half the heap and the allocations; empty: what each allocator needs."""
LIBRARIES = "usr/lib/x86_64-linux-gnu"
PACKAGES = {
    "jemalloc": ("libjemalloc2", "libjemalloc.so.2"),
    "mimalloc": ("libmimalloc2.0", "libmimalloc.so.2"),
    "tcmalloc": ("libtcmalloc-minimal4", "libtcmalloc_minimal.so.4"),
}


@pytest.fixture(scope="module")
def folder(folder):
    """Add the programs, and the allocators of this machine's Debian."""
    tools = folder[0] / "tools"
    compile_static([HEAP / "heap.c"], tools / "heap-musl", "-O2")
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*glibc_compiler(), *flags, "-o", tools / "heap-glibc", HEAP / "heap.c"], check=True)
    shutil.copy(HEAP / "heap.py", tools)
    wanted = [f"{LIBRARIES}/{name}" for _, name in PACKAGES.values()]
    found = of_packages("test-allocators", [package for package, _ in PACKAGES.values()], wanted)
    shutil.copytree(found, tools / "allocators")
    return folder[0], slow_criu(*folder)


@pytest.fixture(scope="module")
def go(folder):
    """Compile the program in Go; nothing of the machine's settings but where its compiler keeps what it has built."""
    if shutil.which("go") is None:
        pytest.skip("no Go compiler")
    environment = os.environ | {"CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": ""}
    argv = ["go", "build", "-o", folder[0] / "tools/heap-go", HEAP / "heap.go"]
    subprocess.run(argv, env=environment, check=True)


@pytest.fixture(scope="module")
def jvm(folder):
    if shutil.which("javac") is None:
        pytest.skip("no Java compiler")
    subprocess.run(["javac", "-d", folder[0] / "tools", HEAP / "Heap.java"], check=True)


def preloaded(allocator: str, *settings: str) -> list[str]:
    library = f"/tools/allocators/{PACKAGES[allocator][1]}"
    return ["env", f"LD_PRELOAD={library}", *settings, "/tools/heap-glibc"]


@pytest.mark.parametrize(
    ("command", "decay", "fixture"),
    [
        pytest.param(["/tools/heap-glibc"], "2", "", id="glibc"),
        pytest.param(["/tools/heap-musl"], "2", "", id="musl"),
        # It gives dirty pages back over 10 seconds, by MADV_FREE, then by MADV_DONTNEED.
        pytest.param(preloaded("jemalloc"), "15", "", id="jemalloc"),
        pytest.param(preloaded("mimalloc"), "2", "", id="mimalloc"),
        pytest.param(preloaded("tcmalloc", "TCMALLOC_RELEASE_RATE=10"), "2", "", id="tcmalloc"),
        pytest.param(["/tools/heap-go"], "2", "go", id="go"),
        pytest.param(["env", "GODEBUG=madvdontneed=0", "/tools/heap-go"], "2", "go", id="go-madv-free"),
        pytest.param(["java", "-XX:+UseG1GC", "-Xmx1g", "-cp", "/tools", "Heap"], "2", "jvm", id="jvm"),
        pytest.param([PYTHON, "/tools/heap.py"], "2", "", id="cpython"),
    ],
)
async def test_it_finds_what_its_twin_finds(node, request, caplog, command, decay, fixture):
    """The twin is the worker that was captured while it ran: nothing of it was ever filled."""
    if fixture:
        request.getfixturevalue(fixture)
    caplog.set_level(logging.INFO)
    checkpoint_id = f"heap-{request.node.callspec.id}"
    words = ["--", *command, MIB, BLOCKS, DECAY or decay]
    twin = node.start_as(BareContainer, "--serve", *words)
    twin.says("warm")
    made = await node.capture_running(twin, checkpoint_id)
    assert made.ok, made
    target = node.start_as(BareContainer, *words)
    (target.control / "go").touch()
    outcome = await node.restore(target, checkpoint_id, made.manifest_digest)
    assert (True, MemoryRestore.WHILE_RUNNING) == (outcome.ok, outcome.memory), outcome
    (twin.control / "go").touch()
    expected = f"0 differences, 0 of {BLOCKS} blocks dirty"
    assert expected in twin.says("blocks dirty")
    assert expected in target.says("blocks dirty")
    filled = wait_for(lambda: re.search(r"(\d+) faults, .* (\d+) events", reported(caplog)), "the report")
    assert all(map(int, filled.groups())), filled[0]


def reported(caplog) -> str:
    return "".join(str(record.__dict__.get("pages", "")) for record in caplog.records)
