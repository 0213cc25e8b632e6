"""Looks at the artifact, the container and the node before anything is touched, and compares them."""

import os
from contextlib import ExitStack
from dataclasses import replace

from agent.container.confinement import expected_label, profile_of
from agent.container.devices import gpu_minors
from agent.container.files import held_files, rootfs
from agent.container.files.rootfs import Changes
from agent.container.inspection import inspect, surroundings
from agent.container.ipc.objects import refuse_other_creators
from agent.container.ipc.queues import refuse_other_owners
from agent.container.questions.canary import cannot_ask
from agent.container.rights import Rights, of_container
from agent.criu.connections import plan_addresses
from agent.criu.driver import fails_at_private_memfds
from agent.criu.images.own import own_images
from agent.criu.images.rights import refuse_wider_images, rights_in
from agent.criu.shared_memory import Segment, find_segments, maps_memfds_privately
from agent.errors import ContainerError
from agent.executor.gpu.open_weights import PodVolumes
from agent.executor.gpu.plan import GpuPlace, container_devices
from agent.executor.memory.guard import has_guard
from agent.executor.memory.page_cache import Version
from agent.executor.memory.plan import SMALL_SHARED
from agent.executor.restore.checks import CHECKS, PARK_CHECKS, Place, judge, plan_restore
from agent.executor.restore.devices import has_memory_outside
from agent.executor.restore.engine_plan import Offer, Stage, plan_engine
from agent.executor.restore.state import Restore, of_pod
from agent.executor.store import open_store
from agent.gpu.ahead.prefetch import NoPrefetcher
from artifact.ipc import read_ipc
from artifact.manifest import DELETED_FILES
from artifact.queues import read_queues
from contract.api import control_files, keys
from contract.api.states import AgentReason
from linux.net.addresses import sole_addresses


def open_artifact(restore: Restore) -> None:
    """Open the one artifact whose manifest the DynamoCheckpoint names."""
    request, environment = restore.request, restore.environment
    store = open_store(request.base_path, restore.init_pid, environment, through_pod=request.through_pod)
    restore.resources.callback(store.close)
    restore.artifact = store.open(request.checkpoint_id, request.version, request.manifest_digest)
    restore.resources.callback(restore.artifact.close)
    if not request.through_pod:
        environment.page_cache.used(Version(request.base_path, request.checkpoint_id, request.version))
    if has_memory_outside(restore) and not request.parks:
        environment.prefetcher.prepare()  # it needs a moment to start, and checksums take longer
    answering = request.canary.canary.seconds if request.canary is not None else 0.0
    # Standby reads the first allowance of a claim, so it covers all attempts.
    size = restore.artifact.size + restore.artifact.manifest.elsewhere
    restore.lock.allow(request.attempts * (environment.allowance(size) + answering))


def inspect_container(restore: Restore) -> None:
    """Compare the container and this node with those of the capture."""
    with restore.environment.turn.taken():
        _inspect(restore)
    # Without the turn: a model's files may be read whole for their sums, and that is no work for the interpreter.
    restore.weights = volumes_of(restore).open_weights(restore.artifact, restore.resources)


def _inspect(restore: Restore) -> None:
    environment, artifact = restore.environment, restore.artifact
    _refuse_unknown_answer(restore)
    restore.seen = inspect(restore.init_pid, environment.proc, of_pod(restore))
    restore.images = _take_images(restore)
    deleted = Changes()
    if artifact.manifest.rootfs is not None:
        with os.fdopen(artifact.open(DELETED_FILES), "rb") as file:
            deleted = rootfs.parse_deleted(file.read())
    checks = PARK_CHECKS if restore.request.parks else CHECKS
    restore.bypassed = judge(artifact.manifest, place_of(restore), bypass_of(restore), checks)
    restore.plan = plan_restore(artifact.manifest, restore.seen, deleted)
    restore.rights = rights_of(restore)
    given = environment.image_rights.of(artifact.digest, lambda: rights_in(restore.images))
    refuse_wider_images(given, restore.rights)
    restore.ipc, restore.queues = read_ipc(artifact), read_queues(artifact)
    if restore.ipc is not None:
        refuse_other_creators(restore.ipc, restore.rights)
    if restore.queues is not None:
        refuse_other_owners(restore.queues, restore.rights)
    restore.renamed = held_files.check(restore.init_pid, artifact.manifest.held, environment.proc)
    if artifact.manifest.connections is not None:
        addresses = sole_addresses(restore.init_pid, environment.proc)
        restore.moves = plan_addresses(artifact.manifest.connections.addresses, addresses)
    stage = Stage.PARK if restore.request.parks else Stage.WHOLE
    restore.engine = plan_engine(offer_of(restore, stage, restore.images))


