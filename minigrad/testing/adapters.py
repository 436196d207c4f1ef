"""Other frameworks' functions in the form of a pair (forward, vjp).

So that all laws, with their reports, can be tried on what a person has written for PyTorch or JAX.
Neither is needed for anything else; they are imported when an adapter is called.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable

import numpy as np

from ..errors import UsageError
from .subject import Pair, name_of, origin_of


def from_torch(function: Callable, name: str | None = None) -> Pair:
    """A subclass of `torch.autograd.Function`, or any differentiable function of torch tensors.

    The arrays of an example go in as tensors that share their memory, the rest as it is; they are
    float32 or float64 as the example says. Results may be a tensor or a tuple of them. Raises
    `UsageError` for what cannot be called.

        from minigrad.testing import check_op, from_torch, strategies as mgst
        test_swish = check_op(from_torch(Swish), inputs=mgst.broadcastable(1))
    """
    import torch

    def call(args, params, leaves=False):
        tensors = [torch.from_numpy(_writable(a)) if _is_array(a) else a for a in args]
        if leaves:
            tensors = [t.requires_grad_() if _floats(t) else t for t in tensors]
        out = apply(*tensors, **params)
        return tensors, out

    def _floats(t):
        return isinstance(t, torch.Tensor) and t.dtype in (torch.float32, torch.float64)

    def forward(*args, **params):
        with torch.no_grad():
            _, out = call(args, params)
        return tuple([o.numpy() for o in out]) if isinstance(out, tuple) else out.numpy()

    def vjp(g, out, *args, **params):
        with torch.enable_grad():
            tensors, made = call(args, params, leaves=True)
        several = isinstance(made, tuple)
        outs, gs = (made, g) if several else ((made,), (g,))
        points = [t for t in tensors if _floats(t)]
        pairs = [
            (o, torch.from_numpy(_writable(c)))
            for o, c in zip(outs, gs, strict=True)
            if o.requires_grad
        ]
        if not pairs:
            return tuple([None] * len(points))
        found = torch.autograd.grad(
            [o for o, _ in pairs], points, [c for _, c in pairs], allow_unused=True
        )
        return tuple([None if d is None else d.numpy() for d in found])

    apply = (
        function.apply if isinstance(function, type) and hasattr(function, "apply") else function
    )
    signature = _signature(function)
    if isinstance(function, type) and hasattr(function, "forward"):
        signature = _signature(function.forward, first=1)  # without ctx
    return _pair("from_torch", function, forward, vjp, name, signature)


def from_jax(function: Callable, name: str | None = None) -> Pair:
    """A function of JAX arrays: one with a `custom_vjp`, or any other that `jax.vjp` takes.

    Needs JAX 0.8. Runs with 64 bits switched on; dtypes are those of the example.
    Results may be an array or a tuple of them. Raises `UsageError` for what cannot be called.

        from minigrad.testing import check_op, from_jax, strategies as mgst
        test_swish = check_op(from_jax(swish), inputs=mgst.broadcastable(1))
    """
    import jax

    wide = jax.enable_x64

    def arrays(args):
        return [jax.numpy.asarray(a) if _is_array(a) else a for a in args]

    def numpy(made):
        return tuple(map(np.asarray, made)) if isinstance(made, tuple | list) else np.asarray(made)

    def forward(*args, **params):
        with wide(True):
            return numpy(function(*arrays(args), **params))

    def vjp(g, out, *args, **params):
        places = [i for i, a in enumerate(args) if _is_array(a) and a.dtype.kind == "f"]

        def of_floats(*floats):
            whole = arrays(args)
            for i, x in zip(places, floats, strict=True):
                whole[i] = x
            made = function(*whole, **params)
            return tuple(made) if isinstance(made, list) else made

        with wide(True):
            _, pull = jax.vjp(of_floats, *arrays([args[i] for i in places]))
            g = tuple(arrays(g)) if isinstance(g, tuple) else jax.numpy.asarray(g)
            # Copies: what JAX computes cannot be written to, which is no fault of the function.
            return tuple([np.array(d) for d in pull(g)])

    return _pair("from_jax", function, forward, vjp, name, _signature(function))


def _signature(function, first: int = 0) -> inspect.Signature | None:
    """The signature of a function from argument `first` on, so that reports can name arguments."""
    try:
        found = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    return found.replace(parameters=list(found.parameters.values())[first:])


def _pair(what: str, function, forward, vjp, name, signature) -> Pair:
    if not callable(function):
        raise UsageError(
            f"{what}: what is to be checked",
            f"expected a function, got {type(function).__name__}",
            "pass the function itself, not what it returns",
        )
    if signature is not None:
        forward.__signature__ = signature
    named = name or name_of(function)
    origin = origin_of(function, "function")
    if origin is not None:
        origin = f"from minigrad.testing import {what}\n{origin}\nf = {what}(function)"
    return Pair(forward, vjp, named, origin)


def _is_array(a) -> bool:
    return isinstance(a, np.ndarray)


def _writable(a: np.ndarray) -> np.ndarray:
    """The array itself, or a copy where torch could not take it: read-only, strides below 1."""
    return a if a.flags.writeable and min(a.strides, default=1) > 0 else np.array(a, order="C")
