"""Restores that wait are woken by the claim, and by their own pace where the kernel says nothing."""

import asyncio

import pytest

from agent.executor.api import ContainerRef
from agent.executor.claims import Claims
from agent.executor.engine import POLL
from contract.api import control_files, keys
from tests.support.fixtures.engine import Node

SECONDS = 20.0
UID, OTHER = "00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"
PLACE = ContainerRef("ns", "pod", UID, "main")


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path, tmp_path)


def control_of(node, uid=UID):
    folder = node.folder / "pods" / uid / "volumes/kubernetes.io~empty-dir" / keys.CONTROL_VOLUME / "main"
    folder.mkdir(parents=True)
    return folder


def waits(node, act, seconds=SECONDS):
    """Say whether a wait ended early, with something done meanwhile."""

    async def run():
        waiting = asyncio.create_task(Claims(node.environment).wait(PLACE, seconds))
        await asyncio.sleep(0)
        act()
        return await waiting

    return asyncio.run(run())


def test_a_claim_ends_the_wait(node):
    control = control_of(node)
    assert waits(node, lambda: (control / control_files.CLAIM).write_text("0" * 32))


def test_a_claim_made_before_the_wait_ends_it_at_once(node):
    (control_of(node) / control_files.CLAIM).write_text("0" * 32)
    assert waits(node, lambda: None)


def test_another_pods_claim_does_not(node):
    control_of(node)
    other = control_of(node, OTHER)
    assert not waits(node, lambda: (other / control_files.CLAIM).write_text("x"), POLL)


@pytest.mark.parametrize("there", [True, False], ids=["no-instance-left", "no-directory-yet"])
def test_without_the_kernels_word_the_wait_has_its_length(node, monkeypatch, there):
    if there:
        control_of(node)
        monkeypatch.setattr("agent.executor.claims.Inotify", broken)
    assert not waits(node, lambda: None, POLL)


def broken():
    raise OSError(24, "Too many open files")


def test_two_that_wait_for_one_container_are_both_woken_and_nothing_stays_watched(node):
    control, claims = control_of(node), Claims(node.environment)

    async def run():
        both = [asyncio.create_task(claims.wait(PLACE, SECONDS)) for _ in range(2)]
        await asyncio.sleep(0)
        (control / control_files.CLAIM).write_text("x")
        return await asyncio.gather(*both)

    assert [True, True] == asyncio.run(run())
    assert {} == claims._waiting
