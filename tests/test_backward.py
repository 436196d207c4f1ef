import re
import threading

import numpy as np
import pytest
from fused_cells import CELLS, parts, states
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigrad as mg
from minigrad import kernels
from minigrad.backward import Deferred, gradients
from minigrad.debug import Observer
from minigrad.graph import Tensor, observers, registry
from minigrad.ops.linear import Product


def leaf(value):
    return mg.tensor(value, dtype=np.float64, requires_grad=True)


def recording_op(log, name):
    """An identity that notes the cotangent it is called with."""

    def rule(g, out, x):
        log.append((name, np.array(g.data if isinstance(g, Tensor) else g).tolist()))
        return g

    return mg.Op(name, lambda x: x + 0, vjps=[rule])


# --- order and accumulation ----------------------------------------------------------------------


def test_fan_out_reuse_and_dead_ends():
    log = []
    a, b, dead = (recording_op(log, n) for n in ("a", "b", "dead"))
    x = leaf(2.0)
    y = a(x)
    dead(y)
    z = b(y) * y + y
    z.backward()
    # each rule runs once, when all that depends on its output is known, newest first
    assert log == [("b", 2.0), ("a", 5.0)]
    assert x.grad.item() == 5.0


def test_a_node_waits_for_all_its_users():
    log = []
    ops = [recording_op(log, str(i)) for i in range(3)]
    x = leaf(1.0)
    y = ops[0](x)
    far = ops[2](ops[1](y))
    (y * 10 + far).backward()
    assert log == [("2", 1.0), ("1", 1.0), ("0", 11.0)]


def test_contributions_are_added_in_the_order_of_arrival():
    x = leaf(1.0)
    big, small = 2.0**53, 1.0
    (x * small + x * small + x * big).backward()  # newest first: big + 1 + 1, which rounds to big
    assert x.grad.item() == big + small + small == big
    x.grad = None
    (x * big + x * small + x * small).backward()
    assert x.grad.item() == small + small + big == big + 2


def test_two_passes_give_exactly_twice_the_gradient():
    x = leaf(np.linspace(-1, 1, 7))
    w = leaf(np.linspace(1, 2, 7))
    y = (mg.tanh(x * w) * mg.exp(w)).sum()
    y.backward(retain_graph=True)
    once = x.grad.data.copy(), w.grad.data.copy()
    y.backward()
    assert (x.grad.data == 2 * once[0]).all()
    assert (w.grad.data == 2 * once[1]).all()


def test_interior_tensors_keep_no_gradient():
    x = leaf(1.0)
    y = x * 3
    (y * y).backward()
    assert y.grad is None
    assert x.grad.item() == 18.0


def test_backward_of_a_leaf():
    x = leaf(3.0)
    seed = np.array(5.0)
    x.backward(seed)
    assert x.grad.item() == 5.0
    assert not np.shares_memory(x.grad.data, seed)


@pytest.mark.parametrize("create_graph", [False, True])
def test_no_gradient_shares_memory(create_graph):
    x, y, seed = leaf([1.0, 2.0]), leaf([3.0, 4.0]), np.array([1.0, 10.0])
    (x + y).backward(seed, create_graph=create_graph)
    arrays = [x.grad.data, y.grad.data, seed, x.data, y.data]
    for i, a in enumerate(arrays):
        assert a.flags.writeable
        assert not any(np.shares_memory(a, b) for b in arrays[:i])


def test_accumulating_leaves_the_earlier_gradient_alone():
    x = leaf([1.0])
    (x * 2).sum().backward()
    first = x.grad.data
    (x * 3).sum().backward()
    assert first.tolist() == [2.0]
    assert x.grad.data.tolist() == [5.0]


def test_a_gradient_may_be_a_broadcast_view_inside_but_not_outside():
    x = leaf([1.0, 2.0])
    x.sum().backward()
    x.grad.data[...] *= [1, 2]
    assert x.grad.data.tolist() == [1.0, 2.0]


