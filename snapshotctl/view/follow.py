"""``snapshotctl get --watch``: a line for each change, from the table that was printed on, none left out.

The table and each new list are looks at one moment; what changed between two of them is printed as if watched.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from kube.errors import GoneError
from kube.store import key_of
from snapshotctl.view import table
from snapshotctl.view.inventory import Inventory, take
from snapshotctl.view.listing import View, cells_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from kube.api import Object
    from snapshotctl.live.cluster import Session


async def follow(session: Session, view: View, names: set[str], inventory: Inventory) -> None:
    """Print a line for each change since *inventory*; never ends by itself.

    Raises:
        KubeError: the cluster stopped answering.
    """
    known = list(view.objects(inventory))
    widths = _widths(session, view, inventory)

    async def show(kind: str, obj: Object) -> None:
        if not names or obj["metadata"]["name"] in names:
            look = await take(session.kube, session.scope)
            click.echo(_line_of(view, kind, obj, look, session, widths))

    while True:
        listing = await session.kube.list(view.resource, session.scope, labels=view.labels)
        for kind, obj in missed(known, listing.items):
            await show(kind, obj)
        current = {key_of(obj): obj for obj in listing.items}
        version = listing.resource_version
        try:
            while True:
                stream = session.kube.watch(view.resource, session.scope, resource_version=version, labels=view.labels)
                async for event in stream:
                    version = str(event.object["metadata"].get("resourceVersion", version))
                    if event.type == "BOOKMARK":
                        continue
                    current.pop(key_of(event.object), None)
                    if event.type != "DELETED":
                        current[key_of(event.object)] = event.object
                    await show(event.type, event.object)
        except GoneError:
            known = list(current.values())


def missed(known: Iterable[Object], listed: Iterable[Object]) -> Iterator[tuple[str, Object]]:
    """List what a watch would have said between two looks, as far as the looks show: its kind, and the object."""
    before = {key_of(obj): obj for obj in known}
    for obj in listed:
        was = before.pop(key_of(obj), None)
        if was is None:
            yield "ADDED", obj
        elif was["metadata"].get("resourceVersion") != obj["metadata"].get("resourceVersion"):
            yield "MODIFIED", obj
    yield from (("DELETED", obj) for obj in before.values())


def _line_of(view: View, kind: str, obj: Object, inventory: Inventory, session: Session, widths: Sequence[int]) -> str:
    fact = view.facts(obj, inventory)
    if kind == "DELETED":
        fact |= {"reason": "deleted", "code": "deleted", "phase": "deleted"}
    return table.line(cells_of(view, fact, datetime.now(UTC), everywhere=session.everywhere), widths)


def _widths(session: Session, view: View, inventory: Inventory) -> list[int]:
    now = datetime.now(UTC)
    headers = ["NAMESPACE", *view.headers] if session.everywhere else list(view.headers)
    rows = [cells_of(view, fact, now, everywhere=session.everywhere) for fact in view.facts_of(inventory)]
    return table.measured([headers, *rows])
