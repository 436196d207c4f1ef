import math

import numpy as np
import pytest

import minigrad as mg
from minigrad.nn import Parameter
from minigrad.optim import SGD, Adam

GRADIENTS = [0.5, -1.25, 3.0, 0.0, 1e-3, -7.5]


def run(optimizer, parameter, gradients):
    """The values that a parameter of one element goes through."""
    values = []
    for g in gradients:
        parameter.grad = np.full(parameter.shape, g, parameter.dtype)
        optimizer.step()
        values.append(parameter.data.flat[0])
    return values


# --- against the recurrences, to the bit ---------------------------------------------------------


def sgd(p, gradients, lr, momentum, real):
    v, values = real(0), []
    for g in gradients:
        v = v * real(momentum) + real(g)
        p = p - real(lr) * (v if momentum else real(g))
        values.append(p)
    return values


def adam(p, gradients, lr, b1, b2, eps, real):
    m = v = real(0)
    values = []
    for t, g in enumerate(gradients, start=1):
        g = real(g)
        m = m * real(b1) + real(1 - b1) * g
        v = v * real(b2) + real(1 - b2) * (g * g)
        scale = np.sqrt(v / real(1 - b2**t)) + real(eps)
        p = p - real(lr / (1 - b1**t)) * m / scale
        values.append(p)
    return values


@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd(real, shape, momentum):
    p = Parameter(np.full(shape, 1.5, real))
    values = run(SGD([p], lr=0.1, momentum=momentum), p, GRADIENTS)
    assert values == sgd(real(1.5), GRADIENTS, 0.1, momentum, real)
    assert p.dtype == real
    assert (p.data == p.data.flat[0]).all()


@pytest.mark.parametrize("real", [np.float32, np.float64])
@pytest.mark.parametrize("betas", [(0.9, 0.999), (0.5, 0.75)])
def test_adam(real, betas):
    p = Parameter(np.full((2, 2), 1.5, real))
    values = run(Adam([p], lr=0.1, betas=betas, eps=1e-6), p, GRADIENTS)
    assert values == adam(real(1.5), GRADIENTS, 0.1, *betas, 1e-6, real)
    assert p.dtype == real


def test_the_first_step_of_adam_is_the_learning_rate():
    for g in (1e-3, 1.0, 1e3):
        p = Parameter(np.zeros(1))
        assert math.isclose(run(Adam([p], lr=0.25), p, [-g])[0], 0.25, rel_tol=1e-4)


def test_defaults():
    adam = Adam([Parameter(np.zeros(1))])
    assert (adam.lr, adam.betas, adam.eps) == (1e-3, (0.9, 0.999), 1e-8)


# --- what is touched -----------------------------------------------------------------------------


@pytest.mark.parametrize("make", [SGD, lambda p, lr: SGD(p, lr, 0.9), Adam], ids=str)
def test_parameters_change_in_place_and_gradients_stay(make):
    p, still = Parameter(np.ones(2)), Parameter(np.ones(2))
    array = p.data
    optimizer = make((q for q in (p, still)), lr=0.5)
    g = np.array([1.0, -2.0])
    g.flags.writeable = False
    p.grad = g
    optimizer.step()
    assert p.data is array
    assert (p.data != 1).all()
    assert still.data.tolist() == [1.0, 1.0]
    assert p.grad.data is g
    optimizer.zero_grad()
    assert p.grad is None
    assert optimizer.steps == 1


def test_training_lowers_the_loss():
    for make in (lambda p: SGD(p, 0.1, 0.5), lambda p: Adam(p, 0.1)):
        p = Parameter(np.array([3.0, -2.0]))
        optimizer, losses = make([p]), []
        for _ in range(20):
            optimizer.zero_grad()
            loss = (p * p).sum()
            loss.backward()
            losses.append(loss.item())
            optimizer.step()
        assert losses[-1] < losses[0]


# --- saved and resumed ---------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda p: SGD(p, 0.1, 0.9), lambda p: Adam(p, 0.1)])
def test_a_saved_state_continues_to_the_same_bits(make):
    p = Parameter(np.full(2, 1.5, np.float32))
    optimizer = make([p])
    whole = run(optimizer, p, GRADIENTS)

    q = Parameter(np.full(2, 1.5, np.float32))
    optimizer = make([q])
    first = run(optimizer, q, GRADIENTS[:3])
    state, value = optimizer.state_dict(), q.data.copy()
    run(optimizer, q, GRADIENTS)  # what happens later does not reach the saved copies

    r = Parameter(value)
    optimizer = make([r])
    optimizer.load_state_dict(state)
    assert optimizer.steps == 3
    assert first + run(optimizer, r, GRADIENTS[3:]) == whole
    assert all(isinstance(a, np.ndarray) for a in state.values())


def test_adam_corrects_each_parameter_by_its_own_number_of_gradients():
    """A first gradient moves a parameter by lr, however late it comes."""
    early, late = Parameter(np.zeros(1)), Parameter(np.zeros(1))
    optimizer = Adam([early, late], lr=0.5)
    early.grad = mg.tensor([3.0])
    for _ in range(4):
        optimizer.step()
    late.grad = mg.tensor([3.0])
    optimizer.step()
    assert late.data == pytest.approx(-0.5, rel=1e-8)


def test_the_state_of_adam_by_name():
    p = Parameter(np.zeros((2, 3), np.float32))
    state = Adam([p, Parameter(np.zeros(()))]).state_dict()
    shapes = {k: v.shape for k, v in state.items()}
    assert shapes == {
        "steps": (),
        "m.0": (2, 3),
        "m.1": (),
        "v.0": (2, 3),
        "v.1": (),
        "t.0": (),
        "t.1": (),
    }
    assert state["m.0"].dtype == np.float32
    assert list(SGD([p], 0.1).state_dict()) == ["steps"]
    assert list(SGD([p], 0.1, 0.9).state_dict()) == ["steps", "velocity.0"]


def test_a_state_that_does_not_fit_is_refused_whole():
    p = Parameter(np.zeros(2))
    optimizer = Adam([p])
    run(optimizer, p, [1.0])
    before = optimizer.state_dict()
    state = {"steps": np.array(5), "m.0": np.ones(3), "v.1": np.ones(2)}
    with pytest.raises(mg.StateDictError) as caught:
        optimizer.load_state_dict(state)
    for part in ("load_state_dict: Adam\n", "m.0", "v.0", "v.1", "nothing was changed"):
        assert part in str(caught.value)
    after = optimizer.state_dict()
    assert all((after[k] == before[k]).all() for k in before)


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("lr", [0.0, -1.0, math.nan])
def test_a_learning_rate_must_be_positive(lr):
    with pytest.raises(mg.UsageError, match="SGD: lr"):
        SGD([Parameter(np.zeros(1))], lr=lr)


def test_there_must_be_parameters():
    used_up = (p for p in [])
    with pytest.raises(mg.UsageError, match="Adam: parameters"):
        Adam(used_up)
