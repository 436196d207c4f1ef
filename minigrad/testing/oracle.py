"""Derivatives found without any gradient rule, each with a bar on its error.

Two ways. The complex step, Im f(x + i h t) / h with h = 1e-100, has no truncation and no
cancellation, but means the derivative only where f is analytic in the arithmetic that it is written
in: `abs`, comparisons, conjugates and casts cut the imaginary part off without a word. So it is
never believed alone: a few symmetric differences along the same direction must confirm it, entry by
entry. Where they do not, a ladder of halved steps, extrapolated, says the derivative itself.

The ladder looks at both sides of the point. What the two sides say of each other is how kinks are
found, and jumps are found by quotients that grow as the step shrinks.

Everything here is per output entry: one entry at a kink leaves the others as sharp as they are.
"""

from __future__ import annotations

import contextlib
import math
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import DtypeError, ShapeError, UsageError
from ..graph import Tensor, no_grad, registry

EPS = float(np.finfo(np.float64).eps)
TINY = float(np.finfo(np.float64).tiny)

IMAGINARY = 1e-100  # the complex step: its square is lost beside any real part
FIRST = 0.125  # the first real step, absolute: one relative to x would step over waves
FEWEST, ENOUGH, MOST = 4, 14, 26  # levels: at least; where it gets no better; at most
PATIENCE = 6  # levels past the best one
WIGGLES = 3  # times that the last bits of the point are moved
STAIRS = 3  # times at most that the noise of a staircase is put up
STAIR = 2.0**-36  # a higher step, relative to the largest number, is no rounding
VAGUE = 1e-4  # how far apart noise may leave them
AGREE = 1e-6  # how far a complex step and the differences may lie apart
SPACINGS = (633 * 2.0**-20, 633 * 2.0**-28)  # 6e-4 and 2e-6, short in bits, so that x + h is exact
KINK = 1e-3  # a smaller gap between the two sides widens the bar, and is no kink


class Estimate(NamedTuple):
    """A derivative along a direction, or a Jacobian, found by evaluating the function alone.

    `value` is the derivative, an entry for each entry of the output. `error`, of the same shape, is
    the bar: the derivative lies within value +- error; inf where nothing is known. `kink` is
    true where the derivatives on the two sides of the point differ; the derivative of an entry
    within a step of a kink may be one or the other. `evaluations` counts calls of the function.
    `method` is "complex step" or "differences".

    >>> from minigrad.testing.oracle import numerical_jvp
    >>> e = numerical_jvp(np.tanh, (np.zeros(2),), (np.array([1.0, 2.0]),))
    >>> e.value, e.method
    (array([1., 2.]), 'complex step')
    """

    value: np.ndarray
    error: np.ndarray
    kink: np.ndarray
    evaluations: int
    method: str


# --- extrapolation -------------------------------------------------------------------------------


class _Table:
    """Neville's table of quotients at halved steps, and at each entry the best of it.

    T[i, j] = T[i, j-1] + (T[i, j-1] - T[i-1, j-1]) / (2^powers[j-1] - 1): column j is free of the
    first j powers of the step in the error. The error of T[i, j] is taken from its three
    neighbours, T[i, j-1], T[i-1, j], T[i, j+1]: that of the largest difference, and rounding.

    A quotient that grows by half or more as the step is halved does not converge there, be it at a
    jump or at a wave shorter than the step; a chain of levels begins anew behind it, and
    behind a level that is not finite.

    `height`: a sharper value that lies outside the bar of the one before has taken its place; so
    high are the steps of the function, if that was because it is a staircase.
    """

    def __init__(self, powers: Callable[[int], int], size: int):
        self.powers, self.rows = powers, 0
        self.row: list[np.ndarray] = []
        self.chain = np.zeros(size, int)  # levels since the last break
        self.value, self.error = np.zeros(size), np.full(size, np.inf)
        self.best_row = np.zeros(size, int)
        self.height = np.zeros(size)

    def push(self, quotient: np.ndarray, noise: np.ndarray) -> None:
        """A level more: the quotients at half the step before, and what rounding does to them."""
        before, row = self.row, [quotient]
        broken = ~np.isfinite(quotient)
        self.chain = np.where(broken, 0, self.chain + 1)
        if before:
            grown = np.abs(quotient) >= 1.25 * np.abs(before[0])
            grown &= np.abs(quotient) > 16 * noise
            self.chain = np.where(grown & ~broken, 1, self.chain)
        for j, old in enumerate(before):
            row.append(row[j] + (row[j] - old) / (2.0 ** self.powers(j) - 1))
        for j in range(len(before)):
            away = np.maximum(np.abs(row[j] - before[j]), np.abs(row[j] - row[j + 1]))
            if j:
                away = np.maximum(away, np.abs(row[j] - row[j - 1]))
            error = np.where(self.chain >= j + 3, 2 * (away + noise), np.inf)
            better = error < self.error
            outside = (np.abs(row[j] - self.value) - self.error) * FIRST / 2.0**self.rows
            self.height = np.fmax(self.height, np.where(better, outside, 0))
            self.value = np.where(better, row[j], self.value)
            self.error = np.where(better, error, self.error)
            self.best_row = np.where(better, self.rows, self.best_row)
        self.row = row
        self.rows += 1

    @property
    def latest(self) -> np.ndarray:
        """The corner of the table: what all levels together say."""
        return self.row[-1]


