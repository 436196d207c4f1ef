"""Contractions: sums of products over any axes, made of transposes, reshapes and `matmul`.

No rule stands here: gradients, of any order, are those of the ops that these functions call. Where
two operands meet, all that they are summed over makes one axis, so that every element is one chain
of `matmul`, and a matrix on the right that needs no transposing gets its gradient gathered over
time as in `x @ w`.
"""

import math
import operator
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from ..errors import ShapeError, UsageError
from ..graph import Tensor
from .elementwise import multiply
from .index import diagonal
from .linear import matmul
from .reduce import broadcast_to, sum
from .shape import _reshape, _transpose, as_array, axes_of, ravel

Label = str | int  # the name of an axis
Labels = Sequence[Label]


def _arrays(*xs) -> list:
    """The operands as arrays of the dtype that NumPy would choose.

    Beside a tensor, numbers and whole numbers take the dtype of the floats, and floats never mix:
    the ops refuse them.
    """
    numbers = [isinstance(x, float | int) for x in xs]
    arrays = [as_array(x) for x in xs]
    floats = [a for a, n in zip(arrays, numbers, strict=True) if a.dtype.kind == "f" and not n]
    if floats and any(isinstance(a, Tensor) for a in arrays):
        pairs = zip(arrays, numbers, strict=True)
        dtype = floats[0].dtype
        return [a if a.dtype.kind == "f" and not n else a.astype(dtype) for a, n in pairs]
    kinds = [x if n else a.dtype for x, a, n in zip(xs, arrays, numbers, strict=True)]
    dtype = np.result_type(*kinds)
    return [a if a.dtype == dtype else a.astype(dtype) for a in arrays]


# --- two operands with named axes ----------------------------------------------------------------


def _ordered(x, labels: Labels, wanted: Labels):
    """x, whose axes are named `labels`, with axes in the order `wanted`; of length 1 for others."""
    order = tuple([labels.index(c) for c in wanted if c in labels])
    x = x if order == tuple(range(x.ndim)) else _transpose(x, axes=order)
    lengths = iter(x.shape)
    return _shaped(x, tuple([next(lengths) if c in labels else 1 for c in wanted]))


def _shaped(x, shape: tuple[int, ...]):
    return x if x.shape == shape else _reshape(x, shape=shape)


def _repeated(x, shape: tuple[int, ...]):
    return x if x.shape == shape else broadcast_to(x, shape)


def _pair(x, xs: Labels, y, ys: Labels, summed: Labels):
    """The product of x and y, whose axes are named xs and ys, summed over those in `summed`.

    Returns it with the names of its axes: those of both operands that are not summed, then those
    of x alone, then those of y alone. Axes of length 1 are repeated as needed.
    """
    stack = [c for c in xs if c in ys and c not in summed]
    left, right = [c for c in xs if c not in ys], [c for c in ys if c not in xs]
    labels = [*stack, *left, *right]
    if not summed:
        return multiply(_ordered(x, xs, labels), _ordered(y, ys, labels)), labels
    x, y = _ordered(x, xs, [*stack, *left, *summed]), _ordered(y, ys, [*stack, *summed, *right])
    a, b, c = len(stack), len(stack) + len(left), len(stack) + len(summed)
    rows, columns = x.shape[a:b], y.shape[c:]
    chain = np.broadcast_shapes(x.shape[b:], y.shape[a:c])
    x, y = _repeated(x, x.shape[:b] + chain), _repeated(y, y.shape[:a] + chain + columns)
    x = _shaped(x, (*x.shape[:a], math.prod(rows), math.prod(chain)))
    y = _shaped(y, (*y.shape[:a], math.prod(chain), math.prod(columns)))
    out = matmul(x, y)
    return _shaped(out, out.shape[:a] + rows + columns), labels


