"""The bit contract for the LSTM, point by point: every element equal, never a tolerance.

NaN counts as equal to NaN, and -0 to 0. The sizes are no multiples of a vector, nor of a tile.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import kernels
from minigrad.backward import gradients

pytestmark = pytest.mark.native

OUTPUTS = ("ys", "h", "c", "ys[-1]")
WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
INPUTS = ("xs", "h0", "c0", *WEIGHTS)

DTYPES = st.sampled_from([np.float32, np.float64])
SIZES = st.sampled_from([1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 65])


@dataclass(frozen=True)
class Case:
    """An LSTM and a batch for it; equal cases hold equal numbers."""

    dtype: type
    T: int
    N: int
    I: int  # noqa: E741
    H: int
    bias: bool = True
    reverse: bool = False
    lengths: tuple[int, ...] | None = None
    gain: float = 1.0  # of the weights; a large one saturates the gates
    seed: int = 0

    def cell(self) -> mg.nn.LSTMCell:
        rng = np.random.default_rng(self.seed)
        cell = mg.nn.LSTMCell(self.I, self.H, self.bias, dtype=self.dtype, rng=rng)
        for p in cell.parameters():
            p.data[...] = self.gain * rng.normal(size=p.shape)
        return cell

    def arrays(self) -> dict[str, np.ndarray]:
        """Inputs, and a cotangent `d...` for each output."""
        rng = np.random.default_rng(self.seed + 1)
        sequence, state = (self.T, self.N, self.H), (self.N, self.H)
        shapes = {"xs": (self.T, self.N, self.I), "h0": state, "c0": state}
        shapes |= {"dys": sequence, "dh": state, "dc": state, "dys[-1]": state}
        return {name: rng.normal(size=shape).astype(self.dtype) for name, shape in shapes.items()}

    def padding(self) -> np.ndarray:
        """True (T, N) where a row has ended."""
        return np.arange(self.T)[:, None] >= np.asarray(self.lengths)


@st.composite
def cases(draw, ragged: bool | None = None, rows=st.integers(1, 13), steps=st.integers(1, 9)):
    T, N = draw(steps), draw(rows)
    lengths = None
    if draw(st.booleans()) if ragged is None else ragged:
        lengths = tuple(draw(st.lists(st.integers(0, T), min_size=N, max_size=N)))
    return Case(
        draw(DTYPES), T, N, draw(SIZES), draw(SIZES), draw(st.booleans()), draw(st.booleans()),
        lengths, draw(st.sampled_from([0.3, 3.0])), draw(st.integers(0, 999)),
    )  # fmt: skip


def run(case: Case, fused=True, arrays=None, use=("ys", "h", "c"), wanted=INPUTS) -> dict:
    """Outputs, and the gradients `d ...` of the inputs in `wanted` for cotangents of `use`."""
    a = case.arrays() if arrays is None else arrays
    cell = case.cell()
    inputs = {k: mg.tensor(a[k], requires_grad=k in wanted) for k in ("xs", "h0", "c0")}
    for name, p in cell.named_parameters():
        p.requires_grad = name in wanted
        inputs[name] = p
    xs, h0, c0 = inputs["xs"], inputs["h0"], inputs["c0"]
    ys, (h, c) = mg.unfold(cell, xs, (h0, c0), case.lengths, case.reverse, fused)
    outputs = {"ys": ys, "h": h, "c": c}
    if "ys[-1]" in use:
        outputs["ys[-1]"] = ys[-1]
    names = [k for k in inputs if k in wanted]
    found = gradients(
        [outputs[k] for k in use], [inputs[k] for k in names], [a["d" + k] for k in use]
    )
    values = {k: t.data for k, t in outputs.items()}
    return values | {f"d {k}": g for k, g in zip(names, found, strict=True)}


def assert_same(left: dict, right: dict) -> None:
    assert left.keys() == right.keys()
    for name, x in left.items():
        y = right[name]
        assert (x is None) == (y is None), name
        if x is not None:
            assert (x.shape, x.dtype) == (y.shape, y.dtype), name
            differing = int(((x != y) & ~((x != x) & (y != y))).sum())
            assert differing == 0, f"{name}: {differing} of {x.size} elements differ"


@contextmanager
def using(*, isa: str | None = None, threads: int | None = None) -> Iterator[None]:
    before = kernels.isa(), kernels.threads()
    kernels.set_isa(isa or before[0])
    kernels.set_threads(threads or before[1])
    try:
        yield
    finally:
        kernels.set_isa(before[0])
        kernels.set_threads(before[1])


def test_the_comparison_sees_one_bit_and_forgives_nan():
    x = np.array([1.0, np.nan, 0.0])
    assert_same({"x": x}, {"x": np.array([1.0, np.nan, -0.0])})
    for other in (np.nextafter(x, 2), np.array([np.nan, 1.0, 0.0]), x.astype(np.float32)):
        with pytest.raises(AssertionError):
            assert_same({"x": x}, {"x": other})


# --- 1: fused = unfolded -------------------------------------------------------------------------


@given(cases())
@example(Case(np.float32, 1, 1, 1, 1))
@example(Case(np.float64, 1, 1, 3, 5, reverse=True))
@example(Case(np.float32, 4, 3, 5, 7, lengths=(0, 0, 0)))
@example(Case(np.float32, 2, 3, 300, 260))  # a sum longer than one block of the product
def test_point_1_fused_equals_unfolded(case):
    assert_same(run(case, fused=True), run(case, fused=False))


@given(
    cases(),
    st.lists(st.sampled_from(OUTPUTS), min_size=1, max_size=3, unique=True),
    st.sets(st.sampled_from(INPUTS), min_size=1),
)
@settings(max_examples=150)
@example(Case(np.float32, 3, 2, 5, 7), ["ys"], set(INPUTS))
@example(Case(np.float32, 3, 2, 5, 7), ["h"], set(INPUTS))
@example(Case(np.float32, 3, 2, 5, 7), ["c"], set(INPUTS))
@example(Case(np.float32, 3, 2, 5, 7), ["ys[-1]"], set(INPUTS))
@example(Case(np.float64, 3, 2, 5, 7), ["ys", "c"], {"xs"})
@example(Case(np.float64, 3, 2, 5, 7), ["ys"], {"weight_hh"})
def test_point_1_some_outputs_used_some_inputs_wanted(case, use, wanted):
    if not case.bias:
        wanted = wanted - {"bias_ih", "bias_hh"}
    results = [run(case, fused, use=use, wanted=wanted) for fused in (True, False)]
    assert_same(*results)
    assert all(results[0][f"d {k}"] is not None for k in wanted)


@given(cases(), st.integers(1, 5), st.sampled_from(["before", "between", "after"]))
def test_point_1_one_cell_for_two_sequences_with_a_penalty(case, steps, place):
    decoder = replace(case, T=steps, lengths=None, seed=case.seed + 7).arrays()
    a = case.arrays()

    def train(fused) -> dict:
        cell = case.cell()
        xs, h0, c0 = (mg.tensor(a[k], requires_grad=True) for k in ("xs", "h0", "c0"))
        zs = mg.tensor(decoder["xs"], requires_grad=True)
        terms = []

        def penalty(at):
            if at == place:
                terms.append((cell.weight_hh * cell.weight_hh).sum() * 0.01)

        penalty("before")
        ys, state = mg.unfold(cell, xs, (h0, c0), case.lengths, case.reverse, fused)
        terms.append((ys * a["dys"]).sum())
        penalty("between")
        ws, (h, c) = mg.unfold(cell, zs, state, fused=fused)
        terms += [(ws * decoder["dys"]).sum(), (h * c).sum()]
        penalty("after")
        loss = terms[0]
        for term in terms[1:]:
            loss = loss + term
        loss.backward()
        leaves = {"xs": xs, "h0": h0, "c0": c0, "zs": zs, **dict(cell.named_parameters())}
        return {"loss": loss.data} | {k: t.grad.data for k, t in leaves.items()}

    assert_same(train(True), train(False))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("lengths", [None, [5, 0, 3, 1]], ids=["full", "ragged"])
def test_point_1_layers_in_depth_and_in_both_directions(dtype, lengths):
    rng = np.random.default_rng(0)
    data = rng.normal(size=(5, 4, 7)).astype(dtype)

    def train(fused) -> dict:
        layer = mg.nn.LSTM(7, 9, num_layers=2, bidirectional=True, dtype=dtype, rng=3)
        xs = mg.tensor(data, requires_grad=True)
        ys, (h, c) = layer(xs, lengths=lengths, fused=fused)
        ((ys * ys).sum() + (h * c).sum()).backward()
        grads = {k: p.grad.data for k, p in layer.named_parameters()}
        return {"ys": ys.data, "h": h.data, "c": c.data, "d xs": xs.grad.data} | grads

    assert_same(train(True), train(False))


@given(cases())
def test_point_1_inference_equals_training(case):
    trained, a = run(case), case.arrays()
    for fused in (True, False):
        with mg.no_grad():
            ys, (h, c) = mg.unfold(
                case.cell(), a["xs"], (a["h0"], a["c0"]), case.lengths, case.reverse, fused
            )
        assert not ys.requires_grad
        assert_same(
            {k: trained[k] for k in ("ys", "h", "c")}, {"ys": ys.data, "h": h.data, "c": c.data}
        )


# --- 2: row independence -------------------------------------------------------------------------

TIME_FIRST = {"xs", "dys", "ys", "d xs"}


def take_rows(arrays: dict, rows: list[int]) -> dict:
    """Some rows of everything that has rows."""
    return {k: v[:, rows] if k in TIME_FIRST else v[rows] for k, v in arrays.items()}


def without_weights(results: dict) -> dict:
    return {k: v for k, v in results.items() if k not in {f"d {w}" for w in WEIGHTS}}


@given(cases(), st.data(), st.booleans())
def test_point_2_a_row_is_the_same_alone_and_in_any_batch(case, data, fused):
    rows = data.draw(st.lists(st.integers(0, case.N - 1), min_size=1, max_size=4), label="rows")
    lengths = None if case.lengths is None else tuple(case.lengths[r] for r in rows)
    few = replace(case, N=len(rows), lengths=lengths)
    alone = run(few, fused, take_rows(case.arrays(), rows))
    together = run(case, fused)
    assert_same(without_weights(alone), take_rows(without_weights(together), rows))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_point_2_one_row_of_a_large_batch(dtype):
    case = Case(dtype, T=3, N=203, I=5, H=17)
    together = without_weights(run(case))
    for r in (0, 96, 101, 202):  # the first group of rows, its end, the middle, the last
        alone = run(replace(case, N=1), arrays=take_rows(case.arrays(), [r]))
        assert_same(without_weights(alone), take_rows(together, [r]))


# --- 3: ragged = padded --------------------------------------------------------------------------


@given(cases(ragged=True), st.booleans(), st.sampled_from([np.nan, np.inf, -np.inf, 1e30]))
@example(Case(np.float32, 3, 3, 2, 5, lengths=(0, 3, 1)), True, np.nan)
@example(Case(np.float32, 3, 3, 2, 5, lengths=(0, 3, 1), reverse=True), False, np.nan)
def test_point_3_what_stands_in_the_padding_changes_nothing(case, fused, rubbish):
    clean, dirty = case.arrays(), case.arrays()
    padding = case.padding()
    for name in ("xs", "dys"):
        clean[name][padding], dirty[name][padding] = 0, rubbish
    results = run(case, fused, dirty)
    assert_same(results, run(case, fused, clean))
    assert (results["ys"][padding] == 0).all()
    assert (results["d xs"][padding] == 0).all()
    assert all(np.isfinite(v).all() for v in results.values())


@given(cases(ragged=True), st.booleans())
def test_point_3_a_ragged_row_equals_that_row_alone_at_its_own_length(case, fused):
    a, ragged = case.arrays(), without_weights(run(case, fused))
    for r, length in enumerate(case.lengths):
        row = take_rows(ragged, [r])
        if length == 0:
            unchanged = {"h": a["h0"], "c": a["c0"], "d h0": a["dh"], "d c0": a["dc"]}
            assert_same({k: row[k] for k in unchanged}, take_rows(unchanged, [r]))
        else:
            one = take_rows(a, [r])
            one["xs"], one["dys"] = one["xs"][:length], one["dys"][:length]
            alone = run(replace(case, T=length, N=1, lengths=None), fused, one)
            row["ys"], row["d xs"] = row["ys"][:length], row["d xs"][:length]
            assert_same(row, without_weights(alone))


@given(cases(ragged=True), st.booleans())
def test_point_3_a_list_of_arrays_equals_the_padded_array(case, fused):
    case = replace(case, lengths=(case.T, *case.lengths[1:]))
    a = case.arrays()
    state = a["h0"], a["c0"]
    sequences = [a["xs"][:n, r] for r, n in enumerate(case.lengths)]

    def outputs(xs, lengths) -> dict:
        cell = case.cell()
        ys, (h, c) = mg.unfold(cell, xs, state, lengths, case.reverse, fused)
        ((ys * a["dys"]).sum() + (h * c).sum()).backward()
        grads = {k: p.grad.data for k, p in cell.named_parameters()}
        return {"ys": ys.data, "h": h.data, "c": c.data} | grads

    assert_same(outputs(sequences, None), outputs(a["xs"], case.lengths))


# --- 4: threads ----------------------------------------------------------------------------------

# Large enough for several threads, which need some 4 million multiply-adds each.
THREADED = [
    Case(np.float32, T=12, N=25, I=33, H=97),
    Case(np.float64, T=12, N=25, I=33, H=97),
    Case(np.float32, T=7, N=51, I=65, H=65, reverse=True),
    Case(np.float64, T=9, N=51, I=65, H=65, lengths=tuple(r % 10 for r in range(51))),
    Case(np.float32, T=1, N=203, I=97, H=97),
]


@pytest.mark.parametrize("case", THREADED, ids=str)
def test_point_4_threads_change_nothing(case):
    with using(threads=1):
        one = run(case)
    assert_same(one, run(case, fused=False))
    for threads in (2, 3, 5):
        with using(threads=threads):
            assert_same(one, run(case))


PRODUCTS = [(301, 97, 303), (1, 4099, 2053), (2053, 4099, 1), (7, 1300, 1301)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("m, k, n", PRODUCTS)
def test_point_4_threads_change_no_product(dtype, m, k, n):
    rng = np.random.default_rng(0)
    a, b, start = (rng.normal(size=s).astype(dtype) for s in ((m, k), (k, n), (m, n)))

    def results() -> dict:
        pairs = (a.T[:, None, :], b[:, None, :])  # k blocks of one row
        return {
            "matmul": kernels.matmul(a, b),
            "affine": kernels.affine(a, b.T, start),
            "products": kernels.products(*pairs),
        }

    with using(threads=1):
        one = results()
    for threads in (2, 3, 5):
        with using(threads=threads):
            assert_same(one, results())


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="no /proc to count threads in")
@pytest.mark.parametrize("door", ["product", "lstm"])
def test_point_4_the_sizes_above_do_engage_threads(door):
    calls = {
        "product": "kernels.matmul(np.ones((301, 97)), np.ones((97, 303)))",
        "lstm": "kernels.lstm_forward(np.ones((7, 51, 65)), h, h, w, w, w[:, 0])",
    }
    script = (
        "import os, numpy as np; from minigrad import kernels\n"
        "h, w = np.zeros((51, 65)), np.ones((260, 65))\n"
        "kernels.set_threads(2); before = len(os.listdir('/proc/self/task'))\n"
        f"{calls[door]}; print(len(os.listdir('/proc/self/task')) - before)\n"
    )
    made = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60
    )
    assert made.stdout == "1\n", made.stderr


# --- 5: instruction sets -------------------------------------------------------------------------


@given(cases())
@settings(max_examples=60)
@example(Case(np.float32, T=3, N=13, I=65, H=70))
@example(Case(np.float64, T=3, N=13, I=300, H=70))
def test_point_5_instruction_sets_give_the_same_lstm(case):
    with using(isa="generic"):
        expected = run(case)
    for isa in kernels.isas():
        with using(isa=isa):
            assert_same(expected, run(case))
            assert_same(expected, run(case, fused=False))


@given(DTYPES, *[st.integers(1, 40)] * 3, st.integers(1, 4), st.integers(0, 999))
@example(np.float32, 37, 530, 70, 2, 0)
@example(np.float64, 37, 530, 70, 2, 0)
def test_point_5_instruction_sets_give_the_same_products(dtype, m, k, n, blocks, seed):
    rng = np.random.default_rng(seed)
    shapes = {"a": (m, k), "b": (k, n), "start": (m, n), "bias": (n,)}
    shapes |= {"g": (blocks, k, m), "x": (blocks, k, n)}
    r = {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}

    def results() -> dict:
        return {
            "matmul": kernels.matmul(r["a"], r["b"]),
            "affine": kernels.affine(r["a"], r["b"].T, r["start"]),
            "affine, bias": kernels.affine(r["a"], r["b"].T, r["bias"]),
            "products": kernels.products(r["g"], r["x"]),
            "products, newest first": kernels.products(r["g"][::-1], r["x"][::-1]),
            "row sums": kernels.row_sums(r["x"]),
        }

    with using(isa="generic"):
        expected = results()
    for isa in kernels.isas():
        with using(isa=isa):
            assert_same(expected, results())


@pytest.mark.parametrize("name", ["exp", "log", "tanh", "sigmoid", "softplus"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_point_5_instruction_sets_give_the_same_functions(name, dtype):
    rng = np.random.default_rng(0)
    # any bits at all (NaN, infinities and denormals among them), and the range that matters
    x = np.frombuffer(rng.bytes(8 * 20_001), dtype)
    x = np.concatenate([x, rng.normal(scale=20, size=20_001).astype(dtype)])
    function = getattr(kernels, name)
    with using(isa="generic"):
        expected = function(x)
    for isa in kernels.isas():
        with using(isa=isa):
            assert_same({name: expected}, {name: function(x)})
            pieces = [function(x[i : i + 37]) for i in range(0, 999 * 37, 37)]
            assert_same({name: expected[: 999 * 37]}, {name: np.concatenate(pieces)})


# --- 6: schedules --------------------------------------------------------------------------------


@given(cases(ragged=False, steps=st.integers(2, 9)), st.data(), st.booleans(), st.booleans())
def test_point_6_fed_in_pieces_equals_fed_whole(case, data, fused, record):
    case = replace(case, reverse=False)
    cuts = data.draw(st.sets(st.integers(1, case.T - 1), min_size=1), label="cuts")
    a, cell = case.arrays(), case.cell()
    whole = run(case, fused)
    state, pieces = (a["h0"], a["c0"]), []
    with nullcontext() if record else mg.no_grad():
        for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), case.T], strict=True):
            ys, state = mg.unfold(cell, a["xs"][start:stop], state, fused=fused)
            state = mg.detach_state(state)
            pieces.append(ys.data)
    fed = {"ys": np.concatenate(pieces), "h": state[0].data, "c": state[1].data}
    assert_same({k: whole[k] for k in fed}, fed)
