"""Ops that pick elements by their places, and change no value.

Two ops do the work, each the transpose of the other: `getitem` reads places, and `put` adds to
them. Most functions here work out an index array and read with it.
"""

import math

import numpy as np

from .. import kernels
from ..errors import ShapeError, UsageError
from ..graph import Op, Tensor, register
from .elementwise import where
from .shape import _reshape, as_array, axes_of, axis_of, moveaxis, ravel, whole

# --- reading places, and adding to them ----------------------------------------------------------


def _read(x, *, index):
    try:
        return x[index]
    except (IndexError, ValueError, TypeError) as error:
        raise ShapeError(
            "getitem: an index that does not fit",
            f"got shape {x.shape}: {error}",
            "index with whole numbers, slices, or arrays of integers or booleans, within the shape",
        ) from error


_getitem = register(
    Op(
        "getitem",
        _read,
        vjps=[lambda g, out, x, *, index: _put(g, index=index, shape=x.shape)],
        doc="NumPy's basic and advanced indexing; the gradient is added at the places read.",
    ),
)


def getitem(x, index):
    """x[index], by NumPy's rules: numbers, slices, ..., None, arrays of integers or booleans.

    Tensors of integers or booleans count as arrays, and arrays are copied, so that they may change
    before the backward pass. A basic index gives a view. Raises `ShapeError`.

    >>> mg.getitem(np.array([5.0, 6.0, 7.0]), [0, 2, 0])
    array([5., 7., 5.])
    """
    return _getitem(as_array(x), index=_kept(index))


def _kept(index):
    """`index` with arrays of its own, which nobody else can change."""
    return tuple([_own(i) for i in index]) if isinstance(index, tuple) else _own(index)


def _own(item):
    if isinstance(item, np.ndarray):
        return item.copy()
    if isinstance(item, Tensor):
        return item.data.copy()
    if isinstance(item, (list, tuple)):
        return _array("getitem", "index", item)
    return item


def _array(op: str, name: str, values) -> np.ndarray:
    """Numbers in lists as an array, none as integers. Raises `UsageError` for uneven lists."""
    try:
        array = np.array(values)
    except ValueError:
        raise UsageError(
            f"{op}: {name}",
            f"expected lists of equal lengths, got {values!r}",
            "pass an array, or lists of numbers",
        ) from None
    return array if array.size else array.astype(np.intp)


def _is_basic(i) -> bool:
    return i is None or i is Ellipsis or isinstance(i, int | np.integer | slice)


def _is_integers(i) -> bool:
    return isinstance(i, np.ndarray) and i.dtype.kind in "iu"


def _added(g, *, index, shape):
    """Zeros of `shape` with g added at the places of an index.

    Where places may repeat, the leading axes that the index speaks of are taken as one, so that
    each place is a row with a number, and rows are added up in C.
    """
    if isinstance(index, tuple) and len(index) == 1:
        (index,) = index
    if _is_integers(index):
        return _scatter(index, g, shape)
    items = index if isinstance(index, tuple) else (index,)
    if len(items) == 1 or all(_is_basic(i) for i in items):  # basic, or one mask: no repeats
        out = np.zeros(shape, g.dtype)
        out[index] = g
        return out
    n = _axes_read(items, len(shape))
    rows = _rows(items, shape[:n])
    return _scatter(rows, g, (math.prod(shape[:n]), *shape[n:])).reshape(shape)


def _scatter(rows: np.ndarray, g, shape) -> np.ndarray:
    """Zeros of `shape` with g[r] added to row rows[r], r ascending."""
    if math.prod(shape[1:]) != 1:
        return kernels.scatter_rows(rows, g, shape)
    out = np.zeros(shape[0], g.dtype)
    np.add.at(out, rows.reshape(-1), g.reshape(-1))  # quick in one dimension, and only there
    return out.reshape(shape)


def _axes_read(items, ndim: int) -> int:
    """How many leading axes an index says something about; what follows is read as whole rows."""
    n = 0
    for i in items:
        if i is Ellipsis:
            return ndim
        if i is not None:
            i = np.empty(0) if isinstance(i, slice) else np.asarray(i)
            n += i.ndim if i.dtype == bool else 1
    return n


def _rows(items, lead) -> np.ndarray:
    """The numbers, in C order, of the rows that an index reads from a table of shape `lead`."""
    if all(_is_integers(i) for i in items):
        return np.ravel_multi_index(items, lead, mode="wrap")
    return np.arange(math.prod(lead)).reshape(lead)[items]  # a table of numbers, read likewise


