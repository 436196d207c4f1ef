"""The laws of a recurrent cell, C1 to C28, and `check_cell`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import UsageError
from . import batch_laws, path_laws, structure_laws, time_laws  # noqa: F401  they enter their laws
from .cell_info import CELL_LAWS, CellInfo
from .check import Check, collectable
from .recurrence import of_cell, of_pair
from .strategies import Structure, sequences


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
    table = {id: CELL_LAWS[id] for id in sorted(CELL_LAWS, key=lambda id: int(id[1:]))}
    return collectable(
        Check(info, table, structure, skip=skip, laws=laws, examples=examples, seed=seed)
    )
