"""Containers are found by what the kernel says of them, under every runtime and cgroup layout."""

import time

import pytest

from agent.container.find import container_of, worker_of
from linux.cgroup import cgroup_files
from linux.proc import Mount, descendants, environment, is_ending, mount_of, parse_mountinfo, parse_status

UID = "0f9e8d7c-1a2b-4c3d-8e9f-001122334455"
CID = "ab" * 32


@pytest.mark.parametrize(
    "cgroups",
    [
        pytest.param(f"4:memory:/kubepods/burstable/pod{UID}/{CID}\n0::/", id="cgroupfs-v1"),
        pytest.param(f"0::/kubepods/besteffort/pod{UID}/{CID}", id="cgroupfs-v2"),
        pytest.param(
            f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID.replace('-', '_')}.slice"
            f"/cri-containerd-{CID}.scope",
            id="systemd-containerd",
        ),
        pytest.param(
            f"0::/kubepods.slice/kubepods-pod{UID.replace('-', '_')}.slice/crio-{CID}.scope/container",
            id="systemd-crio",
        ),
        pytest.param(f"0::/../../pod{UID}/{CID}", id="seen-from-a-private-namespace"),
        pytest.param(f"4:memory:/outer/node/kubepods/pod{UID}/{CID}", id="nested-node"),
    ],
)
def test_home_is_read_from_cgroups(cgroups):
    owner = container_of(cgroups)
    assert owner is not None
    assert (UID, CID) == (owner.pod_uid, owner.container_id)


@pytest.mark.parametrize("cgroups", ["0::/", "0::/system.slice/containerd.service", f"0::/kubepods/pod{UID}", ""])
def test_processes_outside_of_containers_have_no_home(cgroups):
    assert container_of(cgroups) is None


class TestCgroupFiles:
    def test_every_v1_controller_and_no_unused_v2(self, tmp_path):
        for name in ("memory", "cpu,cpuacct", "systemd", "unified"):
            (tmp_path / name).mkdir()
        text = "4:memory:/a/b\n3:cpu,cpuacct:/a/b\n1:name=systemd:/a/b\n0::/"
        expected = [str(tmp_path / name / "a/b/cgroup.procs") for name in ("memory", "cpu,cpuacct", "systemd")]
        assert expected == cgroup_files(text, tmp_path)

    def test_v2_leaf(self, tmp_path):
        assert [str(tmp_path / "a/b/cgroup.procs")] == cgroup_files("0::/a/b", tmp_path)

    def test_path_above_a_private_namespace(self, tmp_path):
        assert [str(tmp_path / "a/cgroup.procs")] == cgroup_files("0::/../../a", tmp_path)


MOUNTINFO = r"""
100 90 0:50 / / rw,relatime - overlay overlay rw,lowerdir=/l1:/l2,upperdir=/var/lib/x/fs,workdir=/var/lib/x/work
101 100 8:1 /pods/u/volumes/kubernetes.io~empty-dir/snapshot-control/main /snapshot-control rw - ext4 /dev/sda1 rw
102 100 0:51 / /dev/shm rw,nosuid - tmpfs shm rw,size=65536k
103 100 8:1 /data\040dir /my\040data rw shared:7 - ext4 /dev/sda1 rw
""".strip()


class TestMounts:
    def test_fields(self):
        root, control, shm, spaced = parse_mountinfo(MOUNTINFO)
        assert ("/var/lib/x/fs", "overlay") == (root.option("upperdir"), root.fstype)
        assert control.root.endswith("/snapshot-control/main")
        assert "65536k" == shm.option("size")
        assert ("/my data", "/data dir") == (spaced.point, spaced.root)

    @pytest.mark.parametrize(
        ("path", "point"),
        [
            pytest.param("/etc/passwd", "/", id="root"),
            pytest.param("/dev/shm/x", "/dev/shm", id="below"),
            pytest.param("/dev/shm", "/dev/shm", id="itself"),
            pytest.param("/dev/shmx", "/", id="only-a-prefix-of-the-name"),
        ],
    )
    def test_mount_of_a_path(self, path, point):
        found = mount_of(path, parse_mountinfo(MOUNTINFO))
        assert found is not None
        assert point == found.point

    def test_the_later_of_two_mounts_on_one_point_counts(self):
        covered = Mount("/data", "/a", "ext4", "", "")
        cover = Mount("/data", "/b", "ext4", "", "")
        assert cover == mount_of("/data/x", [covered, cover])


