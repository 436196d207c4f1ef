"""A recurrence on an example: what it gives by name, and how two ways to one result compare.

A law of a recurrent cell says that two ways of computing the same thing agree. A `Batch` is what
the recurrence is called with; `batch.results(...)` runs it forward and back, and gives `Results`.
`batch.agree(...)` compares two of them: to the bit where that is promised, otherwise within a bar
for rounding.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from .. import kernels
from ..errors import DtypeError
from . import oracle
from .cell_info import CellInfo
from .dots import FLOOR, Call, dot_test, top
from .example import Array, Example, Sequences, at_once, generator
from .laws import NotApplicable, Trial
from .recurrence import Gradients, Run, Sized
from .subject import Subject

EPS = float(np.finfo(np.float64).eps)

Named = dict[str, np.ndarray]


class Results(NamedTuple):
    """All that a run gives, by name: outputs ("ys", "h", "c"), gradients ("xs", "h0", "W", ...)."""

    outputs: Named = {}  # noqa: RUF012
    gradients: Named = {}  # noqa: RUF012

    def named(self) -> Iterator[tuple[str, np.ndarray]]:
        """Pairs of a phrase and an array: outputs, then gradients."""
        yield from self.outputs.items()
        yield from ((f"the gradient of {k}", g) for k, g in self.gradients.items())


def total(parts: Sequence[Named]) -> Named:
    """The sums, name by name."""
    return {name: sum((p[name] for p in parts[1:]), parts[0][name]) for name in parts[0]}


@dataclass(frozen=True, eq=False)
class Batch:
    """What a recurrence is called with.

    sized: the recurrence of the example's sizes. lengths: of the rows, or None. how: is handed to
    every run (`reverse`, `fused`). The example's seed is that of the cotangents, which depend on
    shapes alone.
    """

    trial: Trial
    info: CellInfo
    sized: Sized
    example: Sequences
    xs: np.ndarray
    state: tuple[np.ndarray, ...]
    weights: Named
    lengths: np.ndarray | None
    how: dict[str, Any] = field(default_factory=dict)

    # --- what it is called with ------------------------------------------------------------------

    @property
    def arrays(self) -> Named:
        """All arrays by name."""
        return dict(zip(self.sized.names, [self.xs, *self.state, *self.weights.values()],
                        strict=True))  # fmt: skip

    @property
    def state_names(self) -> tuple[str, ...]:
        """What the parts of the initial state are called: h0, c0, ..."""
        return self.sized.names[1 : 1 + len(self.state)]

    @cached_property
    def active(self) -> np.ndarray:
        """Where each row is still running, (T, N)."""
        T, N = self.xs.shape[:2]
        return np.arange(T)[:, None] < (np.full(N, T) if self.lengths is None else self.lengths)

    def at(self, arrays: Named, **changes) -> Batch:
        """The batch with other arrays, those of `arrays`; other attributes may change with them."""
        new = {**self.arrays, **arrays}
        state = tuple([new[f"{p}0"] for p in self.sized.parts])
        weights = {k: new[k] for k in self.weights}
        return replace(self, xs=new["xs"], state=state, weights=weights, **changes)

    def astype(self, dtype) -> Batch:
        """The batch in another dtype."""
        return self.at({k: a.astype(dtype) for k, a in self.arrays.items()})

    def piece(self, steps: slice, state: Sequence[np.ndarray] | None = None) -> Batch:
        """The batch of a part of time, which begins with a state of its own."""
        xs, lengths = self.xs[steps], self.lengths
        if lengths is not None:
            lengths = np.clip(lengths - (steps.start or 0), 0, len(xs))
        state = self.state if state is None else tuple(state)
        return replace(self, xs=xs, lengths=lengths, state=state)

    def rows(self, keep) -> Batch:
        """The batch of some of its rows, in that order."""
        arrays = _rows({k: a for k, a in self.arrays.items() if k not in self.weights}, keep)
        lengths = None if self.lengths is None else self.lengths[np.atleast_1d(keep)]
        return self.at(arrays, lengths=lengths)

    # --- what it gives ---------------------------------------------------------------------------

    def run(self, **how) -> Run:
        """The recurrence run forward. Outputs and gradients have the shapes that they must have."""
        self.trial.evaluations += 1
        with np.errstate(all="ignore"):  # exp(-x) may overflow on its way to a sigmoid of 0
            run = self.sized.run(self.xs, self.state, self.weights, self.lengths, **self.how | how)
        steps, parts = self.xs.shape[:2], self.sized.parts
        self._demand(
            isinstance(run.ys, np.ndarray) and run.ys.shape[:2] == steps,
            "the outputs ys", f"(T, N, ...) with T, N = {steps}", f"{np.shape(run.ys)}",
        )  # fmt: skip
        self._demand(
            len(run.last) == len(parts), "the last state", f"{len(parts)} parts", f"{len(run.last)}"
        )
        for part, old, new in zip(parts, self.state, run.last, strict=True):
            self._like(new, old, f"the last {part}")

        def pull(dys=None, dlast=None) -> Gradients:
            with np.errstate(all="ignore"):
                found = run.pull(dys, dlast)
            for (name, a), g in zip(self.arrays.items(), _all(found), strict=True):
                self._like(g, a, f"the gradient of {name}", input=name)
            return found

        return Run(run.ys, run.last, pull)

    def _demand(self, fact, what: str, expected: str, got: str, **rest) -> None:
        self.trial.true(fact, what, expected, got, facts=self.facts(), **rest)

    def _like(self, got, expected: np.ndarray, what: str, **rest) -> None:
        if expected.dtype == np.float64:  # what becomes of float32 is for C24 to say
            self.trial.like(got, expected, what, facts=self.facts(), **rest)

    def outputs(self, run: Run) -> Named:
        """What a run gives, by name."""
        return dict(zip(("ys", *self.sized.parts), (run.ys, *run.last), strict=True))

    def gradients(self, run: Run, cotangents: Sequence | None = None) -> Named:
        """The gradients of a run by name, for its own cotangents or those given."""
        gs = self.cotangents([run.ys, *run.last]) if cotangents is None else cotangents
        return dict(zip(self.sized.names, _all(run.pull(gs[0], list(gs[1:]))), strict=True))

    def results(self, cotangents: Sequence | None = None, **how) -> Results:
        """The recurrence run forward and back, with generic cotangents or those given."""
        run = self.run(**how)
        return Results(self.outputs(run), self.gradients(run, cotangents))

    def cotangents(self, outs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Generic ones for (ys, *last); none where a row has ended and ys is not 0 there, as code
        by hand may leave there what it likes."""
        dys, *dlast = self.example.cotangents(outs)
        if outs[0][~self.active].any():
            dys[~self.active] = 0
        return [dys, *dlast]

    @cached_property
    def own(self) -> Run:
        """The batch run once, to be compared with."""
        return self.run()

    @cached_property
    def gs(self) -> list[np.ndarray]:
        """The cotangents of that run, for (ys, *last)."""
        return self.cotangents([self.own.ys, *self.own.last])

    @cached_property
    def base(self) -> Results:
        """The results of that run."""
        return Results(self.outputs(self.own), self.gradients(self.own, self.gs))

    def no_weights(self) -> Named:
        """Gradients of the weights that are zero."""
        return {name: np.zeros_like(w) for name, w in self.weights.items()}

    def in_pieces(self, cuts: Sequence[int], gs, detached: bool = False, **how) -> Results:
        """The batch run in pieces, each from the last state of the one before.

        Going back, the gradient of a piece's first state is handed on; `detached`, it is not.
        """
        bounds = [0, *sorted(cuts), len(self.xs)]
        spans = [slice(a, b) for a, b in itertools.pairwise(bounds)]
        runs: list[Run] = []
        state: Sequence[np.ndarray] = self.state
        for steps in spans:
            runs.append(self.piece(steps, state).run(**how))
            state = runs[-1].last
        shapes = {r.ys.shape[2:] for r in runs}
        self._demand(len(shapes) == 1, "ys in pieces", "one shape of units", f"{sorted(shapes)}")
        dlast, found = list(gs[1:]), []
        for run, steps in zip(reversed(runs), reversed(spans), strict=True):
            found.append(run.pull(gs[0][steps], dlast))
            dlast = [np.zeros_like(s) if detached else s for s in found[-1].state]
        outputs = self.outputs(Run(np.concatenate([r.ys for r in runs]), runs[-1].last, run.pull))
        first = dict(zip(self.state_names, found[-1].state, strict=True))
        xs = np.concatenate([g.xs for g in found[::-1]])
        weights = total([g.weights for g in found])
        return Results(outputs, {"xs": xs, **first, **weights})

    # --- comparing -------------------------------------------------------------------------------

    def agree(
        self,
        got: Results,
        expected: Results,
        when: str,
        *,
        exact: bool | None = None,
        loose: Collection[str] = (),
        noise: Noise | None = None,
        facts: dict | None = None,
    ) -> None:
        """Equality of two runs, or of those parts that `expected` has.

        exact: to the bit; False, within rounding; None, to the bit where the library promises that,
        but for the gradients in `loose`, which are sums in another order. noise: of the computation
        that is compared, if it is not the recurrence on this batch.
        """
        bits = self.info.promises_bits if exact is None else exact
        known = self.facts(gradients=got.gradients, numeric=expected.gradients, **(facts or {}))
        for kind in ("outputs", "gradients"):
            for name, right in getattr(expected, kind).items():
                left, slope = getattr(got, kind)[name], kind == "gradients"
                last = "the last " * (name in self.sized.parts)
                what = f"{'the gradient of ' if slope else last}{name} {when}"
                own = slope and name in loose
                rest = {"input": name if slope else None, "axes": self.axes(name, right.ndim),
                        "facts": known}  # fmt: skip
                if bits and not own:
                    self.trial.same(left, right, what, **rest)
                    continue
                if exact is None and not own:
                    self.trial.note("bits", np.array_equal(left, right, equal_nan=True))
                bar = self.bar(kind, name, left, right, noise)
                self.trial.close(left, right, bar, what, **rest)

    def bar(self, kind: str, name: str, got, expected, noise: Noise | None = None) -> float:
        """How far rounding may move a result: `oracle.rounding` of its largest entry.

        Only where that is not enough, of the largest one that could have been, and of its noise:
        each of the roundings on the way moves a result as an argument does that is off by a unit in
        its last place.
        """
        bar = self.unit * top(expected)
        if got.shape == expected.shape:
            with np.errstate(all="ignore"):
                away = np.abs(got - expected)
            if not (away <= bar).all():
                bar += self.widened(kind, name, noise or self.noise)
        return bar

    def widened(self, kind: str, name: str, noise: Noise) -> float:
        """By how much a bar is wider for noise."""
        return self.unit * (FLOOR * noise.floor(kind) + noise.gap(kind, name))

    @property
    def unit(self) -> float:
        """What all roundings behind a number may do to it, relative."""
        return oracle.rounding(self.xs.dtype, self.terms)

    @property
    def terms(self) -> int:
        """Roundings in the chain behind one number: products over features, units, rows, steps."""
        T, N, features = self.xs.shape
        return 4 * (T + 1) * (N + features + self.example.H + 8)

    @cached_property
    def noise(self) -> Noise:
        """That of the recurrence on this batch."""
        return self.noise_for(None)

    def noise_for(self, cotangents: Sequence | None, base: Results | None = None) -> Noise:
        """That for other cotangents. base: the results, where they are known."""
        again = lambda arrays: self.at(arrays).results(cotangents)  # noqa: E731
        return noise_of(self.arrays, self.example.seed, again, base)

    def facts(self, **more) -> dict[str, Any]:
        """What a diagnosis wants to know of the case."""
        T, N, features = self.xs.shape
        lengths = None if self.lengths is None else tuple(self.lengths.tolist())
        sizes = {"T": T, "N": N, "I": features, "H": self.example.H, "lengths": lengths}
        return {**sizes, "gates": self.info.gates, "parts": self.sized.parts, **more}

    def axes(self, name: str, ndim: int | None = None) -> tuple[str, ...]:
        """What the axes of an argument or an output are called."""
        names: tuple = ("row", "unit")
        if name in ("ys", "xs"):
            names = ("t", "row", "unit" if name == "ys" else "feature")
        elif name in self.weights:
            names = ("unit", "column")[: self.weights[name].ndim]
        return names if ndim in (None, len(names)) else ()

    # --- as a function of its arrays -------------------------------------------------------------

    def call(self, subject: Subject | None = None) -> Call:
        """The batch as a call of a function of its arrays: the recurrence, or another subject."""
        call = Call(self.info, self.as_example(), subject or self.sized.subject)
        call.gs = self.cotangents(call.outs)
        return call

    def as_example(self) -> Example:
        """The batch as an example of an op."""
        arrays = tuple([Array(a.shape, a.dtype.name, data=a) for a in self.arrays.values()])
        params = {} if self.lengths is None else {"lengths": self.lengths}
        return Example(arrays, params, self.example.seed)


