"""The doors to C: each against its NumPy twin, against an exact chain, and against misuse."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from fractions import Fraction
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from minigrad import kernels, ops
from minigrad.errors import DtypeError, ShapeError, UsageError
from minigrad.testing.example import LAYOUTS, lay

FLOATS = [np.float32, np.float64]
FUNCTIONS = ["exp", "log", "tanh", "sigmoid", "softplus", "erf"]
native = pytest.mark.native
dtypes = st.sampled_from(FLOATS)
sizes = st.sampled_from([1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 65])


def twin(door, *args, **kwargs):
    """The NumPy twin of a door."""
    with mock.patch.object(kernels, "lib", None):
        return door(*args, **kwargs)


def gamma(n: int, dtype) -> float:
    """n u / (1 - n u): the relative error of n roundings (Higham, section 3.1)."""
    u = np.finfo(dtype).eps / 2
    return n * u / (1 - n * u)


def normal(rng, *shape, dtype=np.float64) -> np.ndarray:
    return rng.normal(size=shape).astype(dtype)


# Where longdouble is no wider than double, an oracle in it errs as much as what it judges.
SIDES = 1 if np.finfo(np.longdouble).eps < np.finfo(np.float64).eps else 2


def assert_within(got, expected, bound) -> None:
    error, bound = np.abs(np.asarray(got, np.longdouble) - expected), SIDES * bound
    assert (error <= bound).all(), f"{float((error / np.maximum(bound, 1e-300)).max()):.3g} bounds"


# --- the exact chain -----------------------------------------------------------------------------


def rounded(exact: Fraction, dtype):
    """The number of `dtype` nearest to an exact fraction, ties to even."""
    near = float(exact)  # CPython rounds a fraction correctly
    if dtype == np.float32 and Fraction(near) != exact and not np.float64(near).view(np.int64) & 1:
        # Round to odd first: rounding a second time, to 24 bits, is then right as well.
        near = float(np.nextafter(near, np.inf if exact > Fraction(near) else -np.inf))
    return dtype(near)


def test_the_oracle_rounds_once():
    half_ulp = Fraction(1, 2**24)
    assert rounded(1 + half_ulp, np.float32) == 1
    assert rounded(1 + half_ulp + Fraction(1, 2**90), np.float32) == np.float32(1 + 2**-23)
    assert rounded(1 + 3 * half_ulp - Fraction(1, 2**90), np.float32) == np.float32(1 + 2**-23)
    assert rounded(Fraction(1, 3), np.float64) == 1 / 3


def chain(pairs, start):
    """acc = start; for a, b in pairs: acc = fma(a, b, acc), each rounded once."""
    acc = start
    for a, b in pairs:
        acc = rounded(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(acc)), type(start))
    return acc


def chains(a: np.ndarray, b: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The matrix product a b, begun at start, as the bit contract defines it."""
    out = np.empty((a.shape[0], b.shape[1]), a.dtype)
    for i, j in np.ndindex(*out.shape):
        out[i, j] = chain(zip(a[i], b[:, j], strict=True), start[i, j])
    return out


products = [dtypes, *[st.integers(1, 6)] * 3, st.integers(0, 999)]


@native
@given(*products)
@example(np.float32, 2, 17, 5, 0)
@example(np.float64, 7, 9, 2, 0)
def test_products_are_the_exact_chain(dtype, m, k, n, seed):
    rng = np.random.default_rng(seed)
    a, b, start = (normal(rng, *s, dtype=dtype) for s in ((m, k), (k, n), (m, n)))
    zero, bias = np.zeros((m, n), dtype), np.broadcast_to(start[0], (m, n))
    assert np.array_equal(kernels.matmul(a, b), chains(a, b, zero))
    assert np.array_equal(kernels.affine(a, b.T, start), chains(a, b, start))
    assert np.array_equal(kernels.affine(a, b.T, start[0]), chains(a, b, bias))
    assert np.array_equal(kernels.products(a.T, b), chains(a, b, zero))
    x = normal(rng, 3, k, n, dtype=dtype)
    ones = np.ones((1, 3 * k), dtype)
    newest_first = x[::-1].reshape(-1, n)
    assert np.array_equal(
        kernels.row_sums(x[::-1]), chains(ones, newest_first, np.zeros((1, n), dtype))[0]
    )


