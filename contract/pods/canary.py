"""A canary: one question that a restored worker must answer rightly before it serves its clients.

A probe says that a worker listens. A canary says that it still works: the owner names a request, or a command that is
run in the container, in an annotation of the pod template, and what makes the answer right.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from contract.api import checkpoint as ckpt
from contract.api import keys
from contract.config import patterns
from contract.config.errors import describe
from contract.pods.probe import port_number, serving_probe

SECONDS: Final = 30.0
"""A first prompt after a restore may read weights again."""
LONGEST: Final = 600.0
LONGEST_COMMAND: Final = 32_000
"""Bytes of a command line, each word with its end; standby takes twice that."""


class CanaryError(ValueError):
    """The annotation is not one that can be asked; the message says what is wrong with which field."""


_HeaderName = Annotated[str, Field(pattern=patterns.HEADER_NAME)]
_HeaderValue = Annotated[str, Field(pattern=patterns.HEADER_VALUE)]
_Word = Annotated[str, Field(pattern=patterns.NO_NUL)]


class Exec(BaseModel):
    """A command that is run in the container, as an exec probe names it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    command: Annotated[tuple[_Word, ...], Field(min_length=1, max_length=256)]
    """Program and arguments; without a shell."""

    @field_validator("command", mode="before")
    @classmethod
    def _as_tuple(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @field_validator("command")
    @classmethod
    def _fits(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value[0]:
            raise ValueError("names no program")
        if sum(len(word.encode()) + 1 for word in value) > LONGEST_COMMAND:
            raise ValueError(f"is longer than {LONGEST_COMMAND} bytes; put it into a file of the image")
        return value


class Canary(BaseModel):
    """What the annotation says: JSON, or only a path."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    path: Annotated[str, Field(pattern=patterns.URL_PATH, max_length=2048)] | None = None
    exec: Exec | None = None
    """In place of a request."""
    port: int | str | None = None
    """By number or name; None: that of the worker's own probe."""
    scheme: Literal["HTTP", "HTTPS"] = "HTTP"
    headers: dict[_HeaderName, _HeaderValue] = {}
    body: Any = None
    """Text is sent as it is, anything else as JSON; with it the request is a POST."""
    status: int = 200
    """Of the answer; of a command, by default 0."""
    sha256: Annotated[str, Field(pattern=patterns.SHA256)] | None = None
    same: bool = False
    """Whether the answer must be the one that the worker gave just before it was captured."""
    select: Annotated[tuple[str, ...], Field(max_length=32)] = ()
    """JSON pointers (RFC 6901) of what counts in the answer; empty: all of it."""
    seconds: Annotated[float, Field(gt=0, le=LONGEST)] = SECONDS

    @field_validator("select", mode="before")
    @classmethod
    def _as_tuple(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="before")
    @classmethod
    def _ends_well(cls, value: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
        is_command = isinstance(value, dict) and value.get("exec") is not None
        return {"status": 0} | value if is_command else value

    @model_validator(mode="after")
    def _asks_one_thing(self) -> Self:
        if self.exec is None and self.path is None:
            raise ValueError('path: field required; or name a command: {"exec": {"command": ["python3", "check.py"]}}')
        if self.exec is not None and (extra := sorted(self.model_fields_set & _OF_A_REQUEST)):
            raise ValueError(f"{extra[0]}: belongs to a request, and exec is a command; remove one of them")
        least, most = (100, 599) if self.exec is None else (0, 255)
        if not least <= self.status <= most:
            raise ValueError(f"status: is from {least} to {most}, found {self.status}")
        return self

    @model_validator(mode="after")
    def _judges_what_it_selects(self) -> Self:
        if bad := [pointer for pointer in self.select if not pointer.startswith("/")]:
            raise ValueError(f"select: {bad[0]!r} is no JSON pointer; it begins with /, as /choices/0/text")
        if self.select and not (self.same or self.sha256):
            raise ValueError("select: says which part counts, but nothing is compared; set same or sha256")
        return self


_OF_A_REQUEST: Final = frozenset({"path", "port", "scheme", "headers", "body"})


@dataclass(frozen=True)
class CanaryCall:
    """A canary of one pod, ready to be asked."""

    canary: Canary
    port: int = 0
    """Of the pod itself, whose address is not known before its container starts; 0 if a command is run."""

    @property
    def body(self) -> bytes | None:
        """What is sent; None: the request is a GET."""
        body = self.canary.body
        if body is None or isinstance(body, str):
            return None if body is None else body.encode()
        return json.dumps(body).encode()

    @property
    def headers(self) -> dict[str, str]:
        """What is sent with it."""
        is_json = self.canary.body is not None and not isinstance(self.canary.body, str)
        return ({"Content-Type": "application/json"} if is_json else {}) | self.canary.headers


def parse_canary(text: str) -> Canary:
    """Parse the value of annotation ``nvidia.com/snapshot-canary``.

    Raises:
        CanaryError: with every problem.
    """
    if text.startswith("/"):
        return _validated({"path": text.strip()})
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CanaryError(f"is neither a path that begins with / nor JSON: {error}") from error
    if not isinstance(document, dict):
        raise CanaryError('is JSON, but no object; write {"path": "/health"}')
    return _validated(document)


def _validated(document: Mapping[str, Any]) -> Canary:
    try:
        return Canary.model_validate(document)
    except ValidationError as error:
        raise CanaryError("; ".join(describe(error, Canary))) from error


def command_stamp(pod: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment that says, for good, which command a pod was created with; empty if its canary is none."""
    text = ckpt.annotations_of(pod).get(keys.ANN_CANARY, "")
    try:
        is_command = text != "" and parse_canary(text).exec is not None
    except CanaryError:
        return {}
    return {keys.ENV_CANARY: hashlib.sha256(text.encode()).hexdigest()} if is_command else {}


def refuse_later_command(pod: Mapping[str, Any], target: str) -> None:
    """Refuse a command that the pod was not created with: who may annotate a pod may not execute in it by that.

    Args:
        pod: as it is now.
        target: name of the container.

    Raises:
        CanaryError: the annotation was changed since.
    """
    container = ckpt.find_container(pod.get("spec") or {}, target) or {}
    stamped = {str(each.get("name")): str(each.get("value")) for each in container.get("env") or ()}
    if not command_stamp(pod).items() <= stamped.items():
        raise CanaryError(
            "exec: the pod was not created with this command, and none can be named later; make a new pod"
        )


def canary_call(pod: Mapping[str, Any], target: str) -> CanaryCall | None:
    """Return what to ask of a container of that pod; None if its owner named no canary.

    Args:
        pod: a pod, or a pod template.
        target: name of the container.

    Raises:
        CanaryError: it cannot be asked.
    """
    text = ckpt.annotations_of(pod).get(keys.ANN_CANARY)
    if text is None:
        return None
    canary = parse_canary(text)
    if canary.exec is not None:
        return CanaryCall(canary)
    container = ckpt.find_container(pod.get("spec") or {}, target) or {}
    if canary.port is None:
        probe = serving_probe(container, "")
        if probe is None or probe.kind not in {"HTTP", "HTTPS", "TCP"}:
            raise CanaryError(f"port: is needed, since container {target} has no HTTP or TCP probe to take it from")
        return CanaryCall(canary, probe.port)
    number = port_number(canary.port, container.get("ports") or ())
    if number is None or not 0 < number < 1 << 16:
        raise CanaryError(f"port: container {target} has no port {canary.port!r}; use a number, or a name of its ports")
    return CanaryCall(canary, number)
