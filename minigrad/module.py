"""Named arrays that learn: `Parameter`, and `Module`, which holds and names them."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from . import tree
from .arguments import FLOATS, numbers
from .errors import DtypeError, StateDictError, UsageError
from .graph import Tensor, note_write

Seed = int | np.random.Generator | None
M = TypeVar("M", bound="Module")


def generator(rng: Seed) -> np.random.Generator:
    """The generator that a seed begins, or the one that was given; raises `UsageError`."""
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError):
        raise UsageError(
            "rng: where random numbers come from",
            f"expected a seed of 0 or above, or a numpy.random.Generator, got {rng!r}",
            "pass rng=0 for the same numbers in each run",
        ) from None


def check_sizes(owner: object, dtype, **sizes) -> None:
    """Raises `UsageError` for a size that is no whole number from 0, `DtypeError` for a dtype."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 0:
            raise UsageError(
                f"{type(owner).__name__}: {name}",
                f"expected a whole number from 0, got {size!r}",
                "pass the number of features, units or rows",
            )
    try:
        fits = np.dtype(dtype) in FLOATS
    except TypeError:
        fits = False
    if not fits:
        raise DtypeError(
            f"{type(owner).__name__}: dtype",
            f"expected float32 or float64, got {dtype!r}",
            "pass dtype=np.float32 or dtype=np.float64",
        )


class Parameter(Tensor):
    """A tensor that a module owns and an optimiser changes in place.

    >>> mg.nn.Parameter(np.zeros(2)).requires_grad
    True
    """

    __slots__ = ()

    def __init__(self, data):
        data = data.data if isinstance(data, Tensor) else data
        super().__init__(numbers("Parameter", data, copy=True), requires_grad=True)


class Module:
    """A part of a model. Attributes that are parameters, modules, or lists of modules belong to it.

    >>> class Scale(mg.nn.Module):
    ...     def __init__(self):
    ...         self.factor = mg.nn.Parameter(np.ones(3))
    ...     def __call__(self, x):
    ...         return x * self.factor
    >>> list(Scale().state_dict())
    ['factor']
    """

    training = True

    def __call__(self, *args, **kwargs):
        raise TypeError(f"{type(self).__name__} does not define __call__")

    def _children(self) -> Iterator[tuple[str, Parameter | Module]]:
        for name, value in vars(self).items():
            if isinstance(value, Parameter | Module):
                yield name, value
            elif isinstance(value, list | tuple):
                for i, item in enumerate(value):
                    if isinstance(item, Parameter | Module):
                        yield f"{name}.{i}", item

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Pairs of dotted name and parameter, in the order of definition; each parameter once."""
        seen: set[int] = set()
        for name, child in self._children():
            pairs = [(name, child)] if isinstance(child, Parameter) else [
                (f"{name}.{inner}", p) for inner, p in child.named_parameters()
            ]  # fmt: skip
            for full, p in pairs:
                if id(p) not in seen:
                    seen.add(id(p))
                    yield full, p

    def parameters(self) -> Iterator[Parameter]:
        """The parameters, in the order of definition."""
        for _, p in self.named_parameters():
            yield p

    def zero_grad(self) -> None:
        """Forgets the gradients: every `.grad` becomes None."""
        for p in self.parameters():
            p.grad = None

    def train(self, mode: bool = True) -> Module:
        """Sets the module and its parts to training (or, with False, evaluation) mode."""
        self.training = mode
        for _, child in self._children():
            if isinstance(child, Module):
                child.train(mode)
        return self

    def eval(self) -> Module:
        """Sets the module and its parts to evaluation mode."""
        return self.train(False)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters by name."""
        return {name: p.data.copy() for name, p in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes over parameters by name; checks all of them before it touches one.

        Arrays are converted to the dtype of the parameter. Raises `StateDictError` listing every
        name that is missing, unknown, or of another shape.
        """
        own = dict(self.named_parameters())
        arrays, wrong = as_arrays(f"load_state_dict: {type(self).__name__}", state)
        wrong += [f"{k} is missing" for k in own if k not in state]
        wrong += [f"{k} is unknown" for k in state if k not in own]
        wrong += [
            f"{k} has shape {arrays[k].shape} and not {p.shape}"
            for k, p in own.items()
            if k in arrays and arrays[k].shape != p.shape
        ]
        if wrong:
            raise StateDictError(
                f"load_state_dict: {type(self).__name__}",
                "expected the names and shapes of its parameters: " + "; ".join(wrong),
                "build the module with the sizes of the saved one; nothing was changed",
            )
        for k, p in own.items():
            p.data[...] = arrays[k]
            note_write(p)


def as_arrays(what: str, state: Mapping) -> tuple[dict[str, np.ndarray], list[str]]:
    """The arrays of a state dict by name, and what is wrong with the entries that are none."""
    if not isinstance(state, Mapping):
        raise StateDictError(
            what,
            f"expected a dict of arrays by name, got {type(state).__name__}",
            "pass what state_dict() gave, or what mg.io.load has read; nothing was changed",
        )
    arrays, wrong = {}, []
    for k, v in state.items():
        try:
            a = np.asarray(v.data if isinstance(v, Tensor) else v)
        except ValueError:
            wrong.append(f"{k} holds rows of different lengths")
            continue
        arrays[k] = a
        if a.dtype.kind not in "fiub":
            wrong.append(f"{k} holds {a.dtype}")
    return arrays, wrong


# --- a module as an argument of a transformation --------------------------------------------------


def _learning(module: Module) -> dict[str, Parameter]:
    """The parameters that learn, by name: what a module counts as among nested containers."""
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def with_tensors(module: M, tensors: dict[str, Tensor]) -> M:
    """A copy of a module and its parts in which `tensors` stand for the parameters that learn.

    Everything else is shared with the original.
    """
    done: dict[int, Any] = {}
    for name, p in _learning(module).items():
        done[id(p)] = stand_in = object.__new__(Parameter)
        stand_in.data, stand_in.source = tensors[name].data, tensors[name].source
    return _copied(module, done)


def _copied(x, done: dict[int, Any]) -> Any:
    """x itself, or a copy if there is something within that has a copy in `done`, by identity."""
    if id(x) in done:
        return done[id(x)]
    if isinstance(x, Module):
        done[id(x)] = new = object.__new__(type(x))
        vars(new).update({k: _copied(v, done) for k, v in vars(x).items()})
        return new
    if isinstance(x, types.MethodType) and isinstance(x.__self__, Module):
        return types.MethodType(x.__func__, _copied(x.__self__, done))
    if type(x) in (list, tuple, dict):
        leaves, form = tree.flatten(x, objects=False)
        copies = [_copied(leaf, done) for leaf in leaves]
        if any(a is not b for a, b in zip(leaves, copies, strict=True)):
            return form.build(copies)
    return x


tree.register(Module, _learning, with_tensors)
