import gc
import sys
import threading
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad.backward import gradients
from minigrad.graph import Leaf, Tensor, register, registry


def leaf(value):
    return mg.tensor(value, requires_grad=True)


# --- tensors -------------------------------------------------------------------------------------


def test_tensor_copies_and_keeps_the_dtype():
    a = np.ones(3, np.float32)
    t = mg.tensor(a)
    a[0] = 5
    assert t.data.tolist() == [1, 1, 1]
    assert t.dtype == np.float32
    assert mg.tensor([1, 2]).dtype == np.int64
    assert mg.tensor([1, 2], dtype=np.float32).dtype == np.float32
    assert mg.tensor(t).data is not t.data


def test_what_a_tensor_says_about_itself():
    t = mg.tensor(np.zeros((2, 3)))
    assert (t.shape, t.ndim, t.size, t.dtype, len(t)) == ((2, 3), 2, 6, np.float64, 2)
    assert (t.is_leaf, t.requires_grad, t.grad, t.node) == (True, False, None, None)
    assert mg.tensor([2.5]).item() == 2.5
    assert mg.tensor(7).item() == 7


def test_repr():
    assert repr(mg.tensor([1.0])) == "tensor([1.])"
    assert repr(mg.tensor([1, 2])) == "tensor([1, 2], dtype=int64)"
    x = mg.tensor([1.0], dtype=np.float32, requires_grad=True)
    assert repr(x) == "tensor([1.], dtype=float32, requires_grad=True)"
    assert repr(x * x) == "tensor([1.], dtype=float32, op=multiply)"
    assert repr(x.node) == f"<Node leaf rank {x.node.rank}>"
    y = x * x
    assert repr(y.node) == f"<Node multiply rank {y.node.rank}>"
    assert repr(mg.tanh) == "<Op tanh>"


CALLS = {
    "tensor": (mg.tanh, lambda x, y: (x,)),
    "number": (mg.multiply, lambda x, y: (x, 3)),
    "float": (mg.multiply, lambda x, y: (x, 0.5)),
    "two": (mg.subtract, lambda x, y: (x, y)),
    "twice": (mg.multiply, lambda x, y: (x, x)),
    "broadcast": (mg.add, lambda x, y: (x, y[0])),
    "constant first": (mg.divide, lambda x, y: (y.detach(), x)),
    "array first": (mg.divide, lambda x, y: (y.data, x)),
    "array second": (mg.divide, lambda x, y: (x, y.data)),
    "constants": (mg.add, lambda x, y: (x.detach(), y.detach())),
    "arrays": (mg.add, lambda x, y: (x.data, y.data)),
    "list": (mg.add, lambda x, y: (x, [1, 2, 3])),
    "0-d": (mg.exp, lambda x, y: (x[0, 0],)),
    "keyword": (mg.ops.shape._reshape, lambda x, y: (x,)),
    "three": (mg.where, lambda x, y: (np.array([True, False, True]), x, y)),
    "several outputs": (mg.ops.shape._unstack, lambda x, y: (x,)),
    "comparison": (mg.less, lambda x, y: (x, y)),
}
PARAMS = {"keyword": {"shape": (3, 2)}, "several outputs": {"axis": 0}}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_short_way_through_a_call_is_the_long_way(name, dtype):
    rng = np.random.default_rng(0)
    x, y = (mg.tensor(rng.normal(size=(2, 3)), dtype=dtype, requires_grad=True) for _ in range(2))
    op, arguments = CALLS[name]
    args, params = arguments(x, y), PARAMS.get(name, {})

    def seen(out):
        parts = out if isinstance(out, tuple) else (out,)
        if not isinstance(parts[0], Tensor):
            return [type(p) for p in parts], [p.tolist() for p in parts]
        nodes = [t.node and (t.node.op, list(t.node.sources), t.node.params) for t in parts]
        held = [[np.asarray(v).tolist() for v in t.node.values] for t in parts if t.node]
        return nodes, held, [(t.dtype, t.index, t.data.tolist()) for t in parts]

    assert seen(op(*args, **params)) == seen(op.apply(args, params))
    with mg.no_grad():
        assert seen(op(*args, **params)) == seen(op.apply(args, params))