@native
@given(*products, st.integers(1, 4))
def test_products_of_many_pairs_are_one_chain_in_the_order_given(dtype, m, k, n, seed, count):
    rng = np.random.default_rng(seed)
    pairs = [normal(rng, k, w, dtype=dtype) for _ in range(count) for w in (m, n)]
    expected = chains(
        np.concatenate(pairs[0::2]).T, np.concatenate(pairs[1::2]), np.zeros((m, n), dtype)
    )
    assert np.array_equal(kernels.products(*pairs), expected)
    stacked = np.stack(pairs[0::2]), np.stack(pairs[1::2])
    assert np.array_equal(kernels.products(*stacked), expected)
    backwards = (p[::-1] for p in (np.stack(pairs[0::2][::-1]), np.stack(pairs[1::2][::-1])))
    assert np.array_equal(kernels.products(*backwards), expected)
    split = [p for i in range(count) for p in (stacked[0][i : i + 1], stacked[1][i : i + 1])]
    assert np.array_equal(kernels.products(*split), expected)
    assert np.array_equal(
        kernels.row_sums(*pairs[1::2]), kernels.row_sums(np.concatenate(pairs[1::2]))
    )


@native
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_chain_longer_than_a_block_of_k_continues_where_it_stopped(isa, dtype):
    rng = np.random.default_rng(0)
    a, b, start = (normal(rng, *s, dtype=dtype) for s in ((2, 600), (600, 3), (2, 3)))
    assert np.array_equal(kernels.affine(a, b.T, start), chains(a, b, start))


# --- doors and twins -----------------------------------------------------------------------------


@native
@given(dtypes, sizes, sizes, sizes, st.integers(0, 999))
def test_products_agree_with_their_twins(dtype, m, k, n, seed):
    rng = np.random.default_rng(seed)
    a, b, start = (normal(rng, *s, dtype=dtype) for s in ((m, k), (k, n), (m, n)))
    magnitude = np.abs(a) @ np.abs(b)
    bound = 2 * gamma(k + 2, dtype)  # each side commits at most gamma
    assert_within(kernels.matmul(a, b), twin(kernels.matmul, a, b), bound * magnitude)
    both = magnitude + np.abs(start)
    assert_within(kernels.affine(a, b.T, start), twin(kernels.affine, a, b.T, start), bound * both)
    pairs = [a.T, b, a.T[::-1], b[::-1]]
    bound = 2 * gamma(2 * k + 2, dtype)
    assert_within(kernels.products(*pairs), twin(kernels.products, *pairs), 2 * bound * magnitude)
    rows = [b, 2 * b]
    assert_within(
        kernels.row_sums(*rows), twin(kernels.row_sums, *rows), bound * 3 * np.abs(b).sum(0)
    )


@native
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_functions_are_within_two_ulp_of_a_wider_twin(name, dtype):
    wider = np.float64 if dtype == np.float32 else np.longdouble
    if name == "erf" and dtype == np.float64:
        pytest.skip("its twin is never wider than double; the C tests have one that is")
    if np.finfo(wider).eps > np.finfo(dtype).eps / 256:
        pytest.skip("longdouble is no wider than double here")
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(scale=s, size=9999) for s in (1e-6, 0.1, 1, 30)]).astype(dtype)
    x = np.abs(x) if name == "log" else x
    x = np.minimum(x, 80) if name == "exp" else x  # no overflow
    expected = twin(getattr(kernels, name), x.astype(wider))
    ulp = np.spacing(np.abs(expected).astype(dtype)).astype(wider)
    assert_within(getattr(kernels, name)(x), expected, 2 * ulp)


@native
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_functions_agree_with_their_twins_at_the_ends(name, dtype):
    x = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1 if name == "log" else 1e4, -1e4], dtype)
    expected = twin(getattr(kernels, name), x)
    got = getattr(kernels, name)(x)
    assert got.dtype == expected.dtype == dtype
    if name == "softplus":  # log 2, which the two round differently
        assert_within(got[:2], np.log(np.longdouble(2)), np.spacing(dtype(1)))
        got, expected = got[2:], expected[2:]
    np.testing.assert_array_equal(got, expected)


def sigma(x):
    return 1 / (1 + np.exp(-x))


# --- complex steps -------------------------------------------------------------------------------

STEP = 1e-100  # its square vanishes, so the imaginary part is the derivative, exact to rounding


@pytest.mark.parametrize(
    "name, rule",
    [
        ("exp", lambda x, y: y),
        ("log", lambda x, y: 1 / x),
        ("tanh", lambda x, y: 1 - y * y),
        ("sigmoid", lambda x, y: y * (1 - y)),
        ("softplus", lambda x, y: sigma(x)),
    ],
)
def test_a_complex_step_through_a_function_gives_its_derivative(name, rule):
    function = getattr(kernels, name)
    x = np.array([0.01, 0.5, 3.0, 30.0])
    x = x if name == "log" else np.concatenate([-x, [0.0], x])
    stepped = function(x + 1j * STEP)
    assert stepped.dtype == complex
    value = function(x)
    eps = np.finfo(float).eps
    assert_within(stepped.real, value, 4 * eps * (1 + np.abs(value)))
    # 1 - y y loses the digits that y has in common with 1: the error is absolute there
    assert_within(stepped.imag / STEP, rule(x, value), 16 * eps * (1 + np.abs(value)))


