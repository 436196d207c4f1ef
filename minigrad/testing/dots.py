"""The dot-product test: a vector-Jacobian product against an oracle that knows no rule.

For a direction U and a cotangent V it holds that <U, J^T V> = <V, J U>. The left side is what the
code under test says, the right side what `oracle.estimate` finds by evaluating the function alone.
A generic direction shows any error in the Jacobian; only after a failure is the gradient worked
out entry by entry, to say where.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from . import oracle
from .example import Example, generator, signed
from .laws import Broken, Finding, Inconclusive, NotApplicable, Trial
from .subject import Subject, is_float

RESOLUTION = 1e-6  # a wider bar, relative to the derivative, proves nothing
ENTRIES = 300  # a larger gradient is located by a sample of its entries
UNIT = {"float32": 2.0**-24, "float64": 2.0**-53}

# Rounding of the code under test: what so many operations behind an entry may do to it; and, since
# a derivative near 0 may be a difference of numbers that are not, to the largest cotangent, times
# the largest output (1 - y^2 within a function is off by u, however small, and then multiplied).
OPERATIONS, FLOOR = 625, 0.3

TINY = float(np.finfo(np.float64).tiny)


def top(a: np.ndarray) -> float:
    """The largest finite size in an array."""
    return float(np.max(np.abs(a), initial=0.0, where=np.isfinite(a)))


def rounded(size, floor, dtype: str = "float64"):
    """`oracle.rounding` of terms of this size in all; entry by entry, if they are arrays."""
    return oracle.rounding(dtype, OPERATIONS) * (size + FLOOR * floor)


class Call:
    """A subject called once, recorded: `args`, `outs`, a cotangent for each output (None for one
    that has none), and `grads`, the gradients of the arguments in `wrt`.

    seed: of what is drawn besides. cotangents: None takes those of the example.
    """

    def __init__(self, info, example: Example, subject: Subject | None = None):
        self.info, self.example = info, example
        self.subject = subject or info.subject
        self.params, self.wrt, self.seed = example.params, example.wrt, example.seed
        self.args = example.arrays()
        self.outs, self.pull = self.recorded(self.args)
        self.gs = self.cotangents()

    def recorded(self, args: Sequence, wrt: Sequence[int] | None = None) -> tuple[tuple, Callable]:
        """`(outputs, pull)` of the subject; arguments that it refuses break the law, plainly."""
        try:
            outs, pull = self.subject.linearise(args, self.params, self.wrt if wrt is None else wrt)
        except Exception as error:
            raise Broken(refused(self.info, error)) from error
        return tuple([np.asarray(o) for o in outs]), pull

    def forward(self, *args) -> tuple:
        """The outputs alone."""
        return tuple([np.asarray(o) for o in self.subject.forward(args, self.params)])

    def cotangents(self, k: int = 0) -> list:
        """A generic cotangent for each output of floats, but for the silent one; k: another one."""
        silent = self.example.silent if len(self.outs) > 1 else None
        return [
            g if is_float(o) and j != silent else None
            for j, (o, g) in enumerate(
                zip(self.outs, self.example.cotangents(self.outs, k), strict=True)
            )
        ]  # fmt: skip

    @cached_property
    def grads(self) -> list[np.ndarray]:
        return self.whole(self.pull(*[copied(g) for g in self.gs]))

    def whole(self, grads: Sequence, shaped: bool = True) -> list[np.ndarray]:
        """Gradients as arrays, None as zeros; another shape than that of the input breaks."""
        found = []
        for i, g in zip(self.wrt, grads, strict=True):
            a = self.args[i]
            if g is None:
                g = np.zeros(a.shape, a.dtype)
            elif shaped and np.shape(g) != a.shape:
                name = self.info.argument(i)
                raise Broken(
                    Finding(
                        f"the gradient of {name}", f"shape {a.shape}", f"shape {np.shape(g)}", name
                    )
                )
            found.append(np.asarray(g))
        return found

    def gradients(self, gs: Sequence) -> list[np.ndarray]:
        """The gradients that belong to other cotangents."""
        return self.whole(self.pull(*gs))

    def called(self, j: int) -> str:
        """What output j is called."""
        return f"output {j}" if len(self.outs) > 1 else "the output"

    def outs_agree(self, trial: Trial, got, expected, what: str, exact: bool) -> None:
        """Outputs beside those expected: the same bits, or up to rounding. what: "{}" stands for
        "output 1", say."""
        for j, (a, b) in enumerate(zip(got, expected, strict=True)):
            said = what.format(self.called(j))
            if exact or not is_float(a):
                trial.same(a, b, said)
            else:
                agree(trial, a, b, self.scale, lambda j=j: self.noises[0][j], said)

    def grads_agree(
        self,
        trial: Trial,
        got,
        expected,
        what: str,
        exact: bool = False,
        size=None,
        times: float = 1,
    ) -> None:
        """Gradients beside those expected: the same bits, or up to rounding, that of as many calls
        as `times` says. what: "{}" stands for "the gradient of x", say."""
        for n, i in enumerate(self.wrt):
            name = self.info.argument(i)
            said = what.format(f"the gradient of {name}")
            if exact:
                trial.same(got[n], expected[n], said, input=name)
            else:
                least = self.largest if size is None else size[n]
                noise = lambda n=n: times * self.noises[1][n]  # noqa: E731
                agree(trial, got[n], expected[n], least, noise, said, name)

    @cached_property
    def noises(self) -> tuple[list, list]:
        return self.noise()

    def noise(self, dtype: str = "float64", times: int = 2) -> tuple[list, list]:
        """By how much outputs and gradients move, entry by entry, if the arguments and cotangents
        are off by a few units of rounding: what no algorithm can do better than."""
        outs = [np.zeros(o.shape) for o in self.outs]
        grads = [np.zeros(g.shape) for g in self.grads]
        for k in range(times):
            args = [nudged(a, dtype, self.seed, 3000 + k, i) for i, a in enumerate(self.args)]
            gs = [nudged(g, dtype, self.seed, 3100 + k, i) for i, g in enumerate(self.gs)]
            there, pull = self.recorded(args)
            for moved, a, b in zip(outs, there, self.outs, strict=True):
                np.maximum(moved, apart(a, b), out=moved)
            for moved, a, b in zip(grads, self.whole(pull(*gs)), self.grads, strict=True):
                np.maximum(moved, apart(a, b), out=moved)
        return [16 * x for x in outs], [16 * x for x in grads]

    @property
    def scale(self) -> float:
        """The largest entry of an output, but not less than 1."""
        return max(
            [1.0, *[top(o) for o, g in zip(self.outs, self.gs, strict=True) if g is not None]]
        )

    @property
    def largest(self) -> float:
        """The largest entry of a cotangent."""
        return max([top(g) for g in self.gs if g is not None], default=0.0)


REFUSED = "called with the arguments below"


def refused(info, error: Exception) -> Finding:
    """That the subject does not accept what was drawn for it."""
    text = " ".join(str(error).split())
    return Finding(
        f"{info.name}, {REFUSED}",
        "an answer, or inputs= and domain= that keep to what it accepts",
        f"{type(error).__name__}: {text}"[:400],
        facts={"error": error},
    )


def copied(g):
    return None if g is None else np.array(g)


def nudged(a, dtype: str, *key: int):
    """A float array off by up to six units of rounding, relative; anything else as it is."""
    if not is_float(a):
        return a
    return (a * (1 + 4 * UNIT[dtype] * signed(a.shape, *key))).astype(a.dtype)


def apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a - b|, where both are finite; 0 elsewhere."""
    if a.dtype.kind not in "fc":
        return np.zeros(a.shape)
    d = np.abs(a.astype(np.float64) - b.astype(np.float64))
    return np.where(np.isfinite(d), d, 0.0)


