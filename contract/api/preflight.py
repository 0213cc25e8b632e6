"""The answer to ``snapshotctl preflight``: JSON in an annotation of the pod, written by the agent of its node.

Every user who may change the pod may have written it, so it is read as words and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from contract.api.memory import NONE, Memory
from contract.api.states import AgentReason

MAX_FINDINGS: Final = 50
"""A worker with a thousand such files has one mistake, not a thousand."""
MAX_WORDS: Final = 500
"""Characters of one finding; all annotations of an object share 256 KiB."""


@dataclass(frozen=True)
class Found:
    """Something that is in the way of a capture."""

    reason: str
    """A value of ``AgentReason``."""
    message: str


@dataclass(frozen=True)
class PreflightReport:
    """What the agent saw in one container."""

    request: str
    """The annotation that asked for it, as it was."""
    container: str
    node: str
    processes: int = 0
    memory: Memory = NONE
    """Nothing in it if an agent of an earlier release looked."""
    findings: tuple[Found, ...] = ()
    left_out: int = 0
    """Findings beyond those that are listed."""
    error: str = ""
    """Why the container could not be looked at; empty if it was."""

    def to_json(self) -> str:
        """Return the annotation's value."""
        return json.dumps(asdict(self), separators=(",", ":"))


@dataclass(frozen=True)
class Seen:
    """What was seen of a container's processes."""

    findings: Sequence[tuple[AgentReason, str]] = ()
    processes: int = 0
    memory: Memory = NONE


def report_of(request: str, container: str, node: str, seen: Seen, error: str) -> PreflightReport:
    """Put a report together, no longer than an annotation should be."""
    found = seen.findings
    listed = tuple(Found(reason.value, words[:MAX_WORDS]) for reason, words in found[:MAX_FINDINGS])
    left_out = max(0, len(found) - MAX_FINDINGS)
    return PreflightReport(request, container, node, seen.processes, seen.memory, listed, left_out, error)


def requested_container(request: str) -> str:
    """Return the container that a request names: ``<container>`` or ``<container>@<anything>``, to ask again."""
    return request.partition("@")[0].strip()


def read_preflight(text: str) -> PreflightReport | None:
    """Parse a report; None if it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    listed, memory = found.get("findings"), found.get("memory")
    sums: Mapping[str, Any] = memory if isinstance(memory, dict) else {}
    return PreflightReport(
        request=_word(found, "request"),
        container=_word(found, "container"),
        node=_word(found, "node"),
        processes=_count(found, "processes"),
        memory=Memory(_count(sums, "resident"), _count(sums, "share")),
        findings=tuple(
            Found(_word(each, "reason"), _word(each, "message"))
            for each in (listed if isinstance(listed, list) else [])[:MAX_FINDINGS]
            if isinstance(each, dict)
        ),
        left_out=_count(found, "left_out"),
        error=_word(found, "error"),
    )


def _word(found: Mapping[str, Any], key: str) -> str:
    value = found.get(key)
    return value if isinstance(value, str) else ""


def _count(found: Mapping[str, Any], key: str) -> int:
    value = found.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
