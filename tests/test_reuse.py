"""What a caller does between the forward and the backward pass changes no gradient silently."""

import sys
import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad import kernels
from minigrad.backward import gradients
from minigrad.cells import lstm_step
from minigrad.unfold import FUSED


def leaf(value) -> mg.Tensor:
    return mg.tensor(value, requires_grad=True)


@pytest.mark.parametrize("fused", [True, False])
def test_lengths_may_be_reused_before_the_backward_pass(fused: bool):
    cell, lengths, grads = mg.nn.LSTMCell(2, 3, rng=0), np.array([5, 2]), []
    for spoil in (False, True):
        xs = leaf(np.ones((5, 2, 2)))
        ys, _ = mg.unfold(cell, xs, lengths=lengths, reverse=True, fused=fused)
        if spoil:
            lengths[:] = 1
        (ys * ys).sum().backward()
        grads.append(xs.grad.data)
    assert np.array_equal(*grads)


def test_an_index_may_be_reused_before_the_backward_pass():
    x, i = leaf([1.0, 2.0, 3.0]), np.array([0, 0])
    y = x[i].sum()
    i[:] = 2
    y.backward()
    assert x.grad.data.tolist() == [2.0, 0.0, 0.0]


def test_requires_grad_may_be_switched_off_and_on_again():
    x = leaf([3.0])
    y = (x * x).sum()
    x.requires_grad = False
    x.requires_grad = True
    y.backward()
    assert x.grad.data.tolist() == [6.0]
    assert gradients([y2 := (x * x).sum()], [x])[0].tolist() == [6.0] and y2.requires_grad


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", ["weight_hh", "c"])
def test_the_gradient_is_taken_where_the_forward_pass_was(name, fused):
    """Replacing `.data` afterwards changes nothing, at any order."""
    cell = mg.nn.LSTMCell(2, 3, rng=0)
    h, c = leaf(np.zeros((4, 3))), leaf(np.ones((4, 3)))
    inputs = [cell.weight_hh, h, c]

    def loss():
        return mg.unfold(cell, np.ones((5, 4, 2)), (h, c), fused=fused)[0].sum()

    expected = gradients([loss()], inputs)
    for create_graph in (False, True):
        late, spoiled = loss(), c if name == "c" else cell.weight_hh
        kept, spoiled.data = spoiled.data, np.full_like(spoiled.data, 7)
        for g, e in zip(gradients([late], inputs, None, create_graph), expected, strict=True):
            assert ((g.data if create_graph else g) == e).all()
        spoiled.data = kept


def test_a_fused_node_is_expanded_once(monkeypatch: pytest.MonkeyPatch):
    op, calls = FUSED[lstm_step], []
    reference = op.reference
    monkeypatch.setattr(op, "reference", lambda *a, **k: calls.append(1) or reference(*a, **k))
    ys, (h, c) = mg.unfold(mg.nn.LSTMCell(2, 3, rng=0), leaf(np.ones((4, 2, 2))), fused=True)
    s = (ys * ys).sum() + (h * c).sum() + (ys * h).sum() + (ys * c).sum()
    s.backward(create_graph=True)
    s.backward(create_graph=True)
    assert len(calls) == 1


def test_two_threads_may_differentiate_one_fused_graph_at_once():
    xs = leaf(np.ones((6, 2, 2)))
    cell = mg.nn.LSTMCell(2, 3, rng=0)
    results: list = []
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for _ in range(10):
            s = (mg.unfold(cell, xs, fused=True)[0] ** 2).sum()
            threads = [
                threading.Thread(
                    target=lambda s=s: results.extend(gradients([s], [xs], create_graph=True))
                )
                for _ in range(3)
            ]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
    finally:
        sys.setswitchinterval(before)
    assert len(results) == 30
    assert all(r is not None and np.array_equal(r.data, results[0].data) for r in results)


@pytest.mark.parametrize("exponent", [np.float64(1.5), np.array(1.5), np.float32(1.5)])
def test_an_exponent_from_numpy_keeps_the_dtype(exponent):
    x = mg.tensor([4.0], dtype=np.float32, requires_grad=True)
    (x**exponent).sum().backward()
    assert (x**exponent).dtype == x.grad.dtype == np.float32
    with pytest.raises(mg.DtypeError, match=r"power: argument 1\n.*got float64"):
        x ** np.ones(2)


def test_fused_takes_numpys_booleans_and_refuses_other_numbers():
    cell, xs = mg.nn.LSTMCell(2, 3, rng=0), np.ones((2, 1, 2))
    assert mg.unfold(cell, xs, fused=np.True_)[0].node.op.name == "lstm"
    assert mg.unfold(cell, xs, fused=np.False_)[0].node.op.name == "stack"
    for wrong in (1, 0, None, "yes"):
        with pytest.raises(mg.UsageError, match="unfold: fused"):
            mg.unfold(cell, xs, fused=wrong)


def test_a_list_of_sequences_of_two_dtypes_is_refused():
    rows = [np.ones((2, 2), np.float32), np.ones((1, 2))]
    with pytest.raises(mg.DtypeError, match=r"list of sequences\n.*got float32, float64"):
        mg.unfold(mg.nn.LSTMCell(2, 3, rng=0), rows)


def test_unstacking_nothing_gives_nothing():
    assert mg.unstack(leaf(np.zeros((0, 3)))) == ()


def test_cotangents_of_another_form_are_refused():
    _, one = mg.vjp(lambda x: x * x, np.ones(2))
    _, two = mg.vjp(lambda x: (x, x * x), np.ones(2))
    for pull, wrong in ((one, (np.ones(2), np.ones(2))), (two, np.ones(2)), (two, (np.ones(2),))):
        with pytest.raises(mg.UsageError, match="vjp: the cotangent"):
            pull(wrong)
    with pytest.raises(mg.GradientError, match="vjp: the result"):
        mg.vjp(lambda x: np.ones(2), np.ones(2))


@pytest.mark.native
def test_the_lock_of_kept_memory_does_not_outlive_a_fork():
    held, before = kernels._idle_lock, dict(kernels._idle)
    with held:
        kernels._after_fork()  # what a child of fork runs
        assert kernels._idle_lock is not held
    kernels._idle.update(before)
