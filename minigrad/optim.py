"""Optimisers: change parameters in place from their gradients.

An optimiser's state is a dict of arrays, so that it can be saved beside the model's and training
resumed to the bit.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from numbers import Real
from typing import Any

import numpy as np

from .arguments import FLOATS
from .errors import (
    GradientError,
    GradientWarning,
    ShapeError,
    StateDictError,
    UsageError,
    three_lines,
)
from .graph import Leaf, Tensor, note_write
from .module import as_arrays

Parameters = Iterable[Tensor] | Iterable[tuple[str, Tensor]]  # as from named_parameters()


class Optimizer:
    """What all optimisers share: the parameters, the learning rate `lr`, and the state.

    `parameters` are tensors or, for messages that call them by name, pairs as
    `model.named_parameters()` gives them. Raises `UsageError` for what cannot be learned.

    One of your own defines `_update(i, p, g)`, which changes the array p of parameter i in place.

    >>> class SignDescent(mg.optim.Optimizer):
    ...     def _update(self, i, p, g):
    ...         p -= self.lr * np.sign(g)
    >>> p = mg.nn.Parameter(np.array([1.0]))
    >>> (p * p).sum().backward()
    >>> SignDescent([p], lr=0.25).step()
    >>> p.data
    array([0.75])
    """

    def __init__(self, parameters: Parameters, lr: float):
        self.parameters: list[Tensor] = []
        self.names: list[str] = []
        for name, p in self._named(parameters):
            self.names.append(name)
            self.parameters.append(p)
        if not self.parameters:
            raise UsageError(
                f"{type(self).__name__}: parameters",
                "expected at least one, got none",
                "pass model.parameters(); a generator can be used up only once",
            )
        if len({id(p) for p in self.parameters}) < len(self.parameters):
            raise UsageError(
                f"{type(self).__name__}: parameters",
                "expected each of them once, got one twice",
                "pass model.parameters(), which names a shared parameter once",
            )
        self.lr = self._number("lr", lr, lambda x: x > 0, "> 0", "try 1e-3")
        self.steps = 0
        self._accumulating = self._warned = False

    def _named(self, parameters: Any) -> Iterator[tuple[str, Tensor]]:
        if isinstance(parameters, Tensor | np.ndarray) or not isinstance(parameters, Iterable):
            raise UsageError(
                f"{type(self).__name__}: parameters",
                f"expected several, got one {type(parameters).__name__}",
                "pass model.parameters(), or a list of tensors",
            )
        for i, given in enumerate(parameters):
            pair = isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], str)
            p = given[1] if pair else given
            if not isinstance(p, Tensor) or not p.is_leaf or p.dtype not in FLOATS:
                got = type(p).__name__
                if isinstance(p, Tensor):
                    got = f"one of {p.dtype}" if p.is_leaf else f"the output of {p.node.op.name}"  # type: ignore[union-attr]
                raise UsageError(
                    f"{type(self).__name__}: parameter {i}",
                    f"expected a leaf tensor of float32 or float64, got {got}",
                    "pass model.parameters(), or tensors made with requires_grad=True",
                )
            yield given[0] if pair else f"parameter {i} {p.shape}", p

    def _number(self, name: str, value, fits, expected: str, remedy: str):
        """A setting checked: a finite number in its range."""
        if not isinstance(value, Real) or not math.isfinite(value) or not fits(value):
            raise UsageError(
                f"{type(self).__name__}: {name}", f"expected {expected}, got {value!r}", remedy
            )
        return value

    def zero_grad(self) -> None:
        """Forgets the gradients: every `.grad` becomes None."""
        for p in self.parameters:
            p.grad = None

    @contextlib.contextmanager
    def accumulate(self) -> Iterator[None]:
        """Context manager: gradients of several backward passes are summed on purpose.

        All passes within the block count as one, so that `step` does not warn of them.

        >>> p = mg.nn.Parameter(np.array([1.0]))
        >>> optimizer = mg.optim.SGD([p], lr=0.25)
        >>> with optimizer.accumulate():
        ...     for part in (1.0, 2.0):
        ...         (part * p).sum().backward()
        >>> optimizer.step()
        >>> p.data
        array([0.25])
        """
        leaves = [p.node for p in self.parameters if isinstance(p.node, Leaf)]
        passes = [leaf.passes for leaf in leaves]
        outer, self._accumulating = self._accumulating, True
        try:
            yield
        finally:
            self._accumulating = outer
            for leaf, before in zip(leaves, passes, strict=True):
                leaf.passes = min(leaf.passes, before + 1)

    def step(self) -> None:
        """Changes every parameter that has a gradient.

        Raises `GradientError` where none has one, and if one is read-only: within `mg.debug()` a
        parameter is, for as long as a graph needs it; then nothing is changed. Warns once, with a
        `GradientWarning`, of a gradient that is the sum of several backward passes, as it is where
        `zero_grad` was forgotten; `accumulate` says that it is meant.
        """
        found = [(i, p, p.grad.data) for i, p in enumerate(self.parameters) if p.grad is not None]
        self._check(found)
        self.steps += 1
        for i, p, g in found:
            self._update(i, p.data, g)
            note_write(p)

    def _check(self, found: list[tuple[int, Tensor, np.ndarray]]) -> None:
        what = f"{type(self).__name__}.step"
        if not found:
            raise GradientError(
                f"{what}: no parameter has a gradient",
                f"expected a backward pass that reaches one of {len(self.names)}, got none since "
                "zero_grad()",
                "call loss.backward() first; check that the loss is computed from these very "
                "parameters, not under no_grad() and without .detach()",
            )
        for i, p, g in found:
            if g.shape != p.shape:
                raise ShapeError(
                    f"{what}: the gradient of {self.names[i]}",
                    f"expected the shape of its parameter, {p.shape}, got {g.shape}",
                    "write into .data instead of replacing it, or build the optimiser anew",
                )
            if not p.data.flags.writeable:
                raise GradientError(
                    f"{what}: {self.names[i]}",
                    "expected an array to change, got one that is read-only: within mg.debug() "
                    "it is while a graph needs it",
                    "call backward first; detach what is kept of earlier steps, evaluate in "
                    "no_grad()",
                )
            passes = p.node.passes  # type: ignore[union-attr]
            if passes > 1 and not (self._warned or self._accumulating):
                self._warned = True
                text = three_lines(
                    f"{what}: the gradient of {self.names[i]}",
                    f"expected that of one backward pass, got the sum of {passes}",
                    "call zero_grad() before each backward pass; if the sum is meant, run the "
                    "passes within `with optimizer.accumulate():`",
                )
                warnings.warn(text, GradientWarning, stacklevel=3)

    def _update(self, i: int, p: np.ndarray, g: np.ndarray) -> None:
        raise NotImplementedError(f"{type(self).__name__} must define _update")

    def _slots(self) -> dict[str, list[np.ndarray]]:
        """The running arrays, one a parameter, by name."""
        return {}

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all running arrays, and the number of steps taken."""
        state = {"steps": np.array(self.steps, np.int64)}
        for name, arrays in self._slots().items():
            state.update({f"{name}.{i}": a.copy() for i, a in enumerate(arrays)})
        return state

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Takes a state over; raises `StateDictError`, changing nothing, where it does not fit."""
        own = {f"{n}.{i}": a for n, arrays in self._slots().items() for i, a in enumerate(arrays)}
        given, odd = as_arrays(f"load_state_dict: {type(self).__name__}", state)
        expected = {**own, "steps": np.array(self.steps)}
        wrong = sorted(map(str, set(expected) ^ set(state)))
        wrong += [k for k, a in expected.items() if k in given and given[k].shape != a.shape]
        wrong += odd
        if wrong:
            raise StateDictError(
                f"load_state_dict: {type(self).__name__}",
                "expected the running arrays of its parameters; missing, unknown or of another "
                f"shape: {', '.join(wrong)}",
                "build the optimiser for the same model; nothing was changed",
            )
        self.steps = int(given["steps"])
        for k, a in own.items():
            a[...] = given[k]


class SGD(Optimizer):
    """Stochastic gradient descent, with classical momentum if wanted.

    v <- momentum v + g;  p <- p - lr v

    Source: Goodfellow et al., Deep Learning, algorithms 8.1 and 8.2 (in PyTorch's form).

    >>> p = mg.nn.Parameter(np.array([1.0]))
    >>> (p * p).sum().backward()
    >>> mg.optim.SGD([p], lr=0.25).step()
    >>> p.data
    array([0.5])
    """

    def __init__(self, parameters: Parameters, lr: float, momentum: float = 0.0):
        super().__init__(parameters, lr)
        self.momentum = self._number(
            "momentum", momentum, lambda x: 0 <= x < 1, "0 <= momentum < 1", "try 0.9"
        )
        self._velocity = [np.zeros_like(p.data) for p in self.parameters] if momentum else []

    def _slots(self):
        return {"velocity": self._velocity} if self.momentum else {}

    def _update(self, i, p, g):
        if self.momentum:
            v = self._velocity[i]
            v *= self.momentum
            v += g
            g = v
        p -= self.lr * g


class Adam(Optimizer):
    """Adam.

    m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
    p <- p - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    Source: Kingma and Ba 2015; Goodfellow et al., Deep Learning, algorithm 8.7.

    >>> p = mg.nn.Parameter(np.array([1.0]))
    >>> (p * p).sum().backward()
    >>> mg.optim.Adam([p], lr=0.1).step()
    >>> round(p.data.item(), 6)
    0.9
    """

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ):
        super().__init__(parameters, lr)
        if not isinstance(betas, tuple | list) or len(betas) != 2:
            raise UsageError(
                "Adam: betas", f"expected two numbers, got {betas!r}", "try (0.9, 0.999)"
            )
        for b in betas:
            self._number("betas", b, lambda x: 0 <= x < 1, "0 <= beta < 1", "try (0.9, 0.999)")
        self.betas = betas
        self.eps = self._number("eps", eps, lambda x: x >= 0, ">= 0", "try 1e-8")
        self._m = [np.zeros_like(p.data) for p in self.parameters]
        self._v = [np.zeros_like(p.data) for p in self.parameters]
        self._t = [np.zeros((), np.int64) for _ in self.parameters]  # gradients seen so far

    def _slots(self):
        return {"m": self._m, "v": self._v, "t": self._t}

    def _update(self, i, p, g):
        (b1, b2), m, v = self.betas, self._m[i], self._v[i]
        self._t[i] += 1
        t = int(self._t[i])
        m *= b1
        m += (1 - b1) * g
        v *= b2
        v += (1 - b2) * (g * g)
        scale = np.sqrt(v / (1 - b2**t))
        scale += self.eps
        p -= (self.lr / (1 - b1**t)) * m / scale
