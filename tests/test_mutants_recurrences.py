"""The recurrences in which bugs are planted are right, and each bug is one."""

import re

import mutants as registry
import numpy as np
import pytest
from mutants import CAUSES, mutant, specimens
from mutants.recurrences import arguments, dot_products, drawn, pull_back

CELLS = ["rnn", "leaky", "lstm", "peephole_lstm", "gru", "gru_before"]
MINE = {id: m for id, m in registry.mutants.items() if m.specimen in CELLS}
CONSISTENT = [id for id, m in MINE.items() if m.forward]

# Sections D and E of the catalogue; a letter where it counts several bugs under one number.
CATALOGUE = [
    *map(str, range(56, 58)), "58a", "58b", *map(str, range(59, 70)), "70a", "70b",
    *map(str, range(71, 78)), "78a", "78b", "79a", "79b", "80a", "80b", "80c",
    *map(str, range(81, 86)), *(f"86{c}" for c in "abcdefg"), *map(str, range(87, 101)),
]  # fmt: skip

EPS = np.finfo(np.float64).eps

# Sizes and lengths (None: all rows run to the end) beside those of a specimen's calls.
EXAMPLES = [
    (dict(T=6, N=4, I=3, H=3), [0, 6, 3, 1]),
    (dict(T=6, N=1, I=3, H=5), [4]),
    (dict(T=5, N=2, I=0, H=2), None),
    (dict(T=5, N=0, I=2, H=2), None),
    (dict(T=0, N=2, I=2, H=2), [0, 0]),
    (dict(T=0, N=2, I=2, H=2), None),
    (dict(T=7, N=2, I=1, H=1), [7, 7]),
]


def examples(name):
    for args, params in specimens[name].calls:
        T, N, _ = args[0].shape
        H = args[1].shape[1]
        _, g = drawn(name, T, N, args[0].shape[2], H)
        yield args, g, params.get("lengths")
    for sizes, lengths in EXAMPLES:
        yield *drawn(name, **sizes), lengths


def assert_derivative(name, args, g, lengths):
    """<u, vjp(g)> = <g, J u>, but for rounding.

    An entry of a gradient is a chain of T steps, each a few products and a sum over at most I + H
    or N terms: its relative error, and that of the complex step, is at most that many eps.
    """
    (T, N, I), H = args[0].shape, args[1].shape[1]  # noqa: E741
    gradients = pull_back(name, args, g, lengths)
    assert [(p.shape, p.dtype) for p in gradients] == [(a.shape, a.dtype) for a in args]
    for seed in range(3):
        ours, theirs, size = dot_products(name, args, g, gradients, lengths, seed)
        assert abs(ours - theirs) <= (T + 1) * (I + H + N + 20) * EPS * size


# --- the specimens are right ---------------------------------------------------------------------


@pytest.mark.parametrize("name", CELLS)
def test_the_vjp_is_the_derivative_of_the_forward_pass(name):
    for args, g, lengths in examples(name):
        assert_derivative(name, args, g, lengths)


@pytest.mark.parametrize("name", CELLS)
def test_the_forward_pass_is_its_reference(name):
    """Step by step, so that no error grows; the steps in a row are the whole, to the bit.

    One step rounds a sum of I + H products of size at most `size`, then a few bounded functions,
    then at most adds to a multiple of the state.
    """
    s = specimens[name]
    for args, g, lengths in examples(name):
        (T, _, I), H, parts = args[0].shape, args[1].shape[1], len(g) - 1  # noqa: E741
        whole = s.forward(*args, lengths=lengths)
        state, (W, U, *vectors) = args[1 : 1 + parts], args[1 + parts :]
        for t in range(T):
            one = (args[0][t : t + 1], *state, W, U, *vectors)
            runs = None if lengths is None else np.clip(np.subtract(lengths, t), 0, 1)
            ours, theirs = s.forward(*one, lengths=runs), s.reference(*one, lengths=runs)
            products = abs(one[0][0]) @ abs(W).T + abs(state[0]) @ abs(U).T
            largest = max(np.max(abs(h), initial=1) for h in state)
            size = products.max(initial=1) + largest * sum(np.max(abs(v)) for v in vectors)
            for a, b in zip(ours, theirs, strict=True):
                assert a.shape == b.shape and a.dtype == b.dtype
                assert np.all(abs(a - b) <= (I + H + 20) * EPS * size * largest)
            assert np.array_equal(ours[0][0], whole[0][t])
            state = ours[1:]
        assert all(np.array_equal(a, b) for a, b in zip(state, whole[1:], strict=True))


