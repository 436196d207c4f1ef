"""Recurrent layers: PyTorch's names, shapes and layouts; layers and directions wired like its."""

from __future__ import annotations

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import ShapeError, StateDictError, UsageError
from minigrad.graph import Tensor

T, N, I, H = 5, 4, 3, 2  # noqa: E741
KINDS = {mg.nn.RNN: 1, mg.nn.LSTM: 4, mg.nn.GRU: 3}  # and how many gates they have
kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
U = np.finfo(float).eps / 2


def normal(*shape, seed=0, dtype=np.float64) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def parts(state) -> tuple:
    return state if isinstance(state, tuple) else (state,)


def sigma(x):
    return 1 / (1 + np.exp(-x))


def step_by_hand(kind, x, state, w, u, bx, bh):
    """One step of a layer of one row, in NumPy: the new state, h first."""
    zx, zh = w @ x + bx, u @ state[0] + bh
    if kind is mg.nn.RNN:
        return (np.tanh(zx + zh),)
    if kind is mg.nn.LSTM:
        i, f, g, o = np.split(zx + zh, 4)
        c = sigma(f) * state[1] + sigma(i) * np.tanh(g)
        return sigma(o) * np.tanh(c), c
    (rx, zx_, nx), (rh, zh_, nh) = np.split(zx, 3), np.split(zh, 3)
    z = sigma(zx_ + zh_)
    return ((1 - z) * np.tanh(nx + sigma(rx + rh) * nh) + z * state[0],)


def layers_by_hand(kind, weights, xs, states, lengths, layers, directions):
    """A stack of layers, row by row: outputs (T, N, D H), final states [part][layer * D + d]."""
    final = [np.empty((layers * directions, *states[0].shape[1:])) for _ in states]
    outputs = np.zeros((*xs.shape[:2], directions * H))
    for r, n in enumerate(lengths):
        below = xs[:n, r]
        for layer in range(layers):
            above = np.empty((n, directions * H))
            for d in range(directions):
                suffix = f"_l{layer}" + ("_reverse" if d else "")
                names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                p = [weights[name + suffix] for name in names]
                k = layer * directions + d
                state = tuple(s[k, r] for s in states)
                for t in reversed(range(n)) if d else range(n):
                    state = step_by_hand(kind, below[t], state, *p)
                    above[t, d * H : (d + 1) * H] = state[0]
                for part, value in zip(final, state, strict=True):
                    part[k, r] = value
            below = above
        outputs[:n, r] = below
    return outputs, final


def bound(weights: dict, xs, states, steps: int) -> float:
    """How far two ways of computing all layers may lie apart, in float64.

    A step errs by at most `first`: sums of K terms err by K u each, the few operations of the cell
    by 32 u, scaled by the state. It multiplies an error of its inputs by at most `grow`.
    """
    rows = max(np.abs(w).sum(1).max() for k, w in weights.items() if "weight" in k)
    state = 1 + max(np.abs(s).max() for s in states) + steps
    k = max(w.shape[1] for name, w in weights.items() if "weight" in name)
    first = 2 * state * (2 * (k + 2) * U * rows * (np.abs(xs).max() + state) + 32 * U)
    grow = 1 + rows / 2
    return first * grow**steps


@kinds
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("lengths", [None, (5, 3, 0, 1)], ids=["full", "ragged"])
@pytest.mark.parametrize("fused", ["auto", False])
def test_layers_are_their_equations_row_by_row(kind, layers, bidirectional, lengths, fused):
    directions = 1 + bidirectional
    layer = kind(I, H, layers, bidirectional=bidirectional, rng=0)
    weights, xs = layer.state_dict(), normal(T, N, I)
    states = [normal(layers * directions, N, H, seed=s) for s in range(1 + (kind is mg.nn.LSTM))]
    given = tuple(states) if kind is mg.nn.LSTM else states[0]
    ys, last = layer(xs, given, lengths, fused)
    expected, final = layers_by_hand(
        kind, weights, xs, states, lengths or [T] * N, layers, directions
    )
    tolerance = bound(weights, xs, states, layers * T)
    assert tolerance < 1e-7  # far below any real difference
    assert np.abs(ys.data - expected).max() <= tolerance
    for part, value in zip(parts(last), final, strict=True):
        assert part.shape == value.shape and np.abs(part.data - value).max() <= tolerance


