"""Small charts as SVG, readable in light and dark: lines side by side with scales of their own, and bars over time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 340, 240, 56, 40, 16, 44
"""Pixels of one chart, and of its margins."""
COLOURS = ("#0969da", "#bf8700", "#8250df")
BAR, BAR_NAMES, BAR_WIDTH = 18, 150, 720
"""Pixels of a bar with its gap, of the names before the bars, and of the whole picture."""
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


@dataclass(frozen=True)
class Bar:
    """Something that took its time; of whom it is says the colour."""

    name: str
    start: float
    seconds: float
    owner: str


def write_bars(title: str, bars: Sequence[Bar], marks: Mapping[str, float], target: Path) -> None:
    """Draw *bars* below one another over a common time, with *marks* as dashed lines across."""
    end = max(*(bar.start + bar.seconds for bar in bars), *marks.values())
    owners = dict.fromkeys(bar.owner for bar in bars)
    colours = dict(zip(owners, COLOURS, strict=False))
    bottom = TOP + BAR * (len(bars) + len(marks))
    parts = [_text(10, 18, title, "start", "title")]
    parts += [
        _text(BAR_WIDTH - 110 * n - 10, 18, owner, "end", colour=colours[owner]) for n, owner in enumerate(owners)
    ]
    for n, bar in enumerate(bars):
        parts.append(_bar(bar, TOP + BAR * n, end, colours[bar.owner]))
    for n, (name, at) in enumerate(marks.items()):
        x, y = _bar_x(at, end), TOP + BAR * (len(bars) + n) + 12
        parts.append(f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(_text(x - 5, y, f"{name}: {at:.2f} s", "end"))
    size = f'width="{BAR_WIDTH}" height="{bottom + 12}" viewBox="0 0 {BAR_WIDTH} {bottom + 12}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"><style>{STYLE}</style>'
    target.write_text(f"{head}{''.join(parts)}</svg>\n")


def _bar(bar: Bar, y: float, end: float, colour: str) -> str:
    x, width = _bar_x(bar.start, end), max(1.0, _bar_x(bar.start + bar.seconds, end) - _bar_x(bar.start, end))
    beside = (x + width + 5, "start") if x + width < BAR_WIDTH - 70 else (x - 5, "end")
    return (
        _text(BAR_NAMES - 8, y + 12, bar.name, "end")
        + f'<rect x="{x:.1f}" y="{y + 3:.1f}" width="{width:.1f}" height="{BAR - 6}" fill="{colour}"/>'
        + _text(beside[0], y + 12, f"{bar.seconds * 1000:.0f} ms", beside[1])
    )


def _bar_x(seconds: float, end: float) -> float:
    return BAR_NAMES + (BAR_WIDTH - BAR_NAMES - RIGHT) * seconds / end
