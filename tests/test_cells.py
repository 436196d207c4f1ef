"""One step of each cell, against its equations written out by hand."""

from __future__ import annotations

import inspect
import itertools

import numpy as np
import pytest

import minigrad as mg
from minigrad import cells
from minigrad.errors import DtypeError, ShapeError, UsageError
from minigrad.graph import Tensor, registry

I, H, N = 3, 5, 4  # noqa: E741
U = np.finfo(float).eps / 2


def sigma(x):
    return 1 / (1 + np.exp(-x))


def arguments(gates: int, biases: int, seed=0) -> list[np.ndarray]:
    """x, h, c, W, U and biases."""
    rng = np.random.default_rng(seed)
    shapes = [(N, I), (N, H), (N, H), (gates * H, I), (gates * H, H)] + biases * [(gates * H,)]
    return [rng.normal(size=shape) for shape in shapes]


def bound(*args) -> float:
    """How far two ways of computing a step may lie apart, in float64.

    A pre-activation is a sum of I + H + 2 products, so each way errs by (I + H + 2) u times the
    sum of absolute values, which is at most the largest row sum times the largest input. Each of
    at most 8 operations after it adds at most 4 u, and no gate is steeper than 1, nor multiplies
    by more than 1 + |state|.
    """
    x, h, c, w, u, *b = args
    state = 1 + max(np.abs(h).max(), np.abs(c).max())
    row = np.abs(w).sum(1).max() * np.abs(x).max() + np.abs(u).sum(1).max() * state
    magnitude = row + sum(np.abs(bias).max() for bias in b)
    return 2 * 4 * state * ((I + H + 2) * U * magnitude + 32 * U)


# The equations, with one matrix for each gate: the gates' places in W are written in `slots`.


def rnn_by_hand(x, h, c, w, u, bx, bh, function=np.tanh):
    return function(x @ w.T + bx + h @ u.T + bh)


def lstm_by_hand(x, h, c, w, u, b, slots="ifgo", *, candidate=np.tanh, p=(0, 0, 0), peeps="ifo"):
    z = {g: (x @ w.T + h @ u.T + b)[:, k * H : (k + 1) * H] for k, g in enumerate(slots)}
    p = dict(zip(peeps, p, strict=True))
    f, i = sigma(z["f"] + p["f"] * c), sigma(z["i"] + p["i"] * c)
    c = f * c + i * candidate(z["g"])
    return sigma(z["o"] + p["o"] * c) * np.tanh(c), c


def positive_part(x):
    return np.where(x.real > 0, x, 0)


def gru_by_hand(x, h, c, w, u, bx, bh, slots="rzn", reset="after"):
    zx = {g: (x @ w.T + bx)[:, k * H : (k + 1) * H] for k, g in enumerate(slots)}
    zh = {g: (h @ u.T + bh)[:, k * H : (k + 1) * H] for k, g in enumerate(slots)}
    r, z = sigma(zx["r"] + zh["r"]), sigma(zx["z"] + zh["z"])
    k = slots.index("n")
    rows = slice(k * H, (k + 1) * H)
    recurrent = r * zh["n"] if reset == "after" else (r * h) @ u[rows].T + bh[rows]
    return (1 - z) * np.tanh(zx["n"] + recurrent) + z * h


def within(got, expected, tolerance) -> bool:
    return bool((np.abs(got - expected) <= tolerance).all())


@pytest.mark.parametrize("seed", range(5))
def test_rnn_step_is_its_equation(seed):
    args = arguments(1, 2, seed)
    x, h, _, w, u, bx, bh = args
    y, state = cells.rnn_step(x, h, w, u, bx, bh)
    assert y is state
    assert within(y, rnn_by_hand(*args), bound(*args))


@pytest.mark.parametrize("seed", range(5))
def test_lstm_step_is_its_equations(seed):
    args = arguments(4, 1, seed)
    x, h, c, w, u, b = args
    y, (new_h, new_c) = cells.lstm_step(x, (h, c), w, u, b)
    by_hand = lstm_by_hand(*args)
    assert y is new_h
    assert within(new_h, by_hand[0], bound(*args)) and within(new_c, by_hand[1], bound(*args))


