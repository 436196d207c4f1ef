"""Minimal examples: few numbers, and the law is still broken on them."""

from dataclasses import replace
from statistics import median

import numpy as np
import pytest
from planted import BUGS, CELLS, G, Planted, Recurrence, find, gated, shapes

from minigrad.testing.example import LAYOUTS, Array, Example, Sequences
from minigrad.testing.laws import Law
from minigrad.testing.op_laws import OpInfo
from minigrad.testing.run import attempt, finding_of
from minigrad.testing.shrink import numbers, simplify
from minigrad.testing.subject import Pair


def counted(law):
    """The law, and a list that grows with each trial of it."""
    calls = []

    def check(*args):
        calls.append(args)
        law.check(*args)

    return Law(law.id, law.title, check, law.unless), calls


@pytest.mark.parametrize("name", BUGS)
def test_the_law_is_still_broken(name):
    info, result = find(BUGS[name], 0, simplify)
    found = finding_of(BUGS[name].law, info, result.example)
    assert found is not None
    assert found.input == result.witnesses[-1][1].input or name in ("stale", "mask")
    assert numbers(result.example) <= 8


def test_few_numbers():
    left = []
    for bug in CELLS.values():
        _, result = find(bug, 1, simplify)
        left.append(numbers(result.example))
        assert result.example.T <= 3 and result.example.I == 1
    assert median(left) <= 3


def sampled(bug: Planted, cell: bool):
    """A large failing example, as a sampler draws it, without Hypothesis."""
    if cell:
        info = Recurrence(Pair(*bug.pair, name="gated"), shapes, bug.gates)
        return info, Sequences(5, 3, 2, 4, (5, 4, 2), gain=4.0, layout="F", seed=99)
    info = OpInfo(Pair(*bug.pair, name="planted"), names=bug.names)
    return info, Example(
        (Array((3, 4), layout="F"), Array((3, 4), values="large")), {}, 7, None, None
    )


@pytest.mark.parametrize(("name", "cell"), [("sign", False), ("bias", True), ("mask", True)])
def test_structure_shrinks_without_hypothesis(name, cell):
    info, example = sampled(BUGS[name], cell)
    law, calls = counted(BUGS[name].law)
    small = simplify(law, info, example)
    assert len(calls) <= 302
    assert finding_of(BUGS[name].law, info, small) is not None
    if cell:
        assert (small.N, small.I, small.H) == (1, 1, 1)
        assert (small.lengths is None) == (name != "mask")
        assert (small.layout, small.gain, small.seed) == ("C", 1.0, 0)
    else:
        assert [a.shape for a in small.args] == [(), ()]
        assert all(a.layout == "C" for a in small.args)
    assert numbers(small) <= 2


def test_the_budget_is_kept_and_every_stop_is_a_failure():
    info, example = sampled(BUGS["mask"], True)
    for budget in (1, 2, 5, 20, 60):
        law, calls = counted(BUGS["mask"].law)
        small = simplify(law, info, example, budget)
        assert len(calls) <= budget + 1  # one more writes the numbers down
        assert finding_of(BUGS["mask"].law, info, small) is not None


def test_it_is_the_same_every_time():
    info, example = sampled(BUGS["mask"], True)
    first, second = (simplify(BUGS["mask"].law, info, example) for _ in range(2))
    assert replace(first, data={}) == replace(second, data={})
    assert first.data.keys() == second.data.keys()
    assert all(np.array_equal(first.data[k], second.data[k]) for k in first.data)


def test_an_example_that_does_not_fail_comes_back():
    example = Example((Array((2,)),))
    right = (np.tanh, lambda g, out, x: (g * (1 - out * out),))
    assert simplify(G["G"], OpInfo(Pair(*right)), example) is example


def test_numbers_stay_in_the_domain():
    bug = BUGS["absolute"]
    info = OpInfo(Pair(*bug.pair), names=("x",))
    small = simplify(bug.law, info, Example((Array((2, 3), domain=(-4.0, -0.2)),), seed=3))
    x = small.arrays()[0]
    assert ((x > -4.0) & (x < -0.2)).all()
    assert x.tolist() == np.rint(x).tolist()  # and they are plain


# --- examples with their values written out ------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (0, 2)])
def test_a_literal_example_is_the_same(shape, layout):
    example = Example((Array(shape, layout=layout), Array(shape, "float32", layout)), seed=5)
    for a, b in zip(example.arrays(), example.literal().arrays(), strict=True):
        assert a.tobytes() == b.tobytes()
        assert (a.dtype, a.strides, a.flags.writeable) == (b.dtype, b.strides, b.flags.writeable)


def test_a_cotangent_of_ones():
    outs = [np.zeros((2, 3)), np.zeros(2, np.float32)]
    for e in (Example((), plain=True), Sequences(1, 1, 1, 1, plain=True)):
        ones, others = e.cotangents(outs), e.cotangents(outs, 1)
        assert all((a == 1).all() and a.dtype == o.dtype for a, o in zip(ones, outs, strict=True))
        assert all((np.abs(a) != 1).any() for a in others)


def test_given_numbers_are_the_beginning_of_larger_arrays():
    e = Sequences(2, 1, 1, 2, data={"xs": np.full((2, 1, 1), 7.0), "W": np.zeros((4, 1))})
    assert (e.xs() == 7).all()
    longer = replace(e, T=4).xs()
    assert (longer[:2] == 7).all()
    assert (longer[2:] == replace(e, T=4, data={}).xs()[2:]).all()
    weights = e.weights({"W": (4, 1), "U": (4, 2)})
    assert not weights["W"].any()
    assert (weights["U"] == replace(e, data={}).weights({"W": (4, 1), "U": (4, 2)})["U"]).all()


def test_a_law_may_be_tried_on_a_written_out_recurrence():
    info = Recurrence(Pair(*gated(), name="gated"), shapes)
    data = {"xs": np.ones((1, 1, 1)), "s0": np.zeros((1, 1)), "W": np.zeros((2, 1))}
    attempt(G["R"], info, Sequences(1, 1, 1, 1, data=data))
