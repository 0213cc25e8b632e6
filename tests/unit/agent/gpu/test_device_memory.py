"""What a library in a worker says is hostile: nothing of it reaches beyond its own file."""

import os
import secrets
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent.gpu import device_memory
from agent.gpu.cuda import CudaError
from agent.gpu.device_memory import Conversation
from agent.gpu.device_messages import Message, Room, parse_message, write_units
from agent.gpu.preload import COPIERS, Library, find_library
from agent.gpu.ranges import UNIT, Range, pack_ranges
from contract.api.states import AgentReason

DONE = 16
FAILED = 17
DATA = 20
HELLO = 18
SOURCES = 23
RANGES = 24
HELD = 4 * UNIT


def data(slot=0, place=0, units=0b1, what=DATA):
    return Message(what, slot, place, units)


@pytest.fixture
def view():
    content = b"".join(bytes([number + 1]) * UNIT for number in range(4))
    return memoryview(content)


@pytest.fixture
def file(tmp_path):
    with (tmp_path / "device-memory-7.img").open("wb+") as opened:
        yield opened


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        pytest.param([data()], [1], id="first"),
        pytest.param([data(slot=1, units=0b11)], [3, 4], id="two-of-the-second-slot"),
        pytest.param([data(units=0b10), data(slot=1, place=1)], [2, 3], id="further-on"),
        pytest.param([data(units=0b11), data(slot=1, place=2, units=0b11)], [1, 2, 3, 4], id="up-to-its-end"),
    ],
)
def test_units_are_written_behind_each_other(file, view, messages, expected):
    room, written = Room(HELD), 0
    for message in messages:
        written += write_units(file.fileno(), view, message, written, room)
    file.seek(0)
    content = file.read()
    assert [bytes([number]) * UNIT for number in expected] == [
        content[at : at + UNIT] for at in range(0, len(content), UNIT)
    ]


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(data(slot=2), id="no-such-slot"),
        pytest.param(data(place=1), id="with-a-hole"),
        pytest.param(data(place=1 << 60), id="far-away"),
        pytest.param(data(units=0), id="nothing"),
        pytest.param(data(units=0b100), id="no-such-unit"),
        pytest.param(data(what=1), id="another-message"),
    ],
)
def test_what_is_not_its_own_is_refused_and_nothing_is_written(file, view, message):
    with pytest.raises(CudaError, match="memory that it does not have"):
        write_units(file.fileno(), view, message, 0, Room(HELD))
    file.seek(0)
    assert b"" == file.read()


def test_all_files_of_a_process_together_get_no_more_than_it_holds(file, view):
    room = Room(3 * UNIT)
    write_units(file.fileno(), view, data(units=0b11), 0, room)
    with pytest.raises(CudaError, match="memory that it does not have"):
        write_units(file.fileno(), view, data(units=0b11), 0, room)


@pytest.mark.parametrize("size", [0, 1, 87, 89])
def test_a_message_of_another_size_is_none(size):
    with pytest.raises(OSError, match="was closed"):
        parse_message(bytes(size))


def test_words_of_a_library_are_plain_text():
    packet = Message(17, 2, 0, 0, "have\nits \x1b[31mmemory").packed()
    assert "haveits [31mmemory" == parse_message(packet).text


def process(proc, **threads):
    for number, name in enumerate(name for name, count in threads.items() for _ in range(count)):
        task = proc / "7/task" / str(100 + number)
        task.mkdir(parents=True)
        (task / "comm").write_text(name.replace("_", "-") + "\n")


@pytest.mark.parametrize(
    ("threads", "expected"),
    [
        pytest.param({"python": 3, "snapshot_device": 1, "snapshot_copier": COPIERS}, 103, id="whole"),
        pytest.param({"python": 3}, None, id="none"),
        pytest.param({"snapshot_device": 2, "snapshot_copier": COPIERS}, None, id="two-of-one"),
        pytest.param({"snapshot_device": 1, "snapshot_copier": COPIERS - 1}, None, id="one-is-missing"),
    ],
)
def test_a_library_is_found_by_its_threads(tmp_path, threads, expected):
    process(tmp_path, **threads)
    found = find_library(7, 1001, tmp_path)
    assert expected == (found and found.main)
    if found:
        assert set(range(103, 104 + COPIERS)) == found.threads


