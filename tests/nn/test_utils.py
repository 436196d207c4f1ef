"""All parameters as one vector; tests/nn/test_clip.py has the clipping."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad.nn.utils import (
    clip_grad_norm_,
    clip_grads_with_norm_,
    get_total_norm,
    parameters_to_vector,
    vector_to_parameters,
)


def model(dtype=np.float32):
    return mg.nn.LSTM(2, 3, num_layers=2, dtype=dtype, rng=0)


def test_there_and_back():
    m = model()
    before = m.state_dict()
    vec = parameters_to_vector(m.parameters())
    assert (vec.ndim, vec.dtype) == (1, np.float32)
    assert (vec.data == np.concatenate([v.ravel() for v in before.values()])).all()
    arrays = [p.data for p in m.parameters()]
    for given, factor in ((2 * vec, 2), (vec.data * 3, 3)):
        vector_to_parameters(given, m.parameters())
        assert all((p.data == before[k] * factor).all() for k, p in m.named_parameters())
    assert all(p.data is a for p, a in zip(m.parameters(), arrays, strict=True))  # in place
    assert all(p.requires_grad and p.is_leaf for p in m.parameters())


def test_the_vector_has_a_gradient():
    m = model(np.float64)
    vec = parameters_to_vector(m.parameters())
    (vec * np.arange(vec.size)).sum().backward()
    found = np.concatenate([p.grad.data.ravel() for p in m.parameters()])
    assert (found == np.arange(vec.size)).all()
    assert (mg.grad(lambda m: (parameters_to_vector(m.parameters()) ** 2).sum())(m)["bias_ih_l0"]
            == 2 * m.cells[0].bias_ih.data).all()  # fmt: skip


def test_a_vector_that_is_a_view_of_the_parameters():
    flat = np.arange(3.0)
    a, b = mg.nn.Parameter(np.zeros(2)), mg.nn.Parameter(np.zeros(1))
    a.data, b.data = flat[:2], flat[2:]
    vector_to_parameters(flat[::-1], [a, b])
    assert flat.tolist() == [2.0, 1.0, 0.0]


SIZES = "the sizes of all parameters together"


@pytest.mark.parametrize(
    ("vec", "kind", "expected_and_got"),
    [
        (np.ones(4), mg.ShapeError, f"(3,), {SIZES}, got (4,)"),
        (np.ones((3, 1)), mg.ShapeError, f"(3,), {SIZES}, got (3, 1)"),
        (np.ones(3, np.float32), mg.DtypeError, "float64 like the parameters, got float32"),
        (mg.tensor([1, 2, 3]), mg.DtypeError, "float64 like the parameters, got int64"),
    ],
)
def test_a_vector_that_does_not_fit_changes_nothing(vec, kind, expected_and_got):
    ps = [mg.nn.Parameter(np.zeros(2)), mg.nn.Parameter(np.zeros(()))]
    with pytest.raises(kind) as caught:
        vector_to_parameters(vec, ps)
    assert str(caught.value).splitlines()[:2] == [
        "vector_to_parameters: vec",
        f"  expected {expected_and_got}",
    ]
    assert [p.data.tolist() for p in ps] == [[0.0, 0.0], 0.0]


def test_parameters_must_be_some_and_of_one_dtype():
    mixed = [mg.nn.Parameter(np.zeros(2)), mg.nn.Parameter(np.zeros(1, np.float32))]
    calls = {
        "parameters_to_vector": parameters_to_vector,
        "vector_to_parameters": lambda ps: vector_to_parameters(np.ones(3), ps),
    }
    for name, call in calls.items():
        for ps, kind, got in (
            ([], mg.UsageError, "expected at least one, got none"),
            (mixed, mg.DtypeError, "expected one dtype, got float32, float64"),
        ):
            with pytest.raises(kind) as caught:
                call(iter(ps))
            assert str(caught.value).splitlines()[:2] == [f"{name}: parameters", f"  {got}"]
    assert [p.data.tolist() for p in mixed] == [[0.0, 0.0], [0.0]]


def test_a_norm_of_anything_and_clipping_with_a_known_one():
    assert get_total_norm([]) == 0.0
    assert get_total_norm(mg.tensor(np.full(4, x)) for x in (1.0, -7.0)) == math.sqrt(200)
    assert get_total_norm([np.array([math.inf])]) == math.inf
    with pytest.raises(mg.GradientError, match="get_total_norm: the norm of the gradients"):
        get_total_norm([np.array([1.0, math.nan])], error_if_nonfinite=True)
    grads = []
    for clip in (
        lambda ps: clip_grad_norm_(ps, 0.125),
        lambda ps: clip_grads_with_norm_(ps, 0.125, get_total_norm([p.grad for p in ps])),
    ):
        m = model()
        (m(np.ones((3, 1, 2), np.float32))[0] ** 2).sum().backward()
        clip(list(m.parameters()))
        grads.append([p.grad.data for p in m.parameters()])
    for a, b in zip(*grads, strict=True):
        assert (a == b).all()
    clip_grads_with_norm_(m.parameters(), 1.0, 0.5)
    assert all((p.grad.data == g).all() for p, g in zip(m.parameters(), grads[1], strict=True))
