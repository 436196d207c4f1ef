"""Gates: one time step of a recurrent network, written as its equations.

The step functions are the meaning of every fused kernel. They take arrays or tensors; weights lie
as in PyTorch, a row for each output: `affine(x, W, b)` is W x + b for every row x of the batch,
and `affine(h, U, a)` adds U h to a.

Gate orders, stated here once and used everywhere: LSTM `i f g o`, its peepholes `i f o`, GRU
`r z n`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from .errors import UsageError
from .expand import identity
from .graph import Tensor
from .module import Module, Parameter, check_sizes, generator
from .ops import add, affine, relu, sigmoid, split, tanh
from .ops.linear import scale

State = Any  # a tensor, or a tuple of tensors

LSTM_GATES = "ifgo"
LSTM_PEEPHOLES = "ifo"  # the gates of an LSTM that may look at c
GRU_GATES = "rzn"


class LSTMState(NamedTuple):
    """The state of an LSTM: what it puts out, `h`, and what it keeps to itself, `c`.

    A plain tuple (h, c) is taken wherever a state is.

    >>> ys, state = mg.nn.LSTM(2, 3, rng=0)(np.ones((5, 4, 2)))
    >>> state.c.shape
    (1, 4, 3)
    """

    h: Any
    c: Any


# --- the steps -----------------------------------------------------------------------------------


def rnn_step(x, state, W, U, b_x, b_h):
    """h(t) = tanh(b_x + W x(t) + b_h + U h(t-1)).

    Source: Goodfellow et al., Deep Learning, equations 10.8 and 10.9.
    """
    h = tanh(affine(state, U, b_h) + affine(x, W, b_x))
    return h, h


def rnn_relu_step(x, state, W, U, b_x, b_h):
    """h(t) = relu(b_x + W x(t) + b_h + U h(t-1)).

    Source: Le, Jaitly and Hinton 2015, where U begins as the identity; as PyTorch has it.
    """
    h = relu(affine(state, U, b_h) + affine(x, W, b_x))
    return h, h


def _read_once(state):
    """A state that a step uses in several places, as one place.

    What comes back from them is added up there before it meets the cotangent of the output, also
    when another row of the batch has ended and a `where` stands in between: so the gradient of a
    row has the same bits whatever the rows beside it do.
    """
    return identity(state)


def lstm_step(x, state, W, U, b, *, candidate=tanh):
    """One step of a long short-term memory; the state is (h, c).

    i, f, o = sigmoid(b + W x(t) + U h(t-1));  g = tanh(b + W x(t) + U h(t-1))
    c(t) = f * c(t-1) + i * g;  h(t) = o * tanh(c(t))

    x (N, I), h and c (N, H), W (4H, I), U (4H, H), b (4H,).
    Source: Goodfellow et al., Deep Learning, equations 10.40 to 10.44 (there i is the external
    input gate and g, with a sigmoid, the input: `lstm_sigmoid_step`); Gers et al. 2000 for the
    forget gate.
    """
    h, c = state
    a = affine(h, U, affine(x, W, b))
    i, f, g, o = split(a, sections=len(LSTM_GATES), axis=-1)
    i, f, g, o = sigmoid(i), sigmoid(f), candidate(g), sigmoid(o)
    c = f * c + i * g
    h = o * tanh(c)
    return h, LSTMState(h, c)


def lstm_sigmoid_step(x, state, W, U, b):
    """One step of an LSTM as the book has it: what is let in lies between 0 and 1.

    i, f, g, o = sigmoid(b + W x(t) + U h(t-1))
    c(t) = f * c(t-1) + i * g;  h(t) = o * tanh(c(t))

    Shapes as in `lstm_step`. Source: Goodfellow et al., Deep Learning, equations 10.40 to 10.44.
    """
    return lstm_step(x, state, W, U, b, candidate=sigmoid)


def lstm_peephole_step(x, state, W, U, b, p_i, p_f, p_o, *, candidate=tanh):
    """One step of an LSTM whose gates look at the cell: i and f at c(t-1), o at c(t).

    a_i, a_f, a_g, a_o = b + W x(t) + U h(t-1)
    i = sigmoid(a_i + p_i * c(t-1));  f = sigmoid(a_f + p_f * c(t-1));  g = tanh(a_g)
    c(t) = f * c(t-1) + i * g;  o = sigmoid(a_o + p_o * c(t));  h(t) = o * tanh(c(t))

    p_i, p_f, p_o (H,): a unit sees its own cell alone. The rest as in `lstm_step`.
    Source: Gers, Schraudolph and Schmidhuber 2002; Graves 2013, equations 7 to 11.
    """
    h, c = state
    c = _read_once(c)
    a = affine(h, U, affine(x, W, b))
    i, f, g, o = split(a, sections=len(LSTM_GATES), axis=-1)
    i, f, g = sigmoid(i + scale(c, p_i)), sigmoid(f + scale(c, p_f)), candidate(g)
    c = f * c + i * g
    o = sigmoid(o + scale(c, p_o))
    h = o * tanh(c)
    return h, LSTMState(h, c)


def lstm_peephole_sigmoid_step(x, state, W, U, b, p_i, p_f, p_o):
    """One step of an LSTM with peepholes whose candidate is a sigmoid, as in the book.

    As `lstm_peephole_step`, but for g = sigmoid(a_g): h(t) = o * tanh(f * c(t-1) + i * g).
    Source: Goodfellow et al., Deep Learning, section 10.10.1.
    """
    return lstm_peephole_step(x, state, W, U, b, p_i, p_f, p_o, candidate=sigmoid)


def gru_step(x, state, W, U, b_x, b_h):
    """One step of a gated recurrent unit that resets after the recurrent product.

    r, z = sigmoid(b_x + W x(t) + b_h + U h(t-1))
    n = tanh(b_x + W x(t) + r * (b_h + U h(t-1)));  h(t) = (1 - z) * n + z * h(t-1)

    x (N, I), h (N, H), W (3H, I), U (3H, H), b_x and b_h (3H,).
    Source: Cho et al. 2014, in the form of PyTorch; Goodfellow et al., section 10.10.2.
    """
    state = _read_once(state)
    xr, xz, xn = split(affine(x, W, b_x), sections=len(GRU_GATES), axis=-1)
    hr, hz, hn = split(affine(state, U, b_h), sections=len(GRU_GATES), axis=-1)
    r, z = sigmoid(xr + hr), sigmoid(xz + hz)
    n = tanh(xn + r * hn)
    h = (1 - z) * n + z * state
    return h, h


def gru_step_before(x, state, W, U, U_n, b_x, b_h, b_n):
    """One step of a gated recurrent unit that resets before the recurrent product.

    r, z = sigmoid(b_x + W x(t) + b_h + U h(t-1))
    n = tanh(b_x + W x(t) + (b_n + U_n (r * h(t-1))));  h(t) = (1 - z) * n + z * h(t-1)

    x (N, I), h (N, H), W (3H, I), U (2H, H) the rows of r and z, U_n (H, H) that of n; b_x (3H,),
    b_h (2H,), b_n (H,).
    Source: Cho et al. 2014, equations 5 to 8; Goodfellow et al., equation 10.45.
    """
    state = _read_once(state)
    xr, xz, xn = split(affine(x, W, b_x), sections=len(GRU_GATES), axis=-1)
    hr, hz = split(affine(state, U, b_h), sections=2, axis=-1)
    r, z = sigmoid(xr + hr), sigmoid(xz + hz)
    n = tanh(xn + affine(r * state, U_n, b_n))
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

    The two biases are there because PyTorch's state dicts have two. In an RNN and in an LSTM, and
    in the gates r and z of a GRU, only their sum matters, and both get the same gradient. In the
    gate n of a GRU that resets after the product they differ: r scales `bias_hh` and not `bias_ih`.
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
        draw = partial(self._draw, generator(rng), dtype)
        check_sizes(self, dtype, input_size=input_size, hidden_size=hidden_size)
        if not isinstance(bias, bool | np.bool_):
            raise UsageError(
                f"{type(self).__name__}: bias",
                f"expected True or False, got {bias!r}",
                "pass other options by name: nonlinearity, for one, has another place in PyTorch",
            )
        self.input_size, self.hidden_size = input_size, hidden_size
        rows = self.gates * hidden_size
        self.weight_ih = draw(rows, input_size)
        self.weight_hh = draw(rows, hidden_size)
        self.bias_ih: Tensor = draw(rows) if bias else Tensor(np.zeros(rows, dtype))
        self.bias_hh: Tensor = draw(rows) if bias else Tensor(np.zeros(rows, dtype))

    def _draw(self, rng: np.random.Generator, dtype, *shape: int) -> Parameter:
        bound = 1 / np.sqrt(max(1, self.hidden_size))
        return Parameter(rng.uniform(-bound, bound, shape).astype(dtype))

    def weights(self) -> tuple:
        """What the step function takes after the state."""
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh

    def initial_state(self, batch_size: int, dtype) -> State:
        return Tensor.at(np.zeros((batch_size, self.hidden_size), dtype), None)

    def begin(self):
        if type(self).__call__ is not GatedCell.__call__:  # a subclass with a step of its own
            return self
        weights = self.weights()
        return lambda x, state: self.step(x, state, *weights)

    def __call__(self, x, state=None):
        if state is None:  # as in PyTorch: zeros
            state = self.initial_state(len(x), x.dtype)
        return self.step(x, state, *self.weights())


def _check_choice(
    cell: Cell, name: str, got, choices: Sequence[str], remedy: str, of: str = ""
) -> None:
    """Raises `UsageError` for an option of a cell that is none of the two that there are."""
    if not isinstance(got, str) or got not in choices:
        one, other = choices
        raise UsageError(
            f"{type(cell).__name__}: {name}",
            f'expected "{one}" or "{other}"{of}, got {got!r}',
            remedy,
        )


class RNNCell(GatedCell):
    """A recurrent cell with `nonlinearity` "tanh" or "relu"; see `rnn_step` and `rnn_relu_step`.

    Raises `UsageError` for another nonlinearity.

    >>> y, state = mg.nn.RNNCell(2, 3, rng=0)(np.ones((1, 2)), np.zeros((1, 3)))
    >>> y.shape
    (1, 3)
    """

    step: Callable = staticmethod(rnn_step)

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True,
                 nonlinearity: str = "tanh", *, dtype=np.float64,
                 rng: int | np.random.Generator | None = None):  # fmt: skip
        remedy = "write a Cell of your own for another function: see mg.nn.Cell"
        _check_choice(self, "nonlinearity", nonlinearity, ("tanh", "relu"), remedy)
        super().__init__(input_size, hidden_size, bias, dtype=dtype, rng=rng)
        self.nonlinearity = nonlinearity
        if nonlinearity == "relu":
            self.step = rnn_relu_step


class LSTMCell(GatedCell):
    """A long short-term memory; see `lstm_step`. The state is (h, c).

    `candidate="sigmoid"` is the form of the book, see `lstm_sigmoid_step`; PyTorch has "tanh". With
    `peephole`, i, f and o look at the cell, see `lstm_peephole_step`: `weight_ch` (3H,), in the
    order i f o, is drawn after the other weights. Raises `UsageError` for other options.

    The two biases, kept for PyTorch's state dicts, are added once for each sequence.

    >>> zeros = np.zeros((1, 3))
    >>> y, (h, c) = mg.nn.LSTMCell(2, 3, rng=0)(np.ones((1, 2)), (zeros, zeros))
    >>> y.shape
    (1, 3)
    >>> list(mg.nn.LSTMCell(2, 3, bias=False, peephole=True).state_dict())
    ['weight_ih', 'weight_hh', 'weight_ch']
    """

    step: Callable = staticmethod(lstm_step)
    gates = len(LSTM_GATES)

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, *,
                 peephole: bool = False, candidate: str = "tanh", dtype=np.float64,
                 rng: int | np.random.Generator | None = None):  # fmt: skip
        remedy = (
            '"tanh" for weights from PyTorch, cuDNN or Keras, "sigmoid" for the form of the book'
        )
        _check_choice(self, "candidate", candidate, ("tanh", "sigmoid"), remedy)
        if not isinstance(peephole, bool | np.bool_):
            raise UsageError(
                f"{type(self).__name__}: peephole",
                f"expected True or False, got {peephole!r}",
                "with True, the gates i, f and o look at the cell",
            )
        rng = generator(rng)
        super().__init__(input_size, hidden_size, bias, dtype=dtype, rng=rng)
        self.peephole, self.candidate = bool(peephole), candidate
        if peephole:
            self.weight_ch = self._draw(rng, dtype, len(LSTM_PEEPHOLES) * hidden_size)
            self.step = lstm_peephole_step if candidate == "tanh" else lstm_peephole_sigmoid_step
        elif candidate == "sigmoid":
            self.step = lstm_sigmoid_step

    def weights(self):
        peepholes = split(self.weight_ch, sections=len(LSTM_PEEPHOLES)) if self.peephole else ()
        return self.weight_ih, self.weight_hh, add(self.bias_ih, self.bias_hh), *peepholes

    def initial_state(self, batch_size: int, dtype) -> State:
        shape = (batch_size, self.hidden_size)
        zeros = [Tensor.at(np.zeros(shape, dtype), None) for _ in "hc"]
        return LSTMState(*zeros)


class GRUCell(GatedCell):
    """A gated recurrent unit; see `gru_step` and `gru_step_before`.

    Libraries disagree on where the reset gate acts. `reset="after"` multiplies by r after the
    recurrent product, as PyTorch, cuDNN and Keras do; `reset="before"` multiplies h(t-1) itself, as
    the original paper and the book do (ONNX: `linear_before_reset` 1 and 0). Names and shapes of
    the weights are the same for both and the values they give are not: a state dict cannot tell
    which one it was trained for, so ask where it comes from. Raises `UsageError` for others.

    >>> y, state = mg.nn.GRUCell(2, 3, reset="before", rng=0)(np.ones((1, 2)), np.zeros((1, 3)))
    >>> y.shape
    (1, 3)
    """

    step: Callable = staticmethod(gru_step)
    gates = len(GRU_GATES)

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, *,
                 reset: str = "after", dtype=np.float64,
                 rng: int | np.random.Generator | None = None):  # fmt: skip
        remedy = '"after" for weights from PyTorch, cuDNN or Keras, "before" for the original form'
        choices, of = ("after", "before"), " the recurrent product"
        _check_choice(self, "reset", reset, choices, remedy, of)
        super().__init__(input_size, hidden_size, bias, dtype=dtype, rng=rng)
        self.reset = reset
        if reset == "before":
            self.step = gru_step_before

    def weights(self):
        if self.reset == "after":
            return super().weights()
        n = GRU_GATES.index("n") * self.hidden_size  # where the rows of the last gate begin
        U, U_n = split(self.weight_hh, (n,))
        b_h, b_n = split(self.bias_hh, (n,))
        return self.weight_ih, U, U_n, self.bias_ih, b_h, b_n
