"""Whose network the agent listens in."""

import pytest

from agent.container import trigger
from agent.container.pod_groups import PodGroups
from agent.container.trigger import listen

POD = "0b0f9c5e-6a3d-4f4c-9a53-6f6f3f1d2c11"


@pytest.fixture(autouse=True)
def _node(tmp_path):
    """Process 1, whose network is the node's."""
    network(tmp_path / "1", "net:[1]")


def network(folder, name):
    (folder / "ns").mkdir(parents=True)
    (folder / "ns/net").symlink_to(name)


def process(proc, pid, ticks, name="net:[7]"):
    folder = proc / str(pid)
    network(folder, name)
    (folder / "cgroup").write_text(f"0::/kubepods/pod{POD}/{'c' * 64}\n")
    (folder / "stat").write_text(f"{pid} (a) b) S {'0 ' * 18}{ticks} 0 0\n")


@pytest.mark.parametrize(
    ("first", "later"), [pytest.param(20, 30, id="later"), pytest.param(20, 10, id="numbers-began-again")]
)
def test_that_of_the_pods_oldest_process(tmp_path, monkeypatch, first, later):
    """The first of a pod holds its network; one that came later may have a network of its own."""
    process(tmp_path, first, 500)
    process(tmp_path, later, 900)
    monkeypatch.setattr(trigger, "in_network", lambda pid, *_: pid)
    assert first == listen(POD, PodGroups(tmp_path / "groups"), tmp_path)


def test_a_runtimes_monitor_is_not_the_pods(tmp_path, monkeypatch):
    """It would have the agent listen in the node's network."""
    process(tmp_path, 20, 500, "net:[1]")
    assert listen(POD, PodGroups(tmp_path / "groups"), tmp_path) is None

    process(tmp_path, 30, 900)
    monkeypatch.setattr(trigger, "in_network", lambda pid, *_: pid)
    assert 30 == listen(POD, PodGroups(tmp_path / "groups"), tmp_path)


def test_no_process_yet(tmp_path):
    assert listen(POD, PodGroups(tmp_path / "groups"), tmp_path) is None


def test_a_pod_whose_group_is_known_is_not_looked_for_among_all_processes(tmp_path, monkeypatch):
    process(tmp_path, 20, 500)
    process(tmp_path, 30, 100)  # says that it is the pod's, and is not in its group
    groups = PodGroups(tmp_path / "groups")
    listed = tmp_path / f"groups/kubepods/pod{POD}/{'c' * 64}"
    listed.mkdir(parents=True)
    (listed / "cgroup.procs").write_text("20\n")
    groups.learn(f"0::/kubepods/pod{POD.replace('0b', '0c')}/{'c' * 64}")
    monkeypatch.setattr(trigger, "in_network", lambda pid, *_: pid)
    assert 20 == listen(POD, groups, tmp_path)