@pytest.mark.parametrize("seed", range(5))
def test_gru_step_is_its_equations(seed):
    args = arguments(3, 2, seed)
    x, h, _, w, u, bx, bh = args
    y, state = cells.gru_step(x, h, w, u, bx, bh)
    assert y is state
    assert within(y, gru_by_hand(*args), bound(*args))


def test_no_other_order_of_gates_and_no_other_reset_fits():
    args = arguments(4, 1)
    x, h, c, w, u, b = args
    _, (new_h, _) = cells.lstm_step(x, (h, c), w, u, b)
    fitting = [
        "".join(slots)
        for slots in itertools.permutations("ifgo")
        if within(lstm_by_hand(*args, slots)[0], new_h, 1e-3)
    ]
    assert fitting == ["ifgo"] == [cells.LSTM_GATES]

    args = arguments(3, 2)
    x, h, c, w, u, bx, bh = args
    new_h, _ = cells.gru_step(x, h, w, u, bx, bh)
    fitting = [
        "".join(slots)
        for slots in itertools.permutations("rzn")
        if within(gru_by_hand(*args, slots), new_h, 1e-3)
    ]
    assert fitting == ["rzn"] == [cells.GRU_GATES]
    assert not within(gru_by_hand(*args, reset="before"), new_h, 1e-3)


def exactly(*args) -> list[np.ndarray]:
    return [a.astype(np.longdouble) for a in args]


@pytest.mark.parametrize("seed", range(5))
def test_rnn_relu_step_is_its_equation(seed):
    args = arguments(1, 2, seed)
    x, h, _, w, u, bx, bh = args
    y, state = cells.rnn_relu_step(x, h, w, u, bx, bh)
    assert y is state and (y == 0).any() and (y > 1).any()
    assert within(y, rnn_by_hand(*exactly(*args), positive_part), bound(*args))


def peepholes(seed=0) -> list[np.ndarray]:
    return list(np.random.default_rng([seed, 1]).normal(size=(3, H)))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("peephole", [False, True])
@pytest.mark.parametrize("candidate", [np.tanh, sigma])
def test_variants_of_the_lstm_are_their_equations(seed, peephole, candidate):
    """An error of c moves a gate that looks at it by p / 4 at most, beside all that `bound` has."""
    args, p = arguments(4, 1, seed), peepholes(seed) if peephole else []
    x, h, c, w, u, b = args
    name = "lstm" + "_peephole" * peephole + "_sigmoid" * (candidate is sigma) + "_step"
    y, (new_h, new_c) = getattr(cells, name)(x, (h, c), w, u, b, *p)
    by_hand = lstm_by_hand(
        *exactly(*args), candidate=candidate, p=exactly(*p) if peephole else (0, 0, 0)
    )
    tolerance = bound(*args) * (1 + max(np.abs(v).max() for v in peepholes(seed)))
    assert y is new_h and tolerance < 1e-10
    assert within(new_h, by_hand[0], tolerance) and within(new_c, by_hand[1], tolerance)


def test_no_other_order_of_peepholes_fits():
    args, p = arguments(4, 1), peepholes()
    x, h, c, w, u, b = args
    _, (new_h, _) = cells.lstm_peephole_step(x, (h, c), w, u, b, *p)
    fitting = [
        "".join(order)
        for order in itertools.permutations("ifo")
        if within(lstm_by_hand(*args, p=p, peeps=order)[0], new_h, 1e-3)
    ]
    assert fitting == ["ifo"] == [cells.LSTM_PEEPHOLES]


def nodes_of(*outputs: Tensor) -> list[str]:
    """The names of the ops behind tensors, in the order in which they were called."""
    seen, stack = set(), [t.node for t in outputs]
    while stack:
        node = stack.pop()
        if node is not None and node.op is not None and node not in seen:
            seen.add(node)
            stack += [s[0] if isinstance(s, tuple) else s for s in node.sources]
    return [node.op.name for node in sorted(seen, key=lambda node: node.rank)]


def tensors(arrays) -> list[Tensor]:
    return [mg.tensor(a, requires_grad=True) for a in arrays]