_put = register(
    Op(
        "put",
        _added,
        vjps=[lambda g, out, x, *, index, shape: _getitem(g, index=index)],
        doc="Zeros of a shape with x added at the places of an index, repeats adding up; "
        "the gradient is read from there.",
    ),
)


# --- reading along an axis -----------------------------------------------------------------------


def _gather(x, k: np.ndarray, axis: int):
    """The slices k of x along an axis; k is an array that nobody else can change."""
    return _getitem(x, index=(slice(None),) * axis + (k,))


def _integers(op: str, name: str, values) -> np.ndarray:
    """A copy of `values`, numbers, as an array of integers. Raises `UsageError`."""
    array = _array(op, name, values.data if isinstance(values, Tensor) else values)
    if array.dtype.kind not in "iub":
        raise UsageError(
            f"{op}: {name}",
            f"expected whole numbers, got {array.dtype}",
            "convert with .astype(np.int64)",
        )
    return array.astype(np.intp, copy=False)


def _within(op: str, k: np.ndarray, axis: int, shape) -> None:
    """Raises `ShapeError` if an index of k lies outside the axis."""
    n = shape[axis]
    if k.size and not -n <= k.min() <= k.max() < n:
        raise ShapeError(
            f"{op}: indices outside axis {axis}",
            f"expected {-n} to {n - 1} for shape {shape}, got {k.min()} to {k.max()}",
            "check the indices against the length of the axis",
        )


def take(x, indices, axis=None, mode="raise"):
    """The slices of x at `indices`, of any shape, along an axis; of x flattened if it is None.

    out[..., j, ...] = x[..., indices[j], ...]

    `mode` says what happens to indices outside: "raise" (a `ShapeError`), "wrap" around, or "clip"
    to the ends. Indices may repeat: then their gradients add up.

    >>> mg.take(np.array([[1.0, 2.0], [3.0, 4.0]]), [1, 1, 0], axis=1)
    array([[2., 2., 1.],
           [4., 4., 3.]])
    """
    x = as_array(x)
    if axis is None:
        x, axis = ravel(x), 0
    axis = axis_of("take", axis, x.ndim)
    n = x.shape[axis]
    k = _integers("take", "indices", indices)
    if mode not in ("raise", "wrap", "clip"):
        raise UsageError(
            "take: mode", f"expected raise, wrap or clip, got {mode!r}", "pass one of them"
        )
    if n and mode == "wrap":
        k = k % n
    elif n and mode == "clip":
        k = np.clip(k, 0, n - 1)
    else:
        _within("take", k, axis, x.shape)
    return _gather(x, k, axis)


def take_along_axis(x, indices, axis=-1):
    """The elements of x at places along an axis that differ from line to line.

    out[i, j] = x[i, indices[i, j]] for two axes, the last of which is `axis`

    `indices` has as many axes as x and broadcasts with it in the others; with `axis=None` x is
    flattened. Raises `ShapeError`, `UsageError`.

    >>> x = np.array([[3.0, 1.0, 2.0], [4.0, 6.0, 5.0]])
    >>> mg.take_along_axis(x, np.array([[1], [0]]), axis=1)
    array([[1.],
           [4.]])
    """
    x = as_array(x)
    if axis is None:
        x, axis = ravel(x), 0
    axis = axis_of("take_along_axis", axis, x.ndim)
    k = _integers("take_along_axis", "indices", indices)
    others = [(i, n) for i, n in enumerate(x.shape) if i != axis]
    if k.ndim != x.ndim or any(k.shape[i] != n and 1 not in (k.shape[i], n) for i, n in others):
        raise ShapeError(
            "take_along_axis: indices",
            f"expected a shape that fits {x.shape} in all axes but {axis}, got {k.shape}",
            "give as many axes as x has, of the same lengths or of length 1",
        )
    _within("take_along_axis", k, axis, x.shape)
    index = list(np.ix_(*map(np.arange, x.shape)))
    index[axis] = k
    return _getitem(x, index=tuple(index))


_argsort = register(
    Op(
        "argsort",
        lambda x, *, axis: np.argsort(x, axis=axis, kind="stable"),
        vjps=[None],
        doc="The places of the elements in ascending order; whole numbers, without gradient.",
    ),
)


