"""What the laws of a recurrent cell know of it, and the table they stand in."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from .. import kernels
from ..cells import GRU_GATES, LSTM_GATES, LSTM_PEEPHOLES, Cell, GRUCell, LSTMCell
from ..errors import UsageError
from .laws import Law
from .recurrence import Recurrence
from .subject import Pair

CELL_LAWS: dict[str, Law] = {}
FAMILIES = ("rnn", "lstm", "gru")


@dataclass
class CellInfo:
    """What is known about a recurrence under test.

    recurrence: of a cell, or of code written by hand. gates: for each weight whose rows are blocks
    of H units, one for each gate, the letters of its gates in order ("ifgo"); found out where it is
    not said. reference: the same recurrence in plain NumPy, called like the forward of a pair.
    family: "rnn", "lstm" or "gru", where the gates do not say it; its saturated gates do what those
    of its family do.

    Raises `UsageError` for a family of another name, and for gates of a weight that there is not or
    whose rows they do not divide.
    """

    recurrence: Recurrence
    gates: dict[str, str] = field(default_factory=dict)
    reference: Callable | None = None
    family: str | None = None

    def __post_init__(self):
        if self.family not in (None, *FAMILIES):
            raise UsageError(
                f"{self.name}: family",
                f"expected one of {', '.join(FAMILIES)}, got {self.family!r}",
                "leave it out where it is none of these",
            )
        found = _gates(self.recurrence)
        if self.gates:
            self._check_gates()
        self.gates = {**found, **self.gates}

    def _check_gates(self) -> None:
        try:
            shapes = self.recurrence.at(2, 3).weights
        except Exception:  # a recurrence that cannot be made: that is for the laws to find
            return
        for name, letters in self.gates.items():
            if name not in shapes:
                raise UsageError(
                    f"{self.name}: gates of {name}",
                    f"expected one of the weights {', '.join(shapes)}, got {name!r}",
                    'name the weights: gates=dict(W="ifgo")',
                )
            if not isinstance(letters, str) or shapes[name][:1] != (3 * len(letters),):
                blocks = shapes[name][0] / 3 if shapes[name] else 0
                raise UsageError(
                    f"{self.name}: gates of {name}",
                    f"expected a letter for each block of H rows, {blocks:g} of them, "
                    f"got {letters!r}",
                    'write their letters in the order of the rows: gates=dict(W="ifgo")',
                )

    @property
    def name(self) -> str:
        return self.recurrence.name

    @property
    def cell(self):
        """Makes the minigrad cell for (I, H); None for code written by hand."""
        return self.recurrence.cell

    @cached_property
    def takes_lengths(self) -> bool:
        """Whether rows may have lengths; written by hand, the forward may know nothing of them."""
        subject = self.recurrence.at(2, 3).subject
        if not isinstance(subject, Pair):
            return True
        try:
            takes = inspect.signature(subject.primal).parameters
        except (TypeError, ValueError):
            return True
        return "lengths" in takes or any(p.kind is p.VAR_KEYWORD for p in takes.values())

    @cached_property
    def promises_bits(self) -> bool:
        """Whether the library's bit contract holds: its own cells, on the C kernels."""
        made = self.cell and self.recurrence.at(2, 3).cell
        return type(made).__module__ == Cell.__module__ and kernels.backend() == "c"

    def argument(self, i: int) -> str:
        """What argument i of the recurrence is called."""
        return self.recurrence.at(2, 3).names[i]


def _gates(recurrence: Recurrence) -> dict[str, str]:
    """The letters of the gates of each weight of k H rows, k > 1: those of the library's own cells,
    for others the numbers 0 to k - 1."""
    sizes = (3, 5)  # what is a multiple of H for both is so by design
    try:
        shapes = [recurrence.at(2, H).weights for H in sizes]
        cell = recurrence.cell and recurrence.cell(2, sizes[0])
    except Exception:  # a recurrence that cannot be made: that is for the laws to find
        return {}
    letters = {}
    for name in shapes[0]:
        counts = {s[name][0] / H if s.get(name) else 0 for s, H in zip(shapes, sizes, strict=True)}
        k = counts.pop()
        if counts or k not in range(2, 11):
            continue
        own = {LSTM_GATES: LSTMCell, LSTM_PEEPHOLES: LSTMCell, GRU_GATES: GRUCell}
        named = [gates for gates, kind in own.items() if isinstance(cell, kind) and len(gates) == k]
        letters[name] = named[0] if named else "0123456789"[: int(k)]
    return letters
