"""One LSTM layer, forward and backward, float32: fused, unfolded, and PyTorch if it is installed.

All contestants get the same weights and inputs. Each one's outputs and weight gradients are
checked against float64 before anything is timed. Then the contestants take turns, and the median
is printed; a ratio is the median of the ratios within a round, so that a noisy machine hurts all
alike.

    python -m benchmarks.recurrent --threads 1 2 --rounds 15
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

import minigrad as mg
from minigrad import kernels

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

GRID = [
    (50, 1, 32, 32),
    (50, 32, 32, 32),
    (100, 16, 64, 128),
    (64, 32, 64, 256),
    (100, 32, 256, 256),
]

REST = 0.02  # seconds; a peer's idle threads spin for a while and would slow down the next one

Result = tuple[np.ndarray, np.ndarray]  # outputs, gradient of the recurrent weight
Contestant = Callable[[], Result]


def minigrad_lstm(layer: mg.nn.LSTM, xs: np.ndarray, fused: bool) -> Contestant:
    def run() -> Result:
        layer.zero_grad()
        x = mg.tensor(xs, requires_grad=True)
        ys, _ = layer(x, fused=fused)
        (ys * ys).sum().backward()
        gradient = layer.cells[0].weight_hh.grad
        assert gradient is not None
        return ys.data, gradient.data

    return run


def torch_lstm(state: dict[str, np.ndarray], xs: np.ndarray) -> Contestant:
    layer = torch.nn.LSTM(xs.shape[2], state["weight_hh_l0"].shape[1])
    layer.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()})

    def run() -> Result:
        layer.zero_grad()
        x = torch.from_numpy(xs).requires_grad_()
        ys, _ = layer(x)
        (ys * ys).sum().backward()
        return ys.detach().numpy(), layer.weight_hh_l0.grad.numpy()

    return run


def torch_cell_loop(state: dict[str, np.ndarray], xs: np.ndarray) -> Contestant:
    hidden = state["weight_hh_l0"].shape[1]
    cell = torch.nn.LSTMCell(xs.shape[2], hidden)
    cell.load_state_dict({k.removesuffix("_l0"): torch.from_numpy(v) for k, v in state.items()})

    def run() -> Result:
        cell.zero_grad()
        x = torch.from_numpy(xs).requires_grad_()
        h = c = torch.zeros(xs.shape[1], hidden)
        outputs = []
        for step in x:
            h, c = cell(step, (h, c))
            outputs.append(h)
        ys = torch.stack(outputs)
        (ys * ys).sum().backward()
        return ys.detach().numpy(), cell.weight_hh.grad.numpy()

    return run


def contestants(shape: tuple[int, int, int, int]) -> tuple[dict[str, Contestant], Result]:
    """The contestants for (T, N, I, H), and the right answer, computed in float64."""
    steps, rows, inputs, hidden = shape
    xs = np.random.default_rng(0).normal(size=(steps, rows, inputs))
    exact = mg.nn.LSTM(inputs, hidden, rng=1)
    layer = mg.nn.LSTM(inputs, hidden, dtype=np.float32)
    layer.load_state_dict(exact.state_dict())
    state, xs32 = layer.state_dict(), xs.astype(np.float32)
    found: dict[str, Contestant] = {
        "fused": minigrad_lstm(layer, xs32, True),
        "unfolded": minigrad_lstm(layer, xs32, False),
    }
    if torch is not None:
        found["torch cells"] = torch_cell_loop(state, xs32)
        found["torch LSTM"] = torch_lstm(state, xs32)
    return found, minigrad_lstm(exact, xs, False)()


def check(name: str, got: Result, right: Result) -> None:
    for what, a, b in zip(("outputs", "gradient"), got, right, strict=True):
        error = np.abs(a - b).max() / np.abs(b).max()
        if not error < 1e-5:
            raise SystemExit(f"{name}: {what} off by {error:.1e} of the largest; not timed")


def gigaflops(shape: tuple[int, int, int, int], milliseconds: float) -> float:
    """Of the products alone: forward, input gradients and weight gradients."""
    steps, rows, inputs, hidden = shape
    return 6 * steps * rows * 4 * hidden * (inputs + hidden) / milliseconds / 1e6


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args(argv)
    print(", ".join(f"{k} {v}" for k, v in kernels.config().items()), end="")
    print(f", torch {torch.__version__}" if torch is not None else ", torch not installed")
    print("milliseconds for forward and backward; ratio = time of that one over the fused time")
    for threads in args.threads:
        kernels.set_threads(threads)
        if torch is not None:
            torch.set_num_threads(threads)
        print(f"\n{threads} thread(s)")
        for shape in GRID:
            found, right = contestants(shape)
            for name, run in found.items():
                check(name, run(), right)
            times: dict[str, list[float]] = {name: [] for name in found}
            for _ in range(args.rounds):
                for name, run in found.items():
                    time.sleep(REST)
                    run()  # warms the caches that the others have used
                    start = time.perf_counter()
                    run()
                    times[name].append(1000 * (time.perf_counter() - start))
            cells = []
            for name, ms in times.items():
                ratio = statistics.median(m / f for m, f in zip(ms, times["fused"], strict=True))
                note = f" ({ratio:.2f}x)" if name != "fused" else ""
                cells.append(f"{name} {statistics.median(ms):.2f}{note}")
            speed = gigaflops(shape, statistics.median(times["fused"]))
            print(f"  T,N,I,H = {shape!s:<19} {', '.join(cells)}; fused {speed:.0f} GFLOP/s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
