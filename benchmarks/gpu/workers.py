"""The workers that restores are measured with: how each is started, and what it is asked."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from contract.pods.probe import Probe
from tests.gpu import vllm_engine
from tests.gpu.containers import BOTH, CARD, PROBE, START_SECONDS, start
from tests.support.fixtures.bare_container import BareContainer, wait_for
from tests.support.fixtures.engine import Node
from tests.support.fixtures.runc_container import RuncContainer
from tests.support.vllm_kit.unpack import LARGE_MODEL

ONE_CARD, TWO_CARDS = "one-card-16", "two-cards-16"
ANSWERS = 33
ANSWER_SECONDS = 120.0


@dataclass(frozen=True)
class Worker:
    """A program that answers each GET, and on which cards it runs. Each of its answers depends on all before it."""

    script: str
    arguments: Sequence[str] = ()
    devices: str = CARD
    stock: bool = True
    """Whether stock arms restore it too."""

    probe = PROBE
    start_seconds = START_SECONDS

    def prepare(self) -> None:
        """Have what every start needs."""

    def start(self, node: Node, *arguments: str, env: Mapping[str, str] | None = None) -> BareContainer:
        """Start it in a container."""
        sizes = [] if self.script != "torch_worker.py" else list(self.arguments[:1])
        flags = tuple(self.arguments[len(sizes) :])
        options = {"script": self.script, "flags": flags, "env": dict(env or {}), "devices": self.devices, "user": 1000}
        if sizes:
            options["mebibytes"] = int(sizes[0])
        return start(node, RuncContainer, *arguments, **options)

    def warm(self, source: BareContainer) -> tuple[str, ...]:
        """Have it answer once before it is captured; nothing that it answers later is known from that."""
        source.get()
        return ()

    def first(self, target: BareContainer) -> str:
        """Return its first answer."""
        answer: str = wait_for(target.get, "an answer", ANSWER_SECONDS)
        return answer

    def others(self, target: BareContainer) -> list[str]:
        """Return the answers after it."""
        return [self.first(target) for _ in range(ANSWERS - 1)]


@dataclass(frozen=True)
class Engine:
    """``vllm serve``: the first answer is one token of a completion, the other one the 32 tokens of the same."""

    model: Path
    devices: str = CARD
    stock: bool = True

    probe: Probe = vllm_engine.PROBE
    start_seconds = vllm_engine.START_SECONDS

    def prepare(self) -> None:
        """Make the model, if it is not there."""
        if not self.model.exists():
            subprocess.run([sys.executable, "-m", "tests.support.vllm_kit", "model", "large", self.model], check=True)

    def start(self, node: Node, *arguments: str, env: Mapping[str, str] | None = None) -> BareContainer:
        """Start it in a container."""
        return vllm_engine.serve(node, *arguments, environment=env, devices=self.devices, model=self.model)

    def warm(self, source: BareContainer) -> tuple[str, ...]:
        """Have it complete before it is captured: it answers the same later. Another start may not, as it compiles."""
        return self.first(source), *self.others(source)

    def first(self, target: BareContainer) -> str:
        """Return the first token, with the logarithm of its probability."""
        return str(vllm_engine.complete(target, 1))

    def others(self, target: BareContainer) -> list[str]:
        """Return all tokens."""
        return [str(vllm_engine.complete(target))]


WORKERS_OF: Mapping[str, Worker | Engine] = {
    "transformers": Worker("transformers_worker.py", ("large",)),
    "weights-40": Worker("torch_worker.py", ("40960",)),
    "weights-20-kv-60": Worker("torch_worker.py", ("20480", "kv=61440")),
    "small": Worker("torch_worker.py", ("1024",)),
    "vllm": Engine(vllm_engine.PLACE / "model"),
    "vllm-7": Engine(vllm_engine.PLACE / LARGE_MODEL),
    ONE_CARD: Worker("torch_worker.py", ("16384",), BOTH, stock=False),
    TWO_CARDS: Worker("torch_worker.py", ("16384", "two"), BOTH, stock=False),
}
"""The numbers are GiB of device memory on each card."""
