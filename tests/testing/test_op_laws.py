"""The laws of ops: they hold of what is right, and each finds what it is there for."""

import contextlib
import sys

import numpy as np
import pytest
from samples.calls import OPS

import minigrad as mg
from minigrad import graph, kernels
from minigrad.errors import UsageError
from minigrad.testing import check_op
from minigrad.testing import strategies as mgst
from minigrad.testing.check import GradcheckError
from minigrad.testing.example import Array
from minigrad.testing.laws import Broken, Inconclusive, NotApplicable
from minigrad.testing.ops import LAWS
from minigrad.testing.run import POWERLESS, attempt


def matrices(c):
    n, k, m = (c.one_of((2, 3, 1, 0)) for _ in range(3))
    return mgst.Call((Array((n, k)), Array((k, m))))


def along(c):
    shape = mgst.shape(c, (1, 3))
    return mgst.Call((Array(shape),), {"axis": c.integer(-len(shape), len(shape) - 1)})


def filled(c):
    shape = mgst.shape(c, (1, 3), (2, 3, 1, 4))
    return mgst.Call((Array(shape),), {"axis": c.integer(0, len(shape) - 1)})


def joined(c):
    width = c.one_of((2, 1, 3))
    return mgst.Call(tuple([Array((c.one_of((2, 1, 0, 3)), width)) for _ in range(2)]))


def picked(c):
    rows = c.one_of((3, 2, 4))
    index = np.array([c.integer(-rows, rows - 1) for _ in range(c.integer(0, 4))], int)
    return mgst.Call((Array((rows, 2)), index))


def broken(check, law, examples=60, seed=0):
    """What breaks a law among some examples, not shrunk; None if it holds of enough of them."""
    if check.laws[law].unless(check.info):
        return None
    unknown = applied = 0
    for i in range(examples):
        try:
            attempt(check.laws[law], check.info, check.structure.sample(seed, i))
        except Broken as error:
            return error.finding
        except Inconclusive:
            unknown += 1
        except NotApplicable:
            continue
        applied += 1
    assert unknown <= max(1, POWERLESS * applied), f"{check.info.name} {law}: {unknown} unknown"
    return None


# --- right pairs ---------------------------------------------------------------------------------


def unbroadcast(g, x):
    g = g.sum(tuple(range(g.ndim - x.ndim)))
    axes = tuple([k for k, s in enumerate(x.shape) if s == 1 != g.shape[k]])
    return np.array(g.sum(axes, keepdims=True) if axes else g).reshape(x.shape)


def multiply_vjp(g, out, x, y):
    return unbroadcast(g * y, x), unbroadcast(g * x, y)


def tanh_vjp(g, out, x):
    return (g * (1 - out * out),)


def softmax(x, axis):
    e = np.exp(x - (x.real.max(axis, keepdims=True) if x.size else 0))
    return e / e.sum(axis, keepdims=True)


def softmax_vjp(g, out, x, axis):
    return (out * (g - (g * out).sum(axis, keepdims=True)),)


def maximum_vjp(g, out, x, y):
    half = x.dtype.type(0.5)
    mine = (x > y) + half * (x == y)
    return unbroadcast(g * mine, x), unbroadcast(g * (1 - mine).astype(x.dtype), y)


def matmul_vjp(g, out, a, b):
    return g @ b.T, a.T @ g


def take(x, index):
    return x[index]


def take_vjp(g, out, x, index):
    z = np.zeros_like(x)
    np.add.at(z, index, g)
    return (z,)


def concatenate(x, y):
    return np.concatenate([x, y])


def concatenate_vjp(g, out, x, y):
    return g[: len(x)].copy(), g[len(x) :].copy()


def polar(r, t):
    return r * np.cos(t), r * np.sin(t)


def polar_vjp(gs, outs, r, t):
    a, b = gs
    x, y = outs
    return a * np.cos(t) + b * np.sin(t), b * x - a * y


backward = sys.modules["minigrad.backward"]  # its name is that of the function

