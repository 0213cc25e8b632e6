"""``python -m fuzz``: every target for a while; findings are kept in ``.cache/fuzz`` as files that show them again."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fuzz.seeds import SEEDS
from fuzz.targets import TARGETS

FOLDER: Final = Path(".cache/fuzz")
MEMORY_MIB: Final = 1024
"""Of a whole process with engine, corpus and coverage; a target that keeps anything passes it within minutes."""
SLOWEST_SECONDS: Final = 5
LARGEST: Final = {"admission": 1 << 16, "decision": 1 << 16, "fast-lane": 1 << 14, "words": 1 << 17, "values": 1 << 17}
"""Bytes of an input: enough for nesting that ends a parser which recurses in C."""
_EXECUTIONS: Final = re.compile(r"stat::number_of_executed_units: (\d+)")
_PEAK: Final = re.compile(r"stat::peak_rss_mb: +(\d+)")
_COVERED: Final = re.compile(r"cov: (\d+)")


@dataclass(frozen=True)
class Run:
    """How the fuzzing of one target ended."""

    target: str
    found: bool
    output: str

    def __str__(self) -> str:
        """Return the line to print."""
        executions, peak, covered = (_last(each, self.output) for each in (_EXECUTIONS, _PEAK, _COVERED))
        verdict = "A FINDING" if self.found else "no finding"
        return f"{self.target}: {executions:,} executions, {covered:,} branches, peak {peak} MiB, {verdict}"


def _last(pattern: re.Pattern[str], text: str) -> int:
    return int((pattern.findall(text) or ["0"])[-1])


def fuzz(target: str, seconds: int) -> Run:
    """Fuzz one target, from its seeds and from what earlier runs found worth keeping."""
    corpus, seeds, found = (FOLDER / part / target for part in ("corpus", "seeds", "found"))
    for folder in (corpus, seeds, found):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[target]):
        (seeds / f"{number:03}").write_bytes(seed)
    options = {
        "max_total_time": seconds,
        "max_len": LARGEST[target],
        "timeout": SLOWEST_SECONDS,
        "rss_limit_mb": MEMORY_MIB,
        "print_final_stats": 1,
        "artifact_prefix": f"{found}/",
    }
    command = [sys.executable, "-m", "fuzz.engine", target, *(f"-{key}={value}" for key, value in options.items())]
    done = subprocess.run(
        [*command, str(corpus), str(seeds)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return Run(target, done.returncode != 0, done.stdout.decode(errors="replace"))


def main() -> int:
    """Fuzz what is asked for; the exit status says whether anything was found."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all if none is named")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    options = parser.parse_args()
    runs = [_told(fuzz(target, options.seconds)) for target in options.targets or TARGETS]
    return 1 if any(run.found for run in runs) else 0


def _told(run: Run) -> Run:
    if run.found:
        print(run.output[-6000:], flush=True)
    print(run, flush=True)
    return run


if __name__ == "__main__":
    sys.exit(main())