@pytest.mark.parametrize("args", [(), (1.0,), ([1.0],), ("a",), (None,)], ids=repr)
def test_the_short_way_refuses_what_the_long_way_refuses(args):
    def told(call):
        try:
            return call()
        except Exception as error:
            return type(error), str(error)

    assert told(lambda: mg.tanh(*args)) == told(lambda: mg.tanh.apply(args, {}))


def test_requires_grad_can_be_switched_on_leaves_only():
    x = mg.tensor([1.0])
    x.requires_grad = True
    node = x.node
    x.requires_grad = True
    assert x.node is node
    y = x * 2
    with pytest.raises(mg.GradientError):
        y.requires_grad = False
    x.requires_grad = False
    assert not (x * 2).requires_grad
    with pytest.raises(mg.DtypeError):
        mg.tensor([1], requires_grad=True)


def test_detach_shares_memory_and_stops_the_gradient():
    x = mg.tensor([3.0], requires_grad=True)
    y = x * x
    cut = y.detach()
    assert cut.data is y.data
    assert not cut.requires_grad
    (y * cut).sum().backward()
    assert x.grad.data.tolist() == [54.0]


def test_numpy_refuses_to_lose_a_gradient():
    assert mg.tensor([1.0]).numpy().tolist() == [1.0]
    for t in (mg.tensor([1.0], requires_grad=True), mg.tensor([1.0], requires_grad=True) * 2):
        with pytest.raises(mg.GradientError, match=r"\.detach\(\)"):
            t.numpy()
        with pytest.raises(mg.GradientError, match=r"\.detach\(\)"):
            np.asarray(t)


def test_grad_can_be_set_and_must_fit():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    x.grad = np.array([3.0, 4.0])
    assert x.grad.data.tolist() == [3.0, 4.0]
    x.grad = None
    assert x.grad is None
    for wrong in (np.ones(3), np.ones(2, np.float32)):
        with pytest.raises(mg.ShapeError):
            x.grad = wrong
    constant = mg.tensor([1.0])
    constant.grad = None
    for t in (constant, x * 2):
        with pytest.raises(mg.GradientError):
            t.grad = np.ones(t.shape)


@pytest.mark.parametrize(
    ("value", "truth"), [(0.0, False), (2.0, True), ([0.0], False), ([[1.0]], True)]
)
def test_the_truth_of_one_element_is_its_own(value, truth):
    assert bool(mg.tensor(value)) is truth


def test_several_elements_have_no_truth():
    with pytest.raises(mg.MinigradError):
        bool(mg.tensor([1.0, 0.0]) > 2)


# --- calls of ops --------------------------------------------------------------------------------


def test_arrays_in_arrays_out():
    out = mg.add(np.ones(2), 1.0)
    assert type(out) is np.ndarray
    constant = mg.add(mg.tensor([1.0]), 1.0)
    assert isinstance(constant, Tensor)
    assert constant.node is None


def test_a_node_knows_its_call():
    x, y = mg.tensor([4.0], requires_grad=True), np.array([3.0])
    z = mg.where(np.array([True]), x, y)
    assert z.node.op is registry["where"]
    assert z.node.sources == [None, x.source, None]
    assert z.node.args[1].source is x.source
    assert z.node.outs[0] is z.data
    assert z.node.rank > x.node.rank
    rows = mg.split(x, sections=1)
    assert rows[0].node.params == {"sections": 1, "axis": 0}
    assert rows[0].index == 0


def test_an_argument_without_a_rule_records_nothing():
    halve = mg.Op("halve", lambda x, by: x / by, vjps=[lambda g, out, x, by: g / by, None])
    by = mg.tensor([2.0], requires_grad=True)
    assert not halve(mg.tensor([1.0]), by).requires_grad
    x = mg.tensor([1.0], requires_grad=True)
    halve(x, by).sum().backward()
    assert x.grad.data.tolist() == [0.5]
    assert by.grad is None  # not differentiable is not a zero gradient


@pytest.mark.parametrize("rules", [{}, {"vjps": [None], "vjp": lambda *a: []}])
def test_an_op_has_exactly_one_kind_of_rules(rules):
    with pytest.raises(mg.UsageError, match="Op f"):
        mg.Op("f", np.sin, **rules)


def test_names_in_the_registry_are_unique():
    before = dict(registry)
    with pytest.raises(AssertionError):
        register(mg.Op("add", np.add, vjps=[None, None]))
    assert registry == before


