"""Small line charts as SVG: one figure beside another, each with its own scale, readable in light and dark."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 340, 240, 56, 40, 16, 44
"""Pixels of one chart, and of its margins."""
COLOURS = ("#0969da", "#bf8700", "#8250df")
STYLE = (
    "text{font:11px system-ui,sans-serif;fill:#57606a}.title{font-weight:600}.grid{stroke:#8c959f;stroke-opacity:.3}"
    ".limit{stroke:#cf222e;stroke-dasharray:4 3}"
    "@media(prefers-color-scheme:dark){text{fill:#9ea7b3}}"
)


@dataclass(frozen=True)
class Chart:
    """One figure: lines over the same positions on the x axis, from zero on the y axis."""

    title: str
    x_label: str
    xs: Sequence[float]
    lines: Mapping[str, Sequence[float]]
    limit: float = 0
    """A bound that is promised, drawn dashed; 0: none."""
    limit_label: str = ""
    ticks: int = field(default=4)


def write(charts: Sequence[Chart], target: Path) -> None:
    """Draw *charts* in one row."""
    body = "".join(f'<g transform="translate({WIDTH * n},0)">{_chart(chart)}</g>' for n, chart in enumerate(charts))
    size = f'width="{WIDTH * len(charts)}" height="{HEIGHT}" viewBox="0 0 {WIDTH * len(charts)} {HEIGHT}"'
    target.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"><style>{STYLE}</style>{body}</svg>\n')


def _chart(chart: Chart) -> str:
    top = _nice(max(chart.limit, *(value for line in chart.lines.values() for value in line)), chart.ticks)
    parts = [_text(LEFT, 18, chart.title, "start", "title")]
    for n in range(chart.ticks + 1):
        value = top * n / chart.ticks
        y = _y(value, top)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(LEFT - 6, y + 4, f"{value:,.4g}", "end"))
    parts += [_text(_x(x, chart), HEIGHT - BOTTOM + 16, f"{x:,.0f}", "middle") for x in chart.xs]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, chart.x_label, "middle"))
    if chart.limit:
        y = _y(chart.limit, top)
        parts.append(f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(WIDTH - RIGHT, y - 5, chart.limit_label, "end"))
    for colour, (name, values) in zip(COLOURS, chart.lines.items(), strict=False):
        parts.append(_line(chart, values, top, colour))
        if len(chart.lines) > 1:
            last = values[-1]
            parts.append(_text(WIDTH - RIGHT, _y(last, top) - 8, name, "end", colour=colour))
    return "".join(parts)


def _line(chart: Chart, values: Sequence[float], top: float, colour: str) -> str:
    points = [(_x(x, chart), _y(value, top)) for x, value in zip(chart.xs, values, strict=True)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}'


def _x(value: float, chart: Chart) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT - 12) * value / max(chart.xs)


def _y(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top


def _nice(value: float, ticks: int) -> float:
    """Return the least top of the scale whose ticks are round numbers."""
    power = 1.0
    while power * ticks < value:
        power *= 10
    while power * ticks >= value * 10:
        power /= 10
    return min(step * power / 10 * ticks for step in (1, 2, 2.5, 5, 10) if step * power / 10 * ticks >= value)


def _text(x: float, y: float, words: str, anchor: str, kind: str = "", colour: str = "") -> str:
    attributes = (f' class="{kind}"' if kind else "") + (f' style="fill:{colour}"' if colour else "")
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{attributes}>{escape(words)}</text>'
