"""What is computed: one recurrent layer over one sequence, its numbers and its right answer.

Every contestant gets the same numbers. They are drawn in float32, so that they are the same also
in float64, in which the right answer is computed: by minigrad, node by node.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

import minigrad as mg

Arrays = dict[str, np.ndarray]
Shape = tuple[int, int, int, int]  # T steps, N rows of the batch, I inputs, H units

DTYPES = {"f32": np.float32, "f64": np.float64}
PHASES = ("inference", "training")


class Kind(NamedTuple):
    """A recurrent layer: its class in minigrad and in PyTorch, and what that takes besides."""

    layer: str
    gates: int
    options: dict
    label: str

    @property
    def states(self) -> tuple[str, ...]:
        """The names of the initial states."""
        return ("h0", "c0") if self.layer == "LSTM" else ("h0",)


CELLS = {
    "lstm": Kind("LSTM", 4, {}, "LSTM"),
    "gru": Kind("GRU", 3, {}, "GRU, reset after"),
    "gru-before": Kind("GRU", 3, {"reset": "before"}, "GRU, reset before"),
    "rnn": Kind("RNN", 1, {}, "RNN, tanh"),
    "rnn-relu": Kind("RNN", 1, {"nonlinearity": "relu"}, "RNN, relu"),
}

# Named lists of (T, N, I, H). `issue` is the table of the project's targets; `deepbench` has the
# sizes of DeepBench, `research` those of PTB models and fastrnns; one layer, one direction each.
GRIDS: dict[str, list[Shape]] = {
    "short": [
        *((50, 1, 32, 32), (50, 32, 32, 32), (100, 16, 64, 128)),
        *((35, 20, 200, 200), (50, 64, 128, 256)),
    ],
    "issue": [
        *((50, 1, 32, 32), (50, 32, 32, 32), (100, 16, 64, 128), (35, 20, 200, 200)),
        *((50, 64, 128, 256), (100, 32, 256, 256), (50, 64, 512, 512), (25, 64, 1024, 1024)),
    ],
    "teach": [
        *((20, 1, 32, 32), (20, 32, 32, 32), (100, 16, 1, 32)),
        *((28, 64, 28, 128), (50, 32, 64, 128), (200, 32, 2, 128)),
    ],
    "long": [(1000, 1, 128, 128), (1000, 16, 256, 256), (500, 32, 64, 128)],
    "research": [
        *((20, 20, 200, 200), (35, 20, 650, 650), (100, 32, 256, 256)),
        *((100, 64, 512, 512), (200, 32, 128, 128)),
    ],
    "deepbench": [
        *((25, n, h, h) for h in (512, 1024) for n in (16, 32, 64, 128)),
        *((150, n, 256, 256) for n in (16, 32, 64)),
        *((187, 32, 1024, 1024), (150, 1, 256, 256)),
    ],
    "latency": [(50, n, h, h) for h in (64, 128, 256, 512, 1024) for n in (1, 2, 4)],
    "odd": [
        *((20, 7, 1, 33), (20, 7, 100, 100), (20, 7, 200, 200), (20, 7, 650, 650)),
        *((1, 7, 33, 33), (1, 1, 100, 100), (1, 32, 128, 128)),
    ],
}


class Problem(NamedTuple):
    """One layer, one phase, one dtype and one shape."""

    cell: str
    dtype: str
    phase: str
    shape: Shape

    @property
    def kind(self) -> Kind:
        return CELLS[self.cell]

    @property
    def training(self) -> bool:
        return self.phase == "training"

    @property
    def flops(self) -> int:
        """Operations of the products alone, a multiply-add counted as two.

        forward 2 T N G H (I + H), G gates; training three times that: forward, the cotangents of
        inputs and states, the gradients of weights
        """
        steps, rows, inputs, hidden = self.shape
        forward = 2 * steps * rows * self.kind.gates * hidden * (inputs + hidden)
        return 3 * forward if self.training else forward

    def gflops(self, seconds: float) -> float:
        """The speed of who needs so long."""
        return self.flops / seconds / 1e9


def arrays(problem: Problem, dtype: str | None = None) -> Arrays:
    """The numbers of a problem: xs, initial states, weights, and the cotangent dys of the outputs.

    xs (T, N, I), h0 and c0 (N, H), weight_ih (G H, I), weight_hh (G H, H), bias_ih and bias_hh
    (G H,), dys (T, N, H); in the dtype given, or in that of the problem.
    """
    steps, rows, inputs, hidden = problem.shape
    rng, gates = np.random.default_rng(0), problem.kind.gates
    bound = 1 / math.sqrt(hidden)

    def weight(*shape):
        return rng.uniform(-bound, bound, shape)

    found = {
        "xs": rng.standard_normal((steps, rows, inputs)),
        **{name: rng.standard_normal((rows, hidden)) / 2 for name in problem.kind.states},
        "weight_ih": weight(gates * hidden, inputs),
        "weight_hh": weight(gates * hidden, hidden),
        "bias_ih": weight(gates * hidden),
        "bias_hh": weight(gates * hidden),
        "dys": rng.standard_normal((steps, rows, hidden)),
    }
    wanted = DTYPES[dtype or problem.dtype]
    return {name: a.astype(np.float32).astype(wanted) for name, a in found.items()}


WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def make_layer(problem: Problem, dtype: str | None = None):
    """The layer in minigrad with its arguments: (layer, xs, initial state or states, dys).

    In training, xs and the states are tensors that want gradients; in inference they are arrays.
    Raises what the layer raises if it lacks an option of the cell.
    """
    kind, given = problem.kind, arrays(problem, dtype)
    inputs, hidden = problem.shape[2:]
    layer = getattr(mg.nn, kind.layer)(inputs, hidden, dtype=given["xs"].dtype, **kind.options)
    layer.load_state_dict({f"{name}_l0": given[name] for name in WEIGHTS})
    xs: Any = given["xs"]
    states: list[Any] = [given[name][None] for name in kind.states]  # of one layer and direction
    if problem.training:
        xs = mg.tensor(xs, dtype=xs.dtype, requires_grad=True)
        states = [mg.tensor(s, dtype=s.dtype, requires_grad=True) for s in states]
    return layer, xs, tuple(states) if len(states) > 1 else states[0], given["dys"]


def in_minigrad(problem: Problem, fused: bool | str, dtype: str | None = None):
    """A function without arguments that runs the layer and returns outputs and gradients."""
    layer, xs, states, dys = make_layer(problem, dtype)

    def infer() -> Arrays:
        with mg.no_grad():
            return {"ys": layer(xs, states, fused=fused)[0].data}

    parts = states if isinstance(states, tuple) else (states,)
    wanted = {"xs": xs, **dict(zip(problem.kind.states, parts, strict=True))}
    wanted |= {name: getattr(layer.cells[0], name) for name in WEIGHTS}

    def train() -> Arrays:
        for leaf in wanted.values():
            leaf.grad = None
        ys, _ = layer(xs, states, fused=fused)
        ys.backward(dys)
        return {"ys": ys.data, **{name: leaf.grad.data for name, leaf in wanted.items()}}

    return train if problem.training else infer


def offered(cell: str) -> bool:
    """Whether minigrad has this cell."""
    try:
        make_layer(Problem(cell, "f64", "inference", (1, 1, 1, 1)))
    except TypeError:  # an option that its layer does not take
        return False
    return True


def is_fused(problem: Problem) -> bool:
    """Whether minigrad has a fused path for this cell."""
    tiny = problem._replace(shape=(1, 1, 1, 1), phase="inference")
    try:
        in_minigrad(tiny, True)()
    except mg.UsageError:
        return False
    return True


# --- the check -----------------------------------------------------------------------------------


class WrongAnswer(Exception):
    """Says what is wrong with the answer of a contestant."""


def right_answer(problem: Problem) -> Arrays:
    """Outputs, and in training the gradients of all inputs: in float64, node by node."""
    return in_minigrad(problem, False, "f64")()


def tolerance(problem: Problem) -> float:
    """How far an answer may be off, as a share of the largest entry of the right one.

    4 u sqrt(K), u the unit roundoff of the dtype and K the length of the longest sum: of T N
    products in the gradients of weights, of G H or I + H elsewhere. The errors of a sum of K
    products are some K steps of a random walk, each at most u of the sum; in whatever order it is
    taken, that makes sqrt(K) u, and 4 is what a recurrence and its activations, which are up to
    4 u off in libraries, may make of it. A slip in a formula is off by a hundredth or more.
    """
    steps, rows, inputs, hidden = problem.shape
    longest = max(steps * rows, problem.kind.gates * hidden, inputs + hidden)
    roundoff = 2.0**-24 if problem.dtype == "f32" else 2.0**-53
    return 4 * roundoff * math.sqrt(longest)


def check(problem: Problem, got: Arrays, right: Arrays) -> float:
    """The largest error, as a share of the largest entry; raises `WrongAnswer` above tolerance."""
    worst = 0.0
    for name in right if problem.training else ("ys",):
        expected = right[name]
        if name not in got:
            raise WrongAnswer(f"no {name}")
        found = got[name].reshape(-1)
        if found.dtype != DTYPES[problem.dtype] or found.size != expected.size:
            raise WrongAnswer(f"{name} is {found.dtype} {got[name].shape}")
        largest = np.abs(expected).max(initial=0.0)
        error = float(np.abs(found - expected.reshape(-1)).max(initial=0.0) / (largest or 1.0))
        if not error <= tolerance(problem):  # nor for NaN
            what = name if name == "ys" else f"the gradient of {name}"
            raise WrongAnswer(f"{what} is off by {error:.1e} of the largest entry")
        worst = max(worst, error)
    return worst
