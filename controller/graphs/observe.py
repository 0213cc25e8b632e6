"""Gather what there is to know about one graph: from informers, and by a call only if a cache cannot know it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from contract.api import keys
from contract.api.checkpoint import controller_of, id_of, is_automatic, labels_of
from contract.api.states import Phase, StartupPolicy
from controller.graphs.observed import Observed, is_ours
from controller.graphs.services import references_of, services_of
from kube.api import KubeClient, Object
from kube.errors import NotFoundError
from kube.informer import Informer, learn
from kube.queue import WorkQueue
from kube.resources import DEPLOYMENTS, GRAPHS, Resource
from kube.store import Change, Key, key_of

BY_GRAPH: Final = "graph"
BY_REFERENCE: Final = "reference"


def _index_graph(obj: Object) -> Iterable[str]:
    name = labels_of(obj).get(keys.LABEL_GRAPH)
    return (f"{key_of(obj)[0]}/{name}",) if name else ()


def _index_references(graph: Object) -> Iterable[str]:
    return (f"{key_of(graph)[0]}/{reference}" for reference in references_of(graph))


@dataclass(frozen=True, slots=True)
class Informers:
    """Informers of all that matters; of Deployments only those that we made."""

    graphs: Informer
    deployments: Informer
    checkpoints: Informer

    def own(self) -> dict[str, Informer]:
        """Those that no other controller of this process runs."""
        return {"graphs": self.graphs, "deployments of graphs": self.deployments}

    def learn(self, resource: Resource, obj: Object) -> None:
        """Take in the answer of a write."""
        learn((self.graphs, self.deployments, self.checkpoints), resource, obj)

    def wake(self, queue: WorkQueue[Key]) -> None:
        """Have every graph looked at that a change of anything may concern."""
        self.graphs.add_handler(lambda change: queue.add(key_of(change.object)))
        self.deployments.add_handler(partial(_wake_owner, queue))
        self.checkpoints.add_handler(partial(_wake_owner, queue))
        self.checkpoints.add_handler(partial(_wake_referrers, queue, self.graphs))


def make_informers(kube: KubeClient, namespace: str | None, checkpoints: Informer) -> Informers:
    """Make informers of *namespace*, or of all namespaces if it is None; nothing runs yet."""
    ours = f"{keys.LABEL_MANAGED_BY}={keys.MANAGED_BY_VALUE},{keys.LABEL_GRAPH}"
    return Informers(
        graphs=Informer(kube, GRAPHS, namespace, indexers={BY_REFERENCE: _index_references}),
        deployments=Informer(kube, DEPLOYMENTS, namespace, labels=ours, indexers={BY_GRAPH: _index_graph}),
        checkpoints=checkpoints,
    )


class Observer:
    """Looks at one graph at a time."""

    def __init__(self, kube: KubeClient, informers: Informers) -> None:
        self._kube = kube
        self._informers = informers

    def labelled(self, key: Key) -> tuple[Object, ...]:
        """Automatic checkpoints that carry a graph's name."""
        namespace, name = key
        return tuple(
            each
            for each in self._informers.checkpoints.store
            if labels_of(each).get(keys.LABEL_GRAPH) == name and key_of(each)[0] == namespace and is_automatic(each)
        )

    async def graph(self, key: Key) -> Object | None:
        """Return the graph; only the API server says that there is none, the informer may not know it yet.

        Raises:
            KubeError: a call failed.
        """
        namespace, name = key
        known = self._informers.graphs.store.get(namespace, name)
        if known is not None or not self.labelled(key):
            return known
        try:
            return await self._kube.get(GRAPHS, name, namespace)
        except NotFoundError:
            return None

    async def observe(self, graph: Object, refusals: Mapping[str, str]) -> Observed:
        """Everything about one graph.

        Raises:
            KubeError: a call failed.
        """
        namespace, name = key_of(graph)
        uid = graph["metadata"]["uid"]
        known = self._informers.deployments.store.by_index(BY_GRAPH, f"{namespace}/{name}")
        ours = {each["metadata"]["name"]: each for each in known if is_ours(each, name, uid)}
        return Observed(
            graph=graph,
            deployments=ours,
            taken=await self._taken(graph, ours),
            checkpoint=partial(self._informers.checkpoints.store.get, namespace),
            referred=self._referred(graph),
            labelled=self.labelled((namespace, name)),
            refusals=refusals,
        )

    async def _taken(self, graph: Object, ours: Mapping[str, Object]) -> dict[str, str]:
        """Names that are taken: our informer knows only Deployments with our label, so the others are asked for."""
        namespace, name = key_of(graph)
        wanted = {service.deployment for service in services_of(graph, StartupPolicy.IMMEDIATE)}
        found = {}
        for each in sorted(wanted - ours.keys()):
            try:
                there = await self._kube.get(DEPLOYMENTS, each, namespace)
            except NotFoundError:
                continue
            if not is_ours(there, name, graph["metadata"]["uid"]):
                owner = controller_of(there)
                found[each] = f"{owner['kind']} {owner['name']} ({owner['uid']})" if owner else "none that we know"
        return found

    def _referred(self, graph: Object) -> dict[str, str]:
        """Return for each reference the checkpoint of that name, else the best of that id."""
        namespace = key_of(graph)[0]
        store = self._informers.checkpoints.store
        found = {}
        for reference in references_of(graph):
            if store.get(namespace, reference) is not None:
                found[reference] = reference
                continue
            same_id = (each for each in store if key_of(each)[0] == namespace and id_of(each) == reference)
            if best := min(same_id, key=_rank, default=None):
                found[reference] = key_of(best)[1]
        return found


def _rank(checkpoint: Object) -> tuple[bool, str, str]:
    metadata = checkpoint["metadata"]
    ready = (checkpoint.get("status") or {}).get("phase") == Phase.READY
    return not ready, str(metadata.get("creationTimestamp", "")), str(metadata["name"])


def _wake_owner(queue: WorkQueue[Key], change: Change) -> None:
    for obj in change:
        for value in _index_graph(obj) if obj is not None else ():
            namespace, _, name = value.partition("/")
            queue.add((namespace, name))


def _wake_referrers(queue: WorkQueue[Key], graphs: Informer, change: Change) -> None:
    namespace, name = key_of(change.object)
    ids = {id_of(obj) for obj in change if obj is not None}
    for reference in {name, *ids}:
        for graph in graphs.store.by_index(BY_REFERENCE, f"{namespace}/{reference}"):
            queue.add(key_of(graph))
