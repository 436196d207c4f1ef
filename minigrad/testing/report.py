"""What a failure looks like to a person: as text of at most 100 columns, and as one page of HTML.

Both say the same: what does not hold, the minimal example, the worst entries, the likely cause,
Python that shows it again, and how small an error the run could have seen.
"""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .diagnosis import Cause, causes
from .example import Array, Example, Sequences
from .laws import Finding
from .replay import WIDTH, snippet
from .run import Result

ENTRIES = 8  # of the worst
_SHOWN = 16  # numbers of an array that stand in the example; the snippet has them all


@dataclass
class Section:
    """A part of a report: paragraphs, a table (its first row is the head), or code."""

    title: str
    paragraphs: Sequence[str] = ()
    table: Sequence[Sequence[str]] = ()
    code: str = ""
    note: str = ""


class Report:
    """What came of a law on one subject, for people: `text()`, `html()`.

    info: an `OpInfo` or a `CellInfo`. result: of `run`. origin: lines of Python that make the
    function as `f`, for the snippet, in place of those that the subject knows. snippet: whether
    there is to be one.
    """

    def __init__(self, info, result: Result, *, origin: str | None = None, snippet: bool = True):
        self.info, self.result, self.origin, self.with_snippet = info, result, origin, snippet
        self._causes: list[Cause] | None = None

    @property
    def title(self) -> str:
        """What does not hold: the subject, what of it, the law."""
        r = self.result
        if r.finding is None:
            return f"{self.info.name}: {r.law.id}: {r.verdict}"
        what = _rid(r.finding.what, f"{self.info.name}, ").rstrip(",")
        return f"{self.info.name}: {what}: {r.law.id} does not hold"

    def causes(self) -> list[Cause]:
        """The likely causes, best first; empty where nothing failed."""
        r = self.result
        if r.finding is None:
            return []
        if self._causes is None:
            self._causes = causes(r.finding, self.info, r.example, law=r.law, witnesses=r.witnesses)
        return self._causes

    @cached_property
    def snippet(self) -> str:
        """Python that shows the failure again in a fresh process."""
        return snippet(self.info, self.result.law, self.result.example, self.origin)

    @cached_property
    def sections(self) -> list[Section]:
        r, f = self.result, self.result.finding
        if f is None:
            return [
                Section("", [p for p in (f"The law: {r.law.title}.", r.reason) if p]),
                self._power(),
            ]
        made = [
            Section("", [f"The law: {r.law.title}.", f"Expected {f.expected}, got {f.got}."]),
            Section("Example", *_example(self.info, r.example, f.facts.get("cut"))),
        ]
        # Only P7 has a derivative of its own to compare with.
        head = ("analytic", "numeric") if r.law.id == "P7" else ("got", "expected")
        if rows := _entries(f, r.example, head):
            made.append(
                Section(
                    f"Worst entries of {f.what.rstrip(',')}", table=rows, note=_share(_wrong(f))
                )
            )
        made.append(
            Section(
                "Likely cause", [f"{i}. {c.name}: {c.text}" for i, c in enumerate(self.causes(), 1)]
            )
        )
        if self.with_snippet:
            made.append(Section("To see it again, in a fresh process", code=self.snippet))
        return [*made, self._power()]

    def _power(self) -> Section:
        r = self.result
        least = "It compares nothing within an error bar: there is no smallest error to tell."
        if r.finding is not None:
            least = "It failed before it had found out how small an error it could have seen."
        if r.resolution:
            least = f"Smallest relative error this run could have seen: {r.resolution:.1e}."
        tried = [
            f"{_count(r.examples, 'example')} tried",
            f"{r.inconclusive} inconclusive" if r.inconclusive else "",
            f"{r.not_applicable} of which the law says nothing" if r.not_applicable else "",
            f"{_count(r.evaluations, 'call')} of the forward code" if r.evaluations else "",
            f"oracle: {r.method}" if r.method else "",
        ]
        return Section("Power", [least, "; ".join(t for t in tried if t) + "."])

    def text(self) -> str:
        """The report in at most 100 columns."""
        lines = textwrap.wrap(self.title, WIDTH, subsequent_indent="  ")
        for s in self.sections:
            lines += ["", s.title] if s.title else []
            pad = "  " if s.title else ""
            for p in s.paragraphs:
                lines += textwrap.wrap(
                    p, WIDTH, initial_indent=pad, subsequent_indent=pad + "   " * bool(s.title)
                )
            lines += [pad + line for line in _aligned(s.table, WIDTH - len(pad))]
            lines += textwrap.wrap(f"({s.note})", WIDTH, initial_indent=pad) if s.note else []
            lines += ["", *s.code.splitlines()] if s.code else []
        return "\n".join(line.rstrip() for line in lines)

    def html(self) -> str:
        """The report as one page that needs nothing else."""
        return _page(self.title, self.body("h1"))

    def body(self, heading: str) -> str:
        """The report as a part of a page."""
        out = [f"<{heading}>{_e(self.title)}</{heading}>"]
        for s in self.sections:
            out += [f"<h3>{_e(s.title)}</h3>"] if s.title else []
            out += [f"<p>{_e(p)}</p>" for p in s.paragraphs]
            if s.table:
                out.append(_table(s.table))
            out += [f'<p class="note">{_e(s.note)}</p>'] if s.note else []
            out += [f"<pre>{_e(s.code)}</pre>"] if s.code else []
            if s.title.startswith("Worst") and self.result.finding is not None:
                out.append(_heat(self.result.finding, self.result.example))
        return "\n".join(out)


