"""Device memory that a snapshot need not keep: how torch allocates it, apart from all other.

A preload library is in workers whose device memory stays outside the image, and has a function to allocate such memory
and one to free it. torch is given them as the allocator of pools of their own: no segment of such a pool ever holds
another tensor, while torch uses its common segments again for whatever comes.
"""

from __future__ import annotations

import ctypes
import importlib
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ALLOCATE = "snapshot_allocate_discardable"
FREE = "snapshot_free_discardable"
FOR_ONE_THREAD = "_cuda_beginAllocateCurrentThreadToPool"
"""Imported by torch 2.8 and newer. Older ones send the allocations of all threads to a pool that one of them uses."""

_lock = threading.Lock()
_pools: dict[tuple[int, int], Any] = {}
"""By thread and device, since torch lets no two threads use one: a pool with its allocator, None if there can be none.

They stay for as long as the process: an allocator must outlive what it has allocated.
"""


class _Thread(threading.local):
    """Which device's pool a thread allocates from, and torch's context that has it do so."""

    device: int | None = None
    context: Any = None


_thread = _Thread()


@contextmanager
def allocating(device: int | None, *, discardable: bool) -> Iterator[None]:
    """Have what this thread allocates by torch be discardable, or kept, whatever it is outside of this context.

    Args:
        device: on which memory is discardable; None: the current one.
        discardable: or else kept, on all devices.
    """
    if not has_library():
        yield
        return
    before = _thread.device
    _change(_usable(device) if discardable else None)
    try:
        yield
    finally:
        _change(before)


def has_library() -> bool:
    """Say whether this process was started with a library that knows of discardable memory."""
    return hasattr(ctypes.CDLL(None), ALLOCATE)


def _change(device: int | None) -> None:
    """Leave the pool that this thread allocates from, and enter that of a device.

    Never two at once: which of them counts is another one in other versions of torch.
    """
    if _thread.context is not None:
        _thread.context.__exit__(None, None, None)
    _thread.device, _thread.context = device, None
    if device is not None:
        pool, _ = _pools[threading.get_ident(), device]
        context = _torch().cuda.use_mem_pool(pool, device)
        context.__enter__()
        _thread.context = context


def _usable(device: int | None) -> int | None:
    """Return the number of a device that has a pool for this thread; None if it has none."""
    cuda = _torch().cuda
    if not cuda.is_available():
        return None
    number = cuda.current_device() if device is None else device
    key = threading.get_ident(), number
    with _lock:
        if key not in _pools:
            _pools[key] = _new_pool(number)
    return None if _pools[key] is None else number


def _new_pool(device: int) -> Any:  # noqa: ANN401 - no stubs without torch
    """Return a pool and its allocator; None, and a warning, if this torch can have none that is safe."""
    torch = _torch()
    problem = _problem(torch)
    if not problem:
        allocator = torch.cuda.memory.CUDAPluggableAllocator(None, ALLOCATE, FREE)
        with torch.cuda.device(device):
            pool = torch.cuda.MemPool(allocator.allocator())
        try:  # some versions refuse it beside expandable segments, and only when something is allocated
            with torch.cuda.use_mem_pool(pool, device):
                torch.empty(1, device=f"cuda:{device}")
        except RuntimeError as error:
            problem = str(error)
        else:
            return pool, allocator
    warnings.warn(f"snapshot_sdk: snapshots keep the KV cache: {problem}", RuntimeWarning, stacklevel=2)
    return None


def _problem(torch: Any) -> str:  # noqa: ANN401 - as above
    """Return why this torch can have no pool that is safe; empty if it may."""
    backend = torch.cuda.get_allocator_backend()
    if backend != "native":
        return f"torch has no pools with the allocator {backend}"
    if not hasattr(torch.cuda.memory, FOR_ONE_THREAD):
        return f"torch {torch.__version__} has no pools for one thread alone, as 2.8 has"
    return ""


def _torch() -> Any:  # noqa: ANN401 - as above
    return importlib.import_module("torch")
