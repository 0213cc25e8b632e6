"""Gather what there is to know about one checkpoint: from informers, and by a call only if a cache cannot know it."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from contract.api import keys
from contract.api.checkpoint import annotations_of, captured_container, id_of, labels_of, source_pod, template
from contract.api.objects import JobView, PodView
from contract.api.states import CaptureStatus, Phase
from contract.config.storage import Storage
from contract.nodes.gpus import NO_TEMPLATES, ClaimTemplates, claim_templates
from controller.checkpoints.diagnose import pods as diagnosis
from controller.checkpoints.diagnose.job_events import JobEvents
from controller.checkpoints.diagnose.nodes import SELECTOR, Nodes, kept_agent_pod
from controller.checkpoints.observed import Observed, job_to_look_at, newest, wanted_job
from controller.checkpoints.plan.adopting import job_to_adopt, store_namespace
from controller.checkpoints.storage_jobs import cleanup_job_name
from kube.api import KubeClient, Object
from kube.claim_templates import read_claim_templates
from kube.errors import NotFoundError
from kube.informer import Handler, Informer, learn, trimmed
from kube.resources import (
    CHECKPOINTS,
    DAEMON_SETS,
    JOBS,
    LEASES,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    Resource,
)
from kube.store import Change, Key, key_of

BY_ID: Final = "id"
BY_JOB: Final = "job"
BY_NAMESPACE: Final = "namespace"
JOB_LABELS: Final = (keys.LABEL_JOB_NAME, "job-name")


def _index_id(checkpoint: Object) -> Iterable[str]:
    checkpoint_id = id_of(checkpoint)
    return (checkpoint_id,) if checkpoint_id else ()


def _index_job(checkpoint: Object) -> Iterable[str]:
    name = job_to_look_at(checkpoint)
    return (f"{key_of(checkpoint)[0]}/{name}",) if name else ()


def _index_namespace(obj: Object) -> Iterable[str]:
    return (key_of(obj)[0],)


def _index_pod(pod: Object) -> Iterable[str]:
    names = {labels_of(pod)[label] for label in JOB_LABELS if label in labels_of(pod)}
    return (f"{key_of(pod)[0]}/{name}" for name in names)


def kept_job(job: Object) -> Object:
    """Return *job* without command and environment of its containers: most of it, and never read from the cache."""
    spec = job.get("spec") or {}
    template = spec.get("template") or {}
    pod = template.get("spec") or {}
    short = {
        "containers": [{key: each.get(key) for key in ("name", "image")} for each in pod.get("containers") or ()],
        "volumes": [{"name": each.get("name")} for each in pod.get("volumes") or ()],
    }
    return trimmed({**job, "spec": {**spec, "template": {**template, "spec": short}}})


@dataclass(frozen=True, slots=True)
class Informers:
    """Informers of all that matters, restricted to our own Jobs and capture pods."""

    checkpoints: Informer
    jobs: Informer
    pods: Informer
    claims: Informer | None
    """Only with podMount, and only the claim of the configured name."""
    agents: Informer | None
    """Only with agentMount: the agent's DaemonSets in the release's namespace."""
    agent_pods: Informer
    """In the release's namespace: they say what their nodes are."""

    def all(self) -> dict[str, Informer]:
        """Return the informers by the names of their tasks."""
        informers = {"checkpoints": self.checkpoints, "jobs": self.jobs, "pods": self.pods}
        informers["agent pods"] = self.agent_pods
        more = {"claims": self.claims, "agents": self.agents}
        return informers | {name: informer for name, informer in more.items() if informer is not None}

    def learn(self, resource: Resource, obj: Object) -> None:
        """Take in the answer of a write."""
        learn(self.all().values(), resource, obj)


def make_informers(kube: KubeClient, namespace: str | None, storage: Storage, release_namespace: str = "") -> Informers:
    """Make informers of *namespace*, or of all namespaces if it is None; nothing runs yet."""
    checkpoint_indexes = {BY_ID: _index_id, BY_JOB: _index_job, BY_NAMESPACE: _index_namespace}
    claims = Informer(kube, PERSISTENT_VOLUME_CLAIMS, namespace, fields=f"metadata.name={storage.pvc_name}")
    agents = Informer(kube, DAEMON_SETS, release_namespace, labels=SELECTOR)
    return Informers(
        checkpoints=Informer(kube, CHECKPOINTS, namespace, indexers=checkpoint_indexes),
        jobs=Informer(kube, JOBS, namespace, labels=keys.LABEL_CHECKPOINT_ID, keep=kept_job),
        pods=Informer(kube, PODS, namespace, labels=f"{keys.LABEL_IS_SOURCE}=true", indexers={BY_JOB: _index_pod}),
        claims=claims if storage.in_pod else None,
        agents=None if storage.in_pod else agents,
        agent_pods=Informer(kube, PODS, release_namespace, labels=SELECTOR, keep=kept_agent_pod),
    )


