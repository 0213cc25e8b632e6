import re
from pathlib import Path

import pytest

from contract.api.states import Admission

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "reasons.md").read_text()
SECTIONS = dict(re.findall(r"^## (\S+)\n\n(.+?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("code", [pytest.param(code, id=code.value) for code in Admission])
def test_every_code_is_explained(code):
    assert len(SECTIONS[code.value].strip().splitlines()) >= 2, "say what it means and what to do"


def test_the_page_explains_nothing_else():
    assert {code.value for code in Admission} == SECTIONS.keys()