def test_a_complex_step_through_the_products_gives_their_derivative():
    rng = np.random.default_rng(0)
    a, b, s, da, db, ds = (normal(rng, *shape) for shape in ((3, 5), (5, 4), (3, 4)) * 2)
    ca, cb, cs = a + 1j * STEP * da, b + 1j * STEP * db, s + 1j * STEP * ds
    expected = da @ b + a @ db
    bound = gamma(12, float) * (np.abs(da) @ np.abs(b) + np.abs(a) @ np.abs(db) + np.abs(ds))
    assert_within(kernels.matmul(ca, cb).imag / STEP, expected, bound)
    assert_within(kernels.affine(ca, cb.T, cs).imag / STEP, expected + ds, bound)
    assert_within(kernels.products(ca.T, cb).imag / STEP, expected, bound)
    assert_within(kernels.row_sums(cb).imag / STEP, db.sum(0), bound.max())
    out = kernels.scatter_rows(np.array([1, 1, 0, 1, 0]), cb, (2, 4))
    assert_within(out.imag / STEP, np.stack([db[2] + db[4], db[0] + db[1] + db[3]]), bound.max())


# --- layouts -------------------------------------------------------------------------------------


@st.composite
def views(draw, shape, dtype=np.float64):
    """An array of `shape` in some memory layout: transposed, strided, reversed, read-only."""
    axes = draw(st.permutations(range(len(shape))))
    steps = [draw(st.sampled_from([1, -1, 2, -3])) for _ in shape]
    stored = [shape[axis] * abs(step) for axis, step in zip(axes, steps, strict=True)]
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    view = normal(rng, *stored, dtype=dtype)[tuple(slice(None, None, s) for s in steps)]
    view = view.transpose(np.argsort(axes))
    if len(shape) > 1 and draw(st.booleans()):
        view = np.broadcast_to(view[:1], shape)
    view.flags.writeable = False
    return view


def call_on_copies(door, *args):
    return door(*(np.array(a, order="C", copy=True) for a in args))


@given(st.data(), dtypes, *[st.integers(0, 9)] * 4)
def test_layout_changes_no_bit_of_a_product(data, dtype, m, k, n, blocks):
    a, b = data.draw(views((m, k), dtype)), data.draw(views((k, n), dtype))
    start = data.draw(views((m, n), dtype))
    g, x = data.draw(views((blocks, k, m), dtype)), data.draw(views((blocks, k, n), dtype))
    for door, *args in (
        (kernels.matmul, a, b),
        (kernels.affine, a, b.T, start),
        (kernels.affine, a, b.T, start.sum(0)),
        (kernels.affine, g, start, data.draw(views((blocks, k, m), dtype))) if m == n else
        (kernels.matmul, x, b.T),
        (kernels.products, g, x),
        (kernels.products, g, x, a.T, b),
        (kernels.row_sums, x),
        (kernels.row_sums, x, b),
        (kernels.sum, x),
    ):  # fmt: skip
        got, expected = door(*args), call_on_copies(door, *args)
        assert got.shape == expected.shape and got.dtype == dtype
        if kernels.backend() == "c" or door is kernels.sum:
            assert np.array_equal(got, expected), door.__name__
        else:
            np.testing.assert_allclose(got, expected, atol=gamma(200, dtype) * 100)


def misaligned(a):
    held = np.ndarray(a.shape, a.dtype, bytearray(a.nbytes + 1), 1)
    held[...] = a
    return held


LIE = {
    **{layout: lambda a, layout=layout: lay(a, layout) for layout in LAYOUTS},
    "misaligned": misaligned,
    "rows reversed": lambda a: a[::-1].copy()[::-1],
    "columns reversed": lambda a: a[:, ::-1].copy()[:, ::-1],
    "within another": lambda a: np.pad(a, ((1, 1), (2, 3)))[1:-1, 2:-3],
}


def every_way(a, b):
    """The product of a and b by every path that leads to it, those of gradients included."""
    m, n = len(a), b.shape[1]
    yield kernels.matmul(a, b)
    yield kernels._gemm(a, b, None)
    yield kernels.matmul(b.T, a.T).T
    yield kernels.matmul(a[None], b)[0]
    yield kernels.matmul(a[None], b[None])[0]
    yield kernels.products(a.T, b)
    yield np.array([kernels.matmul(a[i : i + 1], b)[0] for i in range(m)]).reshape(m, n)
    yield np.array([kernels.matmul(a[i], b) for i in range(m)]).reshape(m, n)
    yield np.array([kernels.matmul(a, b[:, j]) for j in range(n)]).reshape(n, m).T