def agree(
    trial: Trial, got, expected, size, noise: Callable, what: str, name: str | None = None
) -> None:
    """Equality up to rounding: that of the entry and of a floor of this size; where it is too
    little, also what `noise()` says of this entry."""
    dtype = "float32" if got.dtype == np.float32 else "float64"
    bound = rounded(np.abs(expected.astype(np.float64)), size, dtype)
    bound = np.where(np.isfinite(bound), bound, 0.0)
    if got.shape == expected.shape and (apart(got, expected) > bound).any():
        bound = bound + noise()
    trial.close(got, expected, bound, what, input=name)


# --- the test ------------------------------------------------------------------------------------


def dot_test(trial: Trial, call: Call, most: int | None = None) -> bool:
    """|<U, vjp(V)> - <V, J U>| <= the bar of the oracle + rounding, for several directions U (for
    `most` of them).

    Entries of the output that have a kink along U get no cotangent; at the kink the subgradient is
    compared with the derivatives on both sides. Raises `Broken` with the gradient located, and
    `Inconclusive` if a direction has no entry whose bar is narrow enough. Returns whether all
    entries are smooth and known.
    """
    if not any(g is not None and g.size for g in call.gs) or not call.wrt:
        return True
    for out in call.outs:
        if not np.isfinite(out).all():
            raise NotApplicable("the output is not finite")
    blind, smooth = "", True
    kinks = [np.zeros(o.shape, bool) for o in call.outs]
    with oracle.lent():
        for U in directions(call)[:most]:
            direction = _Direction(trial, call, U, kinks)
            blind = direction.test() or blind
            smooth &= direction.smooth
    if blind:
        raise Inconclusive(blind)
    return smooth


