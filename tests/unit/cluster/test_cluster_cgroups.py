"""Which hierarchies a node gets on which kind of host."""

import pytest

from cluster.nodes import cgroups
from cluster.nodes.cgroups import Hierarchy, group_name, hierarchies

V1 = """\
30 24 0:26 / /sys/fs/cgroup rw,relatime shared:1 - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:2 - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup none rw,memory
33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/lib/x,name=systemd
"""
UNIFIED = "34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n"
V2 = "35 24 0:31 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"

FIRST = [
    Hierarchy("/sys/fs/cgroup/cpu,cpuacct", "cgroup", "cpu,cpuacct"),
    Hierarchy("/sys/fs/cgroup/memory", "cgroup", "memory"),
    Hierarchy("/sys/fs/cgroup/systemd", "cgroup", "none,xattr,name=systemd"),
]


@pytest.mark.parametrize(
    ("mountinfo", "expected"),
    [
        pytest.param(V1, FIRST, id="version-1"),
        pytest.param(V1 + UNIFIED, FIRST, id="hybrid"),
        pytest.param(V2, [Hierarchy("/sys/fs/cgroup", "cgroup2")], id="unified"),
        pytest.param("36 24 0:5 / /proc rw - proc proc rw\n", [], id="none"),
    ],
)
def test_a_node_gets_what_the_host_has(mountinfo, expected):
    assert expected == hierarchies(mountinfo)


def test_groups_of_clusters_and_nodes_differ():
    assert 3 == len({group_name("aa", 1), group_name("aa", 2), group_name("bb", 1)})


def test_the_process_around_a_node_leaves_the_nodes_own_group(tmp_path):
    cgroups.set_aside(tmp_path, 7)
    assert "7" == (tmp_path / "outer/cgroup.procs").read_text()
