"""The fuzzer's targets without its engine: every seed, and some thousand mutations of each that reads JSON.

So a target that nobody fuzzed for a while cannot rot, and what a change breaks near the seeds is found at once.
"""

from random import Random

import pytest

from fuzz.mutate import mutate
from fuzz.seeds import SEEDS
from fuzz.targets import TARGETS

MUTATIONS = 4000


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_break_no_promise(name):
    for seed in SEEDS[name]:
        TARGETS[name](seed)


@pytest.mark.parametrize("name", TARGETS)
def test_mutations_break_no_promise(name):
    chance = Random(1)
    inputs = list(SEEDS[name])
    for _ in range(MUTATIONS):
        data = mutate(chance.choice(inputs), 1 << 16, chance.getrandbits(32))
        TARGETS[name](data)
        inputs.append(data)


def test_every_target_has_seeds():
    assert TARGETS.keys() == SEEDS.keys()
