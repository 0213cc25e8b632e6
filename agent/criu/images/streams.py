"""The queues of one end of a TCP connection, as criu's ``tcp-stream`` images hold them, and what is changed in them.

criu would send the rest of a send queue while the other end may not be there yet, and the kernel would answer for it
with a reset. Here nothing is on its way when a restore begins: what was is put where it was to arrive.
"""

from dataclasses import dataclass, replace
from typing import Final, Self

from agent import protobuf
from agent.criu.connections import (
    CLOSE_WAIT,
    ESTABLISHED,
    FIN_WAIT1,
    FIN_WAIT2,
    HALF_CLOSED,
    SEQUENCE,
    End,
    Stream,
    acknowledged,
)

MOST_UNREAD: Final = 4 << 20
"""Bytes in a receive queue that something is added to: the kernel's usual limit of a send queue (``tcp_wmem``).

That of a receive queue is 6 MiB (``tcp_rmem``), and criu asks for all of it.
"""
_IN_LENGTH, _IN_SEQUENCE, _OUT_LENGTH, _OUT_SEQUENCE, _SCALE, _UNSENT = 1, 2, 3, 4, 6, 12
_SEND_WINDOW, _RECEIVE_WINDOW = 14, 16
_LARGEST_WINDOW: Final = 0xFFFF
"""In a segment: the field has 16 bits, and what it says is shifted by the scale."""


@dataclass(frozen=True)
class StreamImage:
    """One image."""

    magic: bytes
    fields: tuple[protobuf.Field, ...]
    unread: bytes
    """What was received and not read."""
    unacknowledged: bytes
    """What was written and not acknowledged."""

    @classmethod
    def parse(cls, image: bytes) -> Self:
        """Read an image.

        Raises:
            ValueError: it is cut off.
        """
        text, end = protobuf.message(image)
        fields = protobuf.parse(text)
        middle = end + protobuf.number(fields, _IN_LENGTH)
        last = middle + protobuf.number(fields, _OUT_LENGTH)
        if last != len(image):
            raise ValueError(f"{len(image)} bytes, not {last}")
        return cls(image[: protobuf.MAGIC], tuple(fields), image[end:middle], image[middle:])

    def encode(self) -> bytes:
        """Return the image."""
        return self.magic + protobuf.framed(protobuf.encode(self.fields)) + self.unread + self.unacknowledged

    @property
    def stream(self) -> Stream:
        """Where the queues stand."""
        return Stream(
            self._number(_IN_SEQUENCE), self._number(_OUT_SEQUENCE), len(self.unacknowledged), self._number(_UNSENT)
        )

    def _number(self, field: int) -> int:
        return protobuf.number(self.fields, field)

    def _with(self, unread: bytes, unacknowledged: bytes, numbers: dict[int, int]) -> Self:
        """Return the image with other queues and numbers; one that the kernel did not say stays unsaid."""
        known = {field: value for field, value in numbers.items() if field in {found.number for found in self.fields}}
        lengths = {_IN_LENGTH: len(unread), _OUT_LENGTH: len(unacknowledged)}
        fields = protobuf.replaced(self.fields, known | lengths)
        return replace(self, fields=tuple(fields), unread=unread, unacknowledged=unacknowledged)

    def all_sent(self) -> Self:
        """Call all that was written sent: the kernel sends it again, as it does with what was lost on the way."""
        return self._with(self.unread, self.unacknowledged, {_UNSENT: 0})

    def all_arrived(self) -> Self:
        """Leave nothing to be sent; the room that the peer had is smaller by as much."""
        room = max(self._number(_SEND_WINDOW) - len(self.unacknowledged), 0)
        return self._with(self.unread, b"", {_UNSENT: 0, _SEND_WINDOW: room})

    def with_more(self, more: bytes, *, is_last: bool) -> Self:
        """Add to what was received; the end of it counts as one byte."""
        sequence = (self._number(_IN_SEQUENCE) + len(more) + is_last) % SEQUENCE
        return self._with(self.unread + more, self.unacknowledged, {_IN_SEQUENCE: sequence})

    def peer_finished(self) -> Self:
        """Have the peer's room be what it was.

        criu makes the peer's last segment again and takes what this end has room for as the peer's, without the scale:
        64 KiB become none, and the first answer waits for seconds. No more comes in, so that number says nothing else.
        """
        room = self._number(_SEND_WINDOW) >> self._number(_SCALE)
        return self._with(self.unread, self.unacknowledged, {_RECEIVE_WINDOW: min(max(room, 1), _LARGEST_WINDOW)})

    def over(self) -> Self:
        """Leave what was received; what was written has no reader, and the end of it counts as one byte."""
        written = (self._number(_OUT_SEQUENCE) + 1) % SEQUENCE
        return self._with(self.unread, b"", {_UNSENT: 0, _OUT_SEQUENCE: written})


@dataclass(frozen=True)
class Half:
    """One end with its image."""

    end: End
    image: StreamImage

    def moved(self, state: int, image: StreamImage) -> "Half":
        """Return it in another state."""
        return Half(replace(self.end, state=state), image)


def deliver(sender: Half, receiver: Half) -> tuple[Half, Half]:
    """Put what is on its way from one end to the other into the other's receive queue, if it has room."""
    had = (receiver.image.stream.received - acknowledged(sender.end)) % SEQUENCE
    more = sender.image.unacknowledged[had:]
    if len(receiver.image.unread) + len(more) > MOST_UNREAD:
        return sender.moved(sender.end.state, sender.image.all_sent()), receiver
    ends = sender.end.state == FIN_WAIT1 and receiver.end.state in (ESTABLISHED, CLOSE_WAIT)
    knew = receiver.end.state == CLOSE_WAIT
    sent = sender.moved(FIN_WAIT2 if ends else sender.end.state, sender.image.all_arrived())
    state = CLOSE_WAIT if ends else receiver.end.state
    return sent, receiver.moved(state, receiver.image.with_more(more, is_last=ends and not knew))


def settled(one: Half, other: Half) -> tuple[Half, Half]:
    """Leave nothing on its way between the two ends of a connection."""
    one, other = deliver(one, other)
    other, one = deliver(other, one)
    return _as_half_closed(one), _as_half_closed(other)


def _as_half_closed(half: Half) -> Half:
    return half.moved(half.end.state, half.image.peer_finished()) if half.end.state in HALF_CLOSED else half
