"""An artifact of another machine is a cold start by name; what its owner bypasses is restored, and says so."""

import os
import platform

import pytest
import yaml

from agent.container.inspection import node_facts
from artifact.digest import digest_of
from contract.pods.systems import architecture_of
from tests.support.fixtures.engine import COLD, Node, captured, ready

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and criu")


async def captured_elsewhere(node: Node, name: str, **machine) -> tuple[str, str]:
    """Capture, and have the manifest say that it was on another machine; return the answer before, and the digest."""
    before, _ = await captured(node, name)
    path = node.store / name / "versions/1/manifest.yaml"
    document = yaml.safe_load(path.read_bytes())
    changed = {key: then(document["takenOn"][key]) for key, then in machine.items()}
    text = yaml.safe_dump(document | {"takenOn": document["takenOn"] | changed}, sort_keys=False).encode()
    path.chmod(0o600)
    path.write_bytes(text)
    return before, digest_of(text)


@pytest.mark.parametrize(
    ("machine", "reason", "words"),
    [
        pytest.param({"cpuFlags": lambda flags: [*flags, "avx999"]}, "cpu-mismatch", "lacks avx999", id="cpu"),
        pytest.param({"kernel": lambda _: "99.1.0"}, "kernel-mismatch", "captured on kernel 99.1.0", id="kernel"),
    ],
)
async def test_a_check_is_bypassed_by_its_id(node, machine, reason, words):
    before, digest = await captured_elsewhere(node, f"bypass-{reason}", **machine)

    cold = node.start()
    refused = await node.restore(cold, f"bypass-{reason}", digest, bypass=frozenset({"memory-limit"}))
    assert (False, reason) == (refused.ok, refused.reason)
    assert words in refused.message
    assert words in cold.says(COLD)

    target = node.start()
    outcome = await node.restore(target, f"bypass-{reason}", digest, bypass=frozenset({reason}))
    assert outcome.ok, outcome
    assert [reason] == list(outcome.bypassed)
    assert words in outcome.bypassed[reason]
    target.says("outcome RESTORED")
    assert before == target.get()


async def test_a_capture_says_what_it_was_taken_on_and_passes_there(node):
    image = f"registry.example/worker@sha256:{'a' * 64}"
    source = (await node.capture(ready(node), "bypass-source", image_id=image)).source
    assert source is not None
    facts, here = source.facts, node_facts(node.environment.criu.version())
    assert (platform.release(), here.cpu_flags, here.cpu_model) == (facts.kernel, facts.cpu_flags, facts.cpu_model)
    assert (architecture_of(platform.machine()), here.criu) == (facts.architecture, facts.criu)
    assert facts == await node.engine.facts()
    assert image.endswith(source.image_digest)
    digest = digest_of((node.store / "bypass-source/versions/1/manifest.yaml").read_bytes())
    other = await node.restore(node.start(), "bypass-source", digest, image=image.replace("a" * 64, "b" * 64))
    assert "image-mismatch" == other.reason
    same = await node.restore(node.start(), "bypass-source", digest, image=image)
    assert (True, {}) == (same.ok, same.bypassed), same


async def test_what_an_owner_may_not_bypass_stays_refused(node):
    _, digest = await captured_elsewhere(node, "bypass-criu", criu=lambda _: "99.1")
    target = node.start()
    outcome = await node.restore(target, "bypass-criu", digest)
    assert (False, "criu-mismatch") == (outcome.ok, outcome.reason)
