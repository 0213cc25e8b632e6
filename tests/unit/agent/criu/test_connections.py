"""What becomes of connections: the decision, and what is on its way in those that go on."""

import ipaddress
import struct

import pytest

from agent import protobuf
from agent.criu.connections import (
    CLOSE_WAIT,
    CLOSING,
    ESTABLISHED,
    FIN_WAIT1,
    FIN_WAIT2,
    LAST_ACK,
    SYN_SENT,
    End,
    Endpoint,
    Stream,
    decide,
    peers,
)
from agent.criu.images.streams import MOST_UNREAD, Half, StreamImage, settled
from agent.protobuf import Field

IN_LENGTH, IN_SEQUENCE, OUT_LENGTH, OUT_SEQUENCE, OPTIONS, SCALE, UNSENT, SEND_WINDOW, WINDOW = (
    1,
    2,
    3,
    4,
    5,
    6,
    12,
    14,
    16,
)


def at(text):
    host, _, port = text.rpartition(":")
    return Endpoint(ipaddress.ip_address(host.strip("[]")), int(port))


def end(inode, local, remote, state=ESTABLISHED, **stream):
    queues = {"received": 1000, "written": 1000, "unacknowledged": 0} | stream
    return End(inode, state, at(local), at(remote), Stream(**queues))


SERVER_AT, CLIENT_AT = "127.0.0.1:80", "127.0.0.1:4000"
SERVER, CLIENT = end(1, SERVER_AT, CLIENT_AT), end(2, CLIENT_AT, SERVER_AT)


def wrapped(received, **sender):
    return end(1, SERVER_AT, CLIENT_AT, received=received), end(2, CLIENT_AT, SERVER_AT, **sender)


@pytest.mark.parametrize(
    ("ends", "kept", "ended", "closed"),
    [
        pytest.param([SERVER, CLIENT], 1, 0, 0, id="both-ends"),
        pytest.param([end(1, "[::1]:80", "[::1]:9"), end(2, "[::1]:9", "[::1]:80")], 1, 0, 0, id="ipv6"),
        pytest.param([CLIENT], 0, 0, 1, id="one-end"),
        pytest.param([end(1, "10.0.0.5:9", "10.0.0.9:80")], 0, 0, 1, id="outside"),
        pytest.param([end(1, "10.0.0.5:9", "10.0.0.5:80"), end(2, "10.0.0.5:80", "10.0.0.5:9")], 0, 0, 2, id="pod"),
        pytest.param([end(1, "127.0.0.1:9", "127.0.0.1:9")], 0, 0, 1, id="with-itself"),
        pytest.param([end(1, "127.0.0.1:9", "127.0.0.1:80", SYN_SENT)], 0, 0, 1, id="connecting"),
        pytest.param([end(1, "127.0.0.1:9", "127.0.0.1:80", CLOSE_WAIT)], 0, 1, 0, id="peer-has-finished"),
        pytest.param([end(1, "10.0.0.5:9", "10.0.0.9:80", CLOSE_WAIT)], 0, 0, 1, id="peer-outside-has-finished"),
        pytest.param(
            [end(1, "127.0.0.1:80", "127.0.0.1:4000", FIN_WAIT2), end(2, "127.0.0.1:4000", "127.0.0.1:80", CLOSE_WAIT)],
            1, 0, 0, id="half-closed",
        ),
        pytest.param(
            [end(1, "127.0.0.1:80", "127.0.0.1:4000", received=990), CLIENT], 0, 0, 2, id="bytes-in-no-image"
        ),
        pytest.param([*wrapped(received=2**32 - 3, written=2)], 0, 0, 2, id="bytes-in-no-image-at-the-turn"),
        pytest.param([*wrapped(received=2**32 - 3, written=2, unacknowledged=5)], 1, 0, 0, id="all-there"),
    ],
)  # fmt: skip
def test_decision(ends, kept, ended, closed):
    fate = decide(ends)
    assert (kept, ended, closed) == (len(fate.kept), len(fate.ended), len(fate.closed))


def test_both_ends_on_the_pods_own_address():
    ends = [
        end(1, "10.0.0.5:9", "10.0.0.5:80"),
        end(2, "10.0.0.5:80", "10.0.0.5:9"),
        end(3, "10.0.0.5:7", "10.0.0.9:7"),
    ]
    fate = decide(ends, {ipaddress.ip_address("10.0.0.5")})
    assert (1, 1) == (len(fate.kept), len(fate.closed))