def directions(call: Call) -> list[list]:
    """Every input moved; each input alone, three of them at most; two of one shape moved alike."""
    all_of = [
        np.asarray(signed(a.shape, call.seed, 2000, i)) if i in call.wrt else None
        for i, a in enumerate(call.args)
    ]
    some = [i for i in call.wrt if call.args[i].size]
    found = [all_of]
    if len(some) == 1:
        for k in (1, 2):
            i = some[0]
            found.append(_only(call, {i: signed(call.args[i].shape, call.seed, 2000 + k, i)}))
    else:
        start = call.seed % max(1, len(some))
        for i in (some[start:] + some[:start])[:3]:
            found.append(_only(call, {i: signed(call.args[i].shape, call.seed, 2001, i)}))
    pair = _alike(call)
    if pair is not None:
        common = signed(call.args[pair[0]].shape, call.seed, 2003)
        found.append(_only(call, dict.fromkeys(pair, common)))
    return found


def _alike(call: Call) -> tuple[int, int] | None:
    seen: dict[tuple, int] = {}
    for i in call.wrt:
        shape = call.args[i].shape
        if shape in seen and call.args[i].size:
            return seen[shape], i
        seen[shape] = i
    return None


def _only(call: Call, moved: dict) -> list:
    return [np.asarray(moved[i]) if i in moved else None for i in range(len(call.args))]


