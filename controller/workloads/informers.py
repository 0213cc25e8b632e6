"""Live copies of the pods that opted in: those with the label, and those of graph deployments."""

from collections.abc import Iterator

from controller.workloads import pods
from kube.api import KubeClient, Object
from kube.informer import Handler, Informer
from kube.resources import PODS
from kube.store import Key, key_of


class PodInformers:
    """Two copies that together hold each pod once: no selector can ask for a label or an annotation."""

    def __init__(self, kube: KubeClient, namespace: str | None) -> None:
        self.labelled = _copy(kube, namespace, pods.OPTED_IN)
        self.of_graphs = _copy(kube, namespace, pods.OF_GRAPHS)

    @property
    def all(self) -> tuple[Informer, Informer]:
        """Both of them."""
        return self.labelled, self.of_graphs

    def __iter__(self) -> Iterator[Object]:
        for informer in self.all:
            yield from informer.store

    def add_handler(self, handler: Handler) -> None:
        """Call *handler* on every change of either."""
        for informer in self.all:
            informer.add_handler(handler)

    def get(self, key: Key) -> Object | None:
        """Return the pod, or None."""
        return self.labelled.store.get(*key) or self.of_graphs.store.get(*key)

    def naming(self, checkpoint: Key) -> tuple[Object, ...]:
        """Return the pods that name a checkpoint."""
        value = "/".join(checkpoint)
        return tuple(pod for informer in self.all for pod in informer.store.by_index(pods.BY_CHECKPOINT, value))

    def learn(self, pod: Object) -> None:
        """Take in the answer of a write."""
        known = self.labelled if self.labelled.store.get(*key_of(pod)) else self.of_graphs
        known.learn(pod)


def _copy(kube: KubeClient, namespace: str | None, labels: str) -> Informer:
    indexers = {pods.BY_CHECKPOINT: pods.by_checkpoint}
    return Informer(kube, PODS, namespace, labels=labels, indexers=indexers, keep=pods.kept)