TWO, ONE = mgst.broadcastable(2, ndim=(0, 2)), mgst.broadcastable(1, ndim=(0, 2))
PAIRS = {
    "multiply": ((np.multiply, multiply_vjp), TWO, {"reference": lambda x, y: x * y}),
    "tanh": ((np.tanh, tanh_vjp), ONE, {}),
    "softmax": ((softmax, softmax_vjp), mgst.calls(along), {}),
    "maximum": ((np.maximum, maximum_vjp), TWO, {}),
    "matmul": ((np.matmul, matmul_vjp), mgst.calls(matrices), {"rowwise": (0, None)}),
    "take": ((take, take_vjp), mgst.calls(picked), {}),
    "concatenate": ((concatenate, concatenate_vjp), mgst.calls(joined), {}),
    "polar": ((polar, polar_vjp), mgst.arrays((3,), (3,)), {}),
}


def pair(name, vjp=None, forward=None, **more):
    """The check of a pair, with another half than the right one."""
    (right, rule), inputs, given = PAIRS[name]
    given = {"inputs": inputs, "name": name, **given, **more}
    return check_op((forward or right, vjp or rule), **given).check


FUNCTIONS = {
    "multiply": check_op(mg.multiply, inputs=TWO, reference=np.multiply),
    "softmax": check_op(mg.softmax, inputs=mgst.calls(along)),
    "maximum": check_op(mg.maximum, inputs=TWO),
    "where": check_op(
        lambda x, y: mg.where([True, False], x * y, y),
        inputs=mgst.arrays((3, 2), (2,)),
        name="where",
    ),
    "matmul": check_op(mg.matmul, inputs=mgst.calls(matrices), rowwise=(0, None)),
    "einsum": check_op(
        lambda x, y: mg.einsum("ij,kj->ki", x, y), inputs=mgst.arrays((3, 2), (4, 2)), name="einsum"
    ),
    "split": check_op(lambda x: mg.split(x, [1, 3]), inputs=mgst.arrays((5, 2)), name="split"),
}


@pytest.mark.parametrize("name", PAIRS)
def test_right_pairs_keep_the_laws(name):
    for law in LAWS:
        assert broken(pair(name), law, 20) is None, law


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_keep_the_laws(name):
    for law in LAWS:
        assert broken(FUNCTIONS[name].check, law, 8) is None, law


# --- planted bugs in pairs -----------------------------------------------------------------------

calls = []  # what a planted bug remembers


def forgetful(x):
    calls.append(None)
    return np.tanh(x) * (1 + 1e-9 * (len(calls) % 2))


def scaled_in_place(g, out, x):
    g *= 1 - out * out
    return (np.array(g),)


def normalised(x):
    if x.flags.writeable and x.dtype.kind != "c":
        x += 1e-7
    return np.tanh(x)


buffer = {}


def buffered(g, out, x):
    kept = buffer.setdefault(x.shape, np.zeros(x.shape))
    kept[...] = g * (1 - out * out)
    return (kept,)


def saving(x):
    buffer[x.shape] = np.tanh(x)
    return np.tanh(x)


def saved(g, out, x):
    return (g * (1 - buffer[x.shape] ** 2),)


def sliced(g, out, x):
    """Reads memory in order, as if there were no strides."""
    base = x if x.base is None or x.flags.c_contiguous else np.asarray(x.base)
    flat = base.reshape(-1)[: x.size] if base.size >= x.size else x.reshape(-1)
    y = np.tanh(flat).reshape(x.shape)
    return (g * (1 - y * y),)


def unshifted(x, axis):
    return np.exp(x) / np.exp(x).sum(axis, keepdims=True)


def cumulative(x):
    return np.cumsum(x) / len(x) if x.size else x


def leaking(a, b):
    return a @ b + 1e-9 * a.sum()


def half_broadcast(g, out, x, y):
    def mean(g, x):
        whole = unbroadcast(g, x)
        return whole * x.dtype.type(max(1, x.size) / max(1, g.size)) if g.size else whole

    return mean(g * y, x), unbroadcast(g * x, y)