# --- a function along a line ---------------------------------------------------------------------


def _vector(outs: Sequence) -> np.ndarray:
    """All outputs as one vector of float64, or of complex128 where one of them is complex."""
    parts = [np.ravel(np.asarray(o)) for o in outs]
    kind = np.complex128 if any(p.dtype.kind == "c" for p in parts) else np.float64
    return np.concatenate([p.astype(kind) for p in parts]) if parts else np.zeros(0)


def _units(outs: Sequence) -> np.ndarray:
    """The relative spacing of numbers around each entry: that of the dtype that it came in."""
    dtypes = [np.asarray(o).dtype for o in outs]
    units = [float(np.finfo(d).eps) if d.kind == "f" else EPS for d in dtypes]
    return np.repeat(units, [np.size(o) for o in outs])


class _Line:
    """A function of the points x + s t, where t is the tangent scaled to entries of at most 1.

    `scale` is what it was divided by, a power of two. `middle` are the outputs at x.
    """

    def __init__(self, forward: Callable, arrays: Sequence, tangents: Sequence, outs: Any = None):
        self.forward, self.arrays, self.evaluations = forward, arrays, 0
        moved = {
            i: t
            for i, (a, t) in enumerate(zip(arrays, tangents, strict=True))
            if t is not None and getattr(a, "dtype", np.dtype(bool)).kind == "f" and np.any(t)
        }
        largest = max((float(np.max(np.abs(t))) for t in moved.values()), default=1.0)
        self.scale = 2.0 ** float(np.clip(np.frexp(largest)[1], -1000, 1000))
        self.tangents = {i: np.asarray(t, np.float64) / self.scale for i, t in moved.items()}
        self.outs = self.at({}) if outs is None else outs
        self.middle, self.units = _vector(self.outs), _units(self.outs)
        self.visited: dict[float, tuple[np.ndarray, np.ndarray, float, float]] = {}  # sides, by h

    def at(self, points: dict[int, np.ndarray], forward: Callable | None = None) -> tuple:
        """The outputs, with `points` in place of some arrays."""
        self.evaluations += 1
        args = [np.asarray(points[i]) if i in points else a for i, a in enumerate(self.arrays)]
        with np.errstate(all="ignore"):
            return tuple((forward or self.forward)(*args))

    def tried(self, points: dict[int, np.ndarray]) -> np.ndarray:
        """The outputs as a vector, NaN where the function has none there."""
        try:
            out = _vector(self.at(points))
        except Exception:  # beyond its domain: at x itself it was possible
            return np.full(self.middle.size, np.nan)
        return out if out.size == self.middle.size else np.full(self.middle.size, np.nan)

    def sides(self, h: float) -> tuple[np.ndarray, np.ndarray, float, float]:
        """The outputs at x + d and at x - d, the length of d in units of t, and how far it is off.

        d is h t, rounded so that both points are exact wherever x is not far below d. One entry
        alone has the length of its own d, several have their mean: each entry is off from h t by
        its last bits, as if the point were wiggled, and by what the mean differs from h.
        """
        if h in self.visited:
            return self.visited[h]
        above, below, along, square = {}, {}, 0.0, 0.0
        for i, t in self.tangents.items():
            x = self.arrays[i]
            step = (h * t).astype(x.dtype)
            away = np.copysign(step, np.where(x == 0, step, x))  # from 0: the coarser side
            d = np.copysign((x + away) - x, step)
            above[i], below[i] = x + d, x - d
            along, square = along + float(np.sum(d * t)), square + float(np.sum(t * t))
        mean = along / square
        self.visited[h] = self.tried(above), self.tried(below), mean, abs(mean - h)
        return self.visited[h]

    def complex_step(
        self, forward: Callable, points: dict[int, np.ndarray], stretch: float = 1.0
    ) -> np.ndarray:
        """Im f(x + i h t) / h; raises whatever the function raises of complex numbers."""
        h = IMAGINARY * stretch
        points = {  # those that do not move too: ops take arguments of one dtype
            i: points.get(i, a).astype(np.float64) + 1j * (h * self.tangents.get(i, 0.0))
            for i, a in enumerate(self.arrays)
            if getattr(a, "dtype", np.dtype(bool)).kind == "f"
        }
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of an imaginary part that was cut off
            out = _vector(self.at(points, forward))
        if out.size != self.middle.size:
            raise ValueError("another number of outputs")
        return np.imag(out) / h

    def wiggled(self, of: Callable[[dict, float], np.ndarray], at: np.ndarray) -> np.ndarray:
        """How far `of(points, stretch)` moves from `at` when the last bits of the points move.

        So it shows what rounding does inside a function that nobody has looked into. A stretch, a
        number from 1 to 2, has rounding fall elsewhere where the points do not matter.
        """
        rng = np.random.default_rng(0)
        moves = np.zeros(at.shape)
        for _ in range(WIGGLES):
            points = {}
            for i in self.tangents:
                x = self.arrays[i]
                unit = np.finfo(x.dtype).eps * rng.choice([-2, -1, 1, 2], x.shape)
                points[i] = x + x * unit.astype(x.dtype)
            with np.errstate(all="ignore"):
                moves = np.fmax(moves, np.abs(of(points, 1 + rng.random()) - at))
        return moves

    def rough(self) -> np.ndarray:
        """How rough each entry is: what is left when differences of high order are taken of values
        near x, which leave nothing of a smooth function but its noise.

        So it sees rounding of numbers far larger than the entry, x^2 (1 - y) with y near 1, which
        moves in steps. Two spacings, as one may be shorter than such a step, or longer than a wave;
        noise is believed where the differences of three orders in a row agree about it, and where
        it is small enough to be rounding.

        Source: J. More and S. Wild, Estimating computational noise, 2011.
        """
        found = np.zeros(self.middle.shape)
        for spacing in SPACINGS:
            rows = [
                self.tried({
                    i: self.arrays[i] + (k * spacing * t).astype(self.arrays[i].dtype)
                    for i, t in self.tangents.items()
                })
                for k in range(-4, 5)
            ]  # fmt: skip
            sigma, turns = [], []
            table = np.array(rows)
            with np.errstate(all="ignore"):
                for k in range(1, 8):
                    table = np.diff(table, axis=0)
                    share = math.factorial(k) ** 2 / math.factorial(2 * k)
                    sigma.append(np.sqrt(share * np.mean(table * table, axis=0)))
                    turns.append((np.sign(table[1:]) != np.sign(table[:-1])).any(axis=0))
                for k in range(2, 5):
                    three = np.array(sigma[k : k + 3])
                    level = (three.max(axis=0) <= 4 * three.min(axis=0)) & turns[k]
                    found = np.fmax(found, np.where(level, three.max(axis=0), 0))
        return np.where(found < STAIR * self.size(), found, 0)

    def size(self) -> np.ndarray:
        """The largest of 1, the arguments and the outputs: what rounding is measured by."""
        tops = [np.max(np.abs(self.arrays[i]), initial=0) for i in self.tangents]
        finite = np.isfinite(self.middle)
        return np.max([1.0, *tops, np.max(np.abs(self.middle), initial=0, where=finite)])


