"""What the controller process runs for pods that opted in."""

from controller.runtime.manager import ControllerSetup, ManagerContext
from controller.workloads.dispatcher import Dispatcher
from controller.workloads.informers import PodInformers
from controller.workloads.metrics import HeldCollector, Metrics
from controller.workloads.reports import Reports


def set_up(context: ManagerContext) -> ControllerSetup:
    """Automatic checkpoints, gates, admission Events, times of use, restore reports."""
    copies = PodInformers(context.kube, context.settings.watched_namespace)
    metrics = Metrics(context.registry)
    context.registry.register(HeldCollector(copies, context.now, context.values.wait_timeout_seconds))
    reports = Reports(context.led_until, context.now)
    reports.listen(metrics.restored)
    for informer in copies.all:
        reports.follow(informer)
    desk = Dispatcher(context, copies, reports, metrics)
    return ControllerSetup(
        informers={"opted-in pods": copies.labelled, "graph pods": copies.of_graphs},
        work={"opted-in pods": desk.run},
        queues={"automatic checkpoints": desk.checkpoints, "gates": desk.gates, "admission events": desk.tales},
    )
