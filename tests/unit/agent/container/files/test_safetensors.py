"""Headers of safetensors files: those of the format are read, all others are refused, whatever is in them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.container.files import safetensors
from agent.container.files.safetensors import HeaderError, parse_header, read_tensors


def header(**tensors):
    return json.dumps({name: {"dtype": "U8", "data_offsets": offsets} for name, offsets in tensors.items()}).encode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(b"{}", [], id="no-tensor"),
        pytest.param(header(a=[0, 4], b=[4, 10]), [(0, 4), (4, 6)], id="two"),
        pytest.param(header(a=[10, 10]), [(10, 0)], id="empty-at-the-end"),
        pytest.param(b'{"__metadata__": {"format": "pt"}}   ', [], id="metadata-and-padding"),
    ],
)
def test_tensors_are_behind_the_header(text, expected):
    assert [(8 + len(text) + at, length) for at, length in expected] == parse_header(text, 10)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff\xfe", id="no-text"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'{"a": ' + b"9" * 5000 + b"}", id="a-long-number"),
        pytest.param(b"[]", id="a-list"),
        pytest.param(b'{"a": []}', id="a-tensor-that-is-a-list"),
        pytest.param(b'{"a": {}}', id="no-place"),
        pytest.param(header(a=[0]), id="half-a-place"),
        pytest.param(header(a=[0, 1, 2]), id="a-place-too-much"),
        pytest.param(header(a=[0.0, 1.0]), id="fractions"),
        pytest.param(header(a=[False, True]), id="truths"),
        pytest.param(header(a=["0", "1"]), id="words"),
        pytest.param(header(a=[-1, 4]), id="before-the-beginning"),
        pytest.param(header(a=[4, 3]), id="backwards"),
        pytest.param(header(a=[0, 11]), id="beyond-the-end"),
        pytest.param(header(a=[1 << 70, 1 << 71]), id="far-beyond-the-end"),
    ],
)
def test_another_header_is_refused(text):
    with pytest.raises(HeaderError):
        parse_header(text, 10)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@given(
    st.one_of(ANY, st.dictionaries(st.text(max_size=3), st.fixed_dictionaries({"data_offsets": ANY}))),
    st.integers(0, 9),
)
def test_what_is_read_of_any_header_is_within_the_file(document, size):
    text = json.dumps(document).encode()
    try:
        tensors = parse_header(text, size)
    except HeaderError:
        return
    assert all(8 + len(text) <= at and 0 <= n and at + n <= 8 + len(text) + size for at, n in tensors)


@pytest.fixture
def written(tmp_path):
    def write(content):
        path = tmp_path / "model.safetensors"
        path.write_bytes(content)
        return path.open("rb")

    return write


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x02\0\0\0", id="no-length"),
        pytest.param(b"\x03\0\0\0\0\0\0\0{}", id="header-beyond-the-end"),
        pytest.param(b"\xff\xff\xff\xff\xff\xff\xff\x7f{}", id="header-far-beyond-the-end"),
    ],
)
def test_a_file_that_is_too_short_is_refused(written, content):
    with written(content) as file, pytest.raises(HeaderError):
        read_tensors(file.fileno())


def test_a_header_is_not_read_if_it_is_too_long(written, monkeypatch):
    monkeypatch.setattr(safetensors, "MOST_HEADER", 1)
    with written(b"\x02\0\0\0\0\0\0\0{}") as file, pytest.raises(HeaderError, match="too long a header"):
        read_tensors(file.fileno())
