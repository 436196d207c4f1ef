"""How minigrad's time and memory grow with T, N and H.

Time: one size is doubled while the others stay, and an exponent is fitted, time ~ size^e, by least
squares on logarithms, from the points that take several times the fixed cost of a call. Work is
linear in T and N (e = 1) and, with I = H, quadratic in H (e = 2).

Memory: what is kept between the forward and the backward pass, and the most that is in use during
each, counted by tracemalloc, in values of size H for each step of each row. Outputs count: where
nothing is kept beside them, it says 1. Working memory that calls reuse does not count.

    python -m benchmarks.scaling [--cells lstm,gru,rnn] [--dtypes f32,f64] [--threads 1]
"""

from __future__ import annotations

import argparse
import gc
import sys
import tracemalloc
from collections.abc import Sequence

import numpy as np

import minigrad as mg
from minigrad import kernels

from .problems import CELLS, DTYPES, PHASES, Problem, Shape, in_minigrad, make_layer, offered
from .recurrent import chosen
from .report import aligned, number
from .workers import measured

SWEEPS: dict[str, list[Shape]] = {
    "T": [(t, 16, 64, 64) for t in (8, 16, 32, 64, 128, 256, 512)],
    "N": [(32, n, 64, 64) for n in (1, 2, 4, 8, 16, 32, 64, 128, 256)],
    "H": [(32, 16, h, h) for h in (16, 32, 64, 128, 256, 512)],
}
QUICK = 4  # times the fixed cost; a point below that says more of the fixed cost than of growth
MEMORY: Shape = (64, 32, 64, 256)


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The e of values ~ sizes^e: the slope of the least-squares line through the logarithms.

    >>> round(exponent([1, 2, 4], [3, 12, 48]), 6)
    2.0
    """
    x, y = np.log(sizes), np.log(values)
    x -= x.mean()
    return float((x * (y - y.mean())).sum() / (x * x).sum())


def sweep(cell: str, dtype: str, phase: str, size: str) -> tuple[list[float], float | None]:
    """The seconds of each point, and the exponent of those above the fixed cost, of three at least.

    The fixed cost is that of the smallest call, T = N = I = H = 1.
    """

    def seconds(shape: Shape) -> float:
        run = in_minigrad(Problem(cell, dtype, phase, shape), "auto")
        run()
        return min(measured(run) for _ in range(3))

    place = "TNIH".index(size)
    fixed = seconds((1, 1, 1, 1))
    times = [seconds(shape) for shape in SWEEPS[size]]
    above = [(s[place], t) for s, t in zip(SWEEPS[size], times, strict=True) if t > QUICK * fixed]
    return times, exponent(*zip(*above, strict=True)) if len(above) > 2 else None


def memory(problem: Problem) -> dict[str, float]:
    """Values of size H for each step of each row: kept after forward, most in use in each pass."""
    steps, rows, _, hidden = problem.shape
    unit = steps * rows * hidden * np.dtype(DTYPES[problem.dtype]).itemsize
    layer, xs, states, dys = make_layer(problem)

    def used() -> int:
        kernels._idle.clear()  # held for the next large result, by nobody used
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    in_minigrad(problem, "auto")()  # working memory grows to what it will be
    tracemalloc.start()
    try:
        found, before = {}, used()
        tracemalloc.reset_peak()
        if not problem.training:
            with mg.no_grad():
                ys, _ = layer(xs, states)
        else:
            ys, _ = layer(xs, states)
        found["forward"] = (tracemalloc.get_traced_memory()[1] - before) / unit
        found["kept"] = (used() - before) / unit
        if problem.training:
            tracemalloc.reset_peak()
            ys.backward(dys)
            found["backward"] = (tracemalloc.get_traced_memory()[1] - before) / unit
        return found
    finally:
        tracemalloc.stop()


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cells", default="lstm,gru,rnn", help=f"of {', '.join(CELLS)}")
    parser.add_argument("--dtypes", default="f32", help=f"of {', '.join(DTYPES)}")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory-only", action="store_true", help="take no times")
    args = parser.parse_args(argv)
    kernels.set_threads(args.threads)
    cells = [c for c in chosen(args.cells, CELLS, "cell", parser) if offered(c)]
    cases = [
        (cell, dtype, phase)
        for cell in cells
        for dtype in chosen(args.dtypes, DTYPES, "dtype", parser)
        for phase in PHASES
    ]
    print(", ".join(f"{k} {v}" for k, v in kernels.config().items()))
    for size in () if args.memory_only else SWEEPS:
        place = "TNIH".index(size)
        fixed = dict(zip("TNIH", SWEEPS[size][0], strict=True))
        others = ", ".join(f"{k} = {v}" for k, v in fixed.items() if k != size)
        others = f"T = {fixed['T']}, N = {fixed['N']}, I = H" if size == "H" else others
        print(f"\nmilliseconds against {size} ({others})")
        rows = [["", *(str(shape[place]) for shape in SWEEPS[size]), "exponent"]]
        for case in cases:
            times, fitted = sweep(*case, size)
            name = f"{CELLS[case[0]].label}, {case[1]}, {case[2]}".ljust(34)
            rows.append([name, *(number(1000 * t) for t in times), number(fitted)])
        print("\n".join("  " + line for line in aligned(rows)), flush=True)
    print(f"\nmemory in values of size H for each step of each row, T, N, I, H = {MEMORY}")
    rows = [["", "kept", "most, forward", "most, backward"]]
    for case in cases:
        found = memory(Problem(*case, MEMORY))
        name = f"{CELLS[case[0]].label}, {case[1]}, {case[2]}".ljust(34)
        columns = (found.get(key) for key in ("kept", "forward", "backward"))
        rows.append([name, *("-" if x is None else f"{x:.2f}" for x in columns)])
    print("\n".join("  " + line for line in aligned(rows)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
