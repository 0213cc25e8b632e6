"""Does what heap.c does, with CPython's allocator and its own system calls."""

import gc
import mmap
import os
import sys
import time

MIB, BLOCKS, SECONDS = map(int, sys.argv[1:])
SIZES = (104, 504, 2000, 9000, 70000, 600000)
REGION = 16 << 20
QUARTER = REGION // 4


def pattern(seed, size):
    return (seed.to_bytes(8, "little") * (size // 8 + 1))[:size]


def hold(limit):
    kept, used = [], [0] * len(SIZES)
    while sum(used) < limit:
        size = used.index(min(used))
        kept.append(bytearray(pattern(len(kept) + 1, SIZES[size])))
        used[size] += SIZES[size]
    return kept


def differing(kept):
    return sum(kept[i] != pattern(i + 1, len(kept[i])) for i in range(0, len(kept), 2))


def differs_in_child(kept):
    if (child := os.fork()) == 0:
        os._exit(differing(kept) != 0)
    return os.waitpid(child, 0)[1] != 0


def differs_moved(region):
    """Say whether what was given back, thrown away, or kept is what it must be, in its new place."""
    region.madvise(mmap.MADV_FREE, 0, QUARTER)
    region.madvise(mmap.MADV_DONTNEED, QUARTER, QUARTER)
    region.resize(2 * REGION)
    zeros, old = bytes(QUARTER), pattern(7, QUARTER)
    freed = (region[at : at + 4096] for at in range(0, QUARTER, 4096))
    wrong = any(page not in (zeros[:4096], old[:4096]) for page in freed)
    return wrong or region[QUARTER:] != zeros + old + old + bytes(REGION)


kept = hold(MIB << 20)
region = mmap.mmap(-1, REGION, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
region[:] = pattern(7, REGION)
print("warm", flush=True)  # noqa: T201
while not os.path.exists("/snapshot-control/go"):  # noqa: PTH110
    time.sleep(0.001)
for i in range(1, len(kept), 2):
    kept[i] = None
differences = differs_in_child(kept) + differs_moved(region)
gc.collect()
time.sleep(SECONDS)
made, dirty = [], 0
for i in range(BLOCKS):
    block = bytearray(16 + i % 40 * 8)
    dirty += any(block)
    block[:] = pattern(i + 1, len(block))
    made.append(block)
differences += sum(block != pattern(i + 1, len(block)) for i, block in enumerate(made)) + differing(kept)
print(differences, "differences,", dirty, "of", BLOCKS, "blocks dirty", flush=True)  # noqa: T201
