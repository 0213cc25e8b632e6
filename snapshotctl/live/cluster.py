"""How a verb reaches the cluster: the options that all of them share, one connection, errors in plain words.

Nothing heavy is imported before there is work to do, so that help and completion stay fast.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

if TYPE_CHECKING:
    from kube.client import Client

EXIT_FAILED: Final = 1
EXIT_COLD: Final = 3
EXIT_INTERRUPTED: Final = 130
Answer = TypeVar("Answer")
Verb = Callable[..., None]


class UserError(Exception):
    """Something that the caller can put right; the message says how."""


@dataclass(frozen=True)
class Reach:
    """Which cluster, and which namespaces of it."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None
    everywhere: bool = False


@dataclass(frozen=True)
class Session:
    """An open connection."""

    kube: Client
    namespace: str
    """The namespace that is meant where none is written."""
    everywhere: bool

    @property
    def scope(self) -> str | None:
        """The namespace to list; None for all of them."""
        return None if self.everywhere else self.namespace


def reach_options(*, everywhere: bool = False) -> Callable[[Verb], Verb]:
    """``-n``, ``--kube-context``, ``--kubeconfig`` and, where it makes sense, ``-A``; the verb gets a ``reach``."""

    def decorate(verb: Verb) -> Verb:
        def with_reach(**options: Any) -> None:  # noqa: ANN401 - what click parsed
            reach = Reach(
                options.pop("kubeconfig"),
                options.pop("kube_context"),
                options.pop("namespace"),
                everywhere=options.pop("everywhere", False),
            )
            verb(reach=reach, **options)

        with_reach.__doc__ = verb.__doc__
        with_reach.__click_params__ = list(getattr(verb, "__click_params__", []))  # type: ignore[attr-defined]
        wrapped: Verb = with_reach
        for option in reversed(_options(everywhere=everywhere)):
            wrapped = option(wrapped)
        return wrapped

    return decorate


def _options(*, everywhere: bool) -> list[Callable[[Verb], Verb]]:
    from snapshotctl.live.complete_names import complete_context, complete_namespace  # noqa: PLC0415 - it needs this module

    found: list[Callable[[Verb], Verb]] = [
        click.option("-n", "--namespace", shell_complete=complete_namespace, help="Without: the context's namespace.")
    ]
    if everywhere:
        found.append(click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="All namespaces."))
    return [
        *found,
        click.option("--kube-context", metavar="NAME", shell_complete=complete_context, help="Without: the current."),
        click.option("--kubeconfig", metavar="FILE", help="Without: $KUBECONFIG, the pod's account, ~/.kube/config."),
    ]


def on_cluster(reach: Reach, work: Callable[[Session], Awaitable[Answer]]) -> Answer:
    """Do *work* with a connection; whatever keeps it from being done ends the command with words about it."""
    from kube.errors import KubeError  # noqa: PLC0415 - --help imports nothing
    from snapshotctl.live.errors import explain  # noqa: PLC0415 - as above

    try:
        return asyncio.run(_work(reach, work))
    except UserError as error:
        fail(str(error))
    except KubeError as error:
        fail(explain(error))
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


async def _work(reach: Reach, work: Callable[[Session], Awaitable[Answer]]) -> Answer:
    from kube.client import connect  # noqa: PLC0415 - --help imports nothing

    async with await connect(reach.kubeconfig, reach.context, user_agent="snapshotctl") as kube:
        return await work(Session(kube, reach.namespace or kube.namespace, reach.everywhere))


def fail(message: str) -> NoReturn:
    """End with the exit status of failure."""
    click.echo(f"error: {message}", err=True)
    sys.exit(EXIT_FAILED)
