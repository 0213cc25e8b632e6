"""docs/security.md names a test beside each threat: each of them is there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


def functions(path):
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_test_that_the_page_names_exists():
    assert 30 < len(NAMED)
    assert [] == [f"{path}::{name}" for path, name in NAMED if name not in functions(path)]


def test_every_threat_has_a_test():
    _, _, rest = PAGE.partition("| who tries what |")
    rows = list(rest.partition("\n\n")[0].splitlines()[2:])

    assert 15 < len(rows)
    assert [] == [row for row in rows if "::" not in row.rsplit("|", 2)[1]]
