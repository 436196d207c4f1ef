"""The doors to recurrent layers, for every cell that the kernels know, and their NumPy twins."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest
from fused_cells import arguments
from hypothesis import given
from hypothesis import strategies as st
from test_kernels import FLOATS, STEP, assert_within, dtypes, gamma, message, normal, python, twin

from minigrad import kernels, recurrent
from minigrad.errors import DtypeError, ShapeError
from minigrad.recurrent import KINDS, Kind

native = pytest.mark.native
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))
kinds = st.sampled_from(list(KINDS.values()))
sizes = st.sampled_from([1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33])
layers = [kinds, dtypes, st.integers(1, 5), st.integers(1, 5), sizes, sizes, st.integers(0, 999)]


def forward(kind: Kind, args: tuple, lengths=None, save=True):
    """ys, h, c or None, saved."""
    outs, saved = recurrent.forward(kind, save, lengths, args)
    return (*outs, None)[:3], saved


def cotangents(kind: Kind, T, N, H, dtype=np.float64, seed=7) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    shapes = [(T, N, H), *[(N, H)] * kind.states]
    return tuple(normal(rng, *shape, dtype=dtype) for shape in shapes)


def wide(arrays) -> list:
    return [None if a is None else np.asarray(a, np.longdouble) for a in arrays]


def named(kind: Kind, args: tuple) -> dict[str, np.ndarray]:
    return dict(zip(kind.labels, args, strict=True))


def same(left, right) -> None:
    for x, y in zip(left, right, strict=True):
        assert (x is None) == (y is None)
        assert x is None or (x.dtype == y.dtype and np.array_equal(x, y, equal_nan=True))


# --- values --------------------------------------------------------------------------------------

# Each step is judged from the state that the door itself had, so that no earlier error enters.


def sigma(x):
    return 1 / (1 + np.exp(-x))


def step_errors(kind: Kind, x, h, c, args: tuple, saved: list, y, dtype):
    """`(what, got, exact, bound)` of all that one step makes; x, h, c, args, saved, y are wide."""
    weights = kind.weights(args)
    w, u, v, b_x, b_h, b_v, p = weights
    (I, H), ulps = (w.shape[1], h.shape[1]), gamma(4, dtype)  # noqa: E741 (2 ulp: 4 roundings)

    def chain(a, m, start):
        return a @ m.T + start, np.abs(a) @ np.abs(m).T + np.abs(start)

    a, a_size = chain(x, w, b_x)
    if kind.joined:
        z, more = a + h @ u.T, np.abs(h) @ np.abs(u).T
        k, size = gamma(I + H + 3, dtype), a_size + more
        zs, sizes = np.split(z, 4, axis=1), np.split(size, 4, axis=1)
        i, f, g, o, new = saved
        if p:
            for gate, peephole, cell in zip((0, 1, 3), p, (c, c, new), strict=True):
                zs[gate] = zs[gate] + cell * peephole
                sizes[gate] = sizes[gate] + np.abs(cell * peephole)
        candidate = np.tanh if "sigmoid" not in kind.name else sigma
        for n, (what, got) in enumerate(zip("ifgo", (i, f, g, o), strict=True)):
            exact = (candidate if what == "g" else sigma)(zs[n])  # not steeper than 1
            yield what, got, exact, k * sizes[n] + ulps
        yield "c", new, f * c + i * g, gamma(3, dtype) * (np.abs(f * c) + np.abs(i * g))
        yield "y", y, o * np.tanh(new), gamma(6, dtype)
        return
    e, e_size = chain(h, u, b_h)
    if kind.gates == 1:
        function = np.tanh if kind.name == "rnn" else (lambda s: np.maximum(s, 0))
        yield "y", y, function(a + e), gamma(I + H + 3, dtype) * (a_size + e_size) + ulps
        return
    (ar, az, an), (ar_size, az_size, an_size) = (np.split(s, 3, axis=1) for s in (a, a_size))
    er, ez, *en = np.split(e, kind.recurrent, axis=1)
    er_size, ez_size, *en_size = np.split(e_size, kind.recurrent, axis=1)
    r, z, n = saved[:3]
    k = gamma(I + H + 4, dtype)
    yield "r", r, sigma(ar + er), k * (ar_size + er_size) + ulps
    yield "z", z, sigma(az + ez), k * (az_size + ez_size) + ulps
    if kind.second:
        sums, sums_size = chain(r * h, v, b_v)
    else:
        yield "e_n", saved[3], en[0], k * en_size[0]
        sums, sums_size = r * saved[3], np.abs(r * saved[3])
    yield "n", n, np.tanh(an + sums), k * (an_size + sums_size) + ulps
    yield "y", y, (1 - z) * n + z * h, gamma(3, dtype) * (np.abs((1 - z) * n) + np.abs(z * h))


@given(*layers, st.booleans())
def test_each_step_is_within_its_rounding_bound(kind, dtype, T, N, I, H, seed, ragged):  # noqa: E741
    args = arguments(kind, T, N, I, H, dtype, seed)
    lengths = np.random.default_rng(seed).integers(0, T + 1, N) if ragged else None
    first = [*args[1 : 1 + kind.states], None][:2]
    for door in (forward, lambda *a: twin(forward, *a)):
        (ys, h, c), saved = door(kind, args, lengths)
        assert ys.dtype == h.dtype == dtype and (saved is None) == (kind.saved == 0)
        state = list(first)
        for t in range(T):
            on = np.ones(N, bool) if lengths is None else t < lengths
            assert (ys[t][~on] == 0).all()
            kept = [] if saved is None else list(np.moveaxis(saved[t], 1, 0))
            assert all((s[~on] == 0).all() for s in kept)
            x, before, cell, y = wide((args[0][t], *state, ys[t]))
            found = step_errors(kind, x, before, cell, wide(args), wide(kept), y, dtype)
            for what, got, exact, bound in found:
                bound = np.broadcast_to(bound, got.shape)
                try:
                    assert_within(got[on], exact[on], bound[on])
                except AssertionError as error:
                    raise AssertionError(f"{kind.name}: {what} of step {t}") from error
            state[0] = np.where(on[:, None], ys[t], state[0])
            if c is not None:
                state[1] = np.where(on[:, None], kept[-1], state[1])
        same((h, c), state)


def backward_by_hand(kind, g, lengths, args, ys, saved, magnitude=False):
    """Back-propagation through time in the dtype of its arguments; or, with `magnitude`, the sum
    of the absolute values of all terms, to which the rounding error is proportional."""
    size, minus = (np.abs, np.add) if magnitude else (np.asarray, np.subtract)
    dys, dh, dc = (None if a is None else size(a) for a in (*g, None)[:3])
    weights = kind.weights(args)
    u, v = size(weights.u), None if weights.v is None else size(weights.v)
    p = [size(a) for a in weights.p] or [0, 0, 0]
    first_h, first_c = size(args[1]), size(args[2]) if kind.joined else None
    T, N, H = ys.shape
    dzs, dzs_h = (np.zeros((T, N, g * H), u.dtype) for g in (kind.gates, kind.recurrent))
    for t in range(T - 1, -1, -1):
        on = (t < lengths)[:, None]
        h, y = (size(ys[t - 1]) if t else first_h), size(ys[t])
        kept = [] if saved is None else [size(a) for a in np.moveaxis(saved[t], 1, 0)]
        dht = dh + dys[t]
        new_dc = None
        if kind.joined:
            i, f, c_g, o, c = kept
            before = size(saved[t - 1][:, -1]) if t else first_c
            tc = np.tanh(c)
            dzo = dht * tc * o * minus(1, o)
            dct = dc + dht * o * minus(1, tc**2) + dzo * p[2]
            slope = c_g * minus(1, c_g) if "sigmoid" in kind.name else minus(1, c_g**2)
            dzi, dzf = dct * c_g * i * minus(1, i), dct * before * f * minus(1, f)
            by_x = by_h = [dzi, dzf, dct * i * slope, dzo]
            rest, new_dc = 0, dct * f + dzf * p[1] + dzi * p[0]
        elif kind.gates == 1:
            by_x = by_h = [dht * minus(1, y**2) if kind.name == "rnn" else np.where(y > 0, dht, 0)]
            rest = 0
        else:
            r, z, n = kept[:3]
            dzz, dzn = minus(dht * h, dht * n) * z * minus(1, z), dht * minus(1, z) * minus(1, n**2)
            rest = dht * z
            if kind.second:
                d = dzn @ v
                dzr, rest = d * h * r * minus(1, r), rest + d * r
                by_h = [dzr, dzz]
            else:
                dzr = dzn * kept[3] * r * minus(1, r)
                by_h = [dzr, dzz, dzn * r]
            by_x = [dzr, dzz, dzn]
        dzs[t], dzs_h[t] = (np.where(on, np.concatenate(d, axis=1), 0) for d in (by_x, by_h))
        dh = np.where(on, rest + dzs_h[t] @ u, dh)
        dc = None if dc is None else np.where(on, new_dc, dc)
    return dzs, dzs_h, dh, dc


@given(*layers, st.booleans())
def test_backwards_is_within_its_rounding_bound(kind, dtype, T, N, I, H, seed, ragged):  # noqa: E741
    args = arguments(kind, T, N, I, H, dtype, seed)
    lengths = np.random.default_rng(seed).integers(0, T + 1, N) if ragged else np.full(N, T)
    (ys, _, _), saved = forward(kind, args, lengths)
    g = cotangents(kind, T, N, H, dtype)
    in_wide = kind, wide(g), lengths, wide(args), *wide((ys, saved))
    exact, magnitude = backward_by_hand(*in_wide), backward_by_hand(*in_wide, magnitude=True)
    # A path through time rounds once for each product and at most 24 times in the cell, each step.
    bound = gamma(T * ((kind.recurrent + kind.second) * H + 24), dtype)
    for door in (recurrent.backward, lambda *a: twin(recurrent.backward, *a)):
        got = door(kind, g, lengths if ragged else None, args, ys, saved)
        for x, y, size in zip(got, exact, magnitude, strict=True):
            assert (x is None) == (y is None)
            if x is not None:
                assert x.dtype == dtype
                assert_within(x, y, bound * size)


@every_kind
@pytest.mark.parametrize("dtype", FLOATS)
def test_inference_keeps_nothing_and_has_the_same_bits(kind, dtype):
    args = arguments(kind, 4, 3, 5, 7, dtype)
    for lengths in (None, [0, 4, 2]):
        outs, saved = forward(kind, args, lengths, save=False)
        assert saved is None
        same(outs, forward(kind, args, lengths)[0])
        outs, saved = twin(forward, kind, args, lengths, save=False)
        assert saved is None
        same(outs, twin(forward, kind, args, lengths)[0])


@given(kinds, *[st.integers(1, 4)] * 4, st.integers(0, 99))
def test_a_complex_step_gives_the_gradient(kind, T, N, I, H, seed):  # noqa: E741
    args = arguments(kind, T, N, I, H, seed=seed)
    directions = arguments(kind, T, N, I, H, seed=seed + 1000)
    lengths = np.random.default_rng(seed).integers(0, T + 1, N)
    stepped = recurrent.forward(
        kind, False, lengths,
        tuple(a + 1j * STEP * d for a, d in zip(args, directions, strict=True)),
    )[0]  # fmt: skip
    g = cotangents(kind, T, N, H)
    along = sum((gk * out.imag / STEP).sum() for gk, out in zip(g, stepped, strict=True))
    (ys, _, _), saved = forward(kind, args, lengths)

    def inner(dz, dz_h, dh0, dc0, size=np.asarray):
        """<gradient, direction>; `size` abs gives the sum of the terms' absolute values."""
        values = tuple(size(a) for a in args)
        d, w, dw = (
            named(kind, directions),
            kind.weights(values),
            kind.weights(tuple(size(a) for a in directions)),
        )
        xs, h = values[0], size(np.concatenate([args[1][None], ys[:-1]]))
        total = (dz * (xs @ dw.w.T + size(d["xs"]) @ w.w.T + dw.b_x)).sum()
        total += (dz_h * (h @ dw.u.T + (0 if kind.joined else dw.b_h))).sum()
        total += (dh0 * size(d["h0"])).sum()
        if kind.second:
            total += (dz[..., 2 * H :] * ((saved[:, :, 0] * h) @ dw.v.T + dw.b_v)).sum()
        if kind.joined:
            total += (dc0 * size(d["c0"])).sum()
            after = size(saved[:, :, -1])
            before = np.concatenate([values[2][None], after[:-1]])
            for dp, gate, c in zip(dw.p, (0, 1, 3), (before, before, after), strict=False):
                total += (dz[..., gate * H : (gate + 1) * H] * c * dp).sum()
        return total

    total = inner(*recurrent.backward(kind, g, lengths, args, ys, saved))
    magnitude = backward_by_hand(kind, g, lengths, args, ys, saved, magnitude=True)
    size = inner(*magnitude, size=np.abs)
    # One path's roundings there and back, plus those of the sums over all elements.
    n = 2 * T * (4 * H + I + 40) + T * N * (4 * H + I)
    assert_within(total, along, gamma(n, float) * size)


