"""Read what a finished capture reports: annotations of its Job, believed only as far as they are well-formed.

The agent writes them, but any user who may patch Jobs of the namespace can too: nothing here is taken over unchecked,
and nothing of it is larger than what an honest image needs.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from contract.api import keys
from contract.api.checkpoint import annotations_of, captured_image, job_target
from contract.api.reports import ReportPhase, read_report
from contract.api.states import AgentReason, Proof
from contract.config.values import Values
from contract.nodes.node_facts import read_source
from kube.api import Object

MAX_CONFIG: Final = 32 << 10
"""Characters of an image's configuration; annotations of an object hold 256 KiB together."""
MAX_DIGITS: Final = 18
"""What the status holds in any case: its numbers have 64 bits."""
MAX_WORDS: Final = 512
MAX_WORD: Final = 8 << 10
_NODE: Final = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")
_ARCHITECTURE: Final = re.compile(r"[a-z0-9_]{1,32}")
_LISTS: Final = ("entrypoint", "cmd")
_TEXTS: Final = ("user", "workingDir")


def image_of(checkpoint: Object, job: Object, values: Values) -> Object | None:
    """Return ``status.image``: what was captured, and what the image itself would run if the agent reported it."""
    reference = _jobs_image(checkpoint, job) or captured_image(checkpoint, values)
    found = ({"reference": reference} if reference else {}) | image_config(
        annotations_of(job).get(keys.ANN_IMAGE_CONFIG, "")
    )
    if architecture := _architecture(job):
        found["architecture"] = architecture
    return found | {"injected": _had_tools_injected(job)} if found else None


def image_config(text: str) -> Object:
    """Return the known fields of an image's configuration; empty if any of it is not as it must be."""
    raw = _mapping(text, MAX_CONFIG)
    found: Object = {}
    for name in _LISTS:
        words = raw.get(name) or []
        if not isinstance(words, list) or len(words) > MAX_WORDS or not all(map(_is_word, words)):
            return {}
        found |= {name: words} if words else {}
    for name in _TEXTS:
        word = raw.get(name) or ""
        if not _is_word(word):
            return {}
        found |= {name: word} if word else {}
    return found


def agent_reason(job: Object) -> str:
    """Return the code in the agent's report, empty if there is none."""
    return str(_mapping(annotations_of(job).get(keys.ANN_CAPTURE_REPORT, ""), MAX_CONFIG).get("reason") or "")


def with_code(words: str, reason: str) -> str:
    """Add the agent's code, by which people find its remedy; only one of the closed list."""
    known = reason in frozenset(AgentReason) and f"({reason})" not in words
    return f"{words} ({reason})" if known else words


def proof_of(job: Object) -> Proof:
    """Say what the agent did with the artifact before it reported it."""
    report = read_report(annotations_of(job).get(keys.ANN_CAPTURE_REPORT, ""))
    return Proof.RESTORED if report is not None and ReportPhase.PROOF in report.seconds else Proof.READ


def _architecture(job: Object) -> str:
    said = _mapping(annotations_of(job).get(keys.ANN_CAPTURE_REPORT, ""), MAX_CONFIG).get("architecture")
    return said if isinstance(said, str) and _ARCHITECTURE.fullmatch(said) else ""


def source_of(job: Object) -> Object | None:
    """Return ``status.source``: what it was captured on, None if the agent said nothing usable."""
    notes = annotations_of(job)
    source = read_source(_mapping(notes.get(keys.ANN_CAPTURE_REPORT, ""), MAX_CONFIG).get("source"))
    node = notes.get(keys.ANN_NODE, "")
    if source is None:
        return None
    return ({"node": node} if _NODE.fullmatch(node) else {}) | source.document()


def size_of(job: Object) -> int | None:
    """Return the bytes of the artifact, None if the agent's word is no number."""
    text = annotations_of(job).get(keys.ANN_ARTIFACT_SIZE, "")
    return int(text) if text.isdecimal() and text.isascii() and len(text) <= MAX_DIGITS else None


def _jobs_image(checkpoint: Object, job: Object) -> str:
    """Return the image that the Job really ran, whatever the template says by now."""
    containers = job.get("spec", {}).get("template", {}).get("spec", {}).get("containers") or ()
    target = job_target(checkpoint)
    return next((str(each.get("image", "")) for each in containers if each.get("name") == target), "")


def _had_tools_injected(job: Object) -> bool:
    volumes = job.get("spec", {}).get("template", {}).get("spec", {}).get("volumes") or ()
    return any(volume.get("name") == keys.TOOLS_VOLUME for volume in volumes)


def _mapping(text: str, longest: int) -> Mapping[str, Any]:
    if not text or len(text) > longest:
        return {}
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return raw if isinstance(raw, dict) else {}


def _is_word(word: object) -> bool:
    """Say whether it can be an argument of a process: text that has a UTF-8 form and no NUL."""
    if not isinstance(word, str) or len(word) > MAX_WORD or "\0" in word:
        return False
    try:
        word.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell
        return False
    return True
