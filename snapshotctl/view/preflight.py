"""What a preflight found, for people."""

from __future__ import annotations

import textwrap
from itertools import groupby
from typing import Final

import click

from contract.api.memory import Memory
from contract.api.preflight import PreflightReport
from contract.api.states import AgentReason
from contract.remedies.agent import AGENT
from snapshotctl.view.table import size

WIDTH: Final = 100
_INDENT: Final = "  "


def as_text(report: PreflightReport, pod: str) -> str:
    """Write what is in the way by code, each with its remedy once."""
    processes = "1 process" if report.processes == 1 else f"{report.processes} processes"
    head = f"Pod/{pod}, container {report.container} on node {report.node}: {processes}{_memory(report.memory)}"
    if not report.findings:
        return f"{head}, {click.style('nothing is in the way of a capture', fg='green')}\n"
    parts = [f"{head}, {click.style('it would not be captured', fg='red')}\n"]
    for code, found in groupby(report.findings, key=lambda each: each.reason):
        parts.append(f"{_INDENT}{click.style(code, bold=True)}\n")
        parts += [_wrapped("- ", each.message) for each in found]
        if code in set(AgentReason):
            reason = AGENT[AgentReason(code)]
            parts += [_wrapped("what to do  ", reason.remedy), _wrapped("read        ", reason.link)]
    if report.left_out:
        parts.append(f"{_INDENT}and {report.left_out} more\n")
    return "".join(parts)


def _memory(memory: Memory) -> str:
    if not memory.resident:
        return ""
    return f", {size(memory.resident)} of memory, {size(memory.share)} counting what others map too by its share"


def _wrapped(label: str, text: str) -> str:
    first, later = f"{_INDENT * 2}{label}", _INDENT * 2 + " " * len(label)
    return textwrap.fill(text, WIDTH, initial_indent=first, subsequent_indent=later, break_long_words=False) + "\n"