@every_kind
def test_the_twin_backwards_takes_complex_cotangents(kind):
    args = arguments(kind, 3, 2, 3, 4)
    (ys, _, _), saved = forward(kind, args)
    g, d = cotangents(kind, 3, 2, 4), cotangents(kind, 3, 2, 4, seed=8)
    stepped = tuple(a + 1j * b for a, b in zip(g, d, strict=True))  # linear, so both at once
    found = recurrent.backward(kind, stepped, None, args, ys, saved)
    for part, given_ in (("real", g), ("imag", d)):
        expected = twin(recurrent.backward, kind, given_, None, args, ys, saved)
        for x, y in zip(found, expected, strict=True):
            if y is not None:
                np.testing.assert_allclose(getattr(x, part), y, rtol=1e-12, atol=1e-12)


# --- layouts -------------------------------------------------------------------------------------


def misaligned(a):
    held = np.ndarray(a.shape, a.dtype, bytearray(a.nbytes + 1), 1)
    held[...] = a
    return held


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


LIE = {
    "Fortran": np.asfortranarray,
    "every other": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "backwards": lambda a: np.flip(np.flip(a).copy()),
    "rows reversed": lambda a: a[::-1].copy()[::-1],
    "within another": lambda a: np.pad(a, 1)[tuple(slice(1, -1) for _ in a.shape)],
    "misaligned": misaligned,
    "read-only": read_only,
}


