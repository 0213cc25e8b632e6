"""GPUs, and memory for what is on them."""

from __future__ import annotations

from typing import Final

from contract.api import keys
from contract.api.states import AgentReason
from contract.remedies.agent.words import BYPASS, SECTION
from contract.remedies.registry import Reason

DEVICES: Final = (
    Reason(
        SECTION,
        AgentReason.GPU_MISSING,
        "The agent found no CUDA driver on the node, or the driver showed no device.",
        "Check the node's driver (`nvidia-smi`), and that the agent's pod sees it.",
    ),
    Reason(
        SECTION,
        AgentReason.GPU_UNSUPPORTED,
        "The driver cannot checkpoint or restore this process.",
        (
            "Look for memory shared between GPUs, the usual cause: it is kept with device memory outside the image "
            "alone (docs/device-memory.md); with NCCL in the image, `NCCL_P2P_DISABLE=1` and "
            "`NCCL_CUMEM_HOST_ENABLE=0` together avoid it."
        ),
        "Managed memory (`cudaMallocManaged`) is never checkpointed: allocate by `cudaMalloc`. A process that was "
        "forked from one that uses the GPU keeps its devices open: start processes before that, or by spawn "
        "(`multiprocessing.set_start_method`, `VLLM_WORKER_MULTIPROC_METHOD`). A GPU in MIG mode, whatever its device "
        "plugin calls the parts: use nodes with whole GPUs.",
    ),
    Reason(
        SECTION,
        AgentReason.GPU_MEMORY,
        "The device had too little free memory for the worker's state.",
        "See what else runs on that GPU.",
        "A process whose restore failed this way cannot be restored again: the pod starts cold.",
    ),
    Reason(
        SECTION,
        AgentReason.GPU_BUSY,
        "The driver did not answer in time, usually because kernels of the worker were still running; or the worker "
        "was capturing a CUDA graph, which a snapshot would have spoiled; or one of its CUDA processes is stopped.",
        "Capture the worker when it is idle, or allow more time; continue a process that is stopped (SIGCONT).",
    ),
    Reason(
        SECTION,
        AgentReason.GPU_FAILED,
        "A call of the CUDA driver failed.",
        "Read the message: it names the call, the process and the driver's error.",
    ),
    Reason(
        SECTION,
        AgentReason.GPU_MISMATCH,
        "The pod's GPUs or the node's driver are not those of the capture.",
        "Keep these pods on nodes with the same GPU models and driver, or capture again.",
        "The message names both sides. The driver's library is mapped into the worker, so its version must be the "
        "same; the GPUs must be of the same models, and as many.",
    ),
    Reason(
        SECTION,
        AgentReason.GPU_DRIVER_DENIED,
        "The node's driver is on the list of those that hang a node or end a worker, so it was not asked for anything.",
        "Install another driver on the node, or keep these pods on nodes with another one.",
        "The message names the driver, what happens with it, and the public report. The list is the value "
        "`gpu.deniedDrivers`: take an entry out if you have tried that driver. A restore becomes a cold start, and "
        "nothing was touched. An automatic checkpoint is tried again, since the next attempt may run on a node with "
        f"another driver: `kubectl get nodes -L {keys.LABEL_GPU_DRIVER}` shows them.",
    ),
    Reason(
        SECTION,
        AgentReason.MEMORY_LIMIT,
        "The container's memory limit cannot hold the worker with its device memory.",
        "Raise `resources.limits.memory` to what the message says.",
        "A checkpoint moves device memory into the memory of the worker's processes, where the container's limit "
        f"counts it, and a restore starts with it there. Nothing was touched. At a restore: {BYPASS}",
    ),
)
