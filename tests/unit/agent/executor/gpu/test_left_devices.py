"""Which containers a new agent looks at for devices that a dead one took."""

from agent.executor.gpu.left import MOST_OF_A_POD, find_left
from contract.api import control_files, keys


def note(pods, uid, container, name=control_files.DEVICES):
    folder = pods / uid / "volumes/kubernetes.io~empty-dir" / keys.CONTROL_VOLUME / container
    folder.mkdir(parents=True)
    (folder / name).write_text("")


def test_those_with_a_note(tmp_path):
    note(tmp_path, "uid-1", "main")
    note(tmp_path, "uid-1", "engine-1")
    note(tmp_path, "uid-2", "main", control_files.FROZEN)
    found = {(place.pod_uid, place.container) for place in find_left(tmp_path)}
    assert {("uid-1", "main"), ("uid-1", "engine-1")} == found


def test_a_pod_with_a_thousand_folders_is_no_more_work_than_one_with_a_few(tmp_path):
    for number in range(1000):
        note(tmp_path, "uid-1", f"c{number}")
    note(tmp_path, "uid-2", "main")
    found = [place.pod_uid for place in find_left(tmp_path)]
    assert MOST_OF_A_POD + 1 == len(found)
    assert 1 == found.count("uid-2")


def test_a_node_without_pods(tmp_path):
    assert [] == find_left(tmp_path / "none")
