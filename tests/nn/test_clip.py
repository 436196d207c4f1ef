import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import minigrad as mg
from minigrad.nn.utils import clip_grad_norm_, clip_grad_value_


def parameters(*gradients, dtype=np.float64):
    found = []
    for g in gradients:
        p = mg.nn.Parameter(np.zeros(np.shape(g), dtype))
        p.grad = np.array(g, dtype)
        found.append(p)
    return found


def test_the_norm_is_that_of_all_gradients_as_one_vector():
    ps = [*parameters([3.0, 0.0], [[4.0]]), mg.nn.Parameter(np.zeros(9))]
    assert clip_grad_norm_(ps, 10.0) == 5.0
    assert ps[0].grad.data.tolist() == [3.0, 0.0]
    assert clip_grad_norm_((p for p in ps), 2.5) == 5.0
    assert ps[0].grad.data.tolist() == [1.5, 0.0]
    assert ps[1].grad.data.tolist() == [[2.0]]
    assert ps[2].grad is None
    assert clip_grad_norm_(ps, 2.5) == 2.5
    assert type(clip_grad_norm_(ps, 2.5)) is float


def test_no_gradients_have_norm_zero():
    assert clip_grad_norm_([], 1.0) == 0.0
    assert clip_grad_norm_([mg.nn.Parameter(np.zeros(3))], 1.0) == 0.0
    (p,) = parameters([0.0, 0.0])
    assert clip_grad_norm_([p], 1.0) == 0.0
    assert p.grad.data.tolist() == [0.0, 0.0]


@given(
    hnp.arrays(np.float64, st.integers(1, 6), elements=st.floats(-1e6, 1e6)), st.floats(1e-3, 1e3)
)
def test_a_clipped_gradient_has_the_norm_and_the_direction(g, limit):
    (p,) = parameters(g)
    before = clip_grad_norm_([p], limit)
    np.testing.assert_allclose(before, np.sqrt((g * g).sum()), rtol=1e-14)
    after = p.grad.data
    assert np.sqrt((after * after).sum()) <= max(limit, 0) * (1 + 1e-14)
    if before <= limit:
        assert (after == g).all()
    else:
        np.testing.assert_allclose(after, g * (limit / before), rtol=1e-14, atol=1e-300)


def test_float32_stays_float32():
    (p,) = parameters([30.0, 40.0], dtype=np.float32)
    assert clip_grad_norm_([p], 5.0) == 50.0
    assert p.grad.dtype == np.float32
    assert (p.grad.data == np.array([3, 4], np.float32)).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_norm_that_is_no_number(bad):
    p, q = parameters([bad, 1.0], [2.0])
    with pytest.raises(mg.GradientError, match="clip_grad_norm_: the norm of the gradients"):
        clip_grad_norm_([p, q], 1.0, error_if_nonfinite=True)
    assert q.grad.data.tolist() == [2.0]
    with np.errstate(invalid="ignore"):
        norm = clip_grad_norm_([p, q], 1.0)
    if math.isnan(bad):
        assert math.isnan(norm)
        assert np.isnan(q.grad.data).all()
    else:
        assert norm == math.inf
        assert q.grad.data.tolist() == [0.0]
    assert np.isnan(p.grad.data[0])


def test_clip_value():
    p, q = parameters([3.0, -0.5, -7.0], [[0.25]])
    clip_grad_value_([p, q, mg.nn.Parameter(np.zeros(1))], 1.0)
    assert p.grad.data.tolist() == [1.0, -0.5, -1.0]
    assert q.grad.data.tolist() == [[0.25]]


def test_clipping_the_gradients_of_a_real_pass():
    x = mg.nn.Parameter(np.ones(4))
    y = mg.nn.Parameter(np.ones(4))
    (x + y).sum().backward()  # both gradients are the same numbers, but not the same array
    assert clip_grad_norm_([x, y], np.sqrt(2.0)) == np.sqrt(8.0)
    np.testing.assert_allclose(x.grad.data, 0.5, rtol=1e-15)
    np.testing.assert_allclose(y.grad.data, 0.5, rtol=1e-15)


def test_the_norm_of_finite_gradients_is_finite_and_that_of_others_is_not():
    """Squares overflow long before norms do: in float32 from 2e19 on."""
    huge = parameters([3e30, 0.0], [4e30], dtype=np.float32)
    assert clip_grad_norm_(huge, 1.0) == pytest.approx(5e30, rel=1e-6)
    np.testing.assert_allclose([*huge[0].grad.data, *huge[1].grad.data], [0.6, 0, 0.8], rtol=1e-6)
    assert clip_grad_norm_(parameters([1.0], [math.inf]), 1.0) == math.inf
    for order in ([math.nan], [math.inf]), ([math.inf], [math.nan]):
        assert math.isnan(clip_grad_norm_(parameters(*order), 1.0))
