"""What the controller process runs for pods that opted in."""

from controller.runtime.manager import ControllerSetup, ManagerContext
from controller.workloads.dispatcher import Dispatcher
from controller.workloads.informers import PodInformers
from controller.workloads.metrics import HeldCollector, Metrics
from controller.workloads.reports import Reports


def set_up(context: ManagerContext) -> ControllerSetup:
    """Automatic checkpoints, gates, admission Events, times of use, restore reports."""
    informers = PodInformers(context.kube, context.settings.watched_namespace)
    metrics = Metrics(context.registry)
    context.registry.register(HeldCollector(informers, context.now, context.values.wait_timeout_seconds))
    reports = Reports(context.led_until, context.now)
    reports.listen(metrics.restored)
    for informer in informers.all:
        reports.follow(informer)
    desk = Dispatcher(context, informers, reports, metrics)
    return ControllerSetup(
        informers={"opted-in pods": informers.labelled, "graph pods": informers.of_graphs},
        work={"opted-in pods": desk.run},
        queues={
            "automatic checkpoints": desk.checkpoints,
            "gates": desk.gates,
            "admission events": desk.tales,
            "missed pods": desk.missed,
            "spare pods": desk.spares,
            "silent pods": desk.silent,
        },
    )
