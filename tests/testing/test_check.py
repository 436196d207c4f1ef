"""Checks as pytest sees them, and what `check_cell` refuses."""

import pytest
from recurrences import Leaky, rnn, shapes

import minigrad as mg
from minigrad.errors import UsageError
from minigrad.testing import check_cell
from minigrad.testing import strategies as mgst
from minigrad.testing.check import Check, collectable
from minigrad.testing.op_laws import OP_LAWS, OpInfo
from minigrad.testing.report import html_page, summary
from minigrad.testing.subject import subject_of


def product(vjp):
    subject = subject_of((lambda x, y: x * y, vjp), name="product")
    structure = mgst.dressed(mgst.broadcastable(2, ndim=(2, 2), sides=(2,)))
    return Check(OpInfo(subject, names=("x", "y")), OP_LAWS, structure)


def test_a_wrong_shape_is_found():
    check = product(lambda g, out, x, y: (g.sum(), g * x))
    assert check.run_law("P2", seed=0).verdict == "fail"


right = product(lambda g, out, x, y: (g * y, g * x))
right.laws = {id: right.laws[id] for id in ("P5",)}
test_product = collectable(right)


@pytest.mark.parametrize(
    ("cell", "given", "what"),
    [
        (rnn(), {}, "check_cell: shapes"),
        (rnn(), {"shapes": shapes, "reset": "before"}, "check_cell: options"),
        (Leaky, {"shapes": shapes}, "check_cell: shapes"),
        (Leaky, {"family": "elman"}, "Leaky: family"),
        (Leaky, {"gates": {"V": "h"}}, "Leaky: gates of V"),
        (Leaky, {"gates": {"W": "ifgo"}}, "Leaky: gates of W"),
        (Leaky, {"laws": ["C99"]}, "Leaky: law C99"),
        (Leaky, {"skip": {"C21": ""}}, "Leaky: law C21 skipped"),
    ],
)
def test_what_check_cell_refuses(cell, given, what):
    with pytest.raises(UsageError, match=f"^{what}"):
        check_cell(cell, **given)


def test_a_family_that_is_said_is_tried():
    assert check_cell(mg.nn.Cell, family="gru").check.info.family == "gru"
    check = check_cell(Leaky, family="rnn", laws=["C23"], examples=10, seed=0).check
    assert check.run_law("C23").reason == "weights other than W (H, I), U (H, H) and biases"


def test_the_points_of_the_bit_contract_that_hold():
    check = check_cell(Leaky, laws=["P5", "C6", "C18"], examples=20, seed=0).check
    results = check.run()
    assert [r.notes["bits"] for r in results[::2]] == ["6 of 6", "6 of 6"]
    assert results[1].notes["bits"].endswith(f" of {results[1].examples}")
    results[1].notes["bits"] = "7 of 8"
    *_, kept, near = summary(check.info, results).splitlines()
    assert kept == "The same bits: the same call again (P5); stored or computed again (C18)."
    assert near.endswith(": a row alone or in a batch (C6: 7 of 8).")
    page = html_page(check.info, results)
    assert kept in page and near in page and ">7 of 8</td>" in page
