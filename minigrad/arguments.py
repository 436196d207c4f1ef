"""Arguments of ops as arrays of one dtype, and the complaint where that cannot be.

Nothing here knows tensors: `graph.py` puts their arrays in their place first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .errors import DtypeError, ShapeError

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def numbers(what: str, data, dtype=None, copy: bool | None = None) -> np.ndarray:
    """`data` as an array of a supported dtype; `what` names it where that cannot be."""
    try:
        a = np.array(data, dtype=dtype, copy=copy)
    except (ValueError, TypeError, OverflowError) as error:
        raise DtypeError(
            f"{what}: what cannot be an array of numbers",
            f"expected numbers, as many in each row, got: {error}",
            "make all rows equally long, and check the dtype",
        ) from None
    if a.dtype in FLOATS or a.dtype.kind in "iub":
        return a
    raise DtypeError(
        f"{what}: a dtype minigrad does not compute with",
        f"expected float32, float64 or integers, got {a.dtype}",
        "convert with .astype(np.float32) or .astype(np.float64)",
    )


def of_one_dtype(op: str, args: Sequence, free: Sequence[bool]) -> list:
    """Arrays, lists and numbers as what an op is called with, beside a tensor.

    One float dtype rules a call: two of them raise, integer arrays are converted, and Python
    numbers (and `np.float64` scalars, which are Python floats) adapt as in NumPy. Arguments that
    are `free` say what to do with the others, as the condition of `where` does.
    """
    values: list[Any] = []
    dtype = None
    for i, value in enumerate(args):
        if isinstance(value, np.floating):
            value = float(value) if isinstance(value, float) else np.asarray(value)
        elif dtype is None and getattr(getattr(value, "dtype", None), "kind", "") == "c":
            value = np.asarray(value)  # of tensors, of which a complex step is made
        elif not isinstance(value, float | int):
            value = numbers(f"{op}, argument {i}", value)
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not free[i]:
            if dtype is None:
                dtype = value.dtype
            elif value.dtype != dtype:
                raise DtypeError(
                    f"{op}: argument {i}",
                    f"expected {dtype} like the arguments before it, got {value.dtype}",
                    f"convert one side, for example with .astype(np.{dtype})",
                )
        values.append(value)
    if dtype is not None:
        for i, value in enumerate(values):
            if isinstance(value, np.ndarray) and value.dtype.kind in "iu":
                values[i] = value.astype(dtype)
    return values


def misfit(op: str, values: Sequence, error: Exception) -> Exception:
    """The complaint of NumPy or of Python about the arguments, in three lines."""
    if isinstance(error, TypeError):
        kinds = ", ".join(str(getattr(v, "dtype", type(v).__name__)) for v in values)
        return DtypeError(
            f"{op}: arguments that it does not take",
            f"got {kinds}: {error}",
            "check how many there are, their names and their dtypes",
        )
    shapes = ", ".join(str(np.shape(v)) for v in values)
    return ShapeError(
        f"{op}: arguments that do not fit together",
        f"got shapes {shapes}: {error}",
        "check the shapes; reshape or transpose one side",
    )
