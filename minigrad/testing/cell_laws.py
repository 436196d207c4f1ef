"""The laws of a recurrent cell, C1 to C28: what is known about a cell, and `check_cell`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import UsageError
from .check import Check, collectable
from .laws import Law
from .recurrence import Recurrence, of_cell, of_pair
from .strategies import Structure, sequences

CELL_LAWS: dict[str, Law] = {}


@dataclass
class CellInfo:
    """What is known about a recurrence under test.

    recurrence: of a cell, or of code written by hand. gates: for each weight whose rows are blocks
    of H units, one for each gate, the letters of its gates in order ("ifgo"); found out where it is
    not said. reference: the same recurrence in plain NumPy, called like the forward of a pair.
    """

    recurrence: Recurrence
    gates: dict[str, str] = field(default_factory=dict)
    reference: Callable | None = None

    @property
    def name(self) -> str:
        return self.recurrence.name

    @property
    def cell(self):
        """Makes the minigrad cell for (I, H); None for code written by hand."""
        return self.recurrence.cell

    def argument(self, i: int) -> str:
        """What argument i of the recurrence is called."""
        return self.recurrence.at(2, 3).names[i]


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
        recurrence = of_pair(forward, vjp, shapes, name)
    else:
        recurrence = of_cell(cell, name, **options)
    info = CellInfo(recurrence, reference=reference)
    structure = inputs or sequences()
    return collectable(
        Check(info, CELL_LAWS, structure, skip=skip, laws=laws, examples=examples, seed=seed)
    )
