"""Every op against NumPy and against derivatives found another way: one set of tests for all.

The oracle for a derivative along v is a complex step, Im f(x + i h v) / h: with h = 1e-50 it has no
truncation and no cancellation, so it is as exact as f itself. It runs on the NumPy twins of the
kernels, whichever kernels are under test. Functions that NumPy has for real numbers only are lent,
for that long, a forward for complex ones (`ANALYTIC`). Ops that mean something else for complex
numbers are piecewise linear; there a central difference in eighths is exact.
"""

import contextlib
import zlib

import numpy as np
import pytest
from samples import ANALYTIC, SAMPLES
from samples.base import Sample

import minigrad as mg
from minigrad import kernels
from minigrad.backward import gradients
from minigrad.graph import Leaf, Tensor, registry
from minigrad.recurrent import KINDS

CASES = [
    pytest.param(registry[name], sample, id=f"{name}-{i}")
    for name, samples in SAMPLES.items()
    for i, sample in enumerate(samples)
    if name in registry
]
SMOOTH = [case for case in CASES if case.values[1].wrt]
MULTI = [case for case in CASES if case.values[0].multi]
CONSTANT = [case for case in CASES if not case.values[1].wrt]

every_case = pytest.mark.parametrize(("op", "sample"), CASES)
every_smooth_case = pytest.mark.parametrize(("op", "sample"), SMOOTH)

# Both sides of a comparison are sums of some hundred terms, each right to a few ulp. The largest
# error seen over all samples is below 2 eps.
TOLERANCE = 50 * np.finfo(np.float64).eps
TOLERANCE_F32 = 50 * np.finfo(np.float32).eps


def test_every_registered_op_has_samples():
    assert set(registry) == set(SAMPLES)
    assert all(SAMPLES.values())


# --- helpers -------------------------------------------------------------------------------------


def as_tuple(out):
    return tuple(out) if isinstance(out, tuple | list) else (out,)


def is_float(a):
    return isinstance(a, np.ndarray) and a.dtype.kind == "f"


def leaf(a):
    """A tensor to differentiate at, complex or not, sharing the memory of the array."""
    return Tensor.of(a, Leaf())


def integers(seed, arrays):
    """Random projections with small integers, so that piecewise linear ops are exact."""
    rng = np.random.default_rng(zlib.crc32(repr(seed).encode()))
    return [
        np.asarray(rng.integers(1, 4, a.shape) * rng.choice([-1.0, 1.0], a.shape)) for a in arrays
    ]


def call(op, sample, points):
    """The op's outputs, with `points` in place of the differentiable arguments."""
    args = list(sample.args)
    for i, p in zip(sample.wrt, points, strict=True):
        args[i] = p
    return as_tuple(op(*args, **sample.params))


def first_order(op, sample, points, cotangents, create_graph=False):
    """The gradient at arrays, or at tensors, which are then left in the graph."""
    tensors = [p if isinstance(p, Tensor) else leaf(p) for p in points]
    outs = call(op, sample, tensors)
    if not create_graph:
        cotangents = [g.astype(o.dtype) for g, o in zip(cotangents, outs, strict=True)]
    return gradients(outs, tensors, cotangents, create_graph)


def points_and_cotangents(op, sample, dtype=np.float64):
    points = [sample.args[i].astype(dtype) for i in sample.wrt]
    outs = call(op, at(sample, dtype), points)
    return points, [g.astype(o.dtype) for g, o in zip(integers(op.name, outs), outs, strict=True)]


def at(sample, dtype):
    return sample._replace(args=tuple(a.astype(dtype) if is_float(a) else a for a in sample.args))


def dot(xs, ys):
    return sum((np.sum(x * y) for x, y in zip(xs, ys, strict=True)), 0.0)


@contextlib.contextmanager
def analytic():
    """Lends ops whose forward takes real arrays only one that takes complex arrays."""
    own = {name: registry[name].forward for name in ANALYTIC}
    try:
        for name, forward in ANALYTIC.items():
            registry[name].forward = forward
        yield
    finally:
        for name, forward in own.items():
            registry[name].forward = forward


def derivative(function, points, directions, holomorphic):
    """d/ds function(points + s directions) at s = 0."""
    if holomorphic:
        h = 1e-50
        with analytic():
            out = function([p + 1j * h * v for p, v in zip(points, directions, strict=True)])
        return out.imag / h
    h = 1 / 64
    plus = function([p + h * v for p, v in zip(points, directions, strict=True)])
    minus = function([p - h * v for p, v in zip(points, directions, strict=True)])
    return (plus - minus) / (2 * h)


def assert_close(got, expected, *scale):
    """Within rounding of sums of the terms `scale`."""
    size = 1 + sum(float(np.sum(np.abs(s))) for s in scale)
    assert abs(got - expected) <= TOLERANCE * size, (got, expected)


