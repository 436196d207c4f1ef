"""What came out, as numbers, tables and CSV."""

from __future__ import annotations

import csv
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import IO

from .problems import Problem

OURS = "minigrad"


@dataclass
class Result:
    """One problem on so many threads: by contestant, the seconds of each round."""

    problem: Problem
    threads: int
    peak: float | None = None  # GFLOP/s of so many cores
    names: list[str] = field(default_factory=list)  # of all contestants
    seconds: dict[str, list[float]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)  # the variant that competed
    errors: dict[str, float] = field(default_factory=dict)  # shares of the largest entry
    faults: dict[str, str] = field(default_factory=dict)  # why a contestant has no time

    def quartiles(self, name: str) -> tuple[float, float, float]:
        """Of a contestant's seconds: the lower quartile, the median, the upper one."""
        times = self.seconds[name]
        if len(times) == 1:
            return times[0], times[0], times[0]
        low, middle, high = statistics.quantiles(times, n=4, method="inclusive")
        return low, middle, high

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])

    def ratio(self, name: str) -> float | None:
        """Its time over minigrad's, the median over the rounds: above 1, minigrad is faster."""
        if OURS not in self.seconds or name not in self.seconds:
            return None
        pairs = zip(self.seconds[name], self.seconds[OURS], strict=True)
        return statistics.median(theirs / ours for theirs, ours in pairs)

    def best_peer(self) -> str | None:
        """The fastest of the others."""
        return min((name for name in self.seconds if name != OURS), key=self.median, default=None)

    def gflops(self, name: str) -> float:
        return self.problem.gflops(self.median(name))

    def percent(self, name: str) -> float | None:
        """Its speed as a share of the peak of as many cores, in percent."""
        return None if not self.peak else 100 * self.gflops(name) / self.peak


def geometric_mean(values: Iterable[float]) -> float | None:
    """exp(mean(log x)), the mean for ratios; None of nothing.

    >>> geometric_mean([1.0, 4.0])
    2.0
    """
    logs = [math.log(x) for x in values]
    return math.exp(sum(logs) / len(logs)) if logs else None


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines, each column as wide as its widest cell, flush right.

    >>> aligned([["a", "bb"], ["ccc", "d"]])
    ['  a  bb', 'ccc   d']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def number(x: float | None, unit: str = "") -> str:
    """Three significant digits.

    >>> number(0.012345), number(1234.5), number(2.0, "x"), number(None)
    ('0.0123', '1234', '2.00x', '-')
    """
    if x is None:
        return "-"
    digits = max(0, 2 - math.floor(math.log10(abs(x)))) if x else 0
    return f"{x:.{digits}f}{unit}"


# --- tables --------------------------------------------------------------------------------------


def group_of(result: Result) -> tuple[str, str, int, str]:
    """Results in one table agree in this."""
    p = result.problem
    return p.cell, p.dtype, result.threads, p.phase


def groups(results: list[Result]) -> list[list[Result]]:
    """The results table by table, in the order of their first."""
    order = list(dict.fromkeys(map(group_of, results)))
    ranked = sorted(results, key=lambda r: order.index(group_of(r)))
    return [list(group) for _, group in groupby(ranked, group_of)]


def contestants_of(results: Iterable[Result]) -> list[str]:
    """The names of all contestants of these results."""
    return list(dict.fromkeys([name for r in results for name in r.names]))


def title(result: Result) -> str:
    p = result.problem
    threads = f"{result.threads} thread" + "s" * (result.threads > 1)
    return f"{p.kind.label}, {p.dtype}, {threads}, {p.phase}"


def ratios(results: Iterable[Result], name: str) -> float | None:
    """The geometric mean of a peer's ratios."""
    return geometric_mean([x for r in results if (x := r.ratio(name)) is not None])