# --- the ladder ----------------------------------------------------------------------------------


class _Found(NamedTuple):
    """Of each entry; `confirmed` is where the ladder agrees with what was claimed."""

    value: np.ndarray
    error: np.ndarray
    kink: np.ndarray
    confirmed: np.ndarray


def _ladder(
    line: _Line, target: float, claim: np.ndarray | None = None, rough: np.ndarray | None = None
) -> _Found:
    """The derivative along a line from symmetric differences at halved steps.

    An entry is done when it confirms what is claimed of it, when its bar is below `target` of it,
    or when smaller steps only make it worse. To confirm, it takes agreement to a millionth, or
    to what rounding leaves; then the levels need not have converged among themselves.

    What was found must go on at smaller steps. Where it does not, the function is a staircase:
    it rounds numbers far larger than itself (1 - y^2 for y near 1 is a multiple of 2^-53). The
    height of a step is noise then, and the entry is found anew. rough: noise that is known of.
    """
    noise = 4 * line.units * np.abs(line.middle)
    if rough is not None:
        noise = np.fmax(noise, 4 * rough)
    if claim is None:
        noise = np.fmax(noise, line.wiggled(lambda p, _: line.tried(p), line.middle))
    found, level, height = _climbed(line, target, claim, noise, rough is not None)
    for _ in range(STAIRS):
        height = _stairs(line, found, noise, level, height)
        if not height.any():
            break
        noise = np.fmax(noise, 4 * height)
        if claim is not None:  # noise would confirm anything
            claim = np.where(height > 0, np.nan, claim)
        found, level, height = _climbed(line, target, claim, noise)
    return found


def _stairs(
    line: _Line, found: _Found, noise: np.ndarray, level: int, height: np.ndarray
) -> np.ndarray:
    """The height of the steps of a staircase, where it is more than noise; 0 elsewhere.

    It is how far f(x + d) - f(x - d) is from what was found, for d below the best step, and what
    the ladder came upon itself, if f(x + d) = f(x) = f(x - d) for a d that ought to show. What is
    too high to be rounding is a kink or a wave; where a claim is confirmed nothing is sought.
    """
    known = np.isfinite(found.error) & ~found.confirmed
    flat, moved = np.zeros(noise.shape, bool), height > 2 * noise
    if not known.any():
        return np.zeros(noise.shape)
    scale = line.size()
    with np.errstate(all="ignore"):
        for deeper in (2, 6, 11, 18, 25):
            above, below, h, off = line.sides(FIRST / 2 ** (level + deeper))
            rest = np.abs(above - below - 2 * h * found.value)
            rest -= 2 * h * found.error + 2 * off * np.abs(found.value)
            rest -= 4 * line.units * np.fmax(np.abs(above), np.abs(below))
            height = np.fmax(height, rest)
            seen = 2 * h * np.fmax(np.abs(found.value), found.error) > 4 * noise
            flat |= (seen | moved) & (above == line.middle) & (below == line.middle)
        return np.where(known & flat & (height > 2 * noise) & (height < STAIR * scale), height, 0)


