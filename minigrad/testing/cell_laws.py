"""All laws on one recurrent cell: `check_cell`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import UsageError
from . import batch_laws, path_laws, structure_laws, time_laws  # noqa: F401  they enter their laws
from .cell_info import CELL_LAWS, CellInfo
from .check import Check, collectable
from .example import Sequences
from .laws import Broken, Law, Trial
from .op_laws import OpInfo
from .ops import LAWS as OP_LAWS
from .recurrence import of_cell, of_pair
from .runs import batch
from .strategies import Structure, sequences

# A recurrence is also a function of its arrays, so the laws of an op hold: of these, so many of the
# examples. The others of P1 to P18 are about broadcasting or rows, or stand among C1 to C28.
AS_AN_OP = {
    **{"P1": 0.3, "P2": 0.5, "P3": 0.3, "P4": 0.5, "P5": 0.3, "P6": 0.5, "P7": 0.9, "P8": 0.5},
    **{"P9": 0.5, "P10": 0.3, "P14": 0.1, "P15": 0.3, "P17": 0.3, "P18": 0.1},
}


def _as_an_op(law: Law, share: float) -> Law:
    """A law of ops as a law of recurrences."""

    def check(trial: Trial, info: CellInfo, example: Sequences) -> None:
        of = batch(trial, info, example)
        try:
            law.check(trial, OpInfo(of.sized.subject, names=of.sized.names), of.as_example())
        except Broken as broken:
            finding = broken.finding
            finding.axes = finding.axes or (of.axes(finding.input) if finding.input else ())
            finding.facts = {**of.facts(), **finding.facts}
            raise

    check.__doc__ = law.check.__doc__
    return Law(law.id, law.title, check, lambda info: law.unless(_plain(info)), share)


def _plain(info: CellInfo) -> OpInfo:
    return OpInfo(info.recurrence.at(2, 3).subject)


LAWS: dict[str, Law] = {
    **{id: _as_an_op(OP_LAWS[id], share) for id, share in AS_AN_OP.items()},
    **{id: CELL_LAWS[id] for id in sorted(CELL_LAWS, key=lambda id: int(id[1:]))},
}


def check_cell(
    cell: Any,
    *,
    inputs: Structure | None = None,
    shapes: Callable | None = None,
    name: str | None = None,
    reference: Callable | None = None,
    gates: dict[str, str] | None = None,
    family: str | None = None,
    skip: dict[str, str] | None = None,
    laws: Sequence[str] | None = None,
    examples: int | None = None,
    seed: int | None = None,
    origin: str | None = None,
    **options,
) -> Callable:
    """A test function that tries all laws on a recurrent cell: with pytest, one test a law.

    cell: what makes the cell for I features and H units, a subclass of `mg.nn.Cell` or a function:
    it is called as `cell(I, H, **options)`, with `dtype` (float64) and `rng` (0) besides, where its
    signature has them, and is checked in evaluation mode, but for the law of random masks. Or a
    pair (forward, vjp) of plain functions of arrays, without a step of their own:

        forward(xs, *state, *weights, lengths=None) -> (ys, *last state)
        vjp(g, out, xs, *state, *weights, lengths=None) -> a gradient for each array

    with xs (T, N, I), every part of a state (N, ...), g and out tuples like what forward returns;
    without `lengths` in its signature, a forward is tried on rows of one length alone. shapes(I, H)
    belongs to a pair: the shapes of the state's parts, without the rows, and those of the weights
    by name: `([(H,)], {"W": (H, I), "U": (H, H)})`.

    inputs: from `mgst.sequences(...)`, whose ranges say how many steps, rows, features and units
    there are; a cell that does not come in all sizes needs it. name: for reports. reference: the
    same recurrence in plain NumPy, called like the forward of a pair, for the law that compares
    them. gates: the letters of the gates in the order in which they lie in the rows of a weight,
    {"W": "ifgo"}: known of the library's cells, and for others what makes reports name gates and
    lets saturated ones be tried. family: "rnn", "lstm" or "gru" where the gates do not say it.
    skip: laws that do not hold by design, {"C21": "units have an order"}: the reason is printed.
    laws: the ids to try (all). examples: 100 by default, of which each law takes its share. seed:
    None takes what Hypothesis's profile says. origin: lines of Python that make `cell` anew under
    the name `f`, for the snippet of a report, where that cannot be found out.

    Called without an argument, the function tries all laws, and raises `GradcheckError` at the
    first that does not hold; `function.check.run()` gives what came of each. Raises `UsageError`
    for a pair without shapes, shapes or options that do not belong, an unknown law, a skip without
    a reason, gates or a family that cannot be; and, when a law is tried, for what returns no cell.

    >>> from minigrad.testing import check_cell, strategies as mgst
    >>> small = mgst.sequences(T=(0, 3), H=(1, 3))
    >>> test_my_cell = check_cell(mg.nn.GRUCell, inputs=small, reset="before", examples=3, seed=0)
    >>> test_my_cell()
    >>> forward = lambda xs, h, w: (w * xs, h + w * xs.sum(0))
    >>> vjp = lambda g, out, xs, h, w: (w * (g[0] + g[1]), g[1].copy(), (g[0] * xs).sum((0, 1)))
    >>> shapes = lambda I, H: ([(I,)], {"w": (I,)})
    >>> test_sum = check_cell((forward, vjp), shapes=shapes, name="sum", laws=["P7"], seed=0)
    >>> test_sum()  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    minigrad.testing.check.GradcheckError: sum: the gradient of w: P7 does not hold...
    """
    if isinstance(cell, tuple):
        if shapes is None:
            raise UsageError(
                "check_cell: shapes",
                "expected shapes(I, H) for a pair, got None",
                "return the shapes of the state's parts, and those of the weights by name",
            )
        if options:
            raise UsageError(
                "check_cell: options",
                f"expected none for a pair, got {', '.join(options)}",
                "bind them to the two functions: functools.partial",
            )
        forward, vjp = cell
        recurrence = of_pair(forward, vjp, shapes, name, origin)
    else:
        if shapes is not None:
            raise UsageError(
                "check_cell: shapes",
                "expected shapes for a pair (forward, vjp) alone, got some for a cell",
                "leave them out: a cell knows them",
            )
        recurrence = of_cell(cell, name, origin, **options)
    info = CellInfo(recurrence, gates or {}, reference, family)
    structure = inputs or sequences()
    return collectable(
        Check(info, LAWS, structure, skip=skip, laws=laws, examples=examples, seed=seed)
    )
