"""How often a restore is tried, and what is not tried again."""

import re
from pathlib import Path

import pytest

from contract.api import keys
from contract.api.states import PASSING, AgentReason
from contract.config.values import ValuesError, load_values
from contract.pods.attempts import AttemptsError, attempts_of, tries_again

PAGE = Path(__file__).parents[4] / "docs" / "after-a-restore.md"


def pod(said=None):
    return {"metadata": {"annotations": {} if said is None else {keys.ANN_ATTEMPTS: said}}}


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        pytest.param(2, None, id="the chart's"),
        pytest.param(1, "1", id="fewer"),
        pytest.param(5, "5", id="the most"),
    ],
)
def test_a_pods_own_number_goes_before_the_charts(expected, said):
    assert expected == attempts_of(pod(said), 2)


@pytest.mark.parametrize("said", ["", "0", "6", "-1", "1.5", " 2", "2\n", "11", "many", "٣", "9" * 10_000])
def test_any_other_number_is_refused_by_name(said):
    with pytest.raises(AttemptsError, match=keys.ANN_ATTEMPTS) as refused:
        attempts_of(pod(said), 2)

    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("attempts", [0, 6, "2"])
def test_the_charts_own_number_is_bounded(attempts):
    with pytest.raises(ValuesError, match=r"config\.restore\.attempts"):
        load_values(f"config: {{restore: {{attempts: {attempts!r}}}}}")


@pytest.mark.parametrize(
    ("expected", "reason", "clean", "made", "attempts"),
    [
        pytest.param(True, AgentReason.RESTORE_FAILED, True, 1, 2, id="may pass"),
        pytest.param(False, AgentReason.RESTORE_FAILED, True, 1, 1, id="only one"),
        pytest.param(False, AgentReason.RESTORE_FAILED, True, 2, 2, id="was the last"),
        pytest.param(False, AgentReason.RESTORE_FAILED, False, 1, 2, id="something is left of it"),
        pytest.param(False, AgentReason.CANARY_FAILED, True, 1, 2, id="the worker was awake"),
        pytest.param(False, "of another release", True, 1, 2, id="unknown"),
    ],
)
def test_what_is_tried_again(expected, reason, clean, made, attempts):
    assert expected == tries_again(reason, clean=clean, made=made, attempts=attempts)


@pytest.mark.parametrize("reason", sorted(set(AgentReason) - PASSING))
def test_what_another_try_would_meet_again_is_not_tried(reason):
    assert not tries_again(reason, clean=True, made=1, attempts=5)


def test_the_page_names_what_is_tried_again():
    sentence = PAGE.read_text().partition("Tried again is what may pass: ")[2].partition(". ")[0]

    assert PASSING == set(re.findall(r"`([^`]+)`", sentence))
