"""Looking inside: provenance, locked arrays, what made a NaN, contributions by time step."""

import gc
import inspect
import threading
import weakref

import numpy as np
import pytest
from fused_cells import CELLS
from hypothesis import given
from hypothesis import strategies as st

import minigrad as mg
from minigrad.backward import gradients
from minigrad.debug import _REMEDIES, Where, observer
from minigrad.graph import Tensor, observers, registry


@pytest.fixture(autouse=True)
def nobody_looks_on():
    assert observers == {}
    yield
    assert observers == {}


def leaf(data, dtype=np.float64):
    return mg.tensor(data, dtype, requires_grad=True)


def behind(tensor) -> list:
    """The nodes of calls behind a tensor, oldest first."""
    seen, stack = set(), [tensor.node]
    while stack:
        node = stack.pop()
        if node.op is not None and node not in seen:
            seen.add(node)
            stack += [s[0] if isinstance(s, tuple) else s for s in node.sources if s is not None]
    return sorted(seen, key=lambda n: n.rank)


def line_of(function, text: str) -> int:
    lines, first = inspect.getsourcelines(function)
    return first + next(i for i, line in enumerate(lines) if text in line)


def caught(kind, call) -> list[str]:
    with np.errstate(all="ignore"), pytest.raises(kind) as error:
        call()
    lines = str(error.value).split("\n")
    assert len(lines) == 3 and lines[2].startswith("  remedy: ")
    return lines


class Leaky(mg.nn.Cell):
    def __init__(self):
        self.rate = mg.nn.Parameter(np.array([0.5, 0.25]))

    def initial_state(self, batch_size, dtype):
        return mg.tensor(np.zeros((batch_size, 2), dtype))

    def __call__(self, x, h):
        kept = self.rate * h
        h = kept + x
        return h, h


# --- off by default ------------------------------------------------------------------------------


def test_without_debug_nobody_looks_and_nothing_is_locked():
    cell = mg.nn.LSTMCell(2, 3, rng=0)
    xs = leaf(np.ones((4, 1, 2)))
    ys, _ = mg.unfold(cell, xs)
    assert len(behind(ys)) == 2  # the sum of the biases, and one fused call
    ys, _ = mg.unfold(cell, xs, fused=False)
    nodes = behind(ys)
    assert not any(hasattr(node, "where") for node in nodes)
    arrays = [v for n in nodes for v in (*n.values, *n.outs) if isinstance(v, np.ndarray)]
    assert all(a.flags.writeable for a in arrays)
    assert observer() is None


def test_blocks_nest_and_end_on_errors():
    with mg.debug():
        outer = observer()
        with mg.debug(nonfinite=False):
            assert observer() is not outer
        assert observer() is outer
        with pytest.raises(KeyError), mg.debug():
            raise KeyError
        assert observer() is outer
    assert observer() is None


def test_one_object_may_be_entered_twice():
    block = mg.debug()
    with block, block:
        assert observer() is not None
    assert observer() is None


def test_only_this_thread_is_looked_at():
    x = leaf([1.0])
    seen = []
    with mg.debug():
        thread = threading.Thread(target=lambda: seen.append(x * x))
        thread.start()
        thread.join()
        y = x * x
    assert not hasattr(seen[0].node, "where")
    assert y.node.where.file == __file__


# --- provenance ----------------------------------------------------------------------------------


def test_a_node_knows_the_line_that_made_it():
    x = leaf([1.0, 2.0])
    with mg.debug():
        y = x * x  # this one
    where = y.node.where
    line = line_of(test_a_node_knows_the_line_that_made_it, "this one")
    assert where == Where(file=__file__, line=line)
    assert str(where) == f"test_debug.py:{line}"


def test_through_layers_of_the_library_it_is_still_the_users_line():
    layer = mg.nn.Linear(2, 3, rng=0)
    with mg.debug():
        y = layer(np.ones((1, 2)))
        z = np.tanh(y)
    assert {n.where.file for n in behind(z)} == {__file__}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", [None, [3, 1]])
