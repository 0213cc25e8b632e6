"""Device memory that comes from a worker on another card; run by `make test-gpu-2`, the kernel by `make test-gpu`."""

import ctypes
import hashlib
import time

import pytest

from agent.gpu.ahead.device import Memories
from agent.gpu.ahead.kernel import KEY_BYTES
from agent.gpu.ahead.sums import Summer
from agent.gpu.ranges import UNIT
from contract.api.engine import Way
from tests.gpu.containers import CARDS, CONTROL, OUTSIDE, PROBE, ready, start, words
from tests.support.fixtures.bare_container import wait_for
from tests.support.fixtures.runc_container import RuncContainer

pytestmark = pytest.mark.gpu

KEY = hashlib.shake_256(b"a key").digest(KEY_BYTES)


def sums(unit: bytes) -> bytes:
    """Say by the definition what the kernel must find."""
    data, key, found = memoryview(unit).cast("I"), memoryview(KEY).cast("I"), [0, 0]
    for at in range(0, len(data), 2):
        for number, shift in enumerate((0, 4)):
            one, other = ((data[at + k] + key[at + k + shift]) & 0xFFFFFFFF for k in (0, 1))
            found[number] += one * other
    return b"".join((each & (1 << 64) - 1).to_bytes(8, "little") for each in found)


def test_the_kernel_finds_the_sums_of_the_definition(node):
    card = Memories("libcuda.so.1").card(node.environment.gpus.devices()[0].uuid)
    card.enter()
    units = [hashlib.shake_256(bytes([number])).digest(UNIT) for number in range(3)] + [bytes(UNIT)]
    host = ctypes.create_string_buffer(b"".join(units), 4 * UNIT)
    memory, stream, summer = card.allocate(4 * UNIT), card.stream(), Summer(card, KEY)
    card.copy(memory.at, ctypes.addressof(host), 4 * UNIT, stream)
    found = summer.sums(memory.at, 4, summer.space(), ctypes.addressof(host), stream)
    assert [sums(unit) for unit in units] == found


@pytest.mark.skipif(len(CARDS) < 2, reason="needs two cards")
class TestTwoCards:
    async def test_a_worker_lends_its_memory_to_one_on_another_card(self, node, figure):
        source = ready(node, user=1000, mebibytes=4096, env=OUTSIDE)
        source.get()
        captured = await node.capture(source, "lent", probe=PROBE)
        assert captured.ok, (captured.message, source.text()[-2000:])
        node.containers.remove(source)
        source.close()
        wait_for(lambda: node.environment.prefetcher.summed, "sums, that are taken after the proof")
        answers, came = [], []
        for card in (CARDS[1], CARDS[0], CARDS[1]):
            target = start(node, RuncContainer, user=1000, mebibytes=4096, devices=" ".join([*CONTROL, card]))
            target.init()
            since = time.monotonic()
            restored = await node.restore(target, "lent", captured.manifest_digest)
            assert restored.ok, (restored, target.text())
            answers.append([wait_for(target.get, "an answer"), target.get()])
            figure(f"{words(restored.seconds)}; {restored.engine}; two answers after {time.monotonic() - since:.2f} s")
            came.append({each.way: each.bytes for each in restored.engine.came})
        assert [answers[0]] * 3 == answers
        assert all(
            found.get(way, 0) >= 4 << 30 for found, way in zip(came, (Way.AHEAD, Way.LENT, Way.LENT), strict=True)
        )
