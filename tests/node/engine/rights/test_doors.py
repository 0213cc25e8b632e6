"""A container's root without a capability tries every door; the agent ends in time, by name, and nothing was gained."""

import asyncio
import os
import subprocess

import pytest

from agent.container.rights import of_container, wider
from contract.api.states import AgentReason
from tests.support.fixtures.bare_container import PYTHON, WORKER
from tests.support.fixtures.engine import until_ready
from tests.support.fixtures.runc_container import RuncContainer
from tests.support.kinds import doors

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

SECONDS = 60
"""More than any of these captures and restores takes, and less than a hang."""
SECRET = "of the node alone, 7cb2f1"


class Powerless(RuncContainer):
    """Root without capabilities, as a pod that drops all has it."""

    def _config(self, arguments, env):
        config = super()._config(arguments, env)
        config["process"] |= {"capabilities": {}, "noNewPrivileges": True}
        return config

    def init(self):
        """Return standby's host pid; its claim is read once, since it may become huge."""
        self._standby = self._standby or super().init()
        return self._standby

    _standby = 0

    def attempt(self, door, secret):
        program = f"SECRET = {str(secret)!r}\n{door.program}"
        detached = ["--detach"] if door.goes_on else []
        argv = self._runc("exec", *detached, self.container_id, PYTHON, "-c", program)
        output = subprocess.DEVNULL if door.goes_on else None
        subprocess.run(argv, env=self._environment(), check=True, stdout=output, stderr=output, timeout=SECONDS)


class Vault:
    """A folder of the node with a secret in it, which no container sees."""

    def __init__(self, folder):
        self.secret = folder / "vault" / "secret"
        self.secret.parent.mkdir(exist_ok=True)
        self.secret.write_text(SECRET)
        self.before = self._now()

    def _now(self):
        found = self.secret.stat()
        names = sorted(path.name for path in self.secret.parent.iterdir())
        return names, self.secret.read_text(), found.st_mtime_ns, found.st_mode, found.st_nlink

    def is_untouched(self):
        return self._now() == self.before

    def found_in(self, *folders):
        """Name the files that have the secret in them; holes of huge files are passed over."""
        argv = ["grep", "-rlF", "--devices=skip", SECRET, *map(str, folders)]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=SECONDS).stdout


@pytest.fixture
def vault(node):
    return Vault(node.folder)


def test_what_is_looked_for_would_be_found(node, vault):
    (node.folder / "leaked").write_text(f"before {SECRET} behind")
    assert vault.found_in(node.folder / "leaked")
    vault.secret.with_name("made").touch()
    assert not vault.is_untouched()
    vault.secret.with_name("made").unlink()


def start(node, *arguments):
    return node.start_as(Powerless, *arguments, "--", PYTHON, "-c", WORKER, "4")


def ready(node):
    source = start(node, "--capture")
    until_ready(source)
    return source


async def in_time(act):
    return await asyncio.wait_for(act, SECONDS)


def ended_by_name(outcome):
    assert outcome.reason in set(AgentReason) - {AgentReason.INTERNAL_ERROR}, outcome.message


def nothing_gained(node, vault, container, *folders):
    assert vault.is_untouched()
    assert "" == vault.found_in(container.volumes / "scratch", container.layers / "upper", *folders)
    assert not (container.volumes / "scratch/gained").exists()
    assert [] == list((node.folder / "work").glob("run-*"))


def restored_whole(container, before):
    container.says("outcome RESTORED")
    assert before == container.get()
    assert [] == list(wider(of_container(container.children()[0]), of_container(container.init())))


@pytest.mark.parametrize("door", [pytest.param(door, id=name) for name, door in (doors.BOTH | doors.CAPTURES).items()])
async def test_a_capture(node, vault, request, door):
    name = f"door-{request.node.callspec.id}"
    source = ready(node)
    before = source.get()
    source.attempt(door, vault.secret)
    outcome = await in_time(node.capture(source, name))
    nothing_gained(node, vault, source, node.store / name)
    if not outcome.ok:
        ended_by_name(outcome)
        return
    target = start(node)
    again = await in_time(node.restore(target, name, outcome.manifest_digest))
    nothing_gained(node, vault, target)
    if door.goes_on and not again.ok:  # what was saved of a folder in motion may not fit together
        ended_by_name(again)
        return
    assert again.ok, again.message
    restored_whole(target, before)


@pytest.fixture
async def artifact(node):
    """What the worker answered, and the digest of its artifact, made once a file."""
    kept = node.folder / "door-artifact"
    if not kept.exists():
        source = ready(node)
        before = source.get()
        outcome = await node.capture(source, "door")
        assert outcome.ok, outcome.message
        kept.write_text(f"{before}\n{outcome.manifest_digest}")
    return kept.read_text().split("\n")


@pytest.mark.parametrize("door", [pytest.param(door, id=name) for name, door in (doors.BOTH | doors.RESTORES).items()])
async def test_a_restore(node, vault, artifact, door):
    before, digest = artifact
    target = start(node)
    target.init()
    target.attempt(door, vault.secret)
    outcome = await in_time(node.restore(target, "door", digest))
    nothing_gained(node, vault, target)
    if not outcome.ok:
        ended_by_name(outcome)
    elif not door.harms_itself:
        restored_whole(target, before)
