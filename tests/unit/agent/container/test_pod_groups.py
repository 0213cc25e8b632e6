"""Where a pod's processes are found without a look at all of the node's."""

from pathlib import Path

import pytest

from agent.container.pod_groups import PodGroups

POD = "0b0f9c5e-6a3d-4f4c-9a53-6f6f3f1d2c11"
OTHER = "7c1d2e3f-1111-2222-3333-444455556666"
CONTAINER = "c" * 64


def listed(group: Path, *pids: int) -> None:
    group.mkdir(parents=True)
    (group / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))


LAYOUTS = [
    pytest.param("0::/kubepods/burstable/pod{pod}/{container}", "kubepods/burstable/pod{pod}", id="cgroupfs"),
    pytest.param(
        "0::/kubepods.slice/kubepods-pod{slice}.slice/cri-containerd-{container}.scope",
        "kubepods.slice/kubepods-pod{slice}.slice",
        id="systemd",
    ),
    pytest.param("4:memory:/kubepods/pod{pod}/{container}", "memory/kubepods/pod{pod}", id="version-1"),
    pytest.param(
        "0::/../../kubelet.slice/kubepods/pod{pod}/{container}",
        "kubelet.slice/kubepods/pod{pod}",
        id="another-cgroup-namespace",
    ),
]


def filled(text: str, pod: str) -> str:
    return text.format(pod=pod, slice=pod.replace("-", "_"), container=CONTAINER)


@pytest.mark.parametrize(("line", "group"), LAYOUTS)
def test_a_pod_is_found_where_another_was_seen(tmp_path, line, group):
    listed(tmp_path / filled(group, OTHER) / CONTAINER, 7, 8)
    groups = PodGroups(tmp_path)
    groups.learn(filled(line, POD))
    assert [7, 8] == sorted(groups.known_pids(OTHER))


def test_processes_of_all_containers_and_of_groups_within_count(tmp_path):
    listed(tmp_path / f"kubepods/pod{POD}/pause", 5)
    listed(tmp_path / f"kubepods/pod{POD}/{CONTAINER}", 7, 0)
    listed(tmp_path / f"kubepods/pod{POD}/{CONTAINER}/own/within", 9)
    groups = PodGroups(tmp_path)
    groups.learn(f"0::/kubepods/pod{POD}/{CONTAINER}\n")
    assert {5, 7, 9} == set(groups.known_pids(POD))


def test_a_pod_elsewhere_is_looked_for_among_all(tmp_path):
    """Of another class of service, say; a process that this pid namespace does not see is no process."""
    proc = tmp_path / "proc"
    for pid in (1, 20):
        (proc / str(pid)).mkdir(parents=True)
    listed(tmp_path / f"groups/kubepods/pod{POD}", 7)
    groups = PodGroups(tmp_path / "groups")
    assert {1, 20} == set(groups.pids(POD, proc))
    groups.learn(f"0::/kubepods/pod{POD}/{CONTAINER}\n")
    assert {1, 20} == set(groups.pids(OTHER, proc))
    assert [7] == list(groups.pids(POD, proc))


def test_a_process_of_no_pod_teaches_nothing(tmp_path):
    listed(tmp_path / "system.slice/sshd.service", 7)
    groups = PodGroups(tmp_path)
    groups.learn("0::/system.slice/sshd.service\n")
    assert [] == groups.known_pids(POD)
