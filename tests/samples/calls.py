"""How each op of minigrad is called when it goes through its own checker.

`OPS` has, for every public op, the keyword arguments of `check_op`. Shapes have sides 0 and 1
among them, axes count from either end, arrays are broadcast; dtypes, layouts, values, ties and
sharing are the checker's business.
"""

import math

import numpy as np

import minigrad as mg
from minigrad.testing import strategies as mgst
from minigrad.testing.example import Array
from minigrad.testing.strategies import SIDES, Call, shape

INF = math.inf
POSITIVE, INSIDE, ABOVE_ONE = (0.0, INF), (-1.0, 1.0), (1.0, INF)
FULL = (2, 3, 1, 4, 5)  # without 0, where an op refuses an empty axis


def ufunc(f, n=1, domain=None, reference=None, **more):
    """A function of n arrays that broadcast."""
    return dict(f=f, inputs=mgst.broadcastable(n), domain=domain, reference=reference) | more


def one(f, draw, sides=SIDES, ndim=(1, 3), reference=None, **more):
    """A function of one array and keyword parameters, which `draw(choices, shape)` gives."""

    low, high = ndim
    # Most have two axes or three: which of them is meant is where most can go wrong.
    ranks = [*[n for n in (2, 3) if low <= n <= high], *range(low, high + 1)]

    def build(c):
        s = shape(c, c.one_of(ranks), sides)
        return Call((Array(s),), draw(c, s))

    return dict(f=f, inputs=mgst.calls(build), reference=reference) | more


def several(f, build, reference=None, **more):
    return dict(f=f, inputs=mgst.calls(build), reference=reference) | more


# --- parameters ----------------------------------------------------------------------------------


def an_axis(c, s):
    """An axis, counted from either end."""
    i = c.integer(0, len(s) - 1)
    return i - len(s) if c.flip() else i


def axis(c, s):
    return {"axis": an_axis(c, s)}


def axes(c, s):
    """None, one axis, or several; with keepdims or without."""
    kinds = ["none", *(["one"] * 2 if s else []), *(["several"] if len(s) > 1 else [])]
    kind = c.one_of(kinds)
    if kind == "none":
        found = None
    elif kind == "one":
        found = an_axis(c, s)
    else:
        first = c.integer(0, len(s) - 1)
        other = (first + c.integer(1, len(s) - 1)) % len(s)
        found = (first, other - len(s) if c.flip() else other)
    return {"axis": found, "keepdims": c.flip()}


def none(c, s):
    return {}


def axis_or_none(c, s):
    return {"axis": an_axis(c, s) if s and c.flip() else None}


def order(c, n):
    """A permutation of n axes."""
    left, found = list(range(n)), []
    while left:
        found.append(left.pop(c.integer(0, len(left) - 1)))
    return tuple(found)