BUGS = {
    # law: {what: check}
    "P1": {
        "forward counts its calls": lambda: pair("tanh", forward=forgetful),
        "forward draws": lambda: pair("tanh", forward=lambda x: np.tanh(x) * noisy.random()),
    },
    "P2": {
        "not summed": lambda: pair("multiply", lambda g, out, x, y: (g * y, g * x)),
        "leading axes alone": lambda: pair(
            "multiply",
            lambda g, out, x, y: (
                (g * y).sum(tuple(range(g.ndim - x.ndim))),
                (g * x).sum(tuple(range(g.ndim - y.ndim))),
            ),
        ),
        "float64 for float32": lambda: pair(
            "tanh", lambda g, out, x: ((g * (1 - out * out)).astype(np.float64),)
        ),
    },
    "P3": {
        "scales the cotangent in place": lambda: pair("tanh", scaled_in_place),
        "moves the argument": lambda: pair("tanh", forward=normalised),
    },
    "P4": {
        "the cotangent itself": lambda: pair(
            "tanh", lambda g, out, x: (g,), forward=lambda x: x + 0
        ),
        "one array for two": lambda: pair(
            "polar", lambda gs, outs, r, t: (gs[0],) * 2, forward=lambda r, t: (r + t, 0 * r)
        ),
        "a view of the cotangent": lambda: pair(
            "concatenate", lambda g, out, x, y: (g[: len(x)], g[len(x) :])
        ),
        "a broadcast view": lambda: (
            check_op(
                (lambda x: x.sum(), lambda g, out, x: (np.broadcast_to(g, x.shape),)), inputs=ONE
            ).check
        ),
    },
    "P5": {
        "a buffer": lambda: pair("tanh", buffered),
        "saved by shape": lambda: pair("tanh", saved, forward=saving),
        "not zeroed": lambda: pair("take", accumulating),
    },
    "P6": {
        "clipped": lambda: pair("tanh", lambda g, out, x: (np.clip(g, -3, 3) * (1 - out * out),)),
        "small ones dropped": lambda: pair(
            "tanh", lambda g, out, x: (np.where(abs(g) < 1e-8, 0, g) * (1 - out * out),)
        ),
        "missing means ones": lambda: pair("polar", missing_ones),
        "a sum in float32": lambda: pair(
            "softmax",
            lambda g, out, x, axis: (
                out * (g - (g * out).astype(np.float32).sum(axis, keepdims=True)),
            ),
        ),
        "a constant": lambda: pair("tanh", lambda g, out, x: (g * (1 - out * out) + 1e-9,)),
    },
    "P7": {
        "wrong operand": lambda: pair(
            "multiply", lambda g, out, x, y: (unbroadcast(g * x, x), unbroadcast(g * x, y))
        ),
        "sign": lambda: pair("tanh", lambda g, out, x: (-g * (1 - out * out),)),
        "1 - y": lambda: pair("tanh", lambda g, out, x: (g * (1 - out),)),
        "1e-9 in one entry": lambda: pair("tanh", nearly),
        "saved in float32": lambda: pair(
            "tanh", lambda g, out, x: (g * (1 - out.astype(np.float32).astype(x.dtype) ** 2),)
        ),
        "no second term": lambda: pair("softmax", lambda g, out, x, axis: (g * out,)),
        "the wrong axis": lambda: pair(
            "softmax", lambda g, out, x, axis: softmax_vjp(g, out, x, axis - 1 if x.ndim > 1 else 0)
        ),
        "both at a tie": lambda: pair(
            "maximum",
            lambda g, out, x, y: (unbroadcast(g * (x >= y), x), unbroadcast(g * (y >= x), y)),
        ),
        "reversed": lambda: pair(
            "maximum",
            lambda g, out, x, y: (unbroadcast(g * (x < y), x), unbroadcast(g * (x >= y), y)),
        ),
        "transposed when square": lambda: pair(
            "matmul",
            lambda g, out, a, b: (
                g @ b.T,
                (a.T @ g).T.copy() if a.shape[1] == g.shape[1] else a.T @ g,
            ),
        ),
        "assigned for duplicates": lambda: pair("take", assigned),
        "negative indices dropped": lambda: pair("take", dropped),
        "pieces swapped": lambda: pair(
            "concatenate",
            lambda g, out, x, y: (
                (g[len(x) :].copy(), g[: len(x)].copy())
                if len(x) == len(y)
                else concatenate_vjp(g, out, x, y)
            ),
        ),
        "the last output ignored": lambda: pair(
            "polar", lambda gs, outs, r, t: (gs[0] * np.cos(t), -gs[0] * outs[1])
        ),
        "slope 5 at the corner": lambda: (
            check_op(
                (abs, lambda g, out, x: (g * np.where(x == 0, 5, np.sign(x)),)),
                name="abs",
                inputs=ONE,
            ).check
        ),
        "None for a gradient": lambda: pair("tanh", lambda g, out, x: (None,)),
    },
    "P8": {"ignores strides": lambda: pair("tanh", sliced)},
    "P9": {
        "overflow": lambda: pair("softmax", forward=unshifted),
        "NaN made 0": lambda: pair("tanh", forward=lambda x: np.nan_to_num(np.tanh(x))),
        "NaN compared away": lambda: (
            check_op(
                (lambda x: np.where(x > 0, x, 0), lambda g, out, x: (g * (x > 0),)),
                inputs=ONE,
                name="relu",
            ).check
        ),
        "cotangent made 0": lambda: pair(
            "tanh", lambda g, out, x: (np.nan_to_num(g) * (1 - out * out),)
        ),
        "log(0)": lambda: (
            check_op(
                (
                    lambda x, y: x**y,
                    lambda g, out, x, y: (
                        g * y * x ** np.where(y == 0, 1, y - 1),
                        g * out * np.log(x),
                    ),
                ),
                inputs=mgst.calls(
                    lambda c: mgst.Call((Array((3,), data=[0.0, 1, 2]), Array((3,), domain=(2, 3))))
                ),
                name="power",
            ).check
        ),
    },
    "P11": {
        "divides by the length": lambda: (
            check_op(
                (lambda x: x.mean(), lambda g, out, x: (g * np.ones_like(x) / x.size,)),
                inputs=ONE,
                name="mean",
            ).check
        ),
        "ones for no index": lambda: pair(
            "take",
            lambda g, out, x, i: take_vjp(g, out, x, i) if g.size else (np.ones_like(x),),
        ),
    },
    "P12": {"a mean for a sum": lambda: pair("multiply", half_broadcast)},
    "P13": {
        "rows leak": lambda: pair("matmul", forward=leaking),
        "mean over the rows": lambda: pair(
            "matmul", lambda g, out, a, b: (g @ b.T, a.T @ g / max(1, len(a)))
        ),
        "gradients leak": lambda: pair(
            "matmul", lambda g, out, a, b: (g @ b.T + 1e-9 * g.sum(), a.T @ g)
        ),
    },
    "P15": {
        "a float32 path": lambda: pair(
            "tanh",
            lambda g, out, x: (g * (1 - out * out) * x.dtype.type(1 + (x.itemsize == 4) / 999),),
        ),
        "low precision": lambda: pair(
            "tanh", forward=lambda x: np.tanh(x) if x.itemsize != 4 else np.round(np.tanh(x), 3)
        ),
    },
    "P16": {
        "another function": lambda: pair(
            "multiply",
            forward=lambda x, y: 1.01 * x * y,
            vjp=lambda g, out, x, y: multiply_vjp(x.dtype.type(1.01) * g, out, x, y),
        )
    },
}

