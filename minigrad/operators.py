"""The one table that gives `Tensor` its operators, methods, and NumPy protocols."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from . import ops
from .backward import backward
from .errors import GradientError
from .graph import Tensor


def _power(x, exponent):
    if isinstance(exponent, np.generic | np.ndarray) and exponent.ndim == 0:
        exponent = exponent.item()  # as a Python number, which keeps the dtype of x
    return ops.power(x, exponent)


def _shape_arguments(shape: tuple) -> tuple:
    return tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape


def _index(index):
    """Tensors of integers inside an index count as arrays."""
    if isinstance(index, tuple):
        return tuple(_index(i) for i in index)
    if isinstance(index, list):
        return np.asarray(index, dtype=None if index else np.int64)
    index = index.data if isinstance(index, Tensor) else index
    # A copy: the caller may change his array before the backward pass.
    return index.copy() if isinstance(index, np.ndarray) else index


def _reflected(op: Callable) -> Callable:
    return lambda x, y: op(y, x)


_METHODS: dict[str, Callable] = {
    "__add__": lambda x, y: ops.add(x, y),
    "__radd__": _reflected(ops.add),
    "__sub__": lambda x, y: ops.subtract(x, y),
    "__rsub__": _reflected(ops.subtract),
    "__mul__": lambda x, y: ops.multiply(x, y),
    "__rmul__": _reflected(ops.multiply),
    "__truediv__": lambda x, y: ops.divide(x, y),
    "__rtruediv__": _reflected(ops.divide),
    "__matmul__": lambda x, y: ops.matmul(x, y),
    "__rmatmul__": _reflected(ops.matmul),
    "__pow__": _power,
    "__neg__": lambda x: ops.negative(x),
    "__abs__": lambda x: ops.absolute(x),
    "__getitem__": lambda x, index: ops.getitem(x, index=_index(index)),
    "__iter__": lambda x: iter(ops.unstack(x)),
    "__gt__": lambda x, y: ops.greater(x, y),
    "__ge__": lambda x, y: ops.greater_equal(x, y),
    "__lt__": lambda x, y: ops.less(x, y),
    "__le__": lambda x, y: ops.less_equal(x, y),
    "__eq__": lambda x, y: ops.equal(x, y),
    "__ne__": lambda x, y: ops.not_equal(x, y),
    "__hash__": object.__hash__,  # == is elementwise, so a tensor is found by identity
    "sum": lambda x, axis=None, keepdims=False: ops.sum(x, axis=axis, keepdims=keepdims),
    "mean": lambda x, axis=None, keepdims=False: ops.mean(x, axis=axis, keepdims=keepdims),
    "max": lambda x, axis=None, keepdims=False: ops.max(x, axis=axis, keepdims=keepdims),
    "min": lambda x, axis=None, keepdims=False: ops.min(x, axis=axis, keepdims=keepdims),
    "reshape": lambda x, *shape: ops.reshape(x, shape=_shape_arguments(shape)),
    "transpose": lambda x, *axes: ops.transpose(
        x, axes=_shape_arguments(axes) if axes and axes[0] is not None else None
    ),
    "astype": lambda x, dtype: ops.astype(x, dtype=np.dtype(dtype)),
    "backward": backward,
}

for _name, _method in _METHODS.items():
    setattr(Tensor, _name, _method)
Tensor.T = property(lambda x: ops.transpose(x))  # type: ignore[attr-defined]


# --- NumPy's protocols: np.tanh(t) works where an op exists, anything else raises -----------------

_NUMPY: dict[Any, Callable] = {
    np.add: ops.add,
    np.subtract: ops.subtract,
    np.multiply: ops.multiply,
    np.divide: ops.divide,
    np.matmul: ops.matmul,
    np.negative: ops.negative,
    np.absolute: ops.absolute,
    np.exp: ops.exp,
    np.log: ops.log,
    np.sqrt: ops.sqrt,
    np.tanh: ops.tanh,
    np.maximum: ops.maximum,
    np.minimum: ops.minimum,
    np.power: _power,
    np.square: lambda x: ops.multiply(x, x),
    np.greater: ops.greater,
    np.greater_equal: ops.greater_equal,
    np.less: ops.less,
    np.less_equal: ops.less_equal,
    np.equal: ops.equal,
    np.not_equal: ops.not_equal,
    np.sum: lambda x, axis=None, keepdims=False: ops.sum(x, axis=axis, keepdims=keepdims),
    np.mean: ops.mean,
    np.max: lambda x, axis=None, keepdims=False: ops.max(x, axis=axis, keepdims=keepdims),
    np.min: lambda x, axis=None, keepdims=False: ops.min(x, axis=axis, keepdims=keepdims),
    np.reshape: lambda x, shape: ops.reshape(x, shape=shape),
    np.transpose: lambda x, axes=None: ops.transpose(x, axes=axes),
    np.moveaxis: ops.moveaxis,
    np.swapaxes: ops.swapaxes,
    np.expand_dims: ops.expand_dims,
    np.squeeze: ops.squeeze,
    np.concatenate: ops.concatenate,
    np.stack: ops.stack,
    np.where: ops.where,
    np.shape: lambda x: x.shape,
    np.ndim: lambda x: x.ndim,
    np.size: lambda x: x.size,
    np.broadcast_to: lambda x, shape: ops.broadcast_to(x, shape=shape),
}


def _refuse(function) -> GradientError:
    return GradientError(
        f"numpy.{function.__name__}: of a tensor",
        "expected a function with a gradient rule here, got one without",
        "use .detach().numpy() if no gradient is wanted, or build it from the ops of minigrad",
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
    if function not in _NUMPY:
        raise _refuse(function)
    return _NUMPY[function](*args, **kwargs)


def _array(self, dtype=None, copy=None):
    if self.source is not None:
        raise GradientError(
            "numpy: a tensor that needs a gradient turned into an array",
            "expected a constant; the gradient would be lost",
            "use .detach().numpy()",
        )
    return np.array(self.data, dtype=dtype, copy=copy)


Tensor.__array_ufunc__ = _array_ufunc  # type: ignore[attr-defined]
Tensor.__array_function__ = _array_function  # type: ignore[attr-defined]
Tensor.__array__ = _array  # type: ignore[attr-defined]
