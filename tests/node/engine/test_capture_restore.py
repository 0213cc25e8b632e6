"""The engine on real namespaces with the real criu: state intact, files along, and every failure a clean cold start."""

import asyncio
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from agent.criu.driver import EnteringCriu
from agent.executor import lock
from agent.executor.api import RejectRequest, RestoreRequest
from agent.executor.engine import NodeEngine
from agent.executor.environment import NodeEnvironment
from contract.api import control_files
from contract.api.states import AgentReason
from contract.config.values import load_values
from tests.support.fixtures.bare_container import PYTHON, BareContainer, wait_for
from tests.support.fixtures.engine import COLD, captured
from tests.support.fixtures.tools import PROJECT

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")


class TestRestored:
    @pytest.mark.parametrize("user", [pytest.param(0, id="root"), pytest.param(65532, id="user")])
    async def test_everything_is_where_it_was(self, node, user):
        """Memory, pids, the child, the open log, shared memory, the emptyDir, the socket; in a container of its own."""
        name = f"whole-{user}"
        before, digest = await captured(node, name, user=user)
        assert before.endswith("segment! scratch! before")
        target = node.start(user=user)
        outcome = await node.restore(target, name, digest)
        assert outcome.ok, outcome
        assert target.container_id == outcome.container_id
        text = target.says("outcome RESTORED")
        assert control_files.LOG_RESTORED.format(id=name) == text.splitlines()[0]
        assert before == target.get()
        served = target.says("served by").splitlines()[-1]
        assert served == f"served by {before.split()[2]}"
        assert control_files.DONE == (target.control / control_files.RESTORE_COMPLETE).read_text()
        assert (user == 0) == (target.run("test -e /etc/issue.net").returncode != 0)

    async def test_a_request_that_was_made_for_another_container_touches_nothing(self, node):
        """The pod was seen before its container was started again, maybe with another image."""
        _, digest = await captured(node, "another")
        target = node.start()
        place = replace(node.place(target), container_id="f" * 64)
        store = PurePosixPath(node.store)
        outcome = await node.engine.restore(RestoreRequest(place, "another", "1", store, False, digest))
        assert (False, True) == (outcome.ok, outcome.retry)
        assert not (target.control / control_files.VERDICT).exists()
        place = replace(place, container_id=target.container_id)
        outcome = await node.engine.restore(RestoreRequest(place, "another", "1", store, False, digest))
        assert outcome.ok, outcome

    async def test_restored_tree_is_in_the_containers_cgroups(self, node):
        _, digest = await captured(node, "cgroups")
        target = node.start()
        assert (await node.restore(target, "cgroups", digest)).ok
        for cgroup in target.cgroups:
            members = (cgroup / "cgroup.procs").read_text().split()
            assert {str(pid) for pid in target.children()} <= set(members)

    async def test_exit_code_and_signals_pass_through(self, node):
        _, digest = await captured(node, "signals")
        target = node.start()
        assert (await node.restore(target, "signals", digest)).ok
        target.says("outcome RESTORED")
        os.kill(target.init(), signal.SIGTERM)
        assert 128 + signal.SIGTERM == target.code()

    async def test_pod_mount(self, node):
        """The store is reached through the container's own mount of it."""
        source = node.start("--capture")
        wait_for((source.control / control_files.READY_FOR_SNAPSHOT).exists, "ready file")
        through = {"base_path": PurePosixPath("/checkpoints"), "through_pod": True}
        outcome = await node.capture(source, "pod-mount", **through)
        assert outcome.ok, outcome
        assert (node.store / "pod-mount/versions/1/manifest.yaml").exists()
        target = node.start()
        outcome = await node.restore(target, "pod-mount", outcome.manifest_digest, **through)
        assert outcome.ok, outcome
        target.says("outcome RESTORED")

    async def test_small_shared_memory_is_enlarged(self, node):
        _, digest = await captured(node, "enlarged", shm="256m")
        target = node.start(shm="1m")
        outcome = await node.restore(target, "enlarged", digest)
        assert outcome.ok, outcome
        assert "262144" in target.run("df -k /dev/shm").stdout

    async def test_traps_in_the_container_never_run(self, node):
        """criu, loader, tar, iptables: none of the container's is executed with the agent's rights."""
        _, digest = await captured(node, "traps")
        target = node.start()
        traps = " ".join(
            f"/usr/sbin/{p} /usr/bin/{p} /bin/{p} /sbin/{p}"
            for p in ("criu", "tar", "iptables", "iptables-restore", "nft")
        )
        target.run(
            f"rm -rf {traps}; for t in {traps}; do printf '#!/bin/sh\\ntouch /sprung\\n' > $t; chmod 755 $t; done"
        )
        outcome = await node.restore(target, "traps", digest)
        assert outcome.ok, outcome
        assert 0 != target.run("test -e /sprung").returncode


