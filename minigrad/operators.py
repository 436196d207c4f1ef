"""The one table that gives `Tensor` its operators, its methods, and NumPy's protocols.

A method or a NumPy function is the op of the same name; what stands here is only what differs.
"""

from __future__ import annotations

import difflib
import inspect
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from . import ops
from .backward import backward
from .errors import DtypeError, GradientError, MinigradError, UsageError
from .graph import Op, Tensor
from .hooks import register_hook
from .listing import graph

# --- operators -----------------------------------------------------------------------------------


def _reflected(op: Any) -> Callable:
    call = op.__call__  # a bound method is quicker to call than an object
    return lambda x, y: call(y, x)


def _operator(op: Any) -> Callable:
    call = op.__call__
    return lambda x, y: call(x, y)


def _power(x, y):
    """The power; an exponent that is a 0-d array counts as the number that it holds."""
    return ops.power(x, y.item() if isinstance(y, np.ndarray) and y.ndim == 0 else y)


def _clip(x, a_min=None, a_max=None, *, min=None, max=None):
    """NumPy's clip, which has two names for each bound."""
    return ops.clip(x, min if a_min is None else a_min, max if a_max is None else a_max)


_BINARY: dict[str, Callable] = {
    "add": ops.add, "sub": ops.subtract, "mul": ops.multiply, "truediv": ops.divide,
    "floordiv": ops.floor_divide, "mod": ops.remainder, "pow": _power, "matmul": ops.matmul,
}  # fmt: skip
_COMPARISON: dict[str, Callable] = {
    "gt": ops.greater, "ge": ops.greater_equal, "lt": ops.less, "le": ops.less_equal,
    "eq": ops.equal, "ne": ops.not_equal,
}  # fmt: skip


def _of_booleans(sign: str, op: Any) -> Callable:
    """The operator of logic for booleans; of numbers it would mean their bits."""

    def call(*args):
        for x in args:
            kind = np.asarray(x.data if isinstance(x, Tensor) else x).dtype
            if kind.kind != "b":
                raise DtypeError(
                    f"operator {sign}: of what is not boolean",
                    f"expected booleans, got {kind}",
                    f"compare first, or use mg.{op.name}, which asks whether numbers are 0",
                )
        return op(*args)

    return call


_LOGIC = {
    "and": _of_booleans("&", ops.logical_and),
    "or": _of_booleans("|", ops.logical_or),
    "xor": _of_booleans("^", ops.logical_xor),
}


def _set_item(x, index, value):
    raise UsageError(
        "tensor[...] = value: a tensor is never written into",
        "expected an expression for the whole of it: a graph needs the values before",
        "use mg.where(condition, value, x), or build it with mg.concatenate or mg.stack",
    )


def _deep_copy(x: Tensor, memo: dict) -> Tensor:
    """A leaf or a constant with an array of its own, without its gradient."""
    if not x.is_leaf:
        raise GradientError(
            "deepcopy: of a computed tensor",
            f"expected a leaf or a constant, got the output of {x.node.op.name}",  # type: ignore[union-attr]
            "copy x.detach(), or compute it again from copies of the leaves",
        )
    new: Tensor = object.__new__(type(x))
    new.data, new.source = x.data.copy(), None
    new.requires_grad = x.requires_grad
    memo[id(x)] = new
    return new


def _index(x: Tensor) -> int:
    """A whole number for `range` and for indices of lists."""
    return operator.index(x.data.item() if x.size == 1 else x.data)


# --- methods -------------------------------------------------------------------------------------

# Methods of arrays that are functions of the same name, the tensor first.
_METHODS = [
    "all", "any", "argmax", "argmin", "astype", "clip", "cumprod", "cumsum", "diagonal", "dot",
    "max", "mean", "min", "prod", "ravel", "repeat", "round", "squeeze", "std", "sum", "swapaxes",
    "take", "trace", "var",
]  # fmt: skip