def summary(info, results: Sequence[Result]) -> str:
    """A line for each law in at most 100 columns: verdict, examples, resolution, whether the bits
    agreed, what it says; and which points of the bit contract hold."""
    head = ["law", "verdict", "examples", "unsure", "sees", "bits", "title"]
    rows = [head, *[_line(r) for r in results]]
    lines = textwrap.wrap(f"{info.name}: {_counted(results)}", WIDTH)
    points = [line for p in _contract(results) for line in textwrap.wrap(p, WIDTH)]
    legend = ["", *textwrap.wrap(_LEGEND, WIDTH)]
    return "\n".join([*lines, *_aligned(rows, WIDTH), *legend, *([""] if points else []), *points])


_LEGEND = (
    "examples: tried, until the first failure; unsure: those that told nothing, because the oracle "
    "was not sharp enough; sees: the smallest relative error that would have shown; bits: in how "
    "many of them the two sides were equal to the bit"
)


def html_page(info, results: Sequence[Result], title: str = "") -> str:
    """All laws on one subject as one page that needs nothing else: a table, then the failures."""
    reports = [Report(info, r) for r in results]
    rows = [["law", "verdict", "examples", "unsure", "sees", "bits", "title"]]
    links = {i: f"#{r.law.id}" for i, r in enumerate(results, 1) if r.finding is not None}
    title = title or f"{info.name}: {_counted(results)}"
    table = _table([*rows, *[_line(r) for r in results]], links, "summary")
    out = [f"<h1>{_e(title)}</h1>", table, f'<p class="note">{_e(_LEGEND)}</p>']
    out += [f"<p>{_e(p)}</p>" for p in _contract(results)]
    for r in reports:
        if r.result.finding is not None:
            out.append(f'<section id="{_e(r.result.law.id)}">{r.body("h2")}</section>')
    return _page(title, "\n".join(out))


def _counted(results: Sequence[Result]) -> str:
    counts = [f"{n} {v}" for v in _VERDICTS if (n := sum(r.verdict == v for r in results))]
    return f"{_count(len(results), 'law')}: {', '.join(counts)}"


_VERDICTS = ("pass", "fail", "inconclusive", "skip")


def _line(r: Result) -> list[str]:
    says = r.law.title + (f" ({r.reason})" if r.reason else "")
    sees = f"{r.resolution:.0e}" if r.resolution else "-"
    return [r.law.id, r.verdict, str(r.examples), str(r.inconclusive), sees, _bits(r), says]


def _bits(r: Result) -> str:
    """Whether what a law compares agrees to the bit, demanded or not: "yes", "97 of 100", "-"."""
    seen = r.notes.get("bits", "-") if r.verdict == "pass" else "-"
    held, _, tried = seen.partition(" of ")
    return "yes" if held == tried else seen


# The points of the bit contract that a recurrence may keep, and the laws that see them.
CONTRACT = {
    "P1": "recorded or not", "P5": "the same call again", "P8": "arguments of any layout",
    "C1": "outputs in one piece or two", "C5": "rows in another order",
    "C6": "a row alone or in a batch", "C7": "whatever stands in the padding",
    "C9": "ragged or one by one", "C11": "in reverse or turned round",
    "C13": "layers joined or one by one",
    "C15": "fused or unfolded, on any instruction set, with any threads",
    "C18": "stored or computed again", "C25": "batches of any layout",
    "C27": "whatever was called in between",
}  # fmt: skip