@given(
    hnp.arrays(np.float64, st.just((3, 2)), elements=st.integers(-50, 50)),
    hnp.mutually_broadcastable_shapes(num_shapes=1, base_shape=(3, 2), max_dims=2),
)
def test_broadcasting_is_undone_by_summing(g, shapes):
    """<broadcast(x), g> = <x, un-broadcast(g)>, exactly for integers."""
    (shape,) = shapes.input_shapes
    x = leaf(np.arange(1.0, 1 + np.prod(shape)).reshape(shape))
    y = mg.broadcast_to(x, shape=shapes.result_shape)
    g = np.broadcast_to(g, y.shape)
    (x + np.zeros(y.shape)).backward(np.array(g))
    assert x.grad.shape == shape
    assert (y.data * g).sum() == (x.data * x.grad.data).sum()


# --- the graph is used up ------------------------------------------------------------------------


def test_a_used_graph_is_refused():
    x = leaf(1.0)
    y = x * x
    y.backward()
    with pytest.raises(mg.GraphFreedError, match="retain_graph=True"):
        y.backward()
    with pytest.raises(mg.GraphFreedError):
        (y + 1).backward()
    assert x.grad.item() == 2.0


def test_half_a_graph_gone_changes_nothing():
    x = leaf(1.0)
    y = x * x
    z = y * x
    y.backward()
    x.grad = None
    with pytest.raises(mg.GraphFreedError):
        z.backward()
    assert x.grad is None


def test_create_graph_keeps_the_graph():
    x = leaf(3.0)
    y = x * x * x
    y.backward(create_graph=True)
    y.backward(create_graph=True)
    g = x.grad
    x.grad = None
    g.backward()
    assert (g.item(), x.grad.item()) == (54.0, 36.0)
    with pytest.raises(mg.GraphFreedError):
        y.backward()


def test_create_graph_does_not_depend_on_the_switch_outside():
    x = leaf(2.0)
    y = x * x * x + x * x
    with mg.no_grad():
        y.backward(create_graph=True)
    g = x.grad
    x.grad = None
    g.backward()
    assert (g.item(), x.grad.item()) == (16.0, 14.0)


def test_an_ordinary_pass_records_nothing():
    x = leaf(2.0)
    (x * x).backward()
    assert x.grad.node is None


# --- seeds ---------------------------------------------------------------------------------------


def test_seeds():
    x = leaf([1.0, 2.0])
    with pytest.raises(mg.GradientError, match="several elements"):
        (x * x).backward()
    for wrong in (np.ones(3), np.ones(2, np.float32), 1.0):
        with pytest.raises(mg.ShapeError, match="gradient="):
            (x * x).backward(wrong)
    assert x.grad is None
    (x * x).backward(mg.tensor([1.0, 10.0]))
    assert x.grad.data.tolist() == [2.0, 40.0]
    (x[:1] * 7).backward()  # one element needs no seed, whatever its shape
    assert x.grad.data.tolist() == [9.0, 40.0]
    with pytest.raises(mg.GradientError, match="depends on nothing"):
        mg.tensor(1.0).backward()


# --- gradients with respect to chosen tensors ----------------------------------------------------


def test_gradients_of_interior_tensors():
    x = leaf(2.0)
    y = x * x
    z = y * x
    gx, gy = gradients([z], [x, y])
    assert (float(gx), float(gy)) == (12.0, 2.0)
    assert x.grad is None
    assert float(gradients([z], [z])[0]) == 1.0


def test_gradients_of_what_does_not_matter_are_none():
    x, other = leaf(2.0), leaf(3.0)
    y = x * x
    assert gradients([y], [other, mg.tensor(1.0)]) == [None, None]
    assert gradients([y, other * 2], [x, other]) == [4.0, 2.0]


def test_the_walk_goes_only_where_a_target_may_be():
    log = []
    op = recording_op(log, "branch")
    x, other = leaf(2.0), leaf(3.0)
    y = x * op(other)
    gradients([y], [x])
    assert log == []
    gradients([y], [other])
    assert log == [("branch", 2.0)]


def test_gradients_of_one_output_among_several():
    x = leaf([1.0, 2.0, 3.0, 4.0])
    first, second = mg.split(x, sections=2)
    g_first, g_second, g_x = gradients([(first * second).sum()], [first, second, x])
    assert g_first.tolist() == [3.0, 4.0]
    assert g_second.tolist() == [1.0, 2.0]
    assert g_x.tolist() == [3.0, 4.0, 1.0, 2.0]


# --- gathered products ---------------------------------------------------------------------------


