"""Fuzzing of the doors to C, to be run in a process of its own: `python border.py NAME`.

A door gets arrays of any shape, dtype, stride and alignment, or no arrays at all, most of them
nearly right. It either refuses in Python, or gives what NumPy gives; it leaves its arguments as
they are. Values are small whole numbers, so that all sums are exact and `==` holds.
"""

from __future__ import annotations

import math
import sys
import tempfile
from typing import Any
from unittest import mock

import numpy as np
from fused_cells import arguments
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

from minigrad import kernels, recurrent
from minigrad.errors import MinigradError

REFUSED: tuple = (MinigradError, TypeError, ValueError, MemoryError)
NO_ARRAYS = (None, 1.5, "text", [[1.0, 2.0]], [], (), np.float64(2), np.array(3.0))
OTHER_DTYPES = (
    *(np.float16, np.int64, np.uint8, bool, np.complex128, np.complex64, object, np.longdouble),
    *(">f8", ">f4", "m8[s]"),
)

side = st.integers(0, 5)
seldom = st.integers(0, 9).map(lambda n: n == 0)
_file = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the process runs)
_file.write(bytes(1 << 16))
_file.flush()


def numbers(draw, shape: tuple, dtype) -> np.ndarray:
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    return rng.integers(0, 4, shape).astype(dtype)


def misaligned(a: np.ndarray) -> np.ndarray:
    held = np.ndarray(a.shape, a.dtype, bytearray(a.nbytes + 1), 1)
    held[...] = a
    return held


def overlapping(a: np.ndarray) -> np.ndarray:
    """Windows onto one row, each an element further than the one before."""
    base = (np.arange(sum(a.shape) + 1) % 4).astype(a.dtype)
    return as_strided(base, a.shape, (base.itemsize,) * a.ndim)


def mapped(a: np.ndarray) -> np.ndarray:
    """Zeros in a file, which cannot be written to."""
    return np.memmap(_file, a.dtype, "r", 8, a.shape) if a.size else a


LAYOUTS = (
    lambda a: a, lambda a: a, np.asfortranarray, lambda a: np.flip(np.flip(a).copy()),
    lambda a: np.broadcast_to(a[:1], a.shape) if len(a) else a,
    lambda a: np.broadcast_to(np.ones((), a.dtype), a.shape),
    lambda a: np.repeat(a, 3, axis=-1)[..., ::3], lambda a: np.repeat(a, 2, axis=0)[::-2],
    lambda a: np.pad(a, 1)[tuple(slice(1, -1) for _ in a.shape)],
)  # fmt: skip
FIXED = (misaligned, overlapping, mapped)  # of numbers alone


@st.composite
def nearly(draw, shape: tuple, dtype) -> Any:
    """Most often an array of this shape and dtype, in some layout; now and then anything."""
    if draw(seldom) and draw(st.booleans()):
        return draw(st.sampled_from(NO_ARRAYS))
    if draw(seldom):
        shape = draw(
            st.sampled_from(
                [shape[1:], (*shape, 2), (1, *shape), shape[::-1], (*shape[:-1], shape[-1] + 1)]
                if shape
                else [(1,), (2, 2)]
            )
        )
    if draw(seldom):
        dtype = draw(st.sampled_from(OTHER_DTYPES))
    a = numbers(draw, shape, dtype)
    if not shape:
        return a
    plain = a.dtype != object
    a = draw(st.sampled_from(LAYOUTS + FIXED * plain))(a)
    if draw(seldom):
        a = np.broadcast_to(a, a.shape)  # read-only
    return a


def judge(door, args: tuple, expected, exact=True) -> None:
    """The door refuses, or gives what `expected()` gives and leaves its arguments alone."""
    before = [np.array(a, copy=True) if isinstance(a, np.ndarray) else None for a in args]
    odd = any(not isinstance(a, np.ndarray) or a.ndim == 0 for a in args)
    try:
        got = door(*args)
    except REFUSED:
        return
    except (AttributeError, IndexError):
        assert odd, "of arrays"
        return
    finally:
        for a, b in zip(args, before, strict=True):
            if b is not None:
                assert a.shape == b.shape
                np.testing.assert_array_equal(a, b)
    want = expected()
    for x, y in zip(*((v if isinstance(v, tuple) else (v,)) for v in (got, want)), strict=True):
        if y is None:
            assert x is None
            continue
        assert np.shape(x) == np.shape(y), (np.shape(x), np.shape(y))
        if exact:
            np.testing.assert_array_equal(x, y)
        else:
            found = {getattr(a, "dtype", np.dtype(int)) for a in args}
            single = any((d.kind, d.itemsize) in (("f", 4), ("c", 8)) for d in found)
            rtol, atol = (1e-4, 1e-5) if single else (1e-11, 1e-12)
            np.testing.assert_allclose(x, y, rtol, atol)