@kinds
@pytest.mark.parametrize("bias", [True, False])
def test_the_state_dict_is_that_of_pytorch(kind, bias):
    layer = kind(I, H, num_layers=2, bias=bias, bidirectional=True, dtype=np.float32, rng=0)
    rows, expected = KINDS[kind] * H, []
    for number, width in enumerate((I, 2 * H)):
        for suffix in (f"_l{number}", f"_l{number}_reverse"):
            expected += [(f"weight_ih{suffix}", (rows, width)), (f"weight_hh{suffix}", (rows, H))]
            if bias:
                expected += [(f"bias_ih{suffix}", (rows,)), (f"bias_hh{suffix}", (rows,))]
    assert [(k, v.shape) for k, v in layer.state_dict().items()] == expected
    assert {v.dtype for v in layer.state_dict().values()} == {np.dtype(np.float32)}


@kinds
def test_a_state_dict_moves_all_there_is_to_a_layer(kind):
    one, two = (kind(I, H, num_layers=2, bidirectional=True, rng=seed) for seed in (0, 1))
    xs = normal(T, N, I)
    assert not np.array_equal(one(xs)[0].data, two(xs)[0].data)
    two.load_state_dict(one.state_dict())
    assert np.array_equal(one(xs)[0].data, two(xs)[0].data)
    with pytest.raises(StateDictError, match="weight_ih_l1 is missing"):
        two.load_state_dict(kind(I, H).state_dict())


@kinds
def test_every_parameter_gets_a_gradient(kind):
    layer = kind(I, H, num_layers=2, bidirectional=True, rng=0)
    layer(normal(T, N, I))[0].sum().backward()
    for name, p in layer.named_parameters():
        assert np.abs(p.grad.data).max() > 0, name


@kinds
def test_states_go_layer_by_layer_forward_before_backward(kind):
    layer = kind(I, H, num_layers=2, bidirectional=True, rng=0)
    ys, last = layer(normal(T, N, I))
    h = parts(last)[0]
    assert h.shape == (4, N, H) and ys.shape == (T, N, 2 * H)
    # the top layer's last states are its outputs at the end and at the beginning
    assert np.array_equal(h.data[2], ys.data[-1, :, :H])
    assert np.array_equal(h.data[3], ys.data[0, :, H:])


@kinds
@pytest.mark.parametrize("lengths", [None, [5, 3, 0, 1]])
def test_batch_first_exchanges_the_first_two_axes_of_sequences_only(kind, lengths):
    layers = [
        kind(I, H, 2, batch_first=first, bidirectional=True, rng=0) for first in (False, True)
    ]
    xs = normal(T, N, I)
    (ys, last), (zs, end) = (
        layers[0](xs, None, lengths),
        layers[1](xs.swapaxes(0, 1), None, lengths),
    )
    assert np.array_equal(ys.data, zs.data.swapaxes(0, 1))
    for a, b in zip(parts(last), parts(end), strict=True):
        assert a.shape == (4, N, H) and np.array_equal(a.data, b.data)
    again = [layer(x, s)[0].data for layer, x, s in (
        (layers[0], xs, last), (layers[1], xs.swapaxes(0, 1), end),
    )]  # fmt: skip
    assert np.array_equal(again[0], again[1].swapaxes(0, 1))


@kinds
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_list_of_sequences_is_the_padded_batch(kind, batch_first):
    layer = kind(I, H, 2, batch_first=batch_first, bidirectional=True, rng=0)
    lengths, xs = [5, 3, 0, 1], normal(T, N, I)
    batch = xs.swapaxes(0, 1) if batch_first else xs
    ys, last = layer(batch, lengths=lengths)
    zs, end = layer([xs[:n, r] for r, n in enumerate(lengths)])
    assert np.array_equal(ys.data, zs.data)
    for a, b in zip(parts(last), parts(end), strict=True):
        assert np.array_equal(a.data, b.data)


