"""docs/seeds.md promises tests by name; they must be there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[4]
PAGE = (ROOT / "docs" / "seeds.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in PAGE.splitlines()
    if re.match(r"\| .* \| (works|differs) \| ", line)
]
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)))


def test_there_are_rows_for_every_document():
    assert 70 < len(ROWS)


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_named_test_exists(path: str, name: str):
    tree = ast.parse((ROOT / path).read_text())
    functions = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}

    assert not name or name in functions


@pytest.mark.parametrize("row", [pytest.param(row, id=row[0][:40]) for row in ROWS if row[1] == "works"])
def test_what_works_has_a_proof(row: list[str]):
    """A test, or a page of ours that says more."""
    assert re.search(r"`tests/|\]\(\w+\.md\)", row[2])


@pytest.mark.parametrize("row", [pytest.param(row, id=row[0][:40]) for row in ROWS if row[1] == "differs"])
def test_what_differs_has_a_reason(row: list[str]):
    assert 15 < len(row[2])