def test_a_cell_of_ones_own(reverse, lengths):
    cell = Leaky()
    with mg.debug():
        ys, _ = mg.unfold(cell, np.ones((4, 2, 2)), lengths=lengths, reverse=reverse)
    adds = [n for n in behind(ys) if n.op.name == "add"]
    true = [0, 1, 2, 3]
    if reverse:
        true = [2, 1, 0, 3] if lengths else [3, 2, 1, 0]
    assert [n.where.t for n in adds] == true
    assert {n.where.line for n in adds} == {line_of(Leaky.__call__, "kept + x")}
    where = adds[0].where
    direction = "reverse" if reverse else "forward"
    assert (where.file, where.cell, where.direction) == (__file__, "Leaky", direction)
    assert where.layer is None
    assert ys.node.where.t is None  # what gathers the steps belongs to none


def test_a_built_in_cell_is_named_by_its_own_line():
    from minigrad import cells

    layer = mg.nn.LSTM(2, 3, num_layers=2, bidirectional=True, rng=0)
    with mg.debug():
        ys, (h, _) = layer(np.ones((3, 1, 2)))
    found = [n.where for n in behind(ys) if n.op.name == "affine"]
    line = line_of(cells.lstm_step, "a = affine")
    assert {(w.file, w.line, w.cell) for w in found} == {(cells.__file__, line, "LSTMCell")}
    # two affines a step; layer by layer, forward, then backward in time
    expected = [
        (layer, direction, t)
        for layer in (0, 1)
        for direction, times in (("forward", (0, 1, 2)), ("reverse", (2, 1, 0)))
        for t in times
        for _ in range(2)
    ]
    assert [(w.layer, w.direction, w.t) for w in found] == expected
    assert str(found[-1]) == f"h(t=0), layer 1, reverse, cells.py:{line}"
    assert str(found[0]) == f"h(t=0), layer 0, cells.py:{line}"
    assert h.node.where.layer is None


def test_the_place_is_forgotten_after_an_error():
    class Failing(Leaky):
        def __call__(self, x, h):
            raise KeyError

    layer = mg.nn.RNN(2, 2, rng=0)
    layer.cells[0].begin = lambda: Failing()
    x, xs = leaf([1.0]), np.ones((2, 1, 2))
    with mg.debug():
        for call in (lambda: mg.unfold(Failing(), xs), lambda: layer(xs)):
            with pytest.raises(KeyError):
                call()
            y = x * x
            assert (y.node.where.t, y.node.where.cell, y.node.where.layer) == (None, None, None)


def test_errors_name_the_place():
    x = leaf([1.0])
    with mg.debug():
        y = mg.exp(x)
    y.sum().backward()
    where = y.node.where
    with pytest.raises(mg.GraphFreedError, match=rf"through exp \(test_debug.py:{where.line}\)"):
        (y * 2).sum().backward()


def test_second_derivatives_are_of_the_step_that_they_belong_to():
    xs = leaf(np.ones((3, 1, 2)))
    cell = mg.nn.RNNCell(2, 2, rng=0)
    with mg.debug():
        ys, _ = mg.unfold(cell, xs)
        loss = ys.sum()
        (g,) = gradients([loss], [xs], create_graph=True)
    made = [n.where for n in behind(g) if n.rank > loss.node.rank]
    assert {w.t for w in made} == {None, 0, 1, 2}
    assert {w.cell for w in made if w.t is not None} == {"RNNCell"}


@pytest.mark.parametrize("fused", ["auto", False, True])
def test_debug_changes_no_bit(fused):
    xs = np.random.default_rng(0).normal(size=(5, 3, 2))

    def results(block):
        layer = mg.nn.LSTM(2, 4, bidirectional=True, rng=0)
        with block:
            ys, (h, c) = layer(xs, lengths=[5, 0, 2], fused=fused)
            ((ys * ys).sum() + (h * c).sum()).backward()
        return [ys.data, h.data, c.data, *(p.grad.data for p in layer.parameters())]

    for a, b in zip(results(mg.set_grad_enabled(True)), results(mg.debug()), strict=True):
        assert np.array_equal(a, b)


# --- locked arrays -------------------------------------------------------------------------------


def test_a_saved_array_is_read_only_while_the_graph_lives():
    x, b = leaf([1.0, 2.0]), np.ones(2)
    with mg.debug():
        y = x * b
        for a in (x.data, b, y.data):
            with pytest.raises(ValueError, match="read-only"):
                a[0] = 5
        del y
        b[0] = x.data[0] = 5
        y = x * b
    b[0] = x.data[0] = y.data[0] = 6