@native
@every_kind
@pytest.mark.parametrize("layout", LIE)
def test_layout_changes_no_bit(kind, layout):
    for dtype in FLOATS:
        args = arguments(kind, 4, 3, 5, 7, dtype)
        outs, saved = forward(kind, args)
        g = cotangents(kind, 4, 3, 7, dtype)
        back = recurrent.backward(kind, g, None, args, outs[0], saved)
        lie = LIE[layout]
        for chosen in (*range(len(args)), None):
            moved = tuple(lie(a) if chosen in (i, None) else a for i, a in enumerate(args))
            again, kept = forward(kind, moved)
            same((*outs, saved), (*again, kept))
            same(back, recurrent.backward(kind, g, None, moved, outs[0], saved))
        kept = None if saved is None else lie(saved)
        moved = kind, tuple(map(lie, g)), None, args, lie(outs[0]), kept
        same(back, recurrent.backward(*moved))


@native
@every_kind
def test_broadcast_arguments_give_the_bits_of_copies(kind):
    args = tuple(np.broadcast_to(a[:1], a.shape) for a in arguments(kind, 4, 3, 5, 7))
    copies = tuple(map(np.array, args))
    found, expected = forward(kind, args), forward(kind, copies)
    same((*found[0], found[1]), (*expected[0], expected[1]))
    g = cotangents(kind, 4, 3, 7)
    g = tuple(np.broadcast_to(a[:1], a.shape) for a in g)
    back = recurrent.backward(kind, g, None, args, found[0][0], found[1])
    g = tuple(map(np.array, g))
    same(back, recurrent.backward(kind, g, None, copies, found[0][0], found[1]))


