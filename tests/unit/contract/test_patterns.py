"""Each pattern that a text of users is held to has a remedy, and is one that all who read it understand alike."""

import re

import pytest

from contract.config import patterns
from contract.config.patterns import REMEDIES
from contract.config.values import Values
from contract.crds.checkpoint import DynamoCheckpoint
from contract.crds.generate import crd
from contract.crds.graph import DynamoGraphDeployment
from contract.pods.canary import Canary


def found_in(node):
    """Yield the patterns in a schema."""
    if isinstance(node, dict):
        if isinstance(pattern := node.get("pattern"), str):
            yield pattern
        for value in node.values():
            yield from found_in(value)
    if isinstance(node, list):
        for value in node:
            yield from found_in(value)


@pytest.mark.parametrize("model", [Values, Canary, DynamoCheckpoint, DynamoGraphDeployment])
def test_each_has_a_remedy(model):
    assert set(found_in(model.model_json_schema())) <= REMEDIES.keys()


def test_each_is_written_once():
    named = [value for name, value in vars(patterns).items() if isinstance(value, str) and value.startswith("^")]
    assert sorted(named) == sorted(REMEDIES)


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        pytest.param(patterns.LABEL, ["a", "a-1"], ["", "A", "-a", "a-", "a.b"], id="label"),
        pytest.param(patterns.DURATION, ["90s", "1h30m", "72h"], ["5 minutes", "30m1h", "1d"], id="duration"),
        pytest.param(patterns.BYTES, ["8Gi", "1.5G", "100"], ["big", "8GB", "-1"], id="bytes"),
        pytest.param(patterns.IMAGE, ["r:5000/a@sha256:b"], ["", " ", "a b"], id="image"),
    ],
)
def test_what_a_pattern_takes(pattern, good, bad):
    assert good == [text for text in good + bad if re.search(pattern, text)]


def test_the_definition_has_rules_with_words_in_place_of_patterns():
    assert [] == list(found_in(crd()))
