"""System V objects in criu's images: read, and taken out of what criu restores."""

import os
import struct

import pytest

from agent import protobuf
from agent.criu.images.ipc.mappings import other_segments, stay_in_namespace, take_attachments
from agent.criu.images.ipc.objects import image_names, read_objects
from agent.errors import RefusedError
from artifact.ipc import Attachment, Mapping, Message, Queue, Segment, SemaphoreSet
from contract.api.states import AgentReason
from tests.unit.agent.criu.test_shared_images import MAGIC, PAGE, image, message

ANONYMOUS, SYSV = 1 | 1 << 8, 1 | 1 << 8 | 1 << 10
OWNER = {"uid": 33, "gid": 34, "creator_uid": 0, "creator_gid": 1}


def desc(number, key=0, mode=0o600):
    return message(f1=key, f2=33, f3=34, f4=0, f5=1, f6=mode, f7=number)


def mapping(start, offset=0, pages=1, status=SYSV, number=5, protection=3, **more):
    fields = {"f1": start, "f2": start + pages * PAGE, "f3": offset * PAGE, "f4": number, "f5": protection, "f6": 0x21}
    return message(f14=message(**fields | {"f7": status} | more))


@pytest.fixture
def images(tmp_path):
    """Write images by name; return a descriptor of their directory."""
    opened = []

    def write(**content: bytes) -> int:
        for name, text in content.items():
            (tmp_path / f"{name.replace('_', '-')}.img").write_bytes(text)
        opened.append(os.open(tmp_path, os.O_RDONLY))
        return opened[-1]

    yield write
    for fd in opened:
        os.close(fd)


def test_objects_are_read(images):
    semaphores = image(message(f1=desc(0, key=7), f2=3)) + struct.pack("=3H", 1, 0, 32767) + bytes(2)
    queue = image(message(f1=desc(2), f2=16384, f3=2))
    queue += protobuf.framed(message(f1=3, f2=5)) + b"hello\0\0\0" + protobuf.framed(message(f1=1, f2=0))
    shm = image(message(f1=desc(5, key=0xDEADBEEF), f2=5000, f3=1), message(f1=desc(6, mode=0o1644), f2=PAGE, f3=1))
    directory = images(ipcns_shm_9=shm, ipcns_sem_9=semaphores, ipcns_msg_9=queue, ipcns_var_9=MAGIC)
    found = read_objects(directory, {0}, ())
    assert [
        Segment(id=5, key=0xDEADBEEF, mode=0o600, size=5000, **OWNER),
        Segment(id=6, key=0, mode=0o644, size=PAGE, ends_unattached=True, **OWNER),
    ] == found.segments
    assert [SemaphoreSet(id=0, key=7, mode=0o600, values=[1, 0, 32767], used=True, **OWNER)] == found.semaphores
    messages = [Message(kind=3, text=b"hello"), Message(kind=1, text=b"")]
    assert [Queue(id=2, key=0, mode=0o600, capacity=16384, messages=messages, **OWNER)] == found.queues
    assert 4 == len(image_names(directory))


def test_kinds_without_an_object_have_no_image(images):
    found = read_objects(images(ipcns_var_9=MAGIC), (), ())
    assert [] == list(found.objects())


def test_huge_pages_are_refused(images):
    shm = image(message(f1=desc(5), f2=2 << 20, f3=1, f4=0o4000))
    with pytest.raises(RefusedError) as caught:
        read_objects(images(ipcns_shm_9=shm), (), ())
    assert AgentReason.SYSV_IPC == caught.value.code


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({"ipcns_sem_9": image(message(f1=desc(0), f2=3))}, id="without-values"),
        pytest.param({"ipcns_msg_9": image(message(f1=desc(0), f2=1, f3=1))}, id="without-messages"),
        pytest.param({"ipcns_msg_9": MAGIC, "ipcns_msg_8": MAGIC}, id="two-namespaces"),
    ],
)
def test_images_that_are_cut_off_are_an_error(images, content):
    with pytest.raises(ValueError):  # noqa: PT011 - of several kinds
        read_objects(images(**content), (), ())


def test_attached_memory_is_taken_out(images):
    other = mapping(0x50000, status=ANONYMOUS, number=77)
    first = [mapping(0x10000, pages=2, f9=1 << 10), mapping(0x12000, offset=2, protection=1, f6=0x2021)]
    second = [mapping(0x13000, pages=3, f10=0, number=5, protection=1)]
    directory = images(mm_7=image(message(f1=1) + b"".join([first[0], other, first[1], *second])))
    expected = [
        Attachment(
            process=7,
            id=5,
            read_only=False,
            mappings=[
                Mapping(start=0x10000, size=2 * PAGE, protection=3, advice=1 << 10),
                Mapping(start=0x12000, size=PAGE, protection=1, locked=True),
            ],
        ),
        Attachment(process=7, id=5, read_only=True, mappings=[Mapping(start=0x13000, size=3 * PAGE, protection=1)]),
    ]
    assert expected == take_attachments(directory)
    assert [] == take_attachments(directory)
    assert {77} == other_segments(directory)


def test_a_memfd_is_other_memory(images):
    assert {9} == other_segments(images(memfd=image(message(f1=b"x", f5=9))))


def test_processes_stay_in_the_namespace_of_criu(images, tmp_path):
    inventory = MAGIC[:4] + protobuf.framed(message(f1=2, f3=message(f1=1, f7=3)))
    directory = images(inventory=inventory, ids_7=image(message(f1=2, f7=9, f8=4)), ids_8=image(message(f1=3, f7=9)))
    stay_in_namespace(directory)
    assert image(message(f1=2, f7=3, f8=4)) == (tmp_path / "ids-7.img").read_bytes()
    assert image(message(f1=3, f7=3)) == (tmp_path / "ids-8.img").read_bytes()
