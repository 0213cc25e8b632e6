"""Pages of the documentation, as the programs of their readers see them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_CODE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


def sections(page):
    """Return the anchors of a page, each with the text below it."""
    found, seen = {}, {}
    parts = re.split(r"^#+ (.+)$", _CODE.sub("", (ROOT / page).read_text()), flags=re.MULTILINE)
    for heading, text in zip(parts[1::2], parts[2::2], strict=True):
        slug = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        number = seen[slug] = seen.get(slug, -1) + 1
        found[f"{slug}-{number}" if number else slug] = text
    return found


def links(page):
    """Return what a page links to, in the order of the page; code is no link."""
    text = re.sub(r"`[^`\n]*`", "", _CODE.sub("", (ROOT / page).read_text()))
    return re.findall(r"\]\(([^)\s]+)\)", text)
