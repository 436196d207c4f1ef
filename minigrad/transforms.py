"""Functional transformations, with JAX's names: `grad`, `value_and_grad`, `vjp`.

Arrays in, arrays out; with tensors among the arguments, tensors out that can be differentiated
again. So the transformations nest, to any order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .backward import gradients, identity
from .errors import GradientError
from .graph import Tensor, set_grad_enabled


def _entry(value) -> Tensor:
    """A fresh point to differentiate at.

    Inside another trace the argument enters through an identity node, so that the walk of this
    gradient ends there, and does not run on into the graph that produced the argument.
    """
    if isinstance(value, Tensor) and value.source is not None:
        with set_grad_enabled(True):
            return identity(value)
    data = value.data if isinstance(value, Tensor) else value
    return Tensor(np.asarray(data), requires_grad=True)


class _Depth(threading.local):
    traces = 0  # how many functions are being differentiated around this point


_depth = _Depth()


def _trace(function: Callable, args: Sequence, positions: Sequence[int], kwargs: dict):
    """(result, points, higher): `function` run on points that stand for args[positions].

    `higher` says that the gradient may be differentiated again: a tensor is among the arguments,
    or a function around this one is being differentiated, to whose variables it may refer.
    """
    values = list(args)
    higher = _depth.traces > 0 or any(isinstance(a, Tensor) for a in args)
    for i in positions:
        values[i] = _entry(args[i])
    _depth.traces += 1
    try:
        with set_grad_enabled(True):
            result = function(*values, **kwargs)
    finally:
        _depth.traces -= 1
    return result, [values[i] for i in positions], higher


def _plain(value, higher: bool):
    """Tensors stay tensors in an outer trace; otherwise the caller gets arrays."""
    if isinstance(value, tuple):
        return tuple(_plain(v, higher) for v in value)
    return value.data if isinstance(value, Tensor) and not higher else value


def value_and_grad(
    function: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable:
    """The function that returns `(f(*args), df/darg)`.

    `argnums` says for which positions (a number gives one gradient, a sequence a tuple of them).
    `function` returns a scalar, or `(scalar, anything)` with `has_aux`. Raises `GradientError` if
    the result has several elements or does not depend on an argument.

    >>> mg.value_and_grad(lambda x: (x * x).sum())(np.array([1.0, 2.0]))
    (array(5.), array([2., 4.]))
    """
    positions = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    def wrapped(*args, **kwargs):
        result, points, higher = _trace(function, args, positions, kwargs)
        value, aux = result if has_aux else (result, None)
        if not isinstance(value, Tensor) or value.source is None:
            raise GradientError(
                "grad: a result that depends on none of its arguments",
                f"expected a tensor computed from arguments {positions}, "
                f"got {type(value).__name__}",
                "compute with the arguments themselves; check for .detach() and no_grad()",
            )
        if value.size != 1:
            raise GradientError(
                "grad: of a result with several elements",
                f"expected one element, got shape {value.shape}",
                "sum it first, or use vjp, which takes a cotangent",
            )
        found = gradients([value], points, create_graph=higher)
        for i, g in zip(positions, found, strict=True):
            if g is None:
                raise GradientError(
                    f"grad: with respect to argument {i}",
                    "expected a result that depends on it; it does not",
                    "leave the argument out of argnums",
                )
        g = found[0] if isinstance(argnums, int) else tuple(found)
        value = _plain(value, higher)
        return ((value, _plain(aux, higher)), g) if has_aux else (value, g)

    return wrapped


def grad(function: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable:
    """The gradient of a scalar function, itself a function: `grad(f)(x) = df/dx`.

    Nests to any order. Arguments and errors as in `value_and_grad`. To differentiate a gradient by
    something else than its argument, a model's parameters for instance, pass the argument as a
    tensor: the result is then a tensor with its graph.

    Source: Goodfellow et al., Deep Learning, section 6.5.

    >>> cube = lambda x: x * x * x
    >>> float(mg.grad(mg.grad(cube))(2.0))
    12.0
    """
    both = value_and_grad(function, argnums, has_aux)

    def wrapped(*args, **kwargs):
        value, g = both(*args, **kwargs)
        return (g, value[1]) if has_aux else g

    return wrapped


def vjp(function: Callable, *args: Any) -> tuple[Any, Callable]:
    """`(f(*args), pull)`, where `pull(g)` gives g^T (df/darg) for every argument, as a tuple.

    The result may be a tensor or a tuple of them; `g` has the same form. An argument that the
    result does not depend on gets zeros. `pull` may be called any number of times.

    >>> y, pull = mg.vjp(lambda x: x * x, np.array([1.0, 2.0]))
    >>> pull(np.array([1.0, 10.0]))
    (array([ 2., 40.]),)
    """
    result, points, higher = _trace(function, args, range(len(args)), {})
    outputs = result if isinstance(result, tuple) else (result,)
    if not all(isinstance(o, Tensor) for o in outputs):
        raise GradientError(
            "vjp: the result of the function",
            f"expected a tensor or a tuple of them, got {[type(o).__name__ for o in outputs]}",
            "compute with the arguments themselves; check for .detach() and .numpy()",
        )

    def pull(g):
        if isinstance(g, tuple) != isinstance(result, tuple) or (
            isinstance(g, tuple) and len(g) != len(outputs)
        ):
            raise GradientError(
                "vjp: the cotangent",
                f"expected the form of the result, {len(outputs)} part(s), got "
                f"{len(g) if isinstance(g, tuple) else 'one array'}",
                "give a tuple where the function returns one, an array where it returns one",
            )
        cotangents = g if isinstance(g, tuple) else (g,)
        again = higher or any(isinstance(c, Tensor) and c.source is not None for c in cotangents)
        found = gradients(outputs, points, cotangents, create_graph=again)
        return tuple(
            z if z is not None else _plain(Tensor(np.zeros(p.shape, p.dtype)), again)
            for z, p in zip(found, points, strict=True)
        )

    return _plain(result, higher), pull
