"""The fixed cost of a fused call: T = 1, N = 1, I = H = 8, where the arithmetic is almost nothing.

Layer by layer of the library, each containing the one before: the door to the kernel, the op, which
may record a node, `mg.unfold`, and the layer. Microseconds, the least of many; forward with nothing
recorded, forward recorded, and forward with backward (of the door: its saving form and the rule).

    python -m benchmarks.overhead [--cells lstm,gru,rnn] [--dtypes f32]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import minigrad as mg
from minigrad import kernels
from minigrad.unfold import fused_op

from .problems import CELLS, DTYPES, Problem, Shape, make_layer, offered
from .recurrent import chosen
from .report import aligned

SHAPE: Shape = (1, 1, 8, 8)
BUDGET = 0.2  # seconds for each number


def least(run: Callable[[], Any], budget: float = BUDGET) -> float:
    """Microseconds of the quickest of many batches of a hundred runs."""
    best, end = float("inf"), time.perf_counter() + budget
    while best == float("inf") or time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(100):
            run()
        best = min(best, time.perf_counter() - start)
    return 1e6 * best / 100


Runs = dict[str, tuple[Callable, Callable, Callable]]


def calls(cell: str, dtype: str) -> Runs:
    """By layer of the library: forward, forward recorded, forward and backward.

    A cell without a fused path has no door and no op.
    """
    layer, xs, states, dys = make_layer(Problem(cell, dtype, "training", SHAPE))
    one = layer.cells[0]
    state = tuple([s[0] for s in states]) if isinstance(states, tuple) else states[0]
    state = mg.detach_state(state)
    dys = mg.tensor(dys, dtype=dys.dtype)

    def three(forward: Callable) -> tuple[Callable, Callable, Callable]:
        def quiet():
            with mg.no_grad():
                return forward()

        def both():
            for p in one.parameters():
                p.grad = None
            xs.grad = None
            forward()[0].backward(dys)

        return quiet, forward, both

    found: Runs = {}
    op = fused_op(one)
    if op is not None:
        saving, rule = op.forward_saving, op.vjp
        assert saving is not None and rule is not None
        parts = state if isinstance(state, tuple) else (state,)
        weights = [mg.tensor(w.data, dtype=w.dtype, requires_grad=True) for w in one.weights()]
        tensors = (xs, *parts, *weights)
        data = [t.data for t in tensors]

        def door_both():
            outputs, saved = saving(*data)
            g = (dys.data, *(0 * y for y in outputs[1:]))
            return rule((True,) * len(data), g, (*outputs, *saved), *data)

        found["door"] = lambda: op.forward(*data), lambda: saving(*data), door_both
        found["op"] = three(lambda: op(*tensors))
    found["unfold"] = three(lambda: mg.unfold(one, xs, state))
    found["layer"] = three(lambda: layer(xs, states))
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overhead",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cells", default="lstm,gru,rnn", help=f"of {', '.join(CELLS)}")
    parser.add_argument("--dtypes", default="f32", help=f"of {', '.join(DTYPES)}")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds for each number")
    args = parser.parse_args(argv)
    kernels.set_threads(1)
    dtypes = chosen(args.dtypes, DTYPES, "dtype", parser)
    print(", ".join(f"{k} {v}" for k, v in kernels.config().items()))
    print(f"microseconds, T, N, I, H = {SHAPE}")
    for cell in chosen(args.cells, CELLS, "cell", parser):
        if not offered(cell):
            print(f"\n{CELLS[cell].label}: minigrad has none")
            continue
        for dtype in dtypes:
            found = calls(cell, dtype)
            note = "fused" if "door" in found else "unfolded"
            print(f"\n{CELLS[cell].label}, {dtype}, {note}")
            rows = [["", "forward", "recorded", "with backward"]]
            for name, runs in found.items():
                rows.append([name, *(f"{least(run, args.budget):.2f}" for run in runs)])
            print("\n".join("  " + line for line in aligned(rows)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