@kinds
def test_padding_reaches_no_layer(kind):
    layer = kind(I, H, 2, bidirectional=True, rng=0)
    lengths, xs = [5, 3, 0, 1], normal(T, N, I)
    dirty, past = xs.copy(), np.arange(T)[:, None] >= lengths
    dirty[past] = np.nan
    (ys, last), (zs, end) = layer(xs, lengths=lengths), layer(dirty, lengths=lengths)
    assert np.array_equal(ys.data, zs.data) and not zs.data[past].any()
    for a, b in zip(parts(last), parts(end), strict=True):
        assert np.array_equal(a.data, b.data)


@kinds
def test_the_state_carries_over(kind):
    layer = kind(I, H, 2, rng=0)
    xs = normal(T, N, I)
    whole, last = layer(xs)
    first, state = layer(xs[:2])
    second, end = layer(xs[2:], mg.detach_state(state))
    close = np.array_equal if mg.show_config()["backend"] == "c" else np.allclose
    assert close(whole.data, np.concatenate([first.data, second.data]))
    for a, b in zip(parts(last), parts(end), strict=True):
        assert close(a.data, b.data)


def test_the_dtype_and_the_seed_are_those_given():
    for dtype in (np.float32, np.float64):
        layers = [mg.nn.LSTM(I, H, 2, dtype=dtype, rng=seed) for seed in (5, 5, 6)]
        ys, (h, c) = layers[0](normal(T, N, I, dtype=dtype))
        assert ys.dtype == h.dtype == c.dtype == dtype
        same, other = (
            [np.array_equal(a.data, b.data) for a, b in zip(
                layers[0].parameters(), layer.parameters(), strict=True
            )] for layer in layers[1:]
        )  # fmt: skip
        assert all(same) and not any(other)
    weights = list(mg.nn.LSTM(I, H, bidirectional=True, rng=0).state_dict().values())
    assert not np.array_equal(weights[0], weights[4])  # each cell draws its own


def test_the_fused_path_can_be_asked_for_and_refused():
    xs = normal(T, N, I)
    one, two = (mg.nn.LSTM(I, H, rng=0)(xs, fused=fused)[0] for fused in (True, "auto"))
    assert np.array_equal(one.data, two.data)

    class Other(mg.nn.GRUCell):
        def __call__(self, x, state):
            return super().__call__(x, state)

    with pytest.raises(UsageError, match="fused=True for Other"):
        mg.nn.Recurrent(Other(I, H))(xs, fused=True)


# --- variants of the cells, through their layers -------------------------------------------------

VARIANTS = {
    "rnn relu": (mg.nn.RNN, {"nonlinearity": "relu"}),
    "lstm sigmoid": (mg.nn.LSTM, {"candidate": "sigmoid"}),
    "lstm peephole": (mg.nn.LSTM, {"peephole": True}),
    "lstm peephole sigmoid": (mg.nn.LSTM, {"peephole": True, "candidate": "sigmoid"}),
    "gru before": (mg.nn.GRU, {"reset": "before"}),
}
variants = pytest.mark.parametrize("name", VARIANTS)


@variants
def test_options_reach_every_cell(name):
    kind, options = VARIANTS[name]
    layer = kind(I, H, 2, bidirectional=True, rng=0, **options)
    for cell in layer.cells:
        assert {k: getattr(cell, k) for k in options} == options
    xs = normal(T, N, I)
    ys, last = layer(xs, lengths=[5, 3, 0, 1])
    for layer_number in range(2):
        outputs = [
            mg.unfold(cell, xs, lengths=[5, 3, 0, 1], reverse=bool(d))
            for d, cell in enumerate(layer.cells[2 * layer_number : 2 * layer_number + 2])
        ]
        xs = np.concatenate([o.ys.data for o in outputs], axis=-1)
    assert np.array_equal(ys.data, xs)
    top = parts(outputs[1].state)[0]
    assert np.array_equal(parts(last)[0].data[3], top.data)


