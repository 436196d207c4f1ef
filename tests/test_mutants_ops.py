"""The pairs that bugs of ops are planted in are right, and each bug is there when switched on."""

import copy

import mutants as registry
import numpy as np
import pytest
from mutants import CAUSES, bug, mutant, mutants, specimens
from mutants.ops import cotangent, each, run, shares, slopes, unbroadcast, writes

PAIRS = [s for s in specimens.values() if s.kind == "op"]
BUGS = [m for m in mutants.values() if specimens[m.specimen].kind == "op"]
CALLS = [(s, args, params) for s in PAIRS for args, params in s.calls]
EPS = np.finfo(np.float64).eps


def on_each(f, g):
    """f of a cotangent, or of each of several."""
    return tuple(map(f, g)) if isinstance(g, tuple) else f(g)


every_pair = pytest.mark.parametrize("s", PAIRS, ids=lambda s: s.name)
every_call = pytest.mark.parametrize(
    ("s", "args", "params"), CALLS, ids=lambda v: getattr(v, "name", "")
)
every_bug = pytest.mark.parametrize("m", BUGS, ids=lambda m: m.id)


def same(got, want, eps=EPS, scale=1.0):
    """Equal but for rounding: sums of some tens of terms, some tens of roundings in each."""
    return all(
        a.shape == np.shape(b) and np.all(abs(a - b) <= 1000 * eps * (scale + abs(b)))
        for a, b in zip(got, want, strict=True)
    )


@every_call
def test_the_gradients_are_those_of_the_forward(s, args, params):
    g, out, got = run(s.name, *args, **params)
    assert [v.shape for v in each(g)] == [np.shape(y) for y in each(out)]
    want = slopes(s.name, g, *args, **params)
    assert same(got, want, scale=max(1.0, *(np.max(abs(w), initial=0) for w in want)))


@pytest.mark.parametrize("s", [s for s in PAIRS if s.reference], ids=lambda s: s.name)
def test_the_forward_is_that_of_the_reference(s):
    for args, params in s.calls:
        out = s.forward(*args, **params)
        assert same([np.asarray(out)], [s.reference(*args, **params)])


@every_pair
def test_calls(s):
    assert len(s.calls) >= 5
    assert all(x.dtype == np.float64 for args, _ in s.calls for x in args)


@every_call
def test_memory(s, args, params):
    """Nothing given is written to, and nothing that comes back is shared."""
    for x in args:
        x.flags.writeable = False
    try:
        assert not writes(s.name, *args, **params)
        assert not shares(s.name, *args, **params)
    finally:
        for x in args:
            x.flags.writeable = True


def test_memory_of_parameters():
    s = specimens["take"]
    before = copy.deepcopy([params for _, params in s.calls])
    for args, params in s.calls:
        run(s.name, *args, **params)
    for old, (_, params) in zip(before, s.calls, strict=True):
        assert np.array_equal(old["indices"], params["indices"])


@every_call
def test_float32(s, args, params):
    args = [x.astype(np.float32) for x in args]
    g, out, got = run(s.name, *args, **params)
    assert all(np.asarray(y).dtype == np.float32 for y in each(out))
    assert all(a.dtype == np.float32 for a in got)
    wide = on_each(lambda v: v.astype(np.float64), g)
    _, _, want = run(s.name, *(x.astype(np.float64) for x in args), g=wide, **params)
    scale = max(1.0, *(np.max(abs(w), initial=0) for w in want))
    assert same(got, want, np.finfo(np.float32).eps, scale)


def other_layouts(x):
    """The numbers of x in Fortran's order, backwards in memory, and with gaps."""
    back, every_other = (slice(None, None, -1),) * x.ndim, (slice(None, None, 2),) * x.ndim
    gaps = np.zeros([2 * n for n in x.shape])
    gaps[every_other] = x
    return np.array(x, order="F"), x[(*back, ...)].copy()[(*back, ...)], gaps[(*every_other, ...)]


@every_call
def test_layouts(s, args, params):
    g, out, want = run(s.name, *args, **params)
    for moved in zip(*map(other_layouts, args), strict=True):
        for k in range(3):
            other = on_each(lambda v, k=k: other_layouts(v)[k], g)
            _, out_, got = run(s.name, *moved, g=other, **params)
            assert same(map(np.asarray, each(out_)), each(out))
            assert same(got, want)


@every_call
def test_rules_take_complex_numbers(s, args, params):
    """A complex step through the rule gives its derivative along the cotangent: it is linear."""
    g, _, want = run(s.name, *args, **params)
    _, _, got = run(s.name, *args, g=on_each(lambda v: v + 1e-100j * v, g), **params)
    assert same([a.imag / 1e-100 for a in got], want)
    if s.name != "abs":
        _, _, got = run(s.name, *(x + 0j for x in args), g=on_each(lambda v: v + 0j, g), **params)
        assert same(got, want)


