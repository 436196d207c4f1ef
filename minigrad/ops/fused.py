"""Fused ops: a C forward, a C backward, and a plain reference made of ordinary ops.

The reference is the op's meaning, its test oracle, and the source of second and higher
derivatives: a backward pass that is itself recorded puts the reference in the fused node's place,
so that every order equals that of the unfolded computation, to the bit. The rules here therefore
see arrays only. Otherwise the engine does not know that an op is fused.
"""

from collections.abc import Callable

from .. import recurrent
from ..graph import Op, register
from ..recurrent import Kind
from .linear import Product, RowSum, matmul


def _against_states(dz, before, first):
    """The contributions dz^T h over all steps, newest first: h are `before`, at step 0 `first`."""
    if not len(dz):
        return None
    return [Product(dz[:0:-1], before[::-1]), Product(dz[:1], first[None])]


def fused(kind: Kind, reference: Callable) -> Op:
    """A recurrent layer over a whole sequence, `(xs, *state, *weights) -> (ys, *last state)`."""

    def forward(*args, lengths=None):
        return recurrent.forward(kind, False, lengths, args)[0]

    def forward_saving(*args, lengths=None):
        found, saved = recurrent.forward(kind, True, lengths, args)
        return found, (saved,)

    def rule(needs, g, out, *args, lengths=None):
        (ys, *_, saved), (xs, h0), weights = out, args[:2], kind.weights(args)
        dz, dz_h, dh0, dc0 = recurrent.backward(kind, g, lengths, args, ys, saved)
        newest_first = dz[::-1]  # the order in which an unfolded graph sends its contributions
        d_xs = matmul(dz, weights.w) if needs[0] else None
        d_w = Product(newest_first, xs[::-1])
        d_u = _against_states(dz_h, ys[:-1], h0)
        if kind.joined:
            found = [d_xs, dh0, dc0, d_w, d_u, RowSum(newest_first)]
            if kind.peepholes:
                wanted = len(dz) and any(needs[6:])
                found += _of_peepholes(dz, saved[:, :, -1], args[2]) if wanted else [None] * 3
            return found
        if not kind.second:
            return [d_xs, dh0, d_w, d_u, RowSum(newest_first), RowSum(dz_h[::-1])]
        hidden = ys.shape[-1]
        dz_n, r = dz[..., 2 * hidden :], saved[:, :, 0]
        wanted = len(dz) and needs[4]
        d_v = _against_states(dz_n, r[1:] * ys[:-1], r[0] * h0) if wanted else None
        biases = [RowSum(newest_first), RowSum(dz_h[::-1]), RowSum(dz_n[::-1])]
        return [d_xs, dh0, d_w, d_u, d_v, *biases]

    return register(
        Op(
            kind.name,
            forward,
            vjp=rule,
            multi=True,
            forward_saving=forward_saving,
            reference=reference,
        )
    )


def _of_peepholes(dz, cells, c0) -> list:
    """The contributions to the peepholes: i and f saw c before the step, o saw it after."""
    hidden = cells.shape[-1]
    dz_i, dz_f, dz_o = dz[..., :hidden], dz[..., hidden : 2 * hidden], dz[..., 3 * hidden :]
    before = [[RowSum((d[1:] * cells[:-1])[::-1]), RowSum((d[0] * c0)[None])] for d in (dz_i, dz_f)]
    return [*before, RowSum((dz_o * cells)[::-1])]