class TestBurst:
    async def test_many_restores_at_once_lose_nobody(self, node):
        """They take turns, and the first takes longer than standby waits to be claimed: all are claimed at once."""
        _, digest = await captured(node, "burst", megabytes=1)
        slow = SlowAtFirst(node.environment.criu)
        node.engine = NodeEngine(NodeEnvironment(**{**vars(node.environment), "criu": slow}), at_once=2)
        targets, restores = [], []
        for _ in range(18):
            targets.append(node.start(megabytes=1))
            # Each is claimed before the next is made: the first would not wait for the last on a busy machine.
            restores.append(asyncio.create_task(node.restore(targets[-1], "burst", digest)))
            await asyncio.to_thread(wait_for, targets[-1].claimed, "the claim")
        slow.end = time.monotonic() + control_files.CLAIM_WINDOW + 1
        outcomes = await asyncio.gather(*restores)

        assert [""] * 18 == [outcome.reason for outcome in outcomes]
        assert max(outcome.seconds["queue"] for outcome in outcomes) > control_files.CLAIM_WINDOW
        for target in targets:
            target.says("outcome RESTORED")


class TestRefused:
    async def test_a_refusal_starts_the_worker_at_once(self, node):
        target = node.start()
        target.init()
        refusal = RejectRequest(node.place(target), AgentReason.CHECKPOINT_NOT_READY, "the checkpoint failed")
        outcome = await node.engine.reject(refusal)
        text = target.says(COLD)

        assert ("checkpoint-not-ready", target.container_id) == (outcome.reason, outcome.container_id)
        # Had it waited for its time to be over, it would say that nobody came.
        assert f"{COLD}the checkpoint failed" == text.splitlines()[0]


class TestColdStart:
    async def failed(self, node, container, checkpoint_id, digest, words):
        outcome = await node.restore(container, checkpoint_id, digest)
        assert not outcome.ok
        assert words in outcome.message, outcome
        container.says(COLD)
        container.says("outcome NOT_MANAGED")
        assert words in container.text()
        assert [] == [path for path in container.upper() if path not in self.of_the_cold_worker]
        assert not (container.control / control_files.DIRTY).exists()
        assert 1 == len(wait_for(container.get, "answer of the cold worker").split()[0:1])
        return outcome

    of_the_cold_worker = ("var/tmp/worker.log", "var/tmp/worker.sock", "etc/issue.net")

    @pytest.mark.parametrize(
        ("spoil", "words"),
        [
            pytest.param(shutil.rmtree, "No such file", id="missing"),
            pytest.param(
                lambda version: (version / "manifest.yaml").write_text("a: 1"), "manifest is blake3:", id="manifest"
            ),
            pytest.param(
                lambda version: flip(next(version.glob("pages-*.img"))),
                "is not what the manifest says",
                id="flipped-bit",
            ),
            pytest.param(lambda version: next(version.glob("core-*.img")).unlink(), "No such file", id="file-missing"),
        ],
    )
    async def test_bad_artifact(self, node, spoil, words, request):
        name = f"bad-{request.node.callspec.id.split('-')[0]}-{request.node.callspec.indices['spoil']}"
        _, digest = await captured(node, name)
        spoil(node.store / name / "versions/1")
        await self.failed(node, node.start(), name, digest, words)

    async def test_criu_fails_after_files_were_put_back(self, node):
        """It fails as late as it can: the restored processes and the files that came with them are gone again."""
        _, digest = await captured(node, "late")
        target = node.start()
        broken = NodeEnvironment(**{**vars(node.environment), "criu": FailingAfter(node.environment.criu)})
        node.engine = NodeEngine(broken)
        outcome = await self.failed(node, target, "late", digest, "made to fail")
        assert "restore-failed" == outcome.reason

    async def test_wider_rights_are_refused(self, node):
        _, digest = await captured(node, "wider")
        outcome = await self.failed(node, node.start(user=65532), "wider", digest, "rights that this pod lacks")
        assert "wider-rights" == outcome.reason

    async def test_nobody_restores_into_a_running_worker(self, node):
        _, digest = await captured(node, "late-agent")
        target = node.start()
        target.says(COLD)
        outcome = await node.restore(target, "late-agent", digest)
        assert ("already-started", False) == (outcome.reason, outcome.retry)