def test_the_order_of_operations_is_fixed():
    """The order of nodes decides in which order contributions to a gradient are added up."""
    x, h, c, w, u, b, *p = tensors([*arguments(4, 1), *peepholes()])
    gates = ["affine", "affine", "split"]
    keep = ["multiply", "multiply", "add"]
    look = ["scale", "add", "sigmoid"]
    for step, candidate in (
        (cells.lstm_step, "tanh"), (cells.lstm_sigmoid_step, "sigmoid"),
    ):  # fmt: skip
        y, _ = step(x, (h, c), w, u, b)
        three = ["sigmoid", "sigmoid", candidate, "sigmoid"]
        assert nodes_of(y) == [*gates, *three, *keep, "tanh", "multiply"]
    for step, candidate in (
        (cells.lstm_peephole_step, "tanh"), (cells.lstm_peephole_sigmoid_step, "sigmoid"),
    ):  # fmt: skip
        y, _ = step(x, (h, c), w, u, b, *p)
        assert nodes_of(y) == [
            *("identity", *gates, *look, *look, candidate),
            *(*keep, *look, "tanh", "multiply"),
        ]
    x, h, _, w, u, bx, bh = tensors(arguments(3, 2))
    y, _ = cells.gru_step_before(x, h, w, u[: 2 * H], u[2 * H :], bx, bh[: 2 * H], bh[2 * H :])
    assert [n for n in nodes_of(y) if n != "getitem"] == [
        *("identity", "affine", "split", "affine", "split"),
        *("add", "sigmoid", "add", "sigmoid"),
        *("multiply", "affine", "add", "tanh"),
        *("subtract", "multiply", "multiply", "add"),
    ]


STEPS = [
    pytest.param(cells.rnn_step, 1, 2, 0, id="rnn"),
    pytest.param(cells.rnn_relu_step, 1, 2, 0, id="rnn relu"),
    pytest.param(cells.lstm_step, 4, 1, 0, id="lstm"),
    pytest.param(cells.lstm_sigmoid_step, 4, 1, 0, id="lstm sigmoid"),
    pytest.param(cells.lstm_peephole_step, 4, 1, 3, id="lstm peephole"),
    pytest.param(cells.lstm_peephole_sigmoid_step, 4, 1, 3, id="lstm peephole sigmoid"),
    pytest.param(cells.gru_step, 3, 2, 0, id="gru"),
]
every_step = pytest.mark.parametrize("step, gates, biases, looks", STEPS)


def state_for(step, h, c):
    return (h, c) if "lstm" in step.__name__ else h


@every_step
def test_a_step_serves_arrays_and_tensors_with_the_same_bits(step, gates, biases, looks):
    x, h, c, *weights = [*arguments(gates, biases), *peepholes()[:looks]]
    state = state_for(step, h, c)
    y, new = step(x, state, *weights)
    assert isinstance(y, np.ndarray)
    z, new_z = step(x, state, *tensors(weights))
    assert isinstance(z, Tensor) and z.requires_grad
    assert np.array_equal(y, z.data)
    last = lambda s: s[1] if isinstance(s, tuple) else s  # noqa: E731
    assert np.array_equal(last(new), last(new_z).data)


@every_step
def test_a_step_sends_a_gradient_to_every_argument(step, gates, biases, looks):
    args = tensors([*arguments(gates, biases), *peepholes()[:looks]])
    x, h, c, *weights = args
    y, _ = step(x, state_for(step, h, c), *weights)
    y.sum().backward()
    for i, a in enumerate(args):
        if a is c and "lstm" not in step.__name__:
            assert a.grad is None
        elif step is cells.rnn_relu_step:
            assert np.abs(a.grad.data).max() > 0, i  # units that rest send none
        else:
            assert np.abs(a.grad.data).min() > 0, i


# From arguments, complex ones too, to what a step puts out and keeps.
BY_HAND = {
    cells.rnn_relu_step: lambda x, h, c, *w: (rnn_by_hand(x, h, c, *w, positive_part), 0),
    cells.lstm_sigmoid_step: lambda *a: lstm_by_hand(*a, candidate=sigma),
    cells.lstm_peephole_step: lambda *a: lstm_by_hand(*a[:6], p=a[6:]),
    cells.lstm_peephole_sigmoid_step: lambda *a: lstm_by_hand(*a[:6], p=a[6:], candidate=sigma),
}