def test_a_used_graph_lets_go_of_its_arrays():
    x = leaf([1.0, 2.0])
    with mg.debug():
        y = x * x
        loss = y.sum()
        loss.backward(retain_graph=True)
        assert not x.data.flags.writeable
        loss.backward()
        assert x.data.flags.writeable
        assert y.data.flags.writeable
        with pytest.raises(mg.GraphFreedError):
            loss.backward()


def test_an_array_is_held_by_all_nodes_together():
    x = leaf([1.0, 2.0])
    with mg.debug():
        y, z = x * 2, x * 3
        del y
        assert not x.data.flags.writeable
        del z
        assert x.data.flags.writeable


def test_flags_are_as_they_were():
    frozen, base = np.ones(2), np.ones((3, 2))
    frozen.flags.writeable = False
    x, view = leaf([1.0, 2.0]), base[1]
    with mg.debug():
        y = x * frozen + view + np.broadcast_to(1.0, (2,))
        z = y * Tensor.at(base, None)
        assert not view.flags.writeable
        with mg.debug():
            w = z * view
        assert not view.flags.writeable  # the inner block ends, the graph goes on
    assert view.flags.writeable and base.flags.writeable and w.data.flags.writeable
    assert not frozen.flags.writeable


def test_a_view_waits_for_its_base():
    xs = leaf(np.ones((3, 2)))
    with mg.debug():
        rows = mg.unstack(xs)
        keep = xs * 1.0
        arrays = [r.data for r in rows]
        inner = arrays[0][:1]  # read-only from its birth, and not ours
        del rows
        assert not any(a.flags.writeable for a in arrays)  # their base is needed still
        del keep
        assert all(a.flags.writeable for a in (*arrays, xs.data))
        assert not inner.flags.writeable
        keep = [xs * 1.0]
        keep += mg.unstack(xs)  # views of what is locked already are locked from birth
        arrays = [r.data for r in keep]
        spread = mg.broadcast_to(xs, (4, 3, 2))
    assert all(a.flags.writeable for a in (*arrays, xs.data))
    assert not spread.data.flags.writeable  # as NumPy has it


def test_flags_come_back_after_an_error():
    x = leaf([1.0, 0.0])
    with pytest.raises(mg.AnomalyError), mg.debug():
        mg.log(x * 1)
    assert x.data.flags.writeable


def test_lock_false_locks_nothing():
    x = leaf([1.0, 2.0])
    with mg.debug(lock=False):
        y = x * x
        x.data[0] = 3
    assert y.node.where is not None


def test_debug_keeps_nothing_alive():
    gc.collect()
    gc.disable()
    try:
        with mg.debug():
            x = leaf([1.0, 2.0])
            y = mg.exp(x)
            node, array = weakref.ref(y.node), weakref.ref(y.data)
            del y
            assert node() is None and array() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("fused", ["auto", True])
def test_training_goes_on_within_one_block(fused):
    def trained(block):
        layer = mg.nn.LSTM(2, 3, rng=0)
        optimizer = mg.optim.Adam(layer.parameters(), lr=0.1)
        with block:
            for _ in range(3):
                optimizer.zero_grad()
                ys, _ = layer(np.ones((4, 1, 2)), fused=fused)
                loss = (ys * ys).sum()
                loss.backward()
                mg.nn.utils.clip_grad_norm_(layer.parameters(), 0.1)
                optimizer.step()
        return [p.data for p in layer.parameters()]

    for a, b in zip(trained(mg.debug()), trained(mg.set_grad_enabled(True)), strict=True):
        assert np.array_equal(a, b)


def test_a_step_while_a_graph_needs_the_parameter():
    p, q = mg.nn.Parameter(np.ones(2)), mg.nn.Parameter(np.ones(3))
    optimizer = mg.optim.SGD([q, p], lr=1.0)
    with mg.debug():
        kept = p * 2
        (p.sum() + q.sum()).backward()
        lines = caught(mg.GradientError, optimizer.step)
        assert lines == [
            "SGD.step: parameter 1 (2,)",
            "  expected an array to change, got one that is read-only: within mg.debug() it is "
            "while a graph needs it",
            "  remedy: call backward first; detach what is kept of earlier steps, evaluate in "
            "no_grad()",
        ]
        assert q.data.tolist() == [1, 1, 1] and optimizer.steps == 0
        del kept
        optimizer.step()
    assert p.data.tolist() == [0, 0]


