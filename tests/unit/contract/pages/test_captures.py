"""The list of what can be captured is closed, and says no more than a test shows."""

import ast
from pathlib import Path

import pytest

from agent.preflight.checks import CHECKS
from contract.api.states import LASTING
from contract.remedies.captures import KINDS
from contract.remedies.kinds.kind import Fate

ROOT = Path(__file__).parents[4]
ABOUT_A_RESTORE_TOO = {"memory-limit"}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.what)
def test_each_line_names_a_test(kind):
    file, _, name = kind.test.partition("::")
    functions = [
        node.name
        for node in ast.walk(ast.parse((ROOT / file).read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert name in functions


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.what)
def test_a_refusal_has_a_code_and_nothing_else_has(kind):
    assert (kind.fate == Fate.REFUSED) == (kind.reason is not None)


def test_every_check_before_the_freeze_is_on_the_list():
    listed = {kind.reason for kind in KINDS}
    assert set() == {reason for reason, _ in CHECKS} - listed
    assert set() == LASTING - listed
