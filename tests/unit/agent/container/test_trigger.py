"""Whose network the agent listens in."""

import pytest

from agent.container import trigger
from agent.container.trigger import listen

POD = "0b0f9c5e-6a3d-4f4c-9a53-6f6f3f1d2c11"


def process(proc, pid, ticks):
    folder = proc / str(pid)
    folder.mkdir()
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
    assert first == listen(POD, tmp_path)


def test_no_process_yet(tmp_path):
    assert listen(POD, tmp_path) is None
