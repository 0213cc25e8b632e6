"""Runs the tiers as processes of their own and adds them up: ``python tests/tiers.py unit cluster+engine+node``.

A tier that is done gives back all that it started: the API servers of the cluster tier do not go on working beside the
node tier. Tiers joined by ``+`` run side by side, since they wait more than they compute. What fails there is run once
more, alone, and the summary says so: the bounds of some tests hold only on a machine that does nothing else. Arguments
after ``--`` go to every pytest. The last line counts all tiers; the exit status is 0 only if every tier passed.
"""

import importlib.util
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_ENGINE = tuple(f"tests/node/{folder}" for folder in ("engine", "gpu", "linux", "standby"))
FOLDERS = {
    "unit": ("tests/unit",),
    "cluster": ("tests/chart", "tests/cluster"),
    "engine": _ENGINE,
    "node": ("tests/node", *(f"--ignore={folder}" for folder in _ENGINE)),
}
WORKERS = ("-n", "2", "--dist", "worksteal")
"""For the unit tier alone: the others share one API server or one node among their tests."""
TESTS_FAILED = 1
NO_TESTS = 5
"""pytest's exit statuses: all ran and some failed, none was selected."""
INTERRUPTED = 130
LAST_LINES = 100
"""How much the summary repeats of what pytest printed after its closing line: a traceback, where it printed one."""
_FAILED = re.compile(r"^(?:FAILED|ERROR) (tests/\S+?\.py(?:::.+?)?)(?: - .*)?$")
_STOPPED = "!!! stopping after "
_CLOSING = re.compile(r"^=*\s*((?:\d+ \w+(?:, )?)+|no tests ran) in [\d.]+s")


@dataclass(frozen=True)
class Result:
    """How one tier ended."""

    tier: str
    status: int
    seconds: float
    closing: str | None
    """pytest's closing line; None if it ended without one."""
    failed: tuple[str, ...] = ()
    """Ids of the tests that failed."""
    remarks: tuple[str, ...] = ()
    """The line of each failed test, then what pytest printed after its closing line: what was raised as it ended."""
    again: "Result | None" = None
    """How those did alone, if they failed beside another tier."""

    @property
    def counts(self) -> Counter[str]:
        """Tests by outcome, as the closing line says; a tier that ended without one counts as a failure."""
        if self.closing is None:
            return Counter(failed=1)
        found: Counter[str] = Counter()
        for number, outcome in re.findall(r"(\d+) (\w+)", self.closing.partition(" in ")[0]):
            found["failed" if outcome in {"error", "errors"} else outcome] += int(number)
        if self.again is not None:
            found["failed"] = 0
            found += self.again.counts
        return found

    @property
    def verdict(self) -> int:
        """The exit status that counts."""
        if self.again is None or self.again.status == NO_TESTS:
            return self.status
        return self.again.status

    @property
    def line(self) -> str:
        """What the tier cost."""
        words = f"tier {self.tier}: {self.seconds:.0f} s, exit status {self.status}"
        if self.again is None:
            return words
        closing = (self.again.closing or "no closing line").strip("= \n")
        return f"{words}; alone, {closing}, of {', '.join(self.failed)}"


def closing_of(line: str) -> str | None:
    """*line* if it is the one that pytest prints last."""
    return line if _CLOSING.match(line) else None


def status_of(results: Sequence[Result]) -> int:
    """The first status that is not 0; a tier of which nothing was selected fails only if that holds for all."""
    if all(result.verdict == NO_TESTS for result in results):
        return NO_TESTS
    return next((result.verdict for result in results if result.verdict not in {0, NO_TESTS}), 0)


def summary(results: Sequence[Result]) -> list[str]:
    """What each tier cost, then the line that counts all."""
    total: Counter[str] = sum((result.counts for result in results), Counter())
    if status_of(results) not in {0, NO_TESTS}:
        # A tier can fail although all of its tests passed, for example because a worker process died.
        total["failed"] = max(total["failed"], 1)
    return [
        # The output of tiers side by side is long, and CI shows its end: what failed must stand there.
        *(remark for result in results if result.verdict not in {0, NO_TESTS} for remark in result.remarks),
        *(result.line for result in results),
        f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped",
    ]


def run(tier: str, arguments: Sequence[str], *, prefix: str = "", only: Sequence[str] = ()) -> Result:
    """One tier to its end, or some of its tests, the output passed on line by line."""
    workers = WORKERS if tier == "unit" and importlib.util.find_spec("xdist") else ()
    command = [sys.executable, "-m", "pytest", *(only or FOLDERS[tier]), *workers, *arguments]
    # Without bytecode each of three processes compiles 250 test files again: 9 of 64 CPU seconds of the unit tier.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    begin, lines = time.monotonic(), []
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout or ():
            sys.stdout.write(prefix + line)
            sys.stdout.flush()
            lines.append(line.rstrip())
    return result_of(tier, process.returncode, time.monotonic() - begin, lines)


def result_of(tier: str, status: int, seconds: float, lines: Sequence[str]) -> Result:
    """What pytest's output says of a tier that ended."""
    end = next((number for number in reversed(range(len(lines))) if closing_of(lines[number])), None)
    reports = [line for line in lines if _FAILED.match(line)]
    # What was not run because pytest stopped early (-x) is in no list.
    stopped = any(_STOPPED in line for line in lines)
    failed = [] if stopped else dict.fromkeys(found[1] for line in reports if (found := _FAILED.match(line)))
    after = lines[-LAST_LINES:] if end is None else lines[end + 1 :][-LAST_LINES:]
    closing = None if end is None else lines[end]
    return Result(tier, status, seconds, closing, tuple(failed), (*dict.fromkeys(reports), *after))


def run_together(tiers: Sequence[str], arguments: Sequence[str]) -> list[Result]:
    """Tiers side by side, each line of output marked with its tier."""
    if len(tiers) == 1:
        return [run(tiers[0], arguments)]
    results: dict[str, Result] = {}

    def one(tier: str) -> None:
        results[tier] = run(tier, arguments, prefix=f"[{tier}] ")

    threads = [threading.Thread(target=one, args=(tier,)) for tier in tiers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [_alone(results[tier], arguments) for tier in tiers]


def _alone(result: Result, arguments: Sequence[str]) -> Result:
    if result.status != TESTS_FAILED or not result.failed:
        return result
    return replace(result, again=run(result.tier, arguments, prefix=f"[{result.tier} alone] ", only=result.failed))


def main(arguments: Sequence[str]) -> int:
    """Run the groups of tiers one after another; see the module."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    wanted = [group.split("+") for group in arguments[:end]] or [[tier] for tier in FOLDERS]
    if unknown := {tier for group in wanted for tier in group} - FOLDERS.keys():
        sys.stderr.write(f"unknown tier {', '.join(sorted(unknown))}; known: {', '.join(FOLDERS)}\n")
        return 2
    results: list[Result] = []
    try:
        for group in wanted:
            results += run_together(group, arguments[end + 1 :])
    except KeyboardInterrupt:
        return INTERRUPTED
    print("\n".join(summary(results)))  # noqa: T201 - a program's output
    return status_of(results)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