def batch(trial: Trial, info: CellInfo, example: Sequences, dtype=None, **how) -> Batch:
    """The batch of an example."""
    sized = info.recurrence.at(example.I, example.H)
    xs, *rest = sized.args(example)
    n = len(sized.state)
    weights = dict(zip(sized.weights, rest[n:], strict=True))
    ragged = example.lengths is not None and info.takes_lengths
    lengths = np.array(example.lengths, np.int64) if ragged else None
    made = Batch(trial, info, sized, example, xs, tuple(rest[:n]), weights, lengths, how)
    return made if dtype is None else made.astype(dtype)


def _all(found: Gradients) -> list[np.ndarray]:
    return [found.xs, *found.state, *found.weights.values()]


def _rows(arrays: Named, keep) -> Named:
    """Some of the rows of arrays by name."""
    keep = np.atleast_1d(keep)
    return {k: np.take(a, keep, int(k in ("xs", "ys"))) for k, a in arrays.items()}


def rows_of(of: Batch, found: Results, keep, end: int | None = None) -> Results:
    """What some rows put out, and their gradients, but for those of weights, which all rows share;
    within the first `end` steps."""
    own = {k: g for k, g in found.gradients.items() if k not in of.weights}
    picked = Results(_rows(found.outputs, keep), _rows(own, keep))
    for kind, name in zip(picked, ("ys", "xs"), strict=True):
        if name in kind:
            kind[name] = kind[name][:end]
    return picked


