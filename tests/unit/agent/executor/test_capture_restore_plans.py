"""What a capture or restore will do is decided before anything is touched, and refused with what to do."""

from dataclasses import replace
from pathlib import PurePosixPath

import pytest

from agent.container.inspection import Inspection, NodeInfo, Worker
from agent.container.rootfs import Changes
from agent.errors import RefusedError
from agent.executor.api import CaptureRequest, ContainerRef
from agent.executor.capture_plan import plan_capture
from agent.executor.restore_checks import plan_restore
from artifact.manifest import DELETED_FILES, ROOTFS_TAR, RootFilesystem, VolumeContent
from linux.proc import Mount, Status
from tests.support.builders import manifests

CAPS = 0xA80425FB
NODE = NodeInfo("6.1.0", "x86_64", frozenset({"avx2", "sse4_2"}))
SCRATCH = "/pods/u/volumes/kubernetes.io~empty-dir/scratch"
CONTROL = "/pods/u/volumes/kubernetes.io~empty-dir/snapshot-control/main"
NOTHING = Changes()


def status(**fields):
    usual = Status(
        pid=500, inner_pid=1, inner_session=1, parent=400, state="S", uid=1000, gid=1000, groups=frozenset({5}),
        capabilities={"CapBnd": CAPS}, no_new_privileges=True, seccomp=2,
    )  # fmt: skip
    return replace(usual, **fields)


def container(**fields):
    mounts = (
        Mount("/", "/", "overlay", "overlay", "rw,upperdir=/up"),
        Mount("/dev/shm", "/", "tmpfs", "shm", "rw,size=65536k"),
        Mount("/snapshot-control", CONTROL, "ext4", "/dev/sda", "rw"),
        Mount("/scratch", SCRATCH, "ext4", "/dev/sda", "rw"),
        Mount("/data", "/volumes/data", "ext4", "/dev/sdb", "rw"),
    )
    usual = Inspection(
        init=status(), mounts=mounts, stdio={0: "/dev/null", 1: "pipe:[11]", 2: "pipe:[12]"},
        inner_ids=frozenset({1, 17}), cgroups="",
    )  # fmt: skip
    return replace(usual, **fields)


def worker(*in_use):
    root = status(pid=600, inner_pid=1001, inner_session=1001, parent=500)
    return Worker(root, (600, 601), (1001, 1002), ("python3", "x.py"), frozenset(in_use), 1 << 20)


ORDER = CaptureRequest(
    ContainerRef("ns", "pod", "u", "main"), "abc", "1", PurePosixPath("/checkpoints"), through_pod=False
)


def manifest(**fields):
    """Return what a capture of the usual container writes."""
    plan = plan_capture(ORDER, container(), worker("/usr/bin/python3", "/scratch/x"), NODE, "4.2.1")
    parts = {
        "taken_on": plan.taken_on, "container": plan.container, "process": plan.process,
        "used_mounts": list(plan.used_mounts), "rootfs": RootFilesystem(files=1),
    }  # fmt: skip
    captured = manifests.captured(**parts | fields)
    return manifests.manifest(captured, ROOTFS_TAR, DELETED_FILES, *(volume.file for volume in captured.volumes))


class TestCapture:
    def test_plan(self):
        plan = plan_capture(ORDER, container(), worker("/usr/bin/python3", "/scratch/x"), NODE, "4.2.1")
        assert 1001 == plan.worker_pid
        assert [("/dev/shm", 65536 << 10), ("/scratch", None)] == [(v.point, v.size) for v in plan.volumes]
        assert ("/scratch",) == plan.used_mounts
        process = plan.process
        assert (1001, [1001, 1002], ["python3", "x.py"]) == (process.pid, process.ids, process.argv)

    def test_an_empty_dir_travels_though_nobody_has_it_open(self):
        plan = plan_capture(ORDER, container(), worker("/usr/bin/python3"), NODE, "4.2.1")
        assert ["/dev/shm", "/scratch"] == [volume.point for volume in plan.volumes]

    def test_no_worker(self):
        with pytest.raises(RefusedError, match="has ended"):
            plan_capture(ORDER, container(), None, NODE, "4.2.1")

    @pytest.mark.parametrize("what", ["/dev/pts/0", "socket:[7]"])
    def test_terminal(self, what):
        with pytest.raises(RefusedError, match="tty: false"):
            plan_capture(ORDER, container(stdio={1: what}), worker(), NODE, "4.2.1")


