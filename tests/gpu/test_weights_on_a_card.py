"""Weights that are left to the model's files, on a card; run by `make test-gpu`."""

import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.gpu.ahead.resident import ResidentPrefetcher
from artifact.manifest import parse_manifest
from contract.api.reports import ReportPhase
from tests.gpu.containers import OUTSIDE, PROBE, ready, start, words
from tests.support.fixtures.bare_container import wait_for
from tests.support.fixtures.engine import Node
from tests.support.fixtures.runc_container import RuncContainer

pytestmark = pytest.mark.gpu
MIB = 1 << 20
GIB = 1 << 30
TENSOR = 64 * MIB
LARGE = int(os.environ.get("SNAPSHOT_TEST_WEIGHTS_GIB", "16"))
"""GiB of weights."""


@pytest.fixture
def volume(folder) -> Iterator[Path]:
    """A model of tensors of 64 MiB: two joined ones, one that is changed, all others as they are."""
    made = folder[0] / "models"
    made.mkdir()
    made.chmod(0o755)
    names = [
        {0: "joined.0", 1: "joined.1", 2: "changed"}.get(number, f"plain.{number}")
        for number in range(LARGE * GIB // TENSOR)
    ]
    places = {name: {"data_offsets": [at * TENSOR, (at + 1) * TENSOR]} for at, name in enumerate(names)}
    header = json.dumps(places).encode()
    header += b" " * (-len(header) % 8)
    with (made / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + LARGE * GIB)
        threads = [
            threading.Thread(
                target=_fill, args=(file.fileno(), 8 + len(header), range(number, LARGE * GIB // TENSOR, 16))
            )
            for number in range(16)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    yield made
    shutil.rmtree(made)


def _fill(file: int, start: int, tensors: range) -> None:
    for number in tensors:
        for at in range(0, TENSOR, MIB):
            os.pwrite(file, os.urandom(MIB), start + number * TENSOR + at)


async def test_weights_are_read_from_the_models_files(node: Node, folder, volume, figure):
    options = {"script": "weights_worker.py", "user": 1000, "env": OUTSIDE | {"VOLUME": str(volume)}}
    answers = set()
    matcher = folder[1] / "bin/weight-matcher"
    arms = (("stored", node.environment.prefetcher, None), ("referenced", node.environment.prefetcher, matcher))
    plain = ResidentPrefetcher(budget=0)
    for name, prefetcher, program in (*arms, ("unregistered", plain, None)):
        node.engine._environment = replace(node.environment, prefetcher=prefetcher, weight_matcher=program)
        source = ready(node, **options)
        captured = await node.capture(source, name, probe=PROBE)
        assert captured.ok, (captured.message, source.text()[-2000:])
        manifest = parse_manifest((node.store / name / "versions/1/manifest.yaml").read_bytes(), name)
        referenced = sum(sum(memory.referenced) for memory in manifest.gpu.outside)
        figure(f"{name}: {captured.size >> 20} MiB, {referenced >> 20} MiB in the model; {words(captured.seconds)}")
        assert (referenced > (LARGE - 1) * GIB) == (program is not None)
        if name == "stored":
            wait_for(lambda: node.environment.prefetcher.registered, "registered page cache")
        for _ in range(3):
            answers.add(await _restored(node, name, captured.manifest_digest, figure, options))
        shutil.rmtree(node.store / name)
    plain.close()
    assert 1 == len(answers)


async def _restored(node: Node, name: str, digest: str, figure, options) -> str:
    target = start(node, RuncContainer, **options)
    target.init()
    begun = time.monotonic()
    restored = await node.restore(target, name, digest)
    assert restored.ok, (restored, target.text())
    found = wait_for(target.get, "an answer")
    first = time.monotonic() - begun
    (ahead,) = [step for step in restored.steps if step.phase is ReportPhase.GPU_AHEAD]
    there = ahead.start + ahead.seconds
    figure(f"{name}: {words(restored.seconds)}; on the card after {there:.2f} s; first answer after {first:.2f} s")
    node.containers.remove(target)
    target.close()
    return found
