"""Laws of a recurrent cell's paths of computation, which ought to agree: C15 to C19, C24 to C27.

Each says that two ways to one result give the same: fused and unfolded, whole and in pieces, stored
and computed again, single and double precision, one memory layout and another, now and later.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from .. import kernels, nn, tree
from ..backward import gradients
from ..errors import GradientError
from ..expand import node_of
from ..graph import Tensor, no_grad, registry, set_grad_enabled
from ..module import Module, with_tensors
from ..optim import SGD
from ..transforms import checkpoint
from ..unfold import detach_state, fused_op, tbptt, unfold
from ..unfold import run as unrolled
from .cell_info import CELL_LAWS, CellInfo
from .dots import dot_test, top
from .example import Sequences, generator, lay, signed
from .laws import NotApplicable, Trial, law
from .runs import (
    EPS,
    Batch,
    Noise,
    Results,
    against,
    batch,
    filled,
    in_float32,
    machine,
    needs_cell,
    rows_of,
    sample_cell,
)
from .subject import Traced

WORTH_THREADS = (  # smaller layers run in one, also those of one gate
    {"T": 16, "N": 29, "I": 33, "H": 131},  # each thread takes some of the rows
    {"T": 60, "N": 3, "I": 33, "H": 131},  # or of the units
)
TAILS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33)  # units: whole vectors, and tails of all


def _some_steps(example: Sequences) -> Sequences:
    """The example, with one step in place of none."""
    return example if example.T else replace(example, T=1)


def _exact(info: CellInfo) -> bool:
    """Whether two paths of a minigrad cell owe each other the same bits."""
    return info.cell is not None and kernels.backend() == "c"


# --- fused and unfolded --------------------------------------------------------------------------


def _no_fused_path(info: CellInfo) -> str | None:
    if info.cell is None:
        return None if info.reference else "code written by hand, and no reference beside it"
    cell, *_ = sample_cell(info)
    return None if cell is not None and fused_op(cell) else "no fused path"


@law(CELL_LAWS, "C15", "the fused path gives what the unfolded one gives", _no_fused_path, 0.3)
def C15(trial: Trial, info: CellInfo, example: Sequences):
    """fused(xs, s0, weights) = unfolded(xs, s0, weights): outputs, last states, every gradient.

    At numbers of units around each width of a vector, in float32 and float64, with lengths and
    in reverse. Under the C kernels to the bit, and so are all instruction sets of the machine, and
    one thread and two, at sizes that are worth two; under the NumPy kernels within rounding. Code
    written by hand is the fused path, and the reference beside it the unfolded one. Catches tails
    of vectors, orders of gates, buffers read before they are written.
    """
    if example.seed % 2:  # the small sizes as they are, or the tails of vectors
        example = replace(example, H=TAILS[5 + (example.H - 1) % 9])
    dtype = (np.float64, np.float32)[example.seed // 2 % 2]
    if info.cell is None:
        against(batch(trial, info, example, dtype), info.reference)  # type: ignore[arg-type]
        return
    of = batch(trial, info, example, dtype, reverse=bool(example.seed // 4 % 2))
    expected = of.results(fused=False)
    of.agree(of.results(fused=True), expected, "on the fused path", exact=_exact(info))
    for isa in kernels.isas():
        with machine(isa=isa):
            of.agree(of.results(fused=True), expected, f"fused on {isa}", exact=True)
    if kernels.backend() == "c" and example.seed % 4 == 2:
        sizes = WORTH_THREADS[example.seed // 8 % 2]
        large = replace(example, **sizes, lengths=None)  # type: ignore[arg-type]
        of = batch(trial, info, large, dtype, reverse=of.how["reverse"])
        with machine(threads=1):
            expected = of.results(fused=True)
        with machine(threads=2):
            again = of.results(fused=True)
        of.agree(again, expected, "with two threads, not one", exact=True)


# --- linear mode ---------------------------------------------------------------------------------

EXACT = {np.dtype(np.float64): 2.0**40, np.dtype(np.float32): 2.0**18}  # of 2^53, and of 2^24
STEP = 2.0**-600  # its square is 0 in float64: complex numbers are dual numbers


def _piece(low: float, high: float):
    """x within [low, high], bounded outside: forward and rule, for complex numbers too."""

    def forward(x):
        x = np.asarray(x)
        inside = (x.real >= low) & (x.real <= high)
        return np.where(inside, x, np.clip(x.real, low, high)).astype(x.dtype)

    return forward, lambda g, out, x: g * ((x >= low) & (x <= high))


# Bounded, so that integers stay small over time; a gate is 0 or 1, so that states stay bounded.
_IN_PLACE = {
    "tanh": _piece(-1, 1), "erf": _piece(-1, 1), "sigmoid": _piece(0, 1),
    "softplus": _piece(0, np.inf), "relu": _piece(0, np.inf),
}  # fmt: skip

# Ops that make integers of integers, and sums and products of them.
_INTEGRAL = {
    *_IN_PLACE, "add", "addmm", "affine", "broadcast_to", "concatenate", "difference",
    "flip_rows", "getitem", "identity", "matmul", "multiply", "negative", "pad", "positive",
    "products", "put", "reshape", "roll", "row_sums", "scale", "split", "square", "stack",
    "subtract", "sum", "sum_to", "transpose", "unstack", "where", "cumsum",
}  # fmt: skip


@contextmanager
def linear_mode() -> Iterator[None]:
    """Activations are piecewise linear within the block, and integers stay integers.

    tanh and erf are x bounded by -1 and 1, the sigmoid is x bounded by 0 and 1, softplus and relu
    are x above 0; at a bound the slope is that of the inside. Fused ops know nothing of it.
    """
    names = ("forward", "vjps", "array_vjps")
    before = {op: [getattr(registry[op], k) for k in names] for op in _IN_PLACE}
    try:
        for name, (forward, rule) in _IN_PLACE.items():
            op = registry[name]
            op.forward, op.vjps, op.array_vjps = forward, (rule,), (rule,)
        yield
    finally:
        for name, values in before.items():
            for k, value in zip(names, values, strict=True):
                setattr(registry[name], k, value)


def _ops_behind(outs: Sequence[Tensor]) -> set[str]:
    """The names of the ops that made tensors."""
    stack = [node_of(t.source) for t in outs if t.source is not None]
    seen, names = set(stack), set()
    while stack:
        node = stack.pop()
        if node.op is not None:
            names.add(node.op.name)
        for s in node.sources or ():
            if s is not None and node_of(s) not in seen:
                seen.add(node_of(s))
                stack.append(node_of(s))
    return names


def _whole_numbers(of: Batch) -> Batch:
    """The batch with -1, 0 and 1 in place of its numbers; few of a row of weights are not 0."""

    def drawn(i, name, a):
        rng = generator(of.example.seed, 70, i)
        dense = 0.7
        if name in of.weights and a.ndim > 1:
            dense = min(1.0, 1.5 / a.shape[-1])
        return (rng.integers(0, 2, a.shape) * 2 - 1.0) * (rng.random(a.shape) < dense)

    return of.at({k: drawn(i, k, a) for i, (k, a) in enumerate(of.arrays.items())})


def _small_cotangents(of: Batch, outs: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [
        generator(of.example.seed, 71, i).choice([-2.0, -1.0, 1.0, 2.0], o.shape).astype(o.dtype)
        for i, o in enumerate(outs)
    ]


def _unrolled(cell, xs, state, weights, of: Batch) -> list[np.ndarray]:
    """(ys, *last) of a cell run node by node on arrays, which may be complex."""
    copy: Any = with_tensors(
        cell, dict(zip(of.weights, [Tensor.at(w, None) for w in weights], strict=True))
    )
    _, form = tree.flatten(cell.initial_state(1, np.float64))
    start = form.build([Tensor.at(s, None) for s in state])
    with no_grad():
        out = unrolled(copy.begin(), Tensor.at(xs, None), start, of.lengths)
    return [out.ys.data, *[t.data for t in tree.flatten(out.state)[0]]]


def _dual(of: Batch, cell, directions: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The derivatives of (ys, *last) along a direction, exact where all numbers are integers."""
    moved = [a + 1j * (STEP * d) for a, d in zip(of.arrays.values(), directions, strict=True)]
    n = len(of.state)
    return [np.imag(o) / STEP
            for o in _unrolled(cell, moved[0], moved[1 : 1 + n], moved[1 + n :], of)]  # fmt: skip


