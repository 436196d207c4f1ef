"""The graph as text: exact listings, folding, limits, names, and never more than 80 columns."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad.backward import gradients


def leaf(*shape, dtype=np.float64):
    return mg.tensor(np.ones(shape, dtype), requires_grad=True)


def text(tensor, **kwargs) -> list[str]:
    """The lines with runs of blanks made one; all are checked for their width."""
    lines = tensor.graph(**kwargs).split("\n")
    assert all(len(line) <= 80 for line in lines)
    assert all(line == line.rstrip() for line in lines)
    return [" ".join(line.split()) for line in lines]


# --- lines ---------------------------------------------------------------------------------------


def test_every_line_as_it_is_printed():
    x, w = leaf(2, 3, dtype=np.float32), leaf(3, 3, dtype=np.float32)
    w.grad = np.full((3, 3), 2, np.float32)
    first, second = mg.split(x @ w * 2.5 + np.ones(3, np.float32), sections=[1], axis=1)
    y = (first + second).sum(axis=0, keepdims=True)
    assert y.graph(names={"x": x, "w": w}) == "\n".join(
        [
            "graph of %6: 6 calls, 2 leaves",
            "x  leaf                                                 float32 (2, 3)  -",
            "w  leaf                                                 float32 (3, 3)  |grad| 6",
            "%1  matmul(x, w)                                        float32 (2, 3)",
            "%2  multiply(%1, 2.5)                                   float32 (2, 3)",
            "%3  add(%2, [3])                                        float32 (2, 3)",
            "%4  split(%3, sections=(1,), axis=1)                    float32 (2, 1), flo...",
            "%5  add(%4.0, %4.1)                                     float32 (2, 2)",
            "%6  sum(%5, axis=0, keepdims=True)                      float32 (1, 2)",
        ]
    )


def test_a_constant_has_no_graph_and_a_leaf_is_its_own():
    assert mg.tensor([1, 2]).graph() == "no graph: a constant, int64 (2,)"
    assert text(leaf(2)) == ["graph of x1: 0 calls, 1 leaf", "x1 leaf float64 (2,) -"]


def test_an_output_of_several_is_named():
    assert text(mg.unstack(leaf(2, 2))[1])[0] == "graph of %1.1: 1 call, 1 leaf"


def test_calls_that_are_not_behind_the_tensor_are_not_listed():
    x = leaf()
    y, _ = mg.exp(x), mg.log(x)
    assert text(y)[2:] == ["%1 exp(x1) float64 ()"]


def test_a_graph_that_was_used_up_says_so():
    x = leaf(2)
    h = mg.exp(x)
    y = h.sum()
    y.backward()
    assert text(y) == [
        "graph of %1: 1 call, 0 leaves",
        "%1 sum: used up by a backward pass float64 ()",
    ]
    assert text(h * 2)[1:] == [
        "%1 exp: used up by a backward pass float64 (2,)",
        "%2 multiply(%1, 2) float64 (2,)",
    ]


def test_a_fused_node_is_one_call_until_it_is_unfolded():
    cell = mg.nn.LSTMCell(1, 2, rng=0)
    ys, _ = mg.unfold(cell, np.ones((3, 1, 1)), fused=True)
    loss = (ys * ys).sum()
    assert any("lstm([3, 1, 1], [1, 2], ..., %1" in line for line in text(loss))
    gradients([loss], [cell.weight_ih], create_graph=True)
    assert not any("lstm(" in line for line in text(loss))
    assert any("tanh(" in line for line in text(loss))


def test_where_it_was_made():
    xs = np.ones((6, 1, 2))
    layer = mg.nn.RNN(2, 3, num_layers=2, bidirectional=True, rng=0)
    with mg.debug():
        ys, _ = layer(xs)
    lines = text(ys.sum(), names=layer, limit=None)
    folds = [line for line in lines if "repeated" in line]
    forward = "... these 4 calls repeated for t = 2..5 ..."
    assert folds == [forward, "... these 4 calls repeated for t = 3..0 ..."] * 2
    assert lines[17].startswith("%1(0) affine([1, 3], weight_hh_l")
    assert " float64 (1, 3) cells.py:" in lines[17] and lines[17].endswith(" l0")
    assert sum("cells.py:" in line and line.endswith(" l1") for line in lines) == 16
    # without provenance the steps are found by their calls, and counted in the order they are made
    bare = text(layer(xs, fused=False)[0].sum(), names=layer, limit=None)
    assert len(bare) == len(lines)
    folds = [line for line in bare if "repeated" in line]
    assert folds == ["... these 4 calls repeated for steps 2..5 ..."] * 4


# --- folding -------------------------------------------------------------------------------------


def recurrence(steps, x=None):
    x = leaf(2) if x is None else x
    y = x
    for _ in range(steps):
        y = mg.tanh(y * 0.5 + x)
    return y


@pytest.mark.parametrize("steps", [4, 5, 100])
def test_steps_that_repeat_are_shown_once(steps):
    lines = text(recurrence(steps))
    assert lines[0] == f"graph of %3({steps - 1}): {3 * steps} calls, 1 leaf"
    assert lines[2:] == [
        "%1(0) multiply(x1, 0.5) float64 (2,)",
        "%2(0) add(%1(0), x1) float64 (2,)",
        "%3(0) tanh(%2(0)) float64 (2,)",
        "%1(1) multiply(%3(0), 0.5) float64 (2,)",
        "%2(1) add(%1(1), x1) float64 (2,)",
        "%3(1) tanh(%2(1)) float64 (2,)",
        f"... these 3 calls repeated for steps 2..{steps - 1} ...",
    ]


def test_three_steps_are_not_worth_a_fold():
    assert len(text(recurrence(3))) == 2 + 9


def test_fold_false_shows_all():
    lines = text(recurrence(20), fold=False)
    assert [line.split()[0] for line in lines[2:]] == [f"%{i}" for i in range(1, 61)]


def test_what_differs_is_not_folded():
    x = leaf(2)
    y = x
    for i in range(10):
        y = y * float(i)  # another number in each step
    assert not any("repeated" in line for line in text(y))
    y = recurrence(8, x)
    y = recurrence(8, mg.exp(y))  # the same calls, but of something else
    assert sum("repeated" in line for line in text(y)) == 2
    z = x
    for w in [leaf(2) for _ in range(6)]:
        z = z * w  # another leaf in each step
    assert not any("repeated" in line for line in text(z))


def test_steps_that_alternate_are_folded_in_pairs():
    y = leaf(2)
    for i in range(12):
        a, b = mg.split(y, sections=2)
        y = mg.concatenate([a, b] if i % 2 else [b, a])
    folds = [line for line in text(y) if "repeated" in line]
    assert folds == ["... these 4 calls repeated for steps 2..5 ..."]
    ys = [mg.exp(leaf(2))] * 3
    for i in range(12):
        ys.append(ys[-1] + ys[-1 - i % 2])
    folds = [line for line in text(ys[-1]) if "repeated" in line]
    assert folds == ["... these 2 calls repeated for steps 1..5 ..."]


def test_the_fold_ends_where_the_steps_do():
    y = recurrence(10)
    lines = text(mg.tanh(mg.exp(y)) * y)
    assert lines[-4:] == [
        "... these 3 calls repeated for steps 2..9 ...",
        "%4 exp(%3(9)) float64 (2,)",
        "%5 tanh(%4) float64 (2,)",
        "%6 multiply(%5, %3(9)) float64 (2,)",
    ]


def test_a_step_with_like_calls_in_it_is_folded_as_a_whole():
    y = leaf(2)
    for _ in range(10):
        a, b, c, d = mg.split(mg.concatenate([y, y, y, y]), sections=4)
        y = mg.sigmoid(a) + mg.sigmoid(b) + mg.sigmoid(c) + mg.sigmoid(d)
    folds = [line for line in text(y) if "repeated" in line]
    assert folds == ["... these 9 calls repeated for steps 2..9 ..."]


# --- limits --------------------------------------------------------------------------------------


def test_what_is_left_out_is_counted():
    x = [leaf(2) for _ in range(12)]
    lines = text(mg.stack(x) * 2, limit=5)
    assert lines[1:7] == [f"x{i} leaf float64 (2,) -" for i in (1, 2, 3)] + [
        "... 7 leaves left out (limit=5) ..."
    ] + [f"x{i} leaf float64 (2,) -" for i in (11, 12)]
    lines = text(recurrence(1000), fold=False, limit=3)
    assert lines[2:] == [
        "%1 multiply(x1, 0.5) float64 (2,)",
        "%2 add(%1, x1) float64 (2,)",
        "... 2,997 lines left out (limit=3) ...",
        "%3000 tanh(%2999) float64 (2,)",
    ]
    assert len(text(recurrence(1000), fold=False, limit=None)) == 3002


@pytest.mark.parametrize("limit", [0, -1, 2.5, "all"])
def test_a_limit_is_a_number_of_lines(limit):
    with pytest.raises(mg.UsageError, match="graph: limit"):
        leaf().graph(limit=limit)


def test_a_long_graph_needs_no_recursion():
    limit = sys.getrecursionlimit()
    y = x = leaf()
    for i in range(100_000):
        y = y * (i % 7 / 8) if i % 2 else y + x
    lines = text(y)
    assert lines[0].endswith(": 100,000 calls, 1 leaf")
    assert "... these 14 calls repeated for steps 2..7141 ..." in lines
    assert text(y, fold=False)[52] == "... 99,900 lines left out (limit=100) ..."
    assert sys.getrecursionlimit() == limit


# --- names ---------------------------------------------------------------------------------------


def test_names_come_from_a_module_or_a_dict():
    cell = mg.nn.RNNCell(1, 2, rng=0)
    y, _ = cell(np.ones((1, 1)), leaf(1, 2))
    assert [line.split()[0] for line in text(y, names=cell)[1:6]] == [
        "weight_ih", "weight_hh", "bias_ih", "bias_hh", "x1",
    ]  # fmt: skip
    x, z = leaf(), leaf()
    names = [line.split()[0] for line in text(x * z, names={"x1": z, "never": leaf(), "k": 3})]
    assert names == ["graph", "x2", "x1", "%1"]  # a name that is taken is not given again
    with pytest.raises(mg.UsageError, match="graph: names"):
        x.graph(names=["x"])


# --- 80 columns ----------------------------------------------------------------------------------


@st.composite
def graphs(draw):
    """A tensor behind which there is any graph of calls with odd names and shapes."""
    names = st.text(min_size=1, max_size=40)
    shape = draw(st.lists(st.integers(0, 3), max_size=9).map(tuple))
    made = [leaf(*shape, dtype=draw(st.sampled_from([np.float32, np.float64])))]
    made += [leaf(*shape, dtype=made[0].dtype) for _ in range(draw(st.integers(0, 3)))]
    keys = {draw(names): x for x in made}
    for _ in range(draw(st.integers(0, 30))):
        x, y = (made[draw(st.integers(0, len(made) - 1))] for _ in range(2))
        kind = draw(st.integers(0, 4))
        if kind == 0:
            own = mg.Op(draw(names), lambda x, y, **kw: x + y, vjps=[lambda g, *_, **kw: g] * 2)
            x = own(x, y, **{"p" + draw(names): draw(names)})
        elif kind == 1:
            x = mg.split(mg.stack([x, y, x]), sections=3)[draw(st.integers(0, 2))][0]
        elif kind == 2:
            x = x * draw(st.floats(0, 1))
        elif kind == 3:
            x = mg.where(np.ones(shape, bool), x, y)
        else:
            x = mg.tanh(x + y)
        made.append(x)
    return made[-1], keys


@given(graphs(), st.booleans(), st.sampled_from([None, 1, 7]), st.booleans())
@settings(max_examples=150)
def test_no_line_is_longer_than_80_columns(made, fold, limit, debug):
    tensor, names = made
    lines = tensor.graph(names=names, fold=fold, limit=limit).split("\n")
    assert all(len(line) <= 80 and line.isprintable() for line in lines)
    assert len(lines) <= 1 + 2 * (limit + 1) if limit else lines