noisy = np.random.default_rng(0)


def accumulating(g, out, x, index):
    z = buffer.setdefault(("take", x.shape), np.zeros_like(x))
    np.add.at(z, index, g)
    return (z.copy(),)


def missing_ones(gs, outs, r, t):
    return polar_vjp([g if g.any() else g + 1 for g in gs], outs, r, t)


def nearly(g, out, x):
    slope = 1 - out * out
    if slope.ndim and slope.size:
        slope[(0,) * slope.ndim] *= 1 + 1e-9
    return (g * slope,)


def assigned(g, out, x, index):
    z = np.zeros_like(x)
    z[index] = g
    return (z,)


def dropped(g, out, x, index):
    return take_vjp(g[index >= 0], out, x, index[index >= 0])


@pytest.mark.parametrize("law, what", [(law, what) for law in BUGS for what in BUGS[law]])
def test_a_planted_bug_is_found(law, what):
    buffer.clear()
    finding = broken(BUGS[law][what](), law)
    assert finding is not None


# --- planted bugs in the engine ------------------------------------------------------------------


@contextlib.contextmanager
def swapped(where, name, value):
    before = getattr(where, name)
    setattr(where, name, value)
    try:
        yield
    finally:
        setattr(where, name, before)


def overwriting(output, gradient=None, retain_graph=None, create_graph=False):
    """backward() that forgets what stood in .grad."""
    found = backward.pull_back([output], [np.ones(output.shape)], None, False, True)
    for leaf, arrived in found.items():
        leaf.grad = mg.Tensor(backward.own(arrived))


def lending(output, gradient=None, retain_graph=None, create_graph=False):
    """backward() that hands out what arrived."""
    found = backward.pull_back([output], [np.ones(output.shape)], None, False, True)
    for leaf, arrived in found.items():
        g = graph.Tensor.at(backward.total(arrived), None)
        leaf.grad = g if leaf.grad is None else leaf.grad + g