def _over(op: str, x, x_axes: Sequence[int], y, y_axes: Sequence[int]):
    """The sum over axes of x with those of y; the other axes of x come first, then those of y."""
    for i, j in zip(x_axes, y_axes, strict=True):
        if x.shape[i] != y.shape[j]:
            raise ShapeError(
                f"{op}: the lengths of the axes that are summed",
                f"expected the same length, got {x.shape[i]} for axis {i} of {x.shape} "
                f"and {y.shape[j]} for axis {j} of {y.shape}",
                "transpose one side, or check which axis is contracted",
            )
    xs, ys = list(range(x.ndim)), list(range(x.ndim, x.ndim + y.ndim))
    for i, j in zip(x_axes, y_axes, strict=True):
        ys[j] = i
    return _pair(x, xs, y, ys, x_axes)[0]


# --- NumPy's products ----------------------------------------------------------------------------


def dot(x, y):
    """NumPy's product: of vectors, of matrices, or the last axis of x with the last but one of y.

    out[i, j, k, m] = sum_l x[i, j, l] y[k, l, m]

    x (..., K) and y (K,) or (..., K, N) give the other axes of x, then those of y; so stacks are
    not matched as in `matmul`, but combined. A number on either side multiplies. Raises
    `ShapeError`.

    >>> mg.dot(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1.0, 10.0]))
    array([21., 43.])
    """
    x, y = _arrays(x, y)
    if x.ndim == 0 or y.ndim == 0:
        return multiply(x, y)
    return _over("dot", x, [x.ndim - 1], y, [max(y.ndim - 2, 0)])


def inner(x, y):
    """The last axis of x with the last axis of y: out[i, j] = sum_l x[i, l] y[j, l].

    x (..., K) and y (..., K) give the other axes of x, then those of y. A number on either side
    multiplies. Raises `ShapeError`.

    >>> mg.inner(np.array([1.0, 2.0]), np.array([[1.0, 1.0], [0.0, 3.0]]))
    array([3., 6.])
    """
    x, y = _arrays(x, y)
    if x.ndim == 0 or y.ndim == 0:
        return multiply(x, y)
    return _over("inner", x, [x.ndim - 1], y, [y.ndim - 1])


def vdot(x, y):
    """The sum of the products of the elements of x and y, both flattened: a number.

    x and y have as many elements; their shapes may differ. Raises `ShapeError`.

    >>> float(mg.vdot(np.array([[1.0, 2.0], [3.0, 4.0]]), np.ones((2, 2))))
    10.0
    """
    return _over("vdot", ravel(x), [0], ravel(y), [0])


def outer(x, y):
    """The products of all elements of x with all of y, both flattened: out[i, j] = x[i] y[j].

    >>> mg.outer(np.array([1.0, 2.0]), np.array([3.0, 4.0, 5.0]))
    array([[ 3.,  4.,  5.],
           [ 6.,  8., 10.]])
    """
    x, y = _arrays(x, y)
    return matmul(_shaped(x, (x.size, 1)), _shaped(y, (1, y.size)))


def tensordot(x, y, axes=2):
    """The sum of the products of x and y over several axes of each at once.

    out[i..., j...] = sum_k x[i..., k...] y[k..., j...]

    `axes` is how many: the last ones of x with the first ones of y, in order. Or it names them, as
    a pair of numbers or of sequences, those of x and those of y. What is left of x comes first,
    then what is left of y. Raises `ShapeError`, `UsageError`.

    >>> x, y = np.ones((2, 3, 4)), np.ones((4, 3, 5))
    >>> mg.tensordot(x, y, axes=((1, 2), (1, 0))).shape
    (2, 5)
    """
    x, y = _arrays(x, y)
    axes = axes.tolist() if isinstance(axes, np.ndarray) else axes
    if isinstance(axes, tuple | list) and len(axes) == 2:
        x_axes, y_axes = (
            axes_of("tensordot", tuple(a) if np.iterable(a) else a, t.ndim)
            for a, t in zip(axes, (x, y), strict=True)
        )
        if len(x_axes) != len(y_axes):
            raise ShapeError(
                "tensordot: axes",
                f"expected as many axes of each, got {len(x_axes)} of x and {len(y_axes)} of y",
                "name the axes of x and those of y in pairs",
            )
        return _over("tensordot", x, x_axes, y, y_axes)
    try:
        n = operator.index(axes)
    except TypeError:
        raise UsageError(
            "tensordot: axes",
            f"expected a whole number, or the axes of x and those of y, got {axes!r}",
            "write axes=2, or axes=((1, 2), (0, 1))",
        ) from None
    if not 0 <= n <= min(x.ndim, y.ndim):
        raise ShapeError(
            "tensordot: axes",
            f"expected 0 to {min(x.ndim, y.ndim)} for shapes {x.shape} and {y.shape}, got {n}",
            "it is the number of axes that are summed",
        )
    return _over("tensordot", x, range(x.ndim - n, x.ndim), y, range(n))


