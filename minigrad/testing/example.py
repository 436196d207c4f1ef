"""Examples: what a law is tried on. Structure is drawn; values follow from a seed.

An `Array` says shape, dtype, layout in memory and class of values; an `Example` is one call of an
op made of them, a `Sequences` one batch for a recurrence. Values come from a counter-based
generator keyed by the seed and the place of the array, so an array of another shape, or another
argument more, leaves the numbers of the others alone: what is shrunk stays recognisable.
"""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from .subject import is_float

LAYOUTS = ("C", "F", "sliced", "negative", "offset", "zero stride", "read-only")
VALUES = ("generic", "small", "large", "huge", "integers", "ties", "zeros", "one-hot")


def generator(*key: int) -> np.random.Generator:
    """A generator of its own for each key: the same key, the same numbers."""
    return np.random.Generator(np.random.Philox(key=_key(key)))


def _key(key: Sequence[int]) -> tuple[int, int]:
    first, *rest = (int(k) & 0xFFFFFFFF for k in key)
    return first, sum(k << 16 * i for i, k in enumerate(rest)) & (2**64 - 1)


_own = threading.local()  # a generator for each thread, which is what takes time to make


def at_once(*key: int) -> np.random.Generator:
    """What `generator` gives, for numbers that are drawn before anybody else asks for some."""
    if not hasattr(_own, "generator"):
        _own.bits = np.random.Philox(key=(0, 0))
        _own.generator, _own.begin = np.random.Generator(_own.bits), _own.bits.state
    _own.begin["state"]["key"][:] = _key(key)
    _own.bits.state = _own.begin
    return _own.generator


def signed(shape: Sequence[int], *key: int) -> np.ndarray:
    """A direction: signs times [1/2, 3/2], so that no entry is tiny and none stands for another."""
    size, sign = at_once(*key).random((math.prod(shape), 2)).T
    return (np.where(sign < 0.5, -0.5, 0.5) + np.where(sign < 0.5, -size, size)).reshape(shape)


@dataclass(frozen=True)
class Array:
    """One array of an example.

    layout: of `LAYOUTS`. values: of `VALUES`; domain: the numbers lie strictly between these two,
    which may be infinite. data: the values themselves, in place of drawn ones.
    """

    shape: tuple[int, ...] = ()
    dtype: str = "float64"
    layout: str = "C"
    values: str = "generic"
    domain: tuple[float, float] = (-np.inf, np.inf)
    data: Any = None

    def array(self, seed: int, place: int) -> np.ndarray:
        """The array itself: the same one for the same seed and place."""
        if self.data is not None:
            return lay(np.array(self.data, self.dtype).reshape(self.shape), self.layout)
        return lay(self._values(seed, place).astype(self.dtype), self.layout)

    def _values(self, seed: int, place: int) -> np.ndarray:
        n = math.prod(self.shape)
        # A row of numbers for each element, so that a larger array begins like a smaller one.
        u, v, w = at_once(seed, 1 + place).random((n, 3)).T
        low, high = self.domain
        if np.isinf(low) and np.isinf(high):
            normal = np.sqrt(-2 * np.log1p(-u)) * np.cos(2 * np.pi * v)
            x = _FREE[self.values](normal, w, np.arange(n))
        elif np.isfinite(low) and np.isfinite(high):
            x = low + (high - low) * _UNIT[self.values](0.02 + 0.96 * u, w)
        else:
            edge, sign = (low, 1.0) if np.isfinite(low) else (high, -1.0)
            x = edge + sign * _SIZES[self.values](u, w)
        if self.dtype == "float32":  # still within the domain after rounding
            x = x.astype(np.float32).astype(np.float64)
            one = np.float32(np.inf)
            least, most = np.nextafter(np.array([low, high], np.float32), [one, -one])
            x = np.clip(x, least, most)
        return x.reshape(self.shape)


