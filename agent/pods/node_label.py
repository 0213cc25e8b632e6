"""The node's labels: ``nvidia.com/snapshot-node=ready``, and what GPUs and driver the agent has found.

The first says that a shaped pod can start on this node and will be served. It stays when the agent ends: workers then
start cold after standby's five seconds, while a missing label would keep them from starting at all. The others are for
people and for node selectors: a GPU worker comes back only on the models and the driver that it was captured on.
"""

import asyncio
import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NoReturn

from agent.executor.api import NodeGpus, NodeView
from contract.api import keys
from contract.api.checkpoint import labels_of
from contract.nodes.node_facts import NodeFacts, Source
from kube.api import KubeClient, Object
from kube.errors import KubeError
from kube.recorder import Recorder
from kube.resources import NODES, PODS

CHECK_SECONDS: Final = 30.0
FIRST_CHECKS: Final = 1.0
"""Seconds between looks as long as the node is not ready: an installation waits for it."""
LONGEST_VALUE: Final = 63
"""Characters of a label's value, by Kubernetes' rule."""
logger = logging.getLogger(__name__)


def label_value(text: str) -> str:
    """Write a text in the letters of a label's value; empty if nothing is left."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("._-")[:LONGEST_VALUE].rstrip("._-")


def gpu_labels(gpus: NodeGpus | None) -> Mapping[str, str | None]:
    """Return the labels that say what GPUs a node has; None: the label is not there."""
    if gpus is None:
        return dict.fromkeys((keys.LABEL_GPU_MODEL, keys.LABEL_GPU_COUNT, keys.LABEL_GPU_DRIVER))
    models = set(gpus.models)
    model = keys.GPU_MODELS_DIFFER if len(models) > 1 else label_value("".join(models))
    return {
        keys.LABEL_GPU_MODEL: model or None,
        keys.LABEL_GPU_COUNT: str(len(gpus.models)),
        keys.LABEL_GPU_DRIVER: label_value(gpus.driver) or None,
    }


class NodeLabel:
    """Keeps the labels true to what the node can do and has.

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
        engine: NodeView,
        profile: Path | None,
    ) -> None:
        self._kube = kube
        self._recorder = recorder
        self._node = node
        self._own_pod = own_pod
        self._engine = engine
        self._profile = profile
        self._problems: tuple[str, ...] | None = None
        self._published: str | None = ""
        """Not known yet: a process before this one may have said something."""
        self._warned: dict[str, str] = {}
        """What does not work -> the last words about it."""

    async def run(self) -> NoReturn:
        """Check and label until cancelled."""
        while True:
            done = await self.settle()
            await asyncio.sleep(CHECK_SECONDS if done else FIRST_CHECKS)

    async def settle(self) -> bool:
        """Check once and write the labels that differ; return whether the node is ready and labelled so."""
        problems = await self._engine.check()
        if self._profile is not None and not self._profile.is_file():
            problems = (*problems, f"seccomp profile {self._profile} is not there; put it there, or set seccomp.deploy")
        try:
            await self._label({keys.LABEL_NODE_READY: None if problems else keys.NODE_READY_VALUE})
            await self._report(problems)
        except KubeError as error:
            self._warn("label not written", error)
            return False
        self._warned.pop("label not written", None)
        await self._label_gpus()
        facts = None if problems else await self._engine.facts()
        # What could not be read this time is as it was.
        if problems or facts is not None:
            await self._publish(facts)
        return not problems

    async def _publish(self, facts: NodeFacts | None) -> None:
        """Say on the agent's own pod what the node is; written only when it changes."""
        text = None if facts is None else json.dumps(Source(facts=facts).document(), separators=(",", ":"))
        if text == self._published:
            return
        namespace, name = self._own_pod
        try:
            await self._kube.patch(PODS, name, {"metadata": {"annotations": {keys.ANN_RESTORE_NODE: text}}}, namespace)
        except KubeError as error:
            self._warn("what it is could not be written", error)
            return
        self._warned.pop("what it is could not be written", None)
        self._published = text

    async def _label_gpus(self) -> None:
        """Write them apart: a policy of an earlier release refuses them, and the node is ready all the same."""
        try:
            await self._label(gpu_labels(await self._engine.gpus()))
        except KubeError as error:
            self._warn("labels of its GPUs not written", error)
            return
        self._warned.pop("labels of its GPUs not written", None)

    def _warn(self, what: str, error: KubeError) -> None:
        """Log a problem once, and again when it is another or has come back: each is tried again soon."""
        is_known = self._warned.get(what) == str(error)
        logger.log(logging.DEBUG if is_known else logging.WARNING, "node %s: %s: %s", self._node, what, error)
        self._warned[what] = str(error)

    async def _label(self, wanted: Mapping[str, str | None]) -> None:
        labels = labels_of(await self._kube.get(NODES, self._node))
        if changed := {key: value for key, value in wanted.items() if labels.get(key) != value}:
            await self._kube.patch(NODES, self._node, {"metadata": {"labels": changed}})

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