def cotangents_of(of: Batch, keep, end: int | None = None) -> list[np.ndarray]:
    """The batch's own cotangents of some rows, within the first `end` steps."""
    keep = np.atleast_1d(keep)
    return [of.gs[0][:end, keep], *[g[keep] for g in of.gs[1:]]]


def filled(grads: Sequence, args: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Gradients, with zeros where nothing depends."""
    return [np.zeros_like(a) if g is None else g for g, a in zip(grads, args, strict=True)]


def over(mask: np.ndarray, a: np.ndarray) -> np.ndarray:
    """A mask (T, N) with axes of 1 behind, for an array (T, N, ...)."""
    return mask.reshape(*mask.shape, *[1] * (a.ndim - 2))


# --- rounding ------------------------------------------------------------------------------------


class Noise:
    """How far rounding can move results, found out when it is first asked for.

    runs() gives the results, and those for arrays moved by a unit or two in their last place: what
    comes out moves by what rounding does within, amplified as a change of an argument is.
    """

    def __init__(self, arrays: Named, runs: Callable[[], tuple[Results, Sequence[Results]]]):
        self.arrays, self.runs = arrays, runs
        self.unit = float(np.finfo(np.result_type(*arrays.values())).eps)

    def gap(self, kind: str, name: str) -> float:
        """The largest move of a result, in units of the last place."""
        base, moved = self._runs
        gaps = [top(getattr(m, kind)[name] - getattr(base, kind)[name]) for m in moved]
        return max(gaps) / self.unit

    def floor(self, kind: str) -> float:
        """The largest number that could have been: of a gate y near 1, 1 - y has few digits, so it
        is off by a unit of what is of order 1, and then multiplied."""
        sizes = [1.0, *map(top, getattr(self._runs[0], kind).values())]
        return max([*sizes, *map(top, self.arrays.values())] if kind == "gradients" else sizes)

    @cached_property
    def _runs(self) -> tuple[Results, Sequence[Results]]:
        with np.errstate(all="ignore"):
            return self.runs()


def noise_of(
    arrays: Named, seed: int, again: Callable[[Named], Results], base: Results | None = None
) -> Noise:
    """The noise of a computation `again(arrays)`. base: what it gives, where that is known."""
    noise = Noise(arrays, lambda: (base or again(arrays), [again(moved(k)) for k in range(2)]))

    def moved(k: int) -> Named:
        # Twice: two sums that cancel by accident are rare, two times two rarer.
        return {
            name: (
                a * (1 + noise.unit * at_once(seed, 50 + k, i).choice([-2, -1, 1, 2], a.shape))
            ).astype(a.dtype)
            for i, (name, a) in enumerate(arrays.items())
        }

    return noise


# --- against another function --------------------------------------------------------------------


class _Beside(Subject):
    """The gradients of a recurrence beside the values of a reference in plain NumPy."""

    def __init__(self, of: Batch, reference: Callable):
        self.own, self.reference, self.name = of.sized.subject, reference, of.info.name

    def forward(self, args, params):
        return tuple([np.asarray(o) for o in self.reference(*args, **params)])

    def linearise(self, args, params, wrt):
        return self.own.linearise(args, params, wrt)


def against(of: Batch, reference: Callable) -> None:
    """That a recurrence computes what a reference in plain NumPy computes, and its derivative."""
    beside = _Beside(of, reference)
    with np.errstate(all="ignore"):
        outs = beside.forward(list(of.arrays.values()), of.as_example().params)
    expected = dict(zip(of.base.outputs, outs, strict=True))
    found = dict(of.base.outputs)
    if of.lengths is not None:  # what is left where a row has ended: any
        for named in (found, expected):
            named["ys"] = np.where(over(of.active, named["ys"]), named["ys"], 0)
    of.agree(Results(found), Results(expected), "against the reference", exact=False)
    if of.xs.dtype == np.float64:
        dot_test(of.trial, of.call(beside), most=1)


# --- how a machine is set ------------------------------------------------------------------------


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


# --- reasons why a law says nothing --------------------------------------------------------------

NO_LENGTHS = "its forward takes no lengths"


def ragged(info: CellInfo, example: Sequences, least: int = 0) -> Sequences:
    """The example with lengths, drawn ones if it has none, and at least so many steps."""
    if not info.takes_lengths:
        raise NotApplicable(NO_LENGTHS)
    T = max(example.T, least)
    lengths = example.lengths
    if lengths is None:
        lengths = tuple(map(int, generator(example.seed, 50).integers(0, T + 1, example.N)))
    return replace(example, T=T, lengths=lengths)


def needs_lengths(info: CellInfo) -> str | None:
    """For `unless`."""
    return None if info.takes_lengths else NO_LENGTHS


def needs_cell(what: str) -> Callable[[CellInfo], str | None]:
    """For `unless`: what code written by hand does not have."""
    return lambda info: None if info.cell else f"{what}: code written by hand has none"