@pytest.mark.parametrize("which", ["argument 0", "output 0"])
def test_a_write_that_slips_through_a_view_is_seen_in_the_backward_pass(which):
    x = leaf([1.0, 2.0])
    view = x.data[:]
    with mg.debug():
        y = mg.exp(x)
        if which == "output 0":
            view = y.data
            view.flags.writeable = True
        view[0] = 7
        assert caught(mg.GradientError, lambda: y.backward(np.ones(2))) == [
            f"backward: through exp ({y.node.where}), {which}",
            "  expected the array float64 (2,) of the forward pass, got one that was written to "
            "since",
            "  remedy: write into a copy, or only after backward; look for writes through another "
            "view of the same memory",
        ]


# --- what made a NaN -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "op", "got", "remedy"),
    [
        (lambda x: mg.log(x), "log", "1 NaN and 1 -inf of 3", "take logarithms"),
        (lambda x: 1 / x, "divide", "1 inf of 3", "divide by what is never 0"),
        (lambda x: mg.sqrt(x), "sqrt", "1 NaN of 3", "take roots"),
        (lambda x: mg.exp(x * 1000), "exp", "1 inf of 3", "keep the argument small"),
        (lambda x: x**-0.5, "power", "1 NaN and 1 inf of 3", "raise what is above 0"),
        (lambda x: mg.arcsin(x * 2), "arcsin", "2 NaN of 3", "keep the argument inside"),
        (lambda x: x * 1e308 * 10, "multiply", "1 -inf of 3", "where values outgrow"),
    ],
)
@pytest.mark.parametrize("recording", [True, False])
def test_the_op_that_makes_a_nan_is_named(call, op, got, remedy, recording):
    x = leaf([-2.0, 0.0, 1.0])
    with mg.debug(), mg.set_grad_enabled(recording):
        lines = caught(mg.AnomalyError, lambda: call(x))
    line = call.__code__.co_firstlineno
    assert lines[0] == f"{op} (test_debug.py:{line}): its output"
    assert lines[1].startswith(
        f"  expected finite values, got {got}, from finite ones: argument 0 "
    )
    assert lines[2].startswith(f"  remedy: {remedy}")
    assert lines[2].endswith("; if it is meant, mg.debug(nonfinite=False) around it lets it pass")


def test_the_range_of_every_argument_is_told():
    x, y = leaf([[1.0, -2.5]]), np.array([0.0, 3.0])
    with mg.debug():
        lines = caught(mg.AnomalyError, lambda: x / y)
    assert lines[1] == (
        "  expected finite values, got 1 inf of 2, from finite ones: "
        "argument 0 float64 (1, 2) from -2.5 to 1; argument 1 float64 (2,) from 0 to 3"
    )


def test_one_of_several_outputs_is_named():
    op = mg.Op("halves", lambda x: (x, x / 0), vjp=lambda needs, g, out, x: [g[0]], multi=True)
    with mg.debug():
        lines = caught(mg.AnomalyError, lambda: op(leaf([1.0])))
    assert lines[0].endswith("): output 1") and lines[0].startswith("halves (")


def test_what_came_in_is_not_blamed_on_who_passes_it_on():
    x = leaf([1.0, np.nan, 3.0])
    with mg.debug():
        y = mg.where(np.array([True, False, True]), mg.tanh(x * 2), 0)
        y.sum().backward()
        assert np.isfinite(y.data).all()
        scores = leaf([1.0, 2.0])
        masked = mg.where(np.array([True, False]), scores, -np.inf)
        mg.log_softmax(masked)[0].backward()
    assert scores.grad.data.tolist() == [0, 0]


def test_padding_may_hold_anything():
    xs = np.ones((3, 2, 2))
    xs[1:, 1] = np.nan
    layer = mg.nn.GRU(2, 3, num_layers=2, bidirectional=True, rng=0)
    with mg.debug():
        ys, _ = layer(leaf(xs), lengths=[3, 1])
        ys.sum().backward()
    assert np.isfinite(ys.data).all()


