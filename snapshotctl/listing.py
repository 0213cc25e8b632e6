"""Two views of the inventory, as tables, as documents, and as lines that follow what happens."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click
import yaml

from kube.errors import GoneError
from kube.resources import CHECKPOINTS, PODS, Resource
from kube.seam import Object
from snapshotctl import table
from snapshotctl.inventory import (
    CHECKPOINT_HEADERS,
    POD_HEADERS,
    Inventory,
    checkpoint_facts,
    checkpoint_row,
    pod_facts,
    pod_row,
    take,
)
from workloads.pods import OPTED_IN

if TYPE_CHECKING:
    from snapshotctl.cluster import Session

Json = dict[str, Any]


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
    facts: Callable[[Object, Inventory], Json]
    row: Callable[[Json, datetime], list[str]]
    objects: Callable[[Inventory], Sequence[Object]]

    def facts_of(self, inventory: Inventory) -> list[Json]:
        """All of them."""
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


def as_table(view: View, facts: Sequence[Json], *, everywhere: bool) -> str:
    """Aligned columns, the namespace first where there are several."""
    now = datetime.now(UTC)
    headers = ["NAMESPACE", *view.headers] if everywhere else list(view.headers)
    return "\n".join(table.columns(headers, [_cells(view, fact, now, everywhere=everywhere) for fact in facts])) + "\n"


def as_document(document: Any, form: str) -> str:  # noqa: ANN401 - any JSON value
    """As JSON or YAML."""
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return text if form == "json" else yaml.safe_dump(json.loads(text), sort_keys=False, allow_unicode=True)


async def follow(session: Session, view: View, names: set[str], inventory: Inventory) -> None:
    """Print a line for each change from now on; never ends by itself.

    Raises:
        KubeError: the cluster stopped answering.
    """
    widths = _widths(session, view, inventory)
    while True:
        listing = await session.kube.list(view.resource, session.scope, labels=view.labels)
        version = listing.resource_version
        try:
            while True:
                stream = session.kube.watch(view.resource, session.scope, resource_version=version, labels=view.labels)
                async for event in stream:
                    version = str(event.object["metadata"].get("resourceVersion", version))
                    if event.type != "BOOKMARK" and (not names or event.object["metadata"]["name"] in names):
                        inventory = await take(session.kube, session.scope)
                        click.echo(_told(view, event.type, event.object, inventory, session, widths))
        except GoneError:
            continue


def _told(view: View, kind: str, obj: Object, inventory: Inventory, session: Session, widths: Sequence[int]) -> str:
    fact = view.facts(obj, inventory)
    if kind == "DELETED":
        fact |= {"reason": "deleted", "code": "deleted", "phase": "deleted"}
    return table.line(_cells(view, fact, datetime.now(UTC), everywhere=session.everywhere), widths)


def _widths(session: Session, view: View, inventory: Inventory) -> list[int]:
    now = datetime.now(UTC)
    headers = ["NAMESPACE", *view.headers] if session.everywhere else list(view.headers)
    rows = [_cells(view, fact, now, everywhere=session.everywhere) for fact in view.facts_of(inventory)]
    return table.measured([headers, *rows])


def _cells(view: View, fact: Json, now: datetime, *, everywhere: bool) -> list[str]:
    cells = view.row(fact, now)
    return [fact["namespace"], *cells] if everywhere else cells
