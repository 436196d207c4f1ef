"""Runs of a recurrence side by side: everything it gives by name, and how far rounding may move it.

A `Batch` is what a recurrence is called with; `batch.results(...)` runs it forward and back, and
gives `Results`. `agree` compares two of them, to the bit or within the bars of `rounding`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from .. import kernels
from ..errors import DtypeError
from .cell_info import CellInfo
from .example import Sequences, generator, signed
from .laws import NotApplicable, Trial
from .recurrence import Gradients, Run, Sized

EPS = float(np.finfo(np.float64).eps)
JITTERS = 2  # independent ones: two sums that cancel by accident are rare, two times two rarer


class Results(NamedTuple):
    """All that a run gives, by name: outputs ("ys", "h", "c"), gradients ("xs", "h0", "W", ...)."""

    outputs: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]

    def named(self) -> Iterator[tuple[str, np.ndarray]]:
        """Pairs of a phrase and an array: outputs, then gradients."""
        yield from self.outputs.items()
        yield from ((f"the gradient of {k}", g) for k, g in self.gradients.items())


@dataclass(frozen=True)
class Batch:
    """What a recurrence is called with. seed: of the cotangents, which depend on shapes alone."""

    info: CellInfo
    sized: Sized
    xs: np.ndarray
    state: tuple[np.ndarray, ...]
    weights: dict[str, np.ndarray]
    lengths: np.ndarray | None
    example: Sequences

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name."""
        parts = dict(zip(self.sized.names[1:], self.state, strict=False))
        return {"xs": self.xs, **parts, **self.weights}

    def at(self, arrays: dict[str, np.ndarray]) -> Batch:
        """The batch with other arrays, those of `arrays`."""
        new = {**self.arrays, **arrays}
        state = tuple([new[f"{p}0"] for p in self.sized.parts])
        return replace(self, xs=new["xs"], state=state, weights={k: new[k] for k in self.weights})

    def astype(self, dtype) -> Batch:
        """The batch in another dtype."""
        return self.at({k: a.astype(dtype) for k, a in self.arrays.items()})

    def piece(self, steps: slice, state: Sequence[np.ndarray] | None = None) -> Batch:
        """The batch of a part of time, which begins with a state of its own."""
        xs = self.xs[steps]
        lengths = self.lengths
        if lengths is not None:
            lengths = np.clip(lengths - steps.start, 0, len(xs))
        return replace(
            self, xs=xs, lengths=lengths, state=self.state if state is None else tuple(state)
        )

    def run(self, **how) -> Run:
        """The recurrence run forward; NumPy may warn of exp(-x) on its way to a sigmoid of 0."""
        with np.errstate(all="ignore"):
            run = self.sized.run(self.xs, self.state, self.weights, self.lengths, **how)

        def pull(dys=None, dlast=None) -> Gradients:
            with np.errstate(all="ignore"):
                return run.pull(dys, dlast)

        return Run(run.ys, run.last, pull)

    def outputs(self, run: Run) -> dict[str, np.ndarray]:
        """What a run gives, by name."""
        return dict(zip(("ys", *self.sized.parts), (run.ys, *run.last), strict=True))

    def results(self, cotangents: Sequence | None = None, **how) -> Results:
        """The recurrence run forward and back, with generic cotangents or those given."""
        run = self.run(**how)
        gs = self.cotangents([run.ys, *run.last]) if cotangents is None else cotangents
        return Results(self.outputs(run), self.gradients(run, gs))

    def cotangents(self, outs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Generic ones for (ys, *last); none where a row has ended and ys is not 0 there, as code
        by hand may leave there what it likes."""
        dys, *dlast = self.example.cotangents(outs)
        if self.lengths is not None:
            ended = np.arange(len(outs[0]))[:, None] >= self.lengths
            if outs[0][ended].any():
                dys[ended] = 0
        return [dys, *dlast]

    def gradients(self, run: Run, cotangents: Sequence) -> dict[str, np.ndarray]:
        """The gradients of a run, by name."""
        found = run.pull(cotangents[0], cotangents[1:])
        first = dict(zip(self.sized.names, (found.xs, *found.state), strict=False))
        return {**first, **found.weights}

    def facts(self, gradients: dict | None = None) -> dict[str, Any]:
        """What a diagnosis wants to know of the case."""
        steps, rows = self.xs.shape[:2]
        return {
            "T": steps, "N": rows, "I": self.xs.shape[-1], "H": self.example.H,
            "lengths": self.lengths, "gates": self.info.gates, "cut": self.example.cut,
            "gradients": gradients or {},
        }  # fmt: skip

    def axes(self, name: str) -> tuple[str, ...]:
        """What the axes of an argument or an output are called."""
        last = "feature" if name == "xs" else "unit"
        if name in ("xs", "ys"):
            return ("t", "row", last)
        if name in self.weights:
            return ("unit", "column")[: np.ndim(self.weights[name])]
        return ("row", last)


def batch(info: CellInfo, example: Sequences, dtype=None) -> Batch:
    """The batch of an example."""
    sized = info.recurrence.at(example.I, example.H)
    xs, *rest = sized.args(example)
    n = len(sized.state)
    weights = dict(zip(sized.weights, rest[n:], strict=True))
    ragged = example.lengths is not None and info.takes_lengths
    lengths = np.asarray(example.lengths) if ragged else None
    made = Batch(info, sized, xs, tuple(rest[:n]), weights, lengths, example)
    return made if dtype is None else made.astype(dtype)


def agree(
    trial: Trial, of: Batch, got: Results, expected: Results, when: str, bars: dict | None = None
) -> None:
    """Equality of two runs: to the bit, or within a bar for each name."""
    for kind in ("outputs", "gradients"):
        pairs = getattr(expected, kind)
        for name, right in pairs.items():
            array = getattr(got, kind)[name]
            what = f"{name} {when}" if kind == "outputs" else f"the gradient of {name} {when}"
            rest = {
                "input": None if kind == "outputs" else name,
                "axes": of.axes(name),
                "facts": of.facts(got.gradients),
            }
            if bars is None:
                trial.same(array, right, what, **rest)
            else:
                trial.close(array, right, bars[kind, name], what, **rest)


# --- rounding ------------------------------------------------------------------------------------


def moved(of: Batch, step: float, k: int) -> Batch:
    """The batch with every number moved by one or two times `step`, relative to itself."""
    return of.at({
        name: a * (1 + step * generator(of.example.seed, 50 + k, i).choice([-2, -1, 1, 2], a.shape)
                   ).astype(a.dtype)
        for i, (name, a) in enumerate(of.arrays.items())
    })  # fmt: skip


def largest(a: np.ndarray) -> float:
    """The largest finite magnitude."""
    return float(np.abs(a[np.isfinite(a)]).max(initial=0.0))


def bars_of(
    of: Batch, base: Results, others: Sequence[Results], eps: float, unit: float = 16.0
) -> dict[tuple[str, str], float]:
    """A bar for each result: how far rounding may move it.

    `others` are runs with arguments moved by a unit in their last place, eps: what they move by
    says how rounding is amplified. A number goes through n roundings or so on its way, each as if
    an argument was moved: the bar is n times as large. Of a gate y near 1, 1 - y has few digits,
    so an error of some eps in what is of order 1 comes on top.
    """
    n = 8.0 * (1 + len(of.xs) + of.xs.shape[1] + of.xs.shape[2] + of.example.H)
    bars = {}
    for kind in ("outputs", "gradients"):
        results = getattr(base, kind)
        size = max([1.0, *[largest(a) for a in results.values()]])
        for name, a in results.items():
            gaps = [largest(getattr(o, kind)[name] - a) for o in others]
            bars[kind, name] = n * (max(gaps) + eps * largest(a)) + unit * eps * size
    return bars


def rounding(
    of: Batch, base: Results, cotangents: Sequence | None = None, results=None, **how
) -> dict:
    """The bars of a run; see `bars_of`. results: what makes `Results` of a batch."""
    eps = float(np.finfo(of.xs.dtype).eps)
    results = results or (lambda batch: batch.results(cotangents, **how))
    with np.errstate(all="ignore"):
        return bars_of(of, base, [results(moved(of, eps, k)) for k in range(JITTERS)], eps)


# --- derivatives of plain code ------------------------------------------------------------------


def slope(f: Callable, args: Sequence, directions: Sequence) -> list[np.ndarray] | None:
    """The derivatives of the outputs of `f` along a direction, by the complex step.

    None where f does not take complex numbers, or where differences do not confirm it: then some
    part of f is not analytic, at this point at least.
    """
    h = 1e-100
    try:
        with np.errstate(all="ignore"):
            outs = f(*[a + 1j * (h * d) for a, d in zip(args, directions, strict=True)])
            above, below = (
                f(*[a + s * d for a, d in zip(args, directions, strict=True)])
                for s in (2.0**-17, -(2.0**-17))
            )
    except Exception:  # whatever f raises of complex numbers: then nothing is known
        return None
    found = []
    for o, a, b in zip(outs, above, below, strict=True):
        if not np.iscomplexobj(o):
            return None
        d, quotient = np.imag(o) / h, (a - b) * 2.0**16
        if largest(d - quotient) > 1e-5 * max(largest(d), largest(a)):
            return None
        found.append(d)
    return found


def adjoint(
    trial: Trial,
    of: Batch,
    derivative: Callable,
    base: Results,
    gs: Sequence[np.ndarray],
    directions: Sequence[np.ndarray],
    bars: dict | None,
    what: str,
) -> None:
    """g . (J d) = (J' g) . d: along all arguments at once, and if that fails one by one, to find
    which. `derivative(directions)` gives J d, or None where that is not known; without bars the
    two sides must be equal.
    """  # fmt: skip
    for only in (None, *of.arrays):
        ds = [d * (only in (None, k)) for k, d in zip(of.arrays, directions, strict=True)]
        found = derivative(ds)
        trial.evaluations += 1
        if found is None:
            return
        terms = [g * m for g, m in zip(gs, found, strict=True)]
        right = np.asarray(sum([float(t.sum()) for t in terms]))
        pairs = list(zip(base.gradients.items(), ds, strict=True))
        left = np.asarray(sum([float((g * d).sum()) for (_, g), d in pairs]))
        error = 0.0
        if bars is not None:
            error = sum([bars["gradients", k] * float(np.abs(d).sum()) for (k, _), d in pairs])
            error += 64 * EPS * sum([float(np.abs(t).sum()) for t in terms])
            # Of saturated gates, 1 - y has lost its digits: an error of EPS in what is of order 1.
            norms = [float(np.sqrt(sum([(a * a).sum() for a in arrays]))) for arrays in (gs, ds)]
            largest_argument = max([1.0, *[largest(a) for a in of.arrays.values()]])
            error += 64 * EPS * norms[0] * norms[1] * largest_argument
        if only is None and (left == right or abs(left - right) <= error):
            trial.close(left, right, error, "")  # for what it says of the resolution
            return
        if only is not None:
            trial.close(
                left, right, error, f"the gradient of {only} along a direction, {what}",
                input=only, facts=of.facts(base.gradients),
            )  # fmt: skip
    trial.true(False, f"the gradient along a direction, {what}", "J d", "another",
               facts=of.facts(base.gradients))  # fmt: skip


def against(trial: Trial, of: Batch, reference: Callable, what: str = "the reference") -> None:
    """That a recurrence computes what a reference in plain NumPy computes, and its derivative."""
    params = {} if of.lengths is None else {"lengths": of.lengths}
    base = of.results()
    args = list(of.arrays.values())

    def plain(*args):
        return [np.asarray(o) for o in reference(*args, **params)]

    with np.errstate(all="ignore"):
        expected = plain(*args)
    trial.evaluations += 1
    bars = rounding(of, base)
    for (name, got), right in zip(base.outputs.items(), expected, strict=True):
        if name == "ys" and of.lengths is not None:  # what is left where a row has ended: any
            ended = np.arange(len(got))[:, None] >= of.lengths
            got, right = got.copy(), np.array(right)
            got[ended] = right[ended] = 0
        trial.close(
            got, right, bars["outputs", name], f"{name} against {what}",
            axes=of.axes(name), facts=of.facts(base.gradients),
        )  # fmt: skip
    if of.xs.dtype == np.float64:
        trial.method = "complex step"
        gs = of.cotangents(list(base.outputs.values()))
        directions = [signed(a.shape, of.example.seed, 60, i) for i, a in enumerate(args)]
        adjoint(
            trial, of, lambda ds: slope(plain, args, ds), base, gs, directions, bars,
            f"that of {what}",
        )  # fmt: skip


# --- how a machine is set -------------------------------------------------------------------------


@contextmanager
def machine(isa: str | None = None, threads: int | None = None):
    """Kernels on another instruction set, or with other threads, and then as they were."""
    before = kernels.isa(), kernels.threads()
    try:
        if isa is not None:
            kernels.set_isa(isa)
        if threads is not None:
            kernels.set_threads(threads)
        yield
    finally:
        if kernels.backend() == "c":
            kernels.set_isa(before[0])
            kernels.set_threads(before[1])


def sample_cell(info: CellInfo) -> tuple[Any, int, int]:
    """A cell of some size, its features and units; (None, 0, 0) where none can be made."""
    for I, H in ((2, 3), (4, 4), (8, 8)):  # noqa: E741
        try:
            return info.cell(I, H), I, H
        except Exception:  # it may not come in all sizes, or be no cell
            continue
    return None, 0, 0


def in_float32(of: Batch) -> Batch:
    """The batch in float32, where the recurrence takes it."""
    try:
        single = of.astype(np.float32)
        single.run()
    except DtypeError as error:
        raise NotApplicable(f"it holds numbers in float64 ({error.args[0]})") from None
    return single