def _climbed(
    line: _Line,
    target: float,
    claim: np.ndarray | None,
    last_bits: np.ndarray,
    strict: bool = False,
) -> tuple[_Found, int, np.ndarray]:
    """What the ladder finds if `last_bits` are noise, the level of its smallest best step, and the
    `height` of its table. strict: noise alone confirms nothing."""
    middle, units = line.middle, line.units
    central = _Table(lambda j: 2 * j + 2, middle.size)  # of (f+ - f-) / 2h: even powers of h
    gap = _Table(lambda j: 2 * j + 1, middle.size)  # of (f+ - 2f + f-) / h: odd ones
    hopeless = ~np.isfinite(middle)
    confirmed = known = np.zeros(middle.size, bool)
    first = np.zeros(middle.size)
    with np.errstate(all="ignore"):
        for level in range(MOST):
            above, below, h, off = line.sides(FIRST / 2**level)
            largest = np.maximum(np.abs(middle), np.maximum(np.abs(above), np.abs(below)))
            noise = np.maximum(last_bits, 4 * units * largest) / h
            slope, bend = (above - below) / (2 * h), (above - 2 * middle + below) / h
            # x^9 at 0: what is nothing beside the first quotient is nothing.
            first = np.where(central.chain == 0, np.fmax(np.abs(slope), np.abs(bend)), first)
            noise = np.fmax(noise, 64 * units * first) + off / h * np.abs(slope)
            central.push(slope, noise)
            gap.push(bend, 2 * noise)
            if claim is not None and level:
                slack = np.minimum(noise, VAGUE * _scale(claim)) if strict else noise
                close = AGREE * _scale(claim) + slack
                corner = np.abs(central.row[-1] - claim) <= close
                corner &= np.abs(gap.row[-1]) <= close + slack
                best = np.abs(central.value - claim) <= central.error
                best &= central.error <= close
                best &= (gap.error <= close + slack) & (np.abs(gap.value) <= 2 * gap.error)
                confirmed = confirmed | (corner | best) & np.isfinite(claim)
            small = np.maximum(target * np.abs(central.value), 128 * units * largest)
            known = (np.abs(gap.value) > 4 * gap.error) | (gap.error <= small)
            done = confirmed | hopeless | ((central.error <= small) & known)
            best_row = np.maximum(central.best_row, gap.best_row)
            late = (best_row + PATIENCE <= level) & (central.chain > PATIENCE)
            if level + 1 >= ENOUGH:
                done |= late
            if (confirmed | hopeless).all() or (level + 1 >= FEWEST and done.all()):
                break
        # Within a step of a kink the derivative is that of one side: half the gap away at most.
        apart = np.abs(gap.value)
        sure = np.isfinite(gap.error) & (apart > 4 * gap.error)
        vague = ~sure & ~known & (gap.error > 100 * central.error)
        error = central.error + np.where(sure, apart, np.where(vague, apart + gap.error, 0)) / 2
        size = np.abs(central.value)
        kink = sure & (apart > KINK * size) & (apart > AGREE * np.max(size, initial=0.0))
        kink |= np.isfinite(central.error) & np.isinf(gap.error)
    error = np.where(hopeless, np.inf, error)
    best_row = np.max(np.where(np.isfinite(error), central.best_row, 0), initial=0)
    found = _Found(central.value, error, kink & ~hopeless, confirmed & ~hopeless)
    return found, int(best_row), central.height


def _scale(value: np.ndarray) -> np.ndarray:
    """What an entry is measured by: itself, but not less than a thousandth of the largest."""
    size = np.where(np.isfinite(value), np.abs(value), 0)
    return np.maximum(size, 1e-3 * np.max(size, initial=0.0))


# --- estimates -----------------------------------------------------------------------------------


def _claimed(line: _Line, forward: Callable) -> tuple[np.ndarray, np.ndarray]:
    """The complex step, and the bar on its rounding; raises what the function raises."""
    claim = line.complex_step(forward, {})
    moves = line.wiggled(lambda p, stretch: line.complex_step(forward, p, stretch), claim)
    # Measured on softmax, norms, products, recurrences and waves against 80-bit numbers: with three
    # wiggles, 4 times the moves cover all but 7 errors in 40,800 (all but 39 if 2 times).
    return claim, 8 * EPS * np.abs(claim) + 4 * moves + 8 * TINY / IMAGINARY


