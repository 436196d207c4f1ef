"""What a law is, and what one trial of it finds out.

A law is a function `law(trial, subject, example)`. It compares through the trial, which raises
`Broken` at the first comparison that does not hold, and keeps what it has learned on the way: how
close it was, and how small an error it could have seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np


@dataclass
class Finding:
    """One comparison that did not hold.

    what: a noun phrase, "the gradient of x". expected, got: short texts. input: the name of the
    argument concerned, None if it concerns outputs. analytic, numeric, error: arrays of one shape,
    what the code gave, what it ought to give, and the error bar, entry by entry; axes: what their
    axes are called ("t", "row", "unit"; empty for plain indices). repeat: for the diagnosis, the
    other facts that a law knows about the case ("lengths", "gates", "others": gradients of the
    other inputs by name, ...).
    """

    what: str
    expected: str
    got: str
    input: str | None = None
    analytic: np.ndarray | None = None
    numeric: np.ndarray | None = None
    error: np.ndarray | None = None
    axes: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


class Broken(AssertionError):
    """A law that does not hold on an example."""

    def __init__(self, finding: Finding):
        self.finding = finding
        super().__init__(f"{finding.what}: expected {finding.expected}, got {finding.got}")


class Inconclusive(Exception):
    """The oracle's bar is wider than the resolution asked for: neither pass nor fail."""


class NotApplicable(Exception):
    """The law says nothing about this subject or this example; the text says why."""


@dataclass
class Trial:
    """One run of a law on one example.

    margin: the largest difference so far in units of its tolerance. resolution: the smallest
    relative error that it could have seen (the largest of the comparisons; inf where nothing was
    compared). method: the oracle that was used. evaluations: calls of the forward code. atol,
    rtol: by how much every tolerance is widened, where somebody insists: atol + rtol |expected|.
    locate: whether a failure is to say where, entry by entry, which takes long; one that is to be
    shrunk need not. notes: what was seen, demanded or not, such as whether the bits agree.
    """

    law: str = ""
    margin: float = 0.0
    resolution: float = 0.0
    method: str = ""
    evaluations: int = 0
    atol: float = 0.0
    rtol: float = 0.0
    locate: bool = True
    notes: dict[str, bool] = field(default_factory=dict)

    def note(self, what: str, fact: bool) -> None:
        """Notes a fact that the law does not demand; in one trial it holds if it always did."""
        self.notes[what] = self.notes.get(what, True) and bool(fact)

    def true(self, fact: Any, what: str, expected: str, got: str, **rest) -> None:
        """That something is so."""
        if not fact:
            raise Broken(Finding(what, expected, got, **rest))

    def same(self, got, expected, what: str, **rest) -> None:
        """Equality of shape, dtype and every element, NaN counting as equal to NaN."""
        self.note("bits", True)  # it raises otherwise
        self.like(got, expected, what, **rest)
        got, expected = np.asarray(got), np.asarray(expected)
        wrong = (got != expected) & ~((got != got) & (expected != expected))
        if wrong.any():
            raise Broken(
                Finding(
                    what, "the same bits", f"{int(wrong.sum())} of {wrong.size} elements differ",
                    analytic=got, numeric=expected, error=np.zeros(got.shape), **rest,
                )
            )  # fmt: skip

    def like(self, got, expected, what: str, **rest) -> None:
        """Equality of shape and dtype."""
        both = isinstance(got, np.ndarray) and isinstance(expected, np.ndarray)
        if both and got.shape == expected.shape and got.dtype == expected.dtype:
            return  # without writing a text first
        a, b = _kind(got), _kind(expected)
        if a != b:
            raise Broken(Finding(what, b, a, **rest))

    def close(self, got, expected, error, what: str, **rest) -> None:
        """|got - expected| <= error, entry by entry; NaN agrees with NaN, inf with the same inf."""
        if np.shape(got) != np.shape(expected):
            raise Broken(
                Finding(what, f"shape {np.shape(expected)}", f"shape {np.shape(got)}", **rest)
            )
        got, expected = np.asarray(got), np.asarray(expected)
        if np.ndim(error) == 0 and got.dtype == expected.dtype and got.dtype.kind == "f":
            with np.errstate(all="ignore"):  # the common case, in a few calls
                largest = float(np.abs(got - expected).max(initial=0))
                size = float(np.abs(expected).max(initial=0))
            if largest <= error and size < np.inf:  # neither holds for NaN
                if largest > 0:
                    self.margin = max(self.margin, largest / float(error))
                if size > 0:
                    self.resolution = max(self.resolution, float(error) / size)
                return
        error = np.broadcast_to(np.asarray(error, np.float64), got.shape)
        if self.atol or self.rtol:
            error = error + self.atol + self.rtol * np.abs(expected)
        with np.errstate(all="ignore"):
            difference = np.abs(got.astype(np.float64) - expected.astype(np.float64))
        equal = (got == expected) | ((got != got) & (expected != expected))
        difference = np.where(equal, 0.0, np.where(np.isnan(difference), np.inf, difference))
        wrong = difference > error
        with np.errstate(all="ignore"):
            ratio = np.where(difference == 0, 0.0, difference / error)
        if ratio.size:
            self.margin = max(self.margin, float(ratio.max()))
        size = float(np.abs(expected[np.isfinite(expected)]).max(initial=0))
        if size > 0 and error.size:
            self.resolution = max(self.resolution, float(error.max()) / size)
        if wrong.any():
            worst = np.unravel_index(int(np.argmax(np.where(wrong, ratio, 0))), got.shape)
            raise Broken(
                Finding(
                    what, f"{expected[worst]:.17g} +- {error[worst]:.2g}",
                    f"{got[worst]:.17g}" + (f" at {tuple(map(int, worst))}" if got.ndim else ""),
                    analytic=got, numeric=expected, error=error, **rest,
                )
            )  # fmt: skip


def _kind(x) -> str:
    if x is None:
        return "None"
    return f"{x.dtype} {x.shape}" if isinstance(x, np.ndarray | np.generic) else type(x).__name__


class Law(NamedTuple):
    """A law: its id, what it says in a line, the function that tries it.

    unless: given what is known about a subject (an `OpInfo` or a `CellInfo`), the reason why the
    law does not apply, or None. examples: how many of the default 100 it is worth, as a share.
    """

    id: str
    title: str
    check: Callable
    unless: Callable[[Any], str | None]
    share: float = 1.0


def law(table: dict[str, Law], id: str, title: str, unless=lambda info: None, share: float = 1.0):
    """Decorator: enters a function into a table of laws."""

    def enter(check):
        table[id] = Law(id, title, check, unless, share)
        return check

    return enter