@native
@pytest.mark.parametrize("scale", [1.0, 2.0**-70, 0.0], ids=["normal", "tiny", "zero"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_small_product_is_the_exact_chain_however_its_arguments_lie(dtype, scale, isa):
    rng = np.random.default_rng(0)
    factor = dtype(scale) if dtype == np.float32 else dtype(scale) ** 7.6  # denormal products
    side = range(5) if scale == 1 else (1, 2)
    for m, k, n in itertools.product(side, side, side):
        given = [normal(rng, *s, dtype=dtype) * factor for s in ((m, k), (k, n))]
        right: dict = {}
        for first, second in itertools.product(LIE, LIE):
            a, b = LIE[first](given[0]), LIE[second](given[1])
            key = first == "zero stride", second == "zero stride"  # changes the numbers
            if key not in right:
                right[key] = chains(a, b, np.zeros((m, n), dtype)).tobytes()
            for way, got in enumerate(every_way(a, b)):
                assert got.tobytes() == right[key], (way, first, second, (m, k, n))


@native
@given(st.data(), dtypes, st.sampled_from(FUNCTIONS), npst.array_shapes(max_dims=3, max_side=20))
def test_layout_changes_no_bit_of_a_function(data, dtype, name, shape):
    x, function = data.draw(views(shape, dtype)), getattr(kernels, name)
    got = function(x)
    assert got.shape == shape and got.dtype == dtype and got.flags.writeable
    assert np.array_equal(got, call_on_copies(function, x), equal_nan=True)


@given(dtypes, st.integers(0, 3), st.integers(0, 3), st.integers(0, 3), st.integers(0, 2))
def test_matmul_has_the_shapes_of_numpy(dtype, m, k, n, stack):
    rng = np.random.default_rng(0)
    for left, right in (
        ((m, k), (k, n)), ((k,), (k, n)), ((m, k), (k,)), ((k,), (k,)),
        ((stack, m, k), (k, n)), ((m, k), (stack, k, n)), ((stack, 1, m, k), (3, k, n)),
        ((k,), (stack, k, n)), ((stack, m, k), (k,)),
    ):  # fmt: skip
        a, b = normal(rng, *left, dtype=dtype), normal(rng, *right, dtype=dtype)
        got, expected = kernels.matmul(a, b), np.matmul(a, b)
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, rtol=0, atol=gamma(30, dtype) * 10)


@native
@given(st.data(), dtypes, *[st.integers(0, 40)] * 3)
def test_small_products_and_large_ones_are_the_same(data, dtype, m, k, n):
    """Small ones run as NumPy loops, large ones through the door of all sizes."""
    a, b = data.draw(views((m, k), dtype)), data.draw(views((k, n), dtype))
    start = data.draw(views((m, n), dtype))
    for small, begin in (
        (kernels._small_matmul(a, b, casting="no"), None),
        (kernels._small_affine[0](a, b.T, start.sum(0), casting="no"), start.sum(0)),
        (kernels._small_affine[1](a, b.T, start, casting="no"), start),
    ):
        large = kernels._gemm(a, b, begin)
        assert small.dtype == dtype and small.flags.c_contiguous
        assert np.array_equal(small, large)


@native
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("m, k, n", [(3, 700, 300), (400, 9, 5), (1, 8192, 1), (70, 300, 260)])
def test_a_product_whose_working_memory_fills_the_stack_is_cut(isa, dtype, m, k, n):
    rng = np.random.default_rng(0)
    a, w, start = (normal(rng, *s, dtype=dtype) for s in ((m, k), (n, k), (m, n)))
    expected = kernels._gemm(a, w.T, start)
    assert np.array_equal(kernels._small_affine[1](a, w, start), expected)
    stack = np.stack([a, -a])
    both = kernels._small_matmul(stack, w.T)
    assert np.array_equal(both[0], kernels._gemm(a, w.T, None))
    assert np.array_equal(both[1], -both[0])


@native
def test_small_products_run_on_a_small_stack():
    """Of 64 KiB, in a thread; musl gives 128 by default."""
    found = []

    def work():
        for dtype in FLOATS:
            a, b = np.ones((70, 90), dtype), np.ones((90, 64), dtype)
            found.append(kernels.matmul(a, b).sum() + kernels.affine(a, b.T, b[0]).sum())

    before = threading.stack_size(64 * 1024)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert found == [70 * 64 * 90 + 70 * 64 * 91] * 2


@native
def test_a_small_product_leaves_no_warning_of_numpy():
    huge = np.full((2, 2), 1e38, np.float32)
    assert np.isinf(kernels.matmul(huge, huge)).all()  # warnings are errors here
    assert np.isnan(kernels.matmul(huge, np.full((2, 2), np.nan, np.float32))).all()


@native
@pytest.mark.parametrize("dtype", FLOATS)
def test_the_result_may_lie_where_an_argument_lies(isa, dtype):
    rng = np.random.default_rng(0)
    code, ffi, lib = kernels._CODE[np.dtype(dtype)], kernels.ffi, kernels.lib
    x = normal(rng, 101, dtype=dtype)
    expected = kernels.sigmoid(x)
    lib.mg_unary(code, 3, x.size, ffi.from_buffer(x), ffi.from_buffer(x))
    assert np.array_equal(x, expected)

    a, b, out = (normal(rng, *s, dtype=dtype) for s in ((13, 300), (300, 37), (13, 37)))
    expected = kernels.affine(a, b.T, out)
    work = bytearray(lib.mg_gemm_scratch(code, 13, 37, 1, 300))
    lib.mg_gemm(
        code, 13, 37, 1, 300, ffi.from_buffer(a), 300, 0, 1, ffi.from_buffer(b), 0, 37, 1,
        ffi.from_buffer(out), 37, 1, ffi.from_buffer(out), 37, ffi.from_buffer(work),
    )  # fmt: skip
    assert np.array_equal(out, expected)


GUARDED = """
import ctypes, mmap
import numpy as np
from minigrad import kernels

libc = ctypes.CDLL(None, use_errno=True)
PAGE = mmap.PAGESIZE
region = mmap.mmap(-1, 65 * PAGE)
base = ctypes.addressof(ctypes.c_char.from_buffer(region))
assert libc.mprotect(ctypes.c_void_p(base + 64 * PAGE), ctypes.c_size_t(PAGE), 0) == 0
room = np.frombuffer(region, np.uint8, 64 * PAGE)
rng = np.random.default_rng(0)

def at_the_end(shape, dtype):  # nothing may be read behind it
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    a = room[room.size - size:].view(dtype).reshape(shape)
    a[...] = 1
    return a

for isa in kernels.isas():
    kernels.set_isa(isa)
    for dtype in (np.float32, np.float64):
        for _ in range(60):
            m, k, n = (int(v) for v in rng.integers(1, 40, 3))
            for name in "exp log tanh sigmoid softplus erf".split():
                getattr(kernels, name)(at_the_end((n,), dtype))
            one = lambda *s: np.ones(s, dtype)
            a, b = at_the_end((m, k), dtype), one(k, n)
            assert (kernels.matmul(a, b) == k).all() and (kernels.matmul(a[::-1], b) == k).all()
            assert (kernels.matmul(a[:, ::-1], b) == k).all()
            assert (kernels.matmul(at_the_end((k, m), dtype).T, b) == k).all()
            a, b = one(m, k), at_the_end((k, n), dtype)
            assert (kernels.matmul(a, b) == k).all()
            assert (kernels.affine(a, at_the_end((n, k), dtype), one(n)) == k + 1).all()
            assert (kernels.affine(a, one(n, k), at_the_end((n,), dtype)) == k + 1).all()
            assert (kernels.affine(a, one(n, k), at_the_end((m, n), dtype)) == k + 1).all()
            g = at_the_end((3, k, m), dtype)
            assert (kernels.products(g[::-1], one(3, k, n)[::-1]) == 3 * k).all()
            assert (kernels.products(one(3, k, n)[::-1], g[::-1]) == 3 * k).all()
            assert (kernels.row_sums(g[::-1]) == 3 * k).all()
            rows = at_the_end((k, n), dtype)
            assert kernels.scatter_rows(np.zeros(k, np.int64), rows, (1, n))[0, 0] == k
print("done")
"""


def python(script: str, **environment: str) -> subprocess.CompletedProcess:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("MINIGRAD_")}
    return subprocess.run(
        [sys.executable, "-c", script],
        env=inherited | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@native
@pytest.mark.skipif(os.name != "posix", reason="page protection is asked of POSIX")
def test_no_door_reads_beyond_the_end_of_an_argument():
    done = python(GUARDED)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-2000:]