def _contract(results: Sequence[Result]) -> list[str]:
    """In words: which points of the bit contract a recurrence keeps, and which nearly."""
    seen = [(r.law.id, CONTRACT[r.law.id], _bits(r)) for r in results if r.law.id in CONTRACT]
    if not any(id.startswith("C") and bits != "-" for id, _, bits in seen):
        return []
    kept = [f"{point} ({id})" for id, point, bits in seen if bits == "yes"]
    near = [f"{point} ({id}: {bits})" for id, point, bits in seen if bits not in ("yes", "-")]
    said = {"The same bits": kept, "Within rounding, not always the same bits": near}
    return [f"{head}: {'; '.join(points)}." for head, points in said.items() if points]


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"


def _rid(text: str, start: str) -> str:
    return text[len(start) :] if text.startswith(start) else text


# --- the example ---------------------------------------------------------------------------------


def _example(info, e, cut: int | None) -> tuple[list[str], list[list[str]]]:
    """Paragraphs and a table: an array a line, with its numbers where they are few. cut: the step
    at which the law has cut time in two."""
    if isinstance(e, Sequences):
        rows = [["array", "shape", "values"]]
        rows += [[_called(k), str(np.shape(v)), _few(np.asarray(v))] for k, v in e.data.items()]
        said = e.describe() + ([] if cut is None else [f"time is cut at step {cut}"])
        return said, rows if len(rows) > 1 else []
    if not isinstance(e, Example):
        return [repr(e)], []
    rows = [["argument", "dtype", "shape", "layout", "values"]]
    for i, (a, x) in enumerate(zip(e.args, e.arrays(), strict=True)):
        name = info.argument(i)
        if isinstance(a, Array):
            drawn = "" if a.data is not None or a.values == "generic" else f"{a.values}: "
            rows.append([name, a.dtype, str(tuple(a.shape)), a.layout, drawn + _few(x)])
        elif isinstance(x, np.ndarray):
            rows.append([name, x.dtype.name, str(x.shape), "", _few(x)])
        else:
            rows.append([name, type(x).__name__, "", "", repr(x)])
    said = [line for line in e.describe() if not line.startswith("argument ") or " is arg" in line]
    return [*said, f"seed {e.seed}"], rows


def _called(key: str) -> str:
    """What an array of an example is called: "s0" in the snippet is "h0" in the report."""
    return {"s0": "s0 = h0", "s1": "s1 = c0"}.get(key, key)


def _few(x: np.ndarray) -> str:
    """The numbers of an array in one line, if they are few."""
    if x.size > _SHOWN:
        return f"{_few(x.reshape(-1)[:6])[:-1]}, ...] from seed or snippet"
    with np.printoptions(precision=6, threshold=10**6, linewidth=10**6, floatmode="maxprec"):
        return " ".join(np.array2string(x, separator=", ").split())


# --- the entries ---------------------------------------------------------------------------------


def _comparable(f: Finding) -> bool:
    if f.analytic is None or f.numeric is None:
        return False
    A, N = np.asarray(f.analytic), np.asarray(f.numeric)
    return A.shape == N.shape and A.size > 0 and A.dtype.kind in "fiub" and N.dtype.kind in "fiub"


def _ratio(f: Finding) -> np.ndarray:
    """|difference| / tolerance; inf where no difference was allowed, or where it is not finite."""
    A, N = np.asarray(f.analytic, np.float64), np.asarray(f.numeric, np.float64)
    error = np.zeros(N.shape) if f.error is None else np.asarray(f.error, np.float64)
    same = (A == N) | ((A != A) & (N != N))
    with np.errstate(all="ignore"):
        ratio = np.abs(A - N) / np.broadcast_to(error, N.shape)
    return np.where(same, 0.0, np.where(np.isnan(ratio), np.inf, ratio))


def _wrong(f: Finding) -> np.ndarray:
    return _ratio(f) > 1


def _share(wrong: np.ndarray) -> str:
    n = int(wrong.sum())
    if wrong.size == 1:
        return "the only entry is wrong"
    return f"{n} of {wrong.size} entries {'is' if n == 1 else 'are'} wrong"


