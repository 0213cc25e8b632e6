"""Wiring of the agent process: settings, engine, live copy of this node's pods, node label, health."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final

from agent.criu import EnteringCriu
from agent.engine import NodeEngine
from agent.node import NodeMark
from agent.report import Reporter
from agent.selection import Site
from agent.tools import Tools
from agent.watch import Watch
from contract.values import Values, load_values
from daemon import logs
from daemon.health import HealthServer
from daemon.settings import Settings, read_config, read_settings
from daemon.tasks import Task, main, run_together
from kube.client import Client, connect
from kube.informer import Informer, synced
from kube.queue import WorkQueue
from kube.recorder import Recorder
from kube.resources import PODS
from kube.store import Key, key_of

COMPONENT: Final = "snapshot-agent"
WORKERS: Final = 32
"""Pods handled at once; most wait for a container to start."""
KUBELET_PODS: Final = Path("/var/lib/kubelet/pods")
CGROUPS: Final = Path("/host/sys/fs/cgroup")
SECCOMP: Final = Path("/var/lib/kubelet/seccomp")


def _now() -> datetime:
    return datetime.now(UTC)


async def serve() -> None:
    """Run until a signal comes."""
    settings = read_settings(required=("pod_namespace", "pod_name", "node_name"))
    logs.configure(settings.log_level)
    values = read_config(settings.config_path, load_values)
    async with await connect(user_agent=f"dynamo-snapshot/{COMPONENT}") as kube:
        await run_together(_tasks(kube, settings, values))


def _tasks(kube: Client, settings: Settings, values: Values) -> dict[str, Task]:
    engine = NodeEngine(_tools(values, settings))
    fields = f"spec.nodeName={settings.node_name}"
    pods = Informer(kube, PODS, settings.watched_namespace, fields=fields)
    queue: WorkQueue[Key] = WorkQueue()
    pods.add_handler(lambda change: queue.add(key_of(change.object)))
    recorder = Recorder(kube, COMPONENT, settings.node_name)
    reporter = Reporter(kube, recorder, settings.node_name, pods.learn)
    watch = Watch(kube, pods.store, engine, reporter, Site.of(values, PurePosixPath(KUBELET_PODS)), _now)
    seccomp = values.checkpoint.seccomp
    profile = None if seccomp.disabled else SECCOMP / seccomp.profile
    mark = NodeMark(kube, engine, settings.node_name, profile)
    checks: dict[str, Callable[[], str | None]] = {
        "copy of pods": lambda: None if pods.synced.is_set() else "pods not listed yet",
        "node": mark.problem,
    }
    return {
        "copy of pods": pods.run,
        "events": recorder.run,
        "node label": mark.run,
        "queue": partial(_work, queue, watch, pods),
        "health": HealthServer(settings.health_port, checks).run,
    }


def _tools(values: Values, settings: Settings) -> Tools:
    options = values.config.criu
    work = Path(options.work_dir)
    work.mkdir(parents=True, exist_ok=True)
    return Tools(
        criu=EnteringCriu(tree=Path(options.binary_path).parent.parent, work=work, options=options),
        work=work,
        kubelet_pods=KUBELET_PODS,
        cgroup_root=CGROUPS,
        exclusions=values.config.overlay.exclusions,
        longest=float(values.config.restore.restore_timeout_seconds),
        node=settings.node_name,
    )


async def _work(queue: WorkQueue[Key], watch: Watch, pods: Informer) -> None:
    await synced(pods)
    await queue.run(watch.handle, WORKERS)


if __name__ == "__main__":
    sys.exit(main(serve))