@law(CELL_LAWS, "C16", "with integers and linear activations all is exact",
     needs_cell("activations that could be exchanged"), 0.25)  # fmt: skip
def C16(trial: Trial, info: CellInfo, example: Sequences):
    """Within `linear_mode`, on integers: g . (J d) = (J' g) . d, equal and not nearly equal; and
    pieces of time, permuted rows, float32 give the same integers.

    Sums and products of integers below 2^53 have no rounding, so the two sides are equal or there
    is an error, however small or rare. J d comes from the forward code alone: of numbers
    a + i 2^-600 d the imaginary part carries the derivative and nothing else, as the square of
    2^-600 is 0. Up to 64 steps. Catches indices, terms left out or counted twice, truncation
    in time, and casts, below the bar of any tolerance. It sees the path that is unfolded node by
    node; a fused one has its activations within, and equals the unfolded one by C15.
    """
    example = _some_steps(example)
    if example.seed % 16 == 15:
        example = replace(example, T=8 * example.T)
        if example.lengths is not None:
            example = replace(example, lengths=tuple([8 * n for n in example.lengths]))
    of = _whole_numbers(batch(trial, info, example))
    cell = info.cell(example.I, example.H)
    with linear_mode(), np.errstate(all="ignore"):
        run = of.run(fused=False)
        gs = _small_cotangents(of, [run.ys, *run.last])
        directions = [
            generator(example.seed, 73, i).choice([-2.0, -1.0, 1.0, 2.0], a.shape)
            for i, a in enumerate(of.arrays.values())
        ]
        forward = [run.ys, *run.last, *_dual(of, cell, directions)]
        if not all([(np.rint(a) == a).all() for a in forward]) or not _is_integral(of, cell):
            raise NotApplicable("not made of sums, products and activations known to linear mode")
        base = of.results(gs, fused=False)
        size = max([top(a) for a in (*forward, *base.gradients.values())])
        if size >= EXACT[np.dtype(np.float64)]:
            raise NotApplicable("integers too large to be exact")
        trial.method = "dual numbers"
        _adjoint(of, cell, base, gs, directions)

        order = generator(example.seed, 72).permutation(example.N)
        own = [gs[0][:, order], *[g[order] for g in gs[1:]]]
        got = of.rows(order).results(own, fused=False)
        expected = rows_of(of, base, order)
        expected.gradients.update({k: base.gradients[k] for k in of.weights})
        of.agree(got, expected, "with permuted rows", exact=True)
        pieces = of.in_pieces([example.cut], gs, fused=False)
        of.agree(pieces, base, "in two pieces", exact=True, facts={"cut": example.cut})
        if size < EXACT[np.dtype(np.float32)]:
            single = in_float32(of).results([g.astype(np.float32) for g in gs], fused=False)
            double = Results(
                *[{k: a.astype(np.float64) for k, a in kind.items()} for kind in single]
            )
            of.agree(double, base, "in float32", exact=True)


