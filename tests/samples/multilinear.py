"""The oracle for functions that are linear in each argument: NumPy's function itself.

If f is linear in x_i, its derivative along e is f with e in place of x_i. So the gradient of
<g, f> is known by <gradient_i, e> = <g, f(.., e, ..)>, the second derivative by putting directions
in two places, the third in three. On small whole numbers both sides are exact, in any order of
summation, and no tolerance is needed.
"""

import itertools

import numpy as np

import minigrad as mg
from minigrad.backward import gradients


def _whole(rng, shape, most=3):
    return rng.integers(-most, most + 1, shape).astype(np.float64)


def _dot(x, y):
    return float(np.sum(x * y))


def _slope(tensors, directions):
    """The sum of <t, d>, as a tensor; those that nothing depends on are None."""
    pairs = zip(tensors, directions, strict=True)
    return sum(((t * d).sum() for t, d in pairs if t is not None), mg.tensor(0.0))


def _gradients(s, tensors):
    """Of a tensor that may depend on none of them."""
    return gradients([s], tensors, create_graph=True)


def _data(t, like):
    return np.zeros(like.shape) if t is None else t.data


def check_multilinear(mine, numpys, *shapes, whole_numbers=True):
    """`mine` is what `numpys` is for arrays of these shapes, and has its derivatives up to third.

    whole_numbers: whether `mine` keeps the dtype of integers as `numpys` does.
    """
    rng = np.random.default_rng(11)
    arrays = [_whole(rng, s) for s in shapes]
    n = len(shapes)
    expected = np.asarray(numpys(*arrays))

    for dtype in (np.float64, np.float32) + (np.int64, np.int32) * whole_numbers:
        given = [a.astype(dtype) for a in arrays]
        theirs = np.asarray(numpys(*given))
        for got in (mine(*given), mine(*map(mg.tensor, given)).data):
            assert (got.dtype, got.shape) == (theirs.dtype, theirs.shape)
            np.testing.assert_array_equal(got, theirs)

    def along(*directions):
        """The derivative along one direction after the other, each a list for all arguments."""
        total = np.zeros(expected.shape)
        for places in itertools.permutations(range(n), len(directions)):
            args = list(arrays)
            for i, d in zip(places, directions, strict=True):
                args[i] = d[i]
            total = total + numpys(*args)
        return total

    u, v, w = ([_whole(rng, s, 99) for s in shapes] for _ in range(3))
    g = _whole(rng, expected.shape)
    tensors, cotangent = [mg.tensor(a, requires_grad=True) for a in arrays], mg.tensor(g)
    cotangent.requires_grad = True

    first = gradients([mine(*tensors)], tensors, [g])
    assert [d.shape for d in first] == list(shapes)
    for i in range(n):
        alone = [u[j] if j == i else np.zeros(s) for j, s in enumerate(shapes)]
        assert _dot(first[i], u[i]) == _dot(g, along(alone))

    again = gradients([mine(*tensors)], tensors, [cotangent], create_graph=True)
    for a, b in zip(again, first, strict=True):
        np.testing.assert_array_equal(a.data, b)
    slope = _slope(again, u)  # <g, along(u)>
    *second, second_g = _gradients(slope, [*tensors, cotangent])
    np.testing.assert_array_equal(_data(second_g, g), along(u))
    moved = sum(_dot(_data(t, a), d) for t, a, d in zip(second, arrays, v, strict=True))
    assert moved == _dot(g, along(u, v))
    if n < 2:
        return
    slope = _slope(second, v)  # <g, along(u, v)>
    *third, third_g = _gradients(slope, [*tensors, cotangent])
    np.testing.assert_array_equal(_data(third_g, g), along(u, v))
    moved = sum(_dot(_data(t, a), d) for t, a, d in zip(third, arrays, w, strict=True))
    assert moved == _dot(g, along(u, v, w))