@every_kind
def test_no_argument_is_written(kind):
    args = tuple(map(read_only, arguments(kind, 4, 3, 5, 7)))
    g, lengths = tuple(map(read_only, cotangents(kind, 4, 3, 7))), read_only(np.array([4, 0, 2]))
    before = [a.tobytes() for a in (*args, *g, lengths)]
    for use in (lambda door, *a: door(*a), twin):
        (ys, h, c), saved = use(forward, kind, args, lengths)
        ys, saved = read_only(ys), None if saved is None else read_only(saved)
        kept = [a.tobytes() for a in (ys, saved) if a is not None]
        found = use(recurrent.backward, kind, g, lengths, args, ys, saved)
        assert kept == [a.tobytes() for a in (ys, saved) if a is not None]
        assert before == [a.tobytes() for a in (*args, *g, lengths)]
        inputs = (*args, *g, ys) + (() if saved is None else (saved,))
        for out in (h, c, *found):  # a result is the caller's own
            if out is not None:
                assert not any(np.shares_memory(out, a) for a in inputs)


GUARDED = """
import ctypes, mmap
import numpy as np
from fused_cells import arguments
from minigrad import kernels, recurrent

libc = ctypes.CDLL(None, use_errno=True)
PAGE = mmap.PAGESIZE
region = mmap.mmap(-1, 65 * PAGE)
base = ctypes.addressof(ctypes.c_char.from_buffer(region))
assert libc.mprotect(ctypes.c_void_p(base + 64 * PAGE), ctypes.c_size_t(PAGE), 0) == 0
room = np.frombuffer(region, np.uint8, 64 * PAGE)
rng = np.random.default_rng(0)

def at_the_end(given):  # nothing may be read behind it
    a = room[room.size - given.nbytes:].view(given.dtype).reshape(given.shape)
    a[...] = given
    return a

def each_at_the_end(arrays):
    for i, a in enumerate(arrays):
        if a is not None:
            yield [*arrays[:i], at_the_end(a), *arrays[i + 1:]]

for isa in kernels.isas():
    kernels.set_isa(isa)
    for kind in recurrent.KINDS.values():
        for dtype in (np.float32, np.float64):
            for _ in range(8):
                N, I, H = (int(v) for v in rng.integers(1, (6, 40, 40)))
                args = list(arguments(kind, 3, N, I, H, dtype))
                lengths = [3] + [1] * (N - 1) if N % 2 else None
                outs, saved = recurrent.forward(kind, True, lengths, tuple(args))
                for moved in each_at_the_end(args):
                    recurrent.forward(kind, True, lengths, tuple(moved))
                    recurrent.backward(kind, outs, lengths, tuple(moved), outs[0], saved)
                for *g, ys, kept in each_at_the_end([*outs, outs[0], saved]):
                    recurrent.backward(kind, tuple(g), lengths, tuple(args), ys, kept)
print("done")
"""