def table(results: list[Result]) -> str:
    """One table: a line for each shape, then the geometric means and what was left out."""
    timed = {name for r in results for name in r.seconds}
    peers = [name for name in contestants_of(results) if name != OURS and name in timed]
    notes = {r.notes.get(OURS) for r in results} - {None}
    head = ["T", "N", "I", "H", OURS, "quartiles", "GFLOP/s", "% of peak"]
    for name in peers:
        head += [name, "ratio"]
    head += ["to the best"] * bool(peers)
    rows = [head]
    for r in results:
        row = [str(size) for size in r.problem.shape]
        if OURS in r.seconds:
            low, middle, high = (number(1000 * s) for s in r.quartiles(OURS))
            speed = number(r.gflops(OURS))
            row += [middle, f"{low} - {high}", speed, number(r.percent(OURS))]
        else:
            row += ["-"] * 4
        for name in peers:
            median = 1000 * r.median(name) if name in r.seconds else None
            row += [number(median), number(r.ratio(name), "x")]
        if peers:
            best = r.best_peer()
            row.append(number(r.ratio(best), "x") + f" {best}" if best else "-")
        rows.append(row)
    if peers:
        means = ["", "", "", "", "", "", "", "mean"]
        for name in peers:
            means += ["", number(ratios(results, name), "x")]
        best_of = [x for r in results if (b := r.best_peer()) and (x := r.ratio(b)) is not None]
        rows.append([*means, number(geometric_mean(best_of), "x")])
    lines = [f"{title(results[0])}; minigrad: {', '.join(sorted(map(str, notes))) or '-'}"]
    lines += ["  " + line for line in aligned(rows)]
    return "\n".join(lines + faults(results))


def faults(results: list[Result]) -> list[str]:
    """A line for each reason why somebody has no time, with its shapes unless it is for all."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for r in results:
        for name, fault in r.faults.items():
            reasons.setdefault((name, fault), []).append(str(r.problem.shape))
    return [
        f"  {name}: {fault}" + (f" at {', '.join(at)}" if len(at) < len(results) else "")
        for (name, fault), at in reasons.items()
    ]


def summary(results: list[Result]) -> str:
    """The geometric means of all tables: each peer's time over minigrad's."""
    peers = [name for name in contestants_of(results) if name != OURS]
    if not peers:
        return ""
    rows = [["", *peers]]
    for group in groups(results):
        means = [number(ratios(group, name), "x") for name in peers]
        rows.append([title(group[0]).ljust(52), *means])
    lines = ["geometric means of time over minigrad's time; above 1, minigrad is faster"]
    return "\n".join(lines + ["  " + line for line in aligned(rows)])


# --- CSV -----------------------------------------------------------------------------------------

COLUMNS = [
    *("cell", "dtype", "threads", "phase", "T", "N", "I", "H", "contestant", "version", "variant"),
    *("rounds", "min_ms", "q1_ms", "median_ms", "q3_ms", "max_ms", "gflops", "percent_of_peak"),
    *("ratio_to_minigrad", "error", "fault"),
]


def csv_rows(result: Result, versions: dict[str, str]) -> list[list]:
    """A row for each contestant, in the order of COLUMNS."""
    p, rows = result.problem, []
    for name in contestants_of([result]):
        row = [p.cell, p.dtype, result.threads, p.phase, *p.shape, name, versions.get(name, "")]
        row.append(result.notes.get(name, ""))
        if name in result.seconds:
            times = result.seconds[name]
            low, middle, high = result.quartiles(name)
            milliseconds = [1000 * s for s in (min(times), low, middle, high, max(times))]
            numbers = [*milliseconds, result.gflops(name), result.percent(name), result.ratio(name)]
            row += [len(times), *("" if x is None else f"{x:.6g}" for x in numbers)]
            row += [f"{result.errors.get(name, 0.0):.2g}", ""]
        else:
            row += [0, *[""] * 9, result.faults[name]]
        rows.append(row)
    return rows


def write_csv(file: IO[str], results: list[Result], versions: dict[str, str]) -> None:
    """All results, with a head."""
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    for result in results:
        writer.writerows(csv_rows(result, versions))
