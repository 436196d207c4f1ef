"""The oracle for functions that move elements: value and gradients follow from one map.

Such a function is known by where each element of its output comes from. Its arguments are filled
with the numbers 1, 2, ... in an arbitrary order; then NumPy's function itself shows the map, as its
output. Elements of the output that are none of these numbers were put in. The gradient of an
element is the sum of the cotangents at the places it went to, which `np.bincount` gives, exactly
for whole numbers; this is more than a derivative along a few directions, and needs no tolerance.
"""

import numpy as np

import minigrad as mg
from minigrad.backward import gradients


def _tuple(out):
    return tuple(out) if isinstance(out, tuple | list) else (out,)


def _flat(arrays):
    return np.concatenate([np.zeros(0), *(np.ravel(a) for a in arrays)])


def _assert_same(mine, theirs, dtype):
    assert len(mine) == len(theirs)
    for a, b in zip(mine, theirs, strict=True):
        assert a.dtype == dtype
        assert a.shape == np.shape(b)
        np.testing.assert_array_equal(a, b)


def check_moves(mine, numpys, *shapes):
    """`mine` does what `numpys` does to arrays of these shapes, and has its gradients."""
    rng = np.random.default_rng(7)
    sizes = [int(np.prod(s)) for s in shapes]
    total = sum(sizes)
    numbers = np.split(rng.permutation(total) + 1, np.cumsum(sizes)[:-1])
    places = [n.reshape(s) for n, s in zip(numbers, shapes, strict=True)]
    arrays = [p.astype(np.float64) for p in places]

    expected = _tuple(numpys(*arrays))
    _assert_same(_tuple(mine(*arrays)), expected, np.float64)
    small = _tuple(mine(*(mg.tensor(a, dtype=np.float32) for a in arrays)))
    _assert_same([t.data for t in small], expected, np.float32)
    tensors = [mg.tensor(a, requires_grad=True) for a in arrays]
    outs = _tuple(mine(*tensors))
    _assert_same([t.data for t in outs], expected, np.float64)
    if not outs:
        return

    came_from = _flat(expected).astype(int)  # 0: from nowhere, it was put in
    came_from[(came_from < 1) | (came_from > total)] = 0
    gs = [rng.integers(-9, 10, np.shape(e)).astype(np.float64) for e in expected]
    sums = np.bincount(came_from, _flat(gs), minlength=total + 1)
    first = gradients(outs, tensors, gs)
    _assert_same(first, [sums[p] for p in places], np.float64)

    # The gradient is linear in the cotangent: its own gradient moves v as the function moved x.
    cotangents = [mg.tensor(g, requires_grad=True) for g in gs]
    again = gradients(outs, tensors, cotangents, create_graph=True)
    _assert_same([t.data for t in again], first, np.float64)
    v = np.zeros(total + 1)
    v[1:] = rng.integers(-9, 10, total)
    s = sum(((t * v[p]).sum() for t, p in zip(again, places, strict=True)), 0.0)
    second = gradients([s], cotangents)
    second = [np.zeros(g.shape) if c is None else c for c, g in zip(second, gs, strict=True)]
    v[0] = 0
    np.testing.assert_array_equal(_flat(second), v[came_from])
