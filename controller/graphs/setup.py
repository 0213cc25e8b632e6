"""Set up the graph controller, if the installation serves graph deployments."""

from functools import partial
from typing import Final

from controller.graphs.act import Actor
from controller.graphs.observe import Informers, Observer, make_informers
from controller.graphs.reconciler import Reconciler
from controller.runtime.manager import ControllerSetup, ManagerContext
from kube.informer import synced
from kube.queue import WorkQueue
from kube.store import Key

WORKERS: Final = 4
"""Graphs handled at once: there are few, and each waits for the API server nearly all the time."""


def set_up(context: ManagerContext) -> ControllerSetup:
    """Nothing if ``graphDeployments.enabled`` is false: then not even the kind need exist."""
    if not context.values.graph_deployments.enabled:
        return ControllerSetup()
    informers = make_informers(context.kube, context.settings.watched_namespace, context.checkpoints)
    queue: WorkQueue[Key] = WorkQueue()
    informers.wake(queue)
    observer, actor = Observer(context.kube, informers), Actor(context.kube, informers.learn)
    reconciler = Reconciler(context, observer, actor)
    work = {"graphs": partial(_work, queue, reconciler, informers)}
    return ControllerSetup(informers=informers.own(), work=work, queues={"graphs": queue})


async def _work(queue: WorkQueue[Key], reconciler: Reconciler, informers: Informers) -> None:
    await synced(informers.graphs, informers.deployments, informers.checkpoints)
    await queue.run(reconciler.handle, WORKERS)
