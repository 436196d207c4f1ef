"""A recurrence as laws see it: a function of inputs, an initial state and weights.

    (xs, *state, *weights, lengths=None) -> (ys, *last state)

`of_cell` makes one of a minigrad cell, which `unfold` runs over time; `of_pair` of whole-sequence
code that somebody has written by hand, forward and VJP. Its sizes are chosen by each example:
`recurrence.at(I, H)` is the `Subject` for I features and H units.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .. import tree
from ..cells import Cell
from ..errors import UsageError
from ..graph import Tensor
from ..module import with_tensors
from ..unfold import unfold
from .example import Sequences, at_once
from .subject import Pair, Subject, Traced, name_of, origin_of

Shape = tuple[int, ...]


class Gradients(NamedTuple):
    """Gradients of a recurrence: of xs, the parts of the initial state, the weights by name."""

    xs: np.ndarray
    state: list[np.ndarray]
    weights: dict[str, np.ndarray]


class Run(NamedTuple):
    """What a recurrence has computed: outputs, last state, and how to go back.

    `pull(dys, dlast)` takes a cotangent, or None, for ys and for each part of the last state (None
    for all of them), and gives `Gradients`, with zeros where nothing depends.
    """

    ys: np.ndarray
    last: list[np.ndarray]
    pull: Callable[..., Gradients]


class Sized:
    """A recurrence for I features and H units, seen as a `Subject`, which `subject` is.

    state: the shapes of the parts of a state, without the rows. weights: shapes by name. names: of
    all arguments in order: "xs", "h0", "c0", ..., then the weights. cell: the minigrad cell, or
    None.
    """

    def __init__(
        self,
        subject: Subject,
        state: Sequence[Shape],
        weights: dict[str, Shape],
        own: dict,
        cell: Cell | None = None,
    ):
        self.subject, self.state, self.weights, self.own = subject, tuple(state), weights, own
        self.cell = cell
        self.parts = state_names(len(self.state))
        self.names = ("xs", *[f"{p}0" for p in self.parts], *weights)

    def args(self, example: Sequences) -> list[np.ndarray]:
        """What the example calls the recurrence with."""
        return [
            example.xs(),
            *example.state(self.state),
            *self.values(example).values(),
        ]

    def values(self, example: Sequences) -> dict[str, np.ndarray]:
        """Generic weights: the recurrence's own first values, each moved, and scaled by the gain.

        What is positive stays so; zeros become generic numbers. Without own values: drawn ones.
        """
        all_own = bool(self.own) and all(first.all() for first in self.own.values())
        drawn = {} if all_own else example.weights(self.weights)
        for i, (name, first) in enumerate(self.own.items()):
            factor = 0.5 + at_once(example.seed, 40, i).random(first.shape)
            moved = first * factor * example.gain
            if not all_own:
                moved = np.where(first == 0, 0.3 * drawn[name], moved)
            drawn[name] = example.given(name, moved.astype(example.dtype))
        return drawn

    def run(
        self,
        xs: np.ndarray,
        state: Sequence[np.ndarray],
        weights: dict[str, np.ndarray],
        lengths=None,
        **how,
    ) -> Run:
        """The recurrence run once; `how` is handed on: `reverse`, `fused` of cells."""
        args = [xs, *state, *weights.values()]
        params = {**how} if lengths is None else {"lengths": np.asarray(lengths), **how}
        outs, pull = self.subject.linearise(args, params, range(len(args)))
        n = len(state)

        def gradients(dys=None, dlast=None) -> Gradients:
            found = pull(dys, *(dlast if dlast is not None else [None] * n))
            whole = [
                np.zeros(a.shape, a.dtype) if g is None else g
                for a, g in zip(args, found, strict=True)
            ]
            by_name = dict(zip(weights, whole[1 + n :], strict=True))
            return Gradients(whole[0], whole[1 : 1 + n], by_name)

        return Run(outs[0], list(outs[1:]), gradients)

    def run_example(self, example: Sequences, **how) -> Run:
        """The recurrence run on an example, with its lengths."""
        args, n = self.args(example), len(self.state)
        weights = dict(zip(self.weights, args[1 + n :], strict=True))
        return self.run(args[0], args[1 : 1 + n], weights, example.lengths, **how)


def state_names(n: int) -> tuple[str, ...]:
    """What the parts of a state are called: h, c, s2, ..."""
    return tuple(["h", "c", *[f"s{i}" for i in range(2, n)]][:n])


class Recurrence:
    """A recurrence of any size.

    cell: makes the minigrad cell for (I, H), or None for code written by hand. origin: lines of
    Python that make what was checked anew, under the name `f`.
    """

    def __init__(
        self, name: str, sized: Callable[[int, int], Sized], origin: str | None, cell=None
    ):
        self.name, self.origin, self.cell = name, origin, cell
        self._sized = lru_cache(maxsize=256)(sized)

    def at(self, I: int, H: int) -> Sized:  # noqa: E741
        """The recurrence for I features and H units."""
        return self._sized(I, H)


# --- a cell --------------------------------------------------------------------------------------


def of_cell(
    make: Callable, name: str | None = None, origin: str | None = None, **options
) -> Recurrence:
    """The recurrence of a cell class, or of a function `make(I, H)` that returns a cell.

    Options are handed on; so are `dtype` and `rng` where the signature has them.
    """
    takes = inspect.signature(make).parameters
    given = {k: v for k, v in (("dtype", np.float64), ("rng", 0)) if k in takes} | options

    def cell(I, H):  # noqa: E741
        made = make(I, H, **given)
        if not isinstance(made, Cell):
            raise UsageError(
                f"check_cell: what {name_of(make)}({I}, {H}) returns",
                f"expected a Cell, got {type(made).__name__}",
                "pass a subclass of mg.nn.Cell, or a function of (I, H) that returns a cell",
            )
        made.eval()  # random masks have a law of their own, C19
        return made

    def sized(I, H):  # noqa: E741
        made = cell(I, H)
        own = {k: p.data for k, p in made.named_parameters()}
        parts, form = tree.flatten(made.initial_state(1, np.float64))

        def unfolded(xs, *rest, lengths=None, reverse=False, fused="auto"):
            n = len(parts)
            if xs.dtype.kind == "c":  # a complex step: of what a fused op means
                fused = False
            copy = with_tensors(made, dict(zip(own, rest[n:], strict=True)))
            out = unfold(copy, xs, form.build(rest[:n]), lengths, reverse, fused)
            return out.ys, *tree.flatten(out.state)[0]

        return Sized(
            Traced(unfolded, name or name_of(make), origin),
            [tuple(p.shape[1:]) for p in parts],
            {k: tuple(v.shape) for k, v in own.items()},
            own,
            made,
        )

    return Recurrence(name or name_of(make), sized, origin or origin_of(make), cell)


def step_of(sized_cell: Cell, x: Any, state: Sequence[Any], weights: dict[str, Tensor]) -> tuple:
    """One step of a cell with other weights: (y, *new state), as tensors."""
    _, form = tree.flatten(sized_cell.initial_state(1, np.float64))
    y, new = with_tensors(sized_cell, weights)(x, form.build(state))
    return y, *tree.flatten(new)[0]


# --- code written by hand ------------------------------------------------------------------------


def of_pair(
    forward: Callable,
    vjp: Callable,
    shapes: Callable[[int, int], tuple[Sequence[Shape], dict[str, Shape]]],
    name: str | None = None,
    origin: str | None = None,
) -> Recurrence:
    """The recurrence of hand-written code.

    forward(xs, *state, *weights, lengths=None) -> (ys, *last state); vjp(g, out, xs, *state,
    *weights, lengths=None) -> a gradient for each array. shapes(I, H): the shapes of the parts of
    a state without the rows, and those of the weights by name.
    """
    pair = Pair(forward, vjp, name, origin)

    def sized(I, H):  # noqa: E741
        state, weights = shapes(I, H)
        return Sized(pair, [tuple(s) for s in state], {k: tuple(v) for k, v in weights.items()}, {})

    return Recurrence(pair.name, sized, pair.origin)