def last_alone(arrived):
    return arrived[-1] if type(arrived) is list else arrived


def first_half(self, node, i, contribution, send=backward._Pass.send):
    """A pass that adds to .grad as it goes: an error leaves half of it."""
    source = node.sources[i]
    send(self, node, i, contribution)
    if isinstance(source, graph.Leaf) and source.grad is not None and not self.targets:
        source.grad = source.grad + 0 * source.grad + 1e-3


def leaky_mode(self, *exc):
    if not exc or exc[0] is None:
        graph._mode.recording = self._before.pop()


@contextlib.contextmanager
def constant_slope():
    """tanh whose rule looks at the output as a constant."""
    op = graph.registry["tanh"]
    rule = lambda g, out, x: g * (1 - getattr(out, "data", out) ** 2)  # noqa: E731
    with swapped(op, "vjps", (rule,)):
        yield


@contextlib.contextmanager
def by_mode():
    """multiply that computes otherwise where it is recorded."""
    op = graph.registry["multiply"]
    plain = op.forward
    other = lambda x, y: plain(x, y) * (1 if graph.is_grad_enabled() else 1 + 1e-12)  # noqa: E731
    with swapped(op, "forward", other):
        yield


ENGINE = {
    ("P10", "overwritten"): lambda: swapped(mg.Tensor, "backward", overwriting),
    ("P10", "lent"): lambda: swapped(mg.Tensor, "backward", lending),
    ("P10", "one contribution of two"): lambda: swapped(backward, "total", last_alone),
    ("P14", "a constant in the rule"): constant_slope,
    ("P17", "another forward pass"): by_mode,
    ("P18", "the mode is not put back"): lambda: swapped(
        graph.set_grad_enabled, "__exit__", leaky_mode
    ),
    ("P18", "half a pass"): lambda: swapped(backward._Pass, "send", first_half),
}


@pytest.mark.parametrize("law, what", ENGINE)
def test_a_bug_planted_in_the_engine_is_found(law, what):
    function = {"P14": mg.tanh, "lent": mg.add}.get(what if law == "P10" else law, mg.multiply)
    check = check_op(function, inputs=ONE if law == "P14" else TWO).check
    with ENGINE[law, what]():
        assert broken(check, law, 20) is not None
    assert graph.is_grad_enabled()
    assert broken(check, law, 5) is None


def test_a_gradient_that_hangs_on_the_others_is_found():
    def rule(needs, g, out, x, y):
        return g * y, g * (x if needs[0] else 2 * x)

    op = mg.Op("hanging", np.multiply, vjp=rule)
    assert broken(check_op(op, inputs=TWO).check, "P17", 40) is not None


# --- what is found, and how it is told -----------------------------------------------------------


@pytest.mark.parametrize("delta", [1e-6, 1e-9])
def test_an_error_in_one_entry_is_located(delta):
    def vjp(g, out, x):
        slope = 1 - out * out
        slope[1, 2] *= 1 + delta
        return (g * slope,)

    check = check_op((np.tanh, vjp), inputs=((2, 3),), names=["x"], values=["generic"]).check
    finding = broken(check, "P7", 20)
    assert finding is not None and finding.input == "x"
    wrong = abs(finding.analytic - finding.numeric) > finding.error
    assert np.argwhere(wrong).tolist() == [[1, 2]]


def test_facts_for_the_diagnosis():
    check = pair(
        "multiply", lambda g, out, x, y: (unbroadcast(g * y, x), 2 * unbroadcast(g * x, y))
    )
    finding = broken(check, "P7")
    assert finding.input == "x2" or finding.input == "argument 1"
    facts = finding.facts
    for key in ("gradients", "numeric", "errors"):
        assert set(facts[key]) == set(facts["gradients"]) and len(facts[key]) == 2
    assert len(facts["args"]) == 2 and len(facts["outputs"]) == len(facts["cotangents"]) == 1
    assert (abs(finding.analytic - 2 * finding.numeric) <= 3 * finding.error).all()


def test_a_large_gradient_is_located_by_a_sample():
    check = check_op(
        (np.tanh, lambda g, out, x: (2 * g * (1 - out * out),)),
        inputs=((40, 20),),
        values=["generic"],
    ).check
    finding = broken(check, "P7", 1)
    assert np.isfinite(finding.numeric).sum() == 300


