"""Docstrings, comments, messages and pages are written in plain words, so that a reader can search for them.

A room or page joins the lists below once it is done.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterator

import pytest

from tests.support.pages import ROOT

ROOMS = (
    "agent",
    "artifact",
    "benchmarks",
    "certs",
    "cluster",
    "contract/api",
    "contract/config",
    "contract/crds",
    "contract/pods",
    "contract/remedies",
    "controller",
    "daemon",
    "demo",
    "fuzz",
    "images",
    "kube",
    "linux",
    "native",
    "sdk",
    "snapshotctl",
    "tests/support",
    "tests/unit/agent",
    "tests/unit/artifact",
    "tests/unit/certs",
    "tests/unit/cluster",
    "tests/unit/contract",
    "tests/unit/daemon",
    "tests/unit/demo",
    "tests/unit/images",
    "tests/unit/kube",
    "tests/unit/linux",
    "tests/unit/sdk",
    "webhook",
)
PAGES = sorted(
    str(page.relative_to(ROOT))
    for pattern in ("*.md", "docs/*.md")
    for page in ROOT.glob(pattern)
    if page.name != "CHANGELOG.md"
)
INSTEAD = {
    r"whoever|whomever": "the client, the process, an account that",
    r"nobody|somebody|anybody": "no client, another client, a user",
    r"told|tells?|telling": "reported, written, said, shown",
    r"anew": "again",
    r"in vain|for want of": "without, for lack of",
    r"lies|lie": "is, is stored",
    r"stands": "is, means",
    r"gone": "no longer exists, was deleted, has ended",
    r"begun": "started",
    r"wish|wishes|wished": "request",
    r"(?:None|False|True|empty|Error:?),? where": "if",
    r"where (?:there|none|nothing|no) (?:is|are|was|were|has|have|had|may|can|cannot|does)": "if",
    r"where (?:it|they) (?:has|have|had|may|can|cannot|does|do)": "if",
}
WORDS = {re.compile(rf"(?i)(?<![\w/.-])(?:{word})(?![\w/]|-\w)"): plain for word, plain in INSTEAD.items()}
TWO_SPACES = re.compile(r"[.!?] {2}(?=[A-Z`])")
NO_VERB = re.compile(
    r"(?:Whether|Why|Where|When|How|What|Who|Which|All|Every|Each|One|Both|The|An?|This|That|Names? of|Id|Paths?|"
    r"Seconds|Bytes|Milliseconds|Of|For|With|In|As|Once|Until)\b|[*`$({]"
)
"""How a function's docstring must not begin; D401 lets these pass."""
NAMES = re.compile(r"``[^`]*``|`[^`]*`|\]\([^)]*\)|\"[\w-]+\"")
"""Code and quoted names: they are what they are called."""


def python_prose(text: str) -> Iterator[tuple[int, str]]:
    """Yield the comments, and every string with a space in it: docstrings and messages."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield from enumerate(node.value.splitlines(), start=node.lineno)


def page_prose(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a page but for headings, which others link to, and for code."""
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.startswith(("#", "    ", "\t")):
            yield number, line


def faults(text: str) -> list[str]:
    """Return what is to be written differently, and how."""
    clean = NAMES.sub("", text)
    found = [f"{match[0]!r}: {plain}" for word, plain in WORDS.items() if (match := word.search(clean))]
    return [*found, "one space after a full stop"] if TWO_SPACES.search(clean) else found


def files_of(room: str) -> Iterator[tuple[str, list[tuple[int, str]]]]:
    for path in sorted((ROOT / room).rglob("*")):
        name = str(path.relative_to(ROOT))
        if path.suffix == ".py" and path.name != "test_words.py":
            yield name, list(python_prose(path.read_text()))
        elif path.suffix in {".c", ".h"}:
            yield name, list(enumerate(path.read_text().splitlines(), start=1))
        elif path.name == "README.md":
            yield name, list(page_prose(path.read_text()))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_written_in_plain_words(room):
    files = list(files_of(room))

    assert files
    assert [] == [f"{name}:{line}: {fault}" for name, prose in files for line, text in prose for fault in faults(text)]


def openings(text: str) -> Iterator[tuple[int, str]]:
    """Yield the first line of each function's docstring; properties and tests are named for what they are."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("test"):
            docstring = ast.get_docstring(node)
            if docstring and not any("property" in ast.unparse(each) for each in node.decorator_list):
                yield node.lineno, docstring.partition("\n")[0]


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "native" and not room.startswith("tests/unit")])
def test_a_function_begins_with_what_it_does(room):
    files = [(str(path.relative_to(ROOT)), path.read_text()) for path in sorted((ROOT / room).rglob("*.py"))]

    assert [] == [f"{name}:{n}: {first}" for name, text in files for n, first in openings(text) if NO_VERB.match(first)]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_written_in_plain_words(page):
    prose = page_prose((ROOT / page).read_text())

    assert [] == [f"{page}:{line}: {fault}" for line, text in prose for fault in faults(text)]


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        pytest.param(2, "cancelled, because nobody wanted it; this pod has it made anew", id="two-words"),
        pytest.param(1, "Whoever is paged", id="capital"),
        pytest.param(2, "The size; None where there is none", id="where-for-if"),
        pytest.param(1, "A first sentence.  A second one", id="two-spaces"),
        pytest.param(0, "the capture was cancelled because no pod requested it; this pod restarts it", id="plain"),
        pytest.param(0, "the folder where the runtime keeps it; where they are", id="where-for-a-place"),
        pytest.param(0, "uid 65534 is `nobody`, the list is ``gone``", id="names"),
        pytest.param(0, "tests/unit/kube/test_what_is_told.py", id="paths"),
    ],
)
def test_what_counts_as_a_fault(expected, text):
    assert expected == len(faults(text))