@pytest.fixture
def product_calls(monkeypatch):
    """The operands of every call of `products`."""
    calls = []
    op = registry["products"]
    forward = op.forward

    def counted(*pairs):
        calls.append(pairs)
        return forward(*pairs)

    monkeypatch.setattr(op, "forward", counted)
    yield calls


def unrolled(W, h, steps):
    inputs = []
    for _ in range(steps):
        inputs.append(h.data)
        h = mg.tanh(h @ W)
    return h, inputs


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_of_a_shared_weight_are_one_product_newest_first(
    product_calls, dtype, create_graph
):
    rng = np.random.default_rng(0)
    W = mg.tensor(rng.normal(size=(5, 5)).astype(dtype), requires_grad=True)
    h, inputs = unrolled(W, mg.tensor(rng.normal(size=(3, 5)).astype(dtype)), 6)
    h.sum().backward(create_graph=create_graph)
    assert len(product_calls) == 1
    (operands,) = product_calls
    a, b = operands[0::2], operands[1::2]
    for x, expected in zip(a, reversed(inputs), strict=True):
        assert (x == expected).all()
    whole = kernels.products(np.concatenate(a), np.concatenate(b))
    assert (W.grad.data == whole).all()


def test_products_of_two_weights_are_gathered_apart(product_calls):
    rng = np.random.default_rng(1)
    W, V = leaf(rng.normal(size=(2, 2))), leaf(rng.normal(size=(2, 2)))
    h = mg.tensor(rng.normal(size=(3, 2)))
    for _ in range(3):
        h = mg.tanh(h @ W) @ V
    h.sum().backward()
    assert sorted(len(pairs) for pairs in product_calls) == [6, 6]


def test_deferred_and_plain_contributions_add_up():
    rng = np.random.default_rng(2)
    x, W = rng.integers(-5, 5, (3, 2)).astype(float), leaf(rng.integers(-5, 5, (2, 2)))
    (mg.tensor(x) @ W + (W * W).sum() + mg.tensor(x) @ W).sum().backward()
    expected = 2 * x.T @ np.ones((3, 2)) + 2 * 6 * W.data
    assert (W.grad.data == expected).all()


def test_a_deferred_kind_must_say_how_to_add():
    with pytest.raises(NotImplementedError, match=r"Deferred\.total"):
        Deferred.total([])


def test_product_gradient_of_a_single_call(product_calls):
    x, W = leaf([[1.0, 2.0]]), leaf([[3.0], [5.0]])
    (x @ W).sum().backward()
    assert W.grad.data.tolist() == [[1.0], [2.0]]
    assert x.grad.data.tolist() == [[3.0, 5.0]]
    assert len(product_calls) == 1
    assert Product.total([Product(x.data, np.array([[2.0]]))]).tolist() == [[2.0], [4.0]]


# --- fused ops: the reference stands in when the pass is recorded ---------------------------------


def _step(h, W, b):
    return mg.tanh(mg.affine(h, W, b))


def _step_rule(needs, g, out, h, W, b):
    assert not isinstance(g, Tensor)
    dz = g * (1 - out * out)
    return [kernels.matmul(dz, W), Product(dz, h), dz.sum(axis=0)]


def _step_forward(h, W, b):
    return kernels.tanh(kernels.affine(h, W, b))


fused_step = mg.Op("fused_step", _step_forward, vjp=_step_rule, reference=_step)


def loss_of(step, h, b):
    def loss(W):
        state = h
        for _ in range(3):
            state = step(state, W, b)
        return (state * state).sum()

    return loss


def test_the_third_order_over_three_fused_steps_of_a_shared_weight():
    rng = np.random.default_rng(3)
    h, b = rng.normal(size=(2, 3)), rng.normal(size=3)
    W, v = rng.normal(size=(3, 3)) / 2, rng.normal(size=(3, 3))

    def orders(step):
        first = mg.grad(loss_of(step, h, b))
        second = mg.grad(lambda W: (first(W) * v).sum())
        third = mg.grad(lambda W: (second(W) * v).sum())
        return first(W), second(W), third(W)

    fused, plain = orders(fused_step), orders(_step)
    for f, p in zip(fused[1:], plain[1:], strict=True):
        assert (f == p).all()

    # The Taylor coefficients of s -> loss(W + s v) by Cauchy's formula: a mean over a circle of
    # complex points, right but for rounding and for terms of the order radius^32.
    def loss(s):
        state = h
        for _ in range(3):
            state = np.tanh(state @ (W + s * v).T + b)
        return (state * state).sum()

    points, radius = 32, 0.1
    circle = radius * np.exp(2j * np.pi * np.arange(points) / points)
    for order, (gradient, factorial) in enumerate(zip(fused, [1, 2, 6], strict=True), start=1):
        along_v = factorial * np.mean([loss(s) / s**order for s in circle]).real
        np.testing.assert_allclose((gradient * v).sum(), along_v, rtol=1e-9)


