"""What a capture or restore will do is decided before anything is touched, and refused with what to do."""

from dataclasses import replace
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.container.files.rootfs import Changes
from agent.container.inspection import Inspection, Surroundings, Worker
from agent.errors import RefusedError
from agent.executor.api import CaptureRequest, ContainerRef
from agent.executor.capture.plan import plan_capture
from agent.executor.restore.checks import CHECKS, Place, judge, plan_restore
from artifact.manifest import DELETED_FILES, ROOTFS_TAR, parse_manifest, write_manifest
from artifact.parts.files import RootFilesystem, VolumeContent
from artifact.parts.gpu import Gpu
from contract.nodes.compatibility import BYPASSABLE, GATES
from contract.nodes.node_facts import NodeFacts, lacks
from linux.proc import Mount, Status
from tests.support.builders import manifests

CAPS = 0xA80425FB
FACTS = NodeFacts(architecture="x86_64", kernel="6.1.0", criu="4.2.1", cpu_flags=frozenset({"avx2", "sse4_2"}))
AROUND = Surroundings(FACTS)
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
    plan = plan_capture(ORDER, container(), worker("/usr/bin/python3", "/scratch/x"), AROUND)
    parts = {
        "taken_on": plan.taken_on, "container": plan.container, "process": plan.process,
        "used_mounts": list(plan.used_mounts), "rootfs": RootFilesystem(files=1),
    }  # fmt: skip
    captured = manifests.captured(**parts | fields)
    return manifests.manifest(captured, ROOTFS_TAR, DELETED_FILES, *(volume.file for volume in captured.volumes))


class TestCapture:
    def test_plan(self):
        plan = plan_capture(ORDER, container(), worker("/usr/bin/python3", "/scratch/x"), AROUND)
        assert 1001 == plan.worker_pid
        assert [("/dev/shm", 65536 << 10), ("/scratch", None)] == [(v.point, v.size) for v in plan.volumes]
        assert ("/scratch",) == plan.used_mounts
        process = plan.process
        assert (1001, [1001, 1002], ["python3", "x.py"]) == (process.pid, process.ids, process.argv)

    def test_an_empty_dir_travels_though_nobody_has_it_open(self):
        plan = plan_capture(ORDER, container(), worker("/usr/bin/python3"), AROUND)
        assert ["/dev/shm", "/scratch"] == [volume.point for volume in plan.volumes]

    def test_no_worker(self):
        with pytest.raises(RefusedError, match="has ended"):
            plan_capture(ORDER, container(), None, AROUND)

    @pytest.mark.parametrize("what", ["/dev/pts/0", "socket:[7]"])
    def test_terminal(self, what):
        with pytest.raises(RefusedError, match="tty: false"):
            plan_capture(ORDER, container(stdio={1: what}), worker(), AROUND)


def image(digit):
    return f"registry.example/worker@sha256:{digit * 64}"


def judged(found=None, bypass=(), **place):
    return judge(found or manifest(), Place(**{"seen": container(), "around": AROUND} | place), bypass)


def node(**facts):
    return {"around": replace(AROUND, node=replace(AROUND.node, **facts))}