def offer_of(restore: Restore, stage: Stage, images: int | None = None) -> Offer:
    """Return what artifact, node and container offer; *images* are looked at only if shared memory is to be filled."""
    environment, control = restore.environment, restore.lock.control
    return Offer(
        manifest=restore.artifact.manifest,
        stage=stage,
        segments=_segments(restore, images),
        lazy_pages=environment.lazy_pages,
        prefetches=not isinstance(environment.prefetcher, NoPrefetcher),
        lost_before=control.has(control_files.PAGES_LOST),
        criu_fails=_criu_fails(restore, images),
        guarded=has_guard(control),
        spare=[device.spare for device in restore.devices],
    )


def _segments(restore: Restore, images: int | None) -> tuple[Segment, ...]:
    if images is None or not restore.environment.lazy_pages:
        return ()
    return restore.environment.image_segments.of(restore.artifact.digest, lambda: find_segments(images, SMALL_SHARED))


def _criu_fails(restore: Restore, images: int | None) -> bool:
    environment = restore.environment
    if images is None or not environment.lazy_pages or not fails_at_private_memfds(environment.criu.version()):
        return False
    return environment.private_memfds.of(restore.artifact.digest, lambda: maps_memfds_privately(images))


def volumes_of(restore: Restore) -> PodVolumes:
    """Return the volumes of the container, in which files of a model are opened."""
    environment = restore.environment
    return PodVolumes(restore.init_pid, restore.seen.init, environment.verified, environment.proc)


def rights_of(restore: Restore) -> Rights:
    """Return what the container may do, under the profile that its worker is restored with."""
    environment = restore.environment
    rights = of_container(restore.init_pid, environment.proc)
    restore.profile = profile_of(environment.proc / str(restore.init_pid))
    allowed = environment.allow_unconfined
    return replace(rights, label=expected_label(rights.label or "", restore.profile, allow_unconfined=allowed))


def _take_images(restore: Restore) -> int:
    environment = restore.environment
    with ExitStack() as during:
        namespace = None
        if restore.request.through_pod:
            namespace = os.open(environment.proc / str(restore.init_pid) / "ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            during.callback(os.close, namespace)
        return own_images(restore.artifact, environment.work, namespace, restore.resources)


def bypass_of(restore: Restore) -> frozenset[AgentReason]:
    """Return the checks whose word does not count, by the owner of the pod or of the node."""
    return restore.request.bypass | restore.environment.bypass


def place_of(restore: Restore) -> Place:
    """Return what the container has, its devices too if the worker has device state."""
    environment, seen, gpu = restore.environment, restore.seen, restore.artifact.manifest.gpu
    around = surroundings(seen, environment.criu.version(), environment.cgroup_root, environment.proc)
    if gpu is None:
        return Place(seen, around, restore.request.image)
    minors = gpu_minors(restore.init_pid, environment.proc)
    restore.devices = container_devices(environment.gpus.devices(), minors)
    gpus = GpuPlace(restore.devices, environment.gpus.driver(), environment.denied_drivers)
    return Place(seen, around, restore.request.image, gpus)


def _refuse_unknown_answer(restore: Restore) -> None:
    call = restore.request.canary
    if call is not None and call.canary.same and restore.artifact.manifest.canary is None:
        words = f"annotation {keys.ANN_CANARY} says same, but the captured worker was not asked; capture it again"
        raise ContainerError(AgentReason.CANARY_FAILED, words)
    if found := cannot_ask(call, restore.lock.control.directory):
        raise ContainerError(AgentReason.CANARY_FAILED, found)