def test_nonfinite_false_lets_it_pass():
    x = leaf([0.0])
    with mg.debug(), np.errstate(all="ignore"):
        with mg.debug(nonfinite=False):
            y = mg.log(x)
        assert np.isneginf(y.data).all()
        with pytest.raises(mg.AnomalyError):
            mg.log(x)


FLAT = ("sigmoid", "relu")  # cells that do not rest at 0, or have no slope there


# Of finite arguments a fused cell with bounded gates makes finite outputs: what overflows on the
# way is seen node by node alone.
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("fused", ["auto", False])
@pytest.mark.parametrize("name", CELLS)
def test_the_time_step_is_named_forward(name, fused, reverse):
    cell = CELLS[name](2, 3, rng=0)
    xs = np.ones((6, 1, 2))
    candidate = min(2, cell.gates - 1)
    cell.weight_ih.data[...] = np.where(
        np.arange(len(cell.weight_ih))[:, None] // 3 == candidate, 1e200, 0
    )
    xs[4] = [1e200, -1e200]
    with mg.debug():
        lines = caught(mg.AnomalyError, lambda: mg.unfold(cell, xs, reverse=reverse, fused=fused))
    way = ", reverse" if reverse else ""
    assert lines[0].startswith(f"affine (h(t=4){way}, cells.py:"), lines[0]
    assert lines[0].endswith("): its output")


def test_a_fused_op_is_looked_at_through_its_reference():
    op = mg.Op(
        "log_twice",
        lambda x, *, by: np.log(np.log(x) * by),
        vjp=lambda needs, g, out, x, *, by: [g / x / np.log(x)],
        reference=lambda x, *, by: mg.log(mg.log(x) * by),
    )
    x = leaf([1.0, 2.0])
    with mg.debug():
        lines = caught(mg.AnomalyError, lambda: op(x, by=3))
        assert lines[0].startswith("log (test_debug.py:") and "from 0 to 2.07944" in lines[1]
        y = op(leaf([2.0]), by=3)
        assert y.node.op is op


