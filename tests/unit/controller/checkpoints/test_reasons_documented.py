"""Whoever alerts on a reason finds it explained."""

from pathlib import Path

import pytest

from controller.checkpoints.reasons import Reason

PAGE = (Path(__file__).parents[4] / "docs" / "checkpoint-reasons.md").read_text()


@pytest.mark.parametrize("reason", [pytest.param(each, id=each.value) for each in Reason])
def test_every_reason_has_a_row(reason: Reason):
    assert f"| `{reason.value}` |" in PAGE


def test_no_row_speaks_of_a_reason_that_is_gone():
    rows = {line.split("`")[1] for line in PAGE.splitlines() if line.startswith("| `")}

    assert {each.value for each in Reason} == rows
