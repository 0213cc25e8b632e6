"""Messages of criu's images, read and written without their schema."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import protobuf
from agent.protobuf import Field

MESSAGE = b"\x08\x96\x01\x12\x03abc\x1d\x01\x02\x03\x04\x21\x01\x02\x03\x04\x05\x06\x07\x08\x08\x05"


def test_fields():
    expected = [Field(1, 0, 150), Field(2, 2, b"abc"), Field(3, 5, b"\1\2\3\4"), Field(4, 1, b"\1\2\3\4\5\6\7\x08")]
    assert [*expected, Field(1, 0, 5)] == protobuf.parse(MESSAGE)


def test_what_is_not_understood_is_written_back():
    assert MESSAGE == protobuf.encode(protobuf.parse(MESSAGE))


@pytest.mark.parametrize("value", [0, 1, 127, 128, 2**32 - 1, 2**64 - 1])
def test_numbers_of_every_length(value):
    assert [Field(19, 0, value)] == protobuf.parse(protobuf.encode([Field(19, 0, value)]))


def test_the_last_value_counts():
    fields = protobuf.parse(MESSAGE)
    assert 5 == protobuf.number(fields, 1)
    assert [150, 5] == protobuf.numbers(fields, 1)
    assert -1 == protobuf.number(fields, 9, -1)


def test_values_are_the_last_of_each_number():
    assert {1: 5, 2: -1, 3: -1, 4: -1} == protobuf.values(MESSAGE)


def test_replaced():
    fields = protobuf.replaced(protobuf.parse(MESSAGE), {1: 7, 9: 0})
    assert [(1, 7), (2, b"abc"), (1, 7), (9, 0)] == [(f.number, f.value) for f in fields if f.number in (1, 2, 9)]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"\x08", id="no-value"),
        pytest.param(b"\x12\x05abc", id="short"),
        pytest.param(b"\x1d\x01\x02", id="short-number"),
        pytest.param(b"\x0b", id="group"),
        pytest.param(b"\x08" + b"\xff" * 11, id="endless-number"),
    ],
)
def test_no_message(text):
    with pytest.raises(ValueError, match=r"cut off|wire type|too long"):
        protobuf.parse(text)
    with pytest.raises(ValueError, match=r"cut off|wire type|too long"):
        protobuf.values(text)


def test_messages_of_an_image():
    image = b"magic456" + protobuf.framed(b"one") + protobuf.framed(b"") + protobuf.framed(b"three")
    assert [b"one", b"", b"three"] == list(protobuf.messages(image))


@pytest.mark.parametrize("image", [b"magic456\1\0", b"magic456\4\0\0\0abc", b"mag"])
def test_an_image_that_is_cut_off(image):
    with pytest.raises(ValueError, match="cut off"):
        protobuf.message(image)


def test_messages_in_a_message():
    fields = protobuf.parse(b"\x12\x03abc\x08\x01\x12\x00")
    assert [b"abc", b""] == protobuf.embedded(fields, 2)
    with pytest.raises(ValueError, match="field 1 is a number"):
        protobuf.embedded(fields, 1)


@given(st.lists(st.tuples(st.integers(1, 2**29 - 1), st.integers(0, 2**64 - 1) | st.binary(max_size=300)), max_size=8))
def test_a_message_is_read_as_it_was_written(values):
    fields = [field for number, value in values for field in protobuf.replaced([], {number: value})]
    assert fields == protobuf.parse(protobuf.encode(fields))


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(message):
    with contextlib.suppress(ValueError):
        fields = protobuf.parse(message)
        assert fields == protobuf.parse(protobuf.encode(fields))
        assert {field.number: protobuf.number([field], field.number, -1) for field in fields} == protobuf.values(
            message
        )


@given(st.binary(max_size=40), st.integers(1, 400), st.integers(0, 3), st.binary(max_size=4))
def test_a_message_that_may_not_embed_another_one_does_not(before, wanted, padding, content):
    key = bytearray(protobuf.encode([Field(wanted, 2, b"")])[:-1])
    if padding:  # as no writer does, and every reader takes
        key = key[:-1] + bytes([key[-1] | 0x80]) + b"\x80" * (padding - 1) + b"\x00"
    assert protobuf.may_embed(wanted)(before + bytes(key) + bytes([len(content)]) + content)


def test_messages_that_embed_none_are_known_for_that():
    text = protobuf.encode([Field(1, 0, 7), Field(2, 0, 1), Field(16, 2, b"\x08\x01")])
    assert [True, False] == [bool(protobuf.may_embed(wanted)(text)) for wanted in (16, 4)]