# --- zero sizes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("m, k, n", [(0, 3, 2), (2, 0, 3), (2, 3, 0), (0, 0, 0), (0, 3, 0)])
def test_empty_products(dtype, m, k, n):
    a, b, start = np.ones((m, k), dtype), np.ones((k, n), dtype), np.full((m, n), 5, dtype)
    for got, expected in (
        (kernels.matmul(a, b), np.full((m, n), k)),
        (kernels.affine(a, b.T, start), np.full((m, n), k + 5)),
        (kernels.affine(a, b.T, np.full(n, 5, dtype)), np.full((m, n), k + 5)),
        (kernels.products(a.T, b), np.full((m, n), k)),
        (kernels.row_sums(b), np.full(n, k)),
        (kernels.row_sums(np.ones((0, 4, n), dtype)), np.zeros(n)),
    ):
        assert got.dtype == dtype
        assert np.array_equal(got, expected)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_nothing_and_of_one_number_keep_the_shape(name):
    assert getattr(kernels, name)(np.ones((3, 0), np.float32)).shape == (3, 0)
    assert getattr(kernels, name)(np.float64(0.5)).shape == ()


# --- scatter_rows --------------------------------------------------------------------------------


@given(dtypes, st.data(), st.integers(1, 6), st.integers(0, 20), st.integers(0, 999))
def test_scatter_rows_adds_in_order(dtype, data, rows, width, seed):
    index = data.draw(
        npst.arrays(np.int64, st.integers(1, 30), elements=st.integers(-rows, rows - 1))
    )
    g = normal(np.random.default_rng(seed), len(index), width, dtype=dtype)
    expected = np.zeros((rows, width), dtype)
    for r, row in zip(index, g, strict=True):
        expected[r] += row
    assert np.array_equal(kernels.scatter_rows(index, g, (rows, width)), expected)
    assert np.array_equal(twin(kernels.scatter_rows, index, g, (rows, width)), expected)


