"""For workers that use PyTorch: ``quiesce()``, and names for device memory, ``kv_cache()`` and ``weights()``.

Before the snapshot no kernel is in flight, caches are empty, and process groups may be made again after it: the driver
cannot restore memory that GPUs share while a group is alive; a new one may use whatever NCCL finds.
"""

from __future__ import annotations

import gc
import importlib
from typing import TYPE_CHECKING, Any

import snapshot_sdk
from snapshot_sdk import HookTimeoutError, _discardable, _restored

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

__all__ = ["HookTimeoutError", "kv_cache", "quiesce", "weights"]


def kv_cache(device: int | None = None) -> AbstractContextManager[None]:
    """Have device memory that is allocated within left out of the snapshot: a restored worker finds zeros there.

    Tensors keep their addresses, so graphs that use them stay valid. It is for what nothing refers to after a restore:
    what does (an index of cached prefixes) must be cleared by a hook of ``on_restore``, or before the snapshot.
    A worker that is captured while it runs and goes on keeps the content, and so does its snapshot.

    What counts is what this thread allocates by torch on that device, all of it: enter this for the cache alone, and
    capture no graph within. Nothing changes if the worker runs without snapshots, or if torch cannot keep such memory
    apart (before 2.8; in some versions with ``expandable_segments``): then it warns, and the snapshot has the content.

    Args:
        device: number of the one that the cache is on; the current one if there is none.
    """
    return _discardable.allocating(device, discardable=True)


def weights() -> AbstractContextManager[None]:
    """Have device memory that is allocated within kept in the snapshot, within ``kv_cache()`` too.

    All memory is kept that has no other name, so outside of ``kv_cache()`` this only says so to readers.
    """
    return _discardable.allocating(None, discardable=False)


def quiesce(
    *,
    before: Iterable[Callable[[], object]] = (),
    after: Iterable[Callable[[], object]] = (),
    join: Callable[[], object] | None = None,
    seconds: float = 60.0,
) -> snapshot_sdk.Outcome:
    """Make the worker ready for its snapshot, and wait until it has been taken.

    In this order: hooks *before*; the process groups are destroyed, if there is *join*; CUDA is idle and its caches are
    empty; the snapshot; *join*; hooks *after*. Nothing of it where no snapshots are taken.
    Each process of a distributed worker calls this; its rank is asked from ``torch.distributed``.

    Args:
        before: for example, stop taking requests.
        after: for example, capture CUDA graphs again that used a process group.
        join: makes the process groups again. It needs a place to meet that is new: a file store has been used.
        seconds: for each hook.

    Raises:
        HookTimeoutError: a hook takes longer. Let it end the worker: it starts cold.
    """
    if snapshot_sdk.control_dir() is None:
        return snapshot_sdk.Outcome.NOT_MANAGED
    torch: Any = importlib.import_module("torch")
    rank, ranks = _rank(torch)
    for hook in before:
        _run(torch, hook, seconds)
    if join is not None and ranks:
        _run(torch, torch.distributed.destroy_process_group, seconds)
    _drain(torch)
    outcome = snapshot_sdk.quiesce(rank, ranks or 1)
    for hook in (*((join,) if join is not None else ()), *after):
        _run(torch, hook, seconds)
    return outcome


def _rank(torch: Any) -> tuple[int, int]:  # noqa: ANN401 - no stubs without torch
    """Return this process's rank and the number of ranks; 0 of them without a process group."""
    distributed = torch.distributed
    if not distributed.is_available() or not distributed.is_initialized():
        return 0, 0
    return distributed.get_rank(), distributed.get_world_size()


def _drain(torch: Any) -> None:  # noqa: ANN401 - as above
    if not torch.cuda.is_initialized():
        return
    for device in range(torch.cuda.device_count()):
        # Asking one that this process does not use would make it use it.
        if torch.cuda.memory_reserved(device):
            torch.cuda.synchronize(device)
    torch.cuda.synchronize()
    gc.collect()
    torch.cuda.empty_cache()


def _run(torch: Any, hook: Callable[[], object], seconds: float) -> None:  # noqa: ANN401 - as above
    """Call a hook in a thread: a collective that waits for a rank that has ended never returns."""
    device = torch.cuda.current_device() if torch.cuda.is_initialized() else None

    def call() -> None:
        if device is not None:
            torch.cuda.set_device(device)  # each thread has its own
        hook()

    _restored.run(call, seconds, _restored.name_of(hook))