@pytest.mark.parametrize("fused", ["auto", False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("name", [name for name in CELLS if name.split()[-1] not in FLAT])
def test_the_time_step_is_named_backward(name, fused, reverse):
    # At rest (all gates half open, h 0) a step back multiplies the cotangent by 1e8, or by 1e8 / 4.
    cell = CELLS[name](2, 3, bias=False, rng=0)
    candidate = 3 * min(2, cell.gates - 1)
    cell.weight_hh.data[...] = 0
    cell.weight_hh.data[candidate : candidate + 3] = 1e8 * np.eye(3)
    with mg.debug():
        ys, _ = mg.unfold(cell, np.zeros((6, 1, 2)), reverse=reverse, fused=fused)
        lines = caught(mg.AnomalyError, (ys[3] * 1e300).sum().backward)
    way = "4), reverse" if reverse else "2)"
    assert lines[0].startswith(f"backward: the rule of affine (h(t={way}, cells.py:")
    assert lines[0].endswith(") for argument 0")
    assert lines[1].startswith("  expected finite values, got 3 inf of 3, from finite ones: cotan")


@pytest.mark.parametrize("record", [False, True])
def test_the_rule_that_makes_a_nan_is_named(record):
    x = leaf([4.0, 0.0])
    with mg.debug():
        y = mg.sqrt(x)  # finite; its slope at 0 is not
        lines = caught(mg.AnomalyError, lambda: y.sum().backward(create_graph=record))
    assert lines[0] == f"backward: the rule of sqrt ({y.node.where}) for argument 0"
    assert lines[1] == (
        "  expected finite values, got 1 inf of 2, from finite ones: "
        "cotangent float64 (2,) from 1 to 1; argument 0 float64 (2,) from 0 to 4"
    )
    assert lines[2].startswith("  remedy: take roots of what is above 0 alone")


def test_a_gradient_that_nobody_wants_is_not_looked_at():
    x, y = leaf([-1.0]), leaf([2.0])
    with mg.debug():
        z = x**y  # the slope along y is NaN
        (g,) = gradients([z.sum()], [x])
        assert g.tolist() == [-2.0]
        caught(mg.AnomalyError, z.sum().backward)


def test_remedies_are_for_ops_that_there_are():
    assert set(_REMEDIES) <= set(registry)


# --- contributions -------------------------------------------------------------------------------


def whole(size, *shape, seed=0):
    """Whole numbers: their sums are exact in any order."""
    return np.random.default_rng(seed).integers(-size, size + 1, shape).astype(np.float64)


def in_order(found) -> np.ndarray:
    total = found[0].array
    for c in found[1:]:
        total = total + c.array
    return total


class Linear(mg.nn.Cell):
    """h(t) = V x(t) + b + U h(t-1), exact in whole numbers."""

    def __init__(self):
        self.V, self.U = mg.nn.Parameter(whole(2, 3, 2)), mg.nn.Parameter(whole(1, 3, 3, seed=1))
        self.b = mg.nn.Parameter(whole(2, 3, seed=2))

    def initial_state(self, batch_size, dtype):
        return mg.tensor(np.ones((batch_size, 3), dtype))

    def __call__(self, x, h):
        h = mg.affine(h, self.U, mg.affine(x, self.V, self.b))
        return h, h


@pytest.mark.parametrize("name", ["V", "U", "b"])
@pytest.mark.parametrize("reverse", [False, True])
def test_each_step_contributes_its_term(name, reverse):
    cell, xs, g = Linear(), whole(2, 5, 4, 2), whole(2, 5, 4, 3, seed=3)
    with mg.debug():
        ys, _ = mg.unfold(cell, xs, reverse=reverse)
    found = mg.contributions(ys, getattr(cell, name), g)
    steps = list(range(5)) if reverse else [4, 3, 2, 1, 0]  # newest first
    assert [c.t for c in found] == steps
    assert all(c.op == "affine" and c.where.cell == "Linear" for c in found)
    # the equations by hand: the cotangent of h(t), then the term of step t
    dh, order = np.zeros((4, 3)), steps
    for c, t in zip(found, order, strict=True):
        dh = g[t] + dh @ cell.U.data
        before = t + 1 if reverse else t - 1
        h = ys.data[before] if 0 <= before < 5 else np.ones((4, 3))
        term = {"V": dh.T @ xs[t], "U": dh.T @ h, "b": dh.sum(0)}[name]
        assert np.array_equal(c.array, term), t
    ys.backward(g)
    assert np.array_equal(in_order(found), getattr(cell, name).grad.data)


def test_terms_that_are_plain_arrays_add_up_to_the_bit():
    cell, xs = Leaky(), np.random.default_rng(0).normal(size=(30, 3, 2))
    ys, _ = mg.unfold(cell, xs)
    loss = mg.exp(ys).sum()
    found = mg.contributions(loss, cell.rate)
    assert len(found) == 30
    assert {(c.t, c.op, c.where) for c in found} == {(None, "multiply", None)}
    loss.backward()
    assert np.array_equal(in_order(found), cell.rate.grad.data)


@given(st.integers(1, 40), st.integers(0, 99), st.sampled_from(["RNN", "LSTM", "GRU"]))
def test_gathered_terms_add_up_within_their_rounding(steps, seed, kind):
    # One row: each term is one product, so that the sum of T of them, by any order of additions,
    # is off by at most gamma(T) times the sum of their sizes, and so is the gradient's one chain.
    cell = getattr(mg.nn, kind + "Cell")(2, 3, rng=seed)
    xs = np.random.default_rng(seed).normal(size=(steps, 1, 2))
    ys, _ = mg.unfold(cell, xs)
    loss = (ys * ys).sum()
    terms = {name: mg.contributions(loss, p) for name, p in cell.named_parameters()}
    loss.backward()
    u = np.finfo(float).eps / 2
    gamma = (steps + 1) * u / (1 - (steps + 1) * u)
    for name, p in cell.named_parameters():
        found = terms[name]
        assert len(found) == steps, name
        bound = 2 * gamma * sum(np.abs(c.array) for c in found)
        assert (np.abs(in_order(found) - p.grad.data) <= bound).all(), name


@pytest.mark.parametrize("reverse", [False, True])
def test_a_fused_graph_contributes_what_the_unfolded_one_does(reverse):
    cell, xs = mg.nn.LSTMCell(2, 3, rng=0), np.random.default_rng(0).normal(size=(5, 2, 2))
    found = {}
    for fused in (True, False):
        with mg.debug():
            ys, _ = mg.unfold(cell, xs, reverse=reverse, fused=fused, lengths=[5, 3])
        found[fused] = [
            mg.contributions(ys.sum(), p) for p in (cell.weight_ih, cell.weight_hh, cell.bias_ih)
        ]
    for a, b in zip(found[True], found[False], strict=True):
        assert [c.t for c in a] == [c.t for c in b] == sorted(range(5), reverse=not reverse)
        for c, d in zip(a, b, strict=True):
            assert np.array_equal(c.array, d.array)
            assert (c.where.line, c.where.direction) == (d.where.line, d.where.direction)


def test_looking_at_contributions_changes_nothing():
    cell = mg.nn.LSTMCell(2, 3, rng=0)
    ys, _ = mg.unfold(cell, np.ones((4, 1, 2)))
    loss = ys.sum()
    first = mg.contributions(loss, cell.weight_hh)
    again = mg.contributions(loss, cell.weight_hh)
    assert all(np.array_equal(a.array, b.array) for a, b in zip(first, again, strict=True))
    assert all(p.grad is None for p in cell.parameters())
    first[0].array[...] = 7  # it is the caller's own
    loss.backward()
    fresh, _ = mg.unfold(other := mg.nn.LSTMCell(2, 3, rng=0), np.ones((4, 1, 2)))
    fresh.sum().backward()
    for p, q in zip(cell.parameters(), other.parameters(), strict=True):
        assert np.array_equal(p.grad.data, q.grad.data)


def test_an_error_puts_the_graph_back():
    def fail(g, out, x):
        raise KeyError

    x = leaf([1.0, 2.0])
    y = mg.Op("fails", lambda x: x + 0, vjps=[fail])(x * x)
    sources = list(y.node.sources[0].sources)
    with pytest.raises(KeyError):
        mg.contributions(y.sum(), x)
    assert list(y.node.sources[0].sources) == sources


def test_both_arguments_of_a_call_and_uses_without_gradient():
    x = leaf([3.0])
    y = x * x + x
    assert [(c.op, c.array.tolist()) for c in mg.contributions(y, x)] == [
        ("add", [1.0]), ("multiply", [3.0]), ("multiply", [3.0]),
    ]  # fmt: skip
    assert mg.contributions(x * 1.0, leaf([1.0])) == []
    assert mg.contributions(x, x) == []


def test_a_parameter_used_once_has_one_term():
    x, w = leaf(np.ones((2, 3))), leaf(np.ones((4, 3)))
    h = x @ w.T
    assert len(mg.contributions((h * h).sum(), w)) == 1
    once = w * np.full((4, 3), 2.0)
    (term,) = mg.contributions((once * once).sum(), w)
    assert (term.op, term.array.tolist()) == ("multiply", [[8.0] * 3] * 4)


def test_what_contributions_refuses():
    x = leaf([1.0])
    y = (x * x).sum()
    assert caught(mg.GradientError, lambda: mg.contributions(y, mg.tensor([1.0]))) == [
        "contributions: to a tensor that needs no gradient",
        "  expected a parameter, or another tensor with requires_grad=True",
        "  remedy: create it with requires_grad=True",
    ]
    with pytest.raises(mg.GradientError, match="several elements"):
        mg.contributions(leaf([1.0, 2.0]) * 2, x)
    y.backward()
    with pytest.raises(mg.GraphFreedError):
        mg.contributions(y, x)


def test_a_contribution_says_what_it_is():
    cell = Leaky()
    with mg.debug():
        ys, _ = mg.unfold(cell, np.ones((2, 1, 2)))
    line = line_of(Leaky.__call__, "self.rate * h")
    assert repr(mg.contributions(ys.sum(), cell.rate)[0]) == (
        f"<Contribution of multiply (h(t=1), test_debug.py:{line}): float64 (2,)>"
    )


def test_a_recurrence_that_vanishes():
    cell = Leaky()
    with mg.debug():
        _, h = mg.unfold(cell, np.ones((20, 1, 2)) * [[[0.5, 0.75]]], np.ones((1, 2)))
    for c in mg.contributions(h.sum(), cell.rate):
        assert c.array.tolist() == [0.5 ** (19 - c.t), 0.25 ** (19 - c.t)]