def _estimates(line: _Line, found: _Found, method: str) -> list[Estimate]:
    """What was found of the vector of all entries, as one estimate for each output."""
    estimates, start = [], 0
    for out in line.outs:
        part, shape = slice(start, start + np.size(out)), np.shape(out)
        start += np.size(out)
        value, error, kink = (np.reshape(x[part], shape) for x in found[:3])
        scaled = np.asarray(value * line.scale), np.asarray(error * line.scale)
        estimates.append(Estimate(*scaled, np.asarray(kink), line.evaluations, method))
    return estimates


METHODS = ("auto", "complex step", "differences")


def estimate(
    forward: Callable[..., Sequence],
    arrays: Sequence,
    tangents: Sequence,
    complex_forward: Callable[..., Sequence] | None = None,
    *,
    method: str = "auto",
    target: float = 1e-8,
) -> list[Estimate]:
    """The derivative of each output of `forward(*arrays) -> tuple of arrays` along `tangents`.

    A tangent is an array like its argument, or None for an argument that does not move; what is no
    array of floats never moves, and is handed on as it is. `complex_forward` is the same function
    for complex arrays; None where there is none.

    method: "auto" takes the complex step where differences confirm it, entry by entry, and those
    themselves where they do not. "complex step" believes it unseen, and then knows of no kinks: for
    a function that was confirmed before. "differences" are used alone. `target`: the relative bar
    at which differences may stop.

    Raises `UsageError` where "complex step" is asked for and cannot be had.
    """
    return _estimate(_Line(forward, arrays, tangents), complex_forward, method, target)


def _estimate(
    line: _Line, complex_forward: Callable | None, method: str, target: float
) -> list[Estimate]:
    size = line.middle.size
    if not line.tangents or not size:
        nothing = _Found(np.zeros(size), np.zeros(size), np.zeros(size, bool), np.ones(size, bool))
        return _estimates(line, nothing, "differences")
    claim = bar = None
    why = "no complex function was given"
    if complex_forward is not None and method != "differences":
        try:
            claim, bar = _claimed(line, complex_forward)
        except Exception as refusal:  # whatever says that it takes no complex numbers
            why = str(refusal) or type(refusal).__name__
    if claim is None or bar is None:
        if method == "complex step":
            raise UsageError(
                "complex step: of a function that does not take complex arrays",
                f"expected a function that is analytic in its arithmetic, got: {why}",
                'leave method out, or pass method="differences"',
            )
        return _estimates(line, _ladder(line, target, rough=line.rough()), "differences")
    if method == "complex step":
        sound = np.isfinite(line.middle) & np.isfinite(claim)
        bar = np.where(sound, bar, np.inf)
        found = _Found(np.where(sound, claim, 0), bar, np.zeros(size, bool), sound)
        return _estimates(line, found, "complex step")
    found = _ladder(line, target, claim)
    if not np.all(found.confirmed | found.kink | ~np.isfinite(line.middle)):
        rough = line.rough()
        if rough.any():
            found = _ladder(line, target, claim, rough)
        if not np.all(found.confirmed | found.kink | ~np.isfinite(line.middle)):
            return _estimates(line, _ladder(line, target, rough=rough), "differences")
    value = np.where(found.confirmed, claim, found.value)
    error = np.where(found.confirmed, bar, found.error)
    kink = found.kink & ~found.confirmed
    return _estimates(line, _Found(value, error, kink, found.confirmed), "complex step")


def roughness(forward: Callable[..., Sequence], arrays: Sequence, tangents: Sequence) -> float:
    """How rough the roughest output is along a direction: the size of its rounding noise."""
    line = _Line(forward, arrays, tangents)
    return float(np.max(line.rough(), initial=0)) if line.tangents else 0.0


def one_sided(
    forward: Callable[..., Sequence], arrays: Sequence, tangents: Sequence
) -> tuple[list[Estimate], list[Estimate]]:
    """The limits of (f(x) - f(x - h t)) / h and of (f(x + h t) - f(x)) / h for h above 0.

    Arguments as of `estimate`; two lists, left and right, with an estimate for each output. They
    exist at a kink too, where what a gradient rule gives lies between them.
    """
    line = _Line(forward, arrays, tangents)
    size, middle = line.middle.size, line.middle
    left, right = (_Table(lambda j: j + 1, size) for _ in range(2))  # all powers of h
    if line.tangents and size:
        last_bits = line.wiggled(lambda p, _: line.tried(p), middle)
        last_bits = np.fmax(last_bits, 4 * line.units * np.abs(middle))
        with np.errstate(all="ignore"):
            for level in range(ENOUGH + PATIENCE):
                above, below, h, off = line.sides(FIRST / 2**level)
                for table, side, sign in ((left, below, -1), (right, above, 1)):
                    noise = 2 * np.maximum(last_bits, 4 * line.units * np.abs(side)) / h
                    slope = sign * (side - middle) / h
                    table.push(slope, noise + off / h * np.abs(slope))
    else:
        left.error, right.error = np.zeros(size), np.zeros(size)
    none = np.zeros(size, bool)
    sides = [_Found(t.value, t.error, none, none) for t in (left, right)]
    return _estimates(line, sides[0], "differences"), _estimates(line, sides[1], "differences")


