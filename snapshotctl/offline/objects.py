"""Kubernetes objects from files: what ``kubectl get -o yaml`` or ``-o json`` writes, or a stream of manifests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import yaml
from pydantic import ValidationError

from contract.api import keys
from contract.api.volume_claims import Claims, claim_state, unknown
from contract.config.errors import dotted
from contract.config.yaml import MOST_NESTING
from contract.crds.checkpoint import DynamoCheckpoint
from kube.api import Object
from snapshotctl.errors import InputError, UserError

DEFAULT_NAMESPACE: Final = "default"
NAMESPACED: Final = frozenset(
    {keys.CHECKPOINT_KIND, "Event", "Job", "Lease", "PersistentVolumeClaim", "Pod", "ResourceClaimTemplate"}
)
"""Kinds that are looked up by namespace here; all others stay as they are written."""


class _Loader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: a time is text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_objects(text: str, source: str) -> list[Object]:
    """Read the objects of a YAML or JSON stream; lists are opened, a missing namespace is ``default``.

    Args:
        text: the stream.
        source: name of the file, for messages.

    Raises:
        InputError: with the document and what is wrong with it.
    """
    found: list[Object] = []
    for obj, where in _stream(text, source):
        checked = _checked(obj, where)
        if not isinstance(checked["metadata"].get("name"), str):
            raise InputError(f"{where}: metadata.name of a {checked['kind']} is missing")
        if checked["kind"] in NAMESPACED:
            checked["metadata"]["namespace"] = checked["metadata"].get("namespace") or DEFAULT_NAMESPACE
        found.append(checked)
    return found


def read_manifests(text: str, source: str) -> list[Object]:
    """Read objects that are not in a cluster yet: ``generateName`` will do, and no namespace is made up.

    Raises:
        InputError: as ``read_objects``.
    """
    return [_checked(obj, where) for obj, where in _stream(text, source)]


def _stream(text: str, source: str) -> Iterator[tuple[Any, str]]:
    for number, document in enumerate(_documents(text, source), start=1):
        where = f"{source}: document {number}"
        if problem := _nesting_problem(document, frozenset(), set()):
            raise InputError(f"{where}: {problem}")
        for obj in _opened(document, where):
            yield obj, where


def _documents(text: str, source: str) -> Iterator[Any]:
    stripped = text.lstrip()
    form = "JSON" if stripped.startswith(("{", "[")) else "YAML"
    try:
        yield from _json_stream(stripped) if form == "JSON" else yaml.load_all(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError) as error:  # a ValueError: bad JSON, or a number of thousands of digits
        raise InputError(f"{source}: not {form}: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise InputError(f"{source}: not {form}: nested too deeply") from error


def _nesting_problem(node: Any, above: frozenset[int], done: set[int]) -> str:  # noqa: ANN401 - any YAML value
    """Say why a value cannot be walked through, empty if it can; what an alias repeats is looked at once."""
    if not isinstance(node, dict | list) or id(node) in done:
        return ""
    if id(node) in above:
        return "contains itself by a YAML alias; write the value out"
    if len(above) >= MOST_NESTING:
        return f"nested deeper than {MOST_NESTING} levels"
    parts = node.values() if isinstance(node, dict) else node
    problems = (_nesting_problem(part, above | {id(node)}, done) for part in parts)
    found = next(filter(None, problems), "")
    done.add(id(node))
    return found


def _json_stream(text: str) -> Iterator[Any]:
    decoder = json.JSONDecoder()
    while text:
        value, end = decoder.raw_decode(text)
        yield value
        text = text[end:].lstrip().removeprefix("---").lstrip()


def _opened(document: Any, where: str) -> Iterable[Any]:  # noqa: ANN401 - any YAML value
    if document is None:
        return ()
    if isinstance(document, list):
        return document
    if isinstance(document, dict) and str(document.get("kind", "")).endswith("List") and "items" in document:
        if not isinstance(document["items"], list):
            raise InputError(f"{where}: items must be a list")
        return document["items"]
    return (document,)


def _checked(obj: Any, where: str) -> Object:  # noqa: ANN401 - any YAML value
    if not isinstance(obj, dict):
        raise InputError(f"{where}: an object is needed, found {type(obj).__name__}")
    kind, metadata = obj.get("kind"), obj.get("metadata")
    if not isinstance(kind, str) or not kind:
        raise InputError(f"{where}: kind is missing; write the object as kubectl prints it")
    name = (metadata.get("name") or metadata.get("generateName")) if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(name, str):
        raise InputError(f"{where}: metadata.name of a {kind} is missing")
    for field in ("labels", "annotations"):
        texts = metadata.get(field) or {}
        if not isinstance(texts, dict) or not all(isinstance(value, str) for value in texts.values()):
            raise InputError(f"{where}: {kind} {name}: metadata.{field} must map text to text; quote values")
    if is_checkpoint(obj):
        _check_types(obj, f"{where}: {kind} {name}")
    return obj


def namespace_of(obj: Object, insisted: str | None, usual: str) -> str:
    """Return the namespace of a manifest: its own, else that of the command line, else the usual one.

    Raises:
        UserError: the manifest and the command line name different ones.
    """
    metadata = obj.get("metadata") or {}
    own = metadata.get("namespace")
    if own and insisted and own != insisted:
        name = f"{obj.get('kind')} {metadata.get('name') or metadata.get('generateName')}"
        raise UserError(f"{name} says namespace {own}, -n says {insisted}; leave one of them out")
    return str(own or insisted or usual)


def is_checkpoint(obj: Object) -> bool:
    """Return whether this is a DynamoCheckpoint."""
    return obj.get("kind") == keys.CHECKPOINT_KIND and str(obj.get("apiVersion", "")).startswith(f"{keys.GROUP}/")


def claims_in(objects: Iterable[Object]) -> Callable[[str], Claims]:
    """Look a claim up by its name among a file's objects; if those hold no claim at all, nothing is known."""
    stored = {
        (obj["metadata"]["namespace"], obj["metadata"]["name"]): obj
        for obj in objects
        if obj["kind"] == "PersistentVolumeClaim"
    }
    return lambda name: (lambda where: claim_state(stored.get((where, name)))) if stored else unknown


def _check_types(obj: Object, where: str) -> None:
    """Only what could not be computed with at all: whether a value is a good one is for the decision to say."""
    if not isinstance(obj.get("status") or {}, dict):
        raise InputError(f"{where}: status must be an object")
    try:
        DynamoCheckpoint.model_validate({**obj, "status": None})
    except ValidationError as error:
        wrong = [detail for detail in error.errors() if detail["type"].endswith("_type")]
        if wrong:
            problems = "; ".join(f"{dotted(detail['loc'])}: {detail['msg']}" for detail in wrong)
            raise InputError(f"{where}: {problems}") from error
