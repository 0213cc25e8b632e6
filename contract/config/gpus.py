"""The blocks of the chart's values about GPUs, and about captures, whose environment depends on them."""

from typing import Annotated, Literal

from pydantic import Field

from contract.api import keys
from contract.config import patterns
from contract.config.sections import AbsolutePath, Name, Quantity, Section

EnvironmentName = Annotated[str, Field(pattern=patterns.ENVIRONMENT_NAME)]
LabelKey = Annotated[
    str,
    Field(max_length=317, pattern=patterns.LABEL_KEY),
]
DriverVersions = Annotated[str, Field(pattern=patterns.DRIVER_VERSIONS)]
PublicReport = Annotated[str, Field(pattern=patterns.PUBLIC_REPORT)]
"""An issue as ``owner/repository#number``, or an address."""


class DeniedDriver(Section):
    """Driver versions with which no GPU worker is captured or restored."""

    versions: DriverVersions
    """One version, or all of a branch: ``595.71.05``, ``570.*``."""
    reason: str = Field(min_length=1, max_length=300, description="What happens with them; printed in the refusal.")
    report: PublicReport

    def covers(self, version: str) -> bool:
        """Say whether a driver is one of these."""
        branch = self.versions.removesuffix("*")
        return version.startswith(branch) if branch != self.versions else version == self.versions


class Gpu(Section):
    """GPU nodes: where agents run, and how they come by the driver's libraries."""

    enabled: bool = False
    """Agents run on nodes labelled nvidia.com/gpu.present=true only, by the runtime class below."""
    other_nodes: bool = False
    """Agents run on all other nodes too, without a runtime class, by a DaemonSet of their own."""
    runtime_class_name: Name | Literal[""] = "nvidia"
    """Of the agent; empty: the cluster's default runtime."""
    driver_root: AbsolutePath | Literal[""] = ""
    """Folder of the node that holds the driver; empty: the usual ones are looked at."""
    prefetch: bool = True
    """An agent that restores GPU workers keeps a context on each GPU, and fills device memory while CRIU runs."""
    neighbours: bool = True
    """A restore copies device memory from a worker on the node that was restored from the same artifact."""
    registered_cache: Quantity | Literal[""] = ""
    """How much page cache of artifacts stays registered with the driver, for the next restore; 0: none. Empty: half of
    the agent's memory limit, or an eighth of the node's memory if it has none."""
    denied_drivers: list[DeniedDriver] = Field(
        default=[
            DeniedDriver(
                versions="595.71.05",
                reason="the whole node hangs when a restored worker ends",
                report="NVIDIA/cuda-checkpoint#53",
            ),
            DeniedDriver(
                versions="610.57.04",
                reason="locking a worker with many threads ends it (SIGSEGV in the driver's library)",
                report="NVIDIA/cuda-checkpoint#58",
            ),
        ]
    )
    """No GPU worker is captured or restored by them; a list that is set replaces this one."""


class GpuEnvironment(Section):
    """What a capture Job adds to the environment of a worker with GPUs.

    The container's own ``env`` wins, ``envFrom`` does not; null adds nothing.
    """

    always: dict[EnvironmentName, str | None] = Field(
        default={
            "TORCH_NCCL_ENABLE_MONITORING": "0",
            "NCCL_SOCKET_IFNAME": "lo",
            "GLOO_SOCKET_IFNAME": "lo",
            "VLLM_HOST_IP": "127.0.0.1",
        }
    )
    """For each worker with a GPU."""
    several_gpus: dict[EnvironmentName, str | None] = Field(
        default={
            "NCCL_NVLS_ENABLE": "0",
            "NCCL_IB_DISABLE": "1",
            "TORCH_SYMM_MEM_DISABLE_MULTICAST": "1",
        }
    )
    """For each with more than one: memory of a multicast object cannot be restored."""
    several_gpus_in_image: dict[EnvironmentName, str | None] = Field(
        default={"NCCL_P2P_DISABLE": "1", "NCCL_CUMEM_HOST_ENABLE": "0"}
    )
    """For each of those whose device memory goes through the image: then no memory that GPUs share can be restored, and
    no host memory that the driver makes."""


class Capture(Section):
    """How captures are done."""

    proof: Literal["Restore", "Read"] = Field(
        default="Restore", description="What makes an artifact Ready: restored once where it was captured, or read."
    )
    empty_dir_limit: Quantity = Field(
        default="1Gi", description="Content of each emptyDir, and of shared memory, that travels; more is refused."
    )
    rootfs_limit: Quantity = Field(
        default="4Gi", description="Changed files of the container's image that travel; more is refused."
    )
    device_memory: Literal["Outside", "Image"] = Field(
        default="Outside",
        description="Where captures leave the device memory of GPU workers: in files of its own, or in the "
        f"image of their processes; annotation {keys.ANN_DEVICE_MEMORY} of a pod template goes before.",
    )
    weights: Literal["Referenced", "Stored"] = Field(
        default="Stored",
        description="What becomes of device memory outside the image that is, byte for byte, in safetensors files on "
        "the worker's volumes: it is left to those files, which a restore then needs unchanged, or it is stored; "
        f"annotation {keys.ANN_WEIGHTS} of a pod template goes before.",
    )
    gpu_environment: GpuEnvironment = GpuEnvironment()
    keep_labels: list[LabelKey] = Field(
        default=[], description="Label keys of pod templates that capture pods keep; all others are left out."
    )