def test_the_reversed_maximum_is_found_beside_its_ties():
    check = pair("maximum", BUGS["P7"]["reversed"]().info.subject.vjp, values=["ties"])
    assert broken(check, "P7") is not None


def test_a_function_that_refuses_its_inputs_says_so():
    check = check_op(mg.matmul, inputs=mgst.arrays((2, 3), (2, 3))).check
    text = check.report(check.run_law("P7", 5, 0)).text()
    assert "inputs=" in text and "ShapeError" in text


def test_a_rule_that_raises_is_told_of():
    def vjp(g, out, x):
        raise KeyError("gate")

    text = ""
    try:
        check_op((np.tanh, vjp), inputs=ONE, seed=0, laws=["P7"])()
    except GradcheckError as error:
        text = str(error)
    assert "KeyError" in text and "gate" in text


def test_a_bar_that_is_too_wide_is_no_pass():
    def stairs(x):
        return np.round(np.tanh(x), 5) if x.dtype.kind != "c" else np.tanh(x)

    check = check_op((stairs, tanh_vjp), inputs=((1,),), values=["generic"], seed=0).check
    assert check.run_law("P7", 4).verdict in ("inconclusive", "fail")


def test_the_middle_of_three_equal_numbers():
    check = check_op(mg.sort, inputs=((3,),), values=["ties"]).check
    assert broken(check, "P7", 30) is None


def test_what_is_guessed_of_the_inputs():
    assert len(check_op(mg.multiply).check.structure.sample(0).args) == 2
    assert len(check_op(lambda x: mg.tanh(x)).check.structure.sample(0).args) == 1
    assert check_op(lambda gate, x: gate * x).check.info.names == ("gate", "x")


@pytest.mark.parametrize(
    "call, part",
    [
        (lambda: check_op(3), "what is to be checked"),
        (lambda: check_op(mg.tanh, laws=["P99"]), "P99"),
        (lambda: check_op(mg.tanh, skip={"P7": " "}), "reason"),
        (lambda: check_op(mg.tanh, inputs=3), "inputs"),
        (lambda: check_op(lambda *x: x[0]), "inputs"),
        (lambda: check_op(mg.split), "inputs"),
        (lambda: check_op(mg.tanh, values=["odd"]), "values"),
        (lambda: check_op(mg.tanh, dtypes=["float16"]), "dtypes"),
    ],
)
def test_wrong_uses_are_told_in_three_lines(call, part):
    with pytest.raises(UsageError, match=part) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 3


def test_a_strategy_of_hypothesis_is_an_input():
    st = pytest.importorskip("hypothesis.strategies")
    drawn = st.tuples(st.floats(-2, 2).map(np.asarray), st.just(np.ones(2)))
    check = check_op(mg.multiply, inputs=drawn).check
    assert check.run_law("P7", 5, 0).verdict == "pass"


def test_a_skipped_law_says_why():
    check = check_op(mg.tanh, skip={"P9": "NaN is a number here"}).check
    assert check.run_law("P9").reason == "NaN is a number here"
    assert "reference=" in check.run_law("P16").reason
    assert "engine" in pair("tanh").run_law("P18").reason


test_tanh = check_op(mg.tanh, inputs=ONE, examples=5, seed=0)


def test_rows_and_layouts_have_the_same_bits_on_the_kernels_alone(monkeypatch):
    """NumPy's product of one row is another function of BLAS's than that of two."""
    monkeypatch.setattr(kernels, "lib", None)
    check = check_op(mg.matmul, inputs=mgst.arrays((2, 2), (2, 2)), rowwise=(0, None)).check
    for law in ("P8", "P13"):
        assert check.run_law(law, 100, seed=0).verdict == "pass"


def test_forward_mode_is_tried_beside_arguments_that_are_no_arrays():
    x = mgst.arrays((3,))
    check = check_op(lambda x: mg.clip(x, -0.5, None), inputs=x, laws=["P14"]).check
    assert check.run_law("P14", 20, seed=0).verdict == "pass"
    for name in ("clip", "where", "einsum"):
        how = dict(OPS[name])
        check = check_op(how.pop("f"), name=name, laws=["P14"], **how).check
        assert check.run_law("P14", 20, seed=0).verdict == "pass"