# --- rounding of the code under test -------------------------------------------------------------

# Measured: the largest |a - n| / u over (sum of |products| + size).
# 19 ops and compositions (softmax, norms, logsumexp, products, mlp, ...), 60 calls each at n = 1,
# 4, 32, 256 terms, size the largest output: 6 at n = 4 (layer norm), below 1 for most at n = 256,
# where errors of many entries cancel. Not bounded so: outputs that vanish in saturation (gelu,
# silu, softplus, far below 0), and products that under- or overflow; hence a size from a generic
# point. Unfolded LSTM and GRU, H 1, 4, 32 (float32 GRU to H = 4), size for outputs of 1: 0.4 at
# T = 1, 0.9 at T = 8 (float32: 4.6), 1.3 at T = 64, but for one GRU saturated over 64 steps: 29,
# among runs whose bars of n reach 2500 u times the sum: what the condition of the problem
# magnifies is to be in that bar, not here.
SAFETY = 8.0


def rounding(dtype: Any, terms: int, *products: np.ndarray, size: float = 1.0) -> float:
    """How far rounding may put the code under test from the truth, in a sum of products.

    8 sqrt(terms) u (sum |products| + size), u the unit roundoff of `dtype`

    For <U, vjp(V)> against <V, J U> the products are U * vjp(V) and V * JU. `terms` is how many
    operations stand behind an entry, in round numbers: errors of either sign add up as the root of
    their number. `size` is the floor, sum |U| max |V| times the size of the outputs at a generic
    point: 1 - y^2 with y near 1 is wrong by u however small it is itself. It must not be taken from
    outputs that are saturated, such as gelu(-30).

    >>> from minigrad.testing.oracle import rounding
    >>> rounding(np.float64, 4, np.ones(3)) == 64 * 2.0**-53
    True
    """
    u = float(np.finfo(dtype).eps) / 2
    total = sum(float(np.sum(np.abs(p), dtype=np.float64)) for p in products)
    return SAFETY * float(np.sqrt(max(terms, 1))) * u * (total + size)


# --- functions of a user -------------------------------------------------------------------------


class _Function:
    """A user's function, of arrays or of tensors, as one from arrays to a tuple of arrays.

    It is handed arrays, as NumPy's and minigrad's functions both take them. Where that fails,
    constant tensors: it may use their methods.
    """

    def __init__(self, function: Callable):
        self.function, self.tensors, self.several = function, False, False

    def __call__(self, *arrays) -> tuple:
        if self.tensors:
            return self._outputs(self.function(*[Tensor.at(a, None) for a in arrays]))
        return self._outputs(self.function(*arrays))

    def first(self, *arrays) -> tuple:
        """The first call, which finds out what the function takes; raises what it raises."""
        try:
            return self(*arrays)
        except (AttributeError, TypeError) as error:
            self.tensors = True
            try:
                return self(*arrays)
            except (AttributeError, TypeError):
                raise error from None

    def _outputs(self, result: Any) -> tuple:
        self.several = isinstance(result, tuple | list)
        outs = tuple(
            np.asarray(getattr(r, "data", r) if isinstance(r, Tensor) else r)
            for r in _parts(result)
        )
        for out in outs:
            if out.dtype.kind not in "fciub":
                raise UsageError(
                    "numerical derivative: what the function returns",
                    f"expected an array, or a tuple or list of arrays, got {type(result).__name__}",
                    "return the numbers to differentiate alone",
                )
        return outs


def _parts(result: Any) -> Iterator:
    """The arrays of a result, a state within a tuple included."""
    if isinstance(result, tuple | list):
        for part in result:
            yield from _parts(part)
    else:
        yield result


def _primals(name: str, primals: Any) -> list[np.ndarray]:
    if not isinstance(primals, tuple | list):
        raise UsageError(
            f"{name}: primals",
            f"expected a tuple of the arguments of f, got {type(primals).__name__}",
            "pass (x,) for a function of one argument",
        )
    arrays = [np.asarray(p.data if isinstance(p, Tensor) else p) for p in primals]
    for i, a in enumerate(arrays):
        if a.dtype.kind not in "fiub":
            raise DtypeError(
                f"{name}: primal {i}",
                f"expected real numbers, got {a.dtype}",
                "close over what is no number to move, or differentiate by the real parts",
            )
    return arrays


def _check_method(name: str, method: Any) -> None:
    if method not in METHODS:
        raise UsageError(
            f"{name}: method",
            f'expected "auto", "complex step" or "differences", got {method!r}',
            'leave it out for "auto"',
        )


