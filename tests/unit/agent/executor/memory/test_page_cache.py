"""Which artifacts' page cache a node gives back, and when."""

from pathlib import PurePosixPath

import pytest

from agent.executor.memory.page_cache import PageCache, Version, is_short

GIB = 1 << 20
"""In KiB, as the kernel writes it."""


def meminfo(total=64 * GIB, free=32 * GIB, inactive=0, active=0) -> str:
    fields = {"MemTotal": total, "MemFree": free, "MemAvailable": free + active, "Inactive(file)": inactive}
    return "".join(f"{name}: {value:>10} kB\n" for name, value in fields.items()) + "HugePages_Total:       0\n"


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        pytest.param(False, meminfo(), id="free"),
        pytest.param(False, meminfo(free=2 * GIB), id="just-enough"),
        pytest.param(True, meminfo(free=2 * GIB - 1), id="one-less"),
        pytest.param(True, meminfo(total=4 * GIB, free=GIB // 2 - 1), id="one-less-of-a-small-node"),
        pytest.param(False, meminfo(free=0, inactive=3 * GIB), id="page-cache-that-was-read-once"),
        pytest.param(True, meminfo(free=0, active=60 * GIB), id="page-cache-that-was-read-again"),
    ],
)
def test_a_node_is_short_of_memory_as_kubelet_sees_it(expected, text):
    assert expected == is_short(text)


def version(name: str) -> Version:
    return Version(PurePosixPath("/checkpoints"), name, "1")


class Node:
    """Its artifacts have so many GiB in page cache each, and other memory is used."""

    def __init__(self, folder, **cached):
        self.file, self.cached, self.dropped = folder / "meminfo", cached, []
        self.others = 0
        self.cache = PageCache(self.file, self.drop)
        for name in cached:
            self.cache.used(version(name))

    def drop(self, which):
        self.dropped.append(which.checkpoint_id)
        self.cached[which.checkpoint_id] = 0
        self.write()
        return 1

    def write(self):
        cached = sum(self.cached.values())
        self.file.write_text(meminfo(free=(64 - self.others - cached) * GIB, active=cached * GIB))

    def look(self, others):
        self.others = others
        self.write()
        self.cache.look()
        return self.dropped


def test_what_was_used_longest_ago_goes_until_enough_is_left(tmp_path):
    node = Node(tmp_path, a=20, b=20, c=10)
    node.cache.used(version("a"))
    assert [] == node.look(others=12)
    assert ["b"] == node.look(others=16)
    assert ["b", "c"] == node.look(others=33)


def test_all_may_go_and_each_goes_once(tmp_path):
    node = Node(tmp_path, a=20, b=20)
    assert ["a", "b"] == node.look(others=63)
    assert ["a", "b"] == node.look(others=63)
    node.cache.used(version("b"))
    assert ["a", "b", "b"] == node.look(others=63)
