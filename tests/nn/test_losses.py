import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.nn import cross_entropy, mse_loss, sequence_cross_entropy

RNG = np.random.default_rng(0)


def exact(logits, target):
    """-log softmax(logits)[target] to 50 digits."""
    with mpmath.workdps(50):
        z = [mpmath.mpf(float(x)) for x in logits]
        return mpmath.log(mpmath.fsum(mpmath.exp(x) for x in z)) - z[target]


@given(st.lists(st.floats(-30, 30), min_size=2, max_size=6), st.data())
def test_cross_entropy_against_mpmath(logits, data):
    target = data.draw(st.integers(0, len(logits) - 1))
    loss = cross_entropy(mg.tensor([logits]), [target])
    expected = exact(logits, target)
    # The largest number on the way is max |logits|; it bounds what rounding can do.
    bound = 8 * np.finfo(float).eps * (1 + max(map(abs, logits)))
    assert abs(mpmath.mpf(loss.item()) - expected) <= bound


def test_cross_entropy_reductions():
    logits, targets = RNG.normal(size=(2, 3, 4)), np.array([[0, 3, 1], [2, 2, 0]])
    each = cross_entropy(mg.tensor(logits), targets, "none")
    assert each.shape == (2, 3)
    for index in np.ndindex(2, 3):
        expected = float(exact(logits[index], targets[index]))
        np.testing.assert_allclose(each.data[index], expected, rtol=1e-14)
    total = cross_entropy(mg.tensor(logits), targets, "sum").item()
    np.testing.assert_allclose(total, each.data.sum(), rtol=1e-15)
    np.testing.assert_allclose(cross_entropy(mg.tensor(logits), targets).item(), total / 6)
    assert cross_entropy(mg.tensor(logits.astype(np.float32)), targets).dtype == np.float32


def test_the_gradient_of_cross_entropy_is_probability_minus_one_hot():
    logits = mg.tensor(RNG.normal(size=(3, 4)), requires_grad=True)
    cross_entropy(logits, [1, 0, 1]).backward()
    p = np.exp(logits.data) / np.exp(logits.data).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(logits.grad.data, (p - np.eye(4)[[1, 0, 1]]) / 3, atol=1e-16)


def test_extreme_logits_give_finite_losses():
    logits = mg.tensor([[1e4, -1e4], [-1e4, 1e4]], requires_grad=True)
    loss = cross_entropy(logits, [0, 0], "none")
    assert loss.data.tolist() == [0.0, 2e4]
    loss.sum().backward()
    assert logits.grad.data.tolist() == [[0.0, 0.0], [-1.0, 1.0]]


def test_sequences_count_real_steps_only():
    logits, targets = RNG.normal(size=(4, 3, 5)), RNG.integers(0, 5, (4, 3))
    lengths = [4, 1, 0]
    real = np.arange(4)[:, None] < lengths
    each = cross_entropy(mg.tensor(logits), targets, "none").data

    dirty, wild = logits.copy(), targets.copy()
    dirty[~real], wild[~real] = np.nan, -100
    t = mg.tensor(dirty, requires_grad=True)
    none = sequence_cross_entropy(t, wild, lengths, "none")
    assert (none.data == np.where(real, each, 0)).all()
    total = sequence_cross_entropy(t, wild, lengths, "sum").item()
    np.testing.assert_allclose(total, each[real].sum(), rtol=1e-14)
    mean = sequence_cross_entropy(t, wild, lengths)
    np.testing.assert_allclose(mean.item(), each[real].mean(), rtol=1e-14)
    mean.backward()
    assert (t.grad.data[~real] == 0).all()
    assert (t.grad.data[real] != 0).all()


def test_sequences_without_lengths_are_all_real():
    logits, targets = mg.tensor(RNG.normal(size=(4, 3, 5))), RNG.integers(0, 5, (4, 3))
    for reduction in ("mean", "sum", "none"):
        a = sequence_cross_entropy(logits, targets, None, reduction)
        b = cross_entropy(logits, targets, reduction)
        c = sequence_cross_entropy(logits, targets, [4, 4, 4], reduction)
        assert (a.data == b.data).all()
        np.testing.assert_allclose(c.data, b.data, rtol=1e-15)


def test_no_real_step_gives_zero():
    logits = mg.tensor(np.zeros((2, 1, 3)), requires_grad=True)
    loss = sequence_cross_entropy(logits, np.zeros((2, 1), int), [0])
    loss.backward()
    assert loss.item() == 0.0
    assert (logits.grad.data == 0).all()


@pytest.mark.parametrize("loss", [cross_entropy, sequence_cross_entropy])
def test_an_unknown_reduction_is_refused(loss):
    logits, targets = mg.tensor(np.zeros((2, 1, 3))), np.zeros((2, 1), int)
    for lengths in ([], [[2]]) if loss is sequence_cross_entropy else ([],):
        with pytest.raises(mg.UsageError, match="avg"):
            loss(logits, targets, *lengths, reduction="avg")


@pytest.mark.parametrize(
    ("targets", "error"),
    [
        ([0, 4], mg.ShapeError),
        ([0, -1], mg.ShapeError),
        ([0, 1, 2], mg.ShapeError),
        ([[0], [1]], mg.ShapeError),
        ([0.0, 1.0], mg.DtypeError),
    ],
)
def test_targets_that_do_not_fit(targets, error):
    logits = mg.tensor(np.zeros((2, 4)))
    with pytest.raises(error, match="cross_entropy: targets"):
        cross_entropy(logits, targets)
    with pytest.raises(error, match="sequence_cross_entropy: targets"):
        sequence_cross_entropy(mg.tensor(np.zeros((1, 2, 4))), [targets], [1, 1])


def test_lengths_that_do_not_fit():
    logits, targets = mg.tensor(np.zeros((2, 3, 4))), np.zeros((2, 3), int)
    for wrong in ([1, 2], [1, 2, 3], [0, -1, 0], [1.0, 1.0, 1.0]):
        with pytest.raises(mg.ShapeError, match="lengths"):
            sequence_cross_entropy(logits, targets, wrong)


def test_mse_loss():
    x, y = mg.tensor([[1.0, 2.0], [3.0, 5.0]], requires_grad=True), np.array([[1.0, 0], [0, 1]])
    loss = mse_loss(x, y)
    assert loss.item() == (0 + 4 + 9 + 16) / 4
    loss.backward()
    assert x.grad.data.tolist() == [[0.0, 1.0], [1.5, 2.0]]


def test_mse_refuses_to_broadcast():
    with pytest.raises(mg.ShapeError, match=r"mse_loss.*\n.*\(3,\) and \(3, 1\)"):
        mg.nn.mse_loss(mg.tensor(np.zeros(3)), np.zeros((3, 1)))
