"""How every benchmark is called and how it answers: a table and a ratio for people, one JSON object for programs."""

import argparse
import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.support import machine

RESULTS = Path(__file__).parents[1] / "results"


@dataclass
class Report:
    """What one benchmark found."""

    name: str
    command: str
    header: Sequence[str]
    rows: list[Sequence[object]] = field(default_factory=list)
    conclusions: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=machine.describe)

    def show(self, output: str) -> None:
        """Print as ``table`` or ``json``."""
        if output == "json":
            print(json.dumps(self.as_dict(), indent=1))
            return
        print(f"{self.name}: {machine.one_line(self.machine)}\n")
        print("\n".join(table(self.header, self.rows)), end="\n\n")
        print("\n".join(self.conclusions))

    def as_dict(self) -> dict[str, Any]:
        """Return everything, for programs and for the results folder."""
        return {
            "benchmark": self.name,
            "command": self.command,
            "machine": self.machine,
            "table": [dict(zip(self.header, row, strict=True)) for row in self.rows],
            "conclusions": self.conclusions,
            "data": self.data,
        }

    def save(self) -> Path:
        """Keep it among the results that the documentation quotes."""
        RESULTS.mkdir(exist_ok=True)
        target = RESULTS / f"{self.machine['at'][:10]}-{self.name}.json"
        target.write_text(json.dumps(self.as_dict(), indent=1) + "\n")
        return target


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return lines with aligned columns; the first to the left, the others to the right."""
    cells = [list(header), *([_cell(value) for value in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(
            text.ljust(width) if n == 0 else text.rjust(width)
            for n, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    ]


def _cell(value: object) -> str:
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the sample below which ``share`` of all are (nearest rank)."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median_of(runs: Sequence[dict[str, Any]], key: str) -> float:
    """Return the median of one figure over several runs."""
    return float(statistics.median(run[key] for run in runs))


def parser(description: str) -> argparse.ArgumentParser:
    """Return the arguments that all benchmarks share."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("-o", "--output", choices=("table", "json"), default="table", help="how to print the result")
    made.add_argument("--save", action="store_true", help="also keep the result under benchmarks/results")
    return made


def finish(report: Report, arguments: argparse.Namespace) -> None:
    """Print the report, and keep it where that is wanted."""
    report.show(arguments.output)
    if arguments.save:
        report.save()
