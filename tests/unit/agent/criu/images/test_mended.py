"""What is read and mended in CRIU's images: timers, and which processes were stopped."""

import os
import struct

import pytest

from agent import protobuf
from agent.criu.images import inet, mended
from agent.errors import CriuError

MAGIC = struct.pack("<II", 0x54564319, 0x56303138)
RELATIVE, ABSOLUTE, CANCELLED = 0, 1, 3
LEFT, PERIOD, NOTHING = (1, 500), (0, 200_000_000), (0, 0)
OWNER = b"\x08\x01"
"""What no timer needs; it must come through as it is."""


def encoded(values) -> bytes:
    return protobuf.encode(protobuf.replaced([], dict(values)))


def timer(flags=RELATIVE, left=LEFT, period=NOTHING, ticks=1) -> bytes:
    return encoded([
        *((1, 77), (2, 0o2), (3, OWNER), (mended.CLOCK, 1), (mended.TICKS, ticks), (mended.FLAGS, flags)),
        *((mended.SECONDS, left[0]), (mended.NANOSECONDS, left[1])),
        *((mended.PERIOD_SECONDS, period[0]), (mended.PERIOD_NANOSECONDS, period[1])),
    ])  # fmt: skip


@pytest.fixture
def directory(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def image(*entries: bytes) -> bytes:
    return MAGIC + b"".join(struct.pack("<I", len(entry)) + entry for entry in entries)


@pytest.mark.parametrize(
    ("expected", "dumped"),
    [
        pytest.param(timer(), timer(), id="relative"),
        pytest.param(timer(period=PERIOD), timer(period=PERIOD), id="periodic"),
        pytest.param(timer(left=PERIOD, period=PERIOD), timer(left=NOTHING, period=PERIOD), id="expired-unread"),
        pytest.param(timer(left=NOTHING), timer(left=NOTHING), id="disarmed"),
        pytest.param(
            timer(left=NOTHING, period=PERIOD, ticks=0), timer(left=NOTHING, period=PERIOD, ticks=0), id="switched-off"
        ),
        pytest.param(timer(), timer(ABSOLUTE), id="absolute"),
        pytest.param(timer(left=PERIOD, period=PERIOD), timer(ABSOLUTE, NOTHING, PERIOD), id="absolute-expired-unread"),
        pytest.param(timer(CANCELLED, (2, 500)), timer(CANCELLED), id="cancelled-is-late-not-early"),
        pytest.param(
            timer(CANCELLED, (2**63 - 1, 0)), timer(CANCELLED, (2**63 - 1, 0)), id="cancelled-that-never-expires"
        ),
        pytest.param(timer(ABSOLUTE, NOTHING), timer(ABSOLUTE, NOTHING), id="absolute-disarmed"),
    ],
)
def test_timers(expected, dumped):
    assert expected == mended.mended_timer(dumped)


def test_only_timers_are_written_anew(directory, tmp_path):
    other = b"\x08\x01\x10\x05\x1a\x03abc"
    file = tmp_path / mended.FILES
    file.write_bytes(image(other, encoded([(1, 17), (2, 9), (mended.TIMERFD, timer(ABSOLUTE))]), other))
    file.chmod(0o640)
    mended.mend_timers(directory)
    expected = image(other, encoded([(1, 17), (2, 9), (mended.TIMERFD, timer())]), other)
    assert expected == file.read_bytes()
    assert (0o640, [file]) == (file.stat().st_mode & 0o777, list(tmp_path.iterdir()))


def core(state: int) -> bytes:
    return image(encoded([(1, 1), (3, encoded([(1, state), (2, 0)])), (5, b"")]))


def test_stopped_processes(directory, tmp_path):
    thread = image(encoded([(1, 1), (5, b"")]))
    for name, content in {"1009": core(3), "1001": core(1), "1002": thread, "1003": core(3), "x": b"no image"}.items():
        (tmp_path / f"core-{name}.img").write_bytes(content)
    assert [1003, 1009] == mended.stopped_processes(directory)


@pytest.mark.parametrize(
    ("dumped", "expected"),
    [
        pytest.param([(3, 0), (8, 15), (9, b"x")], [(3, 0), (9, b"x")], id="signal"),
        pytest.param([(3, 0), (9, b"x")], [(3, 0), (9, b"x")], id="none"),
    ],
)
def test_the_root_has_no_parent_to_lose(directory, tmp_path, dumped, expected):
    def content(thread):
        return image(encoded([(1, 1), (3, b""), (5, encoded(thread)), (9, b"")]), b"\x08\x02")

    for name in ("core-1001.img", "core-1002.img"):
        (tmp_path / name).write_bytes(content(dumped))
    mended.forget_parent(directory, 1001)
    assert content(expected) == (tmp_path / "core-1001.img").read_bytes()
    assert content(dumped) == (tmp_path / "core-1002.img").read_bytes()


@pytest.mark.parametrize(
    "spoiled",
    [
        pytest.param(image(b"\x08"), id="number-without-end"),
        pytest.param(image(b"\x1a\x05abc"), id="field-cut-off"),
        pytest.param(image(b"\x0b"), id="unknown-kind"),
        pytest.param(image(timer())[:-3], id="entry-cut-off"),
        pytest.param(image(timer()) + b"\x01", id="length-cut-off"),
        pytest.param(image(encoded([(mended.TIMERFD, b"\x08\x01")])), id="timer-without-clock"),
    ],
)
def test_what_cannot_be_read_is_an_error_and_stays(directory, tmp_path, spoiled):
    (tmp_path / mended.FILES).write_bytes(spoiled)
    with pytest.raises(CriuError, match="cannot be read"):
        mended.mend_timers(directory)
    assert spoiled == (tmp_path / mended.FILES).read_bytes()


def test_of_ten_thousand_files_only_those_of_a_kind_are_parsed(directory, tmp_path, monkeypatch):
    unix = [encoded([(1, 7), (2, number), (16, encoded([(1, number), (3, 1)]))]) for number in range(20)]
    (tmp_path / mended.FILES).write_bytes(image(*unix))
    parsed, parse = [], protobuf.parse
    monkeypatch.setattr(protobuf, "parse", lambda text: parsed.append(text) or parse(text))
    mended.mend_timers(directory)
    assert (set(), []) == (inet.bound_ports(directory), inet.used_addresses(directory, ()))
    assert not inet.settle(directory).kept
    assert [] == parsed
