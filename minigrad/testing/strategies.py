"""Structures to draw from: `from minigrad.testing import strategies as mgst`.

A `Structure` says once how something is drawn, from choices that are made for it: by a seeded
sampler, or by Hypothesis (`structure.strategy()` is a Hypothesis strategy). A choice is a whole
number, lower is simpler, so both kinds are shrunk: those of the sampler by `simplest`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from ..errors import UsageError
from .example import LAYOUTS, VALUES, Array, Example, Sequences


class Choices:
    """Where the choices of a structure come from."""

    def integer(self, low: int, high: int) -> int:
        """A whole number from low to high; simpler is lower."""
        raise NotImplementedError

    def one_of(self, options: Sequence) -> Any:
        """One of the options; simpler is earlier."""
        return options[self.integer(0, len(options) - 1)]

    def flip(self) -> bool:
        """True or False; False is simpler."""
        return bool(self.integer(0, 1))

    def rarely(self, options: Sequence) -> Any:
        """Mostly the first option, otherwise one of the others."""
        return options[0] if self.integer(0, 2) < 2 else self.one_of(options)

    def seed(self) -> int:
        return self.integer(0, 2**32 - 1)


class Sampler(Choices):
    """Choices from a seed, independent of each other; `made` are those so far, counted from the
    lowest."""

    def __init__(self, *key: int):
        self.rng = np.random.default_rng(key)
        self.made: list[int] = []

    def integer(self, low, high):
        self.made.append(int(self.rng.integers(0, high - low, endpoint=True)))
        return low + self.made[-1]


class Given(Choices):
    """Choices as they are given; the lowest where none is left."""

    def __init__(self, choices: Sequence[int]):
        self.left = list(reversed(choices))
        self.made: list[int] = []

    def integer(self, low, high):
        self.made.append(min(self.left.pop() if self.left else 0, high - low))
        return low + self.made[-1]


class _Drawn(Choices):
    """Choices that Hypothesis makes."""

    def __init__(self, draw):
        from hypothesis import strategies as st

        self.draw, self.st = draw, st

    def integer(self, low, high):
        return self.draw(self.st.integers(low, high))

    def one_of(self, options):
        return self.draw(self.st.sampled_from(list(options)))

    def flip(self):
        return self.draw(self.st.booleans())


class Structure:
    """How something is drawn: `build(choices)`. foreign: it takes choices of Hypothesis alone."""

    def __init__(self, build: Callable[[Choices], Any], foreign: bool = False):
        self.build, self.foreign = build, foreign

    def sample(self, *key: int) -> Any:
        """One of them, from a seed."""
        return self.build(Sampler(*key))

    def simplest(self, choices: Sequence[int], fails: Callable[[Any], bool], budget: int = 300):
        """The simplest thing for which `fails` is true, on the way down from these choices.

        Choices are left out, in blocks and one by one, and lowered; fewer and lower is simpler.
        At most `budget` things are tried.
        """
        best = list(choices)
        found = self.build(Given(best))
        tried = {tuple(best)}

        def better(new: list[int]) -> bool:
            nonlocal best, found, budget
            given = Given(new)
            try:
                thing = self.build(given)
            except (IndexError, ValueError):  # choices that do not go together
                return False
            new = given.made
            while new and new[-1] == 0:
                new.pop()  # the lowest comes by itself
            if (len(new), new) >= (len(best), best) or tuple(new) in tried or budget <= 0:
                return False
            tried.add(tuple(new))
            budget -= 1
            if not fails(thing):
                return False
            best, found = new, thing
            return True

        moving = True
        while moving and budget > 0:
            moving = better(best[: len(best) // 2])
            for size in (4, 2, 1):
                i = 0
                while i + size <= len(best):
                    if better(best[:i] + best[i + size :]):
                        moving = True
                    else:
                        i += 1
            for i in range(len(best)):
                for lower in (0, best[i] // 2, best[i] - 1) if i < len(best) else ():
                    if i < len(best) and 0 <= lower < best[i]:
                        moving |= better([*best[:i], lower, *best[i + 1 :]])
        return found

    def strategy(self):
        """A Hypothesis strategy."""
        from hypothesis import strategies as st

        @st.composite
        def drawn(draw):
            return self.build(_Drawn(draw))

        return drawn()

    def map(self, function: Callable) -> Structure:
        """The structure whose values are `function` of this one's."""
        return Structure(lambda c: function(self.build(c)), self.foreign)


class Call(NamedTuple):
    """One way of calling an op: `Array`s (of which shape and domain count) and constants."""

    args: tuple
    params: dict = {}  # noqa: RUF012


SIDES = (2, 3, 1, 4, 0, 5)  # simplest first; 0 and 1 are where special cases live


