"""Depth, memory and lifetime: long chains, flat memory, no cycles, threads that do not meet."""

from __future__ import annotations

import gc
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from fused_cells import CELLS, parts

import minigrad as mg
from minigrad.backward import gradients
from minigrad.graph import Node, Tensor

NODES = 1_000_000
BYTES_PER_NODE = 400  # of a chain of scalars: node, array, tuple of sources, tuple of arguments


def leaf(value, dtype=np.float64) -> Tensor:
    return mg.tensor(value, dtype=dtype, requires_grad=True)


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def live() -> int:
    """How many tensors and nodes there are."""
    return sum(issubclass(type(o), Node | Tensor) for o in gc.get_objects())


# --- depth ---------------------------------------------------------------------------------------


def chain(x: Tensor, n: int) -> Tensor:
    """x + x + ... + x, one node after another."""
    y = x
    for _ in range(n):
        y = y + x
    return y


def test_a_million_nodes_forward_backward_and_freed(no_collector):
    limit, x = sys.getrecursionlimit(), leaf(1.0)
    y = chain(x, NODES)
    node = weakref.ref(y.node)
    y.backward()
    assert x.grad.item() == NODES + 1
    del y
    assert node() is None
    assert gc.collect() == 0
    assert sys.getrecursionlimit() == limit


def test_a_chain_is_freed_without_a_backward_pass_on_a_small_stack(no_collector):
    """Each node is freed by the one after it: a frame of C for each would need a larger stack."""
    x, gone = leaf(1.0), []

    def work() -> None:
        y = chain(x, 200_000)
        node = weakref.ref(y.node)
        del y
        gone.append(node() is None)

    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=work)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert gone == [True]


def test_a_long_chain_of_ops_with_several_outputs_and_of_gradients_is_freed(no_collector):
    x, n = leaf(np.ones(2)), 20_000
    y = x
    for _ in range(n):
        a, b = mg.split(y, 2)
        y = mg.concatenate([b, a])
    (g,) = gradients([(y * y).sum()], [x], create_graph=True)  # a graph as deep as the first
    node, higher = weakref.ref(y.node), weakref.ref(g.node)
    del a, b, y, g
    assert (node(), higher()) == (None, None)
    assert gc.collect() == 0


def test_the_memory_of_a_node_keeps_under_its_ceiling(no_collector):
    x, n = leaf(1.0), 20_000
    chain(x, 10).backward()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        y = chain(x, n)
        alive = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.reset_peak()
        y.backward()
        peak = tracemalloc.get_traced_memory()[1] - before
        after = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 100 < alive / n < BYTES_PER_NODE
    assert peak / n < BYTES_PER_NODE + 100  # the order of the walk beside them
    assert after / n < 100  # used up: what is left goes with y, though y is still there


# --- no cycle survives a step --------------------------------------------------------------------

WEIGHT = mg.nn.Parameter(np.array([[0.5, -1.0], [0.25, 2.0]]))
LSTM = mg.nn.LSTM(2, 3, num_layers=2, bidirectional=True, rng=0)
OTHERS = [CELLS[name](2, 3, rng=0) for name in CELLS if name != "lstm"]
XS = np.ones((4, 2, 2))


def _fail(g, out, x):
    raise KeyError("in the middle of a backward pass")


failing = mg.Op("failing", lambda x: x + 0, vjps=[_fail])


def plain_ops() -> None:
    (mg.tanh(WEIGHT @ WEIGHT) * WEIGHT).sum().backward()


def several_outputs() -> None:
    a, b = mg.split(WEIGHT, 2)
    (a * b + mg.unstack(WEIGHT)[0]).sum().backward()


def hooks_on_leaves_and_others() -> None:
    h = WEIGHT * 2
    take_away = WEIGHT.register_hook(lambda g: g * 3)
    h.register_hook(lambda g: g * 2)
    (h * h).sum().backward()
    take_away()


def a_hook_that_refers_to_its_tensor() -> None:
    h = WEIGHT * 2
    h.register_hook(lambda g: g * h.data)
    (h * h).sum().backward()


def a_hook_taken_away() -> None:
    h = WEIGHT * 2
    h.register_hook(lambda g: g * 2)()
    del h


def fused_lstm() -> None:
    ys, state = LSTM(XS)
    (ys.sum() + state.c.sum()).backward()


def other_fused_cells() -> None:
    for cell in OTHERS:
        ys, last = mg.unfold(cell, XS, lengths=[4, 2], fused=True)
        (ys.sum() + parts(last)[-1].sum()).backward(retain_graph=True)
        (ys.sum() + parts(last)[-1].sum()).backward(create_graph=True)
        cell.zero_grad()