def test_forward_saving_runs_only_when_recording():
    calls = []

    def saving(x):
        calls.append("saving")
        return x * x, (2 * x,)

    def plain(x):
        calls.append("plain")
        return x * x

    def rule(g, out, x):
        square, double = out
        assert square.tolist() == [9.0]
        return g * double

    square = mg.Op("square", plain, vjps=[rule], forward_saving=saving)
    x = mg.tensor([3.0], requires_grad=True)
    square(mg.tensor([3.0]))
    with mg.no_grad():
        square(x)
    square(x.data)
    assert calls == ["plain"] * 3
    square(x).sum().backward()
    assert calls[3:] == ["saving"]
    assert x.grad.data.tolist() == [6.0]


def test_two_float_dtypes_do_not_mix():
    single, double = mg.tensor(np.ones(2, np.float32)), np.ones(2)
    with pytest.raises(mg.DtypeError, match="multiply: argument 1"):
        single * double
    with pytest.raises(mg.DtypeError, match="add: argument 1"):
        double + single
    assert (single * 2.5).dtype == np.float32
    assert (1 / single).dtype == np.float32


@pytest.mark.parametrize("other", [np.float64(2.5), np.arange(2), [1.5, 2.5]], ids=type)
def test_a_float32_leaf_never_gets_a_float64_gradient(other):
    x = mg.tensor(np.ones(2, np.float32), requires_grad=True)
    try:
        y = x * other
    except mg.DtypeError:
        return  # refusing is as good as converting
    y.sum().backward()
    assert (y.dtype, x.grad.dtype) == (np.float32, np.float32)


def test_a_list_as_argument_counts_as_an_array():
    x = mg.tensor(np.eye(2), requires_grad=True)
    mg.matmul(x, [[1.0, 2.0], [3.0, 4.0]]).sum().backward()
    assert x.grad.data.tolist() == [[3.0, 7.0], [3.0, 7.0]]


def test_numpys_complaint_about_shapes_is_passed_on():
    with pytest.raises(mg.ShapeError) as caught:
        mg.tensor([1.0, 2.0]) + np.ones(3)
    lines = str(caught.value).split("\n")
    assert len(lines) == 3
    assert lines[0] == "add: arguments that do not fit together"
    assert "(2,), (3,)" in lines[1]
    assert isinstance(caught.value, ValueError)


# --- recording -----------------------------------------------------------------------------------


def test_no_grad_nests_and_survives_errors():
    x = mg.tensor([1.0], requires_grad=True)
    with mg.no_grad():
        assert not (x * x).requires_grad
        with mg.set_grad_enabled(True):
            assert (x * x).requires_grad
            with mg.no_grad():
                assert not mg.is_grad_enabled()
            assert mg.is_grad_enabled()
        assert not mg.is_grad_enabled()
    assert mg.is_grad_enabled()
    with pytest.raises(KeyError), mg.no_grad():
        raise KeyError
    assert mg.is_grad_enabled()


def test_one_switch_object_may_be_entered_twice():
    switch = mg.no_grad()
    with switch, switch:
        assert not mg.is_grad_enabled()
    assert mg.is_grad_enabled()


def test_every_thread_has_its_own_switch():
    x = mg.tensor([1.0], requires_grad=True)
    seen = []
    inside, leave = threading.Event(), threading.Event()

    def other():
        with mg.no_grad():
            inside.set()
            leave.wait(10)
            seen.append((x * x).requires_grad)

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(10)
    assert (x * x).requires_grad
    with mg.no_grad():
        fresh = threading.Thread(target=lambda: seen.append((x * x).requires_grad))
        fresh.start()
        fresh.join()
    leave.set()
    thread.join()
    assert seen == [True, False]


# --- memory --------------------------------------------------------------------------------------


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def ancestors(t):
    """Weak references to all nodes behind a tensor, leaves excepted."""
    found, todo = {}, [t.node]
    while todo:
        node = todo.pop()
        if node.op is not None and node not in found:
            found[node] = weakref.ref(node)
            todo += [a.node for a in node.args if isinstance(a, Tensor) and a.node is not None]
    return list(found.values())


def every_kind_of_op(x):
    h = mg.tanh(x @ x) * mg.sigmoid(x)
    i, f = mg.split(h, sections=2, axis=1)
    h = mg.stack([*i, *f], axis=0).reshape(-1)
    return mg.logsumexp(h[np.array([0, 1, 1])] * h.max(), keepdims=True)


