"""What the engine works with on this node: criu, folders of the node, limits; wired once."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tarfile import TarInfo
from typing import Final

from agent.container.pod_groups import PodGroups
from agent.criu.driver import Criu
from agent.criu.images.rights import Given
from agent.criu.shared_memory import Segment
from agent.executor.gpu.neighbours import Neighbours
from agent.executor.memory.page_cache import PageCache
from agent.executor.restore.turn import Turn
from agent.gpu.ahead.prefetch import NoPrefetcher, Prefetcher
from agent.gpu.cuda import Cuda, Gpus, NoGpus
from artifact.known import Known
from artifact.verified import VerifiedFiles
from contract.api.states import AgentReason
from contract.config.gpus import DeniedDriver
from linux.proc import PROC

BYTES_PER_SECOND: Final = 50_000_000
"""Slowest storage that the time allowance is made for."""


@dataclass(frozen=True, kw_only=True)
class NodeEnvironment:
    """Everything outside that a capture or restore touches."""

    criu: Criu
    work: Path
    """Scratch folder of the agent."""
    kubelet_pods: Path = Path("/var/lib/kubelet/pods")
    host_root: Path
    """Where the node's root file system shows: for the upper layers of containers."""
    cgroup_root: Path = Path("/sys/fs/cgroup")
    pod_groups: PodGroups = field(default_factory=PodGroups)
    """Where the processes of a pod are found without a look at all of the node's."""
    proc: Path = PROC
    exclusions: Sequence[str] = ()
    """Of the root file system, not captured."""
    longest: float = 7200.0
    """Seconds that one capture or restore may take."""
    empty_dir_limit: int = 1 << 30
    """Bytes of each emptyDir, and of shared memory, that a capture takes along."""
    rootfs_limit: int = 4 << 30
    """Bytes of changed files of the image that a capture takes along."""
    unlinked_limit: int = 512 << 20
    """Bytes that criu copies of a file without a name: its own option."""
    allow_unconfined: bool = False
    """Whether containers that a security module confines are captured and restored, without that."""
    proof: bool = True
    """Whether an artifact is restored once before a capture has succeeded."""
    lazy_pages: bool = True
    """Whether a restored worker may run while its memory is filled."""
    verified: VerifiedFiles | None = field(default_factory=VerifiedFiles)
    """Files of artifacts that need not be read again; None to read all of them for every restore."""
    gpus: Gpus = field(default_factory=NoGpus)
    denied_drivers: Sequence[DeniedDriver] = ()
    """Drivers that capture and restore nothing."""
    bypass: frozenset[AgentReason] = frozenset()
    """Checks that no restore on this node has to pass."""
    cuda: Cuda = field(default_factory=NoGpus)
    prefetcher: Prefetcher = field(default_factory=NoPrefetcher)
    """Puts device memory on the card while its process is restored."""
    neighbours: Neighbours = field(default_factory=Neighbours)
    """Workers whose device memory the next one's is copied from."""
    image_rights: Known[Given] = field(default_factory=Known)
    """What images give. Of 100 threads it takes 5 of the 34 ms that a restore is work for the interpreter."""
    image_segments: Known[tuple[Segment, ...]] = field(default_factory=Known)
    """Shared memory in images, where it is large enough to be filled by us."""
    private_memfds: Known[bool] = field(default_factory=Known)
    """Whether images have private mappings of memfds."""
    file_members: Known[Sequence[TarInfo]] = field(default_factory=Known)
    """What is in the archives of a worker's files. Reading it takes 30 of 80 ms for 500 files."""
    page_cache: PageCache = field(default_factory=PageCache)
    """What of it artifacts have."""
    turn: Turn = field(default_factory=Turn)
    """Of restores that are at work at once."""
    weight_matcher: Path | None = None
    """The program that finds device memory in files of models; None: all of it is stored."""
    refers_to_weights: bool = True
    """Whether it is used if a pod says nothing."""

    def allowance(self, size: int) -> float:
        """Return the seconds that moving ``size`` bytes may take."""
        return min(self.longest, 60 + size / BYTES_PER_SECOND)