class _Direction:
    """The test along one direction; `kinks` were found along others, and grow."""

    def __init__(self, trial: Trial, call: Call, U: list, kinks: Sequence = ()):
        self.trial, self.call, self.U, self.smooth, self.kinks = trial, call, U, True, kinks

    def test(self) -> str:
        """Raises `Broken`, or says why nothing is known (an empty text: something is)."""
        call = self.call
        est = self.along(self.U)
        unknown = [e.kink | ~np.isfinite(e.error) for e in est]
        V, grads = self.masked(unknown)
        if any(u.any() for u in unknown) and not all(np.isfinite(g).all() for g in grads):
            # Infinite slopes: 0 times infinity is not a number. What else moves is still tested.
            finite = dict(zip(call.wrt, [np.isfinite(g) for g in grads], strict=True))
            self.U = [u if u is None else np.where(finite[i], u, 0) for i, u in enumerate(self.U)]
            grads = [np.where(np.isfinite(g), g, 0) for g in grads]
            est = self.along(self.U)
            unknown = [
                u | e.kink | ~np.isfinite(e.error) for u, e in zip(unknown, est, strict=True)
            ]
            V = [np.where(u, 0, v) for u, v in zip(unknown, V, strict=True)]
        wide = self.wide(est, V)
        if any(w.any() for w in wide):
            unknown = [u | w for u, w in zip(unknown, wide, strict=True)]
            V, grads = self.masked(unknown)
        self.smooth = not any(u.any() for u in unknown)
        self.compare(est, V, grads, unknown)
        self.between(est)
        for kink, e in zip(self.kinks, est, strict=True):
            kink |= e.kink
        if any(v.any() for v in V):
            return ""
        if any((w & ~k).any() for w, k in zip(wide, self.kinks, strict=True)):
            return "the error bar of the oracle is wider than the resolution asked for"
        return ""

    def along(self, U: list) -> list[oracle.Estimate]:
        """What the oracle finds along U."""
        call = self.call
        est = oracle.estimate(call.forward, call.args, U, call.forward)
        self.trial.evaluations += est[0].evaluations
        self.trial.method = self.trial.method or est[0].method
        return est

    def masked(self, unknown: list) -> tuple[list, list]:
        """The cotangents with zeros where nothing is known, and the gradients for them."""
        call = self.call
        if not any(u.any() for u in unknown):
            return [
                np.zeros(o.shape) if g is None else g
                for g, o in zip(call.gs, call.outs, strict=True)
            ], call.grads
        gs = [
            None if g is None else np.where(u, g.dtype.type(0), g)
            for g, u in zip(call.gs, unknown, strict=True)
        ]
        V = [np.zeros(u.shape) if g is None else g for g, u in zip(gs, unknown, strict=True)]
        return V, call.gradients([copied(g) for g in gs])

    def wide(self, est: list, V: list) -> list:
        """Where the bar of an entry is wider than the resolution asked for.

        A derivative that is 0 is measured by the function: differences cannot see it better.
        """
        call = self.call
        scale = max([top(np.where(v == 0, 0, e.value)) for e, v in zip(est, V, strict=True)])
        size = max([top(o) for o, g in zip(call.outs, call.gs, strict=True) if g is not None])
        limit = max(RESOLUTION * scale, 1e-10 * size, rounded(0.0, self.norm() * call.scale))
        return [(np.where(v == 0, 0, e.error) > limit) for e, v in zip(est, V, strict=True)]

    def norm(self) -> float:
        return sum([float(np.sum(np.abs(u))) for u in self.U if u is not None])

    def sides(self, est, V, grads) -> tuple[float, float, float, float]:
        """<U, vjp(V)>, <V, J U>, the tolerance, and the size of what was added up."""
        products = [
            (self.U[i] * g).ravel()
            for i, g in zip(self.call.wrt, grads, strict=True)
            if self.U[i] is not None
        ]
        ours = np.concatenate([np.zeros(1), *products])
        theirs = np.concatenate(
            [(v * np.where(v == 0, 0, e.value)).ravel() for v, e in zip(V, est, strict=True)]
        )
        bar = sum(
            [
                float(np.sum(np.abs(v) * np.where(v == 0, 0, e.error)))
                for v, e in zip(V, est, strict=True)
            ]
        )
        size = float(np.sum(np.abs(ours)) + np.sum(np.abs(theirs)))
        largest = max([float(np.max(np.abs(v), initial=0)) for v in V])
        tolerance = bar + rounded(size, self.norm() * largest * self.call.scale)
        tolerance += self.trial.atol * self.norm() * largest + self.trial.rtol * float(
            np.sum(np.abs(theirs))
        )
        return float(np.sum(ours)), float(np.sum(theirs)), tolerance, size

    def compare(self, est, V, grads, unknown) -> None:
        """The test itself; before it is broken, doubts are heard."""
        trial, call = self.trial, self.call
        a, n, tolerance, size = self.sides(est, V, grads)
        if abs(a - n) > tolerance:
            tolerance += self.doubt(a, V, size)
        if not abs(a - n) <= tolerance:
            bent = self.bent(est)
            if any((b & (v != 0)).any() for b, v in zip(bent, V, strict=True)):
                self.smooth = False
                unknown = [u | b for u, b in zip(unknown, bent, strict=True)]
                V, grads = self.masked(unknown)
                a, n, tolerance, size = self.sides(est, V, grads)
                tolerance += self.doubt(a, V, size) if abs(a - n) > tolerance else 0.0
        if not abs(a - n) <= tolerance:
            where = locate if trial.locate else along
            raise Broken(where(trial, call, self.U, V, grads, (a, n, tolerance)))
        trial.margin = max(trial.margin, abs(a - n) / tolerance if tolerance else 0.0)
        if size > 0:
            trial.resolution = max(trial.resolution, tolerance / size)

    def doubt(self, a: float, V: list, size: float) -> float:
        """How far <U, vjp(V)> may be off by rounding that the terms of the dot product do not show.

        How far it moves if the arguments do by a few units; how rough it is along the direction;
        and, where an argument saturates something, the rounding of what it is where that argument
        is small: x^3 (1 - s(x y)) is 0 for s near 1, and x^3 times a unit is its error. More than
        the resolution is no rounding any more, but a jump of the gradient: 0 then.
        """
        call = self.call
        gs = [None if g is None else v for g, v in zip(call.gs, V, strict=True)]

        def products(args) -> list:
            grads = call.whole(call.recorded(args)[1](*[copied(g) for g in gs]))
            pairs = zip(call.wrt, grads, strict=True)
            return [self.U[i] * g for i, g in pairs if self.U[i] is not None]

        def ours(*args):
            return [np.asarray(sum([float(np.sum(p)) for p in products(args)]))]

        moved = 0.0
        for k in range(2):
            args = [nudged(x, "float64", call.seed, 3000 + k, i) for i, x in enumerate(call.args)]
            moved = max(moved, abs(float(ours(*args)[0]) - a))
        rough = oracle.roughness(ours, call.args, self.U)
        largest = 0.0
        for i in call.wrt:
            for small in (2.0**-5, 2.0**-10):
                args = [x * small if k == i else x for k, x in enumerate(call.args)]
                total = sum([float(np.sum(np.abs(p))) for p in products(args)])
                largest = max(largest, total) if np.isfinite(total) else largest
        # Near a pole it would be any size: no more than products of four arguments make.
        tops = [1.0, *[top(call.args[i]) for i in call.wrt]]
        limit = self.norm() * max([top(v) for v in V]) * max(tops) ** 4
        largest = min(largest, limit)
        doubts = [16 * moved, 4 * rough, rounded(largest, 0.0)]
        return sum([d for d in doubts if d <= RESOLUTION * size])

    def bent(self, est: list) -> list:
        """Where the derivative is not linear in the direction: no gradient can say it.

        (The middle one of three equal numbers that are sorted has a derivative along each
        direction, the median of the three changes.)
        """
        call = self.call
        found = [np.zeros(e.value.shape, bool) for e in est]
        for k in range(4):
            # Arguments of one shape are split alike, so that those that move together go on so.
            parts: tuple[list, list] = ([], [])
            for u in self.U:
                if u is None:
                    parts[0].append(None)
                    parts[1].append(None)
                else:
                    share = 3 * generator(call.seed, 2100 + k).random(u.shape) - 1
                    parts[0].append(u * share)
                    parts[1].append(u * (1 - share))
            first, second = map(self.along, parts)
            for bent, e, a, b in zip(found, est, first, second, strict=True):
                away = np.abs(e.value - a.value - b.value)
                size = np.abs(e.value) + np.abs(a.value) + np.abs(b.value)
                bars = e.error + a.error + b.error
                bent |= (away > 4 * bars + RESOLUTION * size) | a.kink | b.kink
                bent |= bars > 0.01 * size  # not smooth, or else it would be sharper
        return found

    def between(self, est: list) -> None:
        """At a kink <U, vjp(e)> lies between the derivatives on the two sides; or at least between
        those of the smooth points around it, of which a subgradient is a mean (Clarke, 1983)."""
        call = self.call
        kinked = [
            (j, k)
            for j, (e, g) in enumerate(zip(est, call.gs, strict=True))
            if g is not None
            for k in map(int, np.flatnonzero(e.kink))
        ]
        if not kinked:
            return
        left, right = oracle.one_sided(call.forward, call.args, self.U)
        for j, k in kinked[:: max(1, len(kinked) // 3)][:3]:
            a, b = left[j].value.flat[k], right[j].value.flat[k]
            bar = left[j].error.flat[k] + right[j].error.flat[k] + RESOLUTION * (abs(a) + abs(b))
            if not np.isfinite(a + b + bar):
                continue
            unit = self.unit(j, k)
            got = self.dot(call.gradients(unit))
            low, high = min(a, b) - bar, max(a, b) + bar
            if low <= got <= high:
                continue
            near = [self.dot(call.whole(pull(*self.unit(j, k)))) for pull in self.around()]
            slack = 1e-3 * (max(near) - min(near) + max(map(abs, near)))
            if not min(near) - slack <= got <= max(near) + slack:
                raise Broken(
                    Finding(
                        f"the derivative of {called(call.outs, j, k)} at a kink",
                        f"a number from {min(a, b):.6g} to {max(a, b):.6g}, "
                        "the derivatives on its two sides",
                        f"{got:.6g}",
                        input=moving(call, self.U),
                        facts={
                            "args": call.args,
                            "direction": self.U,
                            "kinks": [e.kink for e in est],
                        },
                    )
                )

    def dot(self, grads) -> float:
        pairs = zip(self.call.wrt, grads, strict=True)
        return float(sum([np.sum(self.U[i] * g) for i, g in pairs if self.U[i] is not None]))

    def unit(self, j: int, k: int) -> list:
        return units(self.call.gs, j, k)

    def around(self, times: int = 32):
        """Pulls of points close by."""
        call = self.call
        for t in range(times):
            args = [
                a + 1e-5 * signed(a.shape, call.seed, 2200 + t, i) if i in call.wrt else a
                for i, a in enumerate(call.args)
            ]
            yield call.recorded(args)[1]


def units(like: Sequence, j: int, k: int) -> list:
    """Zeros like these arrays (None for None), with a one at entry k of array j."""
    found = [None if a is None else np.zeros(a.shape, a.dtype) for a in like]
    for n, a in enumerate(found):
        if n == j and a is not None:
            a.flat[k] = 1
    return found


def called(outs: Sequence, j: int, k: int) -> str:
    """What an entry of an output is called."""
    index = tuple(map(int, np.unravel_index(k, outs[j].shape)))
    which = f" {j}" if len(outs) > 1 else ""
    return f"output{which}" + (str(list(index)) if index else "")


def moving(call: Call, U: list) -> str | None:
    """The input that a direction moves, if it is one alone."""
    moved = [i for i, u in enumerate(U) if u is not None and np.any(u)]
    return call.info.argument(moved[0]) if len(moved) == 1 else None


# --- where it is wrong ---------------------------------------------------------------------------


def along(trial: Trial, call: Call, U, V, grads, totals) -> Finding:
    """The finding of a test that failed, as it stands: along a direction."""
    a, n, tolerance = totals
    moved = [call.info.argument(i) for i, u in enumerate(U) if u is not None and np.any(u)]
    return Finding(
        f"the derivative along a direction that moves {' and '.join(moved)}",
        f"{n:.17g} +- {tolerance:.2g}",
        f"{a:.17g}",
        input=moving(call, U),
    )


def locate(trial: Trial, call: Call, U, V, grads, totals) -> Finding:
    """The finding of a test that failed: the gradient worked out by its entries.

    numeric[e] = <V, J e>, with its bar, for the unit vector e of each entry of each input (of a
    sample of them if there are many; the others are NaN).
    """
    numeric = {i: np.full(call.args[i].shape, np.nan) for i in call.wrt}
    errors = {i: np.full(call.args[i].shape, np.inf) for i in call.wrt}
    line = _Direction(trial, call, U)
    entries = [(i, k) for i in call.wrt for k in range(call.args[i].size) if U[i] is not None]
    if len(entries) > ENTRIES:
        chosen = generator(call.seed, 2300).permutation(len(entries))[:ENTRIES]
        entries = [entries[c] for c in np.sort(chosen)]
    largest = max([float(np.max(np.abs(v), initial=0)) for v in V])
    for i, k in entries:
        unit = np.zeros(call.args[i].shape)
        unit.flat[k] = 1
        value, bar, size = 0.0, 0.0, abs(float(grads[call.wrt.index(i)].flat[k]))
        for v, e in zip(V, line.along(_only(call, {i: unit})), strict=True):
            used = v != 0
            value += float(np.sum(v[used] * e.value[used]))
            bar += float(np.sum(np.abs(v[used]) * np.where(e.kink[used], np.inf, e.error[used])))
            size += float(np.sum(np.abs(v[used] * e.value[used])))
        numeric[i].flat[k] = value
        errors[i].flat[k] = (
            bar + rounded(size, largest * call.scale) if np.isfinite(bar + size) else np.inf
        )
    facts = {
        "gradients": {call.info.argument(i): g for i, g in zip(call.wrt, grads, strict=True)},
        "numeric": {call.info.argument(i): numeric[i] for i in call.wrt},
        "errors": {call.info.argument(i): errors[i] for i in call.wrt},
        "cotangents": V,
        "pulled": lambda gs: [np.array(g) for g in call.gradients(gs)],
        "outputs": list(call.outs),
        "args": call.args,
        "params": call.params,
        "direction": U,
        "kinks": [e.kink for e in line.along(U)],
    }
    worst, most = None, 1.0
    for i, g in zip(call.wrt, grads, strict=True):
        away = np.abs(g - numeric[i])
        away = np.where(np.isfinite(g), away, np.where(np.isnan(numeric[i]), 0, np.inf))
        ratio = np.where(np.isfinite(errors[i]), away / np.maximum(errors[i], TINY), 0.0)
        if ratio.size and np.nanmax(ratio) > most:
            most, worst = float(np.nanmax(ratio)), (i, int(np.nanargmax(ratio)), g)
    if worst is None:
        finding = along(trial, call, U, V, grads, totals)
        finding.facts = facts
        return finding
    i, k, g = worst
    index = tuple(map(int, np.unravel_index(k, g.shape)))
    return Finding(
        f"the gradient of {call.info.argument(i)}",
        f"{numeric[i].flat[k]:.17g} +- {errors[i].flat[k]:.2g}",
        f"{g.flat[k]:.17g}" + (f" at {index}" if index else ""),
        input=call.info.argument(i),
        analytic=g,
        numeric=numeric[i],
        error=errors[i],
        facts=facts,
    )