def test_scatter_rows_takes_any_shape_of_index_and_any_integer():
    g = np.arange(24.0).reshape(2, 3, 4)
    index = np.array([[0, 1, 0], [2, 0, 1]])
    expected = np.stack([g[0, 0] + g[0, 2] + g[1, 1], g[0, 1] + g[1, 2], g[1, 0]])
    for kind in (np.int64, np.int32, np.uint8):
        assert np.array_equal(kernels.scatter_rows(index.astype(kind), g, (3, 4)), expected)
    assert np.array_equal(kernels.scatter_rows(index.T, g.swapaxes(0, 1), (3, 4)), expected)
    vector = kernels.scatter_rows(index, g[..., 0], (3,))
    assert np.array_equal(vector, expected[:, 0])


@pytest.mark.parametrize("shape", [(3, 4), (0, 4), (3, 0), (0, 0)])
def test_scatter_rows_of_nothing(shape):
    got = kernels.scatter_rows(np.zeros((0,), np.int64), np.zeros((0, *shape[1:])), shape)
    assert np.array_equal(got, np.zeros(shape))


@pytest.mark.parametrize("bad", [3, -4])
def test_scatter_rows_refuses_a_row_that_does_not_exist(bad):
    with pytest.raises(ShapeError) as caught:
        kernels.scatter_rows(np.array([0, bad]), np.ones((2, 4)), (3, 4))
    low, high = min(0, bad), max(0, bad)
    assert str(caught.value).split("\n  ")[:2] == [
        "scatter_rows: index",
        f"expected rows from -3 to 2, got {low} to {high}",
    ]


# --- errors --------------------------------------------------------------------------------------


def message(error, door, *args, **kwargs) -> list[str]:
    with pytest.raises(error) as caught:
        door(*args, **kwargs)
    lines = str(caught.value).split("\n  ")
    assert len(lines) == 3 and lines[2].startswith("remedy: ")
    return lines[:2]


def test_shapes_that_do_not_fit_are_named():
    one = np.ones
    assert message(ShapeError, kernels.matmul, one((2, 3)), one((4, 5))) == [
        "matmul: the inner sizes of its arguments",
        "expected (..., M, K) and (..., K, N), got (2, 3) and (4, 5)",
    ]
    message(ShapeError, kernels.matmul, one(()), one((4, 5)))
    assert message(ShapeError, kernels.affine, one((2, 3)), one((5, 4)), one(5)) == [
        "affine: x and weight",
        "expected (..., K) and (N, K), got (2, 3) and (5, 4)",
    ]
    assert message(ShapeError, kernels.affine, one((2, 3)), one((5, 3)), one(4)) == [
        "affine: start",
        "expected (5,) or (2, 5), got (4,)",
    ]
    assert message(
        ShapeError, kernels.products, one((2, 3)), one((2, 4)), one((2, 3)), one((1, 4))
    ) == [
        "products: pair 1",
        "expected as many rows in both, got (2, 3) and (1, 4)",
    ]


@native
def test_mixed_and_unsupported_dtypes_are_refused():
    f32, f64 = np.ones((2, 2), np.float32), np.ones((2, 2))
    expected = ["matmul: argument 1", "expected float32, got float64"]
    assert message(DtypeError, kernels.matmul, f32, f64) == expected
    assert message(DtypeError, kernels.affine, f32, f64, f32)[0] == "affine: argument 1"
    assert message(DtypeError, kernels.affine, f32, f32, f64[0])[0] == "affine: argument 2"
    assert message(DtypeError, kernels.exp, np.ones(2, np.float16)) == [
        "exp: argument 0",
        "expected float32 or float64, got float16",
    ]
    assert kernels.tanh(np.ones(2, np.int64)).tolist() == kernels.tanh(np.ones(2)).tolist()
    assert message(DtypeError, kernels.addmm, f64, f32, f32)[0] == "addmm: argument 1"
    for wrong in (np.float16, object):
        message(DtypeError, kernels.matmul, np.ones((2, 2), wrong), np.ones((2, 2), int))