@native
def test_no_door_reads_beyond_the_end_of_an_argument():
    done = python(GUARDED)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-2000:]


# --- zero sizes ----------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize(
    "T, N, I, H", [(0, 2, 3, 4), (2, 0, 3, 4), (2, 3, 0, 4), (2, 3, 4, 0), (0, 0, 0, 0)]
)
def test_nothing_is_a_size(kind, T, N, I, H):  # noqa: E741
    args, g = arguments(kind, T, N, I, H), cotangents(kind, T, N, H)
    for use in (lambda door, *a: door(*a), twin):
        (ys, h, c), saved = use(forward, kind, args)
        assert (ys.shape, h.shape) == ((T, N, H), (N, H))
        assert saved is None if not kind.saved else saved.shape == (T, N, kind.saved, H)
        dz, dz_h, dh0, dc0 = use(recurrent.backward, kind, g, None, args, ys, saved)
        assert (dz.shape, dz_h.shape) == ((T, N, kind.gates * H), (T, N, kind.recurrent * H))
        assert dh0.shape == (N, H)
        if kind.joined:
            assert c.shape == dc0.shape == (N, H)
        if T == 0:
            same((h, c), (args[1], args[2] if kind.joined else None))
            same((dh0, dc0), (*g, None)[1:3])


# --- errors --------------------------------------------------------------------------------------


@every_kind
def test_an_argument_whose_shape_does_not_fit_is_named(kind):
    args = arguments(kind, 4, 3, 2, 5)
    for i, name in enumerate(kind.labels):
        longer = np.concatenate([args[i], args[i][:1]])
        for wrong in (args[i][..., :-1], *[longer] * (i > 0)):  # a step more is no misfit
            moved = (*args[:i], wrong, *args[i + 1 :])
            what, got = message(ShapeError, recurrent.forward, kind, True, None, moved)
            assert what.startswith(f"{kind.name}: ") and got.startswith("expected (")
            if i > 1:  # xs and h0 set the sizes, so the others are measured against them
                assert what == f"{kind.name}: {name}"
                assert f"beside xs {args[0].shape}, got {wrong.shape}" in got
            call = recurrent.forward, kind, True, None, moved
            assert message(ShapeError, twin, *call) == [what, got]
        for wrong in (args[i][0], args[i][None]):
            moved = (*args[:i], wrong, *args[i + 1 :])
            what, got = message(ShapeError, recurrent.forward, kind, True, None, moved)
            whose = "xs and the initial state" if i < 2 else name
            assert what == f"{kind.name}: {whose}" and str(wrong.shape) in got