def trace(x, offset=0, axis1=0, axis2=1):
    """The sum along the diagonals of the matrices in two axes of x: sum_i x[..., i, i + offset].

    Raises `ShapeError`, `UsageError`.

    >>> float(mg.trace(np.array([[1.0, 2.0], [3.0, 4.0]])))
    5.0
    """
    x = as_array(x)
    if x.ndim < 2:
        raise ShapeError(
            "trace: of an array without matrices",
            f"expected two axes or more, got shape {x.shape}",
            "use sum for a vector",
        )
    return sum(diagonal(x, offset, *axes_of("trace", (axis1, axis2), x.ndim)), axis=-1)


def kron(x, y):
    """The Kronecker product: blocks of y, each multiplied by one element of x.

    out[i M + j, ...] = x[i, ...] y[j, ...], M being the length of y along that axis

    The one with fewer axes gets axes of length 1 in front.

    >>> mg.kron(np.array([1.0, 10.0]), np.array([1.0, 2.0, 3.0]))
    array([ 1.,  2.,  3., 10., 20., 30.])
    """
    x, y = _arrays(x, y)
    n = max(x.ndim, y.ndim)
    a, b = (1,) * (n - x.ndim) + x.shape, (1,) * (n - y.ndim) + y.shape
    x = _shaped(x, tuple([k for i in a for k in (i, 1)]))
    y = _shaped(y, tuple([k for j in b for k in (1, j)]))
    return _shaped(multiply(x, y), tuple([i * j for i, j in zip(a, b, strict=True)]))


# --- einsum --------------------------------------------------------------------------------------


def einsum(subscripts, *operands):
    """Einstein's sum: products summed over the axes whose labels are not in the output.

    einsum("ij,jk->ik", x, y)[i, k] = sum_j x[i, j] y[j, k]

    `subscripts` gives each operand a letter for each axis, and after `->` the axes of the result;
    without `->` these are the letters that occur once, in alphabetical order. `...` stands for the
    axes that have no letter; they broadcast, and lead the result where it has no `->`. A letter
    twice in one operand takes its diagonal. Lengths of a letter are the same in all operands, or 1.

    Operands are taken from left to right. In each, what no other operand and no output asks for
    is summed first; then it meets the product so far, and what nothing after it asks for is summed
    as one chain of `matmul`, the labels in the order of the left side. Raises `ShapeError` for
    operands that do not fit, `UsageError` for subscripts that cannot be read.

    >>> x, y = np.ones((5, 2, 3)), np.ones((5, 3, 4))
    >>> mg.einsum("bij,bjk->bik", x, y).shape
    (5, 2, 4)
    >>> float(mg.einsum("ii", np.eye(3)))
    3.0
    """
    if not isinstance(subscripts, str):
        raise UsageError(
            "einsum: the subscripts",
            f"expected a string, got {type(subscripts).__name__}",
            'write for example einsum("ij,jk->ik", x, y)',
        )
    labels, output = _read(subscripts, tuple([as_array(x).shape for x in operands]))
    xs = _arrays(*operands)
    terms = []
    for i, (x, ls) in enumerate(zip(xs, labels, strict=True)):
        others = set(output).union(*labels[:i], *labels[i + 1 :])
        terms.append(_alone(x, ls, others))
    product, have = terms[0]
    for i, (x, ls) in enumerate(terms[1:], 1):
        later = set(output).union(*labels[i + 1 :])
        summed = [c for c in have if c in ls and c not in later]
        product, have = _pair(product, have, x, ls, summed)
    out = _ordered(product, have, output)
    # Sums of whole numbers have a wider dtype.
    return out if out.dtype == xs[0].dtype else out.astype(xs[0].dtype)