@pytest.mark.parametrize(
    "step, gates, biases, looks", [case for case in STEPS if case.values[0] in BY_HAND]
)
def test_gradients_of_variants_are_those_of_a_complex_step(step, gates, biases, looks):
    """Along a direction v, d loss = Im loss(p + i eps v) / eps, exact but for rounding: some 50
    roundings lie on each path, of terms that are below 8 here, which add up over N H outputs."""
    arrays = [*arguments(gates, biases), *peepholes()[:looks]]
    args = tensors(arrays)
    x, h, c, *weights = args
    y, state = step(x, state_for(step, h, c), *weights)
    loss = (y * y).sum()
    if isinstance(state, tuple):
        loss = loss + (state.c * state.c * state.c).sum()
    loss.backward()
    for i, a in enumerate(args):
        if a.grad is None:
            continue
        v = np.random.default_rng(30 + i).normal(size=a.shape)
        moved = [b + 1e-30j * v if j == i else b for j, b in enumerate(arrays)]
        new_h, new_c = BY_HAND[step](*moved)
        slope = ((new_h**2).sum() + np.sum(new_c**3)).imag / 1e-30
        terms = np.abs(a.grad.data * v).sum()
        assert abs((a.grad.data * v).sum() - slope) <= 50 * 8 * N * H * U * (1 + terms), i


# --- the bit contract, of what has no fused path too ---------------------------------------------

VARIANTS = {
    "rnn": (mg.nn.RNNCell, {}),
    "rnn relu": (mg.nn.RNNCell, {"nonlinearity": "relu"}),
    "lstm": (mg.nn.LSTMCell, {}),
    "lstm sigmoid": (mg.nn.LSTMCell, {"candidate": "sigmoid"}),
    "lstm peephole": (mg.nn.LSTMCell, {"peephole": True}),
    "lstm peephole sigmoid": (mg.nn.LSTMCell, {"peephole": True, "candidate": "sigmoid"}),
    "gru": (mg.nn.GRUCell, {}),
    "gru before": (mg.nn.GRUCell, {"reset": "before"}),
}
LENGTHS = np.array([6, 3, 0, 4])
T = 6


def unfolded(cell, xs, state, lengths, weigh=1.0):
    """What a cell puts out, its last state, and the gradients of xs and of the first state."""
    xs, first = mg.tensor(xs, requires_grad=True), tensors(state)
    start = tuple(first) if len(first) > 1 else first[0]
    ys, last = mg.unfold(cell, xs, start, lengths, fused=False)
    parts = last if isinstance(last, tuple) else (last,)
    loss = (ys * ys * weigh).sum()
    for k, part in enumerate(parts):
        loss = loss + ((k + 2) * part * part * part).sum()
    loss.backward()
    return [ys.data, *[s.data for s in parts]], [xs.grad.data, *[s.grad.data for s in first]]


def sequence_for(name, dtype):
    kind, options = VARIANTS[name]
    rng = np.random.default_rng(3)
    cell = kind(I, H, dtype=dtype, rng=4, **options)
    states = 1 + (kind is mg.nn.LSTMCell)
    xs = rng.normal(size=(T, N, I)).astype(dtype)
    return cell, xs, [rng.normal(size=(N, H)).astype(dtype) for _ in range(states)]


@pytest.mark.native
@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_row_has_the_same_gradient_alone_and_beside_rows_of_other_lengths(name, dtype):
    cell, xs, state = sequence_for(name, dtype)
    outs, grads = unfolded(cell, xs, state, LENGTHS)
    for n, length in enumerate(LENGTHS):
        if not length:
            continue
        row = slice(n, n + 1)
        alone, own = unfolded(cell, xs[:length, row], [s[row] for s in state], None)
        assert np.array_equal(alone[0], outs[0][:length, row])
        assert np.array_equal(own[0], grads[0][:length, row])
        for one, all_rows in zip(alone[1:] + own[1:], outs[1:] + grads[1:], strict=True):
            assert np.array_equal(one, all_rows[row])


@pytest.mark.parametrize("name", VARIANTS)
def test_what_stands_in_the_padding_changes_nothing(name):
    cell, xs, state = sequence_for(name, np.float64)
    dirty, past = xs.copy(), np.arange(T)[:, None] >= LENGTHS
    dirty[past] = np.nan
    found = []
    for given in (xs, dirty):
        cell.zero_grad()
        outs, grads = unfolded(cell, given, state, LENGTHS)
        found.append([*outs, *grads, *[p.grad.data for p in cell.parameters()]])
    for clean, padded in zip(*found, strict=True):
        assert np.array_equal(clean, padded)
    assert not found[1][len(state) + 1][past].any()  # the gradient of the padding