@variants
def test_variants_train(name):
    kind, options = VARIANTS[name]
    layer = kind(I, H, num_layers=2, bidirectional=True, rng=1, **options)
    layer(normal(T, N, I))[0].sum().backward()
    for parameter, p in layer.named_parameters():
        assert np.abs(p.grad.data).max() > 0, parameter


def test_peepholes_have_names_like_the_other_weights():
    layer = mg.nn.LSTM(I, H, 2, peephole=True, bidirectional=True, rng=0)
    plain = mg.nn.LSTM(I, H, 2, bidirectional=True, rng=0)
    added = {k: v.shape for k, v in layer.state_dict().items() if k not in plain.state_dict()}
    suffixes = ("l0", "l0_reverse", "l1", "l1_reverse")
    assert added == {f"weight_ch_{suffix}": (3 * H,) for suffix in suffixes}
    with pytest.raises(StateDictError, match="weight_ch_l0 is missing"):
        layer.load_state_dict(plain.state_dict())


def test_without_peepholes_it_is_the_plain_lstm():
    """c times 0 is 0, and adds nothing: the same bits, on another path."""
    layer, plain = (mg.nn.LSTM(I, H, peephole=p, rng=0) for p in (True, False))
    layer.load_state_dict(plain.state_dict() | {"weight_ch_l0": np.zeros(3 * H)})
    close = np.array_equal if mg.show_config()["backend"] == "c" else np.allclose
    assert close(layer(normal(T, N, I))[0].data, plain(normal(T, N, I))[0].data)


# --- dropout between layers ----------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("lengths", [None, [5, 3, 0, 1]])
def test_dropout_acts_between_layers_and_nowhere_else(kind, bidirectional, lengths):
    """The layer is its layers, one by one, with `Dropout` on the way: the same bits."""
    layer = kind(I, H, 3, dropout=0.5, bidirectional=bidirectional, rng=0)
    drop = mg.nn.Dropout(0.5)
    drop.rng.bit_generator.state = layer.dropout.rng.bit_generator.state
    xs = mg.tensor(normal(T, N, I), requires_grad=True)
    alone = mg.tensor(xs.data, requires_grad=True)
    (ys, last), below, ends = layer(xs, lengths=lengths), alone, []
    for number in range(3):
        width = I if number == 0 else H * (1 + bidirectional)
        one = kind(width, H, bidirectional=bidirectional)
        one.load_state_dict({
            k.replace(f"_l{number}", "_l0"): v
            for k, v in layer.state_dict().items()
            if f"_l{number}" in k
        })  # fmt: skip
        below, end = one(below, lengths=lengths)
        ends.append(end)
        if number < 2:
            below = drop(below)
    assert np.array_equal(ys.data, below.data)
    for i, part in enumerate(parts(last)):
        whole = np.concatenate([parts(end)[i].data for end in ends])
        assert np.array_equal(part.data, whole)
    (ys * ys).sum().backward()
    (below * below).sum().backward()
    assert np.array_equal(xs.grad.data, alone.grad.data)


@kinds
def test_dropout_is_of_training_and_leaves_the_weights_of_a_seed(kind):
    layer, plain = kind(I, H, 2, dropout=0.5, rng=0), kind(I, H, 2, rng=0)
    for one, two in zip(layer.parameters(), plain.parameters(), strict=True):
        assert np.array_equal(one.data, two.data)
    assert list(layer.state_dict()) == list(plain.state_dict())
    xs = normal(T, N, I)
    expected = plain(xs)[0].data
    assert not np.array_equal(layer(xs)[0].data, expected)
    layer.eval()
    assert np.array_equal(layer(xs)[0].data, expected)
    layer.train()
    assert not np.array_equal(layer(xs)[0].data, expected)


