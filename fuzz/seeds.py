"""Where each target begins: good inputs, so that the engine need not find the way in."""

from __future__ import annotations

import json
import struct
from random import Random
from typing import Any, Final

import orjson
import yaml
from h2.config import H2Configuration
from h2.connection import H2Connection

from agent.protobuf import BYTES, VARINT, Field, encode, framed
from contract.config.values import load_values
from fuzz.readers import ID, READERS
from fuzz.targets import PATH
from tests.support.builders.objects import checkpoint, graph_pod, opted_in, ready, review
from tests.support.builders.pods import auto_pod, checkpoint_of, random_pod

Json = Any

PODS: Final = (
    opted_in(),
    auto_pod(),
    graph_pod(),
    *(random_pod(Random(number)) for number in range(12)),
)
_CHECKPOINTS: Final = (
    ready(),
    checkpoint(),
    checkpoint(status={"phase": "Failed", "message": "no node"}),
    ready(status={"phase": "Ready", "checkpointID": ID, "image": {"reference": "a", "entrypoint": ["/e"], "cmd": []}}),
)
_OBJECT: Final = {"id": 5, "key": 4660, "mode": 384, "uid": 0, "gid": 0, "creatorUid": 0, "creatorGid": 0}
"""Any object of System V."""
_TOLD: Final = (
    {"container": "main", "outcome": "restored", "reason": "", "seconds": {"open": 0.1, "total": 0.5}, "bytes": 7},
    {"container": "main", "outcome": "failed", "reason": "criu-failed", "seconds": {}, "bytes": 0},
    {
        "container": "main",
        "outcome": "restored",
        "at": "2026-11-29T10:00:00.000000Z",
        "step": ["fill", 0.2, 3.0],
        "steps": [["criu", 0.1, 0.1]],
        "engine": {"plan": [["memory", "served", "large", 7]], "came": [["memory", "copied", "no-server", 7]]},
    },
    {"entrypoint": ["/entry"], "cmd": ["serve"], "user": "1000", "workingDir": "/work"},
    {"rootfs": {}, "config": {"Entrypoint": ["/entry"], "Cmd": ["serve"], "User": "1", "WorkingDir": "/"}},
    {"manifests": [{"digest": "sha256:" + "0" * 64, "platform": {"architecture": "amd64"}}]},
    {"config": {"digest": "sha256:" + "0" * 64}},
    {"deleted": ["a"], "opaque": ["b"], "sockets": ["c"]},
    {"formatVersion": 1, "checkpointId": ID, "version": "1", "files": {"core-1.img": {"size": 1, "blake3": "0" * 64}}},
    {"0" * 64: "2026-11-21T05:00:00+00:00"},
    {
        "segments": [{**_OBJECT, "size": 4096}],
        "semaphores": [{**_OBJECT, "values": [0, 7], "used": True}],
        "queues": [{**_OBJECT, "capacity": 16384, "messages": [{"kind": 3, "text": "aGVsbG8="}]}],
        "attachments": [
            {
                "process": 1001,
                "id": 5,
                "readOnly": True,
                "mappings": [{"start": 65536, "size": 4096, "protection": 1}],
            }
        ],
    },
)
_HEAD: Final = "POST {path}{query} HTTP/1.1\r\nHost: webhook\r\nContent-Length: {length}\r\n{more}\r\n"


def _request(body: bytes, *, query: str = "?timeout=2s", more: str = "Accept: application/json\r\n") -> bytes:
    return _HEAD.format(path=PATH, query=query, length=len(body), more=more).encode() + body


def _streams() -> list[bytes]:
    plain, chunked = _request(b"{}"), _request(b"", more="Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n"
    odd = (
        "Connection: close\r\n",
        "Expect: 100-continue\r\n",
        "Content-Length: 3\r\n",
        " folded: x\r\n",
        "Upgrade: h2c\r\n",
        "X:\x0b1\r\n",
    )
    return [plain, plain * 3, plain + chunked, _request(b""), *(_request(b"abc", more=each) + plain for each in odd)]


def _decisions() -> list[Json]:
    pairs = [[pod, _CHECKPOINTS[number % len(_CHECKPOINTS)], number] for number, pod in enumerate(PODS)]
    automatic = auto_pod()
    return [*pairs, [automatic, checkpoint_of(automatic), 0], [automatic, checkpoint_of(automatic, phase="Pending"), 1]]


def _values() -> list[str]:
    whole = load_values("").model_dump(mode="json", by_alias=True)
    return ["", "{placeholder: {mode: inject}}", "storage: &a {accessMode: podMount}", yaml.safe_dump(whole)]


def _model_file() -> bytes:
    header = json.dumps({"__metadata__": {}, "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(8)


def _thread_image() -> bytes:
    """Return criu's image of a thread: its credentials (10) and its mode of seccomp (11)."""
    users = [Field(number, VARINT, 0) for number in range(1, 9)]
    credentials = encode([*users, *(Field(number, VARINT, 0) for number in (9, 10, 11, 12, 9, 10, 11, 12))])
    thread = encode([Field(10, BYTES, credentials), Field(11, VARINT, 0)])
    return struct.pack("=II", 0x54564319, 0x55053847) + framed(encode([Field(1, VARINT, 1), Field(5, BYTES, thread)]))


def _health_answers() -> list[bytes]:
    """Return what a server sends whose worker serves, and one that knows no such service."""
    answers = []
    for status, trailers in ((b"\0\0\0\0\2\x08\1", {"grpc-status": "0"}), (b"", {"grpc-status": "5"})):
        server, client = H2Connection(H2Configuration(client_side=False)), H2Connection()
        server.initiate_connection()
        client.initiate_connection()
        asked = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "worker")]
        client.send_headers(1, asked, end_stream=True)
        server.receive_data(client.data_to_send())
        server.send_headers(1, [(":status", "200"), ("content-type", "application/grpc")])
        server.send_data(1, status)
        server.send_headers(1, list(trailers.items()), end_stream=True)
        answers.append(server.data_to_send())
    return answers


SEEDS: Final[dict[str, list[bytes]]] = {
    "admission": [orjson.dumps(review(pod)) for pod in PODS],
    "decision": [orjson.dumps(each) for each in _decisions()],
    "fast-lane": [b"\0\x20" + stream for stream in _streams()],
    "words": [bytes([reader]) + json.dumps(told).encode() for reader in range(len(READERS)) for told in _TOLD]
    + [bytes([len(READERS) - 4]) + _model_file(), bytes([len(READERS) - 3]) + _thread_image()]
    + [bytes([len(READERS) - 2]) + answer for answer in _health_answers()],
    "values": [text.encode() for text in _values()],
}
