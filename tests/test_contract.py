"""The bit contract for every cell with a fused path, point by point: every element equal, never a
tolerance.

NaN counts as equal to NaN, and -0 to 0. The sizes are no multiples of a vector, nor of a tile.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import pytest
from fused_cells import CELLS, kind_of, op_of, parts, states
from hypothesis import example, given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import kernels
from minigrad.backward import gradients
from minigrad.cells import GatedCell
from minigrad.unfold import FUSED

pytestmark = pytest.mark.native

DTYPES = st.sampled_from([np.float32, np.float64])
SIZES = st.sampled_from([1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 33, 65])
GIVEN = ("xs", "h0", "c0")  # of which an RNN and a GRU have no c0


@dataclass(frozen=True)
class Case:
    """A cell and a batch for it; equal cases hold equal numbers."""

    name: str  # in CELLS
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

    def cell(self) -> GatedCell:
        rng = np.random.default_rng(self.seed)
        cell = CELLS[self.name](self.I, self.H, self.bias, dtype=self.dtype, rng=rng)
        for p in cell.parameters():
            p.data[...] = self.gain * rng.normal(size=p.shape)
        return cell

    @property
    def states(self) -> tuple[str, ...]:
        """The parts of the state."""
        return states(self.name)

    @property
    def outputs(self) -> tuple[str, ...]:
        return "ys", *self.states

    @property
    def inputs(self) -> tuple[str, ...]:
        """All that a gradient can be asked for."""
        weights = [name for name, _ in self.cell().named_parameters()]
        return ("xs", *(s + "0" for s in self.states), *weights)

    def arrays(self) -> dict[str, np.ndarray]:
        """Inputs, and a cotangent `d...` for each output."""
        rng = np.random.default_rng(self.seed + 1)
        sequence, state = (self.T, self.N, self.H), (self.N, self.H)
        shapes = {"xs": (self.T, self.N, self.I)} | {s + "0": state for s in self.states}
        shapes |= {"dys": sequence, "dys[-1]": state} | {"d" + s: state for s in self.states}
        return {name: rng.normal(size=shape).astype(self.dtype) for name, shape in shapes.items()}

    def state(self, arrays: dict):
        """The parts of the state among `arrays` in the form that the cell has."""
        first = tuple(arrays[s + "0"] for s in self.states)
        return first if len(first) > 1 else first[0]

    def padding(self) -> np.ndarray:
        """True (T, N) where a row has ended."""
        return np.arange(self.T)[:, None] >= np.asarray(self.lengths)


def each(*examples: tuple) -> Callable:
    """The examples for each cell; each is a Case without its name, and what else a test takes."""

    def explicit(test):
        made = [(Case(name, *case), *rest) for name in CELLS for case, *rest in examples]
        return reduce(lambda test, arguments: example(*arguments)(test), made, test)

    return explicit


@st.composite
def cases(draw, ragged: bool | None = None, rows=st.integers(1, 13), steps=st.integers(1, 9)):
    name = draw(st.sampled_from(list(CELLS)))
    T, N = draw(steps), draw(rows)
    lengths = None
    if draw(st.booleans()) if ragged is None else ragged:
        lengths = tuple(draw(st.lists(st.integers(0, T), min_size=N, max_size=N)))
    return Case(
        name, draw(DTYPES), T, N, draw(SIZES), draw(SIZES), draw(st.booleans()),
        draw(st.booleans()), lengths, draw(st.sampled_from([0.3, 3.0])), draw(st.integers(0, 999)),
    )  # fmt: skip


def run(case: Case, fused=True, arrays=None, use=None, wanted=None) -> dict:
    """Outputs, and the gradients `d ...` of the inputs in `wanted` for cotangents of `use`: of all
    unless they are given."""
    a = case.arrays() if arrays is None else arrays
    use = case.outputs if use is None else use
    cell = case.cell()
    wanted = case.inputs if wanted is None else wanted
    inputs = {k: mg.tensor(a[k], requires_grad=k in wanted) for k in GIVEN if k in a}
    for name, p in cell.named_parameters():
        p.requires_grad = name in wanted
        inputs[name] = p
    ys, last = mg.unfold(cell, inputs["xs"], case.state(inputs), case.lengths, case.reverse, fused)
    outputs = {"ys": ys} | dict(zip(case.states, parts(last), strict=True))
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


def test_every_cell_with_a_fused_path_is_tried():
    assert {op_of(name) for name in CELLS} == set(FUSED.values())


# --- 1: fused = unfolded -------------------------------------------------------------------------


@given(cases())
@each(
    ((np.float32, 1, 1, 1, 1),),
    ((np.float64, 1, 1, 3, 5, True, True),),
    ((np.float32, 4, 3, 5, 7, True, False, (0, 0, 0)),),
    ((np.float32, 2, 3, 300, 260),),  # a sum longer than one block of the product
)
def test_point_1_fused_equals_unfolded(case):
    assert_same(run(case, fused=True), run(case, fused=False))


def some_used_and_wanted(case, use, wanted):
    results = [run(case, fused, use=use, wanted=wanted) for fused in (True, False)]
    assert_same(*results)
    assert all(results[0][f"d {k}"] is not None for k in wanted)


@given(cases(), st.data())
@settings(max_examples=150)
def test_point_1_some_outputs_used_some_inputs_wanted(case, data):
    outputs = st.sampled_from([*case.outputs, "ys[-1]"])
    use = data.draw(st.lists(outputs, min_size=1, max_size=3, unique=True), label="use")
    wanted = data.draw(st.sets(st.sampled_from(case.inputs), min_size=1), label="wanted")
    some_used_and_wanted(case, use, wanted)


@pytest.mark.parametrize("name", CELLS)
def test_point_1_one_output_used_or_one_input_wanted(name):
    case = Case(name, np.float32, 3, 2, 5, 7)
    for use in (*case.outputs, "ys[-1]"):
        some_used_and_wanted(case, [use], case.inputs)
    for wanted in case.inputs:
        some_used_and_wanted(replace(case, dtype=np.float64), ["ys"], [wanted])


@given(cases(), st.integers(1, 5), st.sampled_from(["before", "between", "after"]))
def test_point_1_one_cell_for_two_sequences_with_a_penalty(case, steps, place):
    decoder = replace(case, T=steps, lengths=None, seed=case.seed + 7).arrays()
    a = case.arrays()

    def train(fused) -> dict:
        cell = case.cell()
        leaves = {k: mg.tensor(a[k], requires_grad=True) for k in GIVEN if k in a}
        zs = mg.tensor(decoder["xs"], requires_grad=True)
        terms = []

        def penalty(at):
            if at == place:
                terms.append((cell.weight_hh * cell.weight_hh).sum() * 0.01)

        penalty("before")
        start = case.state(leaves)
        ys, state = mg.unfold(cell, leaves["xs"], start, case.lengths, case.reverse, fused)
        terms.append((ys * a["dys"]).sum())
        penalty("between")
        ws, last = mg.unfold(cell, zs, state, fused=fused)
        terms += [(ws * decoder["dys"]).sum(), (parts(last)[0] * parts(last)[-1]).sum()]
        penalty("after")
        loss = terms[0]
        for term in terms[1:]:
            loss = loss + term
        loss.backward()
        leaves |= {"zs": zs, **dict(cell.named_parameters())}
        return {"loss": loss.data} | {k: t.grad.data for k, t in leaves.items()}

    assert_same(train(True), train(False))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("lengths", [None, [5, 0, 3, 1]], ids=["full", "ragged"])
@pytest.mark.parametrize(
    "kind, options",
    [
        (mg.nn.LSTM, {}),
        (mg.nn.LSTM, {"peephole": True, "candidate": "sigmoid"}),
        (mg.nn.GRU, {}),
        (mg.nn.GRU, {"reset": "before"}),
        (mg.nn.RNN, {}),
        (mg.nn.RNN, {"nonlinearity": "relu"}),
    ],
    ids=lambda x: x.__name__ if isinstance(x, type) else " ".join(map(str, x.values())) or "plain",
)
def test_point_1_layers_in_depth_and_in_both_directions(kind, options, dtype, lengths):
    rng = np.random.default_rng(0)
    data = rng.normal(size=(5, 4, 7)).astype(dtype)

    def train(fused) -> dict:
        layer = kind(7, 9, num_layers=2, bidirectional=True, dtype=dtype, rng=3, **options)
        xs = mg.tensor(data, requires_grad=True)
        ys, last = layer(xs, lengths=lengths, fused=fused)
        h, c = parts(last)[0], parts(last)[-1]
        ((ys * ys).sum() + (h * c).sum()).backward()
        grads = {k: p.grad.data for k, p in layer.named_parameters()}
        return {"ys": ys.data, "h": h.data, "c": c.data, "d xs": xs.grad.data} | grads

    assert_same(train(True), train(False))


@given(cases())
def test_point_1_inference_equals_training(case):
    trained, a = run(case), case.arrays()
    for fused in (True, False):
        with mg.no_grad():
            ys, last = mg.unfold(
                case.cell(), a["xs"], case.state(a), case.lengths, case.reverse, fused
            )
        assert not ys.requires_grad
        found = dict(zip(case.outputs, (ys, *parts(last)), strict=True))
        assert_same({k: trained[k] for k in found}, {k: t.data for k, t in found.items()})


# --- 2: row independence -------------------------------------------------------------------------

TIME_FIRST = {"xs", "dys", "ys", "d xs"}


def take_rows(arrays: dict, rows: list[int]) -> dict:
    """Some rows of everything that has rows."""
    return {k: v[:, rows] if k in TIME_FIRST else v[rows] for k, v in arrays.items()}


def without_weights(results: dict) -> dict:
    kept = {f"d {name}" for name in GIVEN}
    return {k: v for k, v in results.items() if not k.startswith("d ") or k in kept}


@given(cases(), st.data(), st.booleans())
def test_point_2_a_row_is_the_same_alone_and_in_any_batch(case, data, fused):
    rows = data.draw(st.lists(st.integers(0, case.N - 1), min_size=1, max_size=4), label="rows")
    lengths = None if case.lengths is None else tuple(case.lengths[r] for r in rows)
    few = replace(case, N=len(rows), lengths=lengths)
    alone = run(few, fused, take_rows(case.arrays(), rows))
    together = run(case, fused)
    assert_same(without_weights(alone), take_rows(without_weights(together), rows))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", CELLS)
def test_point_2_one_row_of_a_large_batch(name, dtype):
    case = Case(name, dtype, T=3, N=203, I=5, H=17)
    together = without_weights(run(case))
    for r in (0, 96, 101, 202):  # the first group of rows, its end, the middle, the last
        alone = run(replace(case, N=1), arrays=take_rows(case.arrays(), [r]))
        assert_same(without_weights(alone), take_rows(together, [r]))


# --- 3: ragged = padded --------------------------------------------------------------------------


@given(cases(ragged=True), st.booleans(), st.sampled_from([np.nan, np.inf, -np.inf, 1e30]))
@each(
    ((np.float32, 3, 3, 2, 5, True, False, (0, 3, 1)), True, np.nan),
    ((np.float32, 3, 3, 2, 5, True, True, (0, 3, 1)), False, np.nan),
)
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
            unchanged = {s: a[s + "0"] for s in case.states}
            unchanged |= {f"d {s}0": a["d" + s] for s in case.states}
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
    state = case.state(a)
    sequences = [a["xs"][:n, r] for r, n in enumerate(case.lengths)]

    def outputs(xs, lengths) -> dict:
        cell = case.cell()
        ys, last = mg.unfold(cell, xs, state, lengths, case.reverse, fused)
        ((ys * a["dys"]).sum() + (parts(last)[0] * parts(last)[-1]).sum()).backward()
        grads = {k: p.grad.data for k, p in cell.named_parameters()}
        found = dict(zip(case.outputs, (ys, *parts(last)), strict=True))
        return {k: t.data for k, t in found.items()} | grads

    assert_same(outputs(sequences, None), outputs(a["xs"], case.lengths))


# --- 4: threads ----------------------------------------------------------------------------------

# A part of a layer is worth a thread from a million multiply-adds on, over all its steps. Layers
# are cut into rows; into units where rows are few, or where the weights fill more than a cache.
BY_ROWS, BY_UNITS = (61, 33, 97), (3, 65, 325)  # N, I, H; three rows could be cut in one part only
OF_ITS_THREADS = {"rows": BY_ROWS, "units": BY_UNITS}


def enough_steps(name: str, N: int, H: int, parts: int = 5) -> int:
    """As many steps as make work for these parts, forward and backward."""
    kind = kind_of(name)
    return parts * 1_000_000 // (N * H * H * (kind.recurrent + kind.second)) + 1


def threaded(name: str) -> Iterator[Case]:
    N, I, H = BY_ROWS  # noqa: E741
    T = enough_steps(name, N, H)
    yield Case(name, np.float32, T, N, I, H)
    yield Case(name, np.float64, T, N, I, H, lengths=tuple(r % (T + 1) for r in range(N)))
    N, I, H = BY_UNITS  # noqa: E741
    T = enough_steps(name, N, H)
    yield Case(name, np.float64, T, N, I, H, reverse=True)
    yield Case(name, np.float32, T, N, I, H, lengths=(T // 2, T, 0))
    yield Case(name, np.float32, enough_steps(name, 25, 97), 25, 33, 97)  # by rows, from 3 by units
    yield Case(name, np.float32, 1, 403, 257, 97)  # the sums with x alone make the work


THREADED = [case for name in CELLS for case in threaded(name)]


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


ENGAGED = """
import os
import numpy as np
from fused_cells import CELLS, arguments, kind_of
from minigrad import kernels, recurrent
from test_contract import OF_ITS_THREADS, enough_steps

