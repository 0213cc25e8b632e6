"""Readers of what a worker, an agent, an image or a person wrote, each with the rules that hold for any text."""

from __future__ import annotations

import hashlib
import math
import os
import re
import socket
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from jsonschema import Draft202012Validator

import snapshot_sdk
from agent.container import image_config
from agent.container.files import rootfs, safetensors
from agent.container.ipc.objects import taken
from agent.container.questions import grpc_health
from agent.criu.images import rights as image_rights
from agent.errors import ContainerError, RefusedError
from artifact import ipc, manifest
from artifact.errors import ArtifactError
from certs import store
from contract.api import control_files, keys
from contract.api.engine import LARGEST_PART, MOST_CHOICES, MemoryReport
from contract.api.reports import LARGEST, LONGEST, UNKNOWN_REASON, ReportPhase, read_report, with_fill
from contract.api.states import Admission, AgentReason, RestoreStatus
from contract.config.values import load_values
from contract.crds.generate import crd
from controller.checkpoints import capture_result
from snapshotctl.explain import answers

Json = Any
Reader = Callable[[bytes], None]

_ANSWER: Final = 1 << 15
"""Bytes: what a pair of sockets holds without a reader."""
ID: Final = "3bff874d069f0ed5"
_MATCHES: Final = re.compile(r"self\.matches\(r'(.*)'\)$")
_VALUES: Final = load_values("")


def unbase64(text: str) -> bytes:
    """Decode the bytes of a patch."""
    return b64decode(text, validate=True)


@cache
def _schema() -> Draft202012Validator:
    return Draft202012Validator(_with_patterns(crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]))


def _with_patterns(node: Json) -> Json:
    """Return a schema whose rules about texts are patterns too: the validator knows no rules."""
    if isinstance(node, list):
        return [_with_patterns(each) for each in node]
    if not isinstance(node, dict):
        return node
    rules = [each["rule"] for each in node.get("x-kubernetes-validations", ())]
    found = [match[1] for match in map(_MATCHES.search, rules) if match]
    return {key: _with_patterns(value) for key, value in node.items()} | ({"pattern": found[0]} if found else {})


def storable(checkpoint: Json) -> bool:
    """Say whether an API server would keep such a DynamoCheckpoint: the schema holds, and metadata has its form."""
    metadata = checkpoint.get("metadata") if isinstance(checkpoint, dict) else None
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        return False
    maps = [metadata.get("labels", {}), metadata.get("annotations", {})]
    texts = all(isinstance(each, dict) and all(isinstance(text, str) for text in each.values()) for each in maps)
    return texts and bool(_schema().is_valid(checkpoint))


def _text(content: bytes) -> str:
    """Decode as the API server hands on annotations: always UTF-8."""
    return content.decode("utf-8", "replace")


def _report(content: bytes) -> None:
    found = read_report(_text(content))
    if found is not None:
        assert found.reason in {"", UNKNOWN_REASON, *AgentReason}
        assert all(math.isfinite(each) and each >= 0 for each in found.seconds.values())
        assert max(found.seconds.values(), default=0) <= LONGEST * len(ReportPhase) * max(len(content), 1)
        assert 0 <= found.size <= LARGEST
        engine = found.engine or MemoryReport()
        assert len(engine.plan + engine.came) <= 2 * MOST_CHOICES
        assert all(0 <= choice.bytes <= LARGEST_PART and str(choice) for choice in engine.plan + engine.came)
        filled = with_fill(found, _text(content))
        assert all(math.isfinite(step.start + step.seconds) for step in filled.steps)


def _capture(content: bytes) -> None:
    """Return all annotations of a capture Job at once."""
    text = _text(content)
    wrote = (keys.ANN_IMAGE_CONFIG, keys.ANN_CAPTURE_REPORT, keys.ANN_ARTIFACT_SIZE)
    job = {"metadata": {"annotations": dict.fromkeys(wrote, text)}}
    found = capture_result.image_of({}, job, _VALUES) or {}
    words = [*found.get("entrypoint", ()), *found.get("cmd", ()), found.get("user", ""), found.get("workingDir", "")]
    assert sum(map(len, words)) <= capture_result.MAX_CONFIG
    assert all("\0" not in word and word.encode() is not None for word in words)
    size = capture_result.size_of(job)
    assert size is None or 0 <= size < 2**63
    capture_result.agent_reason(job)