def test_the_second_order_through_an_expanded_node_visits_its_past_once():
    log = []
    before = recording_op(log, "before")
    x, W, b = leaf([[0.5]]), leaf([[0.25]]), leaf([0.0])
    h = fused_step(before(x), W, b)
    gradients([h], [x], create_graph=True)
    assert len(log) == 1


def test_an_expanded_node_keeps_its_place_in_the_order():
    """Contributions arrive as in the graph that was unfolded from the start, to the bit."""
    rng = np.random.default_rng(4)
    h, b = rng.normal(size=(2, 3)), rng.normal(size=3)
    W = rng.normal(size=(3, 3))

    def recorded(step):
        w = leaf(W)
        y = (step(step(h, w, b), w, b) * mg.exp(w).sum() + (step(h, w, b) @ w).sum()).sum()
        first = gradients([y], [w], create_graph=True)
        return first[0].data, gradients([first[0].sum()], [w])[0]

    for f, p in zip(recorded(fused_step), recorded(_step), strict=True):
        assert (f == p).all()


def test_a_reference_may_hand_an_argument_through():
    both = mg.Op(
        "both",
        lambda x, y: (x, x * y),
        vjp=lambda needs, g, out, x, y: [g[0] + g[1] * y, g[1] * x],
        multi=True,
        reference=lambda x, y: (x, x * y),
    )
    x, y = leaf(2.0), leaf(3.0)
    z = x * x
    user = z * y
    rank = z.node.rank
    a, p = both(z, user)
    (g,) = gradients([a * p], [x], create_graph=True)  # x^6 y
    (second,) = gradients([g], [x])
    assert z.node.rank == rank
    assert (g.item(), float(second)) == (6 * 32 * 3.0, 30 * 16 * 3.0)


def test_the_graph_of_an_expanded_node_can_be_used_up():
    x, W, b = leaf([[0.5]]), leaf([[0.25]]), leaf([0.0])
    h = fused_step(x, W, b)
    gradients([h], [x], create_graph=True)
    h.backward()
    assert x.grad.shape == (1, 1)
    with pytest.raises(mg.GraphFreedError):
        h.backward()


# --- the quick visit and the plain one ------------------------------------------------------------


class Watcher(Observer):
    """An observer that only counts. Where one looks on, every node takes the plain way."""

    def __init__(self):
        super().__init__(nonfinite=False, lock=False)
        self.visits = 0

    def visiting(self, node):
        self.visits += 1
        return super().visiting(node)


@pytest.mark.native  # an observer unfolds what is fused: the same bits in C alone
@pytest.mark.parametrize("hooked", [False, True], ids=["", "hooked"])
@pytest.mark.parametrize("targets", [False, True], ids=["leaves", "targets"])
def test_the_quick_visit_gives_the_bits_of_the_plain_one(targets, hooked):
    """Broadcasting, one tensor in two places, three arguments, numbers, constants, dead ends,
    several outputs, parameters of ops, a checkpoint, a fused op, hooks.
    """
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=s) for s in ((4, 3), (3,), (1, 3), (), (3, 3), (4, 3))]
    cell = mg.nn.LSTMCell(5, 2, rng=0)

    def run():
        x, row, wide, number, W, constant = map(leaf, arrays)
        constant = constant.detach()
        h = mg.ops.affine(x, W, row) * number + wide
        h = mg.tanh(h * h) - 2.0 * row + mg.where(x > 0, x, wide)
        h = (h / (1.0 + x * x)) @ W + constant * x
        _ = mg.exp(h)  # a dead end
        first, _, last = mg.split(h, 3, axis=1)
        h = mg.concatenate([last, h * first, mg.sum(h, axis=1, keepdims=True)], axis=1)
        h = h + mg.checkpoint(lambda h: mg.sigmoid(h) * row[0])(h)
        if hooked:
            h.register_hook(lambda g: 2 * g)
        h = mg.unfold(cell, h.reshape(2, 2, 5))[0]
        inputs = [x, row, wide, number, W]
        if targets:
            return gradients([h.sum()], inputs)
        h.sum().backward()
        return [t.grad.data for t in inputs]

    quick, watcher = run(), Watcher()
    observers[threading.get_ident()] = watcher
    try:
        plain = run()
    finally:
        del observers[threading.get_ident()]
    assert watcher.visits > 15
    for q, p in zip(quick, plain, strict=True):
        assert (q.shape, q.dtype) == (p.shape, p.dtype)
        assert (q == p).all()