@kinds
def test_the_masks_of_a_layer_come_from_its_seed(kind):
    xs = normal(T, N, I)
    one, two = (kind(I, H, 2, dropout=0.5, rng=3) for _ in range(2))
    first, second = one(xs)[0].data, one(xs)[0].data
    assert not np.array_equal(first, second)
    assert np.array_equal(two(xs)[0].data, first) and np.array_equal(two(xs)[0].data, second)
    turned = kind(I, H, 2, dropout=0.5, batch_first=True, rng=3)
    assert np.array_equal(turned(xs.swapaxes(0, 1))[0].data, first.swapaxes(0, 1))


@kinds
def test_dropout_of_everything_leaves_a_layer_without_inputs(kind):
    layer = kind(I, H, 2, dropout=1.0, rng=0)
    ys, _ = layer(normal(T, N, I))
    zs, _ = layer(normal(T, N, I, seed=1))
    assert np.array_equal(ys.data, zs.data)


# --- any cell as a layer -------------------------------------------------------------------------


class Sum(mg.nn.Cell):
    def initial_state(self, batch_size, dtype):
        return Tensor(np.zeros((batch_size, I), dtype))

    def __call__(self, x, state):
        return state + x, state + x


@pytest.mark.parametrize("reverse", [False, True])
def test_recurrent_runs_any_cell(reverse):
    layer = mg.nn.Recurrent(Sum(), reverse=reverse)
    xs = np.arange(60.0).reshape(T, N, I)
    ys, last = layer(xs, lengths=[5, 3, 0, 1])
    assert np.array_equal(last.data, [xs[:n, r].sum(0) for r, n in enumerate([5, 3, 0, 1])])
    assert np.array_equal(ys.data[0 if reverse else 4, 0], xs[:, 0].sum(0))
    assert np.array_equal(layer(xs, np.ones((N, I)))[1].data, 1 + xs.sum(0))
    with pytest.raises(UsageError, match="fused=True for Sum"):
        layer(xs, fused=True)


def test_the_parameters_of_the_cell_belong_to_the_layer():
    layer = mg.nn.Recurrent(mg.nn.GRUCell(I, H))
    names = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]
    assert list(layer.state_dict()) == [f"cell.{name}" for name in names]


# --- errors --------------------------------------------------------------------------------------


def message(layer, *args, **kwargs) -> list[str]:
    with pytest.raises(ShapeError) as caught:
        layer(*args, **kwargs)
    lines = str(caught.value).split("\n  ")
    assert len(lines) == 3 and lines[2].startswith("remedy: ")
    return lines[:2]


@kinds
def test_a_sequence_of_the_wrong_shape_is_named(kind):
    name = kind.__name__
    assert message(kind(I, H), np.ones((T, N, I + 1))) == [
        f"{name}: xs",
        "expected (T, N, I) with I = 3, got (5, 4, 4); with batch_first=True it is (N, T, I)",
    ]
    assert message(kind(I, H, batch_first=True), np.ones((N, T, I + 1))) == [
        f"{name}: xs",
        "expected (N, T, I) with I = 3, got (4, 5, 4); with batch_first=False it is (T, N, I)",
    ]
    message(kind(I, H), np.ones((T, I)))
    message(kind(I, H, batch_first=True), np.ones((T, I)))


@kinds
def test_a_state_of_the_wrong_shape_is_named(kind):
    layer, xs = kind(I, H, 2, bidirectional=True), np.ones((T, N, I))
    fits = [np.ones((4, N, H))] * (1 + (kind is mg.nn.LSTM))
    for wrong in (np.ones((2, N, H)), np.ones((4, N, H + 1)), np.ones((N, H))):
        for at in range(len(fits)):
            state = [wrong if i == at else fit for i, fit in enumerate(fits)]
            what, got = message(layer, xs, tuple(state) if len(state) > 1 else state[0])
            assert what == f"{kind.__name__}: {'hc'[at]} of the initial state"
            assert "= (4, 4, 2), got" in got and got.endswith(str(wrong.shape))
    state = [np.ones((4, N + 1, H))] * len(fits)
    message(layer, xs, tuple(state) if len(state) > 1 else state[0])