def a_recorded_pass() -> None:
    ys, _ = LSTM(XS)
    ys.sum().backward(create_graph=True)
    g = LSTM.cells[0].weight_hh.grad
    LSTM.zero_grad()
    (g * g).sum().backward()


def nested_gradients() -> None:
    mg.grad(lambda x: (mg.grad(lambda z: (z**3).sum())(x) ** 2).sum())(np.ones(2))


def a_retained_graph() -> None:
    y = (WEIGHT * WEIGHT).sum()
    y.backward(retain_graph=True)
    y.backward(retain_graph=True)


def an_error_in_a_forward_pass() -> None:
    for wrong in (np.ones((3, 3)), np.ones((2, 2), np.float32), "text"):
        for f in (mg.add, mg.matmul):
            with pytest.raises(mg.MinigradError):
                f(mg.tanh(WEIGHT), wrong)


def an_error_in_a_backward_pass() -> None:
    with pytest.raises(KeyError):
        (mg.tanh(failing(WEIGHT * 2)) * 2).sum().backward()


def an_error_in_a_recorded_pass() -> None:
    with pytest.raises(KeyError):
        gradients([mg.tanh(failing(WEIGHT * 2)).sum()], [WEIGHT], create_graph=True)


def an_error_in_a_hook() -> None:
    h = WEIGHT * 2
    h.register_hook(lambda g: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        (h * h).sum().backward()


def a_graph_that_is_gone() -> None:
    y = (WEIGHT * 2).sum()
    y.backward()
    with pytest.raises(mg.GraphFreedError):
        y.backward()


def truncated_steps() -> None:
    for _, ys, _ in mg.tbptt(LSTM.cells[0], XS, 2):
        ys.sum().backward()


STEPS: list[Callable[[], None]] = [
    plain_ops,
    several_outputs,
    hooks_on_leaves_and_others,
    a_hook_that_refers_to_its_tensor,
    a_hook_taken_away,
    fused_lstm,
    other_fused_cells,
    a_recorded_pass,
    nested_gradients,
    a_retained_graph,
    an_error_in_a_forward_pass,
    an_error_in_a_backward_pass,
    an_error_in_a_recorded_pass,
    an_error_in_a_hook,
    a_graph_that_is_gone,
    truncated_steps,
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_nothing_of_a_step_is_left_and_the_collector_finds_no_cycle(step, no_collector):
    def run() -> None:
        step()
        WEIGHT.grad = None
        LSTM.zero_grad()

    run()  # what is made once, such as a cache of NumPy's
    gc.collect()
    before = live()
    run()
    assert gc.collect() == 0
    assert live() == before


def test_a_cycle_would_be_found(no_collector):
    before = live()

    class Holder:
        pass

    holder = Holder()
    holder.tensor, holder.itself = mg.tensor(1.0), holder
    del holder
    assert live() == before + 1
    assert gc.collect() > 0
    assert live() == before


# --- what an error leaves behind -----------------------------------------------------------------


def test_a_pass_that_fails_writes_no_gradient_and_leaves_the_switch_as_it_was():
    x = leaf([1.0])
    y = (failing(x) * x).sum() + x.sum()
    with pytest.raises(KeyError):
        y.backward()
    assert x.grad is None
    assert mg.is_grad_enabled()
    (x * 3).sum().backward()
    assert x.grad.data.tolist() == [3.0]


# --- training ------------------------------------------------------------------------------------


def training() -> Callable[[], float]:
    """One step of a small recurrent model, its state carried on."""
    layer, head = mg.nn.LSTM(2, 4, rng=0), mg.nn.Linear(4, 1, rng=1)
    named = [*layer.named_parameters(), *head.named_parameters()]
    optimizer = mg.optim.Adam(named, lr=1e-3)
    rng = np.random.default_rng(0)
    carried = None

    def step() -> float:
        nonlocal carried
        xs = rng.normal(size=(3, 2, 2))
        ys, state = layer(xs, carried)
        loss = mg.nn.mse_loss(head(ys), xs.sum(-1, keepdims=True))
        optimizer.zero_grad()
        loss.backward()
        mg.nn.utils.clip_grad_norm_([p for _, p in named], 1.0)
        optimizer.step()
        carried = mg.detach_state(state)
        return loss.item()

    return step


def test_training_keeps_its_memory_flat(no_collector):
    """As 100,000 steps do, at whose end the process is as large as after the first thousand."""
    step, found = training(), []
    for steps in (2000, 1000):
        for _ in range(steps):
            step()
        cycles = gc.collect()  # and Python lets go of the free tuples that it had kept
        found.append((cycles, live(), sys.getallocatedblocks()))
    (_, tensors, blocks), (*later, more) = found
    assert later == [0, tensors]
    assert more - blocks < 100  # one object forgotten in ten steps would be seen


# --- threads -------------------------------------------------------------------------------------


def in_threads(*works: Callable[[], object], interval: float = 1e-5) -> list:
    """The results of functions that run at once, switched often; an exception is a result."""
    results: list = [None] * len(works)
    start = threading.Barrier(len(works))

    def run(i: int) -> None:
        start.wait(10)
        try:
            results[i] = works[i]()
        except Exception as error:
            results[i] = error

    before = sys.getswitchinterval()
    sys.setswitchinterval(interval)
    try:
        threads = [threading.Thread(target=run, args=(i,)) for i in range(len(works))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    finally:
        sys.setswitchinterval(before)
    return results


def one_graph(seed: int) -> list[np.ndarray]:
    """The gradients of a graph of its own: matrices, a fused LSTM, a second derivative."""
    rng = np.random.default_rng(seed)
    w, xs = leaf(rng.normal(size=(2, 2))), rng.normal(size=(3, 2, 2))
    cell = mg.nn.LSTMCell(2, 2, rng=seed)
    h = mg.tensor(rng.normal(size=(2, 2)))
    for _ in range(5):
        h = mg.tanh(h @ w)
    (h.sum() + (mg.unfold(cell, xs)[0] ** 2).sum()).backward()
    curvature = mg.grad(lambda z: (mg.grad(lambda y: (y**3).sum())(z) ** 2).sum())(xs)
    return [w.grad.data, curvature, *(p.grad.data for p in cell.parameters())]


def test_eight_threads_with_graphs_of_their_own_give_the_bits_of_one():
    count, each = 8, 10
    alone = [[one_graph(100 * i + j) for j in range(each)] for i in range(count)]
    together = in_threads(
        *(lambda i=i: [one_graph(100 * i + j) for j in range(each)] for i in range(count))
    )
    for a, b in zip(alone, together, strict=True):
        assert not isinstance(b, Exception), b
        for one, other in zip(a, b, strict=True):
            assert all(np.array_equal(x, y) for x, y in zip(one, other, strict=True))


def test_one_thread_records_while_another_does_not():
    x = leaf([1.0, 2.0])

    def recording() -> bool:
        return all((x * x).requires_grad for _ in range(500))

    def not_recording() -> bool:
        with mg.no_grad():
            return not any((x * x).requires_grad for _ in range(500))

    assert in_threads(recording, not_recording, recording, not_recording) == [True] * 4
    assert mg.is_grad_enabled()


def test_backward_in_one_thread_does_not_record_in_another():
    """A pass switches recording off, and a recorded one on, in its own thread only."""
    x = leaf(np.ones(3))

    def passes(create_graph: bool) -> set[bool]:
        found = [gradients([(x * x * x).sum()], [x], create_graph=create_graph) for _ in range(100)]
        return {isinstance(g, Tensor) and g.requires_grad for (g,) in found}

    results = in_threads(
        lambda: passes(False),
        lambda: passes(True),
        lambda: {(x * x).requires_grad for _ in range(500)},
    )
    assert results == [{False}, {True}, {True}]


def test_an_error_in_one_thread_is_its_own():
    x = leaf([1.0])

    def fails() -> None:
        for _ in range(50):
            with pytest.raises(KeyError):
                (failing(x) * 2).sum().backward()
        (failing(x) * 2).sum().backward()

    error, gradient = in_threads(fails, lambda: [one_graph(1) for _ in range(5)][-1])
    assert isinstance(error, KeyError)
    assert all(np.array_equal(a, b) for a, b in zip(gradient, one_graph(1), strict=True))
    assert x.grad is None


def test_threads_may_share_parameters_that_they_only_read():
    """`mg.grad` writes to no `.grad`, so nothing is shared but the weights."""
    cell = mg.nn.LSTMCell(2, 3, rng=0)

    def loss(xs):
        return (mg.unfold(cell, xs)[0] ** 2).sum()

    inputs = [np.random.default_rng(i).normal(size=(3, 2, 2)) for i in range(4)]
    alone = [mg.grad(loss)(xs) for xs in inputs]
    works = [lambda xs=xs: [mg.grad(loss)(xs) for _ in range(20)] for xs in inputs]
    for found, expected in zip(in_threads(*works), alone, strict=True):
        assert all(np.array_equal(g, expected) for g in found)
    assert all(p.grad is None for p in cell.parameters())