def rows(a) -> np.ndarray:
    a = np.asarray(a)
    return a.reshape(math.prod(a.shape[:-1]), a.shape[-1])


def sizes(draw) -> tuple:
    """m, k, n, and the axes before them."""
    return draw(side), draw(side), draw(side), draw(st.sampled_from([(), (), (2,), (0,), (1, 3)]))


dtypes = st.sampled_from([np.float32, np.float64])


@given(st.data(), dtypes)
def matmul(data, dtype):
    m, k, n, stack = sizes(data.draw)
    left = data.draw(st.sampled_from([(*stack, m, k), (m, k), (k,)]))
    right = data.draw(st.sampled_from([(*stack, k, n), (k, n), (k,)]))
    a, b = data.draw(nearly(left, dtype)), data.draw(nearly(right, dtype))
    judge(kernels.matmul, (a, b), lambda: np.matmul(a, b))


@given(st.data(), dtypes)
def affine(data, dtype):
    m, k, n, stack = sizes(data.draw)
    start = data.draw(st.sampled_from([(n,), (*stack, m, n)]))
    shapes = (*stack, m, k), (n, k), start
    x, w, s = (data.draw(nearly(shape, dtype)) for shape in shapes)
    judge(kernels.affine, (x, w, s), lambda: np.matmul(x, np.asarray(w).T) + s)


@given(st.data(), dtypes)
def addmm(data, dtype):
    m, k, n, stack = sizes(data.draw)
    start = data.draw(st.sampled_from([(n,), (*stack, m, n), (m, 1), (1,), ()]))
    s, x, y = (data.draw(nearly(shape, dtype)) for shape in (start, (*stack, m, k), (k, n)))
    judge(kernels.addmm, (s, x, y), lambda: np.matmul(x, y) + s)


@given(st.data(), dtypes, st.integers(1, 3))
def products(data, dtype, pairs):
    m, k, n, stack = sizes(data.draw)
    shapes = [(*stack, k, m), (*stack, k, n)] * pairs
    args = tuple(data.draw(nearly(shape, dtype)) for shape in shapes)
    judge(
        kernels.products, args,
        lambda: sum(rows(a).T @ rows(b) for a, b in zip(args[::2], args[1::2], strict=True)),
    )  # fmt: skip


@given(st.data(), dtypes, st.integers(1, 3))
def row_sums(data, dtype, count):
    _, k, n, stack = sizes(data.draw)
    args = tuple(data.draw(nearly((*stack, k, n), dtype)) for _ in range(count))
    judge(kernels.row_sums, args, lambda: sum(rows(a).sum(0) for a in args))


@given(st.data(), dtypes)
def scatter_rows(data, dtype):
    m, k, n, _ = sizes(data.draw)
    index, g = data.draw(nearly((k,), np.int64)), data.draw(nearly((k, n), dtype))
    if isinstance(index, np.ndarray) and data.draw(seldom):
        index = index - 3

    def expected():
        assert np.asarray(index).dtype.kind in "iu" or not np.size(index)
        out = np.zeros((m, n), np.asarray(g).dtype)
        np.add.at(out, np.asarray(index, int), g)
        return out

    judge(lambda index, g: kernels.scatter_rows(index, g, (m, n)), (index, g), expected)


@given(st.data(), dtypes, st.sampled_from(["exp", "log", "tanh", "sigmoid", "softplus", "erf"]))
def unary(data, dtype, name):
    shape = data.draw(st.sampled_from([(0,), (7,), (3, 5), (2, 0, 3), (2, 3, 4)]))
    x, door = data.draw(nearly(shape, dtype)), getattr(kernels, name)

    def expected():
        with mock.patch.object(kernels, "lib", None):
            wide = np.asarray(x)
            return kernels._TWINS[name](wide if wide.dtype.kind in "fc" else wide.astype(float))

    judge(door, (x,), expected, exact=False)