def _method(function: Callable) -> Callable:
    """An op is not bound to a tensor, as a function is."""
    return (
        (lambda x, *args, **kw: function(x, *args, **kw)) if isinstance(function, Op) else function
    )


def _numbers(shape: tuple) -> tuple:
    """The arguments of `x.reshape(2, 3)`, or of `x.reshape((2, 3))`."""
    return tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], tuple | list) else shape


def _transposed(x: Tensor, *axes) -> Tensor:
    """The tensor with its axes in another order; reversed if none is given."""
    return ops.transpose(x, axes=_numbers(axes) if axes and axes[0] is not None else None)


# --- NumPy's protocols: np.tanh(t) works where an op exists, anything else raises ----------------

_NUMPY: dict[Any, Callable] = {
    getattr(np, name): getattr(ops, name) for name in ops.__all__ if hasattr(np, name)
} | {
    np.power: _power,
    np.clip: _clip,
    np.bitwise_and: _LOGIC["and"],
    np.bitwise_or: _LOGIC["or"],
    np.bitwise_xor: _LOGIC["xor"],
    np.invert: _of_booleans("~", ops.logical_not),
    np.linalg.norm: ops.norm,
    np.split: lambda ary, indices_or_sections, axis=0: ops.split(ary, indices_or_sections, axis),
    np.array_split: lambda ary, indices_or_sections, axis=0: ops.array_split(
        ary, indices_or_sections, axis
    ),
    np.shape: lambda a: a.shape,
    np.ndim: lambda a: a.ndim,
    np.size: lambda a: a.size,
}

_INSTEAD = {
    np.asarray: ".detach().numpy()",
    np.nansum: "where(isnan(x), 0, x).sum()",
    np.nanmean: "the sum of where(isnan(x), 0, x) over the number of others",
    np.median: "a sort by argsort, and take_along_axis",
    np.linalg.det: "a product of eigenvalues or pivots computed with your own ops",
    np.linalg.inv: "an Op of your own, whose rule is -inv^T g inv^T",
    np.linalg.solve: "an Op of your own, whose rule solves with the transposed matrix",
    np.convolve: "a product with stacked, shifted slices",
}


def _refuse(function) -> GradientError:
    names = [name for name in ops.__all__ if len(name) > 2]
    near = [f"mg.{name}" for name in difflib.get_close_matches(function.__name__, names, 2, 0.7)]
    instead = _INSTEAD.get(function) or " or ".join(near) or "the ops of minigrad"
    return GradientError(
        f"numpy.{function.__name__}: of a tensor",
        "expected a function with a gradient rule here, got one without",
        f"build it from {instead}, or use .detach().numpy() if no gradient is wanted",
    )


def _array_ufunc(self, ufunc, method, *inputs, **kwargs):
    function = _NUMPY.get(ufunc)
    if function is None:
        raise _refuse(ufunc)
    if method != "__call__" or kwargs:
        raise GradientError(
            f"numpy.{ufunc.__name__}: of a tensor, in another form than a plain call",
            f"expected arguments alone, got {', '.join(kwargs) or method}",
            "use the result as a new tensor, or .detach().numpy() if no gradient is wanted",
        )
    return function(*inputs)


def _array_function(self, function, types, args, kwargs):
    own = _NUMPY.get(function)
    if own is None:
        raise _refuse(function)
    if isinstance(own, Op):
        args, kwargs = args, dict(kwargs)
        known = inspect.signature(own.forward).parameters
    else:
        known = inspect.signature(own).parameters
        args, kwargs = _by_name(function, args, kwargs, known)
    for name in kwargs:
        if name not in known:
            raise UsageError(
                f"numpy.{function.__name__}: of a tensor, with {name}=",
                f"expected arguments among: {', '.join(known)}",
                f"leave {name} out; a tensor keeps its dtype and is never written into",
            )
    return own(*args, **kwargs)


