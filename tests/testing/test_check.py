"""Checks as pytest sees them."""

from minigrad.testing import strategies as mgst
from minigrad.testing.check import Check, collectable
from minigrad.testing.op_laws import OP_LAWS, OpInfo
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