def test_a_process_that_has_ended_has_none(tmp_path):
    assert find_library(7, 1001, tmp_path) is None


@pytest.fixture
def name():
    return f"\0snapshot-test/{secrets.token_hex()}"


@pytest.fixture
def talk(monkeypatch, name):
    """A conversation with this process, whose end is the second."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as worker:
        monkeypatch.setattr(device_memory, "_listen", lambda *_: device_memory._listener(name))
        monkeypatch.setattr(device_memory, "_wake", lambda _: worker.connect(name))
        opened = Conversation(Library(os.getpid(), 1, 2, frozenset()), 1)
        yield opened, worker
        worker.close()
        opened.close()


def test_an_answer_that_comes_late_is_none_to_the_next_question(talk, monkeypatch):
    """Marks would be taken for removed that are still in the memory."""
    asking, worker = talk
    monkeypatch.setattr(device_memory, "STALLED_SECONDS", 0.01)
    with pytest.raises(CudaError, match="was not moved within"):
        asking.tag(1)
    worker.send(Message(DONE).packed())
    with pytest.raises(CudaError, match="has not answered before"):
        asking.untag()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(2, AgentReason.GPU_MEMORY, id="out-of-memory"),
        pytest.param(900, AgentReason.GPU_BUSY, id="a-graph-is-being-recorded"),
        pytest.param(1, AgentReason.GPU_FAILED, id="another-error"),
    ],
)
def test_what_cannot_begin_to_save_says_why(talk, monkeypatch, error, expected):
    """None of its threads that copy has connected, so there is nothing to wait for."""
    asking, worker = talk
    monkeypatch.setattr(device_memory, "ANSWER_SECONDS", 60.0)
    worker.send(Message(FAILED, error, text="wait for the worker's kernels").packed())
    with pytest.raises(CudaError, match=f"wait for the worker's kernels .CUDA error {error}.") as raised:
        asking.save([], HELD, 60.0)
    assert expected is raised.value.code


def copiers_say_hello(worker, name, units):
    """Be a library that saves nothing, and says how many units were left out; return how it was asked."""
    asked = parse_message(worker.recv(4096))
    copiers = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(COPIERS)]
    for number, copier in enumerate(copiers):
        copier.connect(name)
        copier.send(Message(HELLO, number, text=f"device {number}").packed())
    for copier in copiers:
        with copier:
            copier.recv(4096)
    worker.send(Message(DONE, units).packed())
    return asked


@pytest.mark.parametrize(
    ("discards", "units", "asked", "expected"),
    [
        pytest.param(True, 3, 1, 3 * UNIT, id="left-out"),
        pytest.param(True, 0, 1, 0, id="a-library-that-knows-of-none"),
        pytest.param(True, 1 << 31, 1, HELD, id="more-than-it-holds"),
        pytest.param(False, 3, 0, 0, id="all-is-to-be-saved"),
    ],
)
def test_what_a_library_has_left_out_is_no_more_than_it_holds(talk, name, file, discards, units, asked, expected):
    asking, worker = talk
    with ThreadPoolExecutor(1) as library:
        said = library.submit(copiers_say_hello, worker, name, units)
        saved = asking.save([file.fileno()] * COPIERS, HELD, 10.0, discards=discards)
    assert asked == said.result().number
    assert (expected, "device 0") == (saved.discarded, saved.devices[0])


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        pytest.param(6, False, id="of-an-earlier-release"),
        pytest.param(7, True, id="of-the-first-that-can"),
        pytest.param(8, True, id="of-another-that-can"),
        pytest.param(9, True, id="of-this-one"),
        pytest.param(10, False, id="of-a-later-one"),
    ],
)
def test_a_library_that_cannot_read_files_of_a_model_keeps_its_memory_in_the_artifact(talk, version, expected):
    asking, worker = talk
    worker.send(Message(DONE, version, 1, UNIT).packed())
    worker.send(Message(DONE).packed())
    assert expected == asking.contents().takes_ranges


def test_files_of_a_model_are_handed_over_as_many_as_go_with_a_message(talk, file):
    asking, worker = talk
    file.write(pack_ranges([Range(0, 0, 1, COPIERS, 0), Range(1, 0, 1, 0, 0)]))
    file.flush()
    for _ in range(3):
        worker.send(Message(DONE).packed())
    asking.refer([file.fileno()] * (COPIERS + 2), file.fileno())
    came = []
    for _ in range(3):
        packet, descriptors, _, _ = socket.recv_fds(worker, 4096, COPIERS)
        message = parse_message(packet)
        came.append((message.what, message.a, len(descriptors)))
        for descriptor in descriptors:
            os.close(descriptor)
    assert [(SOURCES, 0, COPIERS), (SOURCES, 0, 2), (RANGES, 2, 1)] == came


LEND, PLACES = 25, 26


def lends(worker, answers):
    """Be a library that lends: each answer is a message and the number of its descriptors. Return what was asked."""
    asked = []
    with Path(os.devnull).open() as memory:
        for answer, descriptors in answers:
            asked.append(parse_message(worker.recv(4096)))
            socket.send_fds(worker, [answer.packed()], [memory.fileno()] * descriptors)
    return [(each.what, each.number) for each in asked]


LOOKED = (Message(DONE, 8), 0)
PLACED = (Message(DONE, a=9), 0)
NO_MORE = (Message(DONE, text="nothing"), 0)


def test_what_a_worker_lends_is_asked_for_one_by_one(talk):
    asking, worker = talk
    answers = [LOOKED, PLACED, (Message(DONE, 3, 5, UNIT), 1), (Message(DONE, 7, 6, 2 * UNIT), 1), NO_MORE]
    with ThreadPoolExecutor(1) as library:
        asked = library.submit(lends, worker, answers)
        lent = asking.lend(UNIT)
    assert [(5, UNIT), (6, 2 * UNIT)] == [(each.first, each.size) for each in lent.segments]
    assert [(LEND, 0), (LEND, 4), (LEND, 8)] == asked.result()[2:]
    lent.close()


def test_an_earlier_library_lends_nothing(talk):
    asking, worker = talk
    worker.send(Message(DONE, 7).packed())
    assert asking.lend(UNIT) is None


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param((Message(DONE, 3, 5, UNIT), 0), id="no-memory"),
        pytest.param((Message(DONE, 3, 5, UNIT), 2), id="more-than-one"),
        pytest.param((Message(FAILED, 1, text="lend its memory"), 0), id="it-fails"),
    ],
)
def test_a_worker_that_lends_wrongly_lends_nothing(talk, answer):
    asking, worker = talk
    before = len(list(Path("/proc/self/fd").iterdir()))
    with ThreadPoolExecutor(1) as library:
        said = library.submit(lends, worker, [LOOKED, PLACED, (Message(DONE, 2, 5, UNIT), 1), answer])
        with pytest.raises(CudaError):
            asking.lend(UNIT)
    assert 4 == len(said.result())
    assert before == len(list(Path("/proc/self/fd").iterdir()))


def test_a_worker_that_never_ends_lending_is_cut_short(talk, monkeypatch):
    asking, worker = talk
    monkeypatch.setattr(device_memory, "MOST_SEGMENTS", 3)
    with ThreadPoolExecutor(1) as library:
        library.submit(lends, worker, [LOOKED, PLACED, *[(Message(DONE, 0, 0, UNIT), 1)] * 3])
        lent = asking.lend(UNIT)
    assert 3 == len(lent.segments)
    lent.close()