def _adjoint(of: Batch, cell, base: Results, gs, directions: Sequence[np.ndarray]) -> None:
    """g . (J d) = (J' g) . d: along all arguments at once, and if that fails one by one, to find
    which."""

    def sides(ds) -> tuple[float, float]:
        forward = sum([float((g * d).sum()) for g, d in zip(gs, _dual(of, cell, ds), strict=True)])
        pairs = zip(base.gradients.values(), ds, strict=True)
        return forward, sum([float((g * d).sum()) for g, d in pairs])

    expected, got = sides(directions)
    if expected == got:
        return
    what, facts = "along a direction, in integers", of.facts(gradients=base.gradients)
    for i, name in enumerate(of.arrays):
        alone, own = sides([d * (j == i) for j, d in enumerate(directions)])
        of.trial.true(
            alone == own, f"the gradient of {name} {what}", f"{alone:.17g}", f"{own:.17g}",
            input=name, facts=facts,
        )  # fmt: skip
    of.trial.true(False, f"the gradient {what}", f"{expected:.17g}", f"{got:.17g}", facts=facts)


def _is_integral(of: Batch, cell) -> bool:
    """Whether one step of the cell is made of ops that keep integers."""
    n = len(of.state)
    tensors: list[Any] = [Tensor(a, requires_grad=True) for a in of.arrays.values()]
    copy: Any = with_tensors(cell, dict(zip(of.weights, tensors[1 + n :], strict=True)))
    _, form = tree.flatten(cell.initial_state(1, np.float64))
    with set_grad_enabled(True):
        y, state = copy(tensors[0][0], form.build(tensors[1 : 1 + n]))
    return _ops_behind([y, *tree.flatten(state)[0]]) <= _INTEGRAL


# --- pieces of time ------------------------------------------------------------------------------


@law(CELL_LAWS, "C17", "truncated back-propagation reaches back to its window, no less or more",
     share=0.3)  # fmt: skip
def C17(trial: Trial, info: CellInfo, example: Sequences):
    """Pieces of k steps whose state gradients are handed on give the gradient of the whole, at
    any k; with states cut, `mg.tbptt` with window k gives that of the pieces alone.

    ys, last states: equal at any k. k >= T: tbptt is one run, to the bit. k < T: the windows cover
    every step once, the gradient of a window is that of a run that begins at its first step, and
    none reaches x before it. Catches windows off by one, a state part cut at one step only, states
    that are not cut, a gradient silently truncated. For code written by hand, the first part.
    """
    example = _some_steps(example)
    k = 1 + example.cut % example.T
    of = batch(trial, info, example)
    cuts = range(k, example.T, k)
    handed = of.in_pieces(cuts, of.gs)
    of.agree(handed, of.base, f"in pieces of {k} steps", exact=False)
    if info.cell is None:
        return
    cell = info.cell(example.I, example.H)
    got = _windows(of, cell, k)
    expected = of.in_pieces(cuts, of.gs, detached=True)
    of.agree(got, expected, f"of tbptt, k = {k}", exact=False)
    if _exact(info):
        of.agree(got, Results(of.base.outputs), f"of tbptt, k = {k}", exact=True)
    once = _windows(of, cell, example.T + example.cut)
    of.agree(once, of.base, "of tbptt with a window of all steps", exact=_exact(info))