def assert_same_bits(xs, ys):
    for x, y in zip(xs, ys, strict=True):
        x, y = (np.asarray(a.data if isinstance(a, Tensor) else a) for a in (x, y))
        assert (x.dtype, x.shape) == (y.dtype, y.shape)
        np.testing.assert_array_equal(x, y)


# --- values --------------------------------------------------------------------------------------


@every_case
def test_value(op, sample):
    outs = as_tuple(op(*sample.args, **sample.params))
    expected = as_tuple(sample.reference(*sample.args, **sample.params))
    for out, e in zip(outs, expected, strict=True):
        assert out.shape == np.shape(e)
        np.testing.assert_allclose(out, e, rtol=1e-14, atol=1e-14)


@every_case
def test_tensors_give_what_arrays_give(op, sample):
    outs = as_tuple(op(*sample.args, **sample.params))
    tensors = [leaf(a) if is_float(a) else a for a in sample.args]
    assert_same_bits(as_tuple(op(*tensors, **sample.params)), outs)


@every_case
def test_float32_is_kept(op, sample):
    if op.name == "astype":
        pytest.skip("changes the dtype: that is what it is for")
    small = at(sample, np.float32)
    outs = as_tuple(op(*small.args, **small.params))
    exact = as_tuple(op(*sample.args, **sample.params))
    for out, e in zip(outs, exact, strict=True):
        assert out.dtype == (np.float32 if np.asarray(e).dtype == np.float64 else e.dtype)
        np.testing.assert_allclose(out, e, rtol=TOLERANCE_F32, atol=TOLERANCE_F32)
    if sample.wrt:
        points, cotangents = points_and_cotangents(op, sample, np.float32)
        grads = first_order(op, small, points, cotangents)
        exact = first_order(op, sample, *points_and_cotangents(op, sample))
        for g, e in zip(grads, exact, strict=True):
            assert g.dtype == np.float32
            scale = 1 + np.max(np.abs(e), initial=0)
            np.testing.assert_allclose(g, e, rtol=TOLERANCE_F32, atol=TOLERANCE_F32 * scale)


@pytest.mark.parametrize(("op", "sample"), CONSTANT)
def test_an_op_without_rules_carries_no_gradient(op, sample):
    outs = as_tuple(op(*(leaf(a) for a in sample.args), **sample.params))
    assert not any(out.requires_grad for out in outs)


@pytest.mark.parametrize("name", ANALYTIC)
def test_a_lent_forward_is_the_same_function(name):
    for sample in SAMPLES[name]:
        lent = ANALYTIC[name](*sample.args, **sample.params)
        own = registry[name](*sample.args, **sample.params)
        np.testing.assert_allclose(lent.real, own, rtol=1e-14, atol=1e-14)


# --- gradients -----------------------------------------------------------------------------------


@every_smooth_case
def test_first_order(op, sample):
    points, cotangents = points_and_cotangents(op, sample)
    grads = first_order(op, sample, points, cotangents)
    assert [g.shape for g in grads] == [p.shape for p in points]
    for seed in range(3):
        directions = integers(seed, points)
        expected = derivative(
            lambda ps: dot(call(op, sample, ps), cotangents), points, directions, sample.holomorphic
        )
        scale = [g * v for g, v in zip(grads, directions, strict=True)]
        assert_close(dot(grads, directions), expected, *scale)


@every_smooth_case
def test_second_order(op, sample):
    """s(x, g) = v . gradient(x, g), differentiated in x and in the cotangent g."""
    points, cotangents = points_and_cotangents(op, sample)
    v = integers("v", points)
    n = len(points)

    tensors = [leaf(a) for a in points + cotangents]
    grads = first_order(op, sample, tensors[:n], tensors[n:], create_graph=True)
    s = sum(((g * w).sum() for g, w in zip(grads, v, strict=True)), 0)
    seconds = [
        np.zeros(t.shape) if g is None else g
        for g, t in zip(gradients([s], tensors), tensors, strict=True)
    ]

    def slope(ps):
        return dot(first_order(op, sample, ps[:n], ps[n:]), v)

    for seed in range(3):
        directions = integers(seed, points + cotangents)
        both = points + cotangents
        if op.name == "astype":  # its float32 outputs take float32 cotangents
            directions = [d.astype(p.dtype) for d, p in zip(directions, both, strict=True)]
        expected = derivative(slope, both, directions, sample.holomorphic)
        scale = [g * u for g, u in zip(seconds, directions, strict=True)]
        assert_close(dot(seconds, directions), expected, *scale, *grads_of(grads, v))


def grads_of(grads, v):
    return [g.data * w for g, w in zip(grads, v, strict=True)]


