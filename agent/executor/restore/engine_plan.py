"""How a restore brings a worker's memory back, decided once from what artifact, node and container offer. Pure.

Phases follow it, and note what went otherwise; both are in the report (``contract.api.engine``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from agent.criu.shared_memory import Segment
from agent.executor.gpu.plan import PlannedPrefetch, plan_prefetches, whole_sizes
from agent.executor.memory.plan import plan_memory
from artifact.manifest import Manifest
from artifact.parts.gpu import DeviceMemory, Gpu
from contract.api.engine import Because, Choice, Memory, Way, without_empty


class Stage(StrEnum):
    """Which part of a restore it is."""

    WHOLE = "whole"
    PARK = "park"
    WAKE = "wake"


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What there is to choose from."""

    manifest: Manifest
    stage: Stage = Stage.WHOLE
    segments: tuple[Segment, ...] = ()
    """Shared memory of the images that may be left to us, if it is large enough to be worth it."""
    lazy_pages: bool = True
    """Whether this node uses page servers."""
    prefetches: bool = False
    """Whether this node reads device memory ahead."""
    lost_before: bool = False
    """Whether a page server of this pod ended with pages missing."""
    criu_fails: bool = False
    """Whether its criu cannot leave the memory of this worker to one."""
    guarded: bool = True
    """Whether standby can hold the memory too."""
    spare: Sequence[int] = ()
    """Device memory that each GPU of the container has for the worker, and for us beside it."""


@dataclass(frozen=True)
class EnginePlan:
    """What the phases do."""

    choices: tuple[Choice, ...] = ()
    memory: Choice = field(default=Choice(Memory.PRIVATE, Way.COPIED, Because.SMALL, 0))
    """The one of private memory."""
    shared: tuple[Segment, ...] = ()
    """What criu leaves empty, to be filled while the tree is stopped."""
    prefetches: tuple[PlannedPrefetch, ...] = ()
    """What is read onto the cards before its process is there."""


def plan_engine(offer: Offer) -> EnginePlan:
    """Choose how each part of the memory comes back."""
    memory = _memory(offer)
    shared = offer.segments if offer.lazy_pages and offer.stage != Stage.WAKE else ()
    filled = Choice(Memory.SHARED, Way.FILLED, Because.LARGE, sum(segment.size for segment in shared))
    prefetches = tuple(_prefetches(offer))
    device = _device(offer, prefetches)
    return EnginePlan(without_empty((memory, filled, *device)), memory, shared, prefetches)


def _memory(offer: Offer) -> Choice:
    found = plan_memory(
        offer.manifest.pages,
        offer.manifest.process.shared,
        enabled=offer.lazy_pages,
        lost_before=offer.lost_before,
        criu_fails=offer.criu_fails,
        guarded=offer.guarded,
        parks=offer.stage == Stage.PARK,
    )
    kept = Choice(Memory.PRIVATE, Way.KEPT, Because.PARKED, found.bytes)
    return kept if offer.stage == Stage.WAKE else found


def _prefetches(offer: Offer) -> Sequence[PlannedPrefetch]:
    gpu = offer.manifest.gpu
    if gpu is None or not offer.prefetches or offer.stage == Stage.PARK:
        return ()
    return plan_prefetches(gpu, whole_sizes(offer.manifest), offer.spare)


def _device(offer: Offer, prefetches: Sequence[PlannedPrefetch]) -> tuple[Choice, ...]:
    """Say where device memory comes from; what is all zeros comes from nowhere, and is not counted."""
    gpu = offer.manifest.gpu
    if gpu is None:
        return ()
    if offer.stage == Stage.PARK:
        return (Choice(Memory.DEVICE, Way.LATER, Because.PARKS, gpu.bytes),)
    within = max(0, gpu.bytes - sum(memory.bytes for memory in gpu.outside))
    ahead = sum(part.size for each in prefetches for part in each.parts)
    sizes = whole_sizes(offer.manifest)
    known = sum(_stored(memory, sizes) for memory in gpu.outside if _is_known(memory, gpu))
    unknown = sum(_stored(memory, sizes) for memory in gpu.outside if not _is_known(memory, gpu))
    rest = Because.NO_ROOM if offer.prefetches else Because.PREFETCH_OFF
    return (
        Choice(Memory.DEVICE, Way.AHEAD, Because.ROOM, ahead),
        Choice(Memory.DEVICE, Way.FILES, rest, known - ahead),
        Choice(Memory.DEVICE, Way.FILES, Because.UNKNOWN_CARD if offer.prefetches else rest, unknown),
        Choice(Memory.DEVICE, Way.IMAGE, Because.CAPTURED_SO, within),
    )


def _stored(memory: DeviceMemory, sizes: Mapping[str, int]) -> int:
    return sum(sizes[name] for name in memory.files)


def _is_known(memory: DeviceMemory, gpu: Gpu) -> bool:
    return len(gpu.devices) == 1 or bool(memory.devices)


def what_came(plan: EnginePlan, memory: Choice, ahead: int, lent: int = 0) -> tuple[Choice, ...]:
    """Return what became of a plan.

    Args:
        plan: as it was made.
        memory: how private memory came back.
        ahead: bytes that restored processes took from the cards.
        lent: those of them that came there from another worker's memory.
    """
    found: list[Choice] = []
    for choice in plan.choices:
        if choice == plan.memory:
            found.append(memory)
        elif choice.way == Way.AHEAD and (lent or ahead < choice.bytes):
            found.append(Choice(choice.memory, Way.LENT, Because.NEIGHBOUR, lent))
            found.append(Choice(choice.memory, Way.AHEAD, choice.because, ahead - lent))
            found.append(Choice(choice.memory, Way.FILES, Because.NOT_IN_TIME, choice.bytes - ahead))
        else:
            found.append(choice)
    return without_empty(found)