# From a normal number, a uniform one and the index.
_FREE = {
    "generic": lambda z, w, i: z,
    "small": lambda z, w, i: 1e-3 * z,
    "large": lambda z, w, i: 30 * z,
    "huge": lambda z, w, i: 800 * z,
    "integers": lambda z, w, i: np.rint(2 * z),
    "ties": lambda z, w, i: np.floor(3 * w) - 1.0,
    "zeros": lambda z, w, i: np.where(w < 0.5, 0.0, z),
    "one-hot": lambda z, w, i: np.where(i == 0, 1.0, 0.0),
}
# Within an interval, as a share of it.
_UNIT = {
    "generic": lambda u, w: u,
    "small": lambda u, w: 1e-3 * u,
    "large": lambda u, w: 1 - 1e-3 * u,
    "huge": lambda u, w: 1 - 1e-6 * u,
    "integers": lambda u, w: np.ceil(7 * u) / 8,
    "ties": lambda u, w: (1 + np.floor(3 * w)) / 4,
    "zeros": lambda u, w: np.where(w < 0.5, 0.5, u),
    "one-hot": lambda u, w: np.where(w < 0.5, 0.25, 0.75),
}
# Above an edge, how far.
_SIZES = {
    "generic": lambda u, w: 0.05 + 3 * u,
    "small": lambda u, w: 1e-3 * (0.5 + u),
    "large": lambda u, w: 30 * (0.5 + u),
    "huge": lambda u, w: 800 * (0.5 + u),
    "integers": lambda u, w: 1 + np.floor(5 * u),
    "ties": lambda u, w: 1 + np.floor(3 * w),
    "zeros": lambda u, w: np.where(w < 0.5, 1.0, 0.05 + 3 * u),
    "one-hot": lambda u, w: np.where(w < 0.5, 0.5, 1.0),
}


def lay(a: np.ndarray, layout: str) -> np.ndarray:
    """The same values in another layout; a zero stride repeats the first entry along an axis."""
    if layout == "C" or (a.ndim == 0 and layout in ("F", "sliced", "negative", "zero stride")):
        return np.ascontiguousarray(a).reshape(a.shape)
    if layout == "F":
        return np.asfortranarray(a)
    if layout == "sliced":
        wide = np.full((*a.shape[:-1], 2 * a.shape[-1] + 1), np.nan, a.dtype)
        wide[..., 1::2] = a
        return wide[..., 1::2]
    if layout == "negative":
        flipped = tuple([slice(None, None, -1)] * a.ndim)
        return np.ascontiguousarray(a[flipped])[flipped]
    if layout == "offset":
        long = np.full(a.size + 1, np.nan, a.dtype)
        long[1:] = a.reshape(-1)
        return long[1:].reshape(a.shape)
    if layout == "zero stride":
        axis = int(np.argmax(a.shape))
        return np.broadcast_to(np.take(a, [0], axis), a.shape) if a.size else a
    if layout == "read-only":
        a = np.array(a)
        a.flags.writeable = False
        return a
    raise ValueError(f"layout {layout!r}")


@dataclass(frozen=True)
class Example:
    """One call of an op: `Array`s and constants, keyword parameters, and how gradients are asked.

    shared: (i, j): argument j is the very array that argument i is. silent: this output gets no
    cotangent. plain: the first cotangent is all ones, which is easier to read than a generic one.
    """

    args: tuple
    params: dict = field(default_factory=dict)
    seed: int = 0
    shared: tuple[int, int] | None = None
    silent: int | None = None
    plain: bool = False

    @cached_property
    def wrt(self) -> tuple[int, ...]:
        """The positions of the arguments that have a gradient."""
        return tuple([i for i, a in enumerate(self.args) if isinstance(a, Array) or is_float(a)])

    def arrays(self) -> list:
        """The arguments: made anew at each call, so that nobody else has written to them."""
        made = [
            a.array(self.seed, i) if isinstance(a, Array) else copy.copy(a)
            for i, a in enumerate(self.args)
        ]
        if self.shared is not None:
            first, second = self.shared
            made[second] = made[first]
        return made

    def cotangents(self, outs: Sequence[np.ndarray], k: int = 0) -> list[np.ndarray]:
        """A generic cotangent for each output; k: another one."""
        if self.plain and k == 0:
            return [np.ones_like(o) for o in outs]
        return [
            np.asarray(signed(o.shape, self.seed, 1000 + k, i)).astype(o.dtype)
            for i, o in enumerate(outs)
        ]

    def directions(self, arrays: Sequence, k: int = 0) -> list:
        """A generic direction for each argument of `wrt`, None for the others; k: another one."""
        return [
            np.asarray(signed(a.shape, self.seed, 2000 + k, i)).astype(a.dtype)
            if i in self.wrt
            else None
            for i, a in enumerate(arrays)
        ]

    def at(self, **changes) -> Example:
        """The example with every array changed: `at(dtype="float32")`, `at(layout="C")`."""
        args = [replace(a, **changes) if isinstance(a, Array) else a for a in self.args]
        return replace(self, args=tuple(args))

    def literal(self) -> Example:
        """The same example with its values written out, so that they no longer need the seed."""
        made = self.arrays()
        args = [
            replace(a, data=np.array(x)) if isinstance(a, Array) else a
            for a, x in zip(self.args, made, strict=True)
        ]
        return replace(self, args=tuple(args))

    def describe(self) -> list[str]:
        """A line for each argument and parameter: shape, dtype, layout, values."""
        lines = []
        for i, a in enumerate(self.args):
            if isinstance(a, Array):
                values = "" if a.data is not None else f", {a.values}"
                layout = "" if a.layout == "C" else f", {a.layout}"
                lines.append(f"argument {i}: {a.dtype} {a.shape}{layout}{values}")
            else:
                lines.append(f"argument {i}: {a!r}")
        lines += [f"{k} = {v!r}" for k, v in self.params.items()]
        if self.shared is not None:
            lines.append(f"argument {self.shared[1]} is argument {self.shared[0]}")
        if self.silent is not None:
            lines.append(f"no cotangent for output {self.silent}")
        if self.plain:
            lines.append("a cotangent of ones")
        return lines