def reshaped(c, s):
    n = math.prod(s)
    options = [(n,), (1, n), (n, 1)]
    if n:
        options.append((-1,))
    if n and n % 2 == 0:
        options += [(2, n // 2), (n // 2, -1)]
    return {"shape": c.one_of(options)}


def an_index(c, s):
    """What may stand in brackets: integers, slices, None, an ellipsis, lists, masks."""

    def part(n):
        kind = c.one_of(("slice", "step", "integer", "list", "mask") if n else ("slice", "empty"))
        if kind == "slice":
            return slice(c.integer(0, n), None)
        if kind == "step":
            return slice(None, None, c.one_of((2, -1, -2)))
        if kind == "integer":
            return c.integer(-n, n - 1)
        if kind == "empty":
            return np.zeros(0, int)
        if kind == "list":
            return np.array([c.integer(-n, n - 1) for _ in range(c.integer(0, 4))], int)
        return np.array([c.flip() for _ in range(n)])

    form = c.one_of(("one", "two", "none", "ellipsis"))
    if form == "two" and len(s) > 1:
        first, second = part(s[0]), part(s[1])
        if all(isinstance(p, np.ndarray) for p in (first, second)):
            second = slice(None)  # two lists would have to be equally long
        return {"index": (first, second)}
    if form == "none":
        return {"index": (None, part(s[0]))}
    if form == "ellipsis":
        return {"index": (Ellipsis, part(s[-1]))}
    return {"index": part(s[0])}


def take_indices(c, s):
    n = math.prod(s)
    found = axis_or_none(c, s)
    n = n if found["axis"] is None else s[found["axis"]]
    ndim = c.integer(0, 2)
    sides = [c.integer(0, 3) if n else 0 for _ in range(ndim)] or ([] if n else [0])
    count = math.prod(sides)
    drawn = [c.integer(-n, n - 1) for _ in range(count)]
    return found | {"indices": np.array(drawn, int).reshape(sides)}


def along_indices(c, s):
    i = an_axis(c, s)
    t = list(s)
    t[i] = c.integer(0, 3) if s[i] else 0
    drawn = [c.integer(-s[i], s[i] - 1) for _ in range(math.prod(t))]
    return {"indices": np.array(drawn, int).reshape(t), "axis": i}


def sections(c, s):
    i = an_axis(c, s)
    n = s[i]
    divisors = [k for k in range(1, n + 1) if n % k == 0] or [1]
    cut = c.integer(0, n)
    return {"sections": c.one_of([*divisors, (cut,), (cut, n)]), "axis": i}


def pads(c, s):
    widths = [(c.integer(0, 2), c.integer(0, 2)) for _ in s]
    return {"pad_width": c.one_of([1, widths]), "constant_values": c.one_of([0, 1.5])}


def ddof(c, s):
    found = axes(c, s)
    i = found["axis"]
    n = math.prod(s if i is None else [s[j] for j in (i if isinstance(i, tuple) else (i,))])
    return found | {"ddof": c.integer(0, 1) if n > 1 else 0}


def lengths(c, s):
    return {"lengths": c.one_of([None, [c.integer(0, s[0]) for _ in range(s[1])]])}


# --- calls with several arrays -------------------------------------------------------------------


def joined(c):
    """A list of arrays that differ along one axis."""
    s, n = shape(c, (1, 3)), c.integer(1, 3)
    i = c.integer(0, len(s) - 1)
    shapes = [(*s[:i], c.one_of(SIDES), *s[i + 1 :]) for _ in range(n)]
    return Call(tuple([Array(t) for t in shapes]), {"axis": i - len(s) if c.flip() else i})


def alike(c):
    s = shape(c, (0, 2))
    at = c.integer(-len(s) - 1, len(s))
    return Call(tuple([Array(s) for _ in range(c.integer(1, 3))]), {"axis": at})


def rows(c):
    s = shape(c, (2, 3))
    return Call(tuple([Array((c.one_of(SIDES), *s[1:])) for _ in range(c.integer(1, 3))]))


def columns(c):
    return Call(tuple([Array((2, c.one_of(SIDES))) for _ in range(c.integer(1, 3))]))


def matrices(c):
    """Products with vectors, matrices, stacks that broadcast."""
    n, k, m = (c.one_of((2, 3, 1, 4, 0, 9)) for _ in range(3))
    if c.integer(0, 14) == 14:  # longer sums than are formed in one go, by small products and large
        n, k, m = c.one_of(((2, 70, 3), (2, 260, 33)))
    stack = shape(c, (0, 2), (2, 1, 3))
    other = tuple([1 if c.flip() else s for s in stack])[c.integer(0, len(stack)) :]
    return Call((
        Array(c.one_of(((n, k), (k,), (*stack, n, k)))),
        Array(c.one_of(((k, m), (k,), (*other, k, m)))),
    ))  # fmt: skip


def two_matrices(c):
    n, k, m = (c.one_of((2, 3, 1, 4, 0)) for _ in range(3))
    return Call((Array(c.one_of(((n, k), (k,)))), Array(c.one_of(((k, m), (k,))))))


def affines(c):
    n, k, m = (c.one_of((2, 3, 1, 5, 0, 9)) for _ in range(3))
    lead = c.one_of(((n,), (), (2, n)))
    return Call((Array((*lead, k)), Array((m, k)), Array(c.one_of(((m,), (*lead, m))))))


def addmms(c):
    n, k, m = (c.one_of((2, 3, 1, 5, 0)) for _ in range(3))
    return Call((Array(c.one_of(((m,), (n, m), ()))), Array((n, k)), Array((k, m))))


def vectors(c):
    n = c.one_of((2, 3, 1, 0, 5))
    return Call((Array((n,)), Array((n,))))


def outer_vectors(c):
    return Call((Array((c.one_of(SIDES),)), Array((c.one_of(SIDES),))))


def inners(c):
    n = c.one_of((2, 3, 1, 4))
    lead = [shape(c, (0, 2), (2, 1, 3)) for _ in range(2)]
    return Call((Array((*lead[0], n)), Array((*lead[1], n))))


def tensordots(c):
    k, m = c.one_of((2, 3, 1)), c.one_of((2, 1, 4))
    a, b = c.one_of((2, 1, 3)), c.one_of((2, 1, 3))
    return c.one_of([
        Call((Array((a, k, m)), Array((k, m, b))), {"axes": 2}),
        Call((Array((a, k)), Array((k, b))), {"axes": 1}),
        Call((Array((k, a, m)), Array((b, m, k))), {"axes": ([0, 2], [2, 1])}),
        Call((Array((a,)), Array((b,))), {"axes": 0}),
    ])  # fmt: skip


def einsums(c):
    i, j, k, b = (c.one_of((2, 3, 1, 4)) for _ in range(4))
    text, *shapes = c.one_of([
        ("ij,jk->ik", (i, j), (j, k)), ("bij,bjk->bik", (b, i, j), (b, j, k)),
        ("ij->ji", (i, j)), ("ii->i", (i, i)), ("ij->", (i, j)), ("i,j->ij", (i,), (j,)),
        ("ij,kj->ik", (i, j), (k, j)), ("...i,i->...", (b, j, i), (i,)),
        ("ij,jk,kb->ib", (i, j), (j, k), (k, b)), ("ij,ij->j", (i, j), (i, j)),
    ])  # fmt: skip
    return Call((text, *[Array(s) for s in shapes]))


def wheres(c):
    call = mgst.broadcastable(2).build(c)
    s = np.broadcast_shapes(*[a.shape for a in call.args])
    condition = np.array([c.flip() for _ in range(math.prod(s))], bool).reshape(s)
    return Call((condition, *call.args))


def clips(c):
    s = shape(c)
    return Call((Array(s), -0.75, c.one_of([0.5, None])))


def squeezed(c):
    s = shape(c, (1, 3))
    places = [i for i, n in enumerate(s) if n == 1]
    return Call((Array(s),), {"axis": c.one_of([None, *places])})


def wide(c):
    s = shape(c, (0, 2))
    full = (*shape(c, (0, 1)), *[c.one_of(SIDES) if n == 1 else n for n in s])
    return Call((Array(s),), {"shape": full})


def kroned(c):
    n = c.integer(1, 2)
    return Call((Array(shape(c, n, (2, 1, 3))), Array(shape(c, n, (2, 1, 3)))))


def lists(f):
    """A function of a list of arrays as one of several."""
    return lambda *xs, **params: f(list(xs), **params)


def powers(c):
    x, y = mgst.broadcastable(2).build(c).args
    if c.rarely((False, True)):  # the edge of the domain
        return Call((Array(x.shape, data=np.zeros(x.shape)), Array(y.shape, domain=(1.0, 3.0))))
    return Call((Array(x.shape, domain=POSITIVE), Array(y.shape, domain=(-3.0, 3.0))))


def quotients(c):
    """Denominators of either sign, away from 0."""
    x, y = mgst.broadcastable(2).build(c).args
    return Call((x, Array(y.shape, domain=c.one_of((POSITIVE, (-INF, 0.0))))))


def norms(c, s):
    return {"axis": c.one_of([None, an_axis(c, s)]), "keepdims": c.flip()}


TESTS = (mg.logical_not, mg.isnan, mg.isinf, mg.isfinite, mg.sign, mg.floor, mg.ceil, mg.trunc)
COMPARISONS = (
    *(mg.greater, mg.greater_equal, mg.less, mg.less_equal, mg.equal, mg.not_equal),
    *(mg.logical_and, mg.logical_or, mg.logical_xor, mg.floor_divide),
)
STEPS = {"P7": "a function of steps, flat between its jumps: it has no gradient, as documented"}
SKIP = {
    "floor": STEPS,
    "ceil": STEPS,
    "trunc": STEPS,
    "floor_divide": STEPS | {"P9": "NaN for 0 // 0, as NumPy has it"},
}
CONSTANT = {
    op.name: ufunc(op, n, reference=getattr(np, op.name), skip=SKIP.get(op.name))
    for n, ops in ((1, TESTS), (2, COMPARISONS))
    for op in ops
}

OPS: dict[str, dict] = {
    "add": ufunc(mg.add, 2, reference=np.add),
    "subtract": ufunc(mg.subtract, 2, reference=np.subtract),
    "multiply": ufunc(mg.multiply, 2, reference=np.multiply),
    "divide": several(mg.divide, quotients, np.divide),
    "negative": ufunc(mg.negative, reference=np.negative),
    "positive": ufunc(mg.positive, reference=np.positive),
    "absolute": ufunc(mg.absolute, reference=np.absolute),
    "reciprocal": several(
        mg.reciprocal, lambda c: Call(quotients(c).args[1:]), np.reciprocal
    ),
    "square": ufunc(mg.square, reference=np.square),
    "sqrt": ufunc(mg.sqrt, 1, POSITIVE, np.sqrt),
    "hypot": ufunc(mg.hypot, 2, POSITIVE, np.hypot),
    "power": several(mg.power, powers, np.power, domain=None),
    "exp": ufunc(mg.exp, reference=np.exp),
    "exp2": ufunc(mg.exp2, reference=np.exp2),
    "expm1": ufunc(mg.expm1, reference=np.expm1),
    "log": ufunc(mg.log, 1, POSITIVE, np.log),
    "log2": ufunc(mg.log2, 1, POSITIVE, np.log2),
    "log10": ufunc(mg.log10, 1, POSITIVE, np.log10),
    "log1p": ufunc(mg.log1p, 1, (-1.0, INF), np.log1p),
    "erf": ufunc(mg.erf, reference=np.vectorize(math.erf, otypes=[float])),
    "sin": ufunc(mg.sin, reference=np.sin),
    "cos": ufunc(mg.cos, reference=np.cos),
    "tan": ufunc(mg.tan, 1, INSIDE, np.tan),
    "arcsin": ufunc(mg.arcsin, 1, INSIDE, np.arcsin),
    "arccos": ufunc(mg.arccos, 1, INSIDE, np.arccos),
    "arctan": ufunc(mg.arctan, reference=np.arctan),
    "arctan2": ufunc(mg.arctan2, 2, POSITIVE, np.arctan2),
    "sinh": ufunc(mg.sinh, reference=np.sinh),
    "cosh": ufunc(mg.cosh, reference=np.cosh),
    "tanh": ufunc(mg.tanh, reference=np.tanh),
    "arcsinh": ufunc(mg.arcsinh, reference=np.arcsinh),
    "arccosh": ufunc(mg.arccosh, 1, ABOVE_ONE, np.arccosh),
    "arctanh": ufunc(mg.arctanh, 1, INSIDE, np.arctanh),
    "maximum": ufunc(mg.maximum, 2, reference=np.maximum),
    "minimum": ufunc(mg.minimum, 2, reference=np.minimum),
    "remainder": ufunc(lambda x: mg.remainder(x, 0.75), 1, POSITIVE,
                       lambda x: np.remainder(x, 0.75)),
    "clip": several(mg.clip, clips, np.clip),
    "where": several(mg.where, wheres, np.where),
    "logaddexp": ufunc(mg.logaddexp, 2, reference=np.logaddexp),
    "sigmoid": ufunc(mg.sigmoid),
    "softplus": ufunc(mg.softplus),
    "relu": ufunc(mg.relu, reference=lambda x: np.maximum(x, 0)),
    "leaky_relu": ufunc(mg.leaky_relu),
    "elu": ufunc(mg.elu),
    "silu": ufunc(mg.silu),
    "gelu": one(mg.gelu, lambda c, s: {"approximate": c.one_of(("none", "tanh"))}, ndim=(0, 3)),
    "astype": one(mg.astype, lambda c, s: {"dtype": np.float64}),
    # reductions
    "sum": one(mg.sum, axes, ndim=(0, 3), reference=np.sum),
    "mean": one(mg.mean, axes, FULL, (0, 3), np.mean),
    "prod": one(mg.prod, axes, ndim=(0, 3), reference=np.prod),
    "max": one(mg.max, axes, FULL, (0, 3), np.max),
    "min": one(mg.min, axes, FULL, (0, 3), np.min),
    "amax": one(mg.amax, axes, FULL, (0, 3), np.amax),
    "amin": one(mg.amin, axes, FULL, (0, 3), np.amin),
    "ptp": one(mg.ptp, axes, FULL, (0, 3), np.ptp),
    "var": one(mg.var, ddof, FULL, (0, 3), np.var),
    "std": one(mg.std, ddof, (2, 3, 4, 5), (1, 3), np.std, values=("generic", "large")),
    "norm": one(mg.norm, norms, FULL, reference=np.linalg.norm, values=("generic", "large")),
    "logsumexp": one(mg.logsumexp, axes, FULL, (0, 3)),
    "softmax": one(mg.softmax, axis, FULL),
    "log_softmax": one(mg.log_softmax, axis, FULL),
    "cumsum": one(mg.cumsum, axis_or_none, reference=np.cumsum),
    "cumprod": one(mg.cumprod, axis_or_none, reference=np.cumprod),
    # shapes
    "reshape": one(mg.reshape, reshaped, reference=np.reshape),
    "transpose": one(mg.transpose, lambda c, s: {"axes": order(c, len(s))}, reference=np.transpose),
    "swapaxes": one(mg.swapaxes, lambda c, s: {"axis1": an_axis(c, s), "axis2": an_axis(c, s)},
                    reference=np.swapaxes),
    "moveaxis": one(mg.moveaxis,
                    lambda c, s: {"source": an_axis(c, s), "destination": an_axis(c, s)},
                    reference=np.moveaxis),
    "expand_dims": one(mg.expand_dims, lambda c, s: {"axis": c.integer(-len(s) - 1, len(s))},
                       ndim=(0, 3), reference=np.expand_dims),
    "squeeze": several(mg.squeeze, squeezed, np.squeeze),
    "ravel": one(mg.ravel, none, ndim=(0, 3), reference=np.ravel),
    "flatten": one(mg.flatten, none, ndim=(0, 3), reference=np.ravel),
    "broadcast_to": several(mg.broadcast_to, wide, np.broadcast_to),
    "concatenate": several(lists(mg.concatenate), joined, lists(np.concatenate)),
    "stack": several(lists(mg.stack), alike, lists(np.stack)),
    "hstack": several(lists(mg.hstack), columns, lists(np.hstack)),
    "vstack": several(lists(mg.vstack), rows, lists(np.vstack)),
    "split": one(mg.split, sections),
    "array_split": one(mg.array_split, sections),
    "unstack": one(mg.unstack, axis, FULL),
    "tile": one(mg.tile, lambda c, s: {"reps": c.one_of([2, (2, 1), (1, 3), 0])},
                ndim=(0, 2), reference=np.tile),
    "repeat": one(mg.repeat, lambda c, s: axis_or_none(c, s) | {"repeats": c.integer(0, 3)},
                  reference=np.repeat),
    "roll": one(mg.roll, lambda c, s: axis_or_none(c, s) | {"shift": c.integer(-3, 3)},
                reference=np.roll),
    "flip": one(mg.flip, axis_or_none, reference=np.flip),
    "flip_rows": one(mg.flip_rows, lengths, ndim=(2, 3)),
    "pad": one(mg.pad, pads, reference=np.pad),
    "diag": one(mg.diag, lambda c, s: {"k": c.integer(-1, 1)}, FULL, (1, 2), np.diag),
    "diagonal": one(mg.diagonal, lambda c, s: {"offset": c.integer(-1, 1)}, FULL, (2, 3),
                    np.diagonal),
    "trace": one(mg.trace, lambda c, s: {"offset": c.integer(-1, 1)}, FULL, (2, 3), np.trace),
    "tril": one(mg.tril, lambda c, s: {"k": c.integer(-1, 1)}, SIDES, (2, 3), np.tril),
    "triu": one(mg.triu, lambda c, s: {"k": c.integer(-1, 1)}, SIDES, (2, 3), np.triu),
    "getitem": one(mg.getitem, an_index, reference=lambda x, index: x[index], owns=True),
    "take": one(mg.take, take_indices, reference=np.take, owns=True),
    "take_along_axis": one(mg.take_along_axis, along_indices, reference=np.take_along_axis,
                           owns=True),
    "sort": one(mg.sort, axis, reference=np.sort),
    # products
    "matmul": several(mg.matmul, matrices, np.matmul),
    "dot": several(mg.dot, two_matrices, np.dot),
    "vdot": several(mg.vdot, vectors, np.vdot),
    "inner": several(mg.inner, inners, np.inner),
    "outer": several(mg.outer, outer_vectors, np.outer),
    "kron": several(mg.kron, kroned, np.kron),
    "tensordot": several(mg.tensordot, tensordots, np.tensordot),
    "einsum": several(mg.einsum, einsums, np.einsum),
    "affine": several(mg.affine, affines, lambda x, w, b: np.einsum("...k,nk->...n", x, w) + b),
    "addmm": several(mg.addmm, addmms, lambda start, x, y: start + np.einsum("nk,km->nm", x, y)),
    # constants of the point
    "argmax": one(mg.argmax, axis, FULL,
                  reference=np.argmax),
    "argmin": one(mg.argmin, axis, FULL, reference=np.argmin),
    "argsort": one(mg.argsort, axis),
    "any": one(mg.any, axes, ndim=(0, 3), reference=np.any),
    "all": one(mg.all, axes, ndim=(0, 3), reference=np.all),
    "count_nonzero": one(mg.count_nonzero, axes, ndim=(0, 3), reference=np.count_nonzero),
    "round": one(mg.round, lambda c, s: {"decimals": c.integer(-1, 2)}, reference=np.round,
                 skip=STEPS),
    "zeros_like": one(mg.zeros_like, none, reference=np.zeros_like),
    "ones_like": one(mg.ones_like, none, reference=np.ones_like),
    "full_like": one(mg.full_like, lambda c, s: {"fill_value": 2.5}, reference=np.full_like),
    **CONSTANT,
}  # fmt: skip

# Two names of one op.
SAME = {"abs": "absolute", "mod": "remainder", "true_divide": "divide"}
