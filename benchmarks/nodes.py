"""What a node costs: minigrad beside PyTorch's eager mode, HIPS autograd and MyGrad, node by node.

Three programs, each written in every library as its own users would write it, one thread, float32:
one sum of two 2 x 2 arrays; a chain of 1,000 sums and tanhs; the loop of an LSTM cell, 50 steps of
12 nodes. Each is run forward and backward. Results are checked against float64 before anything is
timed. Then the libraries take turns, and what is printed is the median, and the median of the
ratios within a round. Times are those of the processor (`time.process_time`), so other programs
on the machine disturb them less.

    python -m benchmarks.nodes --rounds 30

Libraries that are not installed are left out: pip install torch autograd mygrad
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import math
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import kernels
from minigrad.cells import lstm_step

STEPS, CHAIN = 50, 1000
SIZES = [(1, 32), (32, 32), (32, 128)]  # rows of the batch, units

Arrays = dict[str, np.ndarray]
Program = Callable[[], Arrays]  # its gradients, by name


# --- minigrad ------------------------------------------------------------------------------------


def mg_add(x, y):
    return x + y


def mg_chain(x, y):
    for _ in range(CHAIN // 2):
        x = mg.tanh(x + y)
    return x


def mg_loop(xs, h, c, W, U, b):
    hs = []
    for x in xs:
        h, (h, c) = lstm_step(x, (h, c), W, U, b)
        hs.append(h)
    ys = mg.stack(hs)
    return (ys * ys).sum()


def in_minigrad(program: Callable, data: tuple, arrays: Arrays, forward_only: bool) -> Program:
    tensors = {k: mg.tensor(a, requires_grad=True) for k, a in arrays.items()}

    def run() -> Arrays:
        for t in tensors.values():
            t.grad = None
        out = program(*data, *tensors.values())
        if forward_only:
            return {}
        out.backward(None if out.size == 1 else np.ones_like(out.data))
        return {k: t.grad.data for k, t in tensors.items() if t.grad is not None}

    return run


# --- PyTorch -------------------------------------------------------------------------------------


def torch_chain(x, y):
    import torch

    for _ in range(CHAIN // 2):
        x = torch.tanh(x + y)
    return x


def torch_loop(xs, h, c, W, U, b):
    import torch

    hs, W, U = [], W.t(), U.t()
    for x in xs:
        z = torch.addmm(torch.addmm(b, x, W), h, U)
        i, f, g, o = z.chunk(4, 1)
        i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
        c = f * c + i * g
        h = o * torch.tanh(c)
        hs.append(h)
    ys = torch.stack(hs)
    return (ys * ys).sum()


def in_torch(program: Callable, data: tuple, arrays: Arrays, forward_only: bool) -> Program:
    import torch

    torch.set_num_threads(1)
    constants = [torch.from_numpy(a) for a in data]
    tensors = {k: torch.from_numpy(a.copy()).requires_grad_() for k, a in arrays.items()}

    def run() -> Arrays:
        for t in tensors.values():
            t.grad = None
        out = program(*constants, *tensors.values())
        if forward_only:
            return {}
        out.backward(None if out.numel() == 1 else torch.ones_like(out))
        return {k: t.grad.numpy() for k, t in tensors.items()}

    return run


# --- HIPS autograd -------------------------------------------------------------------------------


def autograd_chain(x, y):
    import autograd.numpy as anp

    for _ in range(CHAIN // 2):
        x = anp.tanh(x + y)
    return x


def autograd_loop(xs, h, c, W, U, b):
    import autograd.numpy as anp

    def sigmoid(x):
        return 0.5 * (anp.tanh(0.5 * x) + 1)

    hs, H, W, U = [], h.shape[1], W.T, U.T
    for x in xs:
        z = anp.dot(x, W) + anp.dot(h, U) + b
        i, f = sigmoid(z[:, :H]), sigmoid(z[:, H : 2 * H])
        g, o = anp.tanh(z[:, 2 * H : 3 * H]), sigmoid(z[:, 3 * H :])
        c = f * c + i * g
        h = o * anp.tanh(c)
        hs.append(h)
    ys = anp.stack(hs)
    return anp.sum(ys * ys)


def in_autograd(program: Callable, data: tuple, arrays: Arrays, forward_only: bool) -> Program:
    from autograd import make_vjp

    pull = make_vjp(lambda values: program(*data, *values))

    def run() -> Arrays:
        back, out = pull(tuple(arrays.values()))
        if forward_only:
            return {}
        return dict(zip(arrays, back(np.ones_like(out)), strict=True))

    return run


# --- MyGrad --------------------------------------------------------------------------------------


def mygrad_chain(x, y):
    import mygrad

    for _ in range(CHAIN // 2):
        x = mygrad.tanh(x + y)
    return x


def mygrad_loop(xs, h, c, W, U, b):
    import mygrad
    from mygrad.nnet.activations import sigmoid

    hs, H, W, U = [], h.shape[1], W.T, U.T
    for x in xs:
        z = mygrad.matmul(x, W) + mygrad.matmul(h, U) + b
        i, f = sigmoid(z[:, :H]), sigmoid(z[:, H : 2 * H])
        g, o = mygrad.tanh(z[:, 2 * H : 3 * H]), sigmoid(z[:, 3 * H :])
        c = f * c + i * g
        h = o * mygrad.tanh(c)
        hs.append(h)
    ys = mygrad.stack(hs)
    return (ys * ys).sum()


def in_mygrad(program: Callable, data: tuple, arrays: Arrays, forward_only: bool) -> Program:
    import mygrad

    tensors = {k: mygrad.tensor(a.copy()) for k, a in arrays.items()}

    def run() -> Arrays:
        for t in tensors.values():
            t.null_grad()
        out = program(*data, *tensors.values())
        if forward_only:
            out.clear_graph()  # MyGrad keeps arrays locked until then
            return {}
        out.backward(np.ones_like(out.data))
        return {k: t.grad for k, t in tensors.items()}

    return run


# --- what is compared ----------------------------------------------------------------------------

LIBRARIES: dict[str, tuple[Callable, tuple[Callable, Callable, Callable]]] = {
    "minigrad": (in_minigrad, (mg_add, mg_chain, mg_loop)),
    "torch": (in_torch, (mg_add, torch_chain, torch_loop)),
    "autograd": (in_autograd, (mg_add, autograd_chain, autograd_loop)),
    "mygrad": (in_mygrad, (mg_add, mygrad_chain, mygrad_loop)),
}


def cases(dtype) -> dict[str, tuple[int, tuple, Arrays]]:
    """By name: which program, its constants, and the arrays to differentiate by."""
    rng = np.random.default_rng(0)

    def draw(*shape):
        return rng.normal(size=shape).astype(dtype)

    found: dict[str, tuple[int, tuple, Arrays]] = {
        "x + y, 2 x 2": (0, (), {"x": draw(2, 2), "y": draw(2, 2)}),
        # Near 0, where a chain of tanhs does not make its gradient vanish.
        f"chain of {CHAIN:,}, 2 x 2": (1, (), {"x": draw(2, 2) / 64, "y": draw(2, 2) / 2**16}),
    }
    for rows, units in SIZES:
        data = (draw(STEPS, rows, units), draw(rows, units), draw(rows, units))
        small = 1 / math.sqrt(units)
        W, U, b = draw(4 * units, units) * small, draw(4 * units, units) * small, draw(4 * units)
        weights = {"W": W.astype(dtype), "U": U.astype(dtype), "b": b}
        found[f"LSTM loop, {STEPS} steps, {rows} x {units}"] = (2, data, weights)
    return found


def contestants(number: int, data: tuple, arrays: Arrays, forward_only=False) -> dict[str, Program]:
    return {
        name: start(programs[number], data, arrays, forward_only)
        for name, (start, programs) in LIBRARIES.items()
        if importlib.util.find_spec(name)
    }


def check(name: str, got: Arrays, right: Arrays) -> None:
    for k, a in right.items():
        error = np.abs(got[k] - a).max() / np.abs(a).max()
        if not error < 1e-4:
            raise SystemExit(f"{name}: gradient of {k} off by {error:.1e} of the largest")


def timed(run: Program, repeats: int) -> float:
    """Milliseconds of the processor for one run."""
    run()  # warms the caches that the others have used
    start = time.process_time()
    for _ in range(repeats):
        run()
    return 1000 * (time.process_time() - start) / repeats


def compare(found: dict[str, Program], rounds: int) -> dict[str, tuple[float, float]]:
    """By library: the median time, and the median of its ratios to minigrad's."""
    repeats = {name: max(1, int(5 / max(timed(run, 3), 1e-3))) for name, run in found.items()}
    times: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(rounds):
        for name, run in found.items():
            times[name].append(timed(run, repeats[name]))
    ours = times["minigrad"]
    return {
        name: (
            statistics.median(ms),
            statistics.median(m / f for m, f in zip(ms, ours, strict=True)),
        )
        for name, ms in times.items()
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    args = parser.parse_args(argv)
    kernels.set_threads(1)
    versions: list[Any] = [
        f"{name} {importlib.import_module(name).__version__}"
        for name in ("torch", "mygrad")
        if importlib.util.find_spec(name)
    ]
    print(", ".join([f"{k} {v}" for k, v in kernels.config().items()] + versions))
    print("milliseconds, and as a multiple of minigrad's; forward alone, then with backward")
    exact = cases(np.float64)
    for case, (number, data, arrays) in cases(np.float32).items():
        if args.only not in case:
            continue
        right = contestants(number, exact[case][1], exact[case][2])["minigrad"]()
        print(case)
        for forward_only in (True, False):
            found = contestants(number, data, arrays, forward_only)
            for name, run in found.items():
                if not forward_only:
                    check(name, run(), right)
            row = [
                f"{name} {ms:.4g}" + (f" ({ratio:.2f}x)" if name != "minigrad" else "")
                for name, (ms, ratio) in compare(found, args.rounds).items()
            ]
            print(f"  {'forward ' if forward_only else 'both    '} {', '.join(row)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