class Observer:
    """Looks at one checkpoint at a time."""

    def __init__(self, kube: KubeClient, informers: Informers, storage: Storage, release_namespace: str) -> None:
        self._kube = kube
        self._informers = informers
        self._storage = storage
        self._release_namespace = release_namespace
        self._events = JobEvents(kube)
        self._nodes = Nodes(informers.agent_pods)

    def wake(self, add: Handler, add_later: Handler) -> None:
        """Have *add* called with the checkpoint change that each change of anything amounts to.

        *add_later* is for what may wait for further changes of its kind: those of nodes, which concern all that is
        Ready.
        """
        self._nodes.add_handler(lambda _: self._wake_ready(add_later))
        self._informers.checkpoints.add_handler(add)
        self._informers.checkpoints.add_handler(lambda change: self._wake_siblings(change, add))
        self._informers.jobs.add_handler(lambda change: self._wake_owner(change, add))
        self._informers.pods.add_handler(lambda change: self._wake_job(change, add))
        if self._informers.claims is not None:
            self._informers.claims.add_handler(lambda change: self._wake_namespace(change, add))
        if self._informers.agents is not None:
            self._informers.agents.add_handler(lambda _: self._wake_unfinished(add))

    async def observe(self, key: Key, now: datetime) -> Observed | None:
        """Everything about one checkpoint; None if it is deleted.

        Raises:
            KubeError: a call failed.
        """
        namespace, name = key
        checkpoint = self._informers.checkpoints.store.get(namespace, name)
        if checkpoint is None:
            return None
        job = await self._job(checkpoint, namespace)
        pods = self._pods(job)
        claims = self._informers.claims
        cleanup, adopt = self._cleanup_job(checkpoint), self._adopt_job(checkpoint)
        return Observed(
            checkpoint=checkpoint,
            job=job,
            source_pod=await self._source_pod(checkpoint, namespace),
            pods=pods,
            job_events=await self._job_events(job, pods, now),
            claim=claims.store.get(namespace, self._storage.pvc_name) if claims is not None else None,
            siblings=self._siblings(checkpoint),
            lease=await self._lease(job, pods, now),
            cleanup_job=cleanup,
            cleanup_events=await self._store_job_events(cleanup, now),
            adopt_job=adopt,
            adopt_pods=await self._pods_of(adopt),
            adopt_events=await self._store_job_events(adopt, now),
            agents=self._agents(),
            nodes=self._nodes.kinds(),
            release_namespace=self._release_namespace,
            claim_templates=await self._claim_templates(checkpoint, namespace),
        )

    async def _claim_templates(self, checkpoint: Object, namespace: str) -> ClaimTemplates:
        """Return what the captured container claims, while a Job may be made; few templates claim any."""
        if (checkpoint.get("status") or {}).get("phase") == Phase.CREATING:
            return NO_TEMPLATES
        names = claim_templates(template(checkpoint).get("spec") or {}, captured_container(checkpoint) or {})
        return await read_claim_templates(self._kube, names, namespace)

    def _siblings(self, checkpoint: Object) -> tuple[Object, ...]:
        """Return those that would write to the same directory: with podMount each namespace has a volume of its own."""
        same_id = self._informers.checkpoints.store.by_index(BY_ID, id_of(checkpoint))
        namespace = key_of(checkpoint)[0] if self._storage.in_pod else None
        return tuple(
            each for each in same_id if key_of(each) != key_of(checkpoint) and namespace in (None, key_of(each)[0])
        )

    def _agents(self) -> tuple[Object, ...] | None:
        agents = self._informers.agents
        return tuple(agents.store) if agents is not None and agents.synced.is_set() else None

    async def _job(self, checkpoint: Object, namespace: str) -> Object | None:
        """Return the Job; only the API server says that there is none, the informer may not know it yet."""
        name = job_to_look_at(checkpoint)
        job = self._informers.jobs.store.get(namespace, name) if name else None
        recorded = (checkpoint.get("status") or {}).get("jobName")
        if job is not None or not name or recorded != name or source_pod(checkpoint):
            return job
        try:
            return await self._kube.get(JOBS, name, namespace)
        except NotFoundError:
            return None

    async def _source_pod(self, checkpoint: Object, namespace: str) -> Object | None:
        name, status = source_pod(checkpoint).get("podName"), checkpoint.get("status") or {}
        over = status.get("phase") in (Phase.READY, Phase.FAILED) and status.get("jobName") == wanted_job(checkpoint)
        if not name or over:
            return None
        try:
            return await self._kube.get(PODS, name, namespace)
        except NotFoundError:
            return None

    def _pods(self, job: Object | None) -> tuple[Object, ...]:
        if job is None:
            return ()
        namespace, name = key_of(job)
        return self._informers.pods.store.by_index(BY_JOB, f"{namespace}/{name}")

    async def _job_events(self, job: Object | None, pods: tuple[Object, ...], now: datetime) -> tuple[Object, ...]:
        if job is None or pods:
            return ()
        view = JobView(job)
        if view.is_finished or diagnosis.no_pod(view, (), now) is None:
            return ()
        return await self._events.of(*key_of(job))

    async def _store_job_events(self, job: Object | None, now: datetime) -> tuple[Object, ...]:
        return await self._job_events(job, (), now) if job is not None and not JobView(job).had_pod else ()

    async def _lease(self, job: Object | None, pods: tuple[Object, ...], now: datetime) -> Object | None:
        if job is None or not _agents_word_is_missing(JobView(job), pods, now):
            return None
        namespace, name = key_of(job)
        try:
            return await self._kube.get(LEASES, name, namespace)
        except NotFoundError:
            return None

    def _cleanup_job(self, checkpoint: Object) -> Object | None:
        checkpoint_id = id_of(checkpoint)
        if not checkpoint["metadata"].get("deletionTimestamp") or not checkpoint_id:
            return None
        return self._informers.jobs.store.get(self._store_namespace(checkpoint), cleanup_job_name(checkpoint_id))

    def _adopt_job(self, checkpoint: Object) -> Object | None:
        name = job_to_adopt(checkpoint)
        return self._informers.jobs.store.get(self._store_namespace(checkpoint), name) if name else None

    async def _pods_of(self, job: Object | None) -> tuple[Object, ...]:
        """Pods that no informer holds."""
        if job is None:
            return ()
        namespace, name = key_of(job)
        return (await self._kube.list(PODS, namespace, labels=f"{keys.LABEL_JOB_NAME}={name}")).items

    def _store_namespace(self, checkpoint: Object) -> str:
        return store_namespace(checkpoint, self._release_namespace, self._storage)

    def _wake_siblings(self, change: Change, add: Handler) -> None:
        """Look at those with the same id: they may have to wait, or need not wait any more."""
        ids = {each for obj in change if obj is not None for each in _index_id(obj)}
        unchanged = change.old is not None and change.new is not None and _rivalry(change.old) == _rivalry(change.new)
        if unchanged:
            return
        for each in ids:
            for sibling in self._informers.checkpoints.store.by_index(BY_ID, each):
                if sibling is not change.new:
                    add(Change(sibling, sibling))

    def _wake_owner(self, change: Change, add: Handler) -> None:
        job = change.object
        notes = annotations_of(job)
        namespace = notes.get(keys.ANN_CHECKPOINT_NAMESPACE) or key_of(job)[0]
        found = self._informers.checkpoints.store.get(namespace, notes.get(keys.ANN_CHECKPOINT, ""))
        if found is not None:
            add(Change(found, found))
        else:
            self._wake_by_job(key_of(job), add)

    def _wake_job(self, change: Change, add: Handler) -> None:
        for each in _index_pod(change.object):
            namespace, _, name = each.partition("/")
            self._wake_by_job((namespace, name), add)

    def _wake_by_job(self, job: Key, add: Handler) -> None:
        for checkpoint in self._informers.checkpoints.store.by_index(BY_JOB, "/".join(job)):
            add(Change(checkpoint, checkpoint))

    def _wake_unfinished(self, add: Handler) -> None:
        for checkpoint in self._informers.checkpoints.store:
            if (checkpoint.get("status") or {}).get("phase") in (Phase.PENDING, Phase.CREATING):
                add(Change(checkpoint, checkpoint))

    def _wake_ready(self, add: Handler) -> None:
        for checkpoint in self._informers.checkpoints.store:
            if (checkpoint.get("status") or {}).get("phase") == Phase.READY:
                add(Change(checkpoint, checkpoint))

    def _wake_namespace(self, change: Change, add: Handler) -> None:
        namespace = key_of(change.object)[0]
        for checkpoint in self._informers.checkpoints.store.by_index(BY_NAMESPACE, namespace):
            add(Change(checkpoint, checkpoint))


def _rivalry(checkpoint: Object) -> tuple[str, str]:
    """Return what of a checkpoint matters to others of the same id."""
    return id_of(checkpoint), str((checkpoint.get("status") or {}).get("phase"))


def _agents_word_is_missing(job: JobView, pods: tuple[Object, ...], now: datetime) -> bool:
    if job.annotations.get(keys.ANN_CHECKPOINT_STATUS) in set(CaptureStatus) or job.is_failed:
        return False
    pod = newest(map(PodView, pods))
    waits = pod is not None and diagnosis.no_agent(job, pod, now)[0] is not None
    return waits or job.is_complete
