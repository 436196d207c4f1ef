"""The likely cause of a failure: simple hypotheses, fitted to what the code gave.

A minimal example says least about what is wrong: on one number, a wrong sign, a factor of -1 and a
gradient of something else are the same. So a hypothesis has to hold on every finding there is: the
minimal one, those on examples before they were shrunk, and those on a few twins of the minimal
example (generic values, other sizes). Twins with one thing taken away (lengths, layout, units, time
steps) tell what a failure needs. What remains is said best first.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .dots import REFUSED
from .example import Array, Example, Sequences
from .laws import Finding, Law
from .recurrence import state_names
from .run import finding_of
from .shrink import alike

CAUSES = (
    "missing reduction",  # over broadcast axes, or over the batch
    "alias",  # a gradient that shares memory
    "writes into its arguments",
    "zero",  # the gradient is zero, or not there
    "sign",
    "factor",  # a constant factor: 2, 1/2, N, 1/N, T, ...
    "mean for sum",
    "transposed",
    "other input",  # the gradient of another argument
    "swapped",  # gradients of two arguments exchanged
    "first step",  # wrong, or right, at the first time step only
    "last step",
    "truncated",  # in time
    "mask",  # wrong where a row has ended, or because of it
    "row",  # one row of the batch depends on another, or one row is special
    "tail",  # the last units, beyond a multiple of a vector
    "gates",  # blocks of gates exchanged
    "float32",  # computed or kept in less precision
    "stale",  # a buffer of an earlier call
    "layout",  # strides ignored
    "duplicates",  # repeated indices
    "ties",
    "edge size",  # a size of 0 or 1, a length of 0 or 1
    "not finite",
    "missing term",  # a part of the derivative is not there
    "wrong formula",  # none of the above: the derivative of something else
    "forward",  # the forward pass is not what it claims to be; gradients fit it
    "state",  # the state that is passed on, or its gradient
    "accumulation",  # contributions overwritten, or counted twice
    "second order",
    "threads",
    "memory",  # read or written outside
)

WHOLE, HALF = 0.9, 0.5  # shares of the cases on which a hypothesis holds

# What a broken law says by itself: of these, nothing that fits better is expected.
_SAYS = {
    "P3": ("writes into its arguments", "the call changes arrays that it was given"),
    "P4": ("alias", "what it returns shares memory with something else"),
    "P5": ("stale", "something of an earlier call is still in use"),
    "P8": (
        "layout",
        "strides are ignored: the same numbers laid out otherwise give another result",
    ),
    "P9": ("not finite", "an overflow, or a division by zero, where the exact result is finite"),
    "P10": ("accumulation", "contributions are overwritten, or counted more than once"),
    "P11": ("edge size", "an array of no elements is a case of its own"),
    "P14": ("second order", "the gradient is right, its own derivative is not"),
    "P15": ("float32", "less precision than the dtype has"),
    "P16": ("forward", "the outputs are not those of the reference"),
    "C5": ("row", "rows are mixed up"),
    "C7": ("mask", "steps after a row has ended have an effect"),
    "C8": ("mask", "a step after the end of a row is not the identity on the state"),
    "C9": ("mask", "a row in a ragged batch is not treated as it is alone"),
    "C17": ("truncated", "windows overlap, leave a gap, or cut the wrong part of the state"),
    "C21": ("gates", "blocks of gates are in another order than declared"),
    "C24": ("float32", "less precision than the dtype has"),
    "C25": ("layout", "strides are ignored"),
    "C27": ("stale", "something of an earlier call is still in use"),
    "C28": ("forward", "the outputs are not those of the reference"),
}
# What it makes likely where nothing fits.
_HINTS = {
    "P1": ("forward", "the output depends on more than the arguments"),
    "P12": ("missing reduction", "wrong along an axis that was broadcast"),
    "P13": ("row", "a row depends on another one"),
    "P17": ("forward", "the output depends on whether gradients are asked for"),
    "P18": ("state", "something stays behind after an error"),
    "C1": ("state", "the state is not passed on whole from one part of a sequence to the next"),
    "C2": ("accumulation", "the contributions of the steps are not added up"),
    "C3": ("state", "a sequence of no steps has to pass on its state untouched"),
    "C4": ("edge size", "a sequence of one step is a case of its own"),
    "C6": ("row", "a row depends on another one, or a batch of one row is a case of its own"),
    "C10": ("forward", "an output depends on later inputs"),
    "C11": ("mask", "a reversed sequence has to be reversed within its own length"),
    "C12": ("accumulation", "the two directions are not added up"),
    "C13": ("forward", "a stack is not its layers one after another"),
    "C14": ("state", "a cotangent of the state is not passed on"),
    "C15": ("forward", "the fused path, or the code by hand, does not compute what it stands for"),
    "C18": ("stale", "what is computed again is not what was computed at first"),
    "C19": ("mask", "the same mask has to be used forward and backward, a new one at each step"),
    "C20": ("accumulation", "the contributions of the steps are not added up"),
    "C22": ("factor", "a bias is counted twice"),
    "C23": ("forward", "a gate does not do what its name says"),
    "C26": ("memory", "what works for short sequences does not for long ones"),
}


@dataclass
class Cause:
    """One likely cause: its name, of `CAUSES`, a sentence, and how well it fits.

    residual: the largest difference that remains, relative to the largest number; None where
    nothing was fitted.
    """

    name: str
    text: str
    residual: float | None = None


def causes(
    finding: Finding,
    info=None,
    example=None,
    *,
    law: Law | None = None,
    witnesses: Sequence[tuple[Any, Finding]] = (),
) -> list[Cause]:
    """The likely causes of a finding, best first; at least one, at most four.

    info, example: what it was found on. law: the law; with it, twins of the example are tried.
    witnesses: other examples with what was found on them.
    """
    cases = [_Case(finding, info, example)]
    others = list(witnesses)
    if law is not None:
        made = [(e, finding_of(law, info, e)) for e in _others(example)]
        others += [(e, f) for e, f in made if f is not None]
    cases += [_Case(g, info, e) for e, f in others if (g := _about(f, finding)) is not None]
    cases = _distinct(cases)
    id = law.id if law is not None else ""
    found: list[Cause] = []

    if finding.what.endswith(REFUSED):  # before the law could say anything
        why = "it refuses what was drawn; if by design, say what it takes with inputs= and domain="
        return [*_of_error(finding, cases), Cause("forward", why)]
    if "error" in finding.facts:
        found += _of_error(finding, cases)
    elif finding.analytic is None or finding.numeric is None:
        found += _of_shapes(finding, cases)
    if law is not None and _moves(law, info, example, finding):
        found.append(Cause("stale", "the same call gives another result each time"))
    if "memory of its own" in finding.expected:
        found.append(Cause(*_SAYS["P4"]))
    if "bytes" in finding.expected:
        found.append(Cause(*_SAYS["P3"]))
    # On an example that was not shrunk, where every output has something to say.
    found += _ignored(next((f for _, f in witnesses if "pulled" in f.facts), finding), example)
    if id in _SAYS:
        found.append(Cause(*_SAYS[id]))
    if cases[0].not_finite or _spoilt(finding):
        found.append(Cause("not finite", f"{finding.what} is not finite where it ought to be"))
    if any(np.any(k) for k in finding.facts.get("kinks", ()) if k is not None):
        found.append(Cause("ties", "only where two numbers are equal, at a kink"))
    exactly, places, partly = _fitted(cases)
    needs: list[Need] = []
    if law is not None:
        needs = list(_needs(law, info, example, finding, {c.name for c in exactly}))
    hints = [Cause(*_HINTS[id])] if id in _HINTS else []
    found += [c for c, sure in needs if sure]
    if finding.input is None:  # of outputs: there is no derivative to fit
        found += hints
    found += [*exactly, *[c for c, sure in needs if not sure], *places, *hints]
    found += [c for share, c in partly if share >= HALF]
    if finding.input is None and example is not None and "gradient" not in finding.what:
        found.append(Cause("forward", "the outputs themselves are not what they ought to be"))
    found.append(Cause("wrong formula", _where(cases[0], bool(found))))
    found += [c for share, c in partly if share < HALF]
    first: dict[str, Cause] = {}
    for c in found:
        first.setdefault(c.name, c)
    return list(first.values())[:4]


def _ignored(finding: Finding, example) -> list[Cause]:
    """That the gradients do not change when the cotangent of one output of several goes."""
    pulled, gs = finding.facts.get("pulled"), finding.facts.get("cotangents") or []
    if pulled is None or len(gs) < 2:
        return []
    gs = [np.asarray(g) for g in gs]
    whole = pulled(gs)
    for j, g in enumerate(gs):
        if np.any(g):
            less = pulled([np.zeros_like(g) if k == j else h for k, h in enumerate(gs)])
            if all(np.array_equal(a, b) for a, b in zip(whole, less, strict=True)):
                if isinstance(example, Sequences) and j:
                    part = state_names(len(gs) - 1)[j - 1]
                    return [Cause("state", f"the cotangent of the last {part} is ignored")]
                return [Cause("missing term", f"the cotangent of output {j} is ignored")]
    return []


def _moves(law: Law, info, example, finding: Finding) -> bool:
    """Whether the same example gives another finding when it is tried again."""
    if finding.analytic is None:
        return False
    again, more = (finding_of(law, info, example) for _ in range(2))
    if again is None or more is None or again.analytic is None or more.analytic is None:
        return True
    return not np.array_equal(again.analytic, more.analytic, equal_nan=True)


def _spoilt(finding: Finding) -> bool:
    """Whether a gradient is not finite though all arguments are."""
    of = [finding.facts.get(kind) or () for kind in ("gradients", "args")]
    gradients, args = (list(x.values()) if isinstance(x, dict) else list(x) for x in of)
    return not _all_finite(gradients) and _all_finite(args)


def _all_finite(arrays: list) -> bool:
    return all(bool(np.isfinite(a).all()) for a in map(np.asarray, arrays) if a.dtype.kind == "f")


# --- the cases -----------------------------------------------------------------------------------


class _Case:
    """A finding, and what it was found on, as numbers."""

    def __init__(self, finding: Finding, info, example):
        self.finding, self.info, self.example, self.facts = finding, info, example, finding.facts
        self.comparable = self.not_finite = False
        if finding.analytic is None or finding.numeric is None:
            return
        try:
            A = np.asarray(finding.analytic, np.float64)
            N = np.asarray(finding.numeric, np.float64)
        except (TypeError, ValueError):
            return
        if A.shape != N.shape or not A.size:
            return
        # An entry of which the oracle knows nothing.
        A = np.array(A)
        A[np.isnan(N)] = 0.0
        N = np.nan_to_num(N, nan=0.0, posinf=np.inf, neginf=-np.inf)
        self.not_finite = bool((~np.isfinite(A) & np.isfinite(N)).any())
        if not (np.isfinite(A).all() and np.isfinite(N).all()):
            return
        error = np.zeros(N.shape) if finding.error is None else np.asarray(finding.error, float)
        error = np.where(np.isfinite(error), error, 0.0)
        self.A, self.N, self.E = A, N, np.broadcast_to(error, N.shape)
        self.size = float(np.abs(N).max())
        self.difference = np.abs(A - N)
        self.wrong = self.difference > self.E
        self.comparable = bool(self.wrong.any())

    def fits(self, model, of=None) -> float | None:
        """The relative residual of A = model, if it is within the error bars."""
        model, given = np.asarray(model), self.A if of is None else np.asarray(of)
        if model.shape != given.shape or not np.isfinite(model).all():
            return None
        rest = np.abs(given - model)
        bar = 16 * (self.E if self.E.shape == rest.shape else float(self.E.max()))
        size = max(float(np.abs(model).max(initial=0)), self.size)
        # A model has to explain the error: most of it must be gone.
        bar = np.minimum(bar + 1e-10 * size, 0.02 * float(self.difference.max()))
        return float(rest.max(initial=0)) / (size or 1.0) if (rest <= bar).all() else None

    def axis(self, *names: str) -> int | None:
        axes = self.finding.axes
        return next((axes.index(n) for n in names if n in axes), None)

    def along(self, axis: int) -> np.ndarray:
        """At which places of an axis something is wrong."""
        rest = tuple([i for i in range(self.wrong.ndim) if i != axis])
        return np.asarray(self.wrong.any(axis=rest))

    def fact(self, name: str, default=None):
        """A fact of the finding, or a size of the example."""
        found = self.facts.get(name)
        if found is None:
            found = getattr(self.example, name, None)
        return default if found is None else found

    def other(self, kind: str) -> dict[str, np.ndarray]:
        """Gradients of the other inputs of the same shape: "gradients" or "numeric"."""
        of = self.facts.get(kind) or {}
        return {
            k: np.asarray(v, np.float64)
            for k, v in of.items()
            if v is not None and k != self.finding.input and np.shape(v) == self.A.shape
        }

    def arrays(self) -> list[np.ndarray]:
        """The arguments that are arrays."""
        made = self.facts.get("args")
        if made is None and isinstance(self.example, Example):
            made = self.example.arrays()
        made = list(made.values()) if isinstance(made, dict) else list(made or ())
        return [a for a in made if isinstance(a, np.ndarray)]

    def shape_key(self):
        e = self.example
        sizes = (e.T, e.N, e.I, e.H, e.lengths) if isinstance(e, Sequences) else ()
        return sizes, getattr(self.finding.analytic, "shape", None), self.finding.expected[:40]


def _distinct(cases: list[_Case]) -> list[_Case]:
    """The first case, and the others that have something to add."""
    seen: dict = {}
    for c in cases:
        seen.setdefault(c.shape_key(), c)
    return list(seen.values())


def _about(found: Finding, first: Finding) -> Finding | None:
    """What another finding knows about that of which the first one speaks."""
    if alike(found, first):
        return found
    name = first.input
    given, known = found.facts.get("gradients") or {}, found.facts.get("numeric") or {}
    if first.analytic is None or given.get(name) is None or known.get(name) is None:
        return None
    bars = found.facts.get("errors") or {}
    bar = bars.get(name, 0.0 if found.error is None else np.max(found.error, initial=0.0))
    return replace(first, analytic=given[name], numeric=known[name], error=bar, facts=found.facts)


def _others(example) -> Iterator:
    """The example with generic values, and with other sizes."""
    if isinstance(example, Sequences):
        e = replace(example, data={}, plain=False, values="generic", seed=1, start=True)
        yield from (e, replace(e, seed=2))
        for T, N, H in ((5, 3, 7), (8, 2, 9), (3, 4, 3)):
            yield _sized(e, T=T, N=N, I=2, H=H)
            if e.lengths is None:
                yield _sized(e, T=T, H=H)
    elif isinstance(example, Example):
        ties = any(isinstance(a, Array) and a.values == "ties" for a in example.args)
        x = example.at(data=None, values="ties" if ties else "generic")
        x = replace(x, plain=False, seed=1)
        yield from (x, replace(x, seed=2))
        larger = x
        for size in (5, 4, 3, 2):
            larger = _resized(larger, size, size + 2)
        yield from (larger, _resized(larger, 1, 3), _resized(x, 1, 3))
        if all(a.shape == () for a in x.args if isinstance(a, Array)):
            yield x.at(shape=(3,))


def _sized(e: Sequences, **sizes) -> Sequences:
    new = replace(e, **sizes)
    if e.lengths is not None:
        new = replace(new, lengths=tuple([(i * new.T) // max(1, new.N) for i in range(new.N)]))
    return replace(new, cut=min(max(new.cut, new.T // 2), new.T))


# --- fits ----------------------------------------------------------------------------------------


@dataclass
class _Fit:
    """What a hypothesis says to one case: it holds; evidence: it could have failed to."""

    text: str
    residual: float | None = None
    evidence: bool = True
    weight: int = 0  # of the words of several fits, those of the heaviest are taken
    names: tuple[str, ...] = ()  # of what fits here; the same has to fit everywhere


def _fitted(cases: list[_Case]) -> tuple[list[Cause], list[Cause], list[tuple[float, Cause]]]:
    """Causes that fit to the last digit; those that say where the errors are; and with the share of
    the cases on which they hold, those that do not hold on all."""
    cases = [c for c in cases if c.comparable]
    exactly: list[Cause] = []
    places: list[Cause] = []
    partly: list[tuple[float, Cause]] = []
    for name, exact, hypothesis in _HYPOTHESES:
        fits, named = _of_one_name([f for c in cases if (f := hypothesis(c)) is not None])
        proofs = [f for f in fits if f.evidence]
        if not proofs:
            continue
        # The first case is the minimal one; its words are what the report is about.
        best = max(proofs, key=lambda f: f.weight)
        cause, share = (
            Cause(name, best.text.replace("{}", named), best.residual),
            len(fits) / len(cases),
        )
        if share < WHOLE:
            partly.append((share, cause))
        else:
            (exactly if exact else places).append(cause)
    return exactly, places, sorted(partly, key=lambda p: -p[0])


def _of_one_name(fits: list[_Fit]) -> tuple[list[_Fit], str]:
    """The fits that agree on what it is that fits, and its name."""
    names = list(dict.fromkeys(n for f in fits for n in f.names))
    if not names:
        return fits, ""
    common = max(names, key=lambda n: sum(n in f.names for f in fits))
    return [f for f in fits if common in f.names], common


def _zero(c: _Case):
    if not c.A.any():
        return _Fit(f"{c.finding.what} is zero", 0.0)
    return None


def _sign(c: _Case):
    r = c.fits(-c.N)
    return None if r is None else _Fit("it is what it ought to be, with the other sign", r)


def _mean(c: _Case):
    for k, axes in _reduced(c):
        if (r := c.fits(c.N / k)) is not None:
            return _Fit(
                f"a mean in place of a sum over {axes}: here too small by a factor of {k}", r
            )
    return None


def _reduced(c: _Case) -> Iterator[tuple[int, str]]:
    """Numbers of things that are added up in this gradient, and what they are."""
    e, axis = c.example, c.finding.axes
    if isinstance(e, Sequences):
        if "row" not in axis and e.N > 1:
            yield e.N, "the rows of the batch"
        if "row" not in axis and "t" not in axis and e.N * e.T > 1:
            yield e.N * e.T, "rows and time steps"
        return
    outs = c.facts.get("outputs") or [a for a in c.arrays() if a.ndim >= c.N.ndim]
    for out in list(outs):
        shape = np.shape(out)
        try:
            full = np.broadcast_shapes(shape, c.N.shape)
        except ValueError:
            continue
        k = int(np.prod(full)) // max(1, c.N.size)
        if k > 1:
            yield k, "the axes that were broadcast"


def _factor(c: _Case):
    total = float((c.N * c.N).sum())
    if total == 0:
        return None
    k = float((c.A * c.N).sum()) / total
    if k == 0 or abs(k - 1) < 2e-6 or (r := c.fits(k * c.N)) is None:
        return None
    near = [text for text, value in _sizes(c) if abs(k / value - 1) <= 1e-6]
    # A ratio of two single numbers is nothing to wonder at, unless it is a plain one.
    wonder = bool(near or np.count_nonzero(c.N) > 1)
    return _Fit("too large by a factor of {}", r, wonder, names=(*near, f"{k:.6g}"))


def _sizes(c: _Case) -> list[tuple[str, float]]:
    """Factors that a formula may have too many, by name, the likeliest first."""
    e = c.example
    if isinstance(e, Sequences):
        sizes = {"T": e.T, "N": e.N, "T N": e.T * e.N, "I": e.I, "H": e.H}
    else:
        arrays = c.arrays()
        sizes = {f"the size of argument {i}": a.size for i, a in enumerate(arrays)}
        for i, a in enumerate(arrays):
            sizes |= {f"the size of axis {j} of argument {i}": n for j, n in enumerate(a.shape)}
    found = [("2", 2.0), ("1/2", 0.5), ("3", 3.0), ("1/3", 1 / 3), ("4", 4.0), ("1/4", 0.25)]
    for text, n in sizes.items():
        if n > 1:
            found += [(text, float(n)), (f"1 / {text}", 1 / n)]
    return found


def _transposed(c: _Case):
    if c.N.ndim < 2:
        return None
    for order in itertools.permutations(range(c.N.ndim)):
        turned = c.N.transpose(order)
        if order == tuple(range(c.N.ndim)) or turned.shape != c.N.shape:
            continue
        if (r := c.fits(turned)) is not None:
            return _Fit("it is what it ought to be, transposed", r)
    if (r := c.fits(c.N.reshape(-1, order="F").reshape(c.N.shape))) is not None:
        return _Fit("its numbers are in the order of the transposed array", r)
    return None


def _swapped(c: _Case):
    if c.finding.input is None:
        return None
    theirs = c.other("gradients")
    for name, n in c.other("numeric").items():
        r = c.fits(n)
        mine = theirs.get(name)
        if r is not None and mine is not None and c.fits(c.N, mine) is not None:
            return _Fit(f"exchanged with the gradient of {name}", r)
    return None


def _other_input(c: _Case):
    for name, n in c.other("numeric").items():
        if (r := c.fits(n)) is not None:
            return _Fit(f"it is the gradient of {name}", r)
        if (r := c.fits(-n)) is not None:
            return _Fit(f"it is the gradient of {name}, with the other sign", r)
    return None


def _gates(c: _Case):
    gates = c.facts.get("gates") or {}
    letters = gates.get(c.finding.input) if isinstance(gates, dict) else gates
    H = c.fact("H")
    if not letters or not H or len(letters) < 2:
        return None
    sizes = [i for i, s in enumerate(c.N.shape) if s == len(letters) * H]
    axis = c.axis("gate unit")
    axis = axis if axis in sizes else sizes[0] if sizes else None
    if axis is None:
        return None
    blocks = np.split(c.N, len(letters), axis)
    for order in itertools.permutations(range(len(letters))):
        if list(order) == sorted(order):
            continue
        if (r := c.fits(np.concatenate([blocks[i] for i in order], axis))) is not None:
            have = "".join(letters[i] for i in order)
            return _Fit(f"the blocks of gates are in the order {have}, not {letters}", r)
    return None


def _float32(c: _Case):
    big = np.abs(c.N) > 1e-3 * c.size
    if not big.any() or np.asarray(c.finding.numeric).dtype == np.float32:
        return None
    relative = c.difference[big] / np.abs(c.N[big])
    worst = float(c.difference.max()) / c.size
    if worst < 2e-6 and float(np.median(relative)) < 1e-6:
        return _Fit(
            f"right to {worst:.0e} only: somewhere it is computed or kept in float32", worst
        )
    return None


def _rounded(c: _Case):
    worst = float(c.difference.max()) / (c.size or 1.0)
    spread = c.A[c.wrong] / np.where(c.N[c.wrong] == 0, np.nan, c.N[c.wrong]) - 1
    signs = {bool(s > 0) for s in spread if np.isfinite(s)}
    if 2e-6 <= worst < 2e-3 and (len(signs) > 1 or len(spread) < 3):
        return _Fit(f"right to {worst:.0e} only, now above and now below: it is rounded", worst,
                    len(signs) > 1)  # fmt: skip
    return None


def _steps(c: _Case) -> np.ndarray | None:
    axis = c.axis("t")
    return None if axis is None or c.N.shape[axis] == 0 else c.along(axis)


def _only(kind: str) -> Callable[[_Case], _Fit | None]:
    """Wrong at the first (last) step only, or right there only."""
    place = 0 if kind == "first" else -1

    def hypothesis(c: _Case):
        parts = c.facts.get("steps") or {}
        if c.finding.input in parts:
            steps = np.asarray(parts[c.finding.input], np.float64)
            if (r := c.fits(c.N - steps[place])) is not None:
                return _Fit(f"the contribution of the {kind} time step is not in it", r)
            if len(steps) > 1 and (r := c.fits(steps[place])) is not None:
                return _Fit(f"it has the contribution of the {kind} time step only", r)
            return None
        wrong = _steps(c)
        if wrong is None:
            return None
        if (cut := re.search(r"cut at step (\d+)", c.finding.what)) is not None:
            # The second of two pieces begins there, and the first ends before it.
            at = int(cut.group(1)) + place
            alone = wrong.sum() == 1 and at < len(wrong) and bool(wrong[at])
            return _Fit(f"wrong at the {kind} time step of a piece only") if alone else None
        if len(wrong) == 1:
            return _Fit("", evidence=False)
        if wrong[place] and wrong.sum() == 1:
            return _Fit(f"wrong at the {kind} time step only")
        if not wrong[place] and wrong.sum() == len(wrong) - 1 and len(wrong) > 2:
            return _Fit(f"right at the {kind} time step only")
        return None

    return hypothesis


def _overwritten(c: _Case):
    parts = c.facts.get("steps") or {}
    if c.finding.input not in parts:
        return None
    steps = np.asarray(parts[c.finding.input], np.float64)
    for t in (0, -1):
        if len(steps) > 1 and (r := c.fits(steps[t])) is not None:
            return _Fit("the contribution of one time step only: the others are overwritten", r)
    if (r := c.fits(2 * c.N)) is not None:
        return _Fit("each contribution is there twice", r)
    return None


def _truncated(k: int) -> Callable[[_Case], _Fit | None]:
    def hypothesis(c: _Case):
        wrong = _steps(c)
        if wrong is None or "cut at" in c.finding.what:
            return None
        early = np.arange(len(wrong)) < len(wrong) - k
        if early.any() and not early.all() and (wrong == early).all():
            return _Fit(f"wrong from {k} time steps before the end: nothing goes back further",
                        evidence=bool(early.sum() > 1))  # fmt: skip
        return None

    return hypothesis


def _mask(c: _Case):
    lengths, t, row = c.fact("lengths"), c.axis("t"), c.axis("row")
    if lengths is None or row is None or len(lengths) != c.N.shape[row]:
        return None
    lengths = np.asarray(lengths)
    T = c.N.shape[t] if t is not None else c.fact("T", int(lengths.max(initial=0)))
    short = lengths < T
    if not short.any() or (t is not None and not _ended(c, lengths, t, row, inside=True)):
        return _Fit("wrong beyond the end of a row only") if short.any() else None
    if not c.along(row)[~short].any():
        return _Fit("wrong in rows only that end early", evidence=bool((~short).any()))
    return None


def _ended(c: _Case, lengths, t: int, row: int, inside: bool) -> bool:
    """Whether something is wrong within the length of a row."""
    flat = np.moveaxis(c.wrong, (t, row), (0, 1)).reshape(c.N.shape[t], c.N.shape[row], -1)
    alive = np.arange(c.N.shape[t])[:, None] < lengths[None, :]
    return bool((flat.any(axis=2) & (alive == inside)).any())


def _row(c: _Case):
    axis = c.axis("row")
    if axis is None:
        return None
    wrong = c.along(axis)
    if len(wrong) < 2:
        return _Fit("", evidence=False)
    for place, name in ((0, "first"), (-1, "last")):
        if wrong[place] and wrong.sum() == 1:
            return _Fit(f"wrong in the {name} row only")
        if not wrong[place] and wrong.sum() == len(wrong) - 1:
            return _Fit(f"right in the {name} row only")
    return None


def _tail(width: int) -> Callable[[_Case], _Fit | None]:
    def hypothesis(c: _Case):
        axis = c.axis("unit", "gate unit")
        if axis is None:
            axis = c.N.ndim - 1 if not c.finding.axes and c.N.ndim else None
        if axis is None:
            return None
        H = c.fact("H", c.N.shape[axis])
        if not H or c.N.shape[axis] % H or H % width == 0:
            return None
        wrong = c.along(axis).reshape(-1, H).any(axis=0)
        tail = np.arange(H) >= H - H % width
        if (wrong & ~tail).any():
            return None
        text = f"wrong only in the last {H % width} of {H} units, beyond a multiple of {width}"
        return _Fit(text, evidence=width < H and bool((wrong == tail).all()))

    return hypothesis


def _duplicates(c: _Case):
    for index in c.arrays():
        if index.dtype.kind not in "iu" or index.size < 2 or not c.N.ndim:
            continue
        for axis, n in enumerate(c.N.shape):
            places = np.where(index < 0, index + n, index).reshape(-1)
            if (places < 0).any() or (places >= n).any():
                continue
            often = np.bincount(places, minlength=n) > 1
            wrong = c.along(axis)
            if often.any() and wrong.any() and not (wrong & ~often).any():
                return _Fit("wrong only where an index comes more than once")
    return None


def _negative(c: _Case):
    for index in c.arrays():
        if index.dtype.kind in "iu" and (index < 0).any() and c.N.ndim:
            for axis, n in enumerate(c.N.shape):
                hit = np.zeros(n, bool)
                some = index[index < 0] + n
                if ((some >= 0) & (some < n)).all():
                    hit[some] = True
                    if not (c.along(axis) & ~hit).any():
                        return _Fit("wrong only where an index is negative")
    return None


def _ties(c: _Case):
    floats = [a for a in c.arrays() if a.dtype.kind == "f"]
    equal = np.zeros(c.N.shape, bool)
    for a, b in itertools.combinations(floats, 2):
        try:
            same = np.asarray(a == b)
            equal |= np.broadcast_to(same, c.N.shape)
        except ValueError:
            continue
    for a in floats:
        if a.shape == c.N.shape and a.size > 1:
            equal |= np.isin(a, [v for v, n in zip(*np.unique(a, return_counts=True)) if n > 1])  # noqa: B905
    if equal.any() and not (c.wrong & ~equal).any():
        return _Fit("wrong only where two numbers are equal", evidence=not equal.all())
    return None


def _missing_term(c: _Case):
    if c.N.size < 2:  # one number is a multiple of any other
        return _Fit("", evidence=False)
    lost = c.N - c.A
    if float(np.abs(lost).max()) < 1e-3 * float(np.abs(c.N).max()):
        return None  # what is that small is rounding, to whatever it may be proportional
    found: list[tuple] = []
    for name, term in _terms(c):
        total = float((term * term).sum())
        if total == 0 or np.count_nonzero(term) < 2:
            continue
        k = float((lost * term).sum()) / total
        rest = float(np.abs(lost - k * term).max())
        if abs(k) > 1e-9 and rest <= 1e-8 * float(np.abs(lost).max()):
            plain = abs(abs(k) - 1) < 1e-6
            what = f"{'-' * (k < 0)}{name}" if plain else f"{k:.3g} times {name}"
            found.append((not plain, len(found), what, rest))
    if found:
        _, _, what, rest = min(found)
        return _Fit(f"what is missing is {what}", rest / (c.size or 1.0), weight=c.N.size)
    for axis, n in enumerate(c.N.shape):
        if n > 2:
            spread = float(np.ptp(lost, axis=axis).max())
            if spread <= 1e-8 * float(np.abs(lost).max()):
                return _Fit(f"what is missing is the same all along axis {axis}: a mean, or a sum")
    return None


def _terms(c: _Case) -> Iterator[tuple[str, np.ndarray]]:
    """Products of cotangents, outputs and arguments that may be a part of a derivative."""
    parts: dict[str, np.ndarray] = {}
    for kind, word in (("cotangents", "cotangent"), ("outputs", "output"), ("args", "argument")):
        given = c.facts.get(kind)
        given = list(given.values()) if isinstance(given, dict) else list(given or ())
        for i, a in enumerate(given):
            if isinstance(a, np.ndarray) and a.dtype.kind == "f" and np.isfinite(a).all():
                parts[word + (f" {i}" if len(given) > 1 else "")] = np.asarray(a, np.float64)
    gradients = {k: v for k, v in parts.items() if k.startswith("cotangent")}
    values = {k: v for k, v in parts.items() if k not in gradients}
    for name, g in gradients.items():
        firsts = {name: g}
        for other, v in values.items():
            if g.ndim == v.ndim == 2:
                for text, a, b in (("{0}.T @ {1}", g.T, v), ("{1}.T @ {0}", v.T, g),
                                   ("{0} @ {1}", g, v), ("{0} @ {1}.T", g, v.T)):  # fmt: skip
                    if a.shape[1] == b.shape[0]:
                        yield text.format(name, other), _like(c, a @ b)
            if v.shape == g.shape:
                firsts[f"{name} * {other}"] = g * v
        for text, first in firsts.items():
            sums = {text: first}
            for axis in range(first.ndim):
                sums[f"sum({text}, axis {axis})"] = first.sum(axis, keepdims=True)
            for word, s in sums.items():
                yield word, _like(c, s)
                for other, v in values.items():
                    if v.shape == g.shape:
                        yield f"{other} * {word}", _like(c, v * s)


def _like(c: _Case, term: np.ndarray) -> np.ndarray:
    """A term in the shape of the gradient: broadcast, or summed as a broadcast is undone."""
    try:
        return np.broadcast_to(term, c.N.shape)
    except ValueError:
        pass
    extra = term.ndim - c.N.ndim
    if extra >= 0:
        term = term.sum(axis=tuple(range(extra)))
        ones = [i for i, s in enumerate(c.N.shape) if s == 1 and term.shape[i] != 1]
        term = term.sum(axis=tuple(ones), keepdims=True)
    return term if term.shape == c.N.shape else np.zeros(c.N.shape)


# The name of the cause, whether it fits to the last digit or only says where the errors are.
_HYPOTHESES: list[tuple[str, bool, Callable[[_Case], _Fit | None]]] = [
    ("zero", True, _zero),
    ("sign", True, _sign),
    ("mean for sum", True, _mean),
    ("accumulation", True, _overwritten),
    ("factor", True, _factor),
    ("swapped", True, _swapped),
    ("transposed", True, _transposed),
    ("other input", True, _other_input),
    ("gates", True, _gates),
    ("float32", True, _float32),
    ("mask", False, _mask),
    *[("tail", False, _tail(w)) for w in (16, 8, 4, 2)],
    *[("truncated", False, _truncated(k)) for k in range(2, 8)],
    ("first step", False, _only("first")),
    ("last step", False, _only("last")),
    ("truncated", False, _truncated(1)),
    ("duplicates", False, _duplicates),
    ("ties", False, _ties),
    ("row", False, _row),
    ("missing term", False, _missing_term),
    ("float32", False, _rounded),
    ("wrong formula", False, _negative),
]


# --- what a failure needs ------------------------------------------------------------------------


Need = tuple[Cause, bool]  # a cause, and whether it goes before what fits


def _needs(law: Law, info, example, finding, fits: set[str]) -> Iterator[Need]:
    """What the failure goes away without: found by taking it away."""

    def broken(e) -> bool:
        found = finding_of(law, info, e, locate=False)
        return found is not None and ("error" in found.facts) == ("error" in finding.facts)

    def holds(e) -> bool:
        return finding_of(law, info, e, locate=False) is None

    if isinstance(example, Sequences):
        yield from _needs_of_sequences(example, finding, broken)
    elif isinstance(example, Example):
        yield from _needs_of_example(example, broken, holds, fits)


def _needs_of_sequences(e: Sequences, finding: Finding, broken) -> Iterator[Need]:
    if e.lengths is not None and not broken(replace(e, lengths=None)):
        text = "only in a batch with rows that end early: without lengths all is well"
        yield Cause("mask", text), True
        return
    if e.layout != "C" and not broken(replace(e, layout="C")):
        yield Cause("layout", f"only where the inputs lie in memory as: {e.layout}"), True
    plain = replace(e, data={}, plain=False, seed=1, lengths=None, start=True)
    if not broken(plain):
        return
    rows = [N for N in range(1, 5) if broken(replace(plain, N=N))]
    if rows == [1]:
        yield Cause("edge size", "only in a batch of N = 1 row"), True
    steps = [T for T in range(9) if broken(replace(plain, T=T, cut=min(plain.cut, T)))]
    if steps and max(steps) <= 1:
        yield Cause("edge size", f"only with T = {steps[0]} steps"), True
    elif steps and min(steps) > 2:
        yield Cause("truncated", f"only with T = {min(steps)} steps or more"), True
    units = {H: broken(replace(plain, H=H)) for H in (*range(1, 10), 12, 16, 17)}
    some = [H for H, b in units.items() if b]
    wide = [w for w in (16, 8, 4) if all(units[H] == (H % w > 0) for H in units)]
    if wide:
        yield Cause("tail", f"only with units beyond a multiple of {wide[0]}"), True
    elif some == [1]:
        yield Cause("edge size", "only with H = 1 unit"), True
    elif some and min(some) > 2:
        yield Cause("tail", f"only with H = {min(some)} units or more"), False
    if rows and min(rows) > 1:
        yield Cause("row", f"only in a batch of N = {min(rows)} rows or more"), False
    if steps and min(steps) == 2 and not {"t", "row"} & set(finding.axes):
        text = "right with one time step, wrong with two: steps are not added up"
        yield Cause("accumulation", text), False


def _needs_of_example(e: Example, broken, holds, fits: set[str]) -> Iterator[Need]:
    arrays = [a for a in e.args if isinstance(a, Array)]
    laid = {a.layout for a in arrays} - {"C"}
    if laid and not broken(e.at(layout="C")):
        text = f"only where an array lies in memory as: {', '.join(sorted(laid))}"
        yield Cause("layout", text), True
    if e.shared is not None and not broken(replace(e, shared=None)):
        yield Cause("accumulation", "only where the same array is passed twice"), True
    if any(a.dtype == "float32" for a in arrays) and not broken(e.at(dtype="float64")):
        yield Cause("float32", "only with arrays of float32"), True
    once = [_once(a) for a in e.args]
    named = {k: _once(v) for k, v in e.params.items()}
    less = any(a is not b for a, b in zip(once, e.args, strict=True))
    less |= any(v is not named[k] for k, v in e.params.items())
    if less and holds(replace(e, args=tuple(once), params=named)):
        yield Cause("duplicates", "only where an index comes more than once"), True
    generic = replace(e.at(values="generic", data=None, layout="C"), plain=False, seed=1)
    if holds(generic) and holds(replace(generic, seed=2)):
        if _equal_numbers(e):
            yield Cause("ties", "only where numbers are equal"), True
        yield Cause("wrong formula", "only for special numbers: large, small or zero"), False
    if any(0 in a.shape for a in arrays):
        yield Cause("edge size", "only with an array of no elements"), True
        return
    for size in sorted({s for a in arrays for s in a.shape}):
        sized = {n: _resized(generic, size, n) for n in (*range(1, 10), 12, 16)}
        bad = {n: broken(made) for n, made in sized.items()}
        wide = [w for w in (8, 4) if all(bad[n] == (n % w > 0) for n in bad)]
        if wide:
            yield Cause("tail", f"only in an axis beyond a multiple of {wide[0]}"), True
        # Where something was broadcast, other sizes are errors.
        elif bad[1] and all(holds(sized[n]) for n in sized if n > 1) and "mean for sum" not in fits:
            yield Cause("edge size", "only where an axis has the size 1"), True


def _resized(e: Example, size: int, other: int) -> Example:
    """The example with another size in place of one, everywhere."""
    args = [
        replace(a, shape=tuple([other if s == size else s for s in a.shape]))
        if isinstance(a, Array)
        else a
        for a in e.args
    ]
    return replace(e, args=tuple(args))


def _once(a):
    """An array of indices without those that come again."""
    if isinstance(a, np.ndarray) and a.dtype.kind in "iu" and a.size > len(np.unique(a)):
        return np.unique(a)
    return a


def _equal_numbers(e: Example) -> bool:
    numbers = [x.reshape(-1) for x in e.arrays() if isinstance(x, np.ndarray) and x.dtype != int]
    flat = np.concatenate(numbers) if numbers else np.zeros(0)
    return len(np.unique(flat)) < flat.size


def _small(c: _Case) -> bool:
    args = getattr(c.example, "args", ())
    return any(s < 2 for a in args if isinstance(a, Array) for s in a.shape)


# --- what is said without numbers ----------------------------------------------------------------


def _of_error(finding: Finding, cases: list[_Case]) -> Iterator[Cause]:
    """An exception in place of an answer."""
    error = finding.facts["error"]
    if isinstance(error, RecursionError | MemoryError):
        yield Cause("memory", "it runs out of memory or of stack")
    e = cases[0].example
    few = [s for s in (getattr(e, "T", 2), getattr(e, "N", 2), getattr(e, "H", 2)) if s < 2]
    if few or any(_small(c) for c in cases[:1]):
        yield Cause("edge size", f"{type(error).__name__} where a size is 0 or 1")


def _of_shapes(finding: Finding, cases: list[_Case]) -> Iterator[Cause]:
    """A shape or a dtype in place of another, as the two texts say it, in every case."""
    if finding.got == "None":
        yield Cause("zero", f"{finding.what} is not there")
    pairs = [(_shape(c.finding.got), _shape(c.finding.expected)) for c in cases]
    shapes = [(g, e) for g, e in pairs if g is not None and e is not None]
    if not shapes:
        return
    got, expected = shapes[0]
    if all(g == e for g, e in shapes):
        if finding.got != finding.expected and "float" in finding.got:
            yield Cause("float32", f"of dtype {finding.got.split()[0]}")
        return
    instead = f"{got} in place of {expected}"
    if all(_broadcasts(e, g) and g != e for g, e in shapes):
        yield Cause("missing reduction", f"not summed over the axes that were broadcast: {instead}")
    if all([s for s in g if s != 1] == [s for s in e if s != 1] for g, e in shapes):
        if all(len(g) >= len(e) for g, e in shapes):
            yield Cause("missing reduction", f"not summed over axes that were added: {instead}")
        yield Cause("edge size", f"axes of size 1 are lost: {instead}")
    if all(g == e[::-1] for g, e in shapes):
        yield Cause("transposed", instead)
    yield Cause("missing reduction", f"summed over other axes than it ought to be: {instead}")


def _broadcasts(small: tuple, large: tuple) -> bool:
    try:
        return np.broadcast_shapes(small, large) == large
    except ValueError:
        return False


def _shape(text: str) -> tuple[int, ...] | None:
    found = re.search(r"\(([\d, ]*)\)", text)
    return tuple([int(n) for n in re.findall(r"\d+", found.group(1))]) if found else None


def _where(c: _Case, others: bool) -> str:
    """Where the errors are, of what fits no other cause."""
    nothing = "if it is none of these" if others else "none of the simple causes fits"
    text = f"{nothing}: it is the derivative of something else"
    if not c.comparable or c.wrong.all():
        return text
    places = []
    for axis, n in enumerate(c.N.shape):
        wrong = np.flatnonzero(c.along(axis))
        if n > 1 and len(wrong) < n:
            which = f"{', '.join(map(str, wrong[:4]))}{'...' * (len(wrong) > 4)}"
            named = axis < len(c.finding.axes)
            places.append(f"{c.finding.axes[axis]} {which}" if named else f"{which} of axis {axis}")
    return f"{text}; wrong only at {'; '.join(places)}" if places else text