@every_kind
def test_what_does_not_fit_backwards_is_named(kind):
    args, g = arguments(kind, 4, 3, 2, 5), cotangents(kind, 4, 3, 5)
    (ys, _, _), saved = forward(kind, args)
    labels = ["dys", "dh", "dc"][: len(g)]
    for i, name in enumerate(labels):
        wrong = (*g[:i], g[i][..., :-1], *g[i + 1 :])
        what, got = message(ShapeError, recurrent.backward, kind, wrong, None, args, ys, saved)
        assert what == f"{kind.name} backward: {name}" and f"beside ys {ys.shape}" in got
    not_read = "xs", "weight_ih", "bias_ih", "bias_hh", "bias_hh of n"
    for name in [name for name in kind.labels if name not in not_read]:
        i = kind.labels.index(name)
        for cut in (args[i][..., :-1], args[i][0]):
            wrong = (*args[:i], cut, *args[i + 1 :])
            what, got = message(ShapeError, recurrent.backward, kind, g, None, wrong, ys, saved)
            assert what == f"{kind.name} backward: {name}", got
    if kind.saved:
        for cut in (saved[:-1], saved[:, :, :-1]):
            what, _ = message(ShapeError, recurrent.backward, kind, g, None, args, ys, cut)
            assert what == f"{kind.name} backward: saved"


@native
@every_kind
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64, bool, object])
def test_another_dtype_is_refused_by_name(kind, dtype):
    args, g = arguments(kind, 2, 2, 2, 2), cotangents(kind, 2, 2, 2)
    (ys, _, _), saved = forward(kind, args)
    for i in range(len(args)):
        mixed = (*args[:i], args[i].astype(dtype), *args[i + 1 :])
        # a first argument that C could take is what the others are measured against
        off = i or (1 if dtype == np.float32 else 0)
        what, got = message(DtypeError, recurrent.forward, kind, True, None, mixed)
        assert what == f"{kind.name}: argument {off}"
        assert got.endswith(f"got {mixed[off].dtype}")
    for i in range(len(g)):
        mixed = (*g[:i], g[i].astype(dtype), *g[i + 1 :])
        what, got = message(DtypeError, recurrent.backward, kind, mixed, None, args, ys, saved)
        assert what.startswith(f"{kind.name} backward: argument "), got
    all_of_it = tuple(a.astype(dtype) for a in args)
    if dtype != np.float32:
        message(DtypeError, recurrent.forward, kind, True, None, all_of_it)


@pytest.mark.parametrize(
    "lengths, got",
    [
        ([4, 2], "got int64 (2,) from 2 to 4"),
        ([4, 2, 5], "got int64 (3,) from 2 to 5"),
        ([4, -1, 0], "got int64 (3,) from -1 to 4"),
        ([4.0, 2.0, 1.0], "got float64 (3,) from 1.0 to 4.0"),
        ([[4, 2, 1]], "got int64 (1, 3) from 1 to 4"),
        ([True, False, True], "got bool (3,) from False to True"),
    ],
)
@every_kind
def test_lengths_that_mean_nothing_are_refused(kind, lengths, got):
    args, g = arguments(kind, 4, 3, 2, 5), cotangents(kind, 4, 3, 5)
    expected = ["lengths: one for each row of the batch", f"expected 3 integers from 0 to 4, {got}"]
    assert message(ShapeError, recurrent.forward, kind, True, lengths, args) == expected
    (ys, _, _), saved = forward(kind, args)
    assert message(ShapeError, recurrent.backward, kind, g, lengths, args, ys, saved) == expected


def test_lengths_of_no_rows_may_be_an_empty_list():
    assert kernels.check_lengths([], 4, 0).shape == (0,)
    kind = KINDS["gru"]
    (ys, _, _), _ = forward(kind, arguments(kind, 4, 0, 2, 5), [])
    assert ys.shape == (4, 0, 5)


# --- threads and processes -----------------------------------------------------------------------

# Large enough for two threads, by rows and by units.
WIDE, FEW = (28, 32, 33, 97), (64, 3, 33, 225)


