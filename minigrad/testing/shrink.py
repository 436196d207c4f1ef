"""A failing example made as plain as can be: first its structure, then its numbers.

Hypothesis has already shrunk the structure that it drew; what it cannot shrink are the numbers,
which follow from a seed. `simplify` writes them out and replaces them, arrays first, then entry by
entry, by zeros, ones, small integers and short fractions, for as long as the same law stays broken
in the same way. Greedy, with a budget counted in trials of the law: the same on every machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .example import Array, Example, Sequences
from .laws import Finding, Law
from .run import finding_of

BUDGET = 300  # trials of the law
LITERAL = 600  # more numbers than this stay drawn from the seed


def simplify(law: Law, info, example, budget: int = BUDGET):
    """The simplest example found on which the law is broken in the same way.

    law, info: as of `run`. budget: how often the law is tried, at most. An example on which the law
    is not broken comes back as it is.
    """
    first = finding_of(law, info, example, locate=False)
    if first is None:
        return example
    search = _Search(law, info, example, first, budget - 1)
    if isinstance(example, Sequences):
        search.until_nothing_helps(_plainer_sequences)
    elif isinstance(example, Example):
        # An error may be of another kind on another structure, and look the same.
        if "error" not in first.facts:
            search.until_nothing_helps(_smaller)
        search.until_nothing_helps(_plainer)
    else:
        return example
    _write_out(search)
    return search.best


def numbers(example, info=None) -> int:
    """How many numbers of an example are not zero.

    info: a `CellInfo`, for the state and the weights of `Sequences` that are still drawn.

    >>> from minigrad.testing.example import Array, Example
    >>> numbers(Example((Array((2, 2), data=[[1.0, 0.0], [0.0, 2.0]]), 3)))
    2
    """
    arrays: list = []
    if isinstance(example, Example):
        made = zip(example.args, example.arrays(), strict=True)
        arrays = [x for a, x in made if isinstance(a, Array)]
    elif info is not None:
        arrays = info.recurrence.at(example.I, example.H).args(example)
    else:
        arrays = list(({"xs": example.xs()} | example.data).values())
    return sum(int(np.count_nonzero(a)) for a in arrays)


class _Search:
    """The best example so far, and what is left of the budget."""

    def __init__(self, law: Law, info, example, finding: Finding, budget: int):
        self.law, self.info, self.best, self.left = law, info, example, budget
        self.first = finding

    def better(self, example) -> bool:
        """Takes the example if the law is broken on it as it was on the first one."""
        if self.left <= 0:
            return False
        self.left -= 1
        found = finding_of(self.law, self.info, example, locate=False)
        if found is None or not alike(found, self.first):
            return False
        if _finite(self.first) and not _finite(found):  # the doing of the new numbers
            return False
        self.best = example
        return True

    def until_nothing_helps(self, plainer: Callable[[Any], Iterator]) -> None:
        """Takes, again and again, the first plainer example on which the law is broken."""
        again = True
        while again and self.left > 0:
            again = any(self.better(e) for e in plainer(self.best))


def alike(a: Finding, b: Finding) -> bool:
    """Whether two findings are the same trouble, on different numbers."""
    if (_words(a.what), a.input) != (_words(b.what), b.input):
        return False
    if "error" in a.facts or "error" in b.facts:
        return type(a.facts.get("error")) is type(b.facts.get("error"))
    return (a.analytic is None) == (b.analytic is None)


def _words(text: str) -> str:
    """A text without its numbers: places and sizes may differ."""
    return re.sub(r"[\d.]+", "#", text)


def _finite(f: Finding) -> bool:
    arrays = [np.asarray(x) for x in (f.analytic, f.numeric) if x is not None]
    return all(bool(np.isfinite(x).all()) for x in arrays if x.dtype.kind in "fciub")


# --- structure -----------------------------------------------------------------------------------


def _smaller(e: Example) -> Iterator[Example]:
    """The example with sizes, and axes in front, taken away; only where values are drawn."""
    arrays = [a for a in e.args if isinstance(a, Array)]
    if any(a.data is not None for a in arrays):
        return

    def reshaped(change: Callable[[tuple], tuple]) -> Example:
        args = [replace(a, shape=change(a.shape)) if isinstance(a, Array) else a for a in e.args]
        return replace(e, args=tuple(args))

    sizes = sorted({s for a in arrays for s in a.shape if s > 1}, reverse=True)
    for size, less in [(s, n) for s in sizes for n in _less(s)]:

        def change(shape: tuple, size=size, less=less) -> tuple:
            return tuple([less if n == size else n for n in shape])

        yield reshaped(change)
    most = max((len(a.shape) for a in arrays), default=0)
    if most:
        yield reshaped(lambda s: s[1:] if len(s) == most else s)
    for i, a in enumerate(e.args):
        if isinstance(a, Array):
            for axis, size in enumerate(a.shape):
                for less in _less(size):
                    shape = (*a.shape[:axis], less, *a.shape[axis + 1 :])
                    yield _with(e, i, replace(a, shape=shape))


def _less(size: int) -> list[int]:
    """Smaller sizes to try, the most daring first."""
    return sorted({1, 2, size // 2, size - 1} - {0, size} - set(range(size, 3)))


def _with(e: Example, i: int, a: Array) -> Example:
    return replace(e, args=(*e.args[:i], a, *e.args[i + 1 :]))


def _plainer(e: Example) -> Iterator[Example]:
    """The example with one thing about it as plain as can be."""
    plainest: dict[str, Any] = {"shared": None, "silent": None, "seed": 0, "plain": True}
    for name, plain in plainest.items():
        if getattr(e, name) != plain:
            yield replace(e, **{name: plain})
    for i, a in enumerate(e.args):
        if isinstance(a, Array):
            if a.layout != "C":
                yield _with(e, i, replace(a, layout="C"))
            if a.dtype == "float32":
                yield _with(e, i, replace(a, dtype="float64"))
            if a.values != "generic" and a.data is None:
                yield _with(e, i, replace(a, values="generic"))


def _plainer_sequences(e: Sequences) -> Iterator[Sequences]:
    """The batch with one thing about it smaller or plainer."""
    plainest: dict[str, Any] = {
        "lengths": None, "layout": "C", "values": "generic", "start": False,
        "gain": 1.0, "dtype": "float64", "seed": 0, "plain": True,
    }  # fmt: skip
    for name, plain in plainest.items():
        if getattr(e, name) != plain:
            yield replace(e, **{name: plain})
    for name, least in (("T", 1), ("N", 1), ("I", 1), ("H", 1)):
        size = getattr(e, name)
        for less in range(least, size):
            small = _resized(e, **{name: less})
            yield small
            if name == "N" and e.lengths is not None:  # the last rows in place of the first
                yield replace(small, lengths=e.lengths[-less:])
    for less in range(e.cut):
        yield replace(e, cut=less)
    for i, n in enumerate(e.lengths or ()):
        # A row that does not end early is the plainest.
        for other in (e.T, *range(n)) if n < e.T else ():
            lengths = (*e.lengths[:i], other, *e.lengths[i + 1 :])  # type: ignore[index]
            yield replace(e, lengths=lengths)


def _resized(e: Sequences, **size) -> Sequences:
    small = replace(e, **size)
    lengths = small.lengths
    if lengths is not None:
        lengths = tuple([min(n, small.T) for n in lengths[: small.N]])
    return replace(small, lengths=lengths, cut=min(small.cut, small.T))


# --- numbers -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Noted(Sequences):
    """Sequences that note down which arrays a law makes of them."""

    notes: dict[str, np.ndarray] = field(default_factory=dict)

    def given(self, name, drawn):
        made = super().given(name, drawn)
        self.notes[name] = np.array(made)
        return made


def _write_out(search: _Search) -> None:
    """The best example with its values written out, and then made plain one by one."""
    e = search.best
    if isinstance(e, Sequences):
        fields = {k: v for k, v in vars(e).items() if k != "notes"}
        noted = _Noted(**fields)
        finding_of(search.law, search.info, noted, locate=False)
        found = noted.notes
        if sum(a.size for a in found.values()) > LITERAL:
            return
        if not search.better(replace(e, data=found)):
            return
        for name in sorted(found, key=lambda n: -found[n].size):
            _plain_numbers(
                search,
                lambda name=name: search.best.data[name],
                lambda x, name=name: replace(search.best, data=search.best.data | {name: x}),
                lambda v: True,
            )
        return
    if sum(a.size for a in e.arrays() if isinstance(a, np.ndarray)) > LITERAL:
        return
    if not search.better(e.literal()):
        return
    for i, a in enumerate(e.args):
        if isinstance(a, Array) and not (e.shared is not None and e.shared[1] == i):
            low, high = a.domain
            _plain_numbers(
                search,
                lambda i=i: search.best.args[i].data,
                lambda x, i=i: _with(search.best, i, replace(search.best.args[i], data=x)),
                lambda v, low=low, high=high: low < v < high,
            )


def _plain_numbers(search: _Search, read, write, allowed) -> None:
    """One array of the best example: the whole of it, then each entry."""
    x = np.asarray(read())
    if x.dtype.kind != "f" or not x.size:
        return

    def fits(y) -> bool:
        return all(allowed(v) for v in y.flat) and not _same(y, read())

    counting = (1.0 + np.arange(x.size) % 9).reshape(x.shape).astype(x.dtype)
    for y in (np.zeros_like(x), np.ones_like(x), counting, *_rounded(x)):
        if fits(y) and search.better(write(y)):
            break
    for index in np.ndindex(x.shape):
        v = np.asarray(read())[index]
        for w in (0.0, 1.0, -1.0, 2.0, -2.0, *[float(r) for r in _rounded(v)]):
            if w == v or (v == np.rint(v) and abs(w) >= abs(v)):
                continue
            y = np.array(read())
            y[index] = w
            if fits(y) and search.better(write(y)):
                break


def _rounded(x):
    return [np.round(x, digits) for digits in (0, 1, 2)]


def _same(a, b) -> bool:
    return bool(np.array_equal(a, b, equal_nan=True))
