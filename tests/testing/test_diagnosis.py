"""The likely cause: the right one first, for bugs planted in ops and in a recurrence."""

import numpy as np
import pytest
from planted import BUGS, CELLS, G, find

from minigrad.testing.diagnosis import CAUSES, causes
from minigrad.testing.laws import Finding
from minigrad.testing.report import Report
from minigrad.testing.shrink import simplify


def cause(a, n, **rest):
    """The first cause of a finding made by hand."""
    a, n = np.array(a, float), np.array(n, float)
    found = causes(Finding("the gradient of x", "", "", "x", a, n, np.full(n.shape, 1e-12), **rest))
    return found[0]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", BUGS)
def test_the_right_cause_is_first(name, seed):
    bug = BUGS[name]
    info, result = find(bug, seed, simplify)
    assert result.verdict == "fail"
    found = Report(info, result).causes()
    assert found[0].name == bug.cause, [c.name for c in found]
    assert 1 <= len(found) <= 4
    assert {c.name for c in found} <= set(CAUSES)
    assert len({c.name for c in found}) == len(found)


@pytest.mark.parametrize("name", ["transposed", "softmax", "strides", "first", "gates"])
def test_the_minimal_example_alone_is_enough(name):
    """As in a fresh process, where nothing is known of the examples before."""
    info, result = find(BUGS[name], 0, simplify)
    found = causes(result.finding, info, result.example, law=result.law)
    assert found[0].name == BUGS[name].cause


N = np.array([[1.0, -2.0, 0.5], [0.25, 3.0, -1.5]])
FACTS = {"T": 4, "N": 2, "H": 2}


@pytest.mark.parametrize(
    ("a", "name", "words"),
    [
        (0 * N, "zero", "zero"),
        (-N, "sign", "other sign"),
        (N / 3, "factor", "1/3"),
        (7.5 * N, "factor", "7.5"),
        (N.astype(np.float32) * np.float32(1.0000001), "float32", "float32"),
        (np.where(N > 0, np.nan, N), "not finite", "not finite"),
        (N + N**2, "wrong formula", "none of the simple causes"),
    ],
)
def test_two_arrays(a, name, words):
    found = cause(a, N)
    assert found.name == name
    assert words in found.text


def test_transposed():
    assert cause(N[:, :2].T, N[:, :2]).name == "transposed"


def test_other_input_and_swapped():
    M = N[::-1] + 1
    facts = {"numeric": {"x": N, "y": M}, "gradients": {"x": M, "y": M}}
    assert cause(M, N, facts=facts).name == "other input"
    assert cause(M, N, facts=facts | {"gradients": {"x": M, "y": N}}).name == "swapped"


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ([0], "first step"),
        ([3], "last step"),
        ([1, 2, 3], "first step"),  # right there only
        ([0, 1], "truncated"),
        ([0, 2], "wrong formula"),
    ],
)
def test_places_in_time(wrong, name):
    n = np.arange(1.0, 9.0).reshape(4, 2)
    a = n.copy()
    a[wrong] += np.arange(1.0, 2 * len(wrong) + 1).reshape(-1, 2) ** 2
    assert cause(a, n, axes=("t", "row"), facts={"T": 4, "N": 2}).name == name


def test_beyond_the_end_of_a_row():
    n = np.arange(1.0, 9.0).reshape(4, 2)
    a = n.copy()
    a[3, 1] = 0
    facts = {"T": 4, "N": 2, "lengths": (4, 3)}
    assert cause(a, n, axes=("t", "row"), facts=facts).name == "mask"
    a[2, 1] = 0
    assert cause(a, n, axes=("t", "row"), facts=facts).name == "mask"  # a row that ends early
    a[0, 0] = 0
    assert cause(a, n, axes=("t", "row"), facts=facts).name != "mask"


def test_blocks_of_gates():
    n = np.arange(1.0, 9.0) ** 2
    a = np.concatenate([n[2:4], n[:2], n[4:]])
    found = cause(a, n, axes=("unit",), facts={"H": 2, "gates": {"x": "ifgo"}})
    assert found.name == "gates"
    assert "figo" in found.text


def test_contributions_of_steps():
    steps = np.arange(1.0, 9.0).reshape(4, 2) ** 2
    n, facts = steps.sum(0), {"steps": {"x": steps}}
    assert cause(steps[0], n, facts=facts).name == "accumulation"
    assert cause(n - steps[0], n, facts=facts).name == "first step"
    assert cause(n - steps[-1], n, facts=facts).name == "last step"


@pytest.mark.parametrize(
    ("expected", "got", "name"),
    [
        ("float64 (1, 3)", "float64 (2, 3)", "missing reduction"),
        ("float64 (3,)", "float64 (2, 3)", "missing reduction"),
        ("float64 (1, 3)", "float64 (3,)", "edge size"),
        ("float64 (2, 3)", "float64 (3, 2)", "transposed"),
        ("float64 (2, 3)", "float32 (2, 3)", "float32"),
        ("float64 (2, 3)", "None", "zero"),
    ],
)
def test_shapes(expected, got, name):
    assert causes(Finding("the gradient of x", expected, got, "x"))[0].name == name


def test_a_finding_without_anything():
    assert [c.name for c in causes(Finding("x", "this", "that", "x"))] == ["wrong formula"]


def test_every_planted_bug_of_the_recurrence_is_seen_by_the_law():
    assert {b.law for b in CELLS.values()} == {G["R"]}