@every_smooth_case
def test_arrays_and_tensors_give_the_same_bits(op, sample):
    points, cotangents = points_and_cotangents(op, sample)
    plain = first_order(op, sample, points, cotangents)
    assert not any(isinstance(g, Tensor) for g in plain)
    tensors = [leaf(g) for g in cotangents]
    recorded = first_order(op, sample, [leaf(p) for p in points], tensors, create_graph=True)
    if op.name in KINDS and kernels.backend() == "numpy":  # the twins promise no bits
        for p, r in zip(plain, recorded, strict=True):
            np.testing.assert_allclose(p, r.data, rtol=1e-13, atol=1e-13)
    else:
        assert_same_bits(plain, recorded)


@every_smooth_case
def test_nothing_given_is_written(op, sample):
    points, cotangents = points_and_cotangents(op, sample)
    tensors = [leaf(p) for p in points]
    outs = call(op, sample, tensors)
    node = outs[0].node
    given = [*points, *cotangents, *node.outs]
    given += [a for a in (*node.args, *node.saved) if isinstance(a, np.ndarray)]
    before = [a.copy() for a in given]
    for a in given:
        a.flags.writeable = False
    gradients(outs, tensors, cotangents)
    gradients(outs, tensors, [leaf(g) for g in cotangents], create_graph=True)
    assert_same_bits(given, before)


@every_smooth_case
def test_a_first_order_pass_makes_no_tensor(op, sample, monkeypatch):
    points, cotangents = points_and_cotangents(op, sample)
    tensors = [leaf(p) for p in points]
    outs = call(op, sample, tensors)

    def forbidden(*args, **kwargs):
        raise AssertionError("a tensor was made")

    monkeypatch.setattr(Tensor, "of", forbidden)
    monkeypatch.setattr(Tensor, "__init__", forbidden)
    with pytest.raises(AssertionError, match="a tensor was made"):
        mg.tensor(1.0)
    gradients(outs, tensors, cotangents)


@every_smooth_case
def test_one_tensor_in_two_places(op, sample):
    """f(x, x): the gradient is the sum over both places."""
    shapes = [sample.args[i].shape for i in sample.wrt]
    twins = [(i, j) for i in range(len(shapes)) for j in range(i) if shapes[i] == shapes[j]]
    for i, j in twins:
        points, _ = points_and_cotangents(op, sample)
        points[i] = points[j]
        if op.name in ("maximum", "minimum"):
            continue  # a tie everywhere: see test_elementwise.py
        outs = call(op, sample, points)
        cotangents = integers("twins", outs)
        tensors = [leaf(p) for p in points]
        tensors[i] = tensors[j]
        outs = call(op, sample, tensors)
        apart = first_order(op, sample, points, cotangents)
        (together,) = gradients(outs, [tensors[j]], cotangents)
        np.testing.assert_allclose(together, apart[i] + apart[j], rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("op", "sample"), MULTI)
def test_a_missing_cotangent_is_zero(op, sample):
    points, cotangents = points_and_cotangents(op, sample)
    for k, g in enumerate(cotangents):
        tensors = [leaf(p) for p in points]
        outs = call(op, sample, tensors)
        alone = gradients([outs[k]], tensors, [g])
        others = [g if i == k else np.zeros_like(c) for i, c in enumerate(cotangents)]
        assert_same_bits(alone, first_order(op, sample, points, others))
        recorded = gradients([outs[k]], tensors, [leaf(g)], create_graph=True)
        for a, r in zip(alone, recorded, strict=True):  # None: no path, as in a graph of single ops
            r = np.zeros(a.shape) if r is None else r.data
            np.testing.assert_allclose(a, r, rtol=1e-13, atol=1e-13)


# --- an op of one's own --------------------------------------------------------------------------


def swish(rule):
    return mg.Op("swish", lambda x: x / (1 + np.exp(-x)), vjps=[rule])


def test_an_op_of_ones_own_is_checked_like_those_of_the_library():
    sample = Sample((np.linspace(-3, 3, 7),), reference=lambda x: x / (1 + np.exp(-x)))
    checks = [
        *(test_value, test_tensors_give_what_arrays_give, test_first_order, test_second_order),
        *(test_arrays_and_tensors_give_the_same_bits, test_nothing_given_is_written),
    ]
    for check in checks:
        check(swish(lambda g, out, x: g * (out + (1 - out) / (1 + mg.exp(-x)))), sample)
    with pytest.raises(AssertionError):
        test_first_order(swish(lambda g, out, x: g * out), sample)
    with pytest.raises(AssertionError):  # right to the first order, and the second is cut off
        test_second_order(
            swish(lambda g, out, x: g * (out + (1 - out) * mg.sigmoid(x).data)), sample
        )