def test_the_gradient_of_a_peephole_is_one_chain_over_all_rows_of_all_steps(monkeypatch):
    cell, xs, state = sequence_for("lstm peephole", np.float64)
    summed, op = [], registry["row_sums"]

    def kept(*rows, forward=op.forward):
        summed.append((rows, forward(*rows)))
        return summed[-1][1]

    monkeypatch.setattr(op, "forward", kept)
    unfolded(cell, xs, state, None)
    assert [len(rows) for rows, _ in summed] == [T] * 4  # the bias, p_i, p_f and p_o
    totals = [total for rows, total in summed if total.shape == (H,)]
    found = cell.weight_ch.grad.data.reshape(3, H)
    assert sorted(map(tuple, totals)) == sorted(map(tuple, found))


# --- the cells -----------------------------------------------------------------------------------

CELLS = [(mg.nn.RNNCell, 1), (mg.nn.LSTMCell, 4), (mg.nn.GRUCell, 3)]


@pytest.mark.parametrize("kind, gates", CELLS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_cell_has_the_names_and_shapes_of_pytorch(kind, gates, dtype):
    cell = kind(I, H, dtype=dtype, rng=0)
    assert [(k, v.shape, v.dtype) for k, v in cell.state_dict().items()] == [
        ("weight_ih", (gates * H, I), dtype),
        ("weight_hh", (gates * H, H), dtype),
        ("bias_ih", (gates * H,), dtype),
        ("bias_hh", (gates * H,), dtype),
    ]
    assert list(kind(I, H, bias=False).state_dict()) == ["weight_ih", "weight_hh"]


@pytest.mark.parametrize("kind, gates", CELLS)
def test_a_cell_is_its_step(kind, gates):
    cell = kind(I, H, rng=0)
    x, h, c, *_ = arguments(gates, 1)
    w, u, bx, bh = cell.state_dict().values()
    if kind is mg.nn.LSTMCell:
        y, (new_h, new_c) = cell(x, (h, c))
        expected = cells.lstm_step(x, (h, c), w, u, bx + bh)[1]
        assert np.array_equal(new_h.data, expected[0]) and np.array_equal(new_c.data, expected[1])
    else:
        y, new_h = cell(x, h)
        step = cells.rnn_step if kind is mg.nn.RNNCell else cells.gru_step
        assert np.array_equal(new_h.data, step(x, h, w, u, bx, bh)[0])
    assert np.array_equal(y.data, new_h.data)


@pytest.mark.parametrize("kind, gates", CELLS)
def test_without_a_bias_a_cell_adds_nothing(kind, gates):
    bare, full = kind(I, H, bias=False, rng=0), kind(I, H, rng=0)
    full.bias_ih.data[...] = full.bias_hh.data[...] = 0
    x, h, c, *_ = arguments(gates, 1)
    state = (h, c) if kind is mg.nn.LSTMCell else h
    assert np.array_equal(bare(x, state)[0].data, full(x, state)[0].data)


@pytest.mark.parametrize("kind, gates", CELLS)
def test_initial_states_are_zeros_of_the_right_kind(kind, gates):
    state = kind(I, H, rng=0).initial_state(N, np.float32)
    parts = state if isinstance(state, tuple) else (state,)
    assert len(parts) == (2 if kind is mg.nn.LSTMCell else 1)
    for part in parts:
        assert isinstance(part, Tensor) and not part.requires_grad
        assert part.shape == (N, H) and part.dtype == np.float32 and not part.data.any()


@pytest.mark.parametrize("kind, gates", CELLS)
def test_weights_are_drawn_from_the_seed_within_their_bounds(kind, gates):
    first, again, other = (kind(I, 16, rng=seed).state_dict() for seed in (0, 0, 1))
    for name, value in first.items():
        assert np.array_equal(value, again[name]) and not np.array_equal(value, other[name])
        assert 0.15 < np.abs(value).max() <= 1 / 4  # uniform in +-1/sqrt(16)
    rng = np.random.default_rng(0)
    one, two = kind(I, H, rng=rng), kind(I, H, rng=rng)
    assert not np.array_equal(one.weight_ih.data, two.weight_ih.data)


@pytest.mark.parametrize("name", VARIANTS)
def test_options_change_the_step_and_no_weight(name):
    kind, options = VARIANTS[name]
    plain, cell = kind(I, H, rng=0), kind(I, H, rng=0, **options)
    expected = {
        "rnn": cells.rnn_step,
        "rnn relu": cells.rnn_relu_step,
        "lstm": cells.lstm_step,
        "lstm sigmoid": cells.lstm_sigmoid_step,
        "lstm peephole": cells.lstm_peephole_step,
        "lstm peephole sigmoid": cells.lstm_peephole_sigmoid_step,
        "gru": cells.gru_step,
        "gru before": cells.gru_step_before,
    }
    assert cell.step is expected[name]
    for key, value in plain.state_dict().items():
        assert np.array_equal(cell.state_dict()[key], value)
    added = set(cell.state_dict()) - set(plain.state_dict())
    assert added == ({"weight_ch"} if "peephole" in name else set())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bias", [True, False])
def test_peepholes_are_drawn_last_and_lie_as_said(dtype, bias):
    cell = mg.nn.LSTMCell(I, 16, bias, peephole=True, dtype=dtype, rng=np.random.default_rng(0))
    *_, (name, p) = cell.named_parameters()
    assert (name, p.shape, p.dtype) == ("weight_ch", (3 * 16,), dtype)
    assert 0.15 < np.abs(p.data).max() <= 1 / 4
    drawn = np.random.default_rng(0).uniform(-1, 1, 64 * (I + 16 + 2 * bias) + 48) / 4
    assert np.array_equal(p.data, drawn[-48:].astype(dtype))
    *_, p_i, p_f, p_o = cell.weights()
    assert np.array_equal(np.concatenate([p_i.data, p_f.data, p_o.data]), p.data)


@pytest.mark.parametrize(
    "make, what, expected, remedy",
    [
        (
            lambda: mg.nn.RNNCell(I, H, nonlinearity="gelu"),
            "RNNCell: nonlinearity",
            'expected "tanh" or "relu", got \'gelu\'',
            "write a Cell of your own for another function: see mg.nn.Cell",
        ),
        (
            lambda: mg.nn.LSTM(I, H, candidate=None),
            "LSTMCell: candidate",
            'expected "tanh" or "sigmoid", got None',
            '"tanh" for weights from PyTorch, cuDNN or Keras, "sigmoid" for the form of the book',
        ),
        (
            lambda: mg.nn.LSTMCell(I, H, peephole="ifo"),
            "LSTMCell: peephole",
            "expected True or False, got 'ifo'",
            "with True, the gates i, f and o look at the cell",
        ),
        (
            lambda: mg.nn.RNN(I, H, 1, "relu"),  # where PyTorch has the nonlinearity
            "RNNCell: bias",
            "expected True or False, got 'relu'",
            "pass other options by name: nonlinearity, for one, has another place in PyTorch",
        ),
    ],
)
def test_options_that_there_are_not(make, what, expected, remedy):
    with pytest.raises(UsageError) as caught:
        make()
    assert str(caught.value).split("\n") == [what, f"  {expected}", f"  remedy: {remedy}"]


def test_a_cell_must_be_written():
    cell = mg.nn.Cell()
    with pytest.raises(NotImplementedError, match=r"^Cell must define initial_state$"):
        cell.initial_state(1, float)
    with pytest.raises(NotImplementedError, match=r"^Cell must define __call__$"):
        cell(np.ones((1, 1)), np.ones((1, 1)))


@pytest.mark.parametrize("kind, gates", CELLS)
def test_a_step_that_does_not_fit_is_refused(kind, gates):
    cell = kind(I, H, rng=0)
    x, h, c, *_ = arguments(gates, 1)
    state = (h, c) if kind is mg.nn.LSTMCell else h
    with pytest.raises(ShapeError, match=r"got \(4, 2\) and \(\d+, 3\)"):
        cell(x[:, :2], state)
    with pytest.raises(
        DtypeError, match="expected float32 like the arguments before it, got float64"
    ):
        cell(x.astype(np.float32), state)


def test_the_equations_stand_in_the_docstrings():
    steps = [name for name in vars(cells) if name.endswith("_step") or "_step_" in name]
    assert len(steps) == 8
    for name in steps:
        text = inspect.getdoc(getattr(cells, name))
        assert "h(t) = " in text and "Source: " in text
