"""What the controller process runs for pods that opted in."""

from kube.part import Context, Part
from workloads.copies import PodCopies
from workloads.desk import Desk
from workloads.metrics import HeldCollector, Metrics
from workloads.reports import Reports


def part(context: Context) -> Part:
    """Automatic checkpoints, gates, admission Events, times of use, restore reports."""
    copies = PodCopies(context.kube, context.settings.watched_namespace)
    metrics = Metrics(context.registry)
    context.registry.register(HeldCollector(copies, context.now, context.values.wait_timeout_seconds))
    reports = Reports(context.led_until, context.now)
    reports.listen(metrics.restored)
    for informer in copies.all:
        reports.follow(informer)
    desk = Desk(context, copies, reports, metrics)
    return Part(
        informers={"opted-in pods": copies.labelled, "graph pods": copies.of_graphs},
        work={"opted-in pods": desk.run},
        queues={"automatic checkpoints": desk.checkpoints, "gates": desk.gates, "admission events": desk.tales},
    )