def argsort(x, axis=-1):
    """The places of the elements of x in ascending order along an axis, equal ones as they stand.

    With `axis=None` x is flattened. No gradient flows. Raises `ShapeError`.

    >>> mg.argsort(np.array([3.0, 1.0, 2.0]))
    array([1, 2, 0])
    """
    x = as_array(x)
    if axis is None:
        x, axis = ravel(x), 0
    return _argsort(x, axis=axis_of("argsort", axis, x.ndim))


def sort(x, axis=-1):
    """The elements of x in ascending order along an axis, NaN last; flattened if it is None.

    The gradient goes back the way that the elements came; equal ones keep their order. Raises
    `ShapeError`.

    >>> mg.sort(np.array([3.0, 1.0, 2.0]))
    array([1., 2., 3.])
    """
    x = as_array(x)
    if axis is None:
        x, axis = ravel(x), 0
    axis = axis_of("sort", axis, x.ndim)
    return take_along_axis(x, _argsort(x, axis=axis), axis)


def flip(x, axis=None):
    """x with the order of its elements reversed along an axis, several, or all.

    Raises `ShapeError`.

    >>> mg.flip(np.array([1.0, 2.0, 3.0]))
    array([3., 2., 1.])
    """
    x = as_array(x)
    axes = range(x.ndim) if axis is None else axes_of("flip", axis, x.ndim)
    return _getitem(
        x, index=tuple([slice(None, None, -1 if i in axes else 1) for i in range(x.ndim)])
    )


_roll = register(
    Op(
        "roll",
        lambda x, *, shift, axis: np.roll(x, shift, axis),
        vjps=[
            lambda g, out, x, *, shift, axis: _roll(g, shift=tuple([-s for s in shift]), axis=axis)
        ],
        doc="Elements moved along axes, those pushed out coming in again at the other end; "
        "the gradient is moved back.",
    ),
)


def roll(x, shift, axis=None):
    """x with its elements moved by `shift` places; those pushed out come in at the other end.

    `shift` and `axis` are numbers or tuples, and a single one serves for all of the other. With
    `axis=None` the elements move as if x were flat. Raises `ShapeError`, `UsageError`.

    >>> mg.roll(np.array([1.0, 2.0, 3.0]), 1)
    array([3., 1., 2.])
    """
    x = as_array(x)
    shifts = tuple([whole("roll", "shift", s) for s in _tuple(shift)])
    axes = None if axis is None else tuple([axis_of("roll", a, x.ndim) for a in _tuple(axis)])
    if axes is not None and len(shifts) != len(axes) and 1 not in (len(shifts), len(axes)):
        raise ShapeError(
            "roll: shift and axis",
            f"expected a shift for each axis, got {len(shifts)} for {len(axes)}",
            "give as many shifts as axes, or a single one",
        )
    return _roll(x, shift=shifts, axis=axes)


def _tuple(values) -> tuple:
    return tuple(values) if np.ndim(values) else (values,)


# --- more elements than there were ---------------------------------------------------------------


def repeat(x, repeats, axis=None):
    """Every slice of x along an axis several times over; every element if it is None.

    `repeats` is a number, or a number for each slice. The gradients of the copies add up. Raises
    `ShapeError`, `UsageError`.

    >>> mg.repeat(np.array([1.0, 2.0]), [2, 1])
    array([1., 1., 2.])
    """
    x = as_array(x)
    if axis is None:
        x, axis = ravel(x), 0
    axis = axis_of("repeat", axis, x.ndim)
    counts = _integers("repeat", "repeats", repeats)
    n = x.shape[axis]
    if counts.shape not in ((), (1,), (n,)) or np.any(counts < 0):
        raise ShapeError(
            "repeat: repeats",
            f"expected a count or {n}, none negative, got {counts.tolist()}",
            f"give one count for each slice along axis {axis}, or one for all",
        )
    return _gather(x, np.repeat(np.arange(n), counts), axis)


def tile(x, reps):
    """x laid out again and again, `reps` times along each axis.

    `reps` is a number, for the last axis, or a tuple; where it has more entries than x has axes, x
    gets axes in front. The gradients of the copies add up. Raises `UsageError`.

    >>> mg.tile(np.array([1.0, 2.0]), (2, 2))
    array([[1., 2., 1., 2.],
           [1., 2., 1., 2.]])
    """
    x = as_array(x)
    times = [whole("tile", "reps", r) for r in _tuple(reps)]
    if any(r < 0 for r in times):
        raise UsageError(
            "tile: reps",
            f"expected no negative number, got {reps}",
            "pass how many times to lay x out along each axis",
        )
    x = _reshape(x, shape=(1,) * (len(times) - x.ndim) + x.shape)
    for axis, r in enumerate(times, start=x.ndim - len(times)):
        if r != 1:
            x = _gather(x, np.tile(np.arange(x.shape[axis]), r), axis)
    return x


