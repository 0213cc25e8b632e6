"""Which process is the first of a container, whatever numbers the node gives."""

import pytest

from agent.container.find import RunningContainer, find_container
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


@pytest.mark.parametrize("nested", [pytest.param(300, id="later"), pytest.param(100, id="numbers-began-again")])
def test_the_first_process_of_a_namespace_within_is_not_the_containers(tmp_path, nested):
    process(tmp_path, 200, ids=[200, 1], program="snapshot-standby")
    process(tmp_path, nested, ids=[nested, 5, 1], program="python")
    assert RunningContainer(200, CONTAINER, "snapshot-standby") == find_container(POD, "main", tmp_path)