def status(pid, parent=1, inner=None, session=None, state="S"):
    inner = pid if inner is None else inner
    session = inner if session is None else session
    return parse_status(
        f"Name:\tx\nState:\t{state} (x)\nPid:\t{pid}\nPPid:\t{parent}\n"
        f"Uid:\t5\t6\t6\t6\nGid:\t7\t8\t8\t8\nGroups:\t3 4 \n"
        f"NSpid:\t{pid}\t{inner}\nNSsid:\t{session}\t{session}\n"
        "CapInh:\t0\nCapPrm:\t0\nCapEff:\t0\nCapBnd:\tff\nCapAmb:\t0\n"
        "NoNewPrivs:\t1\nSeccomp:\t2\n"
    )


class TestProcesses:
    def test_status(self):
        found = status(900, 800, inner=12)
        assert (900, 12, 800, "S", 6, 8) == (
            found.pid, found.inner_pid, found.parent, found.state, found.uid, found.gid,
        )  # fmt: skip
        assert (frozenset({3, 4}), 255, True, 2) == (
            found.groups, found.capabilities["CapBnd"], found.no_new_privileges, found.seccomp,
        )  # fmt: skip

    def test_descendants_come_parents_first(self):
        mates = {pid: status(pid, parent) for pid, parent in ((10, 1), (11, 10), (12, 11), (13, 10), (20, 1))}
        assert [11, 13, 12] == descendants(10, mates)

    def test_descendants_of_thousands_are_found_at_once(self):
        mates = {pid: status(pid, 10) for pid in range(11, 4000)}
        start = time.process_time()
        assert len(mates) == len(descendants(10, mates))
        assert time.process_time() - start < 0.5

    def test_worker_is_the_oldest_session_leader_below_standby(self):
        mates = {
            10: status(10, 1, inner=1),
            11: status(11, 10, inner=1001),
            12: status(12, 10, inner=1005),
            13: status(13, 10, inner=900, session=1),
            14: status(14, 11, inner=950),
            15: status(15, 10, inner=400),
        }
        worker = worker_of(10, mates)
        assert worker is not None
        assert 11 == worker.pid

    def test_worker_that_standby_could_give_no_high_number(self):
        worker = worker_of(10, {pid: status(pid, 10 if pid > 10 else 1, inner=pid - 9) for pid in (10, 11, 12)})
        assert worker is not None
        assert 11 == worker.pid

    def test_no_worker(self):
        assert worker_of(10, {10: status(10, 1, inner=1)}) is None


@pytest.mark.parametrize(
    ("state", "flags", "pending", "ending"),
    [
        pytest.param("S", 0, 0, False, id="sleeps"),
        pytest.param("T", 0, 1 << 17, False, id="has-another-signal"),
        pytest.param("S", 0, 1 << 8, True, id="is-killed"),
        pytest.param("R", 4, 0, True, id="exits"),
        pytest.param("Z", 0, 0, True, id="has-ended"),
    ],
)
def test_a_thread_is_ending(tmp_path, state, flags, pending, ending):
    task = tmp_path / "7/task/8"
    task.mkdir(parents=True)
    (task / "stat").write_text(f"8 (a worker) {state} 1 1 1 0 -1 {flags} 0")
    (task / "status").write_text(f"Name:\ta worker\nSigPnd:\t{pending:016x}\n")
    assert ending == is_ending(7, 8, tmp_path)


def test_one_that_is_not_there_has_ended(tmp_path):
    assert is_ending(7, 8, tmp_path)


def test_the_environment_of_a_process(tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "7/environ").write_bytes(b"A=1\0B=x=y\0\0no-variable\0C=\xff\0EMPTY=\0")
    assert {"A": "1", "B": "x=y", "C": "\udcff", "EMPTY": ""} == environment(7, tmp_path)
