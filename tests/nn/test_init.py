import numpy as np
import pytest

from minigrad.nn import Parameter, init

FILLERS = {
    "uniform": lambda p, rng: init.uniform_(p, -2.0, 3.0, rng=rng),
    "normal": lambda p, rng: init.normal_(p, 5.0, 0.5, rng=rng),
    "xavier": lambda p, rng: init.xavier_uniform_(p, 2.0, rng=rng),
    "orthogonal": lambda p, rng: init.orthogonal_(p, 3.0, rng=rng),
}


@pytest.mark.parametrize("fill", FILLERS.values(), ids=FILLERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_seed_decides_and_the_parameter_stays_itself(fill, dtype):
    p, q, other = (Parameter(np.zeros((4, 3), dtype)) for _ in range(3))
    array = p.data
    assert fill(p, 1) is p
    assert p.data is array
    assert p.dtype == dtype
    fill(q, np.random.default_rng(1))
    fill(other, 2)
    assert (p.data == q.data).all()
    assert (p.data != other.data).any()
    assert p.requires_grad
    assert p.grad is None


def filled(fill, shape=(300, 200)):
    return fill(Parameter(np.zeros(shape)), 0).data


def test_uniform():
    a = filled(FILLERS["uniform"])
    assert -2 <= a.min() < -1.99
    assert 2.99 < a.max() <= 3


def test_normal():
    a = filled(FILLERS["normal"])  # 60 000 draws: five standard errors
    assert abs(a.mean() - 5) < 5 * 0.5 / np.sqrt(a.size)
    assert abs(a.std() - 0.5) < 5 * 0.5 / np.sqrt(2 * a.size)


def test_xavier():
    a = filled(FILLERS["xavier"])
    bound = 2 * np.sqrt(6 / 500)
    assert np.abs(a).max() <= bound
    assert np.abs(a).max() > 0.999 * bound


@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (3, 6), (1, 5), (2, 1)])
def test_orthogonal(shape):
    a = filled(FILLERS["orthogonal"], shape) / 3
    gram = a @ a.T if shape[0] <= shape[1] else a.T @ a
    np.testing.assert_allclose(gram, np.eye(min(shape)), atol=1e-14)


def test_orthogonal_has_no_preferred_sign():
    """Without the signs of R taken out, a QR factorisation always gives the same half."""
    signs = {np.sign(init.orthogonal_(Parameter(np.zeros((1, 1))), rng=s).item()) for s in range(9)}
    assert signs == {-1.0, 1.0}


def test_constant():
    p = Parameter(np.zeros((2, 3), np.float32))
    assert init.constant_(p, 2.5) is p
    assert (p.data == 2.5).all()
    assert p.dtype == np.float32