def shape(c: Choices, ndim: int | tuple[int, int] = (0, 3), sides: Sequence[int] = SIDES) -> tuple:
    """A shape; for use within structures of one's own.

    Half of the sides repeat the one before, as a square is where a transposed gradient shows; a
    side of 0, where it is among `sides`, is rare, as there is nothing to see in most of them.
    """
    n = c.integer(*ndim) if isinstance(ndim, tuple) else ndim
    found: list[int] = []
    for _ in range(n):
        found.append(found[-1] if found and c.flip() else c.one_of([s for s in sides if s]))
    if n and 0 in sides and c.integer(0, 9) == 9:
        found[c.integer(0, n - 1)] = 0
    return tuple(found)


def arrays(*shapes: tuple, **params) -> Structure:
    """Calls with arrays of these shapes."""
    return Structure(lambda c: Call(tuple([Array(tuple(s)) for s in shapes]), params))


def broadcastable(
    n: int = 2, ndim: tuple[int, int] = (0, 3), sides: Sequence[int] = SIDES
) -> Structure:
    """Calls with n arrays whose shapes broadcast: axes missing in front, sides of 1."""

    def build(c):
        full = shape(c, ndim, sides)
        shapes = []
        for _ in range(n):
            own = full[c.integer(0, len(full)) if n > 1 and c.rarely((False, True)) else 0 :]
            shapes.append(tuple([1 if n > 1 and c.rarely((False, True)) else s for s in own]))
        return Call(tuple([Array(s) for s in shapes]))

    return Structure(build)


def calls(build: Callable[[Choices], Call]) -> Structure:
    """Calls that a function of one's own makes of `Choices`."""
    return Structure(build)


def one_of(*structures: Structure) -> Structure:
    """One of several structures; the first is the simplest."""
    return Structure(lambda c: c.one_of(structures).build(c))


def sequences(
    T: tuple[int, int] = (0, 8),
    N: tuple[int, int] = (1, 4),
    I: tuple[int, int] = (1, 4),  # noqa: E741
    H: tuple[int, int] = (1, 9),
    lengths: bool | str = "auto",
) -> Structure:
    """Batches of sequences: `Sequences` with sizes from these ranges, ragged or not.

    T steps, N rows, I features, H units. Mostly small; one in five is half as large again as the
    range says, because a bug may begin there.
    """

    def build(c):
        # Small sizes first: 1 is simplest, and 0 where it is in the range comes later.
        def size(low, high):
            order = [*range(max(low, 1), high + 1), *range(low, max(low, 1))]
            order += range(high + 1, high + 1 + (high + 1) // 2) if c.integer(0, 4) == 4 else []
            return c.one_of(order)

        steps, rows = size(*T), size(*N)
        ragged = lengths if isinstance(lengths, bool) else c.flip()
        return Sequences(
            steps, rows, size(*I), size(*H),
            tuple([c.integer(0, steps) for _ in range(rows)]) if ragged else None,
            gain=c.one_of((1.0, 0.3, 4.0)), start=c.flip(), cut=c.integer(0, steps),
            values=c.rarely(("generic", "large", "zeros")), layout=c.rarely(LAYOUTS), seed=c.seed(),
        )  # fmt: skip

    return Structure(build)


def dressed(
    inputs: Structure, domain=None, values: Sequence[str] = VALUES, sharing: bool = True
) -> Structure:
    """Examples made of calls: each array gets a layout and a class of values, two of one shape may
    be the same, an output may get no cotangent, and there is a seed."""

    def build(c):
        call = inputs.build(c)
        if not isinstance(call, Call):
            raise UsageError(
                "inputs",
                f"expected a structure of calls, got {type(call).__name__}",
                "use mgst.broadcastable(n), mgst.arrays(...) or mgst.calls(...)",
            )
        # Often all arrays have the same class of values: ties between two of them need that.
        common = c.one_of((None, *values)) if len(call.args) > 1 and c.flip() else None
        args = []
        for a in call.args:
            if isinstance(a, Array):
                free = a.domain == (-np.inf, np.inf)
                a = replace(
                    a,
                    layout=c.rarely(LAYOUTS),
                    values=common or (c.one_of(values) if c.flip() else values[0]),
                    domain=domain if domain is not None and free else a.domain,
                )
            args.append(a)
        drawn = [isinstance(a, Array) and a.data is None for a in args]  # given numbers stay
        forms = [
            (a.shape, a.domain) if d else i
            for i, (a, d) in enumerate(zip(args, drawn, strict=True))
        ]
        alike = [(i, j) for j in range(len(forms)) for i in range(j) if forms[i] == forms[j]]
        shared = c.rarely((None, *alike)) if sharing and alike else None
        silent = c.rarely((None, 0, 1))
        return Example(tuple(args), dict(call.params), c.seed(), shared, silent)

    return Structure(build, inputs.foreign)