def _why(content: bytes) -> None:
    """Read the report as ``snapshotctl`` shows it."""
    spec = {"containers": [{"name": "main"}]}
    for status in RestoreStatus:
        notes = {keys.ANN_ADMISSION: Admission.RESTORE_SHAPED.value, keys.ANN_RESTORE_REPORT: _text(content)}
        notes[f"{keys.ANN_RESTORE_STATUS_PREFIX}main"] = status.value
        answers.lived(answers.Facts({"metadata": {"name": "a", "annotations": notes}, "spec": spec}))


def _control_directory(content: bytes) -> None:
    """Read *content* from every file that the SDK reads; a worker must survive that."""
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        for name in (control_files.RESTORE_COMPLETE, control_files.RESTORE_CONTEXT):
            (Path(folder) / name).write_bytes(content)
        with patch.dict(os.environ, {keys.ENV_CONTROL_DIR: folder}):
            assert isinstance(snapshot_sdk.restore_context(), dict)
            snapshot_sdk.quiesce()


def _image(content: bytes) -> None:
    """Read a document of an image, in a runtime's store."""
    digest = hashlib.sha256(content).hexdigest()
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        blobs = Path(folder) / image_config.BLOBS
        blobs.mkdir(parents=True)
        (blobs / digest).write_bytes(content)
        try:
            found = image_config.read_config(f"sha256:{digest}", [Path(folder)])
        except ContainerError:
            return
        "".join((*found.entrypoint, *found.cmd, found.user, found.working_dir)).encode()


def _deleted(content: bytes) -> None:
    try:
        rootfs.parse_deleted(content)
    except RefusedError:
        return


def _manifest(content: bytes) -> None:
    try:
        manifest.parse_manifest(content, ID)
    except ArtifactError:
        return


def _ipc(content: bytes) -> None:
    """Read System V objects as an artifact has them: what is accepted is bounded, and attaches its own memory alone."""
    try:
        found = ipc.parse_ipc(content)
    except ArtifactError:
        return
    assert len(list(found.objects())) <= 3 * ipc.MOST_OBJECTS
    assert sum(queue.held for queue in found.queues) <= ipc.MOST_MESSAGES
    assert sum(len(each.values) for each in found.semaphores) <= ipc.MOST_SEMAPHORES
    assert {each.id for each in found.attachments} <= {each.id for each in found.segments}
    taken(found, ())


def _secret(content: bytes) -> None:
    """Read the authorities' Secret, in which only JSON is ours to parse."""
    text = b64encode(content).decode()
    data = dict.fromkeys((store.PREVIOUS_UNTIL, store.NEXT_SINCE, store.CURRENT_CERT), text)
    store.read_state(data)
    store.read_state({store.PREVIOUS_UNTIL: text})


def _tensors(content: bytes) -> None:
    """Read the header of a model's file, which anyone may have written."""
    with tempfile.TemporaryFile(dir=_memory()) as file:
        file.write(content)
        file.flush()
        try:
            found = safetensors.read_tensors(file.fileno())
        except safetensors.HeaderError:
            return
    assert all(0 <= first <= first + size <= len(content) for first, size in found)


def _rights(content: bytes) -> None:
    """Read what criu's images would give, from a thread's and from those of seccomp."""
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        for name in ("core-1.img", image_rights.SECCOMP):
            (Path(folder) / name).write_bytes(content)
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            image_rights.rights_in(directory)
        except RefusedError:
            return
        finally:
            os.close(directory)


def _health(content: bytes) -> None:
    """Read what a worker answers to a health check by gRPC, all of it sent at once."""
    here, there = socket.socketpair()
    with here, there, suppress(grpc_health.HealthError, OSError):
        there.sendall(content[:_ANSWER])
        there.shutdown(socket.SHUT_WR)
        grpc_health.check(here, "worker:9000", "", 1.0)


def _memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - a file of its own name each time


READERS: Final[tuple[Reader, ...]] = (
    _report,
    _capture,
    _why,
    _control_directory,
    _image,
    _deleted,
    _manifest,
    _secret,
    _tensors,
    _rights,
    _health,
    _ipc,
)
"""The order is part of stored inputs: add at the end."""
