"""One example of a recurrence, run, and what else a law compares with that run.

A law of a recurrent cell says that two ways of computing the same thing agree. `Case` runs the
recurrence on an example, with a cotangent for every output, and compares: to the bit where the
library promises that, otherwise within rounding, for which it has a bar.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from .cell_info import CellInfo
from .example import Sequences, generator, signed
from .laws import NotApplicable, Trial
from .recurrence import Gradients, Run

Named = dict[str, np.ndarray]
FROM_RUN: Any = object()  # lengths that are those of the example

PROBES = 3  # how often a bar's scale is looked for
STEP = 2.0**-26  # by how much, relatively, arguments are moved to see what rounding could do


class Case:
    """A recurrence on an example.

    sized: the recurrence of the example's sizes. xs, state, weights, lengths: what it is run on.
    run: what came out; dys, dlast: a generic cotangent for ys and for each part of the last state;
    gradients: what came back for them. how: is handed to every run (`reverse`).
    """

    def __init__(self, trial: Trial, info: CellInfo, example: Sequences, **how):
        self.trial, self.info, self.example, self.how = trial, info, example, how
        self.sized = info.recurrence.at(example.I, example.H)
        args, n = self.sized.args(example), len(self.sized.state)
        self.xs, self.state = args[0], args[1 : 1 + n]
        self.weights = dict(zip(self.sized.weights, args[1 + n :], strict=True))
        ragged = example.lengths is not None and info.takes_lengths
        self.lengths = np.array(example.lengths, np.int64) if ragged else None
        # Where each row is still running, (T, N).
        own = np.full(example.N, example.T) if self.lengths is None else self.lengths
        self.active = np.arange(example.T)[:, None] < own

    # --- running ---------------------------------------------------------------------------------

    def at(self, xs=None, state=None, weights=None, lengths=FROM_RUN, **how) -> Run:
        """The recurrence run with some of its arguments changed."""
        xs = self.xs if xs is None else xs
        state = self.state if state is None else state
        weights = self.weights if weights is None else weights
        lengths = self.lengths if lengths is FROM_RUN else lengths
        self.trial.evaluations += 1
        with np.errstate(all="ignore"):
            run = self.sized.run(xs, state, weights, lengths, **self.how, **how)
        trial, facts = self.trial, self.facts()
        trial.true(
            isinstance(run.ys, np.ndarray) and run.ys.shape[:2] == xs.shape[:2],
            "the outputs ys", f"(T, N, ...) with T, N = {xs.shape[:2]}", f"{np.shape(run.ys)}",
            facts=facts,
        )  # fmt: skip
        trial.true(
            len(run.last) == len(state), "the last state", f"{len(state)} parts",
            f"{len(run.last)}", facts=facts,
        )  # fmt: skip
        for part, old, new in zip(self.sized.parts, state, run.last, strict=True):
            trial.like(new, old, f"the last {part}", facts=facts)

        def pull(dys=None, dlast=None) -> Gradients:
            with np.errstate(all="ignore"):
                found = run.pull(dys, dlast)
            asked = (xs, *state, *weights.values())
            for name, arg, g in zip(self.sized.names, asked, _all(found), strict=True):
                trial.like(g, arg, f"the gradient of {name}", input=name, facts=facts)
            return found

        return Run(run.ys, run.last, pull)

    @cached_property
    def run(self) -> Run:
        return self.at()

    @cached_property
    def cotangents(self) -> list[np.ndarray]:
        """For ys and the parts of the last state. Where a row has ended, ys has a cotangent only if
        it is 0 there, as in the library: code by hand may leave there what it likes."""
        dys, *dlast = self.example.cotangents([self.run.ys, *self.run.last])
        if self.run.ys[~self.active].any():
            dys = np.where(_over(self.active, dys), dys, 0).astype(dys.dtype)
        return [dys, *dlast]

    @property
    def dys(self) -> np.ndarray:
        return self.cotangents[0]

    @property
    def dlast(self) -> list[np.ndarray]:
        return self.cotangents[1:]

    @cached_property
    def gradients(self) -> Gradients:
        return self.run.pull(self.dys, self.dlast)

    def outputs(self, run: Run) -> Named:
        """ys and the parts of the last state, by name."""
        return {"ys": run.ys, **dict(zip(self.sized.parts, run.last, strict=True))}

    def slopes(self, found: Gradients) -> Named:
        """Gradients by name of the argument."""
        return dict(zip(self.sized.names, _all(found), strict=True))

    def no_weights(self) -> Named:
        """Gradients of the weights that are zero."""
        return {name: np.zeros_like(w) for name, w in self.weights.items()}

    def arguments(self) -> list[np.ndarray]:
        """In the order of their names."""
        return [self.xs, *self.state, *self.weights.values()]

    # --- comparing -------------------------------------------------------------------------------

    def facts(self, **more) -> dict[str, Any]:
        """What a diagnosis wants to know of the case."""
        e = self.example
        lengths = None if self.lengths is None else tuple(self.lengths.tolist())
        sizes = {"T": e.T, "N": e.N, "I": e.I, "H": e.H, "lengths": lengths}
        return {**sizes, "gates": self.info.gates, "parts": self.sized.parts, **more}

    def agree_outputs(self, got: Named, expected: Named, which: str = "", **rest) -> None:
        """Outputs by name agree: to the bit where the library promises bits."""
        what = {name: name if name == "ys" else f"the last {name}" for name in expected}
        self._agree(got, expected, what, which, False, **rest)

    def agree_gradients(self, got: Named, expected: Named, which: str = "", **rest) -> None:
        """Gradients by name agree."""
        what = {name: f"the gradient of {name}" for name in expected}
        rest["facts"] = {"gradients": got, "numeric": expected, **rest.get("facts", {})}
        self._agree(got, expected, what, which, True, **rest)

    def _agree(
        self,
        got: Named,
        expected: Named,
        what: dict[str, str],
        which: str,
        slope: bool,
        *,
        exact: bool = False,  # to the bit for everybody
        loose: Collection[str] = (),  # within rounding for everybody: sums in another order
        bars: Bars | None = None,
        facts: dict | None = None,
    ) -> None:
        known = self.facts(**(facts or {}))
        for name, e in expected.items():
            g, text = got[name], " ".join(filter(None, [what[name], which]))
            rest: dict = {
                "input": name if slope else None,
                "axes": self.axes(name, slope, np.ndim(e)),
                "facts": known,
            }
            if exact or (self.info.promises_bits and name not in loose):
                self.trial.same(g, e, text, **rest)
                continue
            self.trial.like(g, e, text, **rest)
            if name not in loose:
                self.trial.note("bits", np.array_equal(g, e, equal_nan=True))
            self.trial.close(g, e, self._bar(name, slope, g, e, bars), text, **rest)

    def _bar(self, name: str, slope: bool, got, expected, bars: Bars | None) -> float:
        """What rounding may do to an array: of its largest entry, or, only where that is not
        enough, of the largest one that it could as well have had."""
        bar = self.terms * _unit(expected) * float(np.abs(expected).max(initial=0))
        with np.errstate(all="ignore"):
            difference = np.abs(got - expected)
        if (difference <= bar).all():
            return bar
        return max(bar, (bars or self.bars)(name, slope))

    @property
    def terms(self) -> int:
        """Roundings in the chain behind one number: products over features, units, rows, steps."""
        e = self.example
        return 4 * (e.T + 1) * (e.N + e.I + e.H + 8)

    @cached_property
    def bars(self) -> Bars:
        """The bars of this run."""

        def again(arguments, cotangents):
            n = len(self.state)
            weights = dict(zip(self.weights, arguments[1 + n :], strict=True))
            run = self.at(arguments[0], arguments[1 : 1 + n], weights)
            return self.outputs(run), self.slopes(run.pull(cotangents[0], cotangents[1:]))

        return Bars(self, again, self.arguments(), self.cotangents)

    def axes(self, name: str, slope: bool, ndim: int) -> tuple[str, ...]:
        """What the axes of an argument or an output are called."""
        if name in ("ys", "xs"):
            names: tuple = ("t", "row", "unit" if name == "ys" else "feature")
        elif name in self.weights:
            names = ("unit", "column") if slope else ()
        else:
            names = ("row", "unit")
        return names if len(names) == ndim else names[:ndim] if ndim < len(names) else ()


class Bars:
    """How far rounding can move the outputs and the gradients of a computation.

    again(arguments, cotangents): (outputs, gradients) by name. It is called with arguments and
    cotangents that are moved a little, and with other cotangents. One number for each array, the
    sum of three:

    - the unit roundoff times the array's largest entry, over all cotangents: with one of them,
      large contributions may happen to cancel;
    - what it moves with its arguments, scaled down to one roundoff of them: rounding early in a
      long chain is amplified as a change of an argument is;
    - the unit roundoff times all cotangents times the largest argument, for gradients: where a gate
      is saturated, its derivative is the difference of two equal numbers, and no other scale shows.
    """

    def __init__(
        self,
        case: Case,
        again: Callable[[list, list], tuple[Named, Named]],
        arguments: Sequence[np.ndarray],
        cotangents: Sequence[np.ndarray],
    ):
        self.case, self.again = case, again
        self.arguments, self.cotangents = list(arguments), list(cotangents)

    def __call__(self, name: str, slope: bool) -> float:
        return self._found[slope][name]

    @cached_property
    def _found(self) -> tuple[dict[str, float], dict[str, float]]:
        seed, terms = self.case.example.seed, self.case.terms
        first = self.again(self.arguments, self.cotangents)
        bars: tuple[dict[str, float], dict[str, float]] = ({}, {})
        moved = [self.again(*self._moved(seed, k)) for k in range(PROBES)]
        others = [
            self.again(self.arguments, [_like(c, seed, 310 + k, i) for i, c in enumerate(cots)])
            for k, cots in enumerate([self.cotangents] * PROBES)
        ]
        largest = max([1.0, *[_largest(a) for a in self.arguments]])
        total = sum(float(np.abs(c).sum()) for c in self.cotangents)
        for slope in (False, True):
            for name, a in first[slope].items():
                size = max(_largest(o[slope][name]) for o in [first, *others])
                sway = max(_largest(m[slope][name] - a) for m in moved) / STEP
                floor = largest * max(1.0, total) if slope else largest
                bars[slope][name] = 8 * _unit(a) * (terms * (size + sway) + floor)
        return bars

    def _moved(self, seed: int, k: int) -> tuple[list, list]:
        return tuple(  # type: ignore[return-value]
            [
                (a + STEP * (np.abs(a) + _largest(a)) * _like(a, seed, place + k, i)).astype(
                    a.dtype
                )
                for i, a in enumerate(arrays)
            ]
            for place, arrays in ((300, self.arguments), (305, self.cotangents))
        )


def _like(a: np.ndarray, *key: int) -> np.ndarray:
    return np.asarray(signed(a.shape, *key)).astype(a.dtype)


def _largest(a: np.ndarray) -> float:
    finite = np.abs(a[np.isfinite(a)])
    return float(finite.max(initial=0))


def _unit(a) -> float:
    """The unit roundoff of an array's dtype."""
    return float(np.finfo(a.dtype).eps) / 2 if a.dtype.kind == "f" else 0.0


