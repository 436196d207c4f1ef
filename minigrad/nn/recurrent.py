"""Recurrent layers: cells stacked in depth and run in one or both directions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..cells import Cell, GatedCell, GRUCell, LSTMCell, RNNCell
from ..debug import tell, tells
from ..errors import ShapeError, UsageError
from ..graph import Tensor
from ..module import Module, Parameter, generator
from ..ops import concatenate, stack, swapaxes, unstack
from ..unfold import Output, as_array, form_of, like, no_cell, padded, unfold
from .layers import Dropout, check_rate


class Recurrent(Module):
    """A cell of any kind run over time as a layer: `(ys, state) = layer(xs)`.

    >>> layer = mg.nn.Recurrent(mg.nn.GRUCell(2, 3, rng=0))
    >>> ys, last = layer(np.ones((5, 4, 2)))
    >>> ys.shape, last.shape
    ((5, 4, 3), (4, 3))
    """

    def __init__(self, cell: Cell, reverse: bool = False):
        if not isinstance(cell, Cell):
            raise no_cell("Recurrent", cell)
        self.cell, self.reverse = cell, reverse

    def __call__(self, xs, state=None, lengths=None, fused: bool | str = "auto"):
        """xs (T, N, I) or a list of (T_n, I): outputs (T, N, H) and the last state."""
        return unfold(self.cell, xs, state, lengths, self.reverse, fused)


class _Layers(Module):
    """What RNN, LSTM and GRU share: PyTorch's arguments, parameter names, shapes and states.

    The arguments stand in PyTorch's order; what the cells of one kind take besides goes by name.
    """

    cell: type[GatedCell]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        dtype=np.float64,
        rng: int | np.random.Generator | None = None,
        **options,  # what the cell takes besides: for a GRU, reset
    ):
        for name, flag in (("batch_first", batch_first), ("bidirectional", bidirectional)):
            if not isinstance(flag, bool | np.bool_):
                raise UsageError(
                    f"{type(self).__name__}: {name}",
                    f"expected True or False, got {flag!r}",
                    "arguments stand in PyTorch's order; pass this one and those after it by name",
                )
        whole = isinstance(num_layers, int | np.integer) and type(num_layers) is not bool
        if not whole or num_layers < 1:
            raise UsageError(
                f"{type(self).__name__}: num_layers",
                f"expected an integer from 1, got {num_layers!r}",
                "a network has at least one layer",
            )
        self._check_dropout(dropout, num_layers)
        if not isinstance(proj_size, int | np.integer) or proj_size != 0:
            raise UsageError(
                f"{type(self).__name__}: proj_size",
                f"expected 0, as there are no projections of the state yet, got {proj_size!r}",
                "leave it out; to project the outputs alone, put mg.nn.Linear after the layer",
            )
        rng = generator(rng)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.batch_first, self.bidirectional = batch_first, bidirectional
        self.directions = 2 if bidirectional else 1
        widths = [input_size] + [hidden_size * self.directions] * (num_layers - 1)
        # layer by layer, in each the forward cell and then the backward one
        self.cells = [
            self.cell(width, hidden_size, bias, dtype=dtype, rng=rng, **options)
            for width in widths
            for _ in range(self.directions)
        ]
        self.dropout = Dropout(dropout, rng=rng)  # on the way from each layer to the next

    def _check_dropout(self, dropout, num_layers: int) -> None:
        what = f"{type(self).__name__}: dropout"
        check_rate(what, dropout, "as in PyTorch it stands before bidirectional: pass both by name")
        if dropout and num_layers == 1:
            raise UsageError(
                what,
                f"expected 0 with num_layers=1, as it acts between layers, got {dropout!r}",
                "put mg.nn.Dropout after the layer, or take more layers",
            )

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """As PyTorch names them: `weight_ih_l0`, `weight_hh_l0_reverse`, ..."""
        for i, cell in enumerate(self.cells):
            layer, backward = divmod(i, self.directions)
            for name, p in cell.named_parameters():
                yield f"{name}_l{layer}" + ("_reverse" if backward else ""), p

    @tells
    def __call__(self, xs, state=None, lengths=None, fused: bool | str = "auto"):
        """Outputs of the top layer, and the last state of every layer and direction: an `Output`.

        xs (T, N, I), or (N, T, I) with `batch_first`, or a list of arrays (T_n, I); lengths (N,).
        ys (T, N, D H) with D directions; h (and c) (num_layers * D, N, H), never batch first.
        In training mode, `dropout` acts on the outputs of every layer but the top one.
        """
        is_list = isinstance(xs, list | tuple)
        if is_list:
            xs, lengths = padded(xs, lengths)
        else:
            xs = as_array(f"{type(self).__name__}: xs", xs)
        if xs.ndim != 3 or xs.shape[-1] != self.input_size:
            raise self._misfit(tuple(xs.shape))
        if self.batch_first and not is_list:
            xs = swapaxes(xs, 0, 1)
        states = self._unstacked(state, xs.shape[1])
        last = []
        for layer in range(self.num_layers):
            tell(layer=layer)
            outputs = []
            for d in range(self.directions):
                i = layer * self.directions + d
                ys, end = unfold(self.cells[i], xs, states[i], lengths, bool(d), fused)
                outputs.append(ys)
                last.append(end)
            xs = outputs[0] if len(outputs) == 1 else concatenate(outputs, axis=-1)
            if layer < self.num_layers - 1:
                xs = self.dropout(xs)
        tell(layer=None)
        return Output(swapaxes(xs, 0, 1) if self.batch_first else xs, self._stacked(last))

    def _misfit(self, got: tuple) -> ShapeError:
        """A sequence of a wrong shape: both layouts, and the likely slip."""
        here, other = ("NTI", "TNI") if self.batch_first else ("TNI", "NTI")
        remedy = "T steps, N rows of the batch, I features"
        if len(got) == 2 and got[1] == self.input_size:
            place = "xs[None]" if self.batch_first else "xs[:, None]"
            remedy = f"one sequence is a batch of one row: pass {place}"
        elif len(got) == 3 and self.input_size in got:
            remedy = "features come last: move that axis with mg.moveaxis(xs, axis, -1)"
        return ShapeError(
            f"{type(self).__name__}: xs",
            f"expected ({', '.join(here)}) with I = {self.input_size}, got {got}; with "
            f"batch_first={not self.batch_first} it is ({', '.join(other)})",
            remedy,
        )

    def _unstacked(self, state, rows: int) -> list:
        n = len(self.cells)
        if state is None:
            return [None] * n
        form = form_of(state)
        forms = form if isinstance(form, tuple) else (form,)
        pair = isinstance(self.cells[0].initial_state(0, np.float64), tuple)
        if isinstance(form, tuple) != pair or len(forms) != 1 + pair:
            raise ShapeError(
                f"{type(self).__name__}: the initial state",
                f"expected {'a tuple (h, c)' if pair else 'h alone'}, got {form}",
                "pass the state in the form that the layer returns",
            )
        expected = [n, rows, self.hidden_size]
        for name, f in zip("hc", forms, strict=False):
            if f != expected:
                remedy = "a state has the rows of its xs; batch_first does not apply to it"
                if f == [rows, n, self.hidden_size]:
                    remedy = (
                        f"it is batch first, and batch_first does not apply to states: "
                        f"pass {name}.swapaxes(0, 1)"
                    )
                elif f == expected[1:]:
                    remedy = f"the axis of layers and directions is missing: pass {name}[None]"
                raise ShapeError(
                    f"{type(self).__name__}: {name} of the initial state",
                    f"expected (num_layers * directions, N, hidden_size) = {tuple(expected)}, "
                    f"got {tuple(f) if isinstance(f, list) else f}",
                    remedy,
                )
        parts = state if pair else (state,)
        cut = [unstack(part) for part in parts]
        return list(zip(*cut, strict=True)) if isinstance(state, tuple) else list(cut[0])

    def _stacked(self, states: list) -> Tensor | tuple:
        if isinstance(states[0], tuple):
            return like(states[0], [_along_first(parts) for parts in zip(*states, strict=True)])
        return _along_first(states)


def _along_first(states: Sequence) -> Tensor:
    """The states of several cells along a new first axis."""
    if len(states) == 1 and not states[0].requires_grad:  # in a third of the time
        return Tensor.at(states[0].data[None].copy(), None)
    return stack(states)


class RNN(_Layers):
    """Recurrent layers, as `torch.nn.RNN`; see `minigrad.cells.rnn_step`.

    `nonlinearity` is "tanh" or "relu" and goes by name (PyTorch takes it after `num_layers` too).

    >>> ys, h = mg.nn.RNN(2, 3, num_layers=2, nonlinearity="relu", rng=0)(np.ones((5, 4, 2)))
    >>> ys.shape, h.shape
    ((5, 4, 3), (2, 4, 3))
    """

    cell = RNNCell


class LSTM(_Layers):
    """LSTM layers, as `torch.nn.LSTM`; see `minigrad.cells.lstm_step`.

    The state is an `LSTMState`, that is (h, c). What PyTorch has not goes by name:
    `candidate="sigmoid"`, the form of the book, and `peephole=True`, which adds `weight_ch_l0`, ...
    to the state dict; see `LSTMCell`. `dropout` acts between layers, in training mode: see
    `Dropout`. `proj_size` is not there yet: `UsageError`.

    >>> layer = mg.nn.LSTM(2, 3, bidirectional=True, rng=0)
    >>> ys, (h, c) = layer(np.ones((5, 4, 2)), lengths=[5, 4, 1, 0])
    >>> ys.shape, h.shape
    ((5, 4, 6), (2, 4, 3))
    """

    cell = LSTMCell


class GRU(_Layers):
    """GRU layers, as `torch.nn.GRU`; see `minigrad.cells.gru_step`.

    With `reset="before"` in place of `"after"`, those of the original paper; see `GRUCell`.

    >>> ys, h = mg.nn.GRU(2, 3, num_layers=2, dropout=0.5, rng=0)(np.ones((5, 4, 2)))
    >>> ys.shape, h.shape
    ((5, 4, 3), (2, 4, 3))
    """

    cell = GRUCell
