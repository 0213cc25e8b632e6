"""The list of reasons is closed: the engine uses no other, and the page explains each."""

import re
from pathlib import Path

import pytest

from contract.api.states import AgentReason

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "reasons.md").read_text().partition("\n## Restore and capture\n")[2]
SECTIONS = dict(re.findall(r"^### (\S+)\n\n(.+?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL))
ROOMS = ("agent", "artifact")
FILES = [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
ELSEWHERE = ("contract/nodes/node_facts.py", "controller/workloads/auto_checkpoint.py")
ENGINE = "".join(path.read_text() for path in (*FILES, *(ROOT / name for name in ELSEWHERE)))
RAISED = [AgentReason[name].value for name in re.findall(r"Error\(\s*AgentReason\.([A-Z_]+)", ENGINE)]
ANSWERED = [AgentReason[name].value for name in re.findall(r"AgentReason\.([A-Z_]+)", ENGINE)]
LITERAL = re.findall(r'(?:Refused|Artifact|Container|Criu|Snapshot)Error\(\s*"([a-z-]+)"', ENGINE)


def test_the_engines_codes_were_found():
    assert len(set(RAISED)) > 20
    assert {"standby-not-up", "artifact-missing"} <= set(ANSWERED)


def test_no_code_is_written_out():
    assert [] == LITERAL


@pytest.mark.parametrize("code", [pytest.param(code, id=code.value) for code in AgentReason])
def test_every_code_of_the_list_is_used(code):
    assert code in ANSWERED


@pytest.mark.parametrize("code", [pytest.param(code, id=code.value) for code in AgentReason])
def test_every_code_is_explained(code):
    assert SECTIONS[code.value].strip()


def test_the_page_explains_nothing_else():
    assert {code.value for code in AgentReason} == SECTIONS.keys()
