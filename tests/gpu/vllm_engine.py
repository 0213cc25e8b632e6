"""vLLM in a container: how it is started, and what it is asked. The kit is made by `make vllm-kit`."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from contract.pods.probe import Probe
from tests.gpu.containers import CARD, NCCL, start
from tests.support.fixtures.bare_container import BareContainer
from tests.support.fixtures.engine import Node
from tests.support.fixtures.runc_container import RuncContainer

KIT = "SNAPSHOT_TEST_VLLM"
"""Names the folder that the kit was unpacked to."""

PLACE = Path(os.environ.get(KIT, "/opt/vllm-kit"))
PROBE = Probe("HTTP", "127.0.0.1", 8000, "/health", timeout=20.0)
# Imports, a child that only looks at the model, imports again, compilation: 95 s at the first start of a machine.
START_SECONDS = 240.0
TOKENS = 32
COMPLETION = {
    "prompt": [3 + number * number * 131 % 31000 for number in range(24)],
    "max_tokens": TOKENS,
    "temperature": 0,
    "ignore_eos": True,
    "logprobs": 1,
    "return_token_ids": True,
}
# The memory of the KV cache is given, not measured: a card with other clients measures differently each time.
FLAGS = (
    *("--dtype", "bfloat16", "--max-model-len", "2048", "--max-num-seqs", "4", "--seed", "0"),
    *("--kv-cache-memory-bytes", str(1 << 30), "--gpu-memory-utilization", "0.15", "--no-enable-prefix-caching"),
)
CACHES = {
    "VLLM_CACHE_ROOT": "/tmp/cache",
    "TRITON_CACHE_DIR": "/tmp/cache/triton",
    "TORCHINDUCTOR_CACHE_DIR": "/tmp/cache/inductor",
}
# The container has only a loopback interface, and its user no name.
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_HOST_IP": "127.0.0.1",
    "GLOO_SOCKET_IFNAME": "lo",
    "USER": "worker",
    "LOGNAME": "worker",
}
ENGINE = NCCL | {
    "PYTHONPATH": f"/tools:{PLACE}/site",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "VLLM_USE_FLASHINFER_SAMPLER": "0",  # flashinfer is not in the kit
    "NCCL_IB_DISABLE": "1",
}


def serve(
    node: Node,
    *arguments: str,
    flags: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
    devices: str = CARD,
    model: Path = PLACE / "model",
) -> BareContainer:
    """Start the engine in a container."""
    return start(
        node,
        RuncContainer,
        *arguments,
        script="vllm_worker.py",
        flags=(str(model), *FLAGS, *flags),
        env=CACHES | OFFLINE | ENGINE | dict(environment or {}),
        devices=devices,
        user=1000,
    )


def complete(container: BareContainer, tokens: int = TOKENS) -> tuple[list[int], list[float]]:
    """Return the tokens of one completion, and the logarithm of the probability of each.

    Raises:
        OSError: the engine does not answer.
    """
    (choice,) = json.loads(container.post("/v1/completions", COMPLETION | {"max_tokens": tokens}))["choices"]
    assert tokens == len(choice["token_ids"])
    return choice["token_ids"], choice["logprobs"]["token_logprobs"]