def _entries(f: Finding, example, head: tuple[str, str]) -> list[list[str]]:
    """The table of the worst entries; nothing where there are no two arrays to compare."""
    if not _comparable(f):
        return []
    A, N = np.asarray(f.analytic), np.asarray(f.numeric)
    ratio = _ratio(f)
    with np.errstate(all="ignore"):
        difference = np.abs(A.astype(np.float64) - N.astype(np.float64))
    difference = np.where(np.isnan(difference), np.inf, difference)
    order = sorted(
        np.ndindex(A.shape), key=lambda i: (-ratio[i], -difference[i] if ratio[i] else 0.0, i)
    )
    error = np.zeros(N.shape) if f.error is None else np.broadcast_to(f.error, N.shape)
    rows = [["index", *head, "bar", "difference / tolerance"]]
    for i in order[:ENTRIES]:
        if ratio[i] <= 1:
            break
        bar = f"{float(error[i]):.1e}" if error[i] else "0"
        times = f"{ratio[i]:.2g}" if math.isfinite(ratio[i]) else "-"
        rows.append([name_of_index(f, example, i), *_pair(A[i], N[i]), bar, times])
    return rows if len(rows) > 1 else []


def _pair(a, b) -> tuple[str, str]:
    """Two numbers with as many digits as it takes to tell them apart, and two more."""
    a, b = float(a), float(b)
    for digits in range(6, 18):
        x, y = f"{a:.{digits}g}", f"{b:.{digits}g}"
        if x != y and f"{a:.{digits - 2}g}" != f"{b:.{digits - 2}g}":
            break
    return x, y


