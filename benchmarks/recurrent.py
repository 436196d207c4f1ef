"""One recurrent layer: minigrad beside PyTorch, JAX and ONNX Runtime.

    python -m benchmarks.recurrent                    about three minutes
    python -m benchmarks.recurrent --full --csv out.csv --svg out.svg

LSTM, GRU and RNN over whole sequences of (T, N, I): T steps, N rows of the batch, I inputs, H
units. Inference is the forward pass, nothing recorded. Training is the forward pass and the whole
backward pass from given cotangents of the outputs: gradients of inputs, initial states, weights.

Each library runs in a process of its own for each number of threads. First its outputs and all its
gradients are checked against float64; whoever is wrong gets no time. Then the libraries take
turns, round after round. A measurement is preceded by a rest and a warm run; runs of less than
5 ms are repeated within it, and their median counts. What is printed is the median over the
rounds, its quartiles, and for each peer its ratio, the median of time over minigrad's time in the
same round: above 1, minigrad is faster. Of JAX's ways to write the loop the fastest competes, and
of ONNX Runtime's threads those that spin within a run or those that do not.

GFLOP/s count the products alone, 2 T N G H (I + H) forward for G gates, three times that in
training. Their percentage is of the peak of as many cores, measured first (see peak.c).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from minigrad import kernels

from . import peak
from .contestants import LIBRARIES, PEERS, Absent, missing, version
from .plot import plot
from .problems import (
    CELLS,
    DTYPES,
    GRIDS,
    PHASES,
    Arrays,
    Problem,
    Shape,
    WrongAnswer,
    check,
    offered,
    right_answer,
)
from .report import OURS, Result, groups, summary, table, write_csv
from .workers import Worker, hired

# The arguments that the short and the full form stand for.
SHORT = {
    "grid": "short",
    "cells": "lstm,gru,rnn",
    "dtypes": "f32",
    "threads": [1, 2],
    "rounds": 5,
    "variants": 2,
}
FULL = {
    "grid": "issue,teach,long,research,deepbench,latency,odd",
    "cells": ",".join(CELLS),
    "dtypes": ",".join(DTYPES),
    "threads": [1, 2],
    "rounds": 15,
    "variants": 4,
}


def measure(
    problem: Problem,
    threads: int,
    workers: Mapping[str, Worker],
    right: Arrays,
    rounds: int,
    peak: float | None = None,
) -> Result:
    """One problem: everyone is checked, then those who are right take turns."""
    result = Result(problem, threads, peak, list(workers))
    for name, worker in workers.items():
        try:
            ready = worker.prepare(problem)
            result.errors[name] = check(problem, ready.answer, right)
        except (Absent, WrongAnswer) as fault:
            result.faults[name] = str(fault)
        else:
            result.notes[name] = ready.note
            result.seconds[name] = []
    for _ in range(rounds):
        for name in list(result.seconds):
            try:
                result.seconds[name].append(workers[name].measure())
            except Absent as fault:
                del result.seconds[name]
                result.faults[name] = str(fault)
    return result


def shapes(grids: list[str]) -> list[Shape]:
    """The shapes of several grids, each once; a grid is a name, or a shape such as 50x32x64x128."""
    found: list[Shape] = []
    for name in grids:
        if name in GRIDS:
            found += GRIDS[name]
            continue
        sizes = name.split("x")
        if len(sizes) != 4 or not all(s.isdecimal() and int(s) for s in sizes):
            known = ", ".join(GRIDS)
            raise argparse.ArgumentTypeError(f"no grid {name!r}: {known}, or TxNxIxH")
        steps, rows, inputs, hidden = map(int, sizes)
        found.append((steps, rows, inputs, hidden))
    return list(dict.fromkeys(found))


def machine() -> str:
    """The processor, how many of them, and how busy they are."""
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    text = f"{name}, {len(peak.cpus())} processors"
    with contextlib.suppress(OSError, AttributeError):
        load = os.getloadavg()[0]
        text += f", load {load:.1f}" + (": something else is running" if load > 0.5 else "")
    return text


def chosen(text: str, known, what: str, parser: argparse.ArgumentParser) -> list[str]:
    """The names in a list with commas; ends the program for one that is not known."""
    names = [name for name in text.split(",") if name]
    for name in names:
        if name not in known:
            parser.error(f"no {what} {name!r}: {', '.join(known)}")
    return names


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line, checked, with the defaults of the short or the full form."""
    summary, _, details = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.recurrent",
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    others = [name for name in LIBRARIES if name != OURS]
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--short", action="store_true", help="about three minutes (default)")
    form.add_argument("--full", action="store_true", help="everything; hours")
    parser.add_argument("--peers", default=",".join(PEERS), help=f"of {', '.join(others)}")
    parser.add_argument("--grid", help=f"of {', '.join(GRIDS)}, or TxNxIxH")
    parser.add_argument("--cells", help=f"of {', '.join(CELLS)}")
    parser.add_argument("--dtypes", help=f"of {', '.join(DTYPES)}")
    parser.add_argument("--phases", default=",".join(PHASES), help=f"of {', '.join(PHASES)}")
    parser.add_argument("--threads", type=int, nargs="+")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--variants", type=int, help="of a library's variants, how many compete")
    parser.add_argument("--csv", type=Path, help="write the numbers to this file")
    parser.add_argument("--svg", type=Path, help="write a plot to this file")
    args = parser.parse_args(argv)
    for name, value in (FULL if args.full else SHORT).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    try:
        args.grid = shapes([name for name in args.grid.split(",") if name])
    except argparse.ArgumentTypeError as error:
        parser.error(str(error))
    args.cells = chosen(args.cells, CELLS, "cell", parser)
    args.dtypes = chosen(args.dtypes, DTYPES, "dtype", parser)
    args.phases = chosen(args.phases, PHASES, "phase", parser)
    args.peers = chosen(args.peers, others, "peer", parser)
    if min(args.rounds, args.variants, *args.threads) < 1:
        parser.error("--rounds, --variants and --threads take numbers from 1")
    return args