def _mirror(k, n):
    """Places k folded back at the elements 0 and n - 1, which are not repeated."""
    k = k % max(2 * n - 2, 1)
    return np.minimum(k, 2 * n - 2 - k)


# By mode, from places beyond both ends of an axis of length n, which elements stand there.
_BEYOND = {
    "edge": lambda k, n: np.clip(k, 0, n - 1),
    "reflect": _mirror,
    "symmetric": lambda k, n: np.minimum(k % (2 * n), 2 * n - 1 - k % (2 * n)),
    "wrap": lambda k, n: k % n,
}


def _middle(widths, shape) -> tuple[slice, ...]:
    """Where x of that shape stands in what it is padded to."""
    return tuple([slice(b, b + n) for (b, _), n in zip(widths, shape, strict=True)])


def _padded(x, *, widths, values):
    out = np.empty([b + n + a for (b, a), n in zip(widths, x.shape, strict=True)], x.dtype)
    for axis, ((before, _), (first, last)) in enumerate(zip(widths, values, strict=True)):
        lead = (slice(None),) * axis
        out[(*lead, slice(before))] = first
        out[(*lead, slice(before + x.shape[axis], None))] = last
    out[_middle(widths, x.shape)] = x
    return out


_pad = register(
    Op(
        "pad",
        _padded,
        vjps=[lambda g, out, x, *, widths, values: _getitem(g, index=_middle(widths, x.shape))],
        doc="x with constants around it; the gradient is cut out of its middle.",
    ),
)


def pad(x, pad_width, mode="constant", constant_values=0):
    """x with more elements before and after along every axis.

    `pad_width` is a number, a pair (before, after), or a pair for each axis. `mode` says what is
    put there: "constant" (`constant_values`, given like the widths), "edge" (the nearest element),
    "reflect" and "symmetric" (mirrored, without and with the edge itself), "wrap" (periodic).
    Elements copied there add to the gradient of those they come from. Raises `ShapeError`,
    `UsageError`.

    >>> mg.pad(np.array([1.0, 2.0]), (1, 2))
    array([0., 1., 2., 0., 0.])
    >>> mg.pad(np.array([1.0, 2.0, 3.0]), 2, mode="reflect")
    array([3., 2., 1., 2., 3., 2., 1.])
    """
    x = as_array(x)
    widths = _pairs("pad_width", _integers("pad", "pad_width", pad_width), x.ndim)
    if any(w < 0 for pair in widths for w in pair):
        raise UsageError(
            "pad: pad_width",
            f"expected no negative number, got {pad_width}",
            "cut with slices: x[1:-1]",
        )
    if mode == "constant":
        values = _pairs(
            "constant_values", _array("pad", "constant_values", constant_values), x.ndim
        )
        return _pad(x, widths=widths, values=values)
    if mode not in _BEYOND:
        raise UsageError(
            "pad: mode",
            f"expected one of constant, {', '.join(_BEYOND)}, got {mode!r}",
            "pass one of them",
        )
    for axis, (before, after) in enumerate(widths):
        n = x.shape[axis]
        if before or after:
            if n == 0:
                raise ShapeError(
                    f"pad: axis {axis}, which is empty",
                    f"expected an element to copy, got shape {x.shape}",
                    'use mode="constant"',
                )
            x = _gather(x, _BEYOND[mode](np.arange(-before, n + after), n), axis)
    return x


def _pairs(name: str, values: np.ndarray, ndim: int) -> tuple[tuple, ...]:
    """A pair (before, after) for each axis."""
    try:
        return tuple(map(tuple, np.broadcast_to(values, (ndim, 2)).tolist()))
    except ValueError:
        raise ShapeError(
            f"pad: {name}",
            f"expected a number, a pair, or a pair for each of {ndim} axes, "
            f"got shape {values.shape}",
            "write ((before, after), ...)",
        ) from None


# --- triangles and diagonals ---------------------------------------------------------------------


def _below(op: str, x, k) -> np.ndarray:
    """True on and below diagonal k of the matrices x."""
    if x.ndim == 0:
        raise ShapeError(
            f"{op}: of a number",
            "expected an array, got shape ()",
            "pass a matrix, or a stack of matrices",
        )
    shape = x.shape[-2:]
    return np.tri(shape[0], shape[-1], whole(op, "k", k), bool)


