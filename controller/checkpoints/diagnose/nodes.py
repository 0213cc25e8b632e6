"""What the nodes are, by what their agents say on their own pods."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Final

from contract.api import keys
from contract.api.checkpoint import annotations_of
from contract.api.conditions import is_true
from contract.nodes.node_facts import NodeFacts, read_source
from kube.api import Object
from kube.informer import Handler, Informer
from kube.store import Change

MAX_FACTS: Final = 16 << 10
"""Characters; an honest agent needs some hundred."""
SELECTOR: Final = f"{keys.LABEL_AGENT}={keys.LABEL_AGENT_VALUE}"


def kept_agent_pod(pod: Object) -> Object:
    """Return of an agent's pod what says whether it serves its node, and what the node is."""
    metadata = {key: value for key, value in pod["metadata"].items() if key in _METADATA}
    text = annotations_of(pod).get(keys.ANN_RESTORE_NODE)
    metadata["annotations"] = {keys.ANN_RESTORE_NODE: text} if text else {}
    return {"metadata": metadata, "status": {"conditions": (pod.get("status") or {}).get("conditions") or ()}}


_METADATA: Final = frozenset({"name", "namespace", "uid", "resourceVersion", "deletionTimestamp"})


def facts_of(pod: Object) -> NodeFacts | None:
    """Return what the node of an agent's pod is; None if the agent is not ready, or does not say."""
    text = annotations_of(pod).get(keys.ANN_RESTORE_NODE, "")
    if len(text) > MAX_FACTS or pod["metadata"].get("deletionTimestamp") or not is_true(pod, "Ready"):
        return None
    try:
        found = read_source(json.loads(text))
    except (ValueError, RecursionError):
        return None
    return found.facts if found is not None else None


class Nodes:
    """The kinds of nodes that there are; counted again only after one has changed."""

    def __init__(self, agent_pods: Informer) -> None:
        self._pods = agent_pods
        self._kinds: Mapping[NodeFacts, int] | None = None
        self._handlers: list[Handler] = []
        agent_pods.add_handler(self._changed)

    def kinds(self) -> Mapping[NodeFacts, int] | None:
        """Return how many nodes there are of each kind; None if that is not known yet."""
        if self._kinds is None and self._pods.synced.is_set():
            self._kinds = Counter(facts for pod in self._pods.store if (facts := facts_of(pod)) is not None)
        return self._kinds

    def add_handler(self, handler: Handler) -> None:
        """Call *handler* when a node comes, goes or becomes another."""
        self._handlers.append(handler)

    def _changed(self, change: Change) -> None:
        before, after = (facts_of(pod) if pod is not None else None for pod in change)
        if before == after:
            return
        self._kinds = None
        for handler in self._handlers:
            handler(change)
