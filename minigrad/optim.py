"""Optimisers: change parameters in place from their gradients.

An optimiser's state is a dict of arrays, so that it can be saved beside the model's and training
resumed to the bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from .errors import GradientError, StateDictError, UsageError
from .graph import Tensor


class Optimizer:
    """What all optimisers share: the parameters, the learning rate `lr`, and the state.

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

    def __init__(self, parameters: Iterable[Tensor], lr: float):
        self.parameters = list(parameters)
        if not self.parameters:
            raise UsageError(
                f"{type(self).__name__}: parameters",
                "expected at least one, got none",
                "pass model.parameters(); a generator can be used up only once",
            )
        if not lr > 0:
            raise UsageError(f"{type(self).__name__}: lr", f"expected > 0, got {lr}", "try 1e-3")
        self.lr = lr
        self.steps = 0

    def zero_grad(self) -> None:
        """Forgets the gradients: every `.grad` becomes None."""
        for p in self.parameters:
            p.grad = None

    def step(self) -> None:
        """Changes every parameter that has a gradient.

        Raises `GradientError`, changing nothing, if one is read-only: within `mg.debug()` a
        parameter is, for as long as a graph needs it.
        """
        for i, p in enumerate(self.parameters):
            if p.grad is not None and not p.data.flags.writeable:
                raise GradientError(
                    f"{type(self).__name__}.step: parameter {i}, {p.dtype} {p.shape}",
                    "expected an array to change, got one that is read-only: within mg.debug() "
                    "it is while a graph needs it",
                    "call backward first; detach what is kept of earlier steps, evaluate in "
                    "no_grad()",
                )
        self.steps += 1
        for i, p in enumerate(self.parameters):
            if p.grad is not None:
                self._update(i, p.data, p.grad.data)

    def _update(self, i: int, p: np.ndarray, g: np.ndarray) -> None:
        raise NotImplementedError

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
        wrong = sorted({*own, "steps"} ^ set(state))
        wrong += [k for k, a in own.items() if k in state and state[k].shape != a.shape]
        if wrong:
            raise StateDictError(
                f"load_state_dict: {type(self).__name__}",
                "expected the running arrays of its parameters; missing, unknown or of another "
                f"shape: {', '.join(wrong)}",
                "build the optimiser for the same model; nothing was changed",
            )
        self.steps = int(state["steps"])
        for k, a in own.items():
            a[...] = state[k]


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

    def __init__(self, parameters: Iterable[Tensor], lr: float, momentum: float = 0.0):
        super().__init__(parameters, lr)
        self.momentum = momentum
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
        parameters: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ):
        super().__init__(parameters, lr)
        self.betas, self.eps = betas, eps
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