def _windows(of: Batch, cell, k: int) -> Results:
    """The batch run by `mg.tbptt`, back-propagated window by window."""
    n, names = len(of.state), of.sized.names
    points: list[Any] = [Tensor(a, requires_grad=True) for a in of.arrays.values()]
    copy: Any = with_tensors(cell, dict(zip(of.weights, points[1 + n :], strict=True)))
    _, form = tree.flatten(cell.initial_state(1, np.float64))
    start = form.build(points[1 : 1 + n])
    total = [np.zeros_like(a) for a in of.arrays.values()]
    ys, last, at = [], [], 0
    for steps, y, state in tbptt(copy, points[0], k, start, of.lengths):
        of.trial.true(
            (steps.start, steps.stop) == (at, min(at + k, len(of.xs))),
            f"the window of tbptt, k = {k}", f"steps {at} to {min(at + k, len(of.xs))}",
            f"steps {steps.start} to {steps.stop}", facts=of.facts(),
        )  # fmt: skip
        at = steps.stop
        last = tree.flatten(state)[0]
        pairs = [(y, of.gs[0][steps])]
        if at == len(of.xs):
            pairs += list(zip(last, of.gs[1:], strict=True))
        ys.append(y.data)
        found = _pulled(pairs, points)
        outside = np.delete(found[0], steps, 0)
        of.trial.true(
            not outside.any(), f"the gradient of xs outside of its window, tbptt, k = {k}",
            "0", f"{top(outside):.3g}", input="xs", facts=of.facts(),
        )  # fmt: skip
        total = [t + g for t, g in zip(total, found, strict=True)]
    of.trial.true(
        at == len(of.xs), f"the windows of tbptt, k = {k}", f"{len(of.xs)} steps", f"{at} steps"
    )
    outputs = {
        "ys": np.concatenate(ys),
        **{p: t.data for p, t in zip(of.sized.parts, last, strict=True)},
    }
    return Results(outputs, dict(zip(names, total, strict=True)))


@law(CELL_LAWS, "C18", "computed again gives what is stored", needs_cell("checkpoint"), 0.3)
def C18(trial: Trial, info: CellInfo, example: Sequences):
    """`mg.checkpoint` around two pieces of `unfold`: values and gradients of the plain call.

    To the bit for every cell, fused or node by node: the same ops run again on the same numbers.
    Catches what changes from one call to the next: a random mask, a counter, a buffer, a state
    that is kept in the cell; and a checkpoint that loses a gradient on the way.
    """
    of = batch(trial, info, example)
    cell = info.cell(example.I, example.H)
    how = ("auto", False)[example.seed % 2]
    spans = [slice(0, example.cut), slice(example.cut, example.T)]
    plain = _wrapped(of, cell, spans, lambda f: f, how)
    again = _wrapped(of, cell, spans, checkpoint, how)
    of.agree(again, plain, "computed again", exact=True, facts={"cut": example.cut})
    _found_out(trial, of)


def _found_out(trial: Trial, of: Batch) -> None:
    """What is computed again and comes out otherwise is refused, or not computed again at all."""
    x, noise = Tensor(of.xs, requires_grad=True), iter((1.0, 2.0, 3.0))
    y = checkpoint(lambda x: x * next(noise))(x)
    try:
        (found,) = gradients([y], [x], [np.ones_like(of.xs)])
    except GradientError:
        return
    trial.same(found, np.ones_like(of.xs), "the gradient of what is not the same when run again")


def _piece_of(cell, lengths, fused, xs, state) -> tuple:
    return tuple(unfold(cell, xs, state, lengths, fused=fused))


def _wrapped(of: Batch, cell, spans: Sequence[slice], wrap, fused: bool | str = False) -> Results:
    """A run in pieces, each within `wrap`, and the way back through all of them."""
    n, parts = len(of.state), of.sized.parts
    points: list[Any] = [Tensor(a, requires_grad=True) for a in of.arrays.values()]
    copy: Any = with_tensors(cell, dict(zip(of.weights, points[1 + n :], strict=True)))
    _, form = tree.flatten(cell.initial_state(1, np.float64))
    state, ys = form.build(points[1 : 1 + n]), []
    for steps in spans:
        y, state = wrap(partial(_piece_of, copy, of.piece(steps).lengths, fused))(
            points[0][steps], state
        )
        ys.append(y)
    last = tree.flatten(state)[0]
    outputs = {"ys": np.concatenate([y.data for y in ys])}
    outputs |= {p: s.data for p, s in zip(parts, last, strict=True)}
    gs = of.cotangents(list(outputs.values()))
    pairs = list(zip([*ys, *last], [*[gs[0][steps] for steps in spans], *gs[1:]], strict=True))
    found = _pulled(pairs, points)
    return Results(outputs, dict(zip(of.sized.names, found, strict=True)))


def _pulled(pairs: Sequence[tuple], points: Sequence[Tensor]) -> list[np.ndarray]:
    """The gradients of points from pairs (output, cotangent), zeros where nothing depends."""
    pairs = [(o, g) for o, g in pairs if o.requires_grad]
    none: list = [None] * len(points)
    found = gradients([o for o, _ in pairs], points, [g for _, g in pairs]) if pairs else none
    return filled(found, [p.data for p in points])


# --- random masks --------------------------------------------------------------------------------

RATES = ("dropout", "zoneout")


def _modules(module: Module) -> Iterator[Module]:
    """A module and its parts."""
    yield module
    for value in vars(module).values():
        if isinstance(value, Module):
            yield from _modules(value)


def _rates(cell: Module) -> list[tuple[Module, str, float]]:
    """The attributes of a cell and its parts that are rates of random masks, and their values."""
    return [
        (m, k, v)
        for m in _modules(cell)
        for k, v in vars(m).items()
        if any([r in k.lower() for r in RATES]) and isinstance(v, float | int)
    ]