def product():
    a, b = np.ones((301, 97)), np.ones((97, 303))
    return lambda: kernels.matmul(a, b)

def layer(name, back, N, I, H):
    kind, T = kind_of(name), enough_steps(name, N, H)
    args = arguments(kind, T, N, I, H)
    run = lambda: recurrent.forward(kind, True, None, args)
    if not back:
        return run
    outs, saved = run()
    return lambda: recurrent.backward(kind, outs, None, args, outs[0], saved)

def made(call, threads):  # a forked child begins with no threads but its own
    readable, writable = os.pipe()
    if os.fork() == 0:
        try:
            kernels.set_threads(threads)
            call()
            os.write(writable, str(len(os.listdir("/proc/self/task"))).encode())
        finally:
            os._exit(0)
    os.close(writable)
    os.wait()
    return int(os.read(readable, 9))

kernels.set_threads(1)
print("product", made(product(), 2))
for name in CELLS:
    for cut, sizes in OF_ITS_THREADS.items():
        for back in (False, True):
            call = layer(name, back, *sizes)
            print(name, cut, back, *[made(call, threads) for threads in (2, 3, 5)])
"""


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="no /proc to count threads in")
def test_point_4_the_sizes_above_do_engage_threads():
    made = subprocess.run(
        [sys.executable, "-c", ENGAGED],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    expected = [
        f"{name} {cut} {back} 2 3 5"
        for name in CELLS
        for cut in OF_ITS_THREADS
        for back in (False, True)
    ]
    assert made.stdout.splitlines() == ["product 2", *expected], made.stderr


# --- 5: instruction sets -------------------------------------------------------------------------


@given(cases())
@settings(max_examples=60)
@each(((np.float32, 3, 13, 65, 70),), ((np.float64, 3, 13, 300, 70),))
def test_point_5_instruction_sets_give_the_same_layer(case):
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
    state, pieces = case.state(a), []
    with nullcontext() if record else mg.no_grad():
        for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), case.T], strict=True):
            ys, state = mg.unfold(cell, a["xs"][start:stop], state, fused=fused)
            state = mg.detach_state(state)
            pieces.append(ys.data)
    fed = {"ys": np.concatenate(pieces)}
    fed |= {s: t.data for s, t in zip(case.states, parts(state), strict=True)}
    assert_same({k: whole[k] for k in fed}, fed)
