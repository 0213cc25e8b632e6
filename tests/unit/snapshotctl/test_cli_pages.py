"""The pages for users speak of commands, links and examples that are there."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from snapshotctl.__main__ import VERBS, main

ROOT = Path(__file__).resolve().parents[3]
PAGES = {name: (ROOT / "docs" / name).read_text() for name in ("cli.md", "workloads.md", "reasons.md")}
CALLS = sorted(
    {call for page in PAGES.values() for call in re.findall(r"(?:^|[`$] )snapshotctl ([a-z]+[^`\n]*)", page)}
)


def test_every_verb_has_its_row():
    assert [] == [verb for verb in VERBS if f"`{verb}" not in PAGES["cli.md"]]


@pytest.mark.parametrize("call", CALLS)
def test_every_command_line_is_understood(call):
    """Each verb and option in the pages exists; placeholders and pipes do not matter."""
    verb, *words = call.partition(" && ")[0].partition(" > ")[0].split()
    assert verb in VERBS
    text = CliRunner().invoke(main, [verb, "--help"]).stdout
    options = [word.strip(",") for word in words if re.match(r"--?[a-z]", word)]
    assert [] == [option for option in options if f"{option} " not in text and f"{option}," not in text]


@pytest.mark.parametrize("name", PAGES)
def test_every_link_leads_somewhere(name):
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", PAGES[name])
    assert [] == [link for link in links if not (ROOT / "docs" / link).exists()]
