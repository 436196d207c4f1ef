"""Seeded bugs, on which the power of the gradient checker is measured.

A specimen is correct code that somebody might have written by hand: an op or a whole recurrence in
plain NumPy, forward and vector-Jacobian product, or a part of minigrad itself. A mutant is one bug
that can be switched on in it:

    with mutant("59"):
        check(specimens["rnn"])         # ought to fail

Specimens ask `bug("59")` at the place where the bug sits; bugs in minigrad itself are patches that
the context manager applies and takes back; bugs in C are compiled in by a macro.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

# Each mutant says which cause a diagnosis ought to name. It may allow several, separated by "|":
# the first is the best.
from minigrad.testing.diagnosis import CAUSES


@dataclass(frozen=True)
class Specimen:
    """Correct code to plant bugs in.

    kind: "op" or "recurrence", checked as a pair (forward, vjp); "library" is minigrad itself, and
    "native" its C extension. forward and vjp have the grammar of a pair:

        op:          forward(*arrays, **params) -> out or tuple of outs
                     vjp(g, out, *arrays, **params) -> tuple, a gradient an array argument
        recurrence:  forward(xs, *state, *weights, lengths=None) -> (ys, *last state)
                     vjp(g, out, xs, *state, *weights, lengths=None) -> tuple of gradients

    where `g` and `out` are tuples exactly if there are several outputs, and every cotangent in `g`
    is an array. calls: a few calls (args, params) that the op takes, arrays in float64, generic
    values; with them a person who knows the op, but no bug, would test it (at least one plain one,
    then a few with other shapes). shapes: of a recurrence,
    shapes(I, H) -> (shapes of a state without the rows, shapes of the weights by name).
    reference: the forward written independently.
    """

    name: str
    kind: str
    forward: Callable | None = None
    vjp: Callable | None = None
    calls: tuple = ()
    shapes: Callable | None = None
    reference: Callable | None = None


@dataclass(frozen=True)
class Mutant:
    """One seeded bug.

    id: its number in the catalogue, or H.. if it was added by somebody else. family: A elementwise,
    B products and indexing, C engine, D recurrent backward, E recurrent forward, F native. origin:
    where such a bug was seen, or "made up". cause: of `CAUSES`. shows: returns True if the bug is
    there to be seen on its smallest example: something is wrong by more than 1e-6 (or by its bits
    where the claim is about bits), or a rule of memory is broken. It returns True with the mutant
    on and False with it off. forward: whether only the forward pass is wrong, and the VJP fits it.
    patch: a context manager that plants the bug, where the specimen does not ask `bug`.
    macro: for native ones, what is defined when the extension is compiled.
    """

    id: str
    specimen: str
    family: str
    description: str
    cause: str
    shows: Callable[[], bool]
    origin: str = "made up"
    forward: bool = False
    patch: Callable[[], Any] | None = None
    macro: str | None = None


specimens: dict[str, Specimen] = {}
mutants: dict[str, Mutant] = {}
_on: set[str] = set()


def bug(id: str) -> bool:
    """Whether this mutant is switched on."""
    return id in _on


@contextlib.contextmanager
def mutant(id: str) -> Iterator[Mutant]:
    """Switches one mutant on."""
    m = mutants[id]
    with m.patch() if m.patch is not None else contextlib.nullcontext():
        _on.add(id)
        try:
            yield m
        finally:
            _on.discard(id)


def specimen(s: Specimen) -> Specimen:
    assert s.name not in specimens, s.name
    specimens[s.name] = s
    return s


def add(m: Mutant) -> Mutant:
    assert m.id not in mutants, m.id
    assert all(c in CAUSES for c in m.cause.split("|")), m.cause
    mutants[m.id] = m
    return m


# Each file adds its specimens and mutants; they import the names above.
from . import engine, native, ops, recurrences  # noqa: E402
