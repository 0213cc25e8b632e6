"""One connection to the cluster for one command, and its errors in words that say what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from kube.client import Client, connect
from kube.errors import KubeError
from snapshotctl.errors import UserError
from snapshotctl.live.errors import explain
from snapshotctl.live.reach import Reach

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Session:
    """An open connection."""

    kube: Client
    namespace: str
    """The namespace of what names none."""
    everywhere: bool

    @property
    def scope(self) -> str | None:
        """The namespace to list; None for all of them."""
        return None if self.everywhere else self.namespace

    @property
    def place(self) -> str:
        """The scope in words."""
        return "any namespace" if self.everywhere else f"namespace {self.namespace}"


def on_cluster(reach: Reach, work: Callable[[Session], Awaitable[Answer]]) -> Answer:
    """Do *work* with a connection.

    Raises:
        UserError: the cluster refuses or does not answer.
    """
    try:
        return asyncio.run(_work(reach, work))
    except KubeError as error:
        raise UserError(explain(error)) from error


async def _work(reach: Reach, work: Callable[[Session], Awaitable[Answer]]) -> Answer:
    async with await connect(reach.kubeconfig, reach.context, user_agent="snapshotctl") as kube:
        return await work(Session(kube, reach.namespace or kube.namespace, reach.everywhere))
