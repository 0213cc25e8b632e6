"""The file of System V objects: what is written is read again, and nothing else is believed."""

import json
import os

import pytest
from pydantic import ValidationError

from artifact.errors import ArtifactError
from artifact.ipc import (
    MAX_IPC,
    MOST_MESSAGES,
    Attachment,
    Mapping,
    Message,
    Queue,
    Segment,
    SemaphoreSet,
    SysvIpc,
    read_ipc,
    write_ipc,
)
from artifact.manifest import IPC, IPC_FORMAT_VERSION, write_manifest
from artifact.read import Artifact
from contract.api.states import AgentReason
from tests.support.builders import manifests

PAGE = 4096
OWNER = {"uid": 33, "gid": 33, "creator_uid": 0, "creator_gid": 0, "mode": 0o600}
MEMORY = Segment(id=5, key=0x77, size=PAGE + 1, **OWNER)


def attachment(*mappings, process=1001, number=5):
    return Attachment(process=process, id=number, read_only=False, mappings=list(mappings))


def pieces(*starts, size=PAGE):
    return [Mapping(start=start, size=size, protection=3) for start in starts]


WHOLE = SysvIpc(
    segments=[MEMORY],
    semaphores=[SemaphoreSet(id=0, key=1, values=[0, 32767], used=True, **OWNER)],
    queues=[Queue(id=0, key=0, capacity=16384, messages=[Message(kind=7, text=bytes(range(256)))], **OWNER)],
    attachments=[attachment(*pieces(0x10000, 0x11000))],
)


@pytest.fixture
def stored(tmp_path):
    """Make an artifact whose file has this text; with None, an artifact without one."""
    opened = []

    def make(text: bytes | None) -> Artifact:
        if text is not None:
            (tmp_path / IPC).write_bytes(text)
        captured = manifests.captured(ipc=IPC if text is not None else None)
        opened.append(os.open(tmp_path, os.O_RDONLY))
        return Artifact(opened[-1], manifests.manifest(captured, IPC), "blake3:0")

    yield make
    for fd in opened:
        os.close(fd)


def test_what_is_written_is_read(stored, tmp_path):
    write_ipc(WHOLE, os.open(tmp_path / "x", os.O_WRONLY | os.O_CREAT))
    assert WHOLE == read_ipc(stored((tmp_path / "x").read_bytes()))


def test_an_artifact_may_have_none(stored):
    assert read_ipc(stored(None)) is None


def text(**changes) -> bytes:
    return json.dumps(WHOLE.model_dump(mode="json", by_alias=True) | changes).encode()


def segment(**changes):
    return MEMORY.model_dump(by_alias=True) | changes


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"{", id="no-json"),
        pytest.param(text(segments=[segment(id=1 << 31)]), id="id"),
        pytest.param(text(segments=[segment(id=-1)]), id="negative-id"),
        pytest.param(text(segments=[segment(mode=0o4777)]), id="mode"),
        pytest.param(text(segments=[segment(uid=(1 << 32) - 1)]), id="nobody"),
        pytest.param(text(segments=[segment(size=0)]), id="no-size"),
        pytest.param(text(segments=[segment(), segment(key=3)]), id="one-id-twice"),
        pytest.param(text(segments=[segment(), segment(id=3)]), id="one-key-twice"),
        pytest.param(text(segments=[]), id="attached-memory-that-is-not-the-workers"),
        pytest.param(text(segments=[segment(id=n, key=0) for n in range(1025)]), id="too-many"),
        pytest.param(b" " * (MAX_IPC + 1), id="too-large"),
    ],
)
def test_a_hostile_file_is_refused(stored, content):
    with pytest.raises(ArtifactError) as caught:
        read_ipc(stored(content))
    assert AgentReason.MANIFEST_UNREADABLE == caught.value.code


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"attachments": [attachment(*pieces(0x10000))]}, id="a-part"),
        pytest.param({"attachments": [attachment(*pieces(0x10000, 0x13000))]}, id="apart"),
        pytest.param({"attachments": [attachment(*pieces(0x10000, 0x11000), number=6)]}, id="another-segment"),
        pytest.param(
            {
                "queues": [
                    Queue(id=0, key=0, capacity=1, messages=[Message(kind=1, text=bytes(MOST_MESSAGES + 1))], **OWNER)
                ]
            },
            id="messages",
        ),
        pytest.param(
            {"semaphores": [SemaphoreSet(id=n, key=0, values=[0] * 20000, **OWNER) for n in range(2)]}, id="semaphores"
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(fields):
    with pytest.raises(ValidationError):
        SysvIpc(**{"segments": [MEMORY]} | fields)


def test_earlier_releases_refuse_such_an_artifact():
    stored_manifest = json.loads(write_manifest(manifests.captured(ipc=IPC), "abc", "1", {}))
    assert IPC_FORMAT_VERSION == stored_manifest["formatVersion"]