class TestRestore:
    def test_plan(self):
        volumes = [VolumeContent(point="/dev/shm", file="volume-0.tar", size=8 << 30)]
        plan = plan_restore(
            manifest(volumes=volumes), container(), NODE, "4.2.1", Changes(gone=["etc/issue"], emptied=["opt"])
        )
        assert 1001 == plan.worker_pid
        assert {"pipe:[11]": 1, "pipe:[12]": 2} == plan.inherit
        assert [("/", ("etc/issue",), ("opt",)), ("/dev/shm", (), ())] == [
            (c.root, c.gone, c.emptied) for c in plan.changes
        ]
        assert {"/dev/shm": 8 << 30} == plan.resize

    def test_larger_shared_memory_is_left_alone(self):
        volumes = [VolumeContent(point="/dev/shm", file="volume-0.tar", size=1 << 20)]
        assert {} == plan_restore(manifest(volumes=volumes), container(), NODE, "4.2.1", NOTHING).resize

    @pytest.mark.parametrize(
        ("node", "code", "words"),
        [
            pytest.param(replace(NODE, architecture="aarch64"), "cpu-mismatch", "aarch64", id="architecture"),
            pytest.param(replace(NODE, cpu_flags=frozenset({"sse4_2"})), "cpu-mismatch", "lacks avx2", id="flags"),
        ],
    )
    def test_machine(self, node, code, words):
        with pytest.raises(RefusedError, match=words) as refused:
            plan_restore(manifest(), container(), node, "4.2.1", NOTHING)
        assert code == refused.value.code

    @pytest.mark.parametrize(("version", "fits"), [("4.2.0", True), ("4.3", True), ("5.0.1", True), ("4.1.9", False)])
    def test_criu_is_not_older_than_the_capture(self, version, fits):
        if fits:
            plan_restore(manifest(), container(), NODE, version, NOTHING)
            return
        with pytest.raises(RefusedError, match="update the agent"):
            plan_restore(manifest(), container(), NODE, version, NOTHING)

    @pytest.mark.parametrize(
        ("now", "words"),
        [
            pytest.param({"uid": 0}, "user 1000:1000 then, 0:1000 now", id="user"),
            pytest.param({"gid": 1}, "user", id="group"),
            pytest.param({"groups": frozenset()}, r"groups \[5\]", id="supplementary-groups"),
            pytest.param({"capabilities": {"CapBnd": CAPS & ~1}}, "capabilities 0x1", id="capabilities"),
        ],
    )
    def test_rights_come_from_the_pod(self, now, words):
        with pytest.raises(RefusedError, match=words) as refused:
            plan_restore(manifest(), container(init=status(**now)), NODE, "4.2.1", NOTHING)
        assert "wider-rights" == refused.value.code

    @pytest.mark.parametrize(
        ("then", "words"),
        [
            pytest.param({"no_new_privileges": False}, "allowPrivilegeEscalation", id="no-new-privileges"),
            pytest.param({"seccomp": 0}, "seccomp", id="seccomp"),
        ],
    )
    def test_rights_that_the_capture_had(self, then, words):
        wide = manifest(container=manifests.container(**then))
        with pytest.raises(RefusedError, match=words):
            plan_restore(wide, container(), NODE, "4.2.1", NOTHING)

    def test_more_rights_now_are_fine(self):
        plan_restore(
            manifest(), container(init=status(capabilities={"CapBnd": CAPS | 1 << 40})), NODE, "4.2.1", NOTHING
        )

    def test_mounts_in_use_must_be_there(self):
        bare = container(mounts=container().mounts[:2])
        with pytest.raises(RefusedError, match="/scratch, which this pod does not mount"):
            plan_restore(manifest(), bare, NODE, "4.2.1", NOTHING)

    def test_process_ids_must_be_free(self):
        with pytest.raises(RefusedError, match="1002"):
            plan_restore(manifest(), container(inner_ids=frozenset({1, 1002})), NODE, "4.2.1", NOTHING)
