"""Two views of the inventory, as tables and as documents."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import yaml

from controller.workloads.pods import OPTED_IN
from kube.api import Object
from kube.resources import CHECKPOINTS, PODS, Resource
from snapshotctl.view import table
from snapshotctl.view.inventory import (
    CHECKPOINT_HEADERS,
    POD_HEADERS,
    Inventory,
    checkpoint_facts,
    checkpoint_row,
    pod_facts,
    pod_row,
)


@dataclass(frozen=True)
class View:
    """One kind of thing to list."""

    noun: str
    prefix: str
    """Before a name, as ``kubectl get -o name`` writes it."""
    resource: Resource
    labels: str
    """Selects what is watched."""
    headers: Sequence[str]
    facts: Callable[[Object, Inventory], Object]
    row: Callable[[Object, datetime], list[str]]
    objects: Callable[[Inventory], Sequence[Object]]

    def facts_of(self, inventory: Inventory) -> list[Object]:
        """Return all of them."""
        return [self.facts(obj, inventory) for obj in self.objects(inventory)]


VIEWS: Final = {
    "checkpoints": View(
        noun="checkpoints",
        prefix=f"{CHECKPOINTS.plural}.{CHECKPOINTS.group}",
        resource=CHECKPOINTS,
        labels="",
        headers=CHECKPOINT_HEADERS,
        facts=checkpoint_facts,
        row=checkpoint_row,
        objects=lambda inventory: inventory.checkpoints,
    ),
    "pods": View(
        noun="pods that opted in",
        prefix="pod",
        resource=PODS,
        labels=OPTED_IN,
        headers=POD_HEADERS,
        facts=pod_facts,
        row=pod_row,
        objects=lambda inventory: inventory.pods,
    ),
}


def as_table(view: View, facts: Sequence[Object], *, everywhere: bool) -> str:
    """Align columns, the namespace first if there are several."""
    now = datetime.now(UTC)
    headers = ["NAMESPACE", *view.headers] if everywhere else list(view.headers)
    return (
        "\n".join(table.columns(headers, [cells_of(view, fact, now, everywhere=everywhere) for fact in facts])) + "\n"
    )


def as_document(document: Any, form: str) -> str:  # noqa: ANN401 - any JSON value
    """Return it as JSON or YAML."""
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return text if form == "json" else yaml.safe_dump(json.loads(text), sort_keys=False, allow_unicode=True)


def cells_of(view: View, fact: Object, now: datetime, *, everywhere: bool) -> list[str]:
    """Fill one line of the table, the namespace first if there are several."""
    cells = view.row(fact, now)
    return [fact["namespace"], *cells] if everywhere else cells
