"""What of a node the image of a process depends on, and what of it another node lacks. Pure.

The agent judges by it before a restore, the controller before there is a pod to restore.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

from contract.api.states import AgentReason

MOST_GPUS: Final = 64
_RELEASE: Final = re.compile(r"(\d+)\.(\d+)")
_TEXT: Final = re.compile(r"[ -~]{0,128}")
_FLAGS: Final = re.compile(r"[a-z0-9_ ]{0,4096}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class NodeFacts:
    """A node, as a captured process saw it or a restored one would."""

    architecture: str
    """As ``uname`` has it, or ``kubernetes.io/arch``: only alike ones are compared."""
    kernel: str
    """Its release."""
    criu: str
    """Version."""
    cpu_flags: frozenset[str]
    """Instruction sets, as /proc/cpuinfo names them."""
    cpu_model: str = ""
    gpu_models: tuple[str, ...] = ()
    """One for each GPU."""
    gpu_driver: str = ""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What a checkpoint was taken on."""

    facts: NodeFacts
    image_digest: str = ""

    def document(self) -> dict[str, Any]:
        """Return the form of ``status.source``, without what is empty."""
        facts = self.facts
        found: dict[str, Any] = {
            "architecture": facts.architecture,
            "kernel": facts.kernel,
            "criu": facts.criu,
            "cpuModel": facts.cpu_model,
            "cpuFlags": " ".join(sorted(facts.cpu_flags)),
            "gpuModels": list(facts.gpu_models),
            "gpuDriver": facts.gpu_driver,
            "imageDigest": self.image_digest,
        }
        return {key: value for key, value in found.items() if value}


def read_source(found: object) -> Source | None:
    """Read the same back; None if any of it is not as it must be: others could have written it."""
    if not isinstance(found, dict):
        return None
    texts = {name: found.get(name, "") for name in ("architecture", "kernel", "criu", "cpuModel", "gpuDriver")}
    models, flags, digest = found.get("gpuModels", []), found.get("cpuFlags", ""), found.get("imageDigest", "")
    if not isinstance(models, list) or len(models) > MOST_GPUS or not all(map(_is_text, (*texts.values(), *models))):
        return None
    if not isinstance(flags, str) or not _FLAGS.fullmatch(flags) or not isinstance(digest, str):
        return None
    if digest and not _DIGEST.fullmatch(digest):
        return None
    facts = NodeFacts(
        architecture=texts["architecture"],
        kernel=texts["kernel"],
        criu=texts["criu"],
        cpu_flags=frozenset(flags.split()),
        cpu_model=texts["cpuModel"],
        gpu_models=tuple(models),
        gpu_driver=texts["gpuDriver"],
    )
    return Source(facts=facts, image_digest=digest)


def _is_text(word: object) -> bool:
    return isinstance(word, str) and _TEXT.fullmatch(word) is not None


def version_numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, to compare: ``580.159.04`` is 580, 159, 4."""
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def _architecture(then: NodeFacts, now: NodeFacts) -> str | None:
    if then.architecture == now.architecture:
        return None
    return f"captured on {then.architecture}, this node is {now.architecture}"


def _cpu_flags(then: NodeFacts, now: NodeFacts) -> str | None:
    missing = sorted(then.cpu_flags - now.cpu_flags)
    if not missing:
        return None
    model = f" ({now.cpu_model})" if now.cpu_model else ""
    return (
        f"this node's processor{model} lacks {', '.join(missing)}; keep the pods on nodes like that of the capture"
        f"{f' ({then.cpu_model})' if then.cpu_model else ''}, or capture on the oldest processor of the pool"
    )


def _kernel(then: NodeFacts, now: NodeFacts) -> str | None:
    """Compare major and minor number: patch levels and what vendors add leave alone what a process may have found."""
    older, newer = (_RELEASE.match(release) for release in (now.kernel, then.kernel))
    if older is None or newer is None or _numbers(older) >= _numbers(newer):
        return None
    return (
        f"captured on kernel {then.kernel}, this node has {now.kernel}: the worker may use what it lacks; update the "
        "node, or capture on the oldest kernel of the pool"
    )


def _numbers(found: re.Match[str]) -> tuple[int, int]:
    return int(found[1]), int(found[2])


def _criu(then: NodeFacts, now: NodeFacts) -> str | None:
    if version_numbers(then.criu)[:2] <= version_numbers(now.criu)[:2]:
        return None
    return f"captured with criu {then.criu}, this agent has {now.criu}; update the agent"


def _gpus(then: NodeFacts, now: NodeFacts) -> str | None:
    if missing := Counter(then.gpu_models) - Counter(now.gpu_models):
        wanted = ", ".join(f"{count} x {model}" for model, count in sorted(missing.items()))
        return f"this node lacks {wanted}"
    if then.gpu_models and version_numbers(then.gpu_driver) != version_numbers(now.gpu_driver):
        return f"captured with driver {then.gpu_driver}, this node has {now.gpu_driver}"
    return None


Check = Callable[[NodeFacts, NodeFacts], str | None]
"""Says what a node lacks of the one that was captured on; None if nothing."""
NODE_CHECKS: Final[tuple[tuple[AgentReason, Check], ...]] = (
    (AgentReason.ARCHITECTURE_MISMATCH, _architecture),
    (AgentReason.CPU_MISMATCH, _cpu_flags),
    (AgentReason.KERNEL_MISMATCH, _kernel),
    (AgentReason.CRIU_MISMATCH, _criu),
)
GPU_CHECK: Final[tuple[AgentReason, Check]] = (AgentReason.GPU_MISMATCH, _gpus)
"""Of a whole node; a restore compares the devices of its container."""


def lacks(then: NodeFacts, now: NodeFacts, bypass: Collection[str] = ()) -> tuple[AgentReason, str] | None:
    """Return why no pod on a node could restore, by the first check that is not bypassed; None if one could."""
    found = ((reason, check(then, now)) for reason, check in (*NODE_CHECKS, GPU_CHECK) if reason not in bypass)
    return next(((reason, words) for reason, words in found if words is not None), None)
