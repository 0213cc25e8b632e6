"""The processes of a worker that is captured while it runs."""

import pytest

from agent.executor.capture.running import tree_of

STATUS = """State:\tS (sleeping)
Pid:\t{pid}
PPid:\t{parent}
Uid:\t0\t0\t0\t0
Gid:\t0\t0\t0\t0
Groups:\t0
NSpid:\t{pid}\t{inner}
NSsid:\t{session}\t{session}
CapInh:\t0
CapPrm:\t0
CapEff:\t0
CapBnd:\t0
CapAmb:\t0
"""
STANDBY, WORKER, CHILD, GRANDCHILD, PROBE, OTHER = 50, 60, 58, 59, 61, 70


@pytest.fixture
def proc(tmp_path):
    """A /proc that says nothing but who belongs to whom: a stopped worker waits for each look."""
    for pid, parent, inner, session, space in (
        (STANDBY, 1, 1, 1, "inside"),
        (WORKER, STANDBY, 1001, 1001, "inside"),
        (CHILD, WORKER, 1002, 1001, "inside"),
        (GRANDCHILD, CHILD, 1003, 1001, "inside"),
        (PROBE, STANDBY, 7, 1, "inside"),
        (OTHER, WORKER, 1, 1, "outside"),
    ):
        (tmp_path / str(pid) / "ns").mkdir(parents=True)
        (tmp_path / str(pid) / "ns/pid").symlink_to(f"pid:[{space}]")
        (tmp_path / str(pid) / "status").write_text(STATUS.format(pid=pid, parent=parent, inner=inner, session=session))
    return tmp_path


def test_the_root_comes_first_and_parents_before_children(proc):
    assert [WORKER, CHILD, GRANDCHILD] == [each.pid for each in tree_of(STANDBY, proc)]


def test_a_container_without_a_worker(proc):
    (proc / str(WORKER) / "status").unlink()
    assert [] == tree_of(STANDBY, proc)


def test_a_container_that_has_ended(proc):
    assert [] == tree_of(OTHER + 1, proc)