@kinds
def test_a_state_of_the_wrong_form_is_refused(kind):
    h = np.ones((1, N, H))
    wrong = [h, [h, h], (h,), (h, h, h)] if kind is mg.nn.LSTM else [[h], (h,), (h, h)]
    for state in wrong:
        with pytest.raises(mg.MinigradError, match=r"state.*\n  expected .*\n  remedy: "):
            kind(I, H)(np.ones((T, N, I)), state)


def test_lengths_of_the_wrong_kind_are_refused():
    what, got = message(mg.nn.LSTM(I, H), np.ones((T, N, I)), lengths=[1, 2, 3, 6])
    assert what == "lengths: one for each row of the batch"
    assert got == "expected 4 integers from 0 to 5, got int64 (4,) from 1 to 6"


@kinds
def test_options_that_have_no_meaning_here(kind):
    name = kind.__name__
    for options, lines in (
        (
            {"dropout": 0.5},
            [
                f"{name}: dropout",
                "  expected 0 with num_layers=1, as it acts between layers, got 0.5",
                "  remedy: put mg.nn.Dropout after the layer, or take more layers",
            ],
        ),
        (
            {"dropout": True, "num_layers": 2},  # what was meant for bidirectional
            [
                f"{name}: dropout",
                "  expected a probability from 0 to 1, got True",
                "  remedy: as in PyTorch it stands before bidirectional: pass both by name",
            ],
        ),
        (
            {"proj_size": 2},
            [
                f"{name}: proj_size",
                "  expected 0, as there are no projections of the state yet, got 2",
                "  remedy: leave it out; to project the outputs alone, put mg.nn.Linear after the "
                "layer",
            ],
        ),
    ):
        with pytest.raises(UsageError) as caught:
            kind(I, H, **options)
        assert str(caught.value).split("\n") == lines
    for odd in (None, "text", [0], np.zeros(2), 1.5, -1):
        with pytest.raises(UsageError, match="proj_size"):
            kind(I, H, proj_size=odd)
        with pytest.raises(UsageError, match="dropout"):
            kind(I, H, 2, dropout=odd)
    with pytest.raises(TypeError, match="reset_after"):
        kind(I, H, reset_after=True)


def test_arguments_stand_in_the_order_of_pytorch():
    layer = mg.nn.LSTM(I, H, 2, False, True, 0.25, True, 0)
    assert (layer.num_layers, layer.batch_first, layer.bidirectional) == (2, True, True)
    assert layer.dropout.p == 0.25 and "bias_ih_l0" not in layer.state_dict()


# --- PyTorch, where it is installed --------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "own"), [*((kind, {}) for kind in KINDS), (mg.nn.RNN, {"nonlinearity": "relu"})]
)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_pytorch_computes_the_same_from_the_same_state_dict(kind, own, bidirectional, bias):
    torch = pytest.importorskip("torch", reason="PyTorch, an optional oracle, is not installed")
    options = {"num_layers": 2, "bias": bias, "bidirectional": bidirectional, **own}
    theirs = getattr(torch.nn, kind.__name__)(I, H, **options).double()
    ours = kind(I, H, **options)
    ours.load_state_dict({k: v.detach().numpy() for k, v in theirs.state_dict().items()})
    data = normal(T, N, I)
    xs, ts = mg.tensor(data, requires_grad=True), torch.tensor(data, requires_grad=True)
    (ys, last), (zs, end) = ours(xs), theirs(ts)
    (ys * ys).sum().backward()
    (zs * zs).sum().backward()
    close = {"rtol": 0, "atol": 1e-12}
    np.testing.assert_allclose(ys.data, zs.detach().numpy(), **close)
    for a, b in zip(parts(last), parts(end), strict=True):
        np.testing.assert_allclose(a.data, b.detach().numpy(), **close)
    np.testing.assert_allclose(xs.grad.data, ts.grad.numpy(), **close)
    for name, p in ours.named_parameters():
        expected = dict(theirs.named_parameters())[name].grad.numpy()
        np.testing.assert_allclose(p.grad.data, expected, **close, err_msg=name)
