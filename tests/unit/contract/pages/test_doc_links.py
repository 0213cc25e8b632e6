"""Every link in the documentation leads somewhere; every file that a page names as a place to look exists."""

import re

import pytest

from tests.support.pages import ROOT, links, sections

PAGES = sorted(
    str(page.relative_to(ROOT))
    for pattern in ("*.md", "docs/**/*.md", "charts/*/README.md", "examples/**/README.md", "[a-z]*/README.md")
    for page in ROOT.glob(pattern)
)
LINKS = [
    pytest.param(page, link, id=f"{page}-{link}")
    for page in PAGES
    for link in links(page)
    if not re.match(r"[a-z]+:", link)
]
ROOMS = {each.name for each in ROOT.iterdir() if each.is_dir()} - {"build"}  # there once images were made
NAMED = sorted(
    {
        pytest.param(page, path, id=f"{page}-{path}")
        for page in ("README.md", "ARCHITECTURE.md")
        for path in re.findall(r"`([\w./-]+/[\w./-]*)`", (ROOT / page).read_text())
        if path.partition("/")[0] in ROOMS
    },
    key=lambda each: each.id,
)
OF_ROOMS = [
    pytest.param(page, path, id=f"{page}-{path}")
    for page in ("agent/README.md", "benchmarks/README.md", "cluster/README.md")
    for path in sorted(set(re.findall(r"`([\w./-]+\.py)`", (ROOT / page).read_text())))
]


def test_there_is_something_to_follow():
    assert 20 < len(PAGES)
    assert 80 < len(LINKS)
    assert 30 < len(NAMED)
    assert 10 < len(OF_ROOMS)


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_a_link_leads_somewhere(page, link):
    path, _, anchor = link.partition("#")
    target = (ROOT / page).parent / path if path else ROOT / page

    assert target.exists(), f"{page} links to {link}"
    assert not anchor or anchor in sections(target), f"{path or page} has no heading for #{anchor}"


@pytest.mark.parametrize(("page", "path"), NAMED)
def test_a_file_that_is_named_is_there(page, path):
    assert (ROOT / path).exists(), f"{page} names {path}"


@pytest.mark.parametrize(("page", "path"), OF_ROOMS)
def test_a_file_that_a_room_names_is_there(page, path):
    assert (ROOT / page).parent.joinpath(path).exists() or (ROOT / path).exists(), f"{page} names {path}"
