"""What a tensor prints: the exact texts."""

import numpy as np
import pytest

import minigrad as mg


def tensor(data, dtype=None):
    return mg.tensor(data, dtype, requires_grad=True)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: mg.tensor(2.5), "tensor(2.5)"),
        (lambda: mg.tensor([1.0, 2.0]), "tensor([1., 2.])"),
        (lambda: mg.tensor([1, 2]), "tensor([1, 2], dtype=int64)"),
        (lambda: mg.tensor([True, False]), "tensor([ True, False])"),
        (lambda: mg.tensor([]), "tensor([])"),
        (lambda: mg.tensor([], np.float32), "tensor([], dtype=float32)"),
        (lambda: mg.tensor(np.zeros((0, 3))), "tensor([], shape=(0, 3))"),
        (lambda: mg.tensor(np.zeros((0, 3), bool)), "tensor([], shape=(0, 3), dtype=bool)"),
        (lambda: tensor([1.0]), "tensor([1.], requires_grad=True)"),
        (
            lambda: mg.tanh(tensor([[0, 1], [0, 0]], np.float32)),
            "tensor([[0.       , 0.7615942],\n"
            "        [0.       , 0.       ]], dtype=float32, op=tanh)",
        ),
        (
            lambda: mg.nn.Parameter(np.eye(2)),
            "parameter([[1., 0.],\n           [0., 1.]], requires_grad=True)",
        ),
        (
            lambda: mg.tensor(np.arange(2000)),
            "tensor([   0,    1,    2, ..., 1997, 1998, 1999],\n       shape=(2000,), dtype=int64)",
        ),
        (  # 75 columns hold the numbers, but not what is said of them
            lambda: tensor(np.arange(18.0)),
            "tensor([ 0.,  1.,  2.,  3.,  4.,  5.,  6.,  7.,  8.,  9., 10., 11., 12.,\n"
            "        13., 14., 15., 16., 17.], requires_grad=True)",
        ),
        (
            lambda: tensor(np.arange(26.0)),
            "tensor([ 0.,  1.,  2.,  3.,  4.,  5.,  6.,  7.,  8.,  9., 10., 11., 12.,\n"
            "        13., 14., 15., 16., 17., 18., 19., 20., 21., 22., 23., 24., 25.],\n"
            "       requires_grad=True)",
        ),
    ],
)
def test_repr(make, text):
    assert repr(make()) == text


@pytest.mark.parametrize("width", range(40, 120))
def test_repr_keeps_numpys_width_and_begins_its_lines_below_the_numbers(width):
    with np.printoptions(linewidth=width):
        lines = repr(tensor(np.arange(30.0))).split("\n")
    assert all(len(line) <= width for line in lines)
    assert all(line.startswith(" " * 7) for line in lines[1:])


def test_str_is_numpys_text_of_the_array():
    for data in (2.5, [1, 2], [[1.0, 2.0]], np.zeros((0, 3)), np.arange(2000.0)):
        assert str(mg.tensor(data)) == str(np.array(data))
    assert str(tensor([[1.0, 2.0], [3.0, 4.0]])) == "[[1. 2.]\n [3. 4.]]"


def test_one_element_takes_a_format():
    assert f"{tensor([2.5]):.3f} {mg.tensor(3):04d} {mg.tensor([[0.5]]):>6}" == "2.500 0003    0.5"
    assert f"{tensor([1.0, 2.0])}" == "[1. 2.]"


def test_several_elements_take_none():
    with pytest.raises(mg.UsageError) as caught:
        f"{mg.tensor([1.0, 2.0]):.3f}"
    assert str(caught.value) == (
        "format '.3f': of a tensor with several elements\n"
        "  expected one element, got shape (2,)\n"
        "  remedy: format an element or a sum, or print within np.printoptions(precision=3)"
    )
