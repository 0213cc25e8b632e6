"""Which pool each allocation comes from, on a torch that only notes from which; the real library is not loaded."""

import sys
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

import snapshot_sdk.torch
from snapshot_sdk import _discardable

COMMON = "common"


class StandInTorch:
    """Notes the pools of a thread; of several, the first counts, as in torch 2.8."""

    __version__ = "2.7.1"

    def __init__(self):
        self.entered = threading.local()
        self.made = []
        self.refuses = ""
        allocator = SimpleNamespace(allocator=lambda: "discardable")
        self.cuda = SimpleNamespace(
            is_available=lambda: True,
            current_device=lambda: 3,
            get_allocator_backend=lambda: "native",
            device=self.device,
            MemPool=self.new_pool,
            use_mem_pool=self.use,
            memory=SimpleNamespace(CUDAPluggableAllocator=lambda *names: self.made.append(names) or allocator),
        )
        setattr(self.cuda.memory, _discardable.FOR_ONE_THREAD, None)

    @contextmanager
    def device(self, number):
        self.entered.device = number
        yield

    def new_pool(self, allocator):
        pool = f"{allocator} {self.entered.device} {len(self.made)}"
        self.made.append(pool)
        return pool

    @contextmanager
    def use(self, pool, device):
        assert pool.split()[1] == str(device)
        pools = vars(self.entered).setdefault("pools", [])
        assert pool not in pools, "torch refuses this"
        pools.append(pool)
        try:
            yield
        finally:
            pools.remove(pool)

    def empty(self, *_, **__):
        if self.refuses:
            raise RuntimeError(self.refuses)

    def pool(self):
        return next(iter(vars(self.entered).get("pools", [])), COMMON)


@pytest.fixture
def torch(monkeypatch):
    made = StandInTorch()
    monkeypatch.setitem(sys.modules, "torch", made)
    monkeypatch.setattr(_discardable, "_pools", {})
    monkeypatch.setattr(_discardable, "has_library", lambda: True)
    return made


def test_a_cache_comes_from_a_pool_of_its_own_and_nothing_else_does(torch):
    with snapshot_sdk.torch.kv_cache():
        assert "discardable 3 1" == torch.pool()
    assert COMMON == torch.pool()
    with snapshot_sdk.torch.kv_cache(), snapshot_sdk.torch.kv_cache(device=0):
        assert torch.pool().startswith("discardable 0 ")
    with snapshot_sdk.torch.kv_cache():
        assert "discardable 3 1" == torch.pool()
    names = (None, "snapshot_allocate_discardable", "snapshot_free_discardable")
    assert [names, "discardable 3 1", names, "discardable 0 3"] == torch.made


def test_weights_are_kept_wherever_they_are_allocated(torch):
    with snapshot_sdk.torch.weights():
        assert COMMON == torch.pool()
        with snapshot_sdk.torch.kv_cache():
            cache = torch.pool()
            with snapshot_sdk.torch.weights():
                assert COMMON == torch.pool()
                with snapshot_sdk.torch.kv_cache():
                    assert cache == torch.pool()
            assert cache == torch.pool()
        assert COMMON == torch.pool()
    assert COMMON != cache


def test_an_error_within_leaves_the_pool(torch):
    with pytest.raises(ZeroDivisionError), snapshot_sdk.torch.kv_cache():
        raise ZeroDivisionError
    assert COMMON == torch.pool()


def test_no_thread_uses_the_pool_of_another(torch):
    """While both are within, torch would refuse that; and a thread that is not within allocates as ever."""
    seen = []

    def other():
        seen.append(torch.pool())
        with snapshot_sdk.torch.kv_cache():
            seen.append(torch.pool())

    with snapshot_sdk.torch.kv_cache():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        seen.append(torch.pool())
    assert [COMMON, "discardable 3 3", "discardable 3 1"] == seen


def old(torch):
    delattr(torch.cuda.memory, _discardable.FOR_ONE_THREAD)


def other_allocator(torch):
    torch.cuda.get_allocator_backend = lambda: "cudaMallocAsync"


def expandable(torch):
    torch.refuses = "pools do not support expandable_segments"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(old, "torch 2.7.1 has no pools for one thread", id="older-torch"),
        pytest.param(other_allocator, "with the allocator cudaMallocAsync", id="another-allocator"),
        pytest.param(expandable, "do not support expandable_segments", id="refused-when-used"),
    ],
)
def test_memory_that_cannot_be_kept_apart_is_kept_with_one_warning(torch, change, words, recwarn):
    change(torch)
    for _ in range(2):
        with snapshot_sdk.torch.kv_cache():
            assert COMMON == torch.pool()
    (warning,) = recwarn.list
    assert warning.category is RuntimeWarning
    assert words in str(warning.message)


@pytest.mark.parametrize("context", [snapshot_sdk.torch.kv_cache, snapshot_sdk.torch.weights])
def test_torch_is_not_even_imported_in_a_worker_without_the_library(monkeypatch, context):
    monkeypatch.setitem(sys.modules, "torch", None)  # an import raises
    assert not _discardable.has_library()
    with context():
        pass


def test_a_worker_without_a_gpu_allocates_as_ever(torch):
    torch.cuda.is_available = lambda: False
    with snapshot_sdk.torch.kv_cache(device=0):
        assert COMMON == torch.pool()
    assert [] == torch.made


def test_the_library_is_known_by_its_function(monkeypatch):
    monkeypatch.setattr(_discardable, "ALLOCATE", "malloc")
    assert _discardable.has_library()