def _all(found: Gradients) -> list[np.ndarray]:
    return [found.xs, *found.state, *found.weights.values()]


def _over(mask: np.ndarray, a: np.ndarray) -> np.ndarray:
    """A mask (T, N) with axes of 1 behind, for an array (T, N, ...)."""
    return mask.reshape(*mask.shape, *[1] * (a.ndim - 2))


def padded_out(a: np.ndarray, active: np.ndarray, value: float = 0.0) -> np.ndarray:
    """The array (T, N, ...) with a value wherever a row has ended."""
    return np.where(_over(active, a), a, np.asarray(value, a.dtype))


def total(parts: Sequence[Named]) -> Named:
    """The sums, name by name."""
    return {name: sum((p[name] for p in parts[1:]), parts[0][name]) for name in parts[0]}


def rows(a: np.ndarray, keep, axis: int) -> np.ndarray:
    return np.take(a, np.atleast_1d(keep), axis)


def ragged(info: CellInfo, example: Sequences, least: int = 0) -> Sequences:
    """The example with lengths, drawn ones if it has none, and at least so many steps."""
    if not info.takes_lengths:
        raise NotApplicable(NO_LENGTHS)
    T = max(example.T, least)
    lengths = example.lengths
    if lengths is None:
        lengths = tuple(map(int, generator(example.seed, 50).integers(0, T + 1, example.N)))
    return replace(example, T=T, lengths=lengths)


NO_LENGTHS = "its forward takes no lengths"


def needs_lengths(info: CellInfo) -> str | None:
    """For `unless`."""
    return None if info.takes_lengths else NO_LENGTHS


def needs_cell(what: str) -> Callable[[CellInfo], str | None]:
    """For `unless`: what code written by hand does not have."""
    return lambda info: None if info.cell else f"{what}: code written by hand has none"
