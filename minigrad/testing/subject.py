"""What is checked: a differentiable function of arrays, whatever it is made of.

A law sees a `Subject`: it calls it with arrays, and pulls cotangents back. Behind it stands a
minigrad function (`Traced`), a pair of plain functions (`Pair`), or another framework's function
brought into the form of a pair (`adapters.py`).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .. import tree
from ..arguments import FLOATS
from ..backward import gradients
from ..errors import UsageError
from ..graph import Leaf, Op, Tensor, no_grad, set_grad_enabled

Pull = Callable[..., list]  # cotangents (arrays or None) -> gradients (arrays or None)


def is_float(x) -> bool:
    """Whether x is an array that may have a gradient."""
    return isinstance(x, np.ndarray) and x.dtype in FLOATS


class Subject:
    """A differentiable function of arrays.

    name: what reports call it. origin: lines of Python that make it anew under the name `f`, for
    the snippet of a report; None where that cannot be said.
    """

    name: str
    origin: str | None = None
    traced = False  # whether minigrad records it, so that there are second orders, modes, an engine

    def forward(self, args: Sequence, params: dict) -> tuple[np.ndarray, ...]:
        """The outputs, with nothing recorded; takes complex arrays if the function can."""
        raise NotImplementedError

    def linearise(self, args: Sequence, params: dict, wrt: Sequence[int]) -> tuple[tuple, Pull]:
        """`(outputs, pull)`: pull takes a cotangent (or None) for each output, and gives a gradient
        (None: there is none) for each argument in `wrt`. It may be called any number of times."""
        raise NotImplementedError

    def gradient(self, outputs: int, wrt: Sequence[int]) -> Subject | None:
        """The function (*args, *cotangents) -> gradients of the arguments in `wrt`, itself
        differentiable; None where there is no second order. Every output has a cotangent."""
        return None


class Traced(Subject):
    """A minigrad function: of tensors, returning a tensor or nested containers of them."""

    traced = True

    def __init__(self, function: Callable, name: str | None = None, origin: str | None = None):
        self.function = function
        self.name = name or name_of(function)
        self.origin = origin or origin_of(function)

    def _tensors(self, args, wrt) -> list:
        return [
            Tensor(a, requires_grad=True) if i in wrt
            # At any dtype: of complex arrays `Tensor(...)` would complain.
            else Tensor.at(a, None) if isinstance(a, np.ndarray) and a.dtype.kind in "fc" else a
            for i, a in enumerate(args)
        ]  # fmt: skip

    def _call(self, tensors, params) -> tuple[Tensor, ...]:
        leaves, _ = tree.flatten(self.function(*tensors, **params), objects=False)
        return tuple(
            [x if isinstance(x, Tensor) else Tensor.at(np.asarray(x), None) for x in leaves]
        )

    def forward(self, args, params):
        if any(isinstance(a, np.ndarray) and a.dtype.kind == "c" for a in args):
            # One dtype rules a call: for a complex step along one argument all become complex.
            args = [a.astype(np.complex128) if is_float(a) else a for a in args]
        with no_grad():
            return tuple([t.data for t in self._call(self._tensors(args, ()), params)])

    def linearise(self, args, params, wrt):
        with set_grad_enabled(True):
            tensors = self._tensors(args, wrt)
            outs = self._call(tensors, params)
        points = [tensors[i] for i in wrt]

        def pull(*cotangents):
            pairs = [
                (o, g)
                for o, g in zip(outs, cotangents, strict=True)
                if g is not None and o.requires_grad
            ]
            if not pairs:
                return [None] * len(points)
            return list(gradients([o for o, _ in pairs], points, [g for _, g in pairs]))

        return tuple([o.data for o in outs]), pull

    def gradient(self, outputs, wrt):
        return Traced(
            lambda *args, **params: self._slopes(args, params, outputs, wrt),
            f"the gradient of {self.name}",
            "# the gradient of the function above",
        )

    def _slopes(self, args, params, outputs: int, wrt):
        args, cotangents = list(args[: len(args) - outputs]), args[len(args) - outputs :]
        with set_grad_enabled(True):
            for i in wrt:  # complex or constant: a point of its own all the same
                if args[i].source is None:
                    args[i] = _point(args[i].data)
            outs = self._call(args, params)
            pairs = [(o, g) for o, g in zip(outs, cotangents, strict=True) if o.requires_grad]
            if not pairs:
                return [np.zeros(args[i].shape, args[i].dtype) for i in wrt]
            found = gradients(
                [o for o, _ in pairs], [args[i] for i in wrt], [g for _, g in pairs], True
            )
        return [
            np.zeros(args[i].shape, args[i].dtype) if g is None else g
            for i, g in zip(wrt, found, strict=True)
        ]


def _point(data: np.ndarray) -> Tensor:
    """A tensor to differentiate at, complex or not."""
    return Tensor.of(data, Leaf())


class Pair(Subject):
    """A pair of plain functions of arrays: `forward(*arrays, **params) -> out`, and
    `vjp(g, out, *arrays, **params)`, which gives a tuple with a gradient for each array argument.

    `g` and `out` are tuples exactly if there are several outputs; a missing cotangent comes as
    zeros.
    """

    def __init__(
        self, forward: Callable, vjp: Callable, name: str | None = None, origin: str | None = None
    ):
        self.primal, self.vjp = forward, vjp
        self.name = name or name_of(forward)
        if origin is None:
            first, second = origin_of(forward, "forward"), origin_of(vjp, "vjp")
            origin = f"{first}\n{second}\nf = forward, vjp" if first and second else None
        self.origin = origin

    def forward(self, args, params):
        return _outs(self.primal(*args, **params))[0]

    def linearise(self, args, params, wrt):
        made = self.primal(*args, **params)
        outs, several = _outs(made)

        def pull(*cotangents):
            gs = tuple(
                [
                    np.zeros_like(o) if g is None else g
                    for o, g in zip(outs, cotangents, strict=True)
                ]
            )
            found = self.vjp(gs if several else gs[0], made, *args, **params)
            if not isinstance(found, tuple | list) or len(found) < len(wrt):
                got = f"{len(found)} of them" if isinstance(found, tuple | list) else type(found)
                raise UsageError(
                    f"{self.name}: what vjp returns",
                    f"expected a tuple of {len(wrt)} gradients, got {got}",
                    "return a gradient for each array argument, in their order; None for none",
                )
            positions = [i for i, a in enumerate(args) if isinstance(a, np.ndarray)]
            by = dict(enumerate(found)) if len(found) == len(args) else dict(zip(positions, found))  # noqa: B905
            return [by[i] for i in wrt]

        return outs, pull


def _outs(made) -> tuple[tuple, bool]:
    several = isinstance(made, tuple | list)
    return (tuple(made), True) if several else ((made,), False)


def subject_of(f: Any, name: str | None = None, origin: str | None = None) -> Subject:
    """The subject that a user's `f` is: a function, an op, a pair, or a subject already."""
    if isinstance(f, Subject):
        return f
    if isinstance(f, tuple) and len(f) == 2 and all(callable(part) for part in f):
        return Pair(*f, name=name, origin=origin)
    if callable(f):
        return Traced(f, name, origin)
    raise UsageError(
        "what is to be checked",
        f"expected a function, an op, or a pair (forward, vjp), got {type(f).__name__}",
        "pass the function itself, not what it returns",
    )


# --- names, and code that finds a function again -------------------------------------------------


def name_of(function: Callable) -> str:
    """What to call a function in a report."""
    if isinstance(function, Op):
        return function.name
    return getattr(function, "__name__", type(function).__name__)


def origin_of(function: Callable, name: str = "f") -> str | None:
    """Python that makes the function anew, as `name`, in another process."""
    if isinstance(function, Op):
        return f"from minigrad.graph import registry\n{name} = registry[{function.name!r}]"
    qualified, module = getattr(function, "__qualname__", "<"), getattr(function, "__module__", "")
    if "<" in qualified or not module:
        return None
    if module.split(".")[0] == "minigrad":
        return f"from {module} import {qualified.split('.')[0]}\n{name} = {qualified}"
    try:
        path = Path(inspect.getfile(function)).resolve()
    except TypeError:
        return None
    return f"import runpy\n{name} = runpy.run_path({str(path)!r})[{qualified!r}]"