def _generators(cell: Module) -> list[np.random.Generator]:
    found = [v for m in _modules(cell) for v in vars(m).values()]
    return [v for v in found if isinstance(v, np.random.Generator)]


def _no_masks(info: CellInfo) -> str | None:
    if info.cell is None:
        return "code written by hand has no training mode"
    cell, features, _ = sample_cell(info)
    if cell is not None and not _rates(cell):
        x = generator(0, 80).random((4, 2, features))
        with no_grad():
            first, second = (unfold(cell.train(mode), x).ys.data for mode in (True, False))
        if (first == second).all():
            cell = None
    return "no dropout, no zoneout" if cell is None else None


@law(CELL_LAWS, "C19", "one mask forward and back, none in evaluation", _no_masks, 0.3)
def C19(trial: Trial, info: CellInfo, example: Sequences):
    """Evaluation mode: twice the same bits. Rate 0 in training: what evaluation mode gives. With
    the cell's generator set back: g . (J d) = (J' g) . d for the mask that was drawn.

    Applies to cells whose `training` matters, or with an attribute named dropout or zoneout. The
    last part needs a `numpy.random.Generator` as an attribute, and lets `mg.checkpoint` either
    refuse or give the same gradient. Catches a mask drawn anew in the backward pass, one that
    stays on in evaluation, a scale of 1 / (1 - rate) that is forgotten on the way back.
    """
    of = batch(trial, info, example)
    cell = info.cell(example.I, example.H)

    everything = [slice(0, example.T)]

    def results(train: bool, wrap=lambda f: f) -> Results:
        cell.train(train)
        return _wrapped(of, cell, everything, wrap)

    first = results(False)
    of.agree(results(False), first, "of the second call in evaluation mode", exact=True)
    rates = _rates(cell)
    for module, name, _ in rates:
        setattr(module, name, 0.0)
    if rates:
        expected = results(False)
        of.agree(results(True), expected, "in training mode at rate 0", exact=True)
        for module, name, rate in rates:
            setattr(module, name, rate)
    rngs = _generators(cell)
    if not rngs:
        return
    states = [r.bit_generator.state for r in rngs]

    def set_back() -> None:
        for r, s in zip(rngs, states, strict=True):
            r.bit_generator.state = s

    n = len(of.state)

    def masked(xs, *rest):
        copy: Any = with_tensors(cell, dict(zip(of.weights, rest[n:], strict=True)))
        _, form = tree.flatten(cell.initial_state(1, np.float64))
        out = unfold(copy, xs, form.build(rest[:n]), of.lengths, fused=False)
        return out.ys, *tree.flatten(out.state)[0]

    class Masked(Traced):
        """The cell with the mask that is drawn next."""

        def _call(self, tensors, params):
            set_back()
            return super()._call(tensors, {})

    cell.train()
    dot_test(trial, of.call(Masked(masked)), most=1)
    set_back()
    base = results(True)
    set_back()
    try:
        again = results(True, checkpoint)
    except GradientError:
        return  # refused, as it may
    of.agree(again, base, "computed again", exact=True)


# --- precision -----------------------------------------------------------------------------------

FINE = 2.0**-24  # half a unit of float32: steps that it cannot follow
HIDDEN = 1e-10  # relative: above all rounding of float64, far below a unit of float32


@law(CELL_LAWS, "C24", "float32 is near float64, and float64 is float64 all through", share=0.3)
def C24(trial: Trial, info: CellInfo, example: Sequences):
    """R32 - R64 within a bar, on the same numbers; R(a + d) - 2 R(a) + R(a - d) = O(d^2) in float64
    for steps d of 2^-24, relative: outputs and gradients.

    The bar is what arguments moved by a unit of float32 do to the float64 run, times the length of
    the way, so it grows with T as rounding does. The second law is smoothness below the resolution
    of float32: a number that is kept or computed in float32 anywhere on the way moves in stairs of
    6e-8, which the second difference shows, where float64 leaves 1e-10 at most. Catches a gate
    saved in float32, gradients accumulated in float32, a cast forgotten.
    """
    # Saturated gates lose digits in 1 - z, whoever computes; other laws go there.
    example = replace(example, gain=min(example.gain, 1.0), values="generic", dtype="float32")
    of = batch(trial, info, example, np.float64)
    run = of.run()
    gs = [np.asarray(g).astype(np.float32).astype(np.float64)
          for g in of.cotangents([run.ys, *run.last])]  # fmt: skip
    base = of.results(gs)
    directions = {k: signed(a.shape, example.seed, 90, i)
                  for i, (k, a) in enumerate(of.arrays.items())}  # fmt: skip
    steps = {k: FINE * (a + 2.0**-4) * directions[k] for k, a in of.arrays.items()}
    above, below = (
        of.at({k: a + s * steps[k] for k, a in of.arrays.items()}).results(gs) for s in (1.0, -1.0)
    )
    size = max([top(a) for _, a in base.named()])
    for kind in ("outputs", "gradients"):
        for name, a in getattr(base, kind).items():
            up, down = (getattr(o, kind)[name] for o in (above, below))
            # The last term is the second derivative, where there is no first one.
            bar = HIDDEN * (top(a) + top(up - a) / FINE) + 2.0**8 * FINE**2 * size
            trial.close(
                (up - a) + (down - a), np.zeros_like(a), bar,
                f"the second difference of {'' if kind == 'outputs' else 'the gradient of '}{name},"
                " in steps that float32 cannot follow",
                input=None if kind == "outputs" else name, axes=of.axes(name),
                facts=of.facts(gradients=base.gradients, precision="float32"),
            )  # fmt: skip
    single_of = in_float32(of)
    single = single_of.results([g.astype(np.float32) for g in gs])
    if info.cell is not None:
        for what, a in single.named():
            trial.true(a.dtype == np.float32, f"{what} of a float32 run", "float32", str(a.dtype))
    noise = Noise(single_of.arrays, lambda: (base, [above, below]))
    single_of.agree(single, base, "in float32", exact=False, noise=noise)
    trial.resolution = HIDDEN  # what the first part sees; the second looks at float32 itself