def _alone(x, labels: Labels, others: set[Label]):
    """x with one axis for each label: its diagonal for one given twice, its sum if none asks."""
    for c in dict.fromkeys(labels):
        while labels.count(c) > 1:
            i = labels.index(c)
            j = labels.index(c, i + 1)
            x = diagonal(x, 0, i, j)  # comes last
            labels = [*(d for k, d in enumerate(labels) if k not in (i, j)), c]
    summed = tuple([i for i, c in enumerate(labels) if c not in others])
    if summed:
        x = sum(x, axis=summed)
    return x, [c for c in labels if c in others]


def _malformed(subscripts, expected_and_got: str, remedy: str) -> UsageError:
    return UsageError(f"einsum: the subscripts {subscripts!r}", expected_and_got, remedy)


def _letters(subscripts: str, part: str) -> tuple[str, bool, str]:
    """The letters of one operand before its `...`, whether it has one, and those behind."""
    head, dots, tail = part.partition("...")
    for c in head + tail:
        if not (c.isascii() and c.isalpha()):
            raise _malformed(
                subscripts,
                f"expected letters, and '...' at most once in each operand, got {part!r}",
                'write for example "ij,jk->ik", or "...ij,...jk->...ik"',
            )
    return head, bool(dots), tail


@lru_cache(maxsize=256)  # a recurrent cell writes the same in every step
def _read(subscripts: str, shapes: tuple) -> tuple[list[Labels], Labels]:
    """The labels of the axes of each operand, and of the output.

    The axes of `...` are numbered from -1 backwards: so they broadcast as shapes do.
    """
    inputs, arrow, result = subscripts.replace(" ", "").partition("->")
    parts = inputs.split(",")
    terms = [_letters(subscripts, part) for part in parts]
    head, dots, tail = _letters(subscripts, result)
    if len(terms) != len(shapes):
        raise _malformed(
            subscripts,
            f"expected an operand for each of {len(terms)} terms, got {len(shapes)}",
            "separate the terms of the operands by commas",
        )
    labels: list[Labels] = []
    for i, ((first, rest, last), shape) in enumerate(zip(terms, shapes, strict=True)):
        more = len(shape) - len(first) - len(last)
        if more < 0 or (more and not rest):
            raise ShapeError(
                f"einsum: operand {i} of {subscripts!r}",
                f"expected an array with axes {parts[i]!r}, got shape {shape}",
                "give a letter for each axis; ... stands for all others",
            )
        labels.append((*first, *range(-more, 0), *last))
    _check_lengths(subscripts, labels, shapes)
    given = [c for ls in labels for c in ls]
    others = sorted({c for c in given if isinstance(c, int)})
    if not arrow:
        once = sorted(c for c in {*given} - {*others} if given.count(c) == 1)
        return labels, (*others, *once)
    for c in head + tail:
        if c not in given or (head + tail).count(c) > 1:
            raise _malformed(
                subscripts,
                f"expected each letter of the output once and in an operand, got {c!r} "
                + ("twice" if c in given else "in none"),
                "sum over a letter by leaving it out of the output",
            )
    if others and not dots:
        raise _malformed(
            subscripts,
            "expected '...' in the output, for axes that have no letter",
            "write ... in the output, or give these axes letters and leave those out",
        )
    return labels, (*head, *(others if dots else ()), *tail)


def _check_lengths(subscripts: str, labels: list[Labels], shapes) -> None:
    """Raises `ShapeError` unless the lengths of every label fit together."""
    lengths: dict[Label, int] = {}
    for ls, shape in zip(labels, shapes, strict=True):
        here = dict(zip(ls, shape, strict=True))
        for c, n in zip(ls, shape, strict=True):
            common = lengths.setdefault(c, n)
            if here[c] != n or (n != common and 1 not in (n, common)):
                both = sorted({n, here[c]} if here[c] != n else {n, common})
                raise ShapeError(
                    f"einsum: the lengths of {c if isinstance(c, str) else '...'!r} "
                    f"in {subscripts!r}",
                    f"expected one length, got {both[0]} and {both[1]} "
                    f"in shapes {', '.join(map(str, shapes))}",
                    "transpose an operand, or give another letter to one of the axes",
                )
            if common == 1:
                lengths[c] = n
