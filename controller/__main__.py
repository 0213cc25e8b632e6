"""Wiring of the controller process: settings, live copies, queue, leadership, health."""

import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Final
from uuid import uuid4

from prometheus_client import CollectorRegistry

from certs import reconcile
from certs.expiry import Expiry
from contract.config.storage import Storage, storage_from_values
from contract.config.values import Values, load_values
from controller.checkpoints.act import Actor
from controller.checkpoints.metrics import CaptureMetrics, Metrics, PhaseCollector, leader_gauge
from controller.checkpoints.observe import Informers, Observer, make_informers
from controller.checkpoints.reconciler import Reconciler
from controller.graphs.setup import set_up as set_up_graphs
from controller.retention.kept_artifacts import KeptArtifacts
from controller.retention.sweeper import Surroundings, Sweeper
from controller.runtime.manager import ControllerSetup, ManagerContext
from controller.workloads.setup import set_up as set_up_workloads
from daemon import logs
from daemon.health import HealthServer
from daemon.settings import Settings, SettingsError, read_config, read_settings
from daemon.tasks import Task, all_of, main, run_together
from kube.client import Client, connect
from kube.informer import Informer, synced
from kube.lease import Election
from kube.metrics import InformerCollector, QueueCollector, RecorderCollector
from kube.queue import WorkQueue
from kube.recorder import Recorder
from kube.resources import PODS
from kube.store import Key, key_of
from kube.volume_claims import VolumeClaimInformer

COMPONENT: Final = "snapshot-controller"
PARTS: Final[tuple[Callable[[ManagerContext], ControllerSetup], ...]] = (
    set_up_workloads,
    set_up_graphs,
)
"""The other controllers of this process."""
WORKERS: Final = 16
"""Checkpoints handled at once: enough to keep an API server busy, each waits for it nearly all the time."""


NODES_SECONDS: Final = 60.0
"""How long a change of nodes may wait: agents that are updated come and go one by one, and each counts."""


def _now() -> datetime:
    return datetime.now(UTC)


async def serve() -> None:
    """Run until a signal comes."""
    settings = read_settings(required=("pod_namespace", "pod_name", "release_fullname"))
    logs.configure(settings.log_level)
    values = read_config(settings.config_path, load_values)
    async with await connect(user_agent=f"dynamo-snapshot/{COMPONENT}") as kube:
        await run_together(_tasks(kube, settings, values))


def _tasks(kube: Client, settings: Settings, values: Values) -> dict[str, Task]:
    storage = _storage(settings, values)
    checkpoint_informers = make_informers(kube, settings.watched_namespace, storage, settings.pod_namespace)
    recorder, registry = Recorder(kube, COMPONENT, settings.pod_name), CollectorRegistry()
    election = Election(kube, settings.pod_namespace, f"{settings.release_fullname}-controller", _identity(settings))
    context = ManagerContext(
        kube=kube,
        settings=settings,
        values=values,
        recorder=recorder,
        registry=registry,
        checkpoints=checkpoint_informers.checkpoints,
        now=_now,
        led_until=lambda: election.led_until,
        claims=VolumeClaimInformer(checkpoint_informers.claims, storage.pvc_name)
        if checkpoint_informers.claims
        else None,
    )
    metrics = Metrics(registry)
    CaptureMetrics(registry, _now, lambda: election.leading).follow(checkpoint_informers.jobs)
    KeptArtifacts(recorder, metrics.count_event, lambda: election.leading).follow(checkpoint_informers.checkpoints)
    leader_gauge(registry, lambda: election.leading)
    parts = (_checkpoints(context, checkpoint_informers, storage, metrics), *(make(context) for make in PARTS))
    informers = {name: informer for part in parts for name, informer in part.informers.items()}
    work = {name: task for part in parts for name, task in part.work.items()} | _certificates(context)
    work["retention"] = _sweeper(context, checkpoint_informers, informers.values(), storage, metrics).run
    _register(context, informers, parts)
    checks = {f"copy of {name}": partial(_unsynced, informer) for name, informer in informers.items()}
    tasks: dict[str, Task] = {f"copy of {name}": informer.run for name, informer in informers.items()}
    return tasks | {
        "events": recorder.run,
        "health": HealthServer(settings.health_port, checks, registry).run,
        "leadership": partial(election.run, partial(all_of, work)),
    }


def _register(context: ManagerContext, informers: Mapping[str, Informer], parts: Iterable[ControllerSetup]) -> None:
    """Figures that are read from what is there whenever they are asked for."""
    for collector in (
        PhaseCollector(context.checkpoints.store, _now),
        InformerCollector(informers),
        QueueCollector({name: queue for part in parts for name, queue in part.queues.items()}),
        RecorderCollector(context.recorder),
    ):
        context.registry.register(collector)


def _storage(settings: Settings, values: Values) -> Storage:
    try:
        return storage_from_values(values)
    except ValueError as error:
        raise SettingsError([f"{settings.config_path}: {error}"]) from error


def _checkpoints(
    context: ManagerContext, checkpoint_informers: Informers, storage: Storage, metrics: Metrics
) -> ControllerSetup:
    """Set up what this room itself does."""
    kube, settings = context.kube, context.settings
    observer = Observer(kube, checkpoint_informers, storage, settings.pod_namespace)
    queue: WorkQueue[Key] = WorkQueue()
    observer.wake(
        lambda change: queue.add(key_of(change.object)),
        lambda change: queue.add_after(key_of(change.object), NODES_SECONDS),
    )
    actor = Actor(kube, checkpoint_informers.learn)
    reconciler = Reconciler(context, observer, actor, metrics)
    work = {"queue": partial(_work, queue, reconciler, checkpoint_informers)}
    return ControllerSetup(informers=checkpoint_informers.all(), work=work, queues={"checkpoints": queue})


def _certificates(context: ManagerContext) -> dict[str, Task]:
    """Set up the webhook's certificates, unless cert-manager makes them."""
    settings = context.settings
    if context.values.webhook.cert_manager.enabled:
        return {}
    targets = reconcile.Targets(settings.pod_namespace, settings.release_fullname)
    expiry = Expiry()
    context.registry.register(expiry)
    return {"certificates": partial(reconcile.run, context.kube, targets, context.now, see=expiry.see_observed)}


def _sweeper(
    context: ManagerContext,
    checkpoint_informers: Informers,
    informers: Iterable[Informer],
    storage: Storage,
    metrics: Metrics,
) -> Sweeper:
    not_users = (checkpoint_informers.pods, checkpoint_informers.agent_pods)
    around = Surroundings(
        checkpoints=checkpoint_informers.checkpoints,
        jobs=checkpoint_informers.jobs,
        pods=tuple(each for each in informers if each.resource == PODS and each not in not_users),
        storage=storage,
        release_namespace=context.settings.pod_namespace,
        told=metrics.count_event,
    )
    return Sweeper(context.kube, around, context.recorder, context.values, context.now)


def _identity(settings: Settings) -> str:
    """Return a name of this start alone: a restarted container must not take its predecessor's Lease for its own."""
    return f"{settings.pod_name}_{uuid4()}"


async def _work(queue: WorkQueue[Key], reconciler: Reconciler, checkpoint_informers: Informers) -> None:
    await synced(*checkpoint_informers.all().values())
    await queue.run(reconciler.handle, WORKERS)


def _unsynced(informer: Informer) -> str | None:
    return None if informer.synced.is_set() else f"{informer.resource.plural} not listed yet"


if __name__ == "__main__":
    sys.exit(main(serve))