# --- layouts -------------------------------------------------------------------------------------

_LAYERS = {nn.RNNCell: nn.RNN, nn.LSTMCell: nn.LSTM, nn.GRUCell: nn.GRU}
_OPTIONS = ("nonlinearity", "peephole", "candidate", "reset")
_KEEPING = ("F", "sliced", "negative", "offset", "read-only")  # layouts that keep the values


@law(CELL_LAWS, "C25", "layout in memory changes nothing", share=0.3)
def C25(trial: Trial, info: CellInfo, example: Sequences):
    """R(view) = R(contiguous copy), for xs as every second step of a longer sequence or as the
    transpose of (N, T, I), and states and weights of any layout; and a batch-first layer = the
    time-first one on the transpose.

    To the bit for the library's cells, whose results depend on shapes alone; within rounding for
    others, in which NumPy may choose its way by strides, and it is noted whether the bits are the
    same. Catches strides ignored.
    """
    of = batch(trial, info, replace(example, layout="C"))
    base = of.results()
    xs = of.xs
    if example.seed % 3 == 0:
        long = np.full((2 * len(xs) + 1, *xs.shape[1:]), np.nan)
        long[1::2] = xs
        view = long[1::2]
    elif example.seed % 3 == 1:
        view = np.ascontiguousarray(xs.swapaxes(0, 1)).swapaxes(0, 1)
    else:
        view = lay(xs, _KEEPING[example.seed // 3 % 5])
    others = {k: lay(a, _KEEPING[(example.seed // 15 + i) % 5])
              for i, (k, a) in enumerate(of.arrays.items()) if k != "xs"}  # fmt: skip
    got = of.at({"xs": view, **others}).results()
    of.agree(got, base, "of arrays that are no contiguous block")
    if info.cell is None:
        return
    cell = info.cell(example.I, example.H)
    layer = _LAYERS.get(type(cell))
    if layer is None:
        return
    options = {k: getattr(cell, k) for k in _OPTIONS if hasattr(cell, k)}
    first, second = (
        _layered(of, layer(example.I, example.H, batch_first=major, rng=0, **options), major)
        for major in (False, True)
    )
    of.agree(second, first, "of a batch-first layer")


def _layered(of: Batch, layer, batch_first: bool) -> Results:
    """The batch run by a layer, with the results put back to time first."""

    def turn(a):
        return a.swapaxes(0, 1) if batch_first else a

    points: list[Any] = [Tensor(turn(of.xs), requires_grad=True),
              *[Tensor(s[None], requires_grad=True) for s in of.state],
              *[Tensor(of.weights[k], requires_grad=True) for k in of.weights]]  # fmt: skip
    n = len(of.state)
    names = [f"{k}_l0" for k in of.weights]
    copy: Any = with_tensors(layer, dict(zip(names, points[1 + n :], strict=True)))
    start = tuple(points[1 : 1 + n]) if n > 1 else points[1]
    out = copy(points[0], start, of.lengths)
    last = list(out.state) if n > 1 else [out.state]
    gs = of.example.cotangents([turn(out.ys.data), *[s.data[0] for s in last]])
    pairs = [(out.ys, turn(gs[0])), *zip(last, [g[None] for g in gs[1:]], strict=True)]
    found = _pulled(pairs, points)
    found[0] = turn(found[0])
    found[1 : 1 + n] = [g[0] for g in found[1 : 1 + n]]
    outputs = {"ys": turn(out.ys.data)}
    outputs |= {p: s.data[0] for p, s in zip(of.sized.parts, last, strict=True)}
    return Results(outputs, dict(zip(of.sized.names, found, strict=True)))


# --- long sequences ------------------------------------------------------------------------------

STEPS = {"ci": 10_000, "nightly": 1_000_000, "release": 1_000_000}
STEPS_IN_PYTHON = 50_000  # where a step takes kilobytes, and the run is kept for the way back


def _grows(of: Batch) -> bool:
    """Whether results grow with time, by more than in proportion."""
    early, late = (
        max([top(a) for _, a in of.piece(slice(0, n)).results().named()]) for n in (100, 200)
    )
    return late > 10 * early


@law(CELL_LAWS, "C26", "long sequences run", share=0.001)
def C26(trial: Trial, info: CellInfo, example: Sequences):
    """R over T = 2,000 steps (10^4 in HYPOTHESIS_PROFILE=ci, 10^6 nightly) ends, is finite, and its
    outputs are those of two runs, the second from the last state of the first.

    One row, few units, weights of a quarter of their size, so that most cells contract. Catches
    recursion over time, counters too narrow, buffers of a fixed length, and sums of time formed in
    less precision.
    """
    T = STEPS.get(os.environ.get("HYPOTHESIS_PROFILE", ""), 2000)
    if info.cell is None or fused_op(info.cell(1, 2)) is None:
        T = min(T, STEPS_IN_PYTHON)
    example = replace(example, T=T, N=1, I=1, H=2, lengths=None, gain=0.25, values="generic", cut=3)
    of = batch(trial, info, example)
    long = of.results()
    if not all([np.isfinite(a).all() for _, a in long.named()]) and _grows(of):
        raise NotApplicable("it does not contract")
    for what, a in long.named():
        trial.true(np.isfinite(a).all(), f"{what} after {T} steps", "finite numbers", "others",
                   facts=of.facts(gradients=long.gradients))  # fmt: skip
    of.gradients(of.run(), [None, *of.gs[1:]])  # from the end alone all of time lies in one chain
    first, second = slice(0, T // 2 + 1), slice(T // 2 + 1, T)
    before = of.piece(first).run()
    after = of.piece(second, before.last).run()
    found = {**of.outputs(after), "ys": np.concatenate([before.ys, after.ys])}
    when = f"in two pieces of {T} steps"
    of.agree(Results(found), Results(long.outputs), when, exact=_exact(info))


# --- sequences of calls --------------------------------------------------------------------------


@law(CELL_LAWS, "C27", "nothing is left over from call to call", share=0.2)
def C27(trial: Trial, info: CellInfo, example: Sequences):
    """A, then other values, then other shapes, then A again: the bits of the first time; and a
    gradient asked for after another run, or twice, is the same. Of a cell, any order of steps,
    unrolls, backward passes, resets, cuts, saves and loads, modes and updates of weights gives
    what a new cell gives that computes everything from its beginning.

    A backward pass after an update of weights must raise, or use the weights of the forward pass.
    Catches buffers shared between calls, accumulators that are not zeroed, packed weights kept
    over an update, saved arrays written into.
    """
    _interleaved(trial, info, example)
    if info.cell is not None:
        _Machine(trial, info, example).play()


def _interleaved(trial: Trial, info: CellInfo, example: Sequences) -> None:
    of = batch(trial, info, example)
    first = of.results()
    other = batch(trial, info, replace(example, seed=example.seed + 1))
    longer = batch(trial, info, replace(
        example, T=example.T + 2, N=example.N + 1, I=example.I + 1, H=example.H + 3, lengths=None
    ))  # fmt: skip
    run = of.run()
    longer.results()
    second = other.run()
    gs = of.cotangents([run.ys, *run.last])
    for pull in ("a gradient asked for after other runs", "a gradient asked for again"):
        if pull.endswith("again") and info.cell is not None:
            run = of.run()  # a graph is used up by its backward pass
        of.agree(Results(of.outputs(run), of.gradients(run, gs)), first, f"({pull})", exact=True)
    other.gradients(second, [second.ys, *[None] * len(second.last)])
    of.agree(of.results(), first, "of the same call after others", exact=True)


class _Machine:
    """A cell in use, and what a naive model says of it: the actions come from the seed.

    The model keeps the inputs since the state was last cut, and computes all anew with a new cell.
    """

    ACTIONS = ("step", "unroll", "backward", "reset", "detach", "load", "mode", "update", "write")

    def __init__(self, trial: Trial, info: CellInfo, example: Sequences):
        self.trial, self.info, self.example = trial, info, example
        self.rng = generator(example.seed, 95)
        self.of = batch(trial, info, replace(example, lengths=None))
        self.cell = self.new_cell(self.of.weights)
        _, self.form = tree.flatten(self.cell.initial_state(1, np.float64))
        self.weights = dict(self.of.weights)
        self.total = {k: np.zeros_like(w) for k, w in self.weights.items()}
        self.bars = dict.fromkeys(self.weights, 0.0)
        self.log: list[str] = []
        self.restart(self.of.state)

    def new_cell(self, weights):
        cell = self.info.cell(self.example.I, self.example.H)
        cell.load_state_dict(weights)
        return cell

    def restart(self, state: Sequence[np.ndarray]) -> None:
        """A state that depends on nothing: what is known begins anew."""
        self.start = tuple([np.array(s) for s in state])
        self.state = self.form.build([Tensor(s) for s in self.start])
        self.xs: list[np.ndarray] = []
        self.ys: list[Tensor] = []

    def play(self) -> None:
        for _ in range(8):
            action = self.ACTIONS[self.rng.integers(len(self.ACTIONS))]
            self.log.append(action)
            getattr(self, action)()
        self.step()
        self.log.append("step")
        self.check()
        self.backward()

    # What a person does with a cell.

    def step(self) -> None:
        x = self.rng.normal(size=(self.example.N, self.example.I))
        y, self.state = self.cell(Tensor(x), self.state)
        self.xs.append(x[None])
        self.ys.append(y[None])

    def unroll(self) -> None:
        x = self.rng.normal(size=(2, self.example.N, self.example.I))
        y, self.state = unfold(self.cell, x, self.state)
        self.xs.append(x)
        self.ys.append(y)

    def reset(self) -> None:
        self.restart(self.of.state)

    def detach(self) -> None:
        self.check()
        self.state = detach_state(self.state)
        self.restart([t.data for t in tree.flatten(self.state)[0]])

    def load(self) -> None:
        saved = self.cell.state_dict()
        for k, w in self.weights.items():
            self.trial.same(saved[k], w, f"{k} in the state dict {self.so_far()}", input=k)
        self.cell = self.new_cell(saved)
        self.forget()
        self.restart([t.data for t in tree.flatten(self.state)[0]])

    def mode(self) -> None:
        self.cell.train(not self.cell.training)
        self.cell.train(not self.cell.training)

    def update(self) -> None:
        """An optimiser's step between two uses; what was recorded before is let go."""
        self.restart([t.data for t in tree.flatten(self.state)[0]])
        self.change()

    def write(self) -> None:
        """An update between the forward and the backward pass."""
        self.step()
        expected = self.naive()
        self.change()
        try:
            found = self.pull()
        except GradientError:
            found = None  # refused, as it should
        if found is not None:
            self.compare(Results({}, found), expected, "after an update of weights")
        self.restart([t.data for t in tree.flatten(self.state)[0]])

    def change(self) -> None:
        self.forget()
        if self.rng.integers(2):
            new = {k: w + 0.1 * self.rng.normal(size=w.shape) for k, w in self.weights.items()}
            self.cell.load_state_dict(new)
        else:
            for p in self.cell.parameters():
                p.grad = Tensor(self.rng.normal(size=p.shape))
            SGD(self.cell.parameters(), lr=0.1).step()
            new = self.cell.state_dict()
            self.forget()
        self.weights = {k: np.array(w) for k, w in new.items()}

    def forget(self) -> None:
        self.cell.zero_grad()
        self.total = {k: np.zeros_like(w) for k, w in self.weights.items()}
        self.bars = dict.fromkeys(self.weights, 0.0)

    def backward(self) -> None:
        """Gradients, which add to those that are there."""
        if not self.ys:
            return
        of, base, noise = self.naive()
        gs = self.cotangents()
        loss = sum([(y * g).sum() for y, g in zip(self.ys, gs, strict=True)])
        loss.backward()
        for name, p in self.cell.named_parameters():
            self.total[name] = self.total[name] + base.gradients[name]
            own = of.unit * top(base.gradients[name])
            own += of.widened("gradients", name, noise)
            self.bars[name] += own + 4 * EPS * top(self.total[name])  # and that of the sum
            got = np.zeros(p.shape) if p.grad is None else p.grad.data
            self.trial.close(
                got, self.total[name], self.bars[name], f"the gradient of {name} {self.so_far()}",
                input=name, axes=self.of.axes(name), facts=self.of.facts(),
            )  # fmt: skip
        self.restart([t.data for t in tree.flatten(self.state)[0]])

    # What the model says.

    def cotangents(self) -> list[np.ndarray]:
        return [signed(y.shape, self.example.seed, 96, i) for i, y in enumerate(self.ys)]

    def batch(self) -> Batch:
        return replace(self.of, xs=np.concatenate(self.xs), state=self.start, weights=self.weights)

    def naive(self) -> tuple[Batch, Results, Noise]:
        """All since the beginning, by a new cell, and its noise."""
        of = self.batch()
        gs = [np.concatenate(self.cotangents()), *[None] * len(self.start)]
        base = of.results(gs)
        return of, base, of.noise_for(gs, base)

    def pull(self) -> dict:
        points = list(self.cell.parameters())
        found = gradients(self.ys, points, self.cotangents())
        names = [k for k, _ in self.cell.named_parameters()]
        return {
            k: np.zeros(p.shape) if g is None else g
            for k, p, g in zip(names, points, found, strict=True)
        }

    def compare(self, got: Results, expected: tuple[Batch, Results, Noise], when: str) -> None:
        of, base, noise = expected
        known = [{k: b[k] for k in g} for b, g in zip(base, got, strict=True)]
        of.agree(got, Results(*known), when, exact=False, noise=noise)

    def check(self) -> None:
        """The outputs and the state so far."""
        if not self.ys:
            return
        got = {"ys": np.concatenate([y.data for y in self.ys])}
        parts = [t.data for t in tree.flatten(self.state)[0]]
        got |= dict(zip(self.of.sized.parts, parts, strict=True))
        self.compare(Results(got), self.naive(), self.so_far())

    def so_far(self) -> str:
        return f"after {', '.join(self.log)}"