@native
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4)], ids=["rows", "blocks of rows"])
def test_products_and_row_sums_refuse_mixed_dtypes_in_any_pair(shape):
    f32, f64 = np.ones(shape, np.float32), np.ones(shape)
    for pairs in ((f32, f64), (f32, f32, f64, f64), (f64, f64, f32, f32)):
        message(DtypeError, kernels.products, *pairs)
    for arrays in ((f32, f64), (f64, f32)):
        message(DtypeError, kernels.row_sums, *arrays)


def test_the_settings_refuse_what_they_cannot_honour():
    isa, threads = kernels.isa(), kernels.threads()
    for bad in ("avx1024", "", "AVX2", "generic "):
        what, got = message(UsageError, kernels.set_isa, bad)
        assert what == f"set_isa: {bad!r}"
        assert (
            got
            == f"expected one of: {', '.join(kernels.isas()) or 'none, the NumPy path is in use'}"
        )
    for bad in (0, -1, 1025, 2.0, "2", None):
        assert message(UsageError, kernels.set_threads, bad) == [
            "set_num_threads: the number of threads",
            f"expected an integer from 1 to 1024, got {bad!r}",
        ]
    assert (kernels.isa(), kernels.threads()) == (isa, threads)


@native
def test_the_settings_say_what_is_in_use(isa, threads):
    assert kernels.isa() == isa and kernels.threads() == threads
    config = kernels.config()
    assert config["backend"] == "c" and config["threads"] == str(threads)
    assert config["isa"] == f"{isa} of {' '.join(kernels.isas())}"
    assert config["numpy"] == np.__version__
    assert kernels.isas()[-1] == "generic"


# --- environment ---------------------------------------------------------------------------------

SHOW = "from minigrad import kernels as k; print(k.backend(), k.isa(), k.threads())"


@native
def test_the_environment_chooses(monkeypatch):
    for isa in kernels.isas():
        done = python(SHOW, MINIGRAD_KERNELS="c", MINIGRAD_ISA=isa, MINIGRAD_NUM_THREADS="3")
        assert done.stdout == f"c {isa} 3\n", done.stderr
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    empty = python(SHOW, MINIGRAD_KERNELS="", MINIGRAD_ISA="", MINIGRAD_NUM_THREADS="")
    assert empty.stdout == f"c {kernels.isas()[0]} {cores}\n", empty.stderr


def test_the_environment_can_ask_for_numpy():
    done = python(SHOW, MINIGRAD_KERNELS="numpy", MINIGRAD_NUM_THREADS="3")
    assert done.stdout == "numpy numpy 1\n", done.stderr


@pytest.mark.parametrize(
    "name, value, expected",
    [
        ("MINIGRAD_KERNELS", "fortran", "expected c or numpy, got 'fortran'"),
        pytest.param("MINIGRAD_ISA", "sse9", "set_isa: 'sse9'", marks=native),
        pytest.param("MINIGRAD_NUM_THREADS", "0", "from 1 to 1024, got 0", marks=native),
        pytest.param("MINIGRAD_NUM_THREADS", "-2", "from 1 to 1024, got '-2'", marks=native),
        pytest.param("MINIGRAD_NUM_THREADS", "two", "from 1 to 1024, got 'two'", marks=native),
        pytest.param(
            "MINIGRAD_NUM_THREADS", "\u00b2", "from 1 to 1024, got '\u00b2'", marks=native
        ),
    ],
)
def test_the_environment_fails_loudly(name, value, expected):
    done = python(SHOW, PYTHONIOENCODING="utf-8", PYTHONUTF8="1", **{name: value})
    assert done.returncode == 1
    assert done.stderr.splitlines()[-3].startswith("minigrad.errors.UsageError: ")
    assert expected in done.stderr


# --- threads and processes -----------------------------------------------------------------------


FORK = """
import os, signal
import numpy as np
from minigrad import kernels
kernels.set_threads(2)
rng = np.random.default_rng(0)
a, b = rng.normal(size=(301, 97)), rng.normal(size=(97, 303))
expected = kernels.matmul(a, b)  # the pool has its thread now, which the child will not have
child = os.fork()
right = np.array_equal(kernels.matmul(a, b), expected)
if child == 0:
    signal.alarm(30)  # a child that waits for a thread it has not got
    os._exit(0 if right and kernels.threads() == 2 else 1)
_, status = os.waitpid(child, 0)
print(right, os.waitstatus_to_exitcode(status))
"""


@native
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_computes_too():
    done = python(FORK)
    assert done.stdout == "True 0\n", (done.stdout, done.stderr)


