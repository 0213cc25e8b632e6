"""No code without words: the registry has each member of the closed lists once, with a place in the docs."""

from enum import StrEnum

import pytest

from contract.api import states
from contract.api.states import Admission, AgentReason, CheckpointReason, GateEnd, GateEvent, GraphReason, RestoreEvent
from contract.remedies.admission import ADMISSION
from contract.remedies.agent import AGENT
from contract.remedies.checkpoints import CHECKPOINT
from contract.remedies.gates import GATE
from contract.remedies.graphs import GRAPH
from contract.remedies.pages import PAGES, Page, page_text
from contract.remedies.registry import Origin, Reason, Section
from contract.remedies.restores import RESTORE
from tests.support.pages import sections

LISTS = (Admission, AgentReason, CheckpointReason, GateEnd, GateEvent, GraphReason, RestoreEvent)
TABLES = {
    "admission": (Admission, ADMISSION),
    "agent": (AgentReason, AGENT),
    "gate": (GateEnd, GATE),
    "restore": (RestoreEvent, RESTORE),
    "checkpoint": (CheckpointReason, CHECKPOINT),
    "graph": (GraphReason, GRAPH),
}
REASONS = [reason for page in PAGES for reason in page.reasons]
ROWS = [pytest.param(reason.code, reason, id=f"{type(reason.code).__name__}-{reason.code}") for reason in REASONS]


@pytest.mark.parametrize("codes", LISTS)
def test_each_code_has_one_row(codes):
    assert sorted(codes) == sorted(reason.code for reason in REASONS if isinstance(reason.code, codes))


def test_no_row_is_of_another_list():
    assert set(LISTS) == {type(reason.code) for reason in REASONS}


def test_no_list_of_reasons_is_left_out():
    enums = [each for each in vars(states).values() if isinstance(each, type) and issubclass(each, StrEnum)]

    assert {each for each in enums if each.__name__.endswith("Reason")} <= set(LISTS)


@pytest.mark.parametrize("page", [pytest.param(page, id=page.path) for page in PAGES])
def test_a_row_is_on_the_page_that_its_section_names(page):
    assert {page.path} == {reason.section.page for reason in page.reasons}


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
def test_the_words_fit_a_row_of_a_table(code, row):
    for text in (row.meaning, row.remedy, row.details):
        assert "\n" not in text
        assert "|" not in text
        assert 0 == text.count("`") % 2, text


@pytest.mark.parametrize(("code", "row"), ROWS)
def test_every_link_leads_to_the_code(code, row):
    page, _, anchor = row.link.partition("#")
    found = sections(page)
    assert anchor in found
    assert code in anchor or f"`{code}`" in found[anchor], "the section does not speak of the code"


HEADED = Section("docs/page.md", Origin("a", "b"))
UNDER_TITLE = Section("docs/page.md", Origin("a", "b"), "Later", headings_above=frozenset({"held"}))
TABLE = Section("docs/page.md", Origin("c", "d"), "Gates", "gates", "They say:")
PAGE = """\
# Title

Words.

Written by a; seen b.

## held

It waits.
Wait.

More.

Written by e; seen f.

## Gates

Written by c; seen d.

They say:

| reason | meaning | what to do |
|---|---|---|
| `wait-timeout` | Too late. More. | Wait. |
"""


def test_a_page_has_headings_tables_and_who_writes_them():
    held = Reason(HEADED, Admission.HELD, "It waits.", "Wait.", "More.", Origin("e", "f"))
    late = Reason(TABLE, GateEnd.WAIT_TIMEOUT, "Too late.", "Wait.", "More.")

    assert PAGE == page_text(Page("docs/page.md", "Title", "Words.", (held, late))).partition("\n\n")[2]


@pytest.mark.parametrize(
    ("expected", "section"),
    [
        pytest.param("docs/page.md#held", HEADED, id="heading"),
        pytest.param("docs/page.md#held-1", UNDER_TITLE, id="second-of-two-equal-headings"),
        pytest.param("docs/page.md#gates", TABLE, id="table"),
    ],
)
def test_where_a_link_leads(expected, section):
    assert expected == Reason(section, Admission.HELD, "It waits.", "Wait.").link