@dataclass(frozen=True)
class Sequences:
    """A batch of sequences for a recurrence, and weights to run it with.

    T steps, N rows, I features, H units; lengths of the rows or None; gain: scale of the weights
    (a large one saturates gates); start: whether the initial state is random (or zero); cut: where
    laws that need one cut time in two. values, layout: of the inputs xs. plain: as of an `Example`.
    data: values in place of drawn ones, by name: "xs", "s0", "s1", ... for the parts of the initial
    state, and the names of weights. Where a law asks for a larger array, they are its beginning.
    """

    T: int
    N: int
    I: int  # noqa: E741
    H: int
    lengths: tuple[int, ...] | None = None
    dtype: str = "float64"
    gain: float = 1.0
    start: bool = True
    cut: int = 0
    values: str = "generic"
    layout: str = "C"
    seed: int = 0
    plain: bool = False
    data: dict[str, Any] = field(default_factory=dict)

    def given(self, name: str, drawn: np.ndarray) -> np.ndarray:
        """What stands in the array of this name: what `data` says, or else what was drawn."""
        if name not in self.data:
            return drawn
        given, made = np.asarray(self.data[name]), np.array(drawn)
        if given.ndim != made.ndim:
            return drawn
        both = tuple([slice(min(m, n)) for m, n in zip(given.shape, made.shape, strict=True)])
        made[both] = given[both]
        return made

    def xs(self) -> np.ndarray:
        """The inputs (T, N, I); what stands in the padding is generic, too."""
        shape = (self.T, self.N, self.I)
        drawn = Array(shape, self.dtype, values=self.values).array(self.seed, 0)
        return lay(self.given("xs", drawn), self.layout)

    def state(self, shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
        """An initial state: a part (N, *shape) for each shape."""
        return [
            self.given(
                f"s{i}", Array((self.N, *s), self.dtype).array(self.seed, 10 + i) * self.start
            )
            for i, s in enumerate(shapes)
        ]

    def weights(self, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
        """Generic weights by name, scaled by the gain and by 1/sqrt(columns)."""
        made = {}
        for i, (name, s) in enumerate(shapes.items()):
            scale = self.gain / np.sqrt(max(1, s[-1] if len(s) > 1 else 1))
            drawn = Array(s, "float64").array(self.seed, 20 + i) * scale
            made[name] = self.given(name, drawn.astype(self.dtype))
        return made

    def cotangents(self, outs: Sequence[np.ndarray], k: int = 0) -> list[np.ndarray]:
        """A generic cotangent for each output; k: another one."""
        return Example.cotangents(self, outs, k)  # type: ignore[arg-type]

    def describe(self) -> list[str]:
        """A line for each thing that is not as plain as can be."""
        lines = [
            f"T = {self.T} steps, N = {self.N} rows, I = {self.I} features, H = {self.H} units;"
            f" {self.dtype}, seed {self.seed}",
        ]
        if self.lengths is not None:
            lines.append(f"lengths {self.lengths}")
        if not self.start:
            lines.append("an initial state of zeros")
        if self.gain != 1.0:
            lines.append(f"weights scaled by {self.gain}")
        for name, plain in (("values", "generic"), ("layout", "C")):
            if getattr(self, name) != plain:
                lines.append(f"{name}: {getattr(self, name)}")
        if self.plain:
            lines.append("a cotangent of ones")
        return lines
