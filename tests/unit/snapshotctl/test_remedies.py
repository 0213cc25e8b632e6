"""No code without words: every member of the closed lists has a meaning, a remedy and a place in the docs."""

import pytest

from contract.api.states import Admission, AgentReason, CheckpointReason, GateEnd, GraphReason
from contract.remedies import admission
from contract.remedies.checkpoints import CHECKPOINT
from contract.remedies.graphs import GRAPH
from tests.support.pages import sections

TABLES = {
    "admission": (Admission, admission.ADMISSION),
    "agent": (AgentReason, admission.AGENT),
    "gate": (GateEnd, admission.GATE),
    "checkpoint": (CheckpointReason, CHECKPOINT),
    "graph": (GraphReason, GRAPH),
}
ROWS = [pytest.param(code, table[code], id=f"{name}-{code}") for name, (_, table) in TABLES.items() for code in table]


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_are_the_closed_lists(name):
    codes, table = TABLES[name]
    assert {code.value for code in codes} == {str(code) for code in table}


@pytest.mark.parametrize(("code", "row"), ROWS)
def test_every_code_has_words(code, row):
    for text in (row.meaning, row.remedy):
        assert text[0].isupper() or text[0] == "`", text
        assert text.endswith((".", ".`")), text


@pytest.mark.parametrize(("code", "row"), ROWS)
def test_every_link_leads_to_the_code(code, row):
    page, _, anchor = row.link.partition("#")
    found = sections(page)
    assert anchor in found
    assert code in anchor or f"`{code}`" in found[anchor], "the section does not speak of the code"
