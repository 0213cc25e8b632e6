"""AMX, the tiles of Intel's processors: who may use them may in the restored worker; tiles in use are refused."""

import os
import sys
from pathlib import Path

import pytest

from contract.api.states import AgentReason
from tests.support.fixtures.bare_container import PYTHON, BareContainer
from tests.support.fixtures.engine import until_ready

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu"),
    pytest.mark.skipif("amx_int8" not in Path("/proc/cpuinfo").read_text(), reason="needs a processor with AMX"),
]

WORKER = """
import ctypes, mmap, os, struct, sys, threading, time
sys.path.insert(0, "/tools")
import snapshot_sdk
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.argtypes = [ctypes.c_long] * 3
def permitted():
    found = ctypes.c_uint64()
    assert libc.syscall(158, 0x1022, ctypes.addressof(found)) == 0
    return bool(found.value >> 18 & 1)
code = mmap.mmap(-1, 4096, prot=7)
# ldtilecfg [rdi]; mov eax,64; tileloadd tmm1,[rsi+rax]; tileloadd tmm2,[rdx+rax]; tilezero tmm0; tdpbssd tmm0,tmm1,tmm2
MULTIPLY = bytes.fromhex("c4e2784907 b840000000 c4e27b4b0c06 c4e27b4b1402 c4e27b49c0 c4e26b5ec1 c3")
# mov eax,64; tilestored [rdi+rax],tmm0; tilerelease; ret
STORE = bytes.fromhex("b840000000 c4e27a4b0407 c4e27849c0 c3")
code.write(MULTIPLY + STORE)
at = ctypes.addressof(ctypes.c_char.from_buffer(code))
multiply = ctypes.CFUNCTYPE(None, *[ctypes.c_char_p] * 3)(at)
store = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(at + len(MULTIPLY))
layout = struct.pack("<BB14x16H16B", 1, 0, *[64] * 3, *[0] * 13, *[16] * 3, *[0] * 13)
left = bytes((i * 7 + i // 64) % 100 for i in range(1024))
right = bytes((i * 3 + i // 64) % 90 for i in range(1024))
def stored():
    found = (ctypes.c_int32 * 256)()
    store(ctypes.addressof(found))
    return list(found)
def product():
    multiply(layout, left, right)
    return stored()
def rows(matrix):
    return [matrix[64 * i:64 * i + 64] for i in range(16)]
wanted = [
    sum(a[4 * k + n] * b[4 * column + n] for k, b in enumerate(rows(right)) for n in range(4))
    for a in rows(left)
    for column in range(16)
]
"""
PERMITTED = (
    WORKER
    + """
if os.fork() == 0:  # has not asked
    print("child warm", flush=True)
    while not os.path.exists("/snapshot-control/restore-complete"):
        time.sleep(0.05)
    print("child may" if permitted() else "child may not", flush=True)
    threading.Event().wait()
assert libc.syscall(158, 0x1023, 18) == 0
assert product() == wanted
print("warm", flush=True)
snapshot_sdk.quiesce()
assert permitted()
assert product() == wanted
made = []
thread = threading.Thread(target=lambda: made.append(product() == wanted))
thread.start()
thread.join()
print("kept", made, flush=True)
threading.Event().wait()
"""
)
COMPUTING = (
    WORKER
    + """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which a refused capture sends
assert libc.syscall(158, 0x1023, 18) == 0
def compute():
    multiply(layout, left, right)
    while not os.path.exists("/snapshot-control/enough"):
        pass
    print("whole" if stored() == wanted else "lost", flush=True)
threading.Thread(target=compute).start()
time.sleep(0.2)
print("warm", flush=True)
snapshot_sdk.quiesce()
threading.Event().wait()
"""
)
PYTORCH = """
import ctypes, sys, threading
sys.path.insert(0, "/tools")
import snapshot_sdk, torch
torch.manual_seed(7)
left, right = (torch.randn(512, 512).to(torch.bfloat16) for _ in range(2))
wanted = left @ right
found = ctypes.c_uint64()
ctypes.CDLL(None).syscall(158, 0x1022, ctypes.byref(found))
print("may" if found.value >> 18 & 1 else "may not", flush=True)
print("warm", flush=True)
snapshot_sdk.quiesce()
print("kept", torch.equal(wanted, left @ right), flush=True)
threading.Event().wait()
"""


def start(node, script: str, python: str = PYTHON) -> BareContainer:
    source = node.start_as(BareContainer, "--capture", "--", python, "-c", script)
    until_ready(source)
    return source


async def test_permission_is_kept(node):
    captured = await node.capture(start(node, PERMITTED), "amx")
    assert captured.ok, captured.message
    target = node.start_as(BareContainer, "--", PYTHON, "-c", "print('cold', flush=True)")
    target.init()
    restored = await node.restore(target, "amx", captured.manifest_digest)
    assert restored.ok, restored
    target.says("kept [True]")
    target.says("child may not")


async def test_pytorch_multiplies_in_bfloat16(node):
    pytest.importorskip("torch")
    source = start(node, PYTORCH, sys.executable)
    source.says("may\n")
    captured = await node.capture(source, "pytorch")
    assert captured.ok, captured.message
    target = node.start_as(BareContainer, "--", PYTHON, "-c", "print('cold', flush=True)")
    target.init()
    restored = await node.restore(target, "pytorch", captured.manifest_digest)
    assert restored.ok, restored
    target.says("kept True")


async def test_tiles_in_use_are_refused(node):
    source = start(node, COMPUTING)
    captured = await node.capture(source, "computing")
    assert (False, AgentReason.UNSUPPORTED_REGISTERS) == (captured.ok, captured.reason), captured.message
    (source.control / "enough").touch()
    source.says("whole")
