"""Storage that others can write: what a restore uses is what was verified, whatever happens to the files meanwhile."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agent.executor.engine import NodeEngine
from artifact import verifier
from artifact.read import verify
from contract.api.states import AgentReason
from tests.support.fixtures.engine import COLD, captured

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")

LARGE = {"megabytes": 128}
"""Memory that is filled while the worker runs."""


class Meanwhile:
    """The real criu; something happens to the artifact at the moment at which it is started."""

    def __init__(self, node, version: Path, happens):
        self._criu, self._version, self._happens = node.environment.criu, version, happens
        self.version = self._criu.version
        node.engine = NodeEngine(replace(node.environment, criu=self))

    def restore(self, request):
        self._happens(self._version)
        return self._criu.restore(request)


@pytest.fixture
async def artifact(node, request):
    """The digest of an artifact of its own for each test, and what its worker answered."""
    return await captured(node, request.node.callspec.id, **LARGE)


def small_images_overwritten(version: Path) -> None:
    for path in version.glob("*.img"):
        if not path.name.startswith("pages-"):
            path.write_bytes(b"\xff" * path.stat().st_size)


def images_added(version: Path) -> None:
    for name in ("seccomp.img", "netdev-9.img", "pagemap-99.img", "mm-99.img", "sysv-shm-5.img"):
        if not (version / name).exists():
            (version / name).write_bytes(b"\xff" * 64)


def overwritten(version: Path) -> None:
    for path in version.glob("pages-*.img"):
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            file.write(b"\x90" * 4096)


def replaced(version: Path) -> None:
    for path in version.glob("pages-*.img"):
        path.with_suffix(".new").write_bytes(b"\x90" * path.stat().st_size)
        path.with_suffix(".new").rename(path)


FILLED = pytest.mark.parametrize("lazy", [pytest.param(True, id="filled"), pytest.param(False, id="copied")])


@FILLED
@pytest.mark.parametrize(
    "happens",
    [pytest.param(small_images_overwritten, id="overwritten"), pytest.param(images_added, id="added")],
)
async def test_what_takes_the_place_of_a_verified_file_is_not_read(node, artifact, request, happens, lazy):
    before, digest = artifact
    node.environment = replace(node.environment, lazy_pages=lazy)
    name = request.node.callspec.id
    Meanwhile(node, node.store / name / "versions/1", happens)
    target = node.start(**LARGE)
    outcome = await node.restore(target, name, digest)
    assert outcome.ok, outcome
    target.says("restored")
    assert before == target.get()


@FILLED
@pytest.mark.parametrize("happens", [pytest.param(overwritten, id="written"), pytest.param(replaced, id="replaced")])
async def test_other_pages_than_those_verified_are_a_cold_start(node, artifact, request, happens, lazy):
    _, digest = artifact
    node.environment = replace(node.environment, lazy_pages=lazy)
    name = request.node.callspec.id
    Meanwhile(node, node.store / name / "versions/1", happens)
    target = node.start(**LARGE)
    outcome = await node.restore(target, name, digest)
    assert (AgentReason.ARTIFACT_CORRUPT, False) == (outcome.reason, outcome.ok), outcome
    assert target.says("outcome NOT_MANAGED").startswith(COLD)


async def test_criu_reads_no_memory_before_it_is_known_to_be_right(node, monkeypatch):
    """It looks for symbols in the vdso that a process had, and writes to where they say."""
    name, began = "swapped-before", []
    _, digest = await captured(node, name)
    version = node.store / name / "versions/1"
    overwritten(version)
    Meanwhile(node, version, began.append)

    def late(*given) -> None:
        time.sleep(2)
        verify(*given)

    monkeypatch.setattr(verifier, "verify", late)
    target = node.start()
    outcome = await node.restore(target, name, digest)
    assert (AgentReason.ARTIFACT_CORRUPT, []) == (outcome.reason, began), outcome
    assert target.says("outcome NOT_MANAGED").startswith(COLD)