def tril(x, k=0):
    """The matrices in the last two axes of x, with zeros above diagonal k.

    Diagonal 0 is the main one, positive ones lie above it. Raises `ShapeError`, `UsageError`.

    >>> mg.tril(np.ones((2, 3)))
    array([[1., 0., 0.],
           [1., 1., 0.]])
    """
    x = as_array(x)
    return where(_below("tril", x, k), x, 0)


def triu(x, k=0):
    """The matrices in the last two axes of x, with zeros below diagonal k.

    Diagonal 0 is the main one, positive ones lie above it. Raises `ShapeError`, `UsageError`.

    >>> mg.triu(np.ones((2, 3)))
    array([[1., 1., 1.],
           [0., 1., 1.]])
    """
    x = as_array(x)
    return where(_below("triu", x, whole("triu", "k", k) - 1), 0, x)


def _along_diagonal(offset: int, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """The places (i, i + offset) of a matrix."""
    i = np.arange(max(0, -offset), min(rows, columns - offset))
    return i, i + offset


def diagonal(x, offset=0, axis1=0, axis2=1):
    """The diagonals of the matrices in two axes of x, along a new last axis.

    out[..., i] = x[..., i, i + offset], the matrices being in the last two axes

    Raises `ShapeError`, `UsageError`.

    >>> mg.diagonal(np.array([[1.0, 2.0], [3.0, 4.0]]))
    array([1., 4.])
    """
    x = as_array(x)
    if x.ndim < 2:
        raise ShapeError(
            "diagonal: of an array without matrices",
            f"expected two axes or more, got shape {x.shape}",
            "use diag to build a matrix from a vector",
        )
    axes = axes_of("diagonal", (axis1, axis2), x.ndim)
    x = moveaxis(x, axes, (0, 1))
    index = _along_diagonal(whole("diagonal", "offset", offset), *x.shape[:2])
    return moveaxis(_getitem(x, index=index), 0, -1)


def diag(x, k=0):
    """The diagonal k of a matrix, or the matrix with a vector on its diagonal k and zeros else.

    Raises `ShapeError` for other arrays, `UsageError`.

    >>> mg.diag(np.array([1.0, 2.0]))
    array([[1., 0.],
           [0., 2.]])
    """
    x = as_array(x)
    k = whole("diag", "k", k)
    if x.ndim == 2:
        return diagonal(x, k)
    if x.ndim != 1:
        raise ShapeError(
            "diag: of neither a vector nor a matrix",
            f"expected one or two axes, got shape {x.shape}",
            "use diagonal for stacks of matrices",
        )
    n = x.shape[0] + abs(k)
    return _put(x, index=_along_diagonal(k, n, n), shape=(n, n))


# --- time reversed, each row within its own length -----------------------------------------------


def _flipped(x, *, lengths):
    if lengths is None:
        return x[::-1]
    t = np.arange(len(x))[:, None]
    return x[np.where(t < lengths, lengths - 1 - t, t), np.arange(x.shape[1])]


_flip_rows = register(
    Op(
        "flip_rows",
        _flipped,
        vjps=[lambda g, out, x, *, lengths: _flip_rows(g, lengths=lengths)],
        doc="Time (axis 0) reversed in every row (axis 1); its own inverse, and its own transpose.",
    ),
)


def flip_rows(x, lengths=None):
    """x (T, N, ...) with time reversed, each row within its own length.

    out[t, n] = x[lengths[n] - 1 - t, n] for t < lengths[n], and x[t, n] past that

    `lengths` (N,) are whole numbers up to T, or None for T each. Raises `ShapeError`,
    `UsageError`.

    >>> mg.flip_rows(np.array([[1, 5], [2, 6], [3, 7]]), lengths=[3, 2])
    array([[3, 6],
           [2, 5],
           [1, 7]])
    """
    x = as_array(x)
    if lengths is None:
        return _flip_rows(x, lengths=None)
    lengths = _integers("flip_rows", "lengths", lengths)
    steps, rows = x.shape[:2] if x.ndim > 1 else (0, -1)
    if lengths.shape != (rows,) or np.any(lengths < 0) or np.any(lengths > steps):
        raise ShapeError(
            "flip_rows: lengths",
            f"expected a length of 0 to T for each row of (T, N, ...), got {lengths.tolist()} "
            f"for shape {x.shape}",
            "give one length for each row",
        )
    return _flip_rows(x, lengths=lengths)