def test_peers_are_named_once_and_in_order():
    ends = [end(n, f"10.0.0.5:{n}", peer) for n, peer in enumerate(["[fd00::7]:80", "10.0.0.9:80", "10.0.0.9:80"])]
    assert ["10.0.0.9:80", "[fd00::7]:80"] == peers(decide(ends))


def half(state=ESTABLISHED, unread=b"", unacknowledged=b"", unsent=0, received=500, written=500, window=100):
    numbers = {
        IN_LENGTH: len(unread), IN_SEQUENCE: received, OUT_LENGTH: len(unacknowledged), OUT_SEQUENCE: written,
        OPTIONS: 7, SCALE: 2, UNSENT: unsent, SEND_WINDOW: window, WINDOW: 65536,
    }  # fmt: skip
    text = protobuf.framed(protobuf.encode(Field(key, 0, value) for key, value in numbers.items()))
    image = StreamImage.parse(b"magic456" + text + unread + unacknowledged)
    return Half(End(1, state, at("127.0.0.1:1"), at("127.0.0.1:2"), image.stream), image)


def number(found, field):
    return protobuf.number(found.image.fields, field)


def test_nothing_on_its_way():
    one, other = half(), half()
    assert (one, other) == settled(one, other)


def test_an_image_is_written_as_it_was_read():
    image = half(unread=b"abc", unacknowledged=b"de").image
    assert image == StreamImage.parse(image.encode())


def test_what_was_written_arrives():
    """Three of five bytes had arrived: they are not doubled."""
    sender = half(written=505, unacknowledged=b"abcde", unsent=2)
    receiver = half(received=503, unread=b"abc")
    sent, got = settled(sender, receiver)
    assert (b"", b"abcde") == (sent.image.unacknowledged, got.image.unread)
    assert (0, 0, 505) == (number(sent, OUT_LENGTH), number(sent, UNSENT), number(sent, OUT_SEQUENCE))
    assert (5, 505) == (number(got, IN_LENGTH), number(got, IN_SEQUENCE))
    assert 95 == number(sent, SEND_WINDOW)


def test_sequence_numbers_begin_anew():
    sender = half(written=2, unacknowledged=b"abcde", unsent=5)
    receiver = half(received=(2 - 5) % 2**32)
    _, got = settled(sender, receiver)
    assert (b"abcde", 2) == (got.image.unread, number(got, IN_SEQUENCE))


def test_what_finds_no_room_is_sent_again():
    sender = half(written=505, unacknowledged=b"abcde", unsent=5)
    receiver = half(unread=bytes(MOST_UNREAD))
    sent, got = settled(sender, receiver)
    assert receiver == got
    assert (5, 0) == (number(sent, OUT_LENGTH), number(sent, UNSENT))


@pytest.mark.parametrize(
    ("receiver", "expected"),
    [
        pytest.param(half(received=503, unread=b"abc"), 506, id="on-its-way"),
        pytest.param(half(CLOSE_WAIT, received=506, unread=b"abcde"), 506, id="arrived"),
    ],
)
def test_the_end_arrives_too(receiver, expected):
    """The end counts as one byte."""
    sender = half(FIN_WAIT1, written=506, unacknowledged=b"abcde", unsent=2)
    sent, got = settled(sender, receiver)
    assert (FIN_WAIT2, CLOSE_WAIT) == (sent.end.state, got.end.state)
    assert (b"abcde", expected) == (got.image.unread, number(got, IN_SEQUENCE))


@pytest.mark.parametrize("state", [CLOSE_WAIT, LAST_ACK, CLOSING])
def test_room_of_a_peer_that_has_finished(state):
    """Without the scale, as criu takes it."""
    found, _ = settled(half(state, window=400), half(FIN_WAIT2))
    assert 100 == number(found, WINDOW)


def test_of_a_peer_that_is_gone_only_what_it_sent_is_left():
    image = half(CLOSE_WAIT, unread=b"bye", unacknowledged=b"to nobody", written=509).image.over()
    assert (b"bye", b"") == (image.unread, image.unacknowledged)
    assert 510 == protobuf.number(image.fields, OUT_SEQUENCE)


def test_an_image_that_is_cut_off():
    image = half(unread=b"abc").image.encode()
    with pytest.raises(ValueError, match=f"{len(image) - 1} bytes, not {len(image)}"):
        StreamImage.parse(image[:-1])
    with pytest.raises(ValueError, match="cut off"):
        StreamImage.parse(image[:9])


def test_numbers_that_the_kernel_did_not_say_stay_unsaid():
    image = StreamImage.parse(b"magic456" + struct.pack("=I", 0))
    assert [IN_LENGTH, OUT_LENGTH] == [field.number for field in image.all_arrived().fields]