# --- the memory of large results -----------------------------------------------------------------


def address(a: np.ndarray) -> int:
    return a.__array_interface__["data"][0]


@pytest.mark.native
def test_the_memory_of_a_large_result_is_given_to_the_next_when_its_last_view_has_gone():
    x = np.linspace(-1, 1, kernels.LARGE // 8)
    first = kernels.tanh(x)
    expected, place = first.copy(), address(first)
    assert place % 64 == 0
    view = first[5:].reshape(-1, 1).T[0]
    del first
    others = [kernels.exp(x) for _ in range(3)]  # none may lie where the view still looks
    assert np.array_equal(view, expected[5:])
    assert place not in map(address, others)
    del view
    assert address(kernels.exp(x)) == place
    small = kernels.tanh(x[:100])
    assert small.base is None  # an ordinary array


@pytest.mark.native
def test_no_more_memory_is_kept_than_stated(monkeypatch):
    monkeypatch.setattr(kernels, "_idle", {})
    monkeypatch.setattr(kernels, "IDLE_MOST", 3 * kernels.LARGE)
    results = [kernels.exp(np.zeros(kernels.LARGE // 8 + i)) for i in range(6)]
    assert not kernels._idle
    del results
    assert len(kernels._idle) == 2
    assert sum(map(len, kernels._idle.values())) <= kernels.IDLE_MOST


@pytest.mark.native
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=40))
def test_living_results_never_share_memory(steps):
    """Results come and go in any order; each keeps the bits it was born with."""
    alive: dict[int, tuple[np.ndarray, float]] = {}
    for number, (slot, extra) in enumerate(steps):
        alive.pop(slot, None)
        result = kernels.softplus(np.full(kernels.LARGE // 8 + extra, float(number)))
        alive[slot] = result[1:], float(result[0])
        for view, value in alive.values():
            assert (view == value).all()


# --- elementwise doors: NumPy's loops around our kernels ------------------------------------------

RULES = {"tanh": kernels.tanh_rule, "sigmoid": kernels.sigmoid_rule}
LAYOUTS = {
    "C": lambda a: a,
    "F": np.asfortranarray,
    "transposed": lambda a: np.ascontiguousarray(a.T).T,
    "every other": lambda a: np.repeat(a, 2, axis=1)[:, ::2],
    "backwards": lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    "a part": lambda a: np.pad(a, 1)[1:-1, 1:-1],
    "read-only": lambda a: np.broadcast_to(a, a.shape),
}


@native  # the twins promise no bits
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_layout_changes_no_bit_of_an_elementwise_function(name, dtype, layout):
    rng = np.random.default_rng(0)
    for shape in [(1, 1), (3, 70), (37, 5), (2, 300)]:
        x = rng.normal(scale=3, size=shape).astype(dtype)
        x = np.abs(x) if name == "log" else x
        expected = np.stack([getattr(kernels, name)(row) for row in x])
        got = getattr(kernels, name)(LAYOUTS[layout](x))
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_elementwise_functions_take_what_numpy_takes(name):
    function = getattr(kernels, name)
    one = function(np.float64(0.5))
    assert function(0.5) == one == function(np.array(0.5)) == function([0.5])[0]
    assert function(np.array(1)) == function(1.0)
    assert function(np.zeros((0, 3), np.float32)).shape == (0, 3)


@native
@pytest.mark.parametrize("name", FUNCTIONS)
def test_elementwise_functions_never_warn(name):
    x = np.array([-np.inf, -1e300, -1.0, -0.0, 0.0, 5e-324, 1e300, np.inf, np.nan])
    small = x.clip(-1e38, 1e38).astype(np.float32)
    with np.errstate(all="raise"):
        getattr(kernels, name)(x)
        getattr(kernels, name)(small)


@native
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_rule_in_one_pass_has_the_bits_of_its_text(name, dtype, isa):
    (text,) = getattr(ops, name).vjps
    rng = np.random.default_rng(1)
    for n in [*range(40), 100, 1000]:
        g, y = rng.normal(size=(2, n)).astype(dtype)
        np.testing.assert_array_equal(RULES[name](g, y), text(g, y, None))
        np.testing.assert_array_equal(RULES[name](g[::-2], y[::-2]), text(g, y, None)[::-2])
    rows = rng.normal(size=(5, 1)).astype(dtype)
    np.testing.assert_array_equal(RULES[name](rows, y), text(rows, y, None))
    z = y[:3] * (1 + 1j)
    np.testing.assert_array_equal(RULES[name](z, z), text(z, z, None))


@native
def test_a_large_elementwise_result_uses_kept_memory():
    x = np.zeros(kernels.LARGE, np.float32)
    first = kernels.tanh(x)
    address = first.ctypes.data
    del first
    assert kernels.exp(x).ctypes.data == address