@given(st.data(), dtypes, st.sampled_from(["tanh", "sigmoid"]))
def rule(data, dtype, name):
    shape = data.draw(st.sampled_from([(0,), (7,), (3, 5), (2, 3, 4)]))
    g, y = data.draw(nearly(shape, dtype)), data.draw(nearly(shape, dtype))

    def expected():
        a, b = (v.astype(float) if v.dtype.kind in "iub" else v for v in map(np.asarray, (g, y)))
        return a * (1 - b * b) if name == "tanh" else a * b * (1 - b)

    judge(getattr(kernels, name + "_rule"), (g, y), expected)


def some_lengths(draw, T: int, N: int):
    return draw(
        st.none()
        | st.lists(st.integers(0, T), min_size=N, max_size=N)
        | st.lists(st.integers(-1, T + 1), max_size=N + 1)
        | st.sampled_from([1, "text", [0.5] * N, np.ones(N, bool), np.full(N, 2**63, np.uint64)])
    )


def others(draw, given_: tuple, dtype) -> tuple:
    """These arrays, one or two of them replaced by what is nearly right."""
    found = list(given_)
    for i in draw(st.sets(st.integers(0, len(found) - 1), max_size=2)):
        if found[i] is not None:
            found[i] = draw(nearly(found[i].shape, dtype))
    return tuple(found)


kinds = st.sampled_from(list(recurrent.KINDS.values()))


@given(st.data(), kinds, dtypes, st.booleans())
def forward(data, kind, dtype, save):
    T, N, I, H = (data.draw(side) for _ in range(4))  # noqa: E741
    args = others(data.draw, arguments(kind, T, N, I, H, dtype), dtype)
    lengths = some_lengths(data.draw, T, N)

    def flat(*args):
        outs, saved = recurrent.forward(kind, save, lengths, args)
        return (*outs, saved)

    def expected():
        with mock.patch.object(kernels, "lib", None):
            return flat(*args)

    judge(flat, args, expected, exact=False)


@given(st.data(), kinds, dtypes)
def backward(data, kind, dtype):
    T, N, I, H = (data.draw(side) for _ in range(4))  # noqa: E741
    args = arguments(kind, T, N, I, H, dtype)
    lengths = data.draw(st.none() | st.lists(st.integers(0, T), min_size=N, max_size=N))
    outs, saved = recurrent.forward(kind, True, lengths, args)
    lengths = lengths if data.draw(st.booleans()) else some_lengths(data.draw, T, N)
    given_ = others(data.draw, (*outs, *args, outs[0], saved), dtype)

    def flat(*given_):
        g, args, (ys, saved) = given_[: len(outs)], given_[len(outs) : -2], given_[-2:]
        return recurrent.backward(kind, g, lengths, args, ys, saved)

    def expected():
        with mock.patch.object(kernels, "lib", None):
            return flat(*given_)

    judge(flat, given_, expected, exact=False)


def missing():
    """A layer without one of its arrays, one after another."""
    for kind in recurrent.KINDS.values():
        args = arguments(kind, 3, 2, 4, 5)
        outs, saved = recurrent.forward(kind, True, None, args)
        whole = [*args, *outs, outs[0], saved]
        for i in range(len(whole)):
            given_ = tuple(None if k == i else a for k, a in enumerate(whole))
            args, g, (ys, kept) = given_[: len(args)], given_[len(args) : -2], given_[-2:]
            calls = (
                (recurrent.forward, kind, True, None, args),
                (recurrent.backward, kind, g, None, args, ys, kept),
            )
            for door, *call in calls:
                try:
                    door(*call)
                except (*REFUSED, AttributeError):
                    pass  # what a door does not need may be missing


FUZZED = (matmul, affine, addmm, products, row_sums, scatter_rows, unary, rule, forward, backward)

if __name__ == "__main__":
    (name,) = sys.argv[1:]
    calls = {door.__name__: settings(deadline=None, max_examples=400)(door) for door in FUZZED}
    with np.errstate(all="ignore"):
        (calls | {"missing": missing})[name]()
    print("done")
