"""Names for the shell's completion, asked of the cluster; nothing at all where it does not answer at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from kube.resources import Resource

PATIENCE: Final = 2.0
"""Seconds that a person waits after the tab key without wondering."""

Completer = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]


def complete_checkpoint(ctx: click.Context, _: click.Parameter, typed: str) -> list[CompletionItem]:
    """DynamoCheckpoints of the namespace."""
    from kube.resources import CHECKPOINTS  # noqa: PLC0415 - --help imports nothing

    return _live(ctx, CHECKPOINTS, typed)


def complete_kind_or_checkpoint(ctx: click.Context, parameter: click.Parameter, typed: str) -> list[CompletionItem]:
    """The kinds of ``get``, then names of that kind."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - as above

    said = ctx.params.get("what") or ()
    if said and said[0].startswith("po"):
        return complete_pod(ctx, parameter, typed)
    kinds = [] if said else [each for each in ("checkpoints", "pods") if each.startswith(typed)]
    return [CompletionItem(kind) for kind in kinds] + complete_checkpoint(ctx, parameter, typed)


def complete_pod(ctx: click.Context, _: click.Parameter, typed: str) -> list[CompletionItem]:
    """Pods of the namespace."""
    from kube.resources import PODS  # noqa: PLC0415 - as above

    return _live(ctx, PODS, typed)


def complete_namespace(ctx: click.Context, _: click.Parameter, typed: str) -> list[CompletionItem]:
    """Namespaces of the cluster."""
    from kube.resources import NAMESPACES  # noqa: PLC0415 - as above

    return _live(ctx, NAMESPACES, typed)


def complete_context(ctx: click.Context, _: click.Parameter, typed: str) -> list[CompletionItem]:
    """Contexts of the kubeconfig."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - as above

    from kube.login import contexts  # noqa: PLC0415 - as above

    return [CompletionItem(name) for name in contexts(ctx.params.get("kubeconfig")) if name.startswith(typed)]


def _live(ctx: click.Context, resource: Resource, typed: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - as above

    import kube.client  # noqa: F401, PLC0415 - before the clock starts: on a busy machine it takes most of the time

    try:
        names = asyncio.run(asyncio.wait_for(_names(ctx, resource), PATIENCE))
    except Exception:  # noqa: BLE001 - a traceback in the middle of a command line helps nobody
        return []
    return [CompletionItem(name) for name in names if name.startswith(typed)]


async def _names(ctx: click.Context, resource: Resource) -> list[str]:
    from kube.client import connect  # noqa: PLC0415 - as above

    given = ctx.params.get
    async with await connect(given("kubeconfig"), given("kube_context"), user_agent="snapshotctl") as kube:
        scope = (given("namespace") or kube.namespace) if resource.namespaced else None
        listing = await kube.list(resource, scope)
    return [str(obj["metadata"]["name"]) for obj in listing.items]
