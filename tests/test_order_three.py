"""Derivatives of order one to three through several steps that share their weights.

Orders one and two can be right while order three is wrong (a walk that does not stop at the
argument of an inner gradient; a weight whose uses at different steps are confused), so order three
is tested: fused against unfolded to the bit, and against differences of order two.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from fused_cells import CELLS, arguments, kind_of, op_of, parts
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.cells import gru_step, rnn_step
from minigrad.unfold import run

every_cell = pytest.mark.parametrize("cell", CELLS)


def loss(path, args, lengths=None):
    """A scalar that is no linear function of any output."""
    ys, h, *rest = path(*args, lengths=lengths)
    c = rest[0] if rest else h
    return (ys * ys * ys).sum() + (h * c).sum() + mg.tanh(c).sum()


def scalars(path, args, by: list[int], seed=1, lengths=None) -> list:
    """f, <df/d args[by[0]], v0>, <d of that / d args[by[1]], v1>, ...: one scalar an order,
    each a function of `args`, made by nesting gradients."""
    rng = np.random.default_rng(seed)

    def contracted(f, position):
        v = rng.normal(size=args[position].shape).astype(args[position].dtype)
        return lambda *a: (mg.grad(f, position)(*a) * v).sum()

    functions = [lambda *a: loss(path, a, lengths)]
    for position in by:
        functions.append(contracted(functions[-1], position))
    return functions


def assert_same(x: np.ndarray, y: np.ndarray, what="", zero=False) -> None:
    assert x.shape == y.shape and x.dtype == y.dtype
    assert np.isfinite(x).all() and (zero or np.abs(x).max() > 0), what
    assert np.array_equal(x, y), f"{what}: {(x != y).sum()} of {x.size} elements differ"


# --- fused = unfolded ----------------------------------------------------------------------------

dtypes = st.sampled_from([np.float32, np.float64])
widths = st.sampled_from([1, 2, 3, 5, 7, 9, 17])


@pytest.mark.native
@given(
    st.sampled_from(list(CELLS)), dtypes, st.integers(2, 4), st.integers(1, 3), widths, widths,
    st.lists(st.integers(0, 99), min_size=3, max_size=3), st.booleans(), st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=80)
def test_every_order_of_fused_equals_unfolded(cell, dtype, T, N, I, H, by, ragged, seed):  # noqa: E741
    kind, op = kind_of(cell), op_of(cell)
    args = arguments(kind, T, N, I, H, dtype, seed)
    by = [position % len(args) for position in by]
    lengths = np.array([1 + r % T for r in range(N)]) if ragged else None
    pairs = [scalars(path, args, by[:-1], lengths=lengths) for path in (op, op.reference)]
    for order, (fused, unfolded) in enumerate(zip(*pairs, strict=True), 1):
        gradients = [mg.grad(f, by[order - 1])(*args) for f in (fused, unfolded)]
        what = f"order {order}, by {kind.labels[by[order - 1]]}"
        assert_same(*gradients, what, zero=cell == "rnn relu")  # whose units may all be at rest


@pytest.mark.native
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("retain", [False, True], ids=["once", "twice"])
@pytest.mark.parametrize("lengths", [None, [3, 1]], ids=["full", "ragged"])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@every_cell
def test_a_gradient_penalty_trains_the_same_weights_on_both_paths(
    cell, dtype, retain, lengths, reverse
):
    """Inner gradient by the inputs, outer by the parameters, through `backward`."""
    results = []
    for fused in (True, False):
        made = CELLS[cell](3, 5, dtype=dtype, rng=0)
        xs = mg.tensor(arguments(kind_of(cell), 3, 2, 3, 5, dtype)[0], requires_grad=True)
        ys, last = mg.unfold(made, xs, None, lengths, reverse, fused)
        ((ys * ys).sum() + parts(last)[-1].sum()).backward(create_graph=True)
        first = [p.grad for p in (xs, *made.parameters())]
        penalty = (first[0] * first[0]).sum() + (first[1] * first[2].sum()).sum()
        made.zero_grad()
        xs.grad = None
        penalty.backward(retain_graph=retain)
        if retain:
            penalty.backward()
        second = [p.grad for p in (xs, *made.parameters())]
        results.append([g.data for g in first + second])
    for x, y in zip(*results, strict=True):
        assert_same(x, y)


@pytest.mark.native
@every_cell
def test_a_recorded_pass_gives_the_bits_of_a_plain_one(cell):
    args, op = arguments(kind_of(cell), 4, 3, 5, 7), op_of(cell)
    for position in range(len(args)):
        for path in (op, op.reference):
            plain = mg.grad(lambda *a, path=path: loss(path, a), position)(*args)
            point = mg.tensor(args[position], requires_grad=True)
            values = [*args[:position], point, *args[position + 1 :]]
            loss(path, values).backward(create_graph=True)
            assert_same(plain, point.grad.data)


@pytest.mark.native
@pytest.mark.parametrize("lengths", [None, np.array([4, 0, 2])], ids=["full", "ragged"])
@every_cell
def test_a_retained_graph_gives_the_same_bits_again(cell, lengths):
    """Recorded or not: a recorded pass leaves the fused node unfolded in place, and a later pass
    walks that graph."""
    args = arguments(kind_of(cell), 4, 3, 5, 7)
    points = [mg.tensor(a, requires_grad=True) for a in args]
    f = loss(op_of(cell), points, lengths)
    passes = []
    for create_graph in (False, False, True, False, True):
        f.backward(retain_graph=True, create_graph=create_graph)
        passes.append([point.grad.data for point in points])
        for point in points:
            point.grad = None
    for grads in passes[1:]:
        for x, y in zip(passes[0], grads, strict=True):
            assert_same(x, y)


@pytest.mark.native
@every_cell
def test_each_subset_of_gradients_holds_the_bits_of_the_whole(cell):
    args, op = arguments(kind_of(cell), 3, 2, 3, 5), op_of(cell)
    whole = mg.grad(lambda *a: loss(op, a), tuple(range(len(args))))(*args)
    for subset in range(1, 2 ** len(args)):
        wanted = [i for i in range(len(args)) if subset >> i & 1]
        points = [mg.tensor(a, requires_grad=i in wanted) for i, a in enumerate(args)]
        loss(op, points).backward()
        assert [i for i, point in enumerate(points) if point.grad is not None] == wanted
        for i in wanted:
            assert_same(points[i].grad.data, whole[i])


# --- against differences -------------------------------------------------------------------------


def derivative(f, h: float = 2.0**-7, levels: int = 4) -> tuple[float, float]:
    """f'(0) by central differences extrapolated to step 0 (Richardson), and a bound on its error.

    The bound is the last correction of the extrapolation, plus the rounding of f (a few thousand
    operations, so 2^12 u |f|) divided by the smallest step.
    """
    steps = [h / 2**i for i in range(levels)]
    sides = [(f(s), f(-s)) for s in steps]
    row = [(a - b) / (2 * s) for (a, b), s in zip(sides, steps, strict=True)]
    for k in range(1, levels):
        last = row[-1]
        row = [b + (b - a) / (4**k - 1) for a, b in pairwise(row)]
    rounding = 2**12 * np.finfo(float).eps * max(abs(v) for s in sides for v in s) / steps[-1]
    return row[0], abs(row[0] - last) + rounding


def test_the_differences_know_their_error():
    exact = np.cos(0.5)
    value, bound = derivative(lambda s: np.sin(0.5 + s))
    assert abs(value - exact) <= bound < 1e-8
    assert abs(value - 1.00001 * exact) > bound


# Each argument thrice, and the recurrent weight between others.
ORDERS = {
    cell: [*((i, i, i) for i in range(len(labels))), (0, w, w - 1), (w, 0, w), (w - 1, w + 1, 0)]
    for cell, labels in ((cell, kind_of(cell).labels) for cell in CELLS)
    for w in [labels.index("weight_hh")]
}


@pytest.mark.parametrize("unfolded", [False, True], ids=["fused", "unfolded"])
@pytest.mark.parametrize("cell, by", [(cell, by) for cell in CELLS for by in ORDERS[cell]])
def test_every_order_against_differences_of_the_order_before(cell, by, unfolded):
    op = op_of(cell)
    args = arguments(kind_of(cell), 3, 2, 3, 4)
    functions = scalars(op.reference if unfolded else op, args, list(by))
    rng = np.random.default_rng(1)  # the directions that `scalars` draws
    for order, position in enumerate(by, 1):
        v = rng.normal(size=args[position].shape)

        def along(s, lower=functions[order - 1], position=position, v=v):
            moved = list(args)
            moved[position] = args[position] + s * v
            return lower(*map(mg.tensor, moved)).item()

        numeric, bound = derivative(along)
        exact = functions[order](*map(mg.tensor, args)).item()
        assert bound < 1e-5 * max(1, abs(exact)), "the differences tell nothing"
        assert abs(exact - numeric) <= bound, f"order {order}: {exact} and not {numeric}"


@pytest.mark.parametrize("step", [rnn_step, gru_step], ids=["rnn", "gru"])
def test_order_three_of_the_other_cells_against_differences(step):
    """One weight for all steps and both products, so every use of it meets every other."""
    rng = np.random.default_rng(0)
    gates = 3 if step is gru_step else 1
    xs, h0, b = (rng.normal(size=shape) for shape in ((3, 2, 4), (2, 4), gates * 4))
    w, v = 0.5 * rng.normal(size=(gates * 4, 4)), rng.normal(size=(gates * 4, 4))

    def zero(w):
        ys, h = run(lambda x, state: step(x, state, w, w, b, b), xs, h0)
        return (ys * ys * ys).sum() + h.sum()

    def higher(f):
        return lambda w: (mg.grad(f)(w) * v).sum()

    functions = [zero, higher(zero), higher(higher(zero)), higher(higher(higher(zero)))]
    for lower, upper in pairwise(functions):
        numeric, bound = derivative(lambda s, f=lower: f(mg.tensor(w + s * v)).item())
        exact = upper(mg.tensor(w)).item()
        assert bound < 1e-5 * max(1, abs(exact)), "the differences tell nothing"
        assert abs(exact - numeric) <= bound


def test_an_inner_gradient_stops_at_its_argument():
    """The inner function uses the weight twice, as its argument and from outside; the walk of the
    inner gradient must count the first use only, and the outer gradients both."""
    rng = np.random.default_rng(0)
    xs, h0, b = (rng.normal(size=shape) for shape in ((3, 2, 4), (2, 4), 4))
    w, v = 0.5 * rng.normal(size=(4, 4)), rng.normal(size=(4, 4))

    def zero(inner, outer):
        ys, h = run(lambda x, state: rnn_step(x, state, inner, outer, b, b), xs, h0)
        return (ys * ys * ys).sum() + h.sum()

    def first(w):
        return (mg.grad(lambda u: zero(u, w))(w) * v).sum()

    def second(w):
        return (mg.grad(first)(w) * v).sum()

    def apart(s) -> float:
        return float((mg.grad(zero, 0)(w + s * v, w + s * v) * v).sum())

    assert first(mg.tensor(w)).item() == apart(0)
    for lower, upper in (
        (apart, second),
        (lambda s: second(mg.tensor(w + s * v)).item(), lambda w: (mg.grad(second)(w) * v).sum()),
    ):
        numeric, bound = derivative(lower)
        exact = upper(mg.tensor(w)).item()
        assert bound < 1e-5 * max(1, abs(exact)), "the differences tell nothing"
        assert abs(exact - numeric) <= bound


def test_order_three_of_a_known_recurrence_is_exact():
    """h(t) = w h(t-1) for four steps is w^4 h(0), whose third derivative is 24 w h(0)."""
    xs = np.zeros((4, 1, 1))

    def last(w):
        _, h = run(lambda x, state: (state, mg.matmul(state, w)), xs, np.ones((1, 1)))
        return h.sum()

    second = lambda w: mg.grad(lambda u: mg.grad(last)(u).sum())(w).sum()  # noqa: E731
    assert mg.grad(last)(np.array([[0.5]])) == 4 * 0.5**3
    assert second(mg.tensor([[0.5]])).item() == 12 * 0.5**2
    assert mg.grad(second)(np.array([[0.5]])) == 24 * 0.5
