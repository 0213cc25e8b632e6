"""Whoever alerts on a reason finds it explained."""

from pathlib import Path

import pytest

from contract.api.states import CheckpointReason

PAGE = (Path(__file__).parents[4] / "docs" / "checkpoint-reasons.md").read_text()


@pytest.mark.parametrize("reason", [pytest.param(each, id=each.value) for each in CheckpointReason])
def test_every_reason_has_a_row(reason: CheckpointReason):
    assert f"| `{reason.value}` |" in PAGE


def test_no_row_speaks_of_a_reason_that_is_gone():
    rows = {line.split("`")[1] for line in PAGE.splitlines() if line.startswith("| `")}

    assert {each.value for each in CheckpointReason} == rows
