"""The CustomResourceDefinition, generated from the models of ``contract.crds.checkpoint``.

What pydantic writes is JSON schema; Kubernetes wants a structural one: no references, no alternatives with null,
every part with its type.
"""

from __future__ import annotations

import copy
from typing import Any, Final

from pydantic import BaseModel

from contract.api import keys
from contract.api.states import ConditionType
from contract.config.patterns import REMEDIES
from contract.crds.checkpoint import DynamoCheckpoint, rule

Json = dict[str, Any]

FILE_NAME: Final = f"{keys.GROUP}_{keys.CHECKPOINT_PLURAL}.yaml"
_READY: Final = f'.status.conditions[?(@.type=="{ConditionType.READY}")]'
_COLUMNS: Final = (
    ("Model", "string", ".spec.identity.model", 0),
    ("Backend", "string", ".spec.identity.backendFramework", 0),
    ("Phase", "string", ".status.phase", 0),
    ("CheckpointID", "string", ".status.checkpointID", 0),
    ("Reason", "string", f"{_READY}.reason", 1),
    ("Size", "integer", ".status.size", 1),
    ("Message", "string", ".status.message", 1),
    ("Age", "date", ".metadata.creationTimestamp", 0),
)


def crd() -> Json:
    """Return the CRD of DynamoCheckpoint."""
    version = {
        "selectableFields": [{"jsonPath": ".status.phase"}],
        "additionalPrinterColumns": [column(*each) for each in _COLUMNS],
        "schema": {"openAPIV3Schema": structural_schema()},
    }
    return definition(keys.CHECKPOINT_KIND, keys.CHECKPOINT_PLURAL, keys.CHECKPOINT_SHORT_NAME, version)


def definition(kind: str, plural: str, short_name: str, version: Json) -> Json:
    """Return a namespaced CRD of our group with one version, which has a status."""
    names = {
        "kind": kind,
        "listKind": f"{kind}List",
        "plural": plural,
        "singular": kind.lower(),
        "shortNames": [short_name],
    }
    served = {"name": keys.VERSION, "served": True, "storage": True, "subresources": {"status": {}}, **version}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{keys.GROUP}"},
        "spec": {"group": keys.GROUP, "names": names, "scope": "Namespaced", "versions": [served]},
    }


def structural_schema(model: type[BaseModel] = DynamoCheckpoint) -> Json:
    """Return the structural schema of an object."""
    schema = model.model_json_schema(by_alias=True)
    result: Json = _structural(schema, schema.get("$defs", {}))
    # The API server knows metadata itself and allows no word about its fields here.
    result["properties"]["metadata"] = {"type": "object"}
    return result


def column(name: str, kind: str, path: str, priority: int) -> Json:
    """Return a column of ``kubectl get``; those of priority 1 are shown with ``-o wide``."""
    shown: Json = {"name": name, "type": kind, "jsonPath": path}
    return shown | ({"priority": priority} if priority else {})


def _structural(node: Json, definitions: Json) -> Json:
    resolved = _resolved(node, definitions)
    result = {key: copy.deepcopy(value) for key, value in resolved.items() if key not in {"title", "$defs"}}
    if result.get("default", ...) is None:
        del result["default"]
    if "properties" in result:
        result["properties"] = {key: _structural(value, definitions) for key, value in resolved["properties"].items()}
    if isinstance(result.get("items"), dict):
        result["items"] = _structural(resolved["items"], definitions)
    _map_schema(result, definitions)
    _say_what_to_write(result)
    if result.get("type", ...) is None:
        del result["type"]
    if "const" in result:
        result["enum"] = [result.pop("const")]
    if "description" in result:
        result["description"] = " ".join(result["description"].split())
    return result


def _map_schema(result: Json, definitions: Json) -> None:
    """Mark free maps as keeping unknown fields; others say what their values are."""
    values = result.pop("additionalProperties", None)
    if isinstance(values, dict) and "x-kubernetes-preserve-unknown-fields" not in result:
        result["additionalProperties"] = _structural(values, definitions)


def _say_what_to_write(result: Json) -> None:
    """Have a rule judge a text, in place of a pattern: the API server answers with the rule's words."""
    if (pattern := result.pop("pattern", None)) is not None:
        matches = f"self.matches(r'{pattern}')"
        either = f"type(self) == int ? self >= 0 : {matches}"
        words = rule(either if result.get("x-kubernetes-int-or-string") else matches, REMEDIES[pattern])
        result["x-kubernetes-validations"] = [*result.get("x-kubernetes-validations", ()), words]


def _resolved(node: Json, definitions: Json) -> Json:
    """Return ``node`` without its reference and without the alternative null, its own words before the reference's."""
    result = dict(node)
    alternatives = result.pop("anyOf", None)
    if alternatives:
        (inner,) = [item for item in alternatives if item.get("type") != "null"]
        result = {**_resolved(inner, definitions), **result}
    reference = result.pop("$ref", None)
    if reference:
        result = {**_resolved(definitions[reference.rsplit("/", 1)[1]], definitions), **result}
    return result