@pytest.mark.parametrize("name", CELLS)
def test_what_stands_in_the_padding_has_no_effect(name):
    args, g = drawn(name, T=5, N=4)
    lengths = np.array([0, 5, 3, 1])
    padding = np.arange(5)[:, None] >= lengths
    out = specimens[name].forward(*args, lengths=lengths)
    gradients = pull_back(name, args, g, lengths)
    assert np.all(out[0][padding] == 0) and np.all(gradients[0][padding] == 0)
    assert all(np.array_equal(s[0], s0[0]) for s, s0 in zip(out[1:], args[1:], strict=False))
    for anything in (np.nan, np.inf, -np.inf):
        args[0][padding] = anything
        again = specimens[name].forward(*args, lengths=lengths), pull_back(name, args, g, lengths)
        for a, b in zip((*out, *gradients), (*again[0], *again[1]), strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("name", CELLS)
def test_a_row_with_a_length_is_a_shorter_sequence(name):
    args, g = drawn(name, T=5, N=1)
    short = (args[0][:3], *args[1:]), (g[0][:3], *g[1:])
    long = pull_back(name, args, g, [3])
    for a, b in zip(long[1:], pull_back(name, *short)[1:], strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("name", CELLS)
def test_memory(name):
    """Arguments and cotangents are left alone; results are arrays of their own."""
    for T in (0, 3):
        args, g = drawn(name, T=T)
        for a in (*args, *g):
            a.flags.writeable = False
        out = specimens[name].forward(*args)
        gradients = specimens[name].vjp(g, out, *args)
        arrays = [*args, *g, *out, *gradients]
        for k, a in enumerate(arrays):
            assert not any(np.shares_memory(a, b) for b in arrays[:k])


@pytest.mark.parametrize("name", CELLS)
def test_single_precision_stays(name):
    args, g = drawn(name)
    args, g = [a.astype(np.float32) for a in args], tuple(v.astype(np.float32) for v in g)
    out, gradients = specimens[name].forward(*args), pull_back(name, args, g, [1, 3])
    assert {a.dtype for a in (*out, *gradients)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("name", CELLS)
def test_saturated_gates_are_finite_and_silent(name):
    args, g = drawn(name)
    for scale in (30, 800):
        gradients = pull_back(name, tuple(scale * a for a in args), g)
        assert all(np.all(np.isfinite(p)) for p in gradients)


# --- the bugs are bugs ---------------------------------------------------------------------------


def test_the_catalogue_is_there():
    assert [id for id in MINE if not id.startswith("H")] == CATALOGUE
    assert len([id for id in MINE if id.startswith("HR")]) >= 30
    assert len([id for id in CONSISTENT if id.startswith("HR")]) >= 10
    assert all(c in CAUSES for m in MINE.values() for c in m.cause.split("|"))
    assert {m.specimen for m in MINE.values()} == set(CELLS)
    descriptions = [(m.specimen, m.description) for m in MINE.values()]
    assert len(descriptions) == len(set(descriptions))
    assert all(re.fullmatch(r"\d+[a-g]?|HR\d+", id) for id in MINE)


@pytest.mark.parametrize("id", MINE)
def test_a_bug_shows_exactly_where_it_is_switched_on(id):
    assert not MINE[id].shows()
    for _ in range(2):  # whatever the bug keeps from before
        with mutant(id):
            assert MINE[id].shows()
        assert not MINE[id].shows()
    assert not registry._on


@pytest.mark.parametrize("id", CONSISTENT)
def test_the_vjp_fits_a_forward_pass_that_is_wrong(id):
    with mutant(id):
        for args, g, lengths in examples(MINE[id].specimen):
            assert_derivative(MINE[id].specimen, args, g, lengths)


def test_calls_are_generic():
    """Equal numbers would hide a bug that exchanges them."""
    for name in CELLS:
        for args, _ in specimens[name].calls:
            numbers = np.concatenate([a[a != 0] for a in args])
            assert len(np.unique(numbers)) == len(numbers)
        state, weights = specimens[name].shapes(3, 2)
        assert len(arguments(specimens[name].shapes, 1, 1, 3, 2, 0)) == 1 + len(state) + len(
            weights
        )
