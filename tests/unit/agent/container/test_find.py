"""Which process is the first of a container, whatever numbers the node gives."""

import pytest

from agent.container.find import RunningContainer, find_container
from agent.container.pod_groups import PodGroups
from contract.api import keys

POD = "0b0f9c5e-6a3d-4f4c-9a53-6f6f3f1d2c11"
CONTAINER = "c" * 64
STATUS = """Name:\tx
State:\tS (sleeping)
Pid:\t{pid}
PPid:\t1
Uid:\t0\t0\t0\t0
Gid:\t0\t0\t0\t0
Groups:\t0
NSpid:\t{ids}
NSsid:\t{ids}
CapInh:\t0
CapPrm:\t0
CapEff:\t0
CapBnd:\t0
CapAmb:\t0
"""
CONTROL = f"/var/lib/kubelet/pods/{POD}/volumes/kubernetes.io~empty-dir/{keys.CONTROL_VOLUME}/main"


def process(proc, pid, *, ids, program):
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    (folder / "cgroup").write_text(f"0::/kubepods/pod{POD}/{CONTAINER}\n")
    (folder / "status").write_text(STATUS.format(pid=pid, ids="\t".join(map(str, ids))))
    (folder / "mountinfo").write_text(f"1 0 8:1 {CONTROL} /snapshot-control rw - ext4 /dev/a rw\n")
    (folder / "exe").symlink_to(f"/tools/{program}")


@pytest.fixture
def groups(tmp_path):
    return PodGroups(tmp_path / "groups")


@pytest.mark.parametrize("nested", [pytest.param(300, id="later"), pytest.param(100, id="numbers-began-again")])
def test_the_first_process_of_a_namespace_within_is_not_the_containers(tmp_path, groups, nested):
    process(tmp_path, 200, ids=[200, 1], program="snapshot-standby")
    process(tmp_path, nested, ids=[nested, 5, 1], program="python")
    assert RunningContainer(200, CONTAINER, "snapshot-standby") == find_container(POD, "main", groups, tmp_path)


def test_once_a_container_was_found_the_nodes_other_processes_are_not_looked_at(tmp_path, groups):
    process(tmp_path, 200, ids=[200, 1], program="snapshot-standby")
    found = find_container(POD, "main", groups, tmp_path)
    group = tmp_path / f"groups/kubepods/pod{POD}/{CONTAINER}"
    group.mkdir(parents=True)
    (group / "cgroup.procs").write_text("200\n")
    (tmp_path / "300/cgroup").mkdir(parents=True)  # which cannot be read: a look at it fails
    assert found == find_container(POD, "main", groups, tmp_path)


def test_one_that_is_not_in_the_group_of_its_pod_is_looked_for_among_all(tmp_path, groups):
    process(tmp_path, 200, ids=[200, 1], program="snapshot-standby")
    found = find_container(POD, "main", groups, tmp_path)
    (tmp_path / f"groups/kubepods/pod{POD}").mkdir(parents=True)
    (tmp_path / f"groups/kubepods/pod{POD}/cgroup.procs").write_text("404\n")
    assert found == find_container(POD, "main", groups, tmp_path)