class SlowAtFirst:
    """The real criu, on a storage that answers from the time *end* on."""

    def __init__(self, criu):
        self._criu = criu
        self.end = math.inf

    def version(self):
        return self._criu.version()

    def restore(self, request):
        wait_for(lambda: time.monotonic() > self.end, "the storage", 120)
        return self._criu.restore(request)


class FailingAfter:
    """The real criu, which then says that it failed: the tree is there, stopped."""

    def __init__(self, criu):
        self._criu = criu

    def version(self):
        return self._criu.version()

    def restore(self, request):
        from agent.errors import CriuError  # noqa: PLC0415

        restored = self._criu.restore(request)
        if restored.pages is not None:
            restored.pages.stop()
        raise CriuError("restore-failed", "made to fail")


class TestCaptureFails:
    async def test_published_version_is_never_overwritten(self, node):
        _, digest = await captured(node, "twice")
        source = node.start("--capture")
        source.says("warm")
        outcome = await node.capture(source, "twice")
        assert ("artifact-exists", 1) == (outcome.reason, source.code())
        assert [] == list((node.store / "twice/tmp").iterdir())
        target = node.start()
        assert (await node.restore(target, "twice", digest)).ok

    async def test_volume_too_large(self, node):
        source = node.start("--capture", shm="2g")
        source.says("warm")
        source.run("truncate -s 0 /dev/shm/large; fallocate -l 1100m /dev/shm/large")
        outcome = await node.capture(source, "large")
        assert "volume-too-large" == outcome.reason
        assert "/dev/shm/large" in outcome.message
        assert 1 == source.code()

    async def test_nothing_to_capture_in_a_container_that_waits_for_a_restore(self, node):
        target = node.start()
        target.init()
        outcome = await node.capture(target, "no-worker")
        assert not outcome.ok


DIES_WHILE_RESTORING = """
import asyncio, os, signal, sys
from dataclasses import replace
from pathlib import Path, PurePosixPath
from agent.executor.api import ContainerRef, RestoreRequest
from agent.executor.engine import NodeEngine
from agent.executor.environment import NodeEnvironment
from tests.support.fixtures.engine import Node

class Dying:
    def __init__(self, criu):
        self.version, self._restore = criu.version, criu.restore
    def restore(self, request):
        self._restore(request)
        os.kill(os.getpid(), signal.SIGKILL)

folder, criu, name, digest = sys.argv[1:]
node = Node(Path(folder), Path(criu))
engine = NodeEngine(NodeEnvironment(**{**vars(node.environment), "criu": Dying(node.environment.criu)}))
print("here", flush=True)
pod_uid = input()
container = ContainerRef("ns", "pod", pod_uid, "main")
request = RestoreRequest(container, name, "1", PurePosixPath(node.store), False, digest)
asyncio.run(engine.restore(request))
"""