@pytest.mark.parametrize(
    ("names", "shapes"),
    [
        ("add subtract multiply divide maximum minimum huber", [(0,), (0, 3), (2, 0)]),
        ("exp tanh sigmoid softplus swish gelu elu abs", [(0,), (0, 3), (2, 0)]),
        ("softmax log_softmax logsumexp max prod sort diff norm unit", [(0, 3), (2, 0, 3)]),
    ],
)
def test_no_numbers_at_all(names, shapes):
    for s in map(specimens.get, names.split()):
        for shape in shapes:
            _, _, got = run(s.name, *[np.zeros(shape)] * len(s.calls[0][0]))
            assert all(a.shape == shape for a in got)


SATURATING = ["tanh", "sigmoid", "softplus", "swish", "gelu", "elu"]


@pytest.mark.parametrize("name", [*SATURATING, "softmax", "log_softmax", "logsumexp"])
def test_finite_in_saturation(name):
    _, _, (got,) = run(name, np.array([-800.0, 30.0, 799.0, 800.0]))
    assert np.all(np.isfinite(got))


@pytest.mark.parametrize(
    ("name", "params"), [("abs", {}), ("ipow", {"n": 2}), ("prod", {}), ("norm", {}), ("unit", {})]
)
def test_finite_at_zero(name, params):
    for x in (np.array([0.0, 2.0]), np.zeros(2)):
        _, _, (got,) = run(name, x, **params)
        assert np.all(np.isfinite(got))


def test_a_power_of_zero_is_flat_in_the_exponent():
    _, _, got = run("power", np.zeros(2), np.array([2.0, 1.0]), g=np.ones(2))
    assert np.array_equal(got, [[0.0, 1.0], [0.0, 0.0]])


@pytest.mark.parametrize(
    "name",
    [
        *("multiply", "divide", "power", "maximum", "minimum", "huber", "max", "softmax", "norm"),
        *("exp", "sqrt", "tanh", "sigmoid", "softplus", "swish", "gelu", "elu", "abs"),
    ],
)
def test_nan_in_nan_out(name):
    args = [np.array([np.nan])] * len(specimens[name].calls[0][0])
    _, out, got = run(name, *args)
    assert np.all(np.isnan(out))
    assert np.all(np.isnan(got))


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("maximum", ([1.0], [1.0])),
        ("minimum", ([1.0], [1.0])),
        ("clip", ([1.0], [1.0], [2.0])),
        ("clip", ([2.0], [1.0], [2.0])),
        ("clip", ([2.0], [3.0], [1.0])),
        ("max", ([1.0, 1.0],)),
    ],
)
def test_at_a_tie_the_gradients_add_up_to_the_cotangent(name, args):
    args = [np.array(x) for x in args]
    g = cotangent(specimens[name].forward(*args))
    _, _, got = run(name, *args, g=g)
    assert sum(np.sum(a) for a in got) == np.sum(g)


def test_unbroadcast():
    g = np.arange(24.0).reshape(2, 3, 4)
    assert np.array_equal(unbroadcast(g, np.zeros((3, 1))), g.sum((0, 2))[:, None])
    assert np.array_equal(unbroadcast(g, np.zeros(())), g.sum())
    assert np.array_equal(unbroadcast(g[:0], np.zeros((3, 1))), np.zeros((3, 1)))


# --- the bugs ------------------------------------------------------------------------------------


@every_bug
def test_the_bug_shows(m):
    assert not bug(m.id)
    assert not m.shows()
    with mutant(m.id):
        assert bug(m.id)
        assert m.shows()
        assert m.shows()  # on a second look too
    assert not registry._on
    assert not m.shows()


@pytest.mark.parametrize("m", [m for m in BUGS if m.forward], ids=lambda m: m.id)
def test_where_the_forward_is_wrong_the_rule_fits_it(m):
    s = specimens[m.specimen]
    assert "forward" in m.cause.split("|")
    with mutant(m.id), np.errstate(all="ignore"):
        for args, params in s.calls:
            if np.all(np.isfinite(s.forward(*args, **params))):
                g, _, got = run(s.name, *args, **params)
                assert same(got, slopes(s.name, g, *args, **params), scale=10.0)


def test_the_catalogue_is_whole():
    numbers = [str(i) for i in range(1, 45) if i != 27] + ["27a", "27b", "27c"]
    held_out = [f"HO{i}" for i in range(1, 74)]
    assert sorted(m.id for m in BUGS) == sorted(numbers + held_out)
    assert all(mutants[m.id] is m for m in BUGS)
    assert all(m.family in ("A elementwise", "B products and indexing") for m in BUGS)
    assert all(c in CAUSES for m in BUGS for c in m.cause.split("|"))
    assert all(m.description and m.origin for m in BUGS)


def test_an_error_switches_the_bug_off():
    with pytest.raises(KeyError), mutant("7"):
        raise KeyError
    assert not bug("7")