@pytest.mark.parametrize("use", ["drop", "backward", "retain", "record"])
def test_the_graph_goes_with_its_last_tensor(no_collector, use):
    x = mg.tensor(np.eye(2), requires_grad=True)
    y = every_kind_of_op(x)
    nodes = ancestors(y)
    assert len(nodes) > 12
    if use == "record":
        g = gradients([y], [x], create_graph=True)
        nodes += ancestors(g[0])
        del g
    elif use != "drop":
        y.backward(retain_graph=use == "retain")
    del y
    assert [node() for node in nodes if node() is not None] == []
    assert gc.collect() == 0


def test_an_error_leaves_nothing_behind(no_collector):
    x = mg.tensor(np.eye(2), requires_grad=True)
    y = every_kind_of_op(x)
    nodes = ancestors(y)
    y.backward()
    with pytest.raises(mg.GraphFreedError):
        y.backward()
    del y
    assert [node() for node in nodes if node() is not None] == []


def test_a_node_holds_no_tensor_of_its_own():
    x = mg.tensor(np.eye(2), requires_grad=True)
    parts = mg.unstack(x)
    node = weakref.ref(parts[0].node)
    first = weakref.ref(parts[0])
    rest = parts[1]
    del parts
    assert first() is None
    assert node() is rest.node


def test_a_used_graph_lets_go_of_its_arrays(no_collector):
    x = mg.tensor(np.ones(3), requires_grad=True)
    h = mg.exp(x)
    big = weakref.ref(h.data)
    loss = (h * h).sum()
    del h
    assert big() is not None
    loss.backward()
    assert big() is None


def test_a_long_chain_needs_no_recursion():
    limit = sys.getrecursionlimit()
    n = 100_000
    x = mg.tensor([1.0], requires_grad=True)
    y = x
    for _ in range(n):
        y = y + x
    y.backward(retain_graph=True)
    assert x.grad.data.tolist() == [n + 1.0]
    (g,) = gradients([y], [x], create_graph=True)
    assert g.data.tolist() == [n + 1.0]
    del g
    node = weakref.ref(y.node)
    del y  # 100 000 nodes are freed, each by the one before
    assert node() is None
    assert sys.getrecursionlimit() == limit


def test_ranks_grow():
    nodes = [Leaf() for _ in range(3)]
    assert nodes[0].rank < nodes[1].rank < nodes[2].rank


def test_an_argument_that_only_chooses_may_have_any_dtype():
    x = mg.tensor(np.ones(2, np.float32), requires_grad=True)
    y = mg.where(np.array([1.0, 0.0]), x, 0)
    y.sum().backward()
    assert (y.dtype, x.grad.dtype, x.grad.data.tolist()) == (np.float32, np.float32, [1.0, 0.0])
    with pytest.raises(mg.DtypeError, match="greater: argument 1"):
        mg.greater(x, np.ones(2))


# --- arguments that an op has no room for --------------------------------------------------------


def test_more_arguments_than_rules_are_refused_and_nothing_is_written():
    x, y, z = leaf([1.0]), leaf([2.0]), leaf([3.0])
    for call in (lambda: mg.multiply(x, y, z), lambda: mg.sin(x, y), lambda: mg.add(1.0, x, z)):
        with pytest.raises(mg.UsageError, match=r": its arguments\n.*expected \d, got \d\n"):
            call()
    assert (x.data, y.data, z.data) == ([1.0], [2.0], [3.0])


def test_arrays_go_by_position():
    x, y = leaf([1.0]), leaf([2.0])
    with pytest.raises(mg.UsageError, match=r"^arctan2: y=\n"):
        mg.arctan2(y=x, x=y)
    with pytest.raises(mg.UsageError, match=r"^affine: weight=\n"):
        mg.affine(x, weight=y, start=y)


def test_a_number_too_large_for_a_float_is_reported():
    with pytest.raises(mg.MinigradError, match="multiply: "):
        leaf([1.0]) * 10**400


def test_no_grad_as_a_decorator():
    @mg.no_grad()
    def square(x):
        return x * x

    assert not square(leaf([1.0])).requires_grad
    assert (leaf([1.0]) * 2).requires_grad
