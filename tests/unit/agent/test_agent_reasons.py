"""The list of reasons is closed: the engine uses no other, and the page explains each."""

import re
from pathlib import Path

import pytest

from contract.api.states import AgentReason

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "reasons.md").read_text().partition("\n## Restore and capture\n")[2]
SECTIONS = dict(re.findall(r"^### (\S+)\n\n(.+?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))
ROOMS = ("agent", "artifact")
ENGINE = "".join(path.read_text() for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")))
RAISED = re.findall(r'(?:Refused|Artifact|Container|Criu|Snapshot)Error\(\s*"([a-z-]+)"', ENGINE)
ANSWERED = re.findall(r'(?:_not_yet\(|reason=|code = |else )"([a-z]+(?:-[a-z]+)+)"', ENGINE)


def test_the_engines_codes_were_found():
    assert len(set(RAISED)) > 20
    assert {"standby-not-up", "artifact-missing"} <= set(ANSWERED)


@pytest.mark.parametrize("code", sorted({*RAISED, *ANSWERED}))
def test_every_code_of_the_engine_is_in_the_list(code):
    assert code in set(AgentReason)


@pytest.mark.parametrize("code", [pytest.param(code, id=code.value) for code in AgentReason])
def test_every_code_is_explained(code):
    assert SECTIONS[code.value].strip()


def test_the_page_explains_nothing_else():
    assert {code.value for code in AgentReason} == SECTIONS.keys()
