"""The node's label ``nvidia.com/snapshot-node=ready``: captures and shaped pods may land here.

The label says that a shaped pod *can start* on this node (the seccomp profile that it names is in place). It stays when
the agent goes: standby then starts workers cold, which a missing label would only delay.
"""

import asyncio
import logging
from pathlib import Path
from typing import Final, NoReturn

from agent.orders import Engine
from contract import keys
from kube.errors import KubeError
from kube.resources import NODES
from kube.seam import Kube

CHECK_SECONDS: Final = 30.0
logger = logging.getLogger(__name__)


class NodeMark:
    """Keeps the node's label true to what the node can do."""

    def __init__(self, kube: Kube, engine: Engine, node: str, profile: Path | None) -> None:
        self._kube = kube
        self._engine = engine
        self._node = node
        self._profile = profile
        self.problems: tuple[str, ...] = ("not checked yet",)

    async def run(self) -> NoReturn:
        """Check and label until cancelled."""
        while True:
            await self.settle()
            await asyncio.sleep(CHECK_SECONDS)

    async def settle(self) -> None:
        """Check once, and write the label where it differs."""
        found = await self._engine.check()
        if self._profile and not self._profile.is_file():
            found = (*found, f"the seccomp profile {self._profile} is not in place; is seccomp.deploy on?")
        if found != self.problems:
            logger.info("node checked", extra={"problems": list(found)})
        self.problems = found
        wanted = None if found else keys.NODE_READY_VALUE
        try:
            node = await self._kube.get(NODES, self._node)
            if node["metadata"].get("labels", {}).get(keys.LABEL_NODE_READY) != wanted:
                body = {"metadata": {"labels": {keys.LABEL_NODE_READY: wanted}}}
                await self._kube.patch(NODES, self._node, body)
        except KubeError as error:
            logger.warning("node label not written: %s", error)

    def problem(self) -> str | None:
        """Return what keeps the agent from being ready, for its health check."""
        return "; ".join(self.problems) or None
