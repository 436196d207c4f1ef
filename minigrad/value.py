"""What a tensor is without its graph: shape and dtype, the numbers in it, its text."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import GradientError, UsageError


class Value:
    """The part of `Tensor` that needs its array alone, and no more of the graph than its name."""

    __slots__ = ()

    data: np.ndarray
    source: Any
    node: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def dtype(self) -> np.dtype:
        return self.data.dtype

    @property
    def ndim(self) -> int:
        return self.data.ndim

    @property
    def size(self) -> int:
        return self.data.size

    def numpy(self) -> np.ndarray:
        """The array itself; raises `GradientError` where a gradient would be lost."""
        if self.source is not None:
            raise GradientError(
                "numpy: called on a tensor that needs a gradient",
                "expected a constant; the gradient would be lost",
                "use .detach().numpy()",
            )
        return self.data

    def item(self) -> float | int:
        """The Python number of a tensor with one element; raises `UsageError` for others."""
        return self._single("item", "take one by its index, or use .data")

    def _single(self, name: str, remedy: str) -> float | int:
        if self.size != 1:
            raise UsageError(
                f"{name}: of a tensor with {'several elements' if self.size else 'no element'}",
                f"expected one element, got shape {self.shape}",
                remedy,
            )
        return self.data.item()

    def __len__(self) -> int:
        if not self.ndim:
            raise UsageError(
                "len: of a tensor that is a single number",
                "expected at least one axis, got shape ()",
                "use .size, or .reshape(1)",
            )
        return len(self.data)

    def __bool__(self) -> bool:
        return bool(self._single("bool", "compare .data with .any() or .all()"))

    def __float__(self) -> float:
        return float(self._single("float", "take one by its index, or use .data"))

    def __int__(self) -> int:
        return int(self._single("int", "take one by its index, or use .data"))

    def __repr__(self):
        name, a = type(self).__name__.lower() + "(", self.data
        limits = np.get_printoptions()
        notes = []
        if a.size > limits["threshold"] or (a.size == 0 and a.shape != (0,)):
            notes.append(f"shape={a.shape}")
        if a.dtype != np.float64 and (a.dtype != bool or a.size == 0):
            notes.append(f"dtype={a.dtype}")
        if self.node is not None:
            op = self.node.op
            notes.append("requires_grad=True" if op is None else f"op={op.name}")
        body = np.array2string(a, separator=", ", prefix=name, suffix=",") if a.size else "[]"
        text, note = name + body, ", ".join(notes) + ")"
        if not notes:
            return text + note
        room = limits["linewidth"] - len(text) + text.rfind("\n") + 1
        return f"{text},{' ' if len(note) + 2 <= room else chr(10) + ' ' * len(name)}{note}"

    def __str__(self):
        return str(self.data)

    def __format__(self, spec: str) -> str:
        if not spec:
            return str(self)
        if self.size != 1:
            raise UsageError(
                f"format {spec!r}: of a tensor with several elements",
                f"expected one element, got shape {self.shape}",
                "format an element or a sum, or print within np.printoptions(precision=3)",
            )
        return format(self.item(), spec)
