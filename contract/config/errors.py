"""Validation errors in the user's words: the path as written in YAML, what is wrong, what to write instead."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from contract.config import patterns

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_SHOWN = 80
_REMEDIES = {
    "string_type": "quote it (with Helm: --set-string)",
    "bool_type": "write true or false without quotes",
    "int_type": "write a whole number without quotes",
}


def describe(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Return one line for each problem, in the order of the document.

    Args:
        error: what pydantic found.
        model: the model of the document's root, to suggest the key that was meant.
    """
    return [_line(detail, model) for detail in error.errors(include_url=False)]


def _line(detail: ErrorDetails, model: type[BaseModel]) -> str:
    path = dotted(detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{path}: unknown key; {_suggest(detail['loc'], model)}"
    remedy = _REMEDIES.get(detail["type"])
    found = repr(detail["input"])
    shown = found if len(found) <= _SHOWN else found[:_SHOWN] + "..."
    if write := patterns.REMEDIES.get(str((detail.get("ctx") or {}).get("pattern"))):
        return f"{path}: cannot be {shown}; {write}"
    message = detail["msg"][0].lower() + detail["msg"][1:]
    return f"{path}: {message}, found {shown}" + (f"; {remedy}" if remedy else "")


def dotted(location: Iterable[int | str]) -> str:
    """Return ``("spec", "containers", 0)`` as ``spec.containers[0]``."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".") or "(document)"


def _suggest(location: tuple[int | str, ...], model: type[BaseModel]) -> str:
    known = sorted(_keys_at(location[:-1], model))
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    if near:
        return f"did you mean {near[0]}?"
    return f"known here: {', '.join(known)}" if known else "remove it"


def _keys_at(location: Iterable[int | str], model: type[BaseModel]) -> set[str]:
    current: type[BaseModel] | None = model
    for part in location:
        if isinstance(part, str) and current is not None:
            current = _child(current, part)
    return set() if current is None else {field.alias or name for name, field in current.model_fields.items()}


def _child(model: type[BaseModel], key: str) -> type[BaseModel] | None:
    for name, field in model.model_fields.items():
        if key in (name, field.alias):
            return _model_in(field.annotation)
    return None


def _model_in(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - a type expression
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, (_model_in(inner) for inner in get_args(annotation))), None)
