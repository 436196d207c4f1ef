"""What is checked: a differentiable function of arrays, whatever it is made of.

A law sees a `Subject`: it calls it with arrays, and pulls cotangents back. Behind it stands a
minigrad function (`Traced`), a pair of plain functions (`Pair`), or another framework's function
brought into the form of a pair (`adapters.py`).
"""

from __future__ import annotations

import functools
import inspect
import sys
import sysconfig
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .. import tree
from ..arguments import FLOATS
from ..backward import gradients
from ..errors import UsageError
from ..expand import identity
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
    traced = False  # whether minigrad records it, so that there are second orders, modes, an engine

    @cached_property
    def origin(self) -> str | None:
        return None

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
        self._origin = origin

    @cached_property
    def origin(self):
        return self._origin or origin_of(self.function)

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
            # Something that uses the outputs, as a loss does: a graph does not end with them.
            outs = [identity(o) for o in self._call(args, params)]
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
        self._origin = origin

    @cached_property
    def origin(self):
        if self._origin is not None:
            return self._origin
        both = named(lambda value: "" if _is_pair(value, self.primal, self.vjp) else None, "f")
        if both is not None:
            return both
        first, second = origin_of(self.primal, "forward"), origin_of(self.vjp, "vjp")
        if not first or not second:
            return None
        # What both need, such as a line for the import path, once.
        return "\n".join(dict.fromkeys(f"{first}\n{second}\nf = forward, vjp".splitlines()))

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
    """Python that makes the function anew, as `name`, in another process; None if no name leads to
    it.

    >>> print(origin_of(np.tanh))
    import numpy as np
    f = np.tanh
    """
    if isinstance(function, Op):
        return f"from minigrad.graph import registry\n{name} = registry[{function.name!r}]"
    if isinstance(function, np.ufunc):
        return f"import numpy as np\n{name} = np.{function.__name__}"
    if isinstance(function, functools.partial):
        inner = origin_of(function.func, name)
        given = [*map(repr, function.args), *[f"{k}={v!r}" for k, v in function.keywords.items()]]
        made = f"from functools import partial\n{name} = partial({', '.join([name, *given])})"
        return inner and f"{inner}\n{made}"
    owner = getattr(function, "__self__", None)
    if owner is not None and not inspect.ismodule(owner):  # a bound method
        method = f".{function.__name__}"
        return named(lambda value: method if value is owner else None, name)
    # The name it was defined by, if that still leads to it (a decorator may have replaced it).
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    first, *rest = getattr(function, "__qualname__", "<").split(".")
    found = vars(module).get(first) if module else None
    for part in rest:
        found = inspect.getattr_static(found, part, None)
    if isinstance(found, staticmethod):
        found = found.__func__
    if found is function and module is not None:
        return _find(module, first, "".join(f".{part}" for part in rest), name)
    return named(lambda value: _part(value, function), name)


def _is_pair(value, first, second) -> bool:
    return type(value) is tuple and len(value) == 2 and value[0] is first and value[1] is second


def _part(value, function) -> str | None:
    """How a function is reached from a value of a module."""
    if value is function:
        return ""
    if type(value) in (tuple, list):
        for i, part in enumerate(value):
            if part is function:
                return f"[{i}]"
    if type(value) is dict:
        for key, part in value.items():
            if part is function and isinstance(key, str | int):
                return f"[{key!r}]"
    return None


def named(leads_to: Callable[[Any], str | None], name: str) -> str | None:
    """Python that finds something again by a name in a module that is loaded, and calls it `name`.

    leads_to: what has to follow the name of a value ("", ".info", "[0]"), None if it does not lead
    there.
    """
    for module in list(sys.modules.values()):
        # Looked at, never asked: a module may load others when it is asked for a name.
        for first, value in list(getattr(module, "__dict__", {}).items()):
            rest = leads_to(value)
            if rest is not None and (found := _find(module, first, rest, name)):
                return found
    return None


def _find(module: ModuleType, first: str, rest: str, name: str) -> str | None:
    """Python that imports a module, or runs its file, and takes a name out of it."""
    file = getattr(module, "__file__", None)
    if file is None:
        return None
    path, parts = Path(file).resolve(), module.__name__.split(".")
    packages = [sys.modules.get(".".join(parts[:i])) for i in range(1, len(parts))]
    if parts[0] != "__main__" and all(getattr(p, "__file__", None) for p in packages):
        root = path.parents[len(parts) - (path.name != "__init__.py")]
        line = f"from {module.__name__} import {first}\n{name} = {first}{rest}"
        if _always_importable(root):
            return line
        if packages:
            return f"import sys\nsys.path.insert(0, {str(root)!r})\n{line}"
    # A test file or a script: it may import what lies beside it, or where pytest looks.
    near = [p for p in dict.fromkeys(sys.path) if p and Path(p).resolve() in path.parents]
    line = f"import sys\nsys.path[:0] = {near!r}\n" if near else ""
    return f"{line}import runpy\n{name} = runpy.run_path({str(path)!r})[{first!r}]{rest}"


def _always_importable(folder: Path) -> bool:
    """Whether another process of this Python imports from the folder, too."""
    paths = sysconfig.get_paths()
    own = Path(__file__).resolve().parents[2]  # where minigrad lies
    return folder in {own, *[Path(paths[k]).resolve() for k in ("stdlib", "purelib", "platlib")]}
