"""Protection keys (PKU): who has them has them in the restored worker too, with its memory under them."""

import os
from pathlib import Path

import pytest

from tests.support.fixtures.bare_container import PYTHON, BareContainer
from tests.support.fixtures.engine import until_ready

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu"),
    pytest.mark.skipif(" ospke" not in Path("/proc/cpuinfo").read_text(), reason="needs a processor with PKU"),
]
WORKER = """
import ctypes, mmap, os, sys, threading, time
sys.path.insert(0, "/tools")
import snapshot_sdk
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.pkey_mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int]
NO_ACCESS, NO_WRITES = 1, 2
def memory(key):
    at = libc.mmap(None, ctypes.c_size_t(8192), 3, 0x22, -1, ctypes.c_long(0))
    ctypes.memset(at, key, 8192)
    assert libc.pkey_mprotect(at, 8192, 3, key) == 0, os.strerror(ctypes.get_errno())
    return at
def writes(at):
    pid = os.fork()
    if pid == 0:
        ctypes.memset(at, 7, 1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
def key_of(at):
    inside = False
    with open("/proc/self/smaps") as smaps:
        for line in smaps:
            words = line.split()
            if "-" in words[0] and not words[0].endswith(":"):
                start, end = (int(word, 16) for word in words[0].split("-"))
                inside = start <= at < end
            elif inside and words[0] == "ProtectionKey:":
                return int(words[1])
# The middle one of three is given back: keys are not always the lowest.
first, second, third = (libc.pkey_alloc(0, 0) for _ in range(3))
assert (first, second, third) == (1, 2, 3)
held = memory(first), memory(third)
libc.pkey_free(second)
libc.pkey_set(first, NO_WRITES)
seen, go = [], threading.Event()
def run():
    libc.pkey_set(third, NO_ACCESS)
    up.set()
    go.wait()
    seen.append((libc.pkey_get(first), libc.pkey_get(third)))
up = threading.Event()
thread = threading.Thread(target=run)
thread.start()
assert up.wait(30)
before = libc.pkey_get(first), libc.pkey_get(third), [key_of(at) for at in held], [writes(at) for at in held]
print("before", before, flush=True)
print("warm", flush=True)
snapshot_sdk.quiesce()
after = libc.pkey_get(first), libc.pkey_get(third), [key_of(at) for at in held], [writes(at) for at in held]
go.set()
thread.join()
another = memory(first), libc.pkey_alloc(0, 0)
print("after", after, seen, another[1], flush=True)
assert after == before == (NO_WRITES, 0, [1, 3], [False, True]) and seen == [(NO_WRITES, NO_ACCESS)]
assert another[1] == second
print("kept", flush=True)
threading.Event().wait()
"""


async def test_keys_are_kept(node):
    source = node.start_as(BareContainer, "--capture", "--", PYTHON, "-c", WORKER)
    until_ready(source)
    captured = await node.capture(source, "keys")
    assert captured.ok, captured.message
    target = node.start_as(BareContainer, "--", PYTHON, "-c", "print('cold', flush=True)")
    target.init()
    restored = await node.restore(target, "keys", captured.manifest_digest)
    assert restored.ok, restored
    target.says("kept")


OF_THE_KERNEL = """
import ctypes, mmap, sys, threading
sys.path.insert(0, "/tools")
import snapshot_sdk
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.pkey_mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int]
assert libc.mmap(None, ctypes.c_size_t(4096), 4, 0x22, -1, ctypes.c_long(0)) > 0
at = libc.mmap(None, ctypes.c_size_t(4096), 3, 0x22, -1, ctypes.c_long(0))
def may_use():
    return [key for key in range(1, 16) if libc.pkey_mprotect(at, 4096, 3, key) == 0]
assert may_use() == []
print("warm", flush=True)
snapshot_sdk.quiesce()
print("after", may_use(), flush=True)
assert may_use() == []
print("kept", flush=True)
threading.Event().wait()
"""


async def test_a_key_that_the_kernel_took_is_not_the_workers_own(node):
    source = node.start_as(BareContainer, "--capture", "--", PYTHON, "-c", OF_THE_KERNEL)
    until_ready(source)
    captured = await node.capture(source, "kernel-key")
    assert captured.ok, captured.message
    target = node.start_as(BareContainer, "--", PYTHON, "-c", "print('cold', flush=True)")
    target.init()
    restored = await node.restore(target, "kernel-key", captured.manifest_digest)
    assert restored.ok, restored
    target.says("kept")
