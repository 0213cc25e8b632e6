"""What the demo found, and how a reader sees it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

BAR_WIDTH = 40


@dataclass(frozen=True)
class Start:
    """One measured start of a worker pod: from the start of its container to its first correct answer."""

    pod: str
    kind: str
    """``cold`` or ``restored``."""
    seconds: float
    token: str
    """The random token that the worker made in memory when it was first started."""
    answer: str
    """SHA-256 of the first answer."""
    reason: str
    """What the pod's own log and annotations say about it."""


@dataclass(frozen=True)
class Story:
    """The whole demo, measured."""

    source_token: str
    checkpoint_seconds: float
    artifact_bytes: int
    cold: Start
    restored: Start
    fallback: Start

    @property
    def baseline(self) -> float:
        """Seconds of the faster of the two cold starts: the one that flatters us least."""
        return min(self.cold.seconds, self.fallback.seconds)

    @property
    def ratio(self) -> float:
        """How many times faster the restored start was."""
        return self.baseline / self.restored.seconds


def faults(story: Story) -> list[str]:
    """Return what contradicts the demo's claim, empty if it holds."""
    checks = [
        (story.restored.token == story.source_token, "the restored worker's token is not its source's"),
        (story.cold.token != story.source_token, "the cold worker has the source's token"),
        (story.fallback.token not in {story.source_token, story.cold.token}, "the fallback worker's token is not new"),
        (len({s.answer for s in (story.cold, story.restored, story.fallback)}) == 1, "the answers differ"),
        (story.restored.seconds < story.baseline, "the restored start was not faster than a cold one"),
    ]
    return [message for holds, message in checks if not holds]


def _bar(seconds: float, longest: float) -> str:
    return "█" * max(1, round(BAR_WIDTH * seconds / longest))


def timeline(story: Story) -> list[str]:
    """Return the lines of the closing table."""
    starts: Sequence[tuple[str, Start]] = (
        ("cold start (no checkpoint yet)", story.cold),
        ("restored from the checkpoint", story.restored),
        ("cold start (artifact deleted)", story.fallback),
    )
    longest = max(start.seconds for _, start in starts)
    rows = [
        f"  {name:<32}{start.seconds:>7.2f} s  {_bar(start.seconds, longest):<{BAR_WIDTH}}  token {start.token[:8]}"
        for name, start in starts
    ]
    mib = story.artifact_bytes / 2**20
    return [
        "Container start to first correct answer:",
        *rows,
        "",
        f"  the checkpoint took {story.checkpoint_seconds:.1f} s in the background and holds {mib:.0f} MiB",
        f"  its source's token was {story.source_token[:8]}: the restored worker is that very process, continued",
        f"  ratio: {story.ratio:.1f} times faster than the faster of the two cold starts",
    ]
