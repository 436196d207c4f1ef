"""Gates: one time step of a recurrent network, written as its equations.

The step functions are the meaning of every fused kernel. They take arrays or tensors; weights lie
as in PyTorch, a row for each output: `affine(x, W, b)` is W x + b for every row x of the batch,
and `affine(h, U, a)` adds U h to a.

Gate orders, stated here once and used everywhere: LSTM `i f g o`, GRU `r z n`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .graph import Tensor
from .module import Module, Parameter
from .ops import add, affine, sigmoid, split, tanh

State = Any  # a tensor, or a tuple of tensors

LSTM_GATES = "ifgo"
GRU_GATES = "rzn"


# --- the steps -----------------------------------------------------------------------------------


def rnn_step(x, state, W, U, b_x, b_h):
    """h(t) = tanh(b_x + W x(t) + b_h + U h(t-1)).

    Source: Goodfellow et al., Deep Learning, equations 10.8 and 10.9.
    """
    h = tanh(affine(state, U, b_h) + affine(x, W, b_x))
    return h, h


def lstm_step(x, state, W, U, b):
    """One step of a long short-term memory; the state is (h, c).

    i, f, o = sigmoid(b + W x(t) + U h(t-1));  g = tanh(b + W x(t) + U h(t-1))
    c(t) = f * c(t-1) + i * g;  h(t) = o * tanh(c(t))

    x (N, I), h and c (N, H), W (4H, I), U (4H, H), b (4H,).
    Source: Goodfellow et al., Deep Learning, equations 10.40 to 10.44 (there i is the external
    input gate and g, with a sigmoid, the input); Gers et al. 2000 for the forget gate.
    """
    h, c = state
    a = affine(h, U, affine(x, W, b))
    i, f, g, o = split(a, sections=len(LSTM_GATES), axis=-1)
    i, f, g, o = sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)
    c = f * c + i * g
    h = o * tanh(c)
    return h, (h, c)


def gru_step(x, state, W, U, b_x, b_h):
    """One step of a gated recurrent unit that resets after the recurrent product.

    r, z = sigmoid(b_x + W x(t) + b_h + U h(t-1))
    n = tanh(b_x + W x(t) + r * (b_h + U h(t-1)));  h(t) = (1 - z) * n + z * h(t-1)

    x (N, I), h (N, H), W (3H, I), U (3H, H), b_x and b_h (3H,).
    Source: Cho et al. 2014, in the form of PyTorch; Goodfellow et al., section 10.10.2.
    """
    xr, xz, xn = split(affine(x, W, b_x), sections=len(GRU_GATES), axis=-1)
    hr, hz, hn = split(affine(state, U, b_h), sections=len(GRU_GATES), axis=-1)
    r, z = sigmoid(xr + hr), sigmoid(xz + hz)
    n = tanh(xn + r * hn)
    h = (1 - z) * n + z * state
    return h, h


# --- cells ---------------------------------------------------------------------------------------


class Cell(Module):
    """One time step with its parameters: write `__call__` and `initial_state`.

    `cell(x, state) -> (y, new_state)` for x (N, I); a state is a tensor (N, ...) or a tuple of
    them. `mg.unfold` and `mg.nn.Recurrent` run any cell over time.

    >>> class Leaky(mg.nn.Cell):
    ...     def __init__(self, size, rate=0.9):
    ...         self.size, self.rate = size, rate
    ...     def initial_state(self, batch_size, dtype):
    ...         return mg.tensor(np.zeros((batch_size, self.size), dtype))
    ...     def __call__(self, x, state):
    ...         state = self.rate * state + (1 - self.rate) * x
    ...         return state, state
    >>> ys, last = mg.unfold(Leaky(2), np.ones((3, 1, 2)))
    >>> ys.shape, last.shape
    ((3, 1, 2), (1, 2))
    """

    def initial_state(self, batch_size: int, dtype) -> State:
        """The state before the first step, for `batch_size` rows."""
        raise NotImplementedError(f"{type(self).__name__} must define initial_state")

    def __call__(self, x, state) -> tuple[Any, State]:
        """One step: `(output, new state)`."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__")

    def begin(self) -> Callable[[Any, State], tuple[Any, State]]:
        """The step function for one sequence; what depends on parameters alone is done here."""
        return self


class GatedCell(Cell):
    """A cell that is a step function and its weights, with PyTorch's names and shapes.

    `weight_ih` (G H, I), `weight_hh` (G H, H), `bias_ih` and `bias_hh` (G H,), for G gates; drawn
    uniformly from +-1/sqrt(H) by `rng` (a seed or a `numpy.random.Generator`).
    """

    step: Callable
    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        dtype=np.float64,
        rng: int | np.random.Generator | None = None,
    ):
        rng = np.random.default_rng(rng)
        self.input_size, self.hidden_size = input_size, hidden_size
        rows, bound = self.gates * hidden_size, 1 / np.sqrt(max(1, hidden_size))

        def draw(*shape):
            return Parameter(rng.uniform(-bound, bound, shape).astype(dtype))

        self.weight_ih = draw(rows, input_size)
        self.weight_hh = draw(rows, hidden_size)
        self.bias_ih: Tensor = draw(rows) if bias else Tensor(np.zeros(rows, dtype))
        self.bias_hh: Tensor = draw(rows) if bias else Tensor(np.zeros(rows, dtype))

    def weights(self) -> tuple:
        """What the step function takes after the state."""
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh

    def initial_state(self, batch_size: int, dtype) -> State:
        return Tensor(np.zeros((batch_size, self.hidden_size), dtype))

    def begin(self):
        if type(self).__call__ is not GatedCell.__call__:  # a subclass with a step of its own
            return self
        weights = self.weights()
        return lambda x, state: type(self).step(x, state, *weights)

    def __call__(self, x, state):
        return type(self).step(x, state, *self.weights())


class RNNCell(GatedCell):
    """A tanh recurrent cell; see `rnn_step`.

    >>> y, state = mg.nn.RNNCell(2, 3, rng=0)(np.ones((1, 2)), np.zeros((1, 3)))
    >>> y.shape
    (1, 3)
    """

    step = staticmethod(rnn_step)


class LSTMCell(GatedCell):
    """A long short-term memory; see `lstm_step`. The state is (h, c).

    The two biases, kept for PyTorch's state dicts, are added once for each sequence.

    >>> zeros = np.zeros((1, 3))
    >>> y, (h, c) = mg.nn.LSTMCell(2, 3, rng=0)(np.ones((1, 2)), (zeros, zeros))
    >>> y.shape
    (1, 3)
    """

    step = staticmethod(lstm_step)
    gates = len(LSTM_GATES)

    def weights(self):
        return self.weight_ih, self.weight_hh, add(self.bias_ih, self.bias_hh)

    def initial_state(self, batch_size: int, dtype) -> State:
        shape = (batch_size, self.hidden_size)
        return Tensor(np.zeros(shape, dtype)), Tensor(np.zeros(shape, dtype))


class GRUCell(GatedCell):
    """A gated recurrent unit that resets after the recurrent product; see `gru_step`.

    >>> y, state = mg.nn.GRUCell(2, 3, rng=0)(np.ones((1, 2)), np.zeros((1, 3)))
    >>> y.shape
    (1, 3)
    """

    step = staticmethod(gru_step)
    gates = len(GRU_GATES)