def _by_name(function, args, kwargs, known) -> tuple[tuple, dict]:
    """Arguments in NumPy's order, which has more of them than ours, by name.

    The arrays in front, which have other names here, stay where they are; what equals NumPy's
    default is left out.
    """
    try:
        parameters = inspect.signature(function).parameters
        bound = inspect.signature(function).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):  # a function of C, or names that only ours has
        return args, kwargs
    front: list[Any] = []
    named: dict[str, Any] = {}
    for name, value in bound.items():
        default = parameters[name].default
        if parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            named |= value
        elif parameters[name].kind is inspect.Parameter.VAR_POSITIONAL:
            front += value
        elif name not in known and not named and default is inspect.Parameter.empty:
            front.append(value)
        elif name in known or not (value is default or value is None):
            named[name] = value
    return tuple(front), named


def _array(self, dtype=None, copy=None):
    if self.source is not None:
        raise GradientError(
            "numpy: a tensor that needs a gradient turned into an array",
            "expected a constant; the gradient would be lost",
            "use .detach().numpy()",
        )
    return np.array(self.data, dtype=dtype, copy=copy)


def _dlpack(self, **kwargs):
    """The array for another library, without a copy (https://dmlc.github.io/dlpack)."""
    return self.numpy().__dlpack__(**kwargs)


def from_dlpack(array) -> Tensor:
    """The array of another library as a constant, without a copy where that can be.

    `array` is anything that offers `__dlpack__`: an array of NumPy, PyTorch, JAX on the CPU.
    Raises `DtypeError` for dtypes other than floats and integers.

    >>> a = np.ones(2)
    >>> t = mg.from_dlpack(a)
    >>> a[0] = 5.0
    >>> t
    tensor([5., 1.])
    """
    if not hasattr(array, "__dlpack__"):
        raise UsageError(
            "from_dlpack: the array",
            f"expected one that offers __dlpack__, got {type(array).__name__}",
            "use mg.tensor, which copies",
        )
    try:
        return Tensor(np.from_dlpack(array))
    except (BufferError, RuntimeError, TypeError) as error:
        if isinstance(error, MinigradError):
            raise
        raise DtypeError(
            "from_dlpack: the array",
            f"expected floats or integers in the memory of the CPU, got: {error}",
            "convert it, or move it to the CPU, in the library that it comes from",
        ) from None


# --- the table -----------------------------------------------------------------------------------

TABLE: dict[str, Any] = {
    **{f"__{name}__": _operator(op) for name, op in (_BINARY | _COMPARISON | _LOGIC).items()},
    **{f"__r{name}__": _reflected(op) for name, op in (_BINARY | _LOGIC).items()},
    "__neg__": lambda x: ops.negative(x),
    "__pos__": lambda x: x,
    "__abs__": lambda x: ops.absolute(x),
    "__invert__": _of_booleans("~", ops.logical_not),
    "__setitem__": _set_item,
    "__deepcopy__": _deep_copy,
    "__index__": _index,
    "__round__": lambda x, ndigits=None: ops.round(x, ndigits or 0),
    "__hash__": object.__hash__,  # == is elementwise, so a tensor is found by identity
    "__getitem__": lambda x, index: ops.getitem(x, index),
    "__iter__": lambda x: iter(ops.unstack(x)),
    **{name: _method(getattr(ops, name)) for name in _METHODS},
    "reshape": lambda x, *shape: ops.reshape(x, _numbers(shape)),
    "transpose": _transposed,
    "flatten": lambda x: ops.ravel(x),
    "T": property(lambda x: ops.transpose(x)),
    "backward": backward,
    "graph": graph,
    "register_hook": register_hook,
    "__array_ufunc__": _array_ufunc,
    "__array_function__": _array_function,
    "__array__": _array,
    "__dlpack__": _dlpack,
    "__dlpack_device__": lambda x: x.data.__dlpack_device__(),
}

for _name, _function in TABLE.items():
    setattr(Tensor, _name, _function)