def name_of_index(f: Finding, example, index: tuple[int, ...]) -> str:
    """An index in words: `t=3, row 1, unit 5 (gate f)`."""
    if len(f.axes) != len(index) or not index:
        return str(tuple([int(i) for i in index]))
    gates = f.facts.get("gates")
    gates = gates.get(f.input) if isinstance(gates, dict) else gates
    H = f.facts.get("H") or getattr(example, "H", None)
    words = []
    for axis, i, n in zip(f.axes, index, np.asarray(f.analytic).shape, strict=True):
        if axis == "t":
            words.append(f"t={i}")
        elif axis in ("unit", "gate unit") and H and n > H:
            gate = gates[i // H] if gates and i // H < len(gates) else i // H
            words.append(f"unit {i % H} (gate {gate})")
        else:
            words.append(f"{axis.removeprefix('gate ')} {i}")
    return ", ".join(words)


# --- text ----------------------------------------------------------------------------------------


def _aligned(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """A table as lines: columns aligned, the last one wrapped under itself."""
    if not rows:
        return []
    # A cell that would push the others out is clipped.
    rows = [
        [c if len(c) <= 40 or j == len(r) - 1 else f"{c[:37]}..." for j, c in enumerate(r)]
        for r in rows
    ]
    wide = [max(len(r[j]) for r in rows) for j in range(len(rows[0]))]
    left = width - sum(wide[:-1]) - 2 * (len(wide) - 1)
    right = [all(_numeric(r[j]) for r in rows[1:]) for j in range(len(wide))]
    lines = []
    for r in rows:
        last = textwrap.wrap(r[-1], max(20, left)) or [""]
        if right[-1]:
            last = [last[0].rjust(min(wide[-1], left))]
        cells = [
            c.rjust(w) if right[j] else c.ljust(w)
            for j, (c, w) in enumerate(zip(r, wide, strict=True))
        ]
        start = "  ".join([*cells[:-1], ""])
        lines += [start + last[0], *[" " * len(start) + more for more in last[1:]]]
    return lines


def _numeric(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell in ("-", "")
    return True


# --- HTML ----------------------------------------------------------------------------------------


def _e(text: str) -> str:
    return html.escape(str(text))


def _table(
    rows: Sequence[Sequence[str]], links: dict[int, str] | None = None, kind: str = ""
) -> str:
    right = [all(_numeric(r[j]) for r in rows[1:]) for j in range(len(rows[0]))]
    side = [' class="number"' if x else "" for x in right]
    out = [f'<div class="scroll"><table class="{kind}"><thead><tr>']
    out += [f"<th{s}>{_e(c)}</th>" for s, c in zip(side, rows[0], strict=True)]
    out.append("</tr></thead><tbody>")
    for i, r in enumerate(rows[1:], 1):
        cells = [f"<td{s}>{_e(c)}</td>" for s, c in zip(side, r, strict=True)]
        if r[1] in _VERDICTS:
            cells[1] = f'<td class="{r[1]}">{_e(r[1])}</td>'
        if links and i in links:
            cells[0] = f'<td><a href="{links[i]}">{_e(r[0])}</a></td>'
        out.append(f"<tr>{''.join(cells)}</tr>")
    return "".join([*out, "</tbody></table></div>"])


def _heat(f: Finding, example) -> str:
    """Where the errors are: a square an entry, time (or the last axis) from left to right."""
    if not _comparable(f):
        return ""
    if not 2 <= _ratio(f).size <= 4096:
        return ""
    ratio, columns = _ratio(f), "t" if "t" in f.axes else ""
    across = f.axes.index("t") if columns else ratio.ndim - 1
    names = list(f.axes) if len(f.axes) == ratio.ndim else [f"axis {i}" for i in range(ratio.ndim)]
    places = np.moveaxis(np.arange(ratio.size).reshape(ratio.shape), across, -1)
    index = places.reshape(-1, ratio.shape[across])
    rest = ", ".join(n for i, n in enumerate(names) if i != across) or "one row"
    side = 18 if max(index.shape) <= 40 else 8
    squares = []
    for y, x in np.ndindex(index.shape):
        at = tuple([int(i) for i in np.unravel_index(index[y, x], ratio.shape)])
        r = float(ratio[at])
        heat = 0.0 if r <= 1 else 1.0 if math.isinf(r) else min(1.0, 0.25 + math.log10(r) / 16)
        label = f"{name_of_index(f, example, at)}: {r:.2g}"
        squares.append(
            f'<rect x="{x * side}" y="{y * side}" width="{side - 1}" height="{side - 1}" '
            f'class="{"bad" if r > 1 else "good"}" style="fill-opacity:{heat if r > 1 else 1:.2f}">'
            f"<title>{_e(label)}</title></rect>"
        )
    h, w = index.shape[0] * side, index.shape[1] * side
    return (
        f'<figure><svg width="{w}" height="{h}" viewBox="0 0 {w} {h}" role="img" '
        f'aria-label="difference in units of the tolerance">{"".join(squares)}</svg>'
        f"<figcaption>Where it is wrong: {_e(names[across])} from left to right, {_e(rest)} "
        "from top to bottom; the redder, the larger the difference in units of the tolerance. "
        "Grey is right.</figcaption></figure>"
    )


def _page(title: str, body: str) -> str:
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{_e(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


_STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1c1c1e; --soft: #63636a; --line: #d8d8de;
  --block: #f4f4f7; --bad: #c2281d; --good: #d9dbe0; --pass: #1a7f37; --unsure: #9a6700; }
@media (prefers-color-scheme: dark) {
  :root { --page: #17181b; --ink: #e6e6ea; --soft: #a0a0a8; --line: #3a3b41; --block: #222328;
    --bad: #ff6b5e; --good: #3d3f46; --pass: #57c76f; --unsure: #e0b040; } }
body { background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif;
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; line-height: 1.3; } h2 { font-size: 1.2rem; margin-top: 2.5rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; } p { margin: .2rem 0; }
.note, figcaption { color: var(--soft); font-size: .9rem; }
table { border-collapse: collapse; font-size: .9rem; margin: .5rem 0; }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; } th { color: var(--soft); font-weight: 600; }
td { font-variant-numeric: tabular-nums; }
.number { text-align: right; } td.number { white-space: nowrap; } .scroll { overflow-x: auto; }
.fail { color: var(--bad); font-weight: 600; } .pass { color: var(--pass); }
.inconclusive { color: var(--unsure); } .skip { color: var(--soft); } a { color: inherit; }
pre { background: var(--block); border: 1px solid var(--line); border-radius: 6px;
  padding: .8rem 1rem; overflow-x: auto; font: 13px/1.45 ui-monospace, monospace; }
figure { margin: .8rem 0; } figure svg { display: block; margin-bottom: .4rem; max-width: 100%; }
.bad { fill: var(--bad); } .good { fill: var(--good); }
h1, h2, p { overflow-wrap: anywhere; }
@media (max-width: 640px) {  /* the title of a law below its numbers */
  .summary, .summary thead, .summary tbody { display: block; }
  .summary tr { display: grid; grid-template-columns: 3rem 5.5rem repeat(4, 1fr);
    border-bottom: 1px solid var(--line); padding: .25rem 0; }
  .summary th, .summary td { border: 0; padding: 0 .4rem 0 0; }
  .summary td:last-child { grid-column: 1 / -1; } .summary th:last-child { display: none; } }
"""
