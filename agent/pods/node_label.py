"""The node's label ``nvidia.com/snapshot-node=ready``: captures and shaped pods may land here.

The label says that a shaped pod can start on this node and will be served. It stays when the agent ends: workers then
start cold after standby's five seconds, while a missing label would keep them from starting at all.
"""

import asyncio
import logging
from pathlib import Path
from typing import Final, NoReturn

from agent.executor.api import Engine
from contract.api import keys
from contract.api.checkpoint import labels_of
from kube.api import KubeClient, Object
from kube.errors import KubeError
from kube.recorder import Recorder
from kube.resources import NODES, PODS

CHECK_SECONDS: Final = 30.0
FIRST_CHECKS: Final = 1.0
"""Seconds between looks as long as the node is not ready: an installation waits for it."""
logger = logging.getLogger(__name__)


class NodeLabel:
    """Keeps the label true to what the node can do.

    Args:
        kube: the API server.
        recorder: for Events on the agent's own pod.
        node: name of this node.
        own_pod: namespace and name of the agent's pod.
        engine: what captures and restores.
        profile: the seccomp profile that pods here will name; None if none is used.
    """

    def __init__(
        self,
        kube: KubeClient,
        recorder: Recorder,
        node: str,
        own_pod: tuple[str, str],
        engine: Engine,
        profile: Path | None,
    ) -> None:
        self._kube = kube
        self._recorder = recorder
        self._node = node
        self._own_pod = own_pod
        self._engine = engine
        self._profile = profile
        self._problems: tuple[str, ...] | None = None

    async def run(self) -> NoReturn:
        """Check and label until cancelled."""
        while True:
            done = await self.settle()
            await asyncio.sleep(CHECK_SECONDS if done else FIRST_CHECKS)

    async def settle(self) -> bool:
        """Check once and write the label if it differs; return whether the node is ready and labelled so."""
        problems = await self._engine.check()
        if self._profile is not None and not self._profile.is_file():
            problems = (*problems, f"seccomp profile {self._profile} is not there; put it there, or set seccomp.deploy")
        try:
            await self._label(None if problems else keys.NODE_READY_VALUE)
            await self._report(problems)
        except KubeError as error:
            logger.warning("node %s: label not written: %s", self._node, error)
            return False
        return not problems

    async def _label(self, wanted: str | None) -> None:
        node = await self._kube.get(NODES, self._node)
        if labels_of(node).get(keys.LABEL_NODE_READY) != wanted:
            body = {"metadata": {"labels": {keys.LABEL_NODE_READY: wanted}}}
            await self._kube.patch(NODES, self._node, body)

    async def _report(self, problems: tuple[str, ...]) -> None:
        """Say what changed, on the agent's pod: Events about nodes belong to a namespace that is not ours."""
        if problems == self._problems:
            return
        namespace, name = self._own_pod
        own: Object = await self._kube.get(PODS, name, namespace)
        self._problems = problems
        if problems:
            words = f"node {self._node} can neither capture nor restore: {'; '.join(problems)}"
            logger.error(words)
            self._recorder.record(own, "Warning", "NodeNotReady", words)
        else:
            logger.info("node is ready", extra={"node": self._node})
            self._recorder.record(own, "Normal", "NodeReady", f"node {self._node} can capture and restore")
