"""Fused ops: a C forward, a C backward, and a plain reference made of ordinary ops.

The reference is the op's meaning, its test oracle, and the source of second and higher
derivatives: a backward pass that is itself recorded puts the reference in the fused node's place,
so that every order equals that of the unfolded computation, to the bit. The rules here therefore
see arrays only. Otherwise the engine does not know that an op is fused.
"""

from collections.abc import Callable

from .. import kernels
from ..graph import Op, register
from .linear import Product, RowSum, matmul


def _lstm_rule(needs, g, out, xs, h0, c0, weight, recurrent, bias, *, lengths=None):
    ys, _, _, gates, cells = out
    dz, dh0, dc0 = kernels.lstm_backward(g, recurrent, c0, lengths, gates, cells)
    newest_first = dz[::-1]  # the order in which an unfolded graph sends its contributions
    return [
        matmul(dz, weight) if needs[0] else None,
        dh0,
        dc0,
        Product(newest_first, xs[::-1]),
        [Product(newest_first[:-1], ys[:-1][::-1]), Product(dz[:1], h0[None])] if len(dz) else None,
        RowSum(newest_first),
    ]


def fused_lstm(reference: Callable) -> Op:
    """The LSTM over a whole sequence, `(xs, h0, c0, weight, recurrent, bias) -> (ys, h, c)`."""
    return register(
        Op(
            "lstm",
            kernels.lstm_forward,
            vjp=_lstm_rule,
            multi=True,
            forward_saving=kernels.lstm_forward_saving,
            reference=reference,
        )
    )