@native
@pytest.mark.parametrize("cut", [WIDE, FEW], ids=["rows", "units"])
def test_python_threads_may_run_layers_at_once(cut):
    before = kernels.threads()
    kernels.set_threads(2)
    jobs = [(kind, arguments(kind, *cut)) for kind in KINDS.values()]

    def work(kind, args):
        outs, saved = recurrent.forward(kind, True, None, args)
        back = recurrent.backward(kind, outs, None, args, outs[0], saved)
        return (*outs, saved, *back)

    try:
        expected = [work(*job) for job in jobs]
        start, wrong = threading.Barrier(len(jobs)), []

        def run(job, alone):
            start.wait()
            for _ in range(2):
                try:
                    same(work(*job), alone)
                except BaseException as error:
                    wrong.append((job[0], error))

        workers = [
            threading.Thread(target=run, args=pair) for pair in zip(jobs, expected, strict=True)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    finally:
        kernels.set_threads(before)
    assert not wrong


FORKED = """
import hashlib, os, signal
import numpy as np
import minigrad as mg
from fused_cells import CELLS
from minigrad import kernels

signal.alarm(100)  # of a child that waits for a thread it has not got
tasks = lambda: len(os.listdir("/proc/self/task"))

def training(name, N, H):
    cell = CELLS[name](9, H, dtype=np.float32, rng=0)
    optimizer = mg.optim.SGD(cell.parameters(), lr=0.01)
    xs = np.random.default_rng(1).normal(size=(40, N, 9)).astype(np.float32)

    def step():
        ys, _ = mg.unfold(cell, xs, fused=True)
        optimizer.zero_grad()
        (ys * ys).mean().backward()
        optimizer.step()
        return hashlib.sha256(b"".join(p.data.tobytes() for p in cell.parameters())).hexdigest()

    return step

for name in CELLS:
    for N, H in ((40, 97), (3, 325)):  # cut into rows, and into units
        kernels.set_threads(1)
        alone = training(name, N, H)
        expected = [alone() for _ in range(4)][-1]
        kernels.set_threads(2)
        step = training(name, N, H)
        step(), step()
        readable, writable = os.pipe()
        child = os.fork()  # the pool has its thread now, which the child will not have
        step()
        last = step()
        if child == 0:
            os.write(writable, f"{last} {tasks()}".encode())
            os._exit(0)
        os.close(writable)
        found = os.read(readable, 99).decode()
        os.waitpid(child, 0)
        assert last == expected, f"{name} {N}: the parent"
        assert found == f"{expected} 2", f"{name} {N}: the child has {found}"
print("done")
"""

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")


@native
@linux
def test_parent_and_child_of_a_fork_both_go_on_with_the_training():
    done = python(FORKED, PYTHONFAULTHANDLER="1")
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-2000:]


THREADS = """
import os
count = lambda: len(os.listdir("/proc/self/task"))
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # NumPy's own
import numpy as np
before = count()
import minigrad as mg
found = [count() - before]
layer = mg.nn.GRU(33, 97, rng=0)
with mg.no_grad():
    layer(np.ones((1, 1, 33)))
    found.append(count() - before)
    layer(np.ones((97, 51, 33)))
    found.append(count() - before)
print(*found)
"""


@native
@linux
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_are_made_when_there_is_work_and_as_many_as_the_environment_says(threads):
    done = python(THREADS, MINIGRAD_NUM_THREADS=str(threads))
    assert done.stdout == f"0 0 {threads - 1}\n", done.stderr


NO_THREADS = """
import os, resource
import numpy as np
from fused_cells import arguments
from minigrad import kernels, recurrent

used = lambda: int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
for kind in recurrent.KINDS.values():
    for sizes in ((15, 64, 33, 97), (64, 3, 33, 225)):
        args = arguments(kind, *sizes)

        def work():
            outs, saved = recurrent.forward(kind, True, None, args)
            return *outs, *recurrent.backward(kind, outs, None, args, outs[0], saved)

        kernels.set_threads(1)
        expected = work()
        work()
        kernels.set_threads(5)
        resource.setrlimit(resource.RLIMIT_AS, (used() + (4 << 20), resource.RLIM_INFINITY))
        found = work()  # there is room for its arrays, and for no stack of a thread
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
        assert len(os.listdir("/proc/self/task")) == 1
        for x, y in zip(found, expected):
            assert (x is y is None) or np.array_equal(x, y), kind
print("done")
"""


@native
@linux
def test_where_no_thread_can_be_made_the_caller_does_it_all():
    done = python(NO_THREADS, OPENBLAS_NUM_THREADS="1")
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-2000:]