def numerical_jvp(
    f: Callable, primals: Sequence, tangents: Sequence, *, method: str = "auto"
) -> Estimate | tuple[Estimate, ...]:
    """The derivative of f along tangents, found by calling f alone, with a bar on its error.

    J t = d/ds f(x + s t) at s = 0

    f: `f(*arrays)` returns an array, or a tuple or list of them: a function of NumPy's or of
    minigrad's. primals: a tuple of its arguments. tangents: an array of the shape of each argument,
    or None for one that does not move, as integers never do. Each value has the shape of its
    output; a tuple of estimates where f returns several.

    method: "auto" takes the complex step, Im f(x + i h t) / h with h = 1e-100, where f takes
    complex arrays and differences confirm what comes out; otherwise symmetric differences at steps
    halved from 1/8, extrapolated. "complex step" takes it unconfirmed, and finds no kinks;
    "differences" are for what is not analytic. What makes up less than a millionth of the
    derivative, or varies on a scale below 1/8192 alone, can escape both.

    Raises `UsageError`, `ShapeError`, `DtypeError` for arguments that do not fit together, and what
    f raises at the primals.

    Source: Squire and Trapp (1998), Using complex variables to estimate derivatives of real
    functions; Ridders (1982), Accurate computation of F'(x) and F'(x) F''(x).

    >>> from minigrad.testing.oracle import numerical_jvp
    >>> e = numerical_jvp(lambda x: np.abs(x) * x, (np.array([1.5, -2.0]),), (np.ones(2),))
    >>> e.value.round(6), bool((e.error < 1e-7).all()), e.method
    (array([3., 4.]), True, 'differences')
    >>> numerical_jvp(np.abs, (np.array([0.0, 1.0]),), (np.ones(2),)).kink
    array([ True, False])
    """
    name = "numerical_jvp"
    _check_method(name, method)
    arrays = _primals(name, primals)
    if not isinstance(tangents, tuple | list) or len(tangents) != len(arrays):
        got = len(tangents) if isinstance(tangents, tuple | list) else type(tangents).__name__
        raise UsageError(
            f"{name}: tangents",
            f"expected a tuple of {len(arrays)}, one for each primal, got {got}",
            "pass None for an argument that does not move",
        )
    moves: list[np.ndarray | None] = []
    for i, (a, given) in enumerate(zip(arrays, tangents, strict=True)):
        t = given.data if isinstance(given, Tensor) else given
        t = None if t is None else np.asarray(t)
        if t is not None and t.shape != a.shape:
            raise ShapeError(
                f"{name}: tangent {i}",
                f"expected the shape {a.shape} of its primal, got {t.shape}",
                "pass an array of that shape, or None for an argument that does not move",
            )
        if t is not None and (a.dtype.kind != "f" or t.dtype.kind not in "fiub"):
            raise DtypeError(
                f"{name}: tangent {i}",
                f"expected real numbers for a primal of floats, got {t.dtype} for {a.dtype}",
                "pass None for integers: they do not move",
            )
        if t is not None and not np.all(np.isfinite(t)):
            raise UsageError(
                f"{name}: tangent {i}",
                "expected finite numbers, got NaN or inf",
                "a direction has a length: divide by it",
            )
        moves.append(t)
    function = _Function(f)
    with no_grad(), lent():
        outs = _at_point(name, function, arrays)
        line = _Line(function, arrays, moves, outs)
        line.evaluations += 1
        found = _estimate(line, function, method, 1e-8)
    return tuple(found) if function.several else found[0]


def _at_point(name: str, function: _Function, arrays: list) -> tuple:
    with np.errstate(all="ignore"):
        return function.first(*arrays)


def numerical_jacobian(
    f: Callable, primals: Sequence, argnum: int = 0, *, method: str = "auto"
) -> Estimate | tuple[Estimate, ...]:
    """The Jacobian of f by one of its arguments, found by calling f alone, with bars on its errors.

    J[k, i] = d f_k / d x_i, column by column as `numerical_jvp` finds it

    Arguments as there; `argnum` is the position of the argument x to differentiate by. Each value
    has the shape of its output followed by that of x; a tuple of estimates where f returns
    several outputs. The method is "complex step" where that was taken for every column.

    Raises `UsageError` for an argnum out of range, `DtypeError` for an argument that is not of
    floats, otherwise as `numerical_jvp`.

    >>> from minigrad.testing.oracle import numerical_jacobian
    >>> numerical_jacobian(lambda x: x[::-1] * x, (np.array([2.0, 3.0]),)).value
    array([[3., 2.],
           [3., 2.]])
    """
    name = "numerical_jacobian"
    _check_method(name, method)
    arrays = _primals(name, primals)
    whole = isinstance(argnum, int | np.integer) and not isinstance(argnum, bool)
    if not whole or not -len(arrays) <= argnum < len(arrays):
        raise UsageError(
            f"{name}: argnum",
            f"expected a position among {len(arrays)} argument(s), got {argnum!r}",
            "positions count from 0, or from -1 backwards",
        )
    x = arrays[argnum]
    if x.dtype.kind != "f":
        raise DtypeError(
            f"{name}: argument {argnum}",
            f"expected floats, got {x.dtype}",
            "convert with .astype(np.float64), or choose another argument",
        )
    function = _Function(f)
    columns: list[list[Estimate]] = []
    with no_grad(), lent():
        outs = _at_point(name, function, arrays)
        for i in range(x.size):
            tangents: list = [None] * len(arrays)
            tangents[argnum] = np.zeros(x.shape)
            tangents[argnum].flat[i] = 1.0
            line = _Line(function, arrays, tangents, outs)
            columns.append(_estimate(line, function, method, 1e-8))
    found = tuple([_joined(k, out, x, columns) for k, out in enumerate(outs)])
    return found if function.several else found[0]


