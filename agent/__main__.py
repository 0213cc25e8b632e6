"""Wiring of the agent process: settings, engine, this node's pods, the work they ask for, the node's label."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from agent.container.pod_groups import PodGroups
from agent.criu.driver import EnteringCriu
from agent.criu.helpers import Helpers
from agent.executor.engine import NodeEngine
from agent.executor.environment import NodeEnvironment
from agent.executor.gpu.neighbours import Neighbours
from agent.gpu.ahead.prefetch import NoPrefetcher, Prefetcher
from agent.gpu.ahead.registered import default_budget
from agent.gpu.ahead.resident import ResidentPrefetcher
from agent.gpu.client import CudaHelper
from agent.gpu.device_nodes import bring_device_nodes
from agent.gpu.driver import LIBRARY
from agent.gpu.libraries import device_roots, driver_roots, find_library
from agent.gpu.weight_matcher import WEIGHT_MATCHER
from agent.pods.capture_controller import CaptureController
from agent.pods.node_label import NodeLabel
from agent.pods.preflight_controller import PreflightController
from agent.pods.report import Reporter
from agent.pods.restore_controller import RestoreController
from agent.pods.rights import Rights
from agent.pods.running_controller import RunningController
from agent.pods.selection import KUBELET_PODS
from agent.pods.trigger_controller import TriggerController
from agent.pods.watch import Watch
from artifact.verified import VerifiedFiles
from contract.config.quantities import quantity_bytes
from contract.config.storage import Storage, storage_from_values
from contract.config.values import Values, load_values
from contract.nodes.compatibility import bypass_of
from daemon import logs
from daemon.settings import Settings, SettingsError, read_config, read_settings
from daemon.tasks import Task, main, run_together
from kube.client import Client, connect
from kube.informer import Informer
from kube.recorder import Recorder
from kube.resources import PODS
from linux.cgroup import own_memory_limit

COMPONENT: Final = "snapshot-agent"
CGROUPS: Final = Path("/host/sys/fs/cgroup")
HOST_ROOT: Final = Path("/proc/1/root")
"""Where the node's root file system shows, since the agent shares the node's pid namespace."""
SECCOMP: Final = Path("/var/lib/kubelet/seccomp")
"""Where kubelet looks for Localhost profiles."""


async def serve() -> None:
    """Run until a signal comes."""
    settings = read_settings(required=("pod_namespace", "pod_name", "node_name"))
    logs.configure(settings.log_level)
    values = read_config(settings.config_path, load_values)
    try:
        storage = storage_from_values(values)
    except ValueError as error:
        raise SettingsError([f"{settings.config_path}: {error}"]) from error
    async with await connect(user_agent=f"dynamo-snapshot/{COMPONENT}") as kube:
        recorder = Recorder(kube, COMPONENT, settings.node_name)
        # Events outlive the tasks: those of work in flight at shutdown are still sent.
        events = asyncio.create_task(recorder.run(), name="events")
        try:
            await run_together(_tasks(kube, recorder, settings, values, storage))
        finally:
            await recorder.flush()
            events.cancel()
            with suppress(asyncio.CancelledError):
                await events


def _tasks(kube: Client, recorder: Recorder, settings: Settings, values: Values, storage: Storage) -> dict[str, Task]:
    environment = _environment(values)
    engine = NodeEngine(environment)
    reporter = Reporter(kube, recorder, settings.node_name)
    pods = Informer(kube, PODS, settings.watched_namespace, fields=f"spec.nodeName={settings.node_name}")
    restores = RestoreController(kube, engine, reporter, storage, values.config.restore.attempts)
    identity = f"{COMPONENT}/{settings.node_name}"
    captures = CaptureController(kube, pods.store, engine, reporter, storage, identity)
    preflights = PreflightController(engine, reporter, storage)
    running = RunningController(kube, engine, reporter, storage)
    own_pod = (settings.pod_namespace, settings.pod_name)
    seccomp = values.checkpoint.seccomp
    profile = None if seccomp.disabled else SECCOMP / seccomp.profile
    mark = NodeLabel(kube, recorder, settings.node_name, own_pod, engine, profile)
    return {
        "work": Watch(pods, restores, captures, preflights, running, TriggerController(kube, engine, reporter)).run,
        "informer of pods": pods.run,
        "node label": mark.run,
        "page cache": environment.page_cache.run,
        "rights": Rights(kube, recorder, own_pod, settings.watched_namespace).run,
    }


def _environment(values: Values) -> NodeEnvironment:
    options = values.config.criu
    work = Path(options.work_dir)
    work.mkdir(parents=True, exist_ok=True)
    tree = Path(options.binary_path).parent.parent
    find_driver = _driver_finder(values.gpu.driver_root)
    gpus = CudaHelper(find_driver)
    helpers = Helpers()
    helpers.keep()  # it dies with the agent
    return NodeEnvironment(
        criu=EnteringCriu(tree=tree, work=work, options=options, helpers=helpers),
        work=work,
        kubelet_pods=Path(KUBELET_PODS),
        host_root=HOST_ROOT,
        cgroup_root=CGROUPS,
        pod_groups=PodGroups(CGROUPS),
        exclusions=values.config.overlay.exclusions,
        longest=float(values.config.restore.restore_timeout_seconds),
        empty_dir_limit=quantity_bytes(values.capture.empty_dir_limit),
        rootfs_limit=quantity_bytes(values.capture.rootfs_limit),
        unlinked_limit=options.ghost_limit,
        allow_unconfined=values.config.restore.allow_unconfined,
        proof=values.capture.proof == "Restore",
        lazy_pages=options.lazy_pages,
        verified=VerifiedFiles() if values.config.restore.verify == "Once" else None,
        denied_drivers=values.gpu.denied_drivers,
        bypass=frozenset(map(bypass_of, values.config.restore.bypass)),
        gpus=gpus,
        cuda=gpus,
        prefetcher=_prefetcher(values, find_driver),
        neighbours=Neighbours(are_asked=values.gpu.neighbours),
        weight_matcher=tree / WEIGHT_MATCHER,
        refers_to_weights=values.capture.weights == "Referenced",
    )


def _driver_finder(named: str) -> Callable[[], str]:
    """Return what is asked for libcuda whenever a process is started that loads it."""
    roots, nodes = driver_roots(HOST_ROOT, named), device_roots(HOST_ROOT, named)

    def find() -> str:
        bring_device_nodes(nodes)
        return find_library(roots)

    return find


def _prefetcher(values: Values, find_driver: Callable[[], str]) -> Prefetcher:
    if not values.gpu.prefetch:
        return NoPrefetcher()
    cache = values.gpu.registered_cache
    budget = quantity_bytes(cache) if cache else default_budget(own_memory_limit())
    prefetcher = ResidentPrefetcher(find_driver, budget, sums=values.gpu.neighbours)
    if find_driver() != LIBRARY:
        # The driver takes up to two seconds to begin, and whatever else calls it waits for that: no restore should.
        prefetcher.prepare()
    return prefetcher


if __name__ == "__main__":
    sys.exit(main(serve))
