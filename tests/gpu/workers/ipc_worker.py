"""Two PyTorch processes that have each other's device memory by CUDA IPC, behind HTTP: each GET changes and reads both.

``python ipc_worker.py [two]``: rank 0, which serves and starts the other; ``two``: that one on the second card.
"""

import ctypes
import json
import os
import subprocess
import sys

NUMBERS = 1 << 22
"""Of 4 bytes, in each buffer."""


class Handle(ctypes.Structure):
    """CUipcMemHandle."""

    _fields_ = (("bytes", ctypes.c_char * 64),)


class Buffer:
    """Device memory at an address, for ``torch.as_tensor``."""

    def __init__(self, at: int):
        shape = {"shape": (NUMBERS,), "typestr": "<f4", "data": (at, False), "version": 3}
        self.__cuda_array_interface__ = shape


def call(name: str, *arguments: object) -> None:
    """Call the driver."""
    if error := getattr(ctypes.CDLL("libcuda.so.1"), name)(*arguments):
        raise RuntimeError(f"{name}: {error}")


def share() -> tuple[int, bytes]:
    """Allocate a buffer; return its address and what another process opens it by."""
    at, handle = ctypes.c_uint64(), Handle()
    call("cuMemAlloc_v2", ctypes.byref(at), ctypes.c_size_t(4 * NUMBERS))
    call("cuIpcGetMemHandle", ctypes.byref(handle), at)
    return at.value, bytes(handle)


def opened(handle: bytes) -> int:
    """Return the address of another process's buffer."""
    at = ctypes.c_uint64()
    call("cuIpcOpenMemHandle_v2", ctypes.byref(at), Handle.from_buffer_copy(handle), 1)
    return at.value


def main(rank: int, *, two: bool) -> None:
    """Serve as rank 0; as rank 1 make a step for each line of standard input."""
    import torch  # noqa: PLC0415 - takes seconds

    torch.cuda.set_device(rank if two else 0)
    torch.ones(1, device="cuda")
    at, handle = share()
    own = torch.as_tensor(Buffer(at), device="cuda")
    own.copy_(torch.arange(NUMBERS, device="cuda") % 1000 + rank)
    torch.cuda.synchronize()
    argv = [sys.executable, __file__, "1", *(["two"] if two else [])]
    other = None if rank else subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    theirs = torch.as_tensor(Buffer(opened(exchange(handle, other))))  # on the device that it is on: no copy of it

    def step() -> list[float]:
        """Add the other's numbers to the own ones, and mark the first of the other's."""
        own.mul_(0.5).add_(theirs.to(own.device))
        theirs[rank].add_(1)
        torch.cuda.synchronize()
        return [own.double().sum().item(), theirs.double().sum().item()]

    if other is None:
        for _ in sys.stdin:
            sys.stdout.write(json.dumps(step()) + "\n")
            sys.stdout.flush()
        return

    def both() -> list[list[float]]:
        mine = step()
        other.stdin.write("step\n")
        other.stdin.flush()
        return [mine, json.loads(other.stdout.readline())]

    from serving import serve  # noqa: PLC0415 - only rank 0 serves

    both()
    serve(both)


def exchange(handle: bytes, other: subprocess.Popen[str] | None) -> bytes:
    """Give the other process a handle, and return its own."""
    to, source = (sys.stdout, sys.stdin) if other is None else (other.stdin, other.stdout)
    to.write(handle.hex() + "\n")
    to.flush()
    return bytes.fromhex(source.readline())


if __name__ == "__main__":
    os.environ.setdefault("USER", "worker")
    main(int("1" in sys.argv[1:]), two="two" in sys.argv[1:])