class TestRestore:
    def test_plan(self):
        volumes = [VolumeContent(point="/dev/shm", file="volume-0.tar", size=8 << 30)]
        plan = plan_restore(manifest(volumes=volumes), container(), Changes(gone=["etc/issue"], emptied=["opt"]))
        assert 1001 == plan.worker_pid
        assert {"pipe:[11]": 1, "pipe:[12]": 2} == plan.inherit
        assert [("/", ("etc/issue",), ("opt",)), ("/dev/shm", (), ())] == [
            (c.root, c.gone, c.emptied) for c in plan.changes
        ]
        assert {"/dev/shm": 8 << 30} == plan.resize

    def test_larger_shared_memory_is_left_alone(self):
        volumes = [VolumeContent(point="/dev/shm", file="volume-0.tar", size=1 << 20)]
        assert {} == plan_restore(manifest(volumes=volumes), container(), NOTHING).resize

    @pytest.mark.parametrize(
        ("then", "now", "code", "words"),
        [
            pytest.param({}, node(architecture="aarch64"), "architecture-mismatch", "aarch64", id="architecture"),
            pytest.param({}, node(cpu_flags=frozenset({"sse4_2"})), "cpu-mismatch", "lacks avx2", id="flags"),
            pytest.param({}, node(kernel="5.15.0-91-generic"), "kernel-mismatch", "5.15.0-91", id="older-kernel"),
            pytest.param({}, node(kernel="6.0.99"), "kernel-mismatch", "6.0.99", id="older-minor"),
            pytest.param({}, node(criu="4.1.9"), "criu-mismatch", "update the agent", id="older-criu"),
            pytest.param(
                {"container": manifests.container(image_id=image("a"))}, {"image": image("b")},
                "image-mismatch", "aaaa.* has sha256:bbbb", id="image",
            ),
            pytest.param(
                {"container": manifests.container(cpu_limit=4.0)}, {"around": Surroundings(FACTS, cpu_limit=0.5)},
                "cpu-limit", "4 CPUs, this container has 0.5", id="cpus",
            ),
            pytest.param(
                {"volumes": [VolumeContent(point="/dev/shm", file="volume-0.tar", size=1, bytes=9 << 20)]},
                {"around": Surroundings(FACTS, headroom=1 << 20, memory_limit=3 << 20)},
                "memory-limit", "by at least 8 MiB, to 11Mi", id="memory",
            ),
            pytest.param(
                {"process": manifests.process(huge=4 << 20)}, {"around": Surroundings(FACTS, huge_free=2 << 20)},
                "huge-pages", "4 MiB of huge pages, and the node has 2 MiB", id="huge-pages",
            ),
            pytest.param(
                {"volumes": [VolumeContent(point="/cache", file="volume-0.tar")]}, {},
                "mounts-missing", "keeps data on /cache", id="volume",
            ),
            pytest.param(
                {}, {"seen": container(mounts=container().mounts[:2])}, "mounts-missing",
                "/scratch, which this pod does not mount", id="mounts-in-use",
            ),
            pytest.param(
                {}, {"seen": container(inner_ids=frozenset({1, 1002}))}, "pids-taken", "1002", id="process-ids"
            ),
            pytest.param(
                {"gpu": Gpu(driver="580.1", cuda="13.0", devices=[], processes=[1001])}, {}, "gpu-missing",
                "no CUDA driver", id="gpus",
            ),
        ],
    )  # fmt: skip
    def test_what_does_not_fit_is_refused_by_name(self, then, now, code, words):
        with pytest.raises(RefusedError, match=words) as refused:
            judged(manifest(**then), **now)
        assert code == refused.value.code
        if code in BYPASSABLE:
            assert [code] == list(judged(manifest(**then), bypass={code}, **now))

    @pytest.mark.parametrize(
        ("then", "now"),
        [
            pytest.param({}, node(criu="4.2.0"), id="criu-of-another-patch-level"),
            pytest.param({}, node(criu="4.3"), id="newer-criu"),
            pytest.param({}, node(criu="5.0.1"), id="next-criu"),
            pytest.param({}, node(kernel="6.1.0-rc1"), id="kernel-of-another-patch-level"),
            pytest.param({}, node(kernel="6.18.44"), id="newer-kernel"),
            pytest.param({}, node(kernel="7.0"), id="next-kernel"),
            pytest.param({}, node(kernel="unknown"), id="kernel-without-a-number"),
            pytest.param({}, node(cpu_flags=frozenset({"sse4_2", "avx2", "avx512f"})), id="more-flags"),
            pytest.param({"container": manifests.container(image_id=image("a"))}, {"image": "worker:1"}, id="a-tag"),
            pytest.param({"container": manifests.container()}, {"image": image("b")}, id="an-earlier-release"),
            pytest.param(
                {"container": manifests.container(image_id=image("a"))},
                {"image": f"mirror.example/other@sha256:{'a' * 64}"}, id="image-of-another-registry",
            ),
            pytest.param({}, {"around": Surroundings(FACTS, cpu_limit=0.5)}, id="no-cpu-limit-then"),
            pytest.param({"container": manifests.container(cpu_limit=4.0)}, {}, id="no-cpu-limit-now"),
            pytest.param({"process": manifests.process(huge=4 << 20)}, {}, id="huge-pages-of-several-sizes"),
            pytest.param({}, {"around": Surroundings(FACTS, huge_free=0)}, id="no-huge-pages-then"),
        ],
    )  # fmt: skip
    def test_what_differs_and_fits(self, then, now):
        assert {} == judged(manifest(**then), **now)

    def test_only_what_is_named_is_bypassed(self):
        with pytest.raises(RefusedError) as refused:
            judged(bypass={"cpu-mismatch"}, **node(cpu_flags=frozenset(), kernel="5.1"))
        assert "kernel-mismatch" == refused.value.code
        both = {"cpu-mismatch", "kernel-mismatch"}
        assert both == judged(bypass=both, **node(cpu_flags=frozenset(), kernel="5.1")).keys()

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
            judged(seen=container(init=status(**now)))
        assert "wider-rights" == refused.value.code

    @pytest.mark.parametrize(
        ("then", "words"),
        [
            pytest.param({"no_new_privileges": False}, "allowPrivilegeEscalation", id="no-new-privileges"),
            pytest.param({"seccomp": 0}, "seccomp", id="seccomp"),
        ],
    )
    def test_rights_that_the_capture_had(self, then, words):
        with pytest.raises(RefusedError, match=words):
            judged(manifest(container=manifests.container(**then)))

    def test_more_rights_now_are_fine(self):
        assert {} == judged(seen=container(init=status(capabilities={"CapBnd": CAPS | 1 << 40})))


FLAGS = st.frozensets(st.sampled_from(["sse4_2", "avx", "avx2", "avx512f", "amx_tile", "sha_ni"]))
NODES = st.builds(
    NodeFacts,
    architecture=st.sampled_from(["x86_64", "aarch64"]),
    kernel=st.text(max_size=12) | st.from_regex(r"[0-9]{1,3}\.[0-9]{1,3}[-.a-z0-9]{0,9}", fullmatch=True),
    criu=st.from_regex(r"[0-9]{1,2}\.[0-9]{1,2}(\.[0-9]{1,2})?", fullmatch=True),
    cpu_flags=FLAGS,
    cpu_model=st.text(max_size=12),
)
LIMITS = st.none() | st.floats(0.01, 512)


@given(facts=NODES, limit=LIMITS, known=st.sampled_from(["", image("a")]))
def test_an_artifact_passes_where_it_was_made(facts, limit, known):
    around = Surroundings(facts, headroom=None, cpu_limit=limit)
    plan = plan_capture(replace(ORDER, image_id=known), container(), worker("/usr/bin/python3"), around)
    parts = {"taken_on": plan.taken_on, "container": plan.container, "process": plan.process}
    made = manifest(**parts, used_mounts=list(plan.used_mounts))
    read = parse_manifest(write_manifest(made, "abc", "1", made.files), "abc")
    assert {} == judged(read, around=around, image=known)
    assert lacks(read.taken_on.facts, facts) is None


def test_the_checks_are_those_of_the_list():
    assert [gate.reason for gate in GATES] == [reason for reason, _ in CHECKS]
