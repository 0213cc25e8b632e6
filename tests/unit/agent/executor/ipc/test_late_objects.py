"""Objects that come while a worker is dumped, and the note of those that a restore has made."""

import pytest

from agent.errors import RefusedError
from agent.executor.api import ContainerRef
from agent.executor.ipc.capture import refuse_late
from agent.executor.ipc.made import Made, noted
from contract.api import keys
from linux.ipc.sysvipc import SysvObject

SEM = SysvObject("sem", 7, 0)
HELD = SysvObject("shm", 7, 0, attached=1)


@pytest.mark.parametrize(
    ("before", "after", "goes_on"),
    [
        pytest.param([], [], False, id="none"),
        pytest.param([SEM], [SEM], False, id="the-same"),
        pytest.param([SEM], [], False, id="removed"),
        pytest.param([HELD], [HELD], True, id="attached-by-a-worker-that-goes-on"),
    ],
)
def test_what_was_there_is_fine(before, after, goes_on):
    refuse_late(before, after, goes_on=goes_on)


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        pytest.param([], [SEM], "was made while the worker was captured", id="late"),
        pytest.param([HELD], [HELD], "is attached by a process outside of the worker", id="still-attached"),
    ],
)
def test_what_came_is_refused(before, after, words):
    with pytest.raises(RefusedError, match=words):
        refuse_late(before, after, goes_on=False)


@pytest.fixture
def volume(tmp_path):
    """Make a pod's control volume; return the kubelet's folder of pods, and the container."""
    folder = tmp_path / "u-1/volumes/kubernetes.io~empty-dir" / keys.CONTROL_VOLUME
    folder.mkdir(parents=True)
    return tmp_path, folder, ContainerRef("ns", "pod", "u-1", "main")


def test_what_was_made_is_noted_until_it_is_forgotten(volume):
    pods, _, place = volume
    made = Made(pods, place)
    made.add(("shm", 5))
    made.add(("sem", 0))
    assert [("shm", 5), ("sem", 0)] == noted(pods, place)
    made.forget()
    made.forget()
    assert [] == noted(pods, place)
    made.close()


def test_a_note_that_was_cut_off_names_what_is_whole(volume):
    pods, folder, place = volume
    (folder / ".ipc-main").write_text("shm 5\nsem 0\nms")
    assert [("shm", 5), ("sem", 0)] == noted(pods, place)


def test_a_pod_without_a_volume_has_none(tmp_path):
    assert [] == noted(tmp_path, ContainerRef("ns", "pod", "u-2", "main"))