# --- hooks, and what stands in a node's place ----------------------------------------------------


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_hook_on_a_checkpoint_is_called_in_every_kind_of_pass(create_graph):
    x = leaf([1.0, 2.0])
    y = mg.checkpoint(lambda x: x**3)(x)
    y.register_hook(lambda g: 2 * g)
    y.sum().backward(create_graph=create_graph)
    assert x.grad.data.tolist() == [6.0, 24.0]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize(
    "name, place",
    [(name, place) for name in CELLS for place in range(1 + len(states(name)))],
)
def test_a_hook_on_a_recurrence_sees_the_same_on_every_path(fused, create_graph, name, place):
    cell = CELLS[name](2, 3, rng=0)
    xs = leaf(np.random.default_rng(0).normal(size=(4, 2, 2)))
    seen = []

    def run(fused, create_graph):
        seen.clear()
        ys, last = mg.unfold(cell, xs, fused=fused)
        (ys, *parts(last))[place].register_hook(lambda g: seen.append(g.data.copy()) or 2 * g)
        h, c = parts(last)[0], parts(last)[-1]
        loss = (ys * ys).sum() + (h * h).sum() + (h * c).sum()
        (g,) = gradients([loss], [xs], create_graph=create_graph)
        return np.asarray(g.data if isinstance(g, Tensor) else g), seen[0], len(seen)

    g, saw, times = run(fused, create_graph)
    plain, saw_first, _ = run(False, False)
    assert times == 1
    assert (saw == saw_first).all()
    assert np.array_equal(g, plain)


def test_a_hook_registered_after_an_expansion_is_called():
    x = leaf([1.0, 2.0])
    y = mg.checkpoint(lambda x: x**3)(x)
    gradients([y.sum()], [x], create_graph=True)  # y's node is expanded from here on
    remove = y.register_hook(lambda g: 2 * g)
    assert gradients([y.sum()], [x])[0].tolist() == [6.0, 24.0]
    remove()
    assert gradients([y.sum()], [x])[0].tolist() == [3.0, 12.0]


# --- what a rule may return ----------------------------------------------------------------------


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_rule_may_return_none_for_no_contribution(create_graph):
    op = mg.Op("none", lambda x: x + 0, vjps=[lambda g, out, x: None])
    x = leaf([1.0])
    (g,) = gradients([(op(x) + x).sum()], [x], create_graph=create_graph)
    assert np.asarray(g.data if create_graph else g).tolist() == [1.0]


@pytest.mark.parametrize(
    ("returned", "got"), [(2.0, "float"), ("g", "str"), (np.ones(3), r"shape \(3,\)")], ids=repr
)
def test_a_rule_that_returns_something_else_is_named(returned, got):
    op = mg.Op("odd", lambda x: x + 0, vjps=[lambda g, out, x: returned])
    for extra in (0, 1):
        with pytest.raises(mg.GradientError) as caught:
            gradients([op(leaf([1.0, 2.0]) * (1 + extra)).sum()], [])
            op(leaf([1.0, 2.0])).sum().backward()
        lines = str(caught.value).splitlines()
        assert lines[0] == "backward: the rule of odd for argument 0"
        assert re.search(got + "$", lines[1])


def test_a_gradient_of_no_axes_is_an_array():
    p = mg.nn.Parameter(np.array(3.0))
    (p * p).backward()
    assert type(p.grad.data) is np.ndarray
    mg.nn.utils.clip_grad_norm_([p], 1.0)
    assert p.grad.data == 1.0