class TestAgentDies:
    """Everything is put back and restored, only the verdict is missing, when the agent is killed."""

    def dies(self, node, name, digest):
        """A container whose agent has died; that agent is up before the container begins to wait for it."""
        argv = [sys.executable, "-c", DIES_WHILE_RESTORING, node.folder, node.criu_folder, name, digest]
        environment = os.environ | {"PYTHONPATH": f"{PROJECT}:{PROJECT / 'sdk'}"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(argv, cwd=PROJECT, env=environment, **pipes) as agent:
            assert "here\n" == agent.stdout.readline()
            target = node.start()
            target.init()
            agent.communicate(f"{target.pod_uid}\n")
        assert -signal.SIGKILL == agent.returncode
        assert (target.control / control_files.DIRTY).exists()
        assert 1 == len(target.children())
        return target

    async def test_the_next_one_cleans_up_and_restores(self, node):
        before, digest = await captured(node, "dies")
        target = self.dies(node, "dies", digest)
        outcome = await node.restore(target, "dies", digest)
        assert outcome.ok, outcome
        target.says("outcome RESTORED")
        assert before == target.get()
        assert 1 == len(target.children())

    async def test_nobody_comes_and_kubelet_restarts_the_container(self, node):
        _, digest = await captured(node, "dies-alone")
        target = self.dies(node, "dies-alone", digest)
        assert control_files.EXIT_RESTART_ME == target.code()
        assert "the agent died" in target.text()

    async def test_a_capture_that_was_cut_off_fails(self, node):
        source = node.start("--capture")
        source.says("warm")
        place = node.place(source)
        directory = lock.ControlDir(lock.open_control_dir(node.environment.kubelet_pods, place.pod_uid, "main"))
        with lock.acquire(directory, source.init()) as acquired:
            acquired.allow(60)
        directory.close()
        outcome = await node.capture(source, "cut-off")
        assert ("agent-died", 1) == (outcome.reason, source.code())


def flip(path: Path) -> None:
    """Changes one bit in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


async def test_check_names_what_is_missing(folder):
    path, criu = folder
    values = load_values("")
    good = NodeEnvironment(
        criu=EnteringCriu(criu, path / "work", values.config.criu),
        work=path,
        kubelet_pods=path / "pods",
        host_root=Path("/"),
    )
    bad = NodeEnvironment(
        criu=EnteringCriu(path, path / "work", values.config.criu),
        work=path,
        kubelet_pods=path / "none",
        host_root=Path("/"),
    )
    assert () == await NodeEngine(good).check()
    assert 2 == len(await NodeEngine(bad).check())


WAITS = """
import os, signal, threading
signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
print("warm", flush=True)
"""


@pytest.mark.parametrize(
    "wait",
    [
        pytest.param("signal.pause()", id="pause"),
        pytest.param("threading.Event().wait()", id="event"),
        pytest.param("os.spawnlp(os.P_WAIT, 'sleep', 'sleep', '1000')", id="child"),
    ],
)
async def test_a_signal_right_after_the_restore_ends_a_wait(node, wait, request):
    """Python looks at its signals when a call was interrupted: one made after the signal would wait without end."""
    name = f"signal-{request.node.callspec.id}"
    source = node.start_as(BareContainer, "--capture", "--", PYTHON, "-c", WAITS + wait)
    source.says("warm")
    (source.control / control_files.READY_FOR_SNAPSHOT).touch()
    captured = await node.capture(source, name)
    assert captured.ok, captured.message
    for _ in range(5):
        target = node.start_as(BareContainer, "--", PYTHON, "-c", "print('cold', flush=True)")
        init = target.init()
        with ThreadPoolExecutor(1) as beside:
            beside.submit(_end_once, target.control / control_files.RESTORE_COMPLETE, init)
            restored = await node.restore(target, name, captured.manifest_digest)
        assert restored.ok, restored
        assert 7 == target.code()


def _end_once(complete: Path, pid: int) -> None:
    """End a container as soon as standby has said that its worker is restored: it wakes the worker next."""
    while not complete.exists():
        pass
    os.kill(pid, signal.SIGTERM)