def main(argv: list[str] | None = None) -> int:
    args = arguments(argv)
    print(machine())
    print(", ".join(f"{k} {v}" for k, v in kernels.config().items()))
    present = []
    for name in args.peers:
        if absent := missing(name):
            print(f"{name}: skipped, {' and '.join(absent)} not installed (./build.sh peers)")
        else:
            present.append(name)
    versions = {name: version(name) for name in (OURS, *present)}
    print(", ".join(f"{name} {v}" for name, v in versions.items()))

    peaks = {(d, t): peak.gflops(d, t) for d in args.dtypes for t in args.threads}
    for d in args.dtypes:
        found = [f"{peaks[d, t]:.0f} ({t})" for t in args.threads if peaks[d, t]]
        what = f"peak in GFLOP/s (threads): {', '.join(found)}" if found else "no compiler, no peak"
        print(f"{d}: {what}")
    print("times in milliseconds; ratio: its time over minigrad's; mean: of ratios, geometric\n")

    results: list[Result] = []
    try:
        with contextlib.ExitStack() as stack:
            teams = {
                t: stack.enter_context(hired([OURS, *present], t, args.variants))
                for t in args.threads
            }
            for cell in args.cells:
                if not offered(cell):
                    print(f"{CELLS[cell].label}: skipped, minigrad has none\n")
                    continue
                for result in run(cell, args, teams, peaks):
                    results.append(result)
                    if args.csv:
                        with args.csv.open("w", newline="") as file:
                            write_csv(file, results, versions)
                for group in groups([r for r in results if r.problem.cell == cell]):
                    print(table(group) + "\n", flush=True)
    except KeyboardInterrupt:
        print("interrupted: what follows is of the results so far\n")
    if results:
        print(summary(results))
        if args.svg:
            args.svg.write_text(plot(results), encoding="utf-8")
    return 0


def run(cell: str, args, teams, peaks):
    """The results of one cell, one by one, in the order in which the tables are printed."""
    start = time.perf_counter()
    for shape in args.grid:
        right = right_answer(Problem(cell, "f64", PHASES[1], shape))
        for dtype in args.dtypes:
            for threads, workers in teams.items():
                for phase in args.phases:
                    problem = Problem(cell, dtype, phase, shape)
                    if sys.stderr.isatty():
                        seconds = time.perf_counter() - start
                        line = f"{seconds:5.0f} s  {problem}, {threads} thread(s)"
                        print(f"\r{line:<100}", end="\r", file=sys.stderr, flush=True)
                    peak = peaks[dtype, threads]
                    yield measure(problem, threads, workers, right, args.rounds, peak)


if __name__ == "__main__":
    sys.exit(main())