def _joined(k: int, out: np.ndarray, x: np.ndarray, columns: list[list[Estimate]]) -> Estimate:
    """The Jacobian of output k, from its columns."""
    shape = (*out.shape, *x.shape)
    mine = [c[k] for c in columns]
    parts = [np.stack(p, -1).reshape(shape) for p in zip(*[m[:3] for m in mine], strict=True)]
    if not parts:
        parts = [np.zeros(shape), np.zeros(shape), np.zeros(shape, bool)]
    methods = {m.method for m in mine}
    method = "complex step" if methods == {"complex step"} else "differences"
    value, error, kink = parts
    return Estimate(value, error, kink, 1 + sum(m.evaluations for m in mine), method)


# --- complex forwards ----------------------------------------------------------------------------


def _erf(z):
    """2/sqrt(pi) e^(-z^2) (z + 2 z^3 / 3 + 4 z^5 / (3 5) + ...), where no real terms cancel."""
    z = np.asarray(z)
    far = np.abs(z.real) > 26  # e^(-z^2), which is the derivative, is 0 to the bit
    w = np.where(far, 0, z)
    term = total = w
    n = 0
    while np.any(np.abs(term.real) > EPS / 8 * np.abs(total.real)):
        n += 1
        term = term * (2 * w * w / (2 * n + 1))
        total = total + term
    for _ in range(8):  # the imaginary parts have a few more terms that count
        n += 1
        term = term * (2 * w * w / (2 * n + 1))
        total = total + term
    return np.where(far, np.sign(z.real), 2 / np.sqrt(np.pi) * np.exp(-w * w) * total)


def _arctan2(y, x):
    """The angle of (x, y) along a complex step, of which the imaginary part alone is used."""
    quotient = np.where(
        np.abs(np.real(x)) > np.abs(np.real(y)), np.arctan(y / x), -np.arctan(x / y)
    )
    return np.arctan2(np.real(y), np.real(x)) + 1j * np.imag(quotient)


def _hypot(x, y):
    scale = np.maximum(np.abs(np.real(x)), np.abs(np.real(y)))
    scale = np.where((scale > 0) & np.isfinite(scale), scale, 1)
    x, y = x / scale, y / scale
    return scale * np.sqrt(x * x + y * y)


def _astype(x, *, dtype):
    x = np.asarray(x)
    return x.copy() if x.dtype.kind == "c" and dtype == np.float64 else x.astype(dtype)


# What NumPy has for real numbers alone, or means otherwise for complex ones, as the analytic
# function that continues it from a real point. At a kink that is one of its sides.
ANALYTIC: dict[str, Callable] = {
    "absolute": lambda x: np.where(np.real(x) < 0, -x, x),
    "arctan2": _arctan2,
    "astype": _astype,
    "erf": _erf,
    "hypot": _hypot,
    "remainder": lambda x, y: x - y * np.floor(np.real(x) / np.real(y)),
}

_lending = threading.Lock()
_lent: dict[str, Callable] = {}  # the forwards that are out, by the name of their op
_borrowers = 0


def _lend(own: Callable, analytic: Callable) -> Callable:
    """`own` for real arguments, to the bit; `analytic` where one is complex."""

    def forward(*args, **params):
        if any(getattr(a, "dtype", None) is not None and a.dtype.kind == "c" for a in args):
            return analytic(*args, **params)
        return own(*args, **params)

    return forward


def _of_real_parts(own: Callable) -> Callable:
    return lambda *args, **params: own(
        *[a.real if isinstance(a, np.ndarray | np.generic) else a for a in args], **params
    )


@contextlib.contextmanager
def lent() -> Iterator[None]:
    """Within, ops take complex arrays where their function has an analytic continuation.

    Ops that NumPy has for real numbers alone (erf, arctan2, ...) are lent one (`ANALYTIC`).
    Constants of the point (comparisons, signs, rounding, places) look at real parts alone. Calls
    with real arguments keep their bits, in other threads too.

    >>> from minigrad.testing.oracle import lent
    >>> with lent():
    ...     mg.erf(np.array([1e-100j])).imag * 1e100
    array([1.12837917])
    """
    global _borrowers
    with _lending:
        _borrowers += 1
        if _borrowers == 1:
            for name, op in registry.items():
                constant = op.vjps is not None and not any(op.vjps)
                analytic = ANALYTIC.get(name) or (constant and _of_real_parts(op.forward))
                if analytic:
                    _lent[name] = op.forward
                    op.forward = _lend(op.forward, analytic)
    try:
        yield
    finally:
        with _lending:
            _borrowers -= 1
            if not _borrowers:
                for name, own in _lent.items():
                    registry[name].forward = own
                _lent.clear()
