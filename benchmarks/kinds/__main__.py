"""Ten kinds of worker: how long their preflight, capture and restore take.

    python -m benchmarks.kinds --rounds 3
    python -m benchmarks.kinds --rounds 3 --beside 11d9c6f

As root, on bare containers: no Kubernetes in the way. Each worker looks after its restore whether it has what it had
before; one that does not ends the benchmark. Seconds of a capture are the agent's own, its proof and the sums of all
files included; those of a restore run until the worker has looked. A preflight is CPU time, the best of five: what else
the machine does is no fault of it. The exit status is 1 if a preflight takes longer than it may.
With ``--beside`` the engine of another commit does the same in turns; what it loses or cannot do is said.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.kinds.workers import KINDS, LARGE, PLAIN, source_of
from benchmarks.support.report import Report, finish, parser
from cluster.progress import for_terminal

ROOT = Path(__file__).parents[2]
MOST_MS = {PLAIN: 30.0, LARGE: 300.0}
HEADER = ("kind", "preflight ms", "capture s", "slowest", "restore s", "slowest")
BESIDE = ("capture s before", "restore s before")


class Engine:
    """The engine of a checkout, in a process of its own."""

    def __init__(self, checkout: Path) -> None:
        script = ROOT / "benchmarks/kinds/rounds.py"
        environment = os.environ | {"PYTHONPATH": f"{checkout}:{checkout / 'sdk'}"}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [sys.executable, script], cwd=checkout, env=environment, stdin=pipe, stdout=pipe, text=True
        )
        self._answer()

    def measure(self, kind: str, checkpoint_id: str) -> dict[str, object]:
        """Capture and restore a worker."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": checkpoint_id, "worker": source_of(kind)}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End it, when it has tidied up."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> dict[str, object]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit("an engine has ended: see above")
        answer: dict[str, object] = json.loads(line)
        return answer


@dataclass
class Measured:
    """All rounds of one kind, by one engine."""

    rounds: list[dict[str, float]] = field(default_factory=list)
    failed: str = ""

    def of(self, figure: str) -> list[float]:
        """Return one figure of all rounds."""
        return [each[figure] for each in self.rounds]

    def median(self, figure: str) -> float | str:
        """Return the median of one figure, or that there is none."""
        return "failed" if self.failed else statistics.median(self.of(figure))


def main() -> None:
    """Measure every kind in turns, report."""
    made = parser("preflight, capture and restore of ten kinds of worker")
    made.add_argument("--rounds", type=int, default=3, choices=range(1, 51), metavar="1..50")
    made.add_argument("--beside", metavar="COMMIT", help="measure the engine of another commit too, in turns")
    arguments = made.parse_args()
    beside = f" --beside {arguments.beside}" if arguments.beside else ""
    report = Report("kinds", f"python -m benchmarks.kinds --rounds {arguments.rounds}{beside}", HEADER)
    with ExitStack() as ends:
        checkouts = [ROOT, *([ends.enter_context(_checkout(arguments.beside))] if arguments.beside else [])]
        engines = [Engine(each) for each in checkouts]
        for engine in engines:
            ends.callback(engine.close)
        found = _measure_all(engines, arguments.rounds)
    late = _describe(report, *found)
    finish(report, arguments)
    sys.exit(1 if late else 0)


@contextmanager
def _checkout(commit: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="kinds-") as folder:
        path = Path(folder) / "checkout"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(path), commit], check=True)
        try:
            yield path
        finally:
            subprocess.run([*git, "remove", "--force", str(path)], check=True)


def _measure_all(engines: list[Engine], rounds: int) -> list[dict[str, Measured]]:
    found = [{kind: Measured() for kind in KINDS} for _ in engines]
    total, done = rounds * len(KINDS) * len(engines), 0
    with for_terminal().step("workers") as advance:
        for number in range(rounds):
            for place, kind in enumerate(KINDS):
                for engine, measured in zip(engines, found, strict=True):
                    if not measured[kind].failed:
                        _note(measured[kind], engine.measure(kind, f"kinds-{place}-{number}"))
                    done += 1
                    advance(done, total)
                if found[0][kind].failed:
                    sys.exit(f"{kind}: {found[0][kind].failed}")
    return found


def _note(measured: Measured, answer: dict[str, object]) -> None:
    if "failed" in answer:
        measured.failed = str(answer["failed"])
    else:
        measured.rounds.append({name: float(str(value)) for name, value in answer.items() if value is not None})


def _describe(report: Report, now: dict[str, Measured], before: dict[str, Measured] | None = None) -> list[str]:
    report.header = (*HEADER, *(BESIDE if before else ()))
    for kind, measured in now.items():
        captures, restores = measured.of("capture"), measured.of("restore")
        times = (statistics.median(captures), max(captures), statistics.median(restores), max(restores))
        old = (before[kind].median("capture"), before[kind].median("restore")) if before else ()
        report.rows.append((kind, min(measured.of("preflight_ms")), *times, *old))
        report.data[kind] = measured.rounds
        if before:
            report.data[f"{kind}, before"] = before[kind].rounds or before[kind].failed.splitlines()[-1:]
    late = [kind for kind, most in MOST_MS.items() if min(now[kind].of("preflight_ms")) > most]
    report.conclusions.append(f"preflights within their bounds: {not late}; every worker had what it had before")
    if before:
        report.conclusions += [_compared(figure, now, before) for figure in ("capture", "restore")]
    return late


def _compared(figure: str, now: dict[str, Measured], before: dict[str, Measured]) -> str:
    ratios = {
        kind: statistics.median(now[kind].of(figure)) / statistics.median(measured.of(figure))
        for kind, measured in before.items()
        if not measured.failed
    }
    slowest = max(ratios, key=lambda kind: ratios[kind])
    mean = statistics.geometric_mean(ratios.values())
    words = f"seconds of a {figure}, now to before: {mean:.2f} over the {len(ratios)} kinds that both can do"
    return f"{words}; most for {slowest}: {ratios[slowest]:.2f}"


if __name__ == "__main__":
    main()
