"""The results as a picture, an SVG written by hand: time against H, and each peer's ratio.

A row of the picture is a table of the report. On the left stands the time of one step of one row
of the batch against the number of units, on the right the time of every peer over minigrad's,
shape by shape. Both axes of numbers are logarithmic. A mark tells its numbers when pointed at. The
colours follow the reader's light or dark mode.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from xml.sax.saxutils import escape

from .report import OURS, Result, contestants_of, geometric_mean, groups, number, title

WIDTH, LINE = 960, 18  # of the picture, of a line of text
LEFT, GAP, RIGHT = 64, 168, 24  # margins: of the left axis, between the panels, at the right edge
PANEL = (WIDTH - LEFT - GAP - RIGHT) / 2
HEAD, FOOT = 62, 52  # above a panel its titles, below it its axis

Names = dict[str, int]  # of the contestants in a table, and which marks are theirs

# Colours of Okabe and Ito, which the colour-blind can tell apart; the shapes differ as well.
MARKS = ["circle", "square", "triangle", "diamond", "down"]
COLOURS = ["#d55e00", "#2f86c9", "#11a37b", "#c574a5", "#b8901f"]

STYLE = """
svg { --ink: #1f2328; --dim: #656d76; --grid: #d8dee4; --paper: #ffffff; }
@media (prefers-color-scheme: dark) {
  svg { --ink: #e6edf3; --dim: #9198a1; --grid: #30363d; --paper: #0d1117; }
}
text { font: 12px system-ui, sans-serif; fill: var(--ink); }
.title { font-size: 15px; font-weight: 600; }
.dim { fill: var(--dim); }
.end { text-anchor: end; } .middle { text-anchor: middle; }
.grid { stroke: var(--grid); stroke-width: 1; }
.one { stroke: var(--ink); stroke-width: 1.5; }
.line { fill: none; stroke-width: 1.5; opacity: 0.7; }
.paper { fill: var(--paper); }
"""


def element(name: str, text: str | None = None, **attributes) -> str:
    """One element of XML; `class_` stands for class.

    >>> element("text", "a < b", x=1.25, class_="dim")
    '<text x="1.2" class="dim">a &lt; b</text>'
    """
    parts = [name]
    for key, value in attributes.items():
        value = f"{value:.1f}" if isinstance(value, float) else value
        parts.append(f'{key.rstrip("_")}="{value}"')
    opened = "<" + " ".join(parts)
    return f"{opened}/>" if text is None else f"{opened}>{escape(text)}</{name}>"


def mark(i: int, x: float, y: float, told: str) -> str:
    """The mark of contestant i, which tells its numbers when pointed at."""
    r, shape = 4.5, MARKS[i % len(MARKS)]
    if shape == "circle":
        drawn = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}"'
    else:
        corners = {
            "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
            "triangle": [(0, -1.2), (1.15, 0.8), (-1.15, 0.8)],
            "diamond": [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
            "down": [(0, 1.2), (1.15, -0.8), (-1.15, -0.8)],
        }[shape]
        points = " ".join(f"{x + r * a:.1f},{y + r * b:.1f}" for a, b in corners)
        drawn = f'<polygon points="{points}"'
    name, colour = drawn[1:].split()[0], COLOURS[i % len(COLOURS)]
    return f'{drawn} fill="{colour}">{element("title", told)}</{name}>'


class Scale:
    """A logarithmic scale from values to pixels, with ticks at round values."""

    def __init__(self, values: Iterable[float], start: float, end: float, factor: float):
        values = list(values)
        # Room around the outermost values, so that no mark sits on the frame.
        self.low, self.high = min(values) / factor, max(values) * factor
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, steps: tuple[float, ...]) -> list[float]:
        """The values step * 10^k within the scale."""
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        found = [step * 10**k for k in decades for step in steps]
        return [v for v in found if self.low <= v <= self.high]


def plain(value: float) -> str:
    """A round number without an exponent.

    >>> plain(0.05), plain(20.0)
    ('0.05', '20')
    """
    return f"{value:.6f}".rstrip("0").rstrip(".")


def time_panel(
    results: list[Result], names: dict[str, int], top: float, height: float
) -> list[str]:
    """Microseconds for a step of a row against H; the line goes through the geometric means."""
    points: dict[str, list[tuple[int, float, Result]]] = {
        name: [
            (r.problem.shape[3], 1e6 * r.median(name) / math.prod(r.problem.shape[:2]), r)
            for r in results
            if name in r.seconds
        ]
        for name in names
    }
    everything = [p for found in points.values() for p in found]
    if not everything:
        return []
    units = sorted({p[0] for p in everything})
    bottom = top + height
    across = Scale(units, LEFT, LEFT + PANEL, 1.25)
    up = Scale([p[1] for p in everything], bottom, top, 1.6)
    drawn = [
        element(
            "text", "microseconds for a step of a row; line: mean", x=LEFT, y=top - 10, class_="dim"
        ),
        element("text", "H, units", x=LEFT + PANEL / 2, y=bottom + 46, class_="dim middle"),
    ]
    ticks = up.ticks((1, 2, 5))
    for value in ticks if len(ticks) <= 9 else up.ticks((1,)):
        y = up(value)
        drawn.append(element("line", x1=LEFT, x2=LEFT + PANEL, y1=y, y2=y, class_="grid"))
        drawn.append(element("text", plain(value), x=LEFT - 8, y=y + 4, class_="end"))
    last, row = -math.inf, 0
    for value in units:
        x = across(value)
        drawn.append(element("line", x1=x, x2=x, y1=top, y2=bottom, class_="grid"))
        row = 0 if x - last > 30 else 1 - row  # a line lower, where numbers would touch
        drawn.append(element("text", str(value), x=x, y=bottom + 18 + 13 * row, class_="middle"))
        last = x
    for name, i in reversed(names.items()):  # minigrad on top
        means = [(h, geometric_mean(t for u, t, _ in points[name] if u == h)) for h in units]
        line = " ".join(f"{across(h):.1f},{up(t):.1f}" for h, t in means if t is not None)
        stroke = COLOURS[i % len(COLOURS)]
        drawn.append(element("polyline", points=line, class_="line", stroke=stroke))
        for h, t, r in points[name]:
            told = f"{name}, T, N, I, H = {r.problem.shape}: {number(1000 * r.median(name))} ms"
            drawn.append(mark(i, across(h), up(t), told))
    return drawn


def ratio_panel(
    results: list[Result], names: dict[str, int], top: float, height: float
) -> list[str]:
    """Each peer's time over minigrad's, a line for each shape."""
    left, bottom = LEFT + PANEL + GAP, top + height
    found = [(r, n, x) for r in results for n in names if (x := r.ratio(n)) and n != OURS]
    if not found:
        return []
    across = Scale([1.0, *(x for _, _, x in found)], left, left + PANEL, 1.25)
    head = "time over minigrad's: right of 1, minigrad is faster"
    drawn = [
        element("text", head, x=left, y=top - 10, class_="dim"),
        element("text", "T, N, I, H", x=left - 12, y=top - 10, class_="dim end"),
    ]
    ticks = across.ticks((1, 1.5, 2, 3, 5, 7))
    ticks = ticks if len(ticks) <= 8 else across.ticks((1, 2, 5))
    for value in ticks if len(ticks) <= 8 else across.ticks((1,)):
        x = across(value)
        drawn.append(element("line", x1=x, x2=x, y1=top, y2=bottom, class_="grid"))
        drawn.append(element("text", plain(value), x=x, y=bottom + 18, class_="middle"))
    one = across(1.0)
    drawn.append(element("line", x1=one, x2=one, y1=top, y2=bottom, class_="one"))
    step = height / len(results)
    for k, r in enumerate(results):
        y = top + (k + 0.5) * step
        drawn.append(element("line", x1=left, x2=left + PANEL, y1=y, y2=y, class_="grid"))
        label = ", ".join(map(str, r.problem.shape))
        drawn.append(element("text", label, x=left - 12, y=y + 4, class_="end"))
        for result, name, x in found:
            if result is r:
                ours = number(1000 * r.median(OURS))
                told = f"{name}, {label}: {number(x)} times minigrad's {ours} ms"
                drawn.append(mark(names[name], across(x), y, told))
    return drawn


def plot(results: list[Result]) -> str:
    """All tables, one below the other, as one SVG."""
    everyone = contestants_of(results)
    drawn, top = [], 8.0
    for group in groups(results):
        # A contestant keeps its mark throughout; those without a time in this table are left out.
        names = {n: i for i, n in enumerate(everyone) if any(n in r.seconds for r in group)}
        height = max(170.0, LINE * len(group))
        drawn.append(element("text", title(group[0]), x=12, y=top + 18, class_="title"))
        x = float(WIDTH - RIGHT)
        for name, i in reversed(names.items()):  # the legend, from the right
            x -= 7 * len(name) + 8  # a letter is some 7 wide
            drawn.append(element("text", name, x=x, y=top + 18))
            drawn.append(mark(i, x - 10, top + 14, name))
            x -= 22
        drawn += time_panel(group, names, top + HEAD, height)
        drawn += ratio_panel(group, names, top + HEAD, height)
        top += HEAD + height + FOOT + 14
    size = f'width="{WIDTH}" height="{top:.0f}" viewBox="0 0 {WIDTH} {top:.0f}"'
    paper = element("rect", width=WIDTH, height=round(top), class_="paper")
    body = "\n".join([element("title", "minigrad and its peers"), paper, *drawn])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n'
        f"<style>{STYLE}</style>\n{body}\n</svg>\n"
    )
