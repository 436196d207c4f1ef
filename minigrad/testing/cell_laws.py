"""All laws on one recurrent cell: `check_cell`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import UsageError
from . import batch_laws, path_laws, structure_laws, time_laws  # noqa: F401  they enter their laws
from .cell_info import CELL_LAWS, CellInfo
from .check import Check, collectable
from .example import Array, Example, Sequences
from .laws import Broken, Law, Trial
from .op_laws import OpInfo
from .ops import LAWS as OP_LAWS
from .recurrence import Sized, of_cell, of_pair
from .strategies import Structure, sequences

# A recurrence is also a function of its arrays, so the laws of an op hold: of these, so many of the
# examples. The others of P1 to P18 are about broadcasting or rows, or stand among C1 to C28.
AS_AN_OP = {
    **{"P1": 0.3, "P2": 0.5, "P3": 0.3, "P4": 0.5, "P5": 0.3, "P6": 0.5, "P7": 1.0, "P8": 0.5},
    **{"P9": 0.5, "P10": 0.3, "P14": 0.1, "P15": 0.3, "P17": 0.3, "P18": 0.1},
}


def _as_an_op(law: Law, share: float) -> Law:
    """A law of ops as a law of recurrences."""

    def check(trial: Trial, info: CellInfo, example: Sequences) -> None:
        sized = info.recurrence.at(example.I, example.H)
        args = [Array(a.shape, a.dtype.name, data=a) for a in sized.args(example)]
        ragged = example.lengths is not None and info.takes_lengths
        params = {"lengths": np.array(example.lengths, np.int64)} if ragged else {}
        call = Example(tuple(args), params, example.seed)
        try:
            law.check(trial, OpInfo(sized.subject, names=sized.names), call)
        except Broken as broken:
            finding = broken.finding
            finding.axes = finding.axes or _axes(sized, finding.input)
            sizes = {"T": example.T, "N": example.N, "I": example.I, "H": example.H}
            known = {**sizes, "lengths": example.lengths, "gates": info.gates}
            finding.facts = {**known, **finding.facts}
            raise

    check.__doc__ = law.check.__doc__
    return Law(law.id, law.title, check, lambda info: law.unless(_plain(info)), share)


def _plain(info: CellInfo) -> OpInfo:
    return OpInfo(info.recurrence.at(2, 3).subject)


def _axes(sized: Sized, name: str | None) -> tuple[str, ...]:
    """What the axes of an argument are called."""
    if name == "xs":
        return ("t", "row", "feature")
    if name in sized.weights:
        return ("unit", "column")[: len(sized.weights[name])]
    return ("row", "unit") if name is not None else ()


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
    skip: dict[str, str] | None = None,
    laws: Sequence[str] | None = None,
    examples: int | None = None,
    seed: int | None = None,
    origin: str | None = None,
    **options,
) -> Callable:
    """A test function with one test a law, for a cell class or a pair (forward, vjp)."""
    if isinstance(cell, tuple):
        if shapes is None:
            raise UsageError(
                "check_cell: shapes",
                "expected shapes(I, H) for a pair, got None",
                "return the shapes of the state's parts, and those of the weights by name",
            )
        forward, vjp = cell
        recurrence = of_pair(forward, vjp, shapes, name, origin)
    else:
        recurrence = of_cell(cell, name, origin, **options)
    info = CellInfo(recurrence, reference=reference)
    structure = inputs or sequences()
    return collectable(
        Check(info, LAWS, structure, skip=skip, laws=laws, examples=examples, seed=seed)
    )
