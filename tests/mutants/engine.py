"""Seeded bugs in minigrad itself: its engine, its rules, its cells, its way through time.

Each is a patch of functions, methods, rules or tables, taken back when the context ends, also after
an error. `SUBJECTS` names for each the op, the cell or the part whose check ought to see it.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import cells, expand, kernels, transforms
from minigrad.errors import GradientError
from minigrad.graph import Tensor, registry

from . import Mutant, Specimen, add, specimen

# Modules whose name in the package is that of a function.
backward, graph, unfold = (import_module(f"minigrad.{n}") for n in ("backward", "graph", "unfold"))
elementwise, index, linear = (
    import_module(f"minigrad.ops.{n}") for n in ("elementwise", "index", "linear")
)

SUBJECTS: dict[str, str] = {}

for _name in ("engine", "ops", "cells", "unfold"):
    specimen(Specimen(_name, "library"))


# --- how to plant --------------------------------------------------------------------------------


@contextlib.contextmanager
def changed(*changes: tuple[Any, str, Any]) -> Iterator[None]:
    """Sets attributes, (owner, name, value), and puts back what was there."""
    before = [(owner, name, vars(owner)[name]) for owner, name, _ in changes]
    try:
        for owner, name, value in changes:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def everywhere(old: Any, new: Any) -> contextlib.AbstractContextManager:
    """Puts `new` under every name that modules of minigrad have for `old`."""
    found = [
        (module, name, new)
        for key, module in sorted(sys.modules.items())
        if key == "minigrad" or key.startswith("minigrad.")
        for name, value in list(vars(module).items())
        if value is old
    ]
    assert found, old
    return changed(*found)


def rules(op: str, change: Callable, *, arrays: bool = True, recorded: bool = True):
    """Replaces the rules of an op by `change(rules)`: those for arrays, for recorded passes."""
    it = registry[op]
    which = [n for n, wanted in (("vjps", recorded), ("array_vjps", arrays)) if wanted]
    return changed(*[(it, name, tuple(change(list(vars(it)[name])))) for name in which])


def rule(op: str, i: int, new: Callable, **kinds: bool):
    """Replaces the rule of one argument."""
    return rules(op, lambda all_: [*all_[:i], new, *all_[i + 1 :]], **kinds)


def forward(op: str, new: Callable):
    return changed((registry[op], "forward", new))


@contextlib.contextmanager
def step(cell: type, new: Callable) -> Iterator[None]:
    """Gives a cell another step function, which still stands for the old one's fused op."""
    old = cell.step
    with changed((cell, "step", staticmethod(new))), everywhere(old, new):
        if old in unfold.FUSED:
            unfold.FUSED[new] = unfold.FUSED[old]
        try:
            yield
        finally:
            unfold.FUSED.pop(new, None)


def plant(
    id: str,
    subject: str,
    area: str,
    description: str,
    cause: str,
    patch: Callable[[], Any],
    shows: Callable[[], bool],
    **more: Any,
) -> None:
    family = more.pop("family", "C engine")
    SUBJECTS[id] = subject
    add(Mutant(id, area, family, description, cause, shows, patch=patch, **more))


# --- how to see ----------------------------------------------------------------------------------


def leaf(*values: float) -> Tensor:
    return mg.tensor(list(values), requires_grad=True)


def differ(got, expected) -> bool:
    got, expected = (x.data if isinstance(x, Tensor) else np.asarray(x) for x in (got, expected))
    return got.shape != expected.shape or not np.allclose(got, expected, rtol=0, atol=1e-6)


def wrong(function: Callable, *arrays, order: int = 1) -> bool:
    """Whether a gradient of sum(w * function) is off, by its central differences.

    Order 2 asks for the gradient of the sum of the gradients, weighted.
    """
    arrays = tuple(np.asarray(a, float) for a in arrays)

    def weighted(x):
        n = np.arange(1.0, 1 + x.size).reshape(x.shape)
        return (x * (1 + 0.1 * n)).sum()

    scalar = target = lambda *xs: weighted(function(*xs))
    every = tuple(range(len(arrays)))
    if order == 2:
        target = lambda *xs: sum(weighted(g) for g in mg.grad(scalar, every)(*xs))  # noqa: E731
    got = mg.grad(target, every)(*arrays)
    h = 1e-5
    for i, a in enumerate(arrays):
        if got[i].shape != a.shape:
            return True
        for at in np.ndindex(a.shape):
            ends = []
            for sign in (1, -1):
                moved = a.copy()
                moved[at] += sign * h
                ends.append(float(target(*arrays[:i], moved, *arrays[i + 1 :])))
            if abs(got[i][at] - (ends[0] - ends[1]) / (2 * h)) > 1e-6:
                return True
    return False


def raises(function: Callable, *errors: type[Exception]) -> bool:
    try:
        function()
    except errors:
        return True
    return False


SQUARE = np.array([[0.3, -1.1], [0.7, 1.9]])
OTHER = np.array([[1.3, 0.4], [-0.6, 0.8]])


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def outputs(cell, xs, **options) -> list[np.ndarray]:
    """What unfolding gives: outputs, then the parts of the last state."""
    ys, state = mg.unfold(cell, xs, **options)
    parts = state if isinstance(state, tuple) else (state,)
    return [np.array(t.data) for t in (ys, *parts)]


def gradients(cell, xs, loss: Callable, **options) -> list[np.ndarray]:
    """Gradients of loss(ys, state) by the parameters."""
    cell.zero_grad()
    ys, state = mg.unfold(cell, xs, **options)
    loss(ys, state).backward()
    found = [p.grad for p in cell.parameters()]
    return [np.zeros(1) if g is None else np.array(g.data) for g in found]


def fused_differs(loss: Callable, **options) -> bool:
    """Whether the gradients of a fused LSTM differ from those of the unfolded one."""
    cell, xs = mg.nn.LSTMCell(2, 3, rng=0), numbers(4, 2, 2)
    two = [gradients(cell, xs, loss, fused=f, **options) for f in (True, False)]
    return any(differ(a, b) for a, b in zip(*two, strict=True))


# --- the engine: what is in the catalogue --------------------------------------------------------


def _write_unseen() -> bool:
    """Parameters loaded between the passes: either it raises, or the gradient is as before."""
    cell, x = mg.nn.RNNCell(1, 1, rng=0), np.array([[[0.5]], [[1.0]]])
    ys, _ = mg.unfold(cell, x)
    cell.load_state_dict({k: 2 * v + 1 for k, v in cell.state_dict().items()})
    return not raises(ys.sum().backward, GradientError)


plant(
    "45",
    "engine:written",
    "engine",
    "load_state_dict writes through a view of a parameter's array, and the graph is not told: the "
    "backward pass of a call before goes on with the new numbers",
    "stale",
    lambda: changed((import_module("minigrad.module"), "note_write", lambda t: None)),
    _write_unseen,
)


def _overwrite(contribution, place, pending) -> None:
    pending[place] = contribution


plant(
    "46",
    "op:multiply",
    "engine",
    "a contribution overwrites those that arrived before it: a tensor used twice keeps the last",
    "accumulation",
    lambda: changed((backward, "_arrive", _overwrite)),
    lambda: wrong(lambda x: x * x, [1.5, -2.0]),
)


def _walk_twice(self):
    """Visits a node once for every use of it, each time with all that has arrived."""
    self.retain = True
    uses = Counter(n for node in self.order for n in expand.sources_of(node))
    while self.order:
        node = self.order.pop()
        held = {p: g for p, g in self.pending.items() if expand.node_of(p) is node}
        self.visit(node)
        if node.op is not None and not node.op.only_reference and uses[node] > 1:
            self.pending.update(held)
            self.visit(node)
    return self.found


plant(
    "47",
    "engine:diamond",
    "engine",
    "a computed node that is used twice is visited twice, and sends everything on twice",
    "accumulation|factor",
    lambda: changed((backward._Pass, "walk", _walk_twice)),
    lambda: wrong(lambda x: (y := x * 3.0) * y, [1.5, -2.0]),
)


def _expand_as_new(node):
    with expand._expanding:
        if node.expansion is None:
            expand._expanded([node])  # the new nodes keep the ranks of now
        return node.expansion


def _second_order_of_fused() -> bool:
    cell, x = mg.nn.LSTMCell(1, 2, rng=0), mg.tensor(numbers(3, 1, 1), requires_grad=True)
    found = []
    for fused in (True, False):
        ys, _ = mg.unfold(cell, x, fused=fused)
        x.grad = None
        try:
            (ys * ys).sum().backward(create_graph=True)
        except (GradientError, AttributeError, TypeError):
            return True
        found.append(x.grad)
        x.grad = None
    return any(g is None for g in found) or differ(*found)


plant(
    "48",
    "cell:LSTMCell",
    "engine",
    "a fused node unfolded in place gets nodes that are younger than those that use it, so that "
    "the order by time of creation visits them too early (recorded passes only)",
    "second order|zero",
    lambda: everywhere(expand.expand, _expand_as_new),
    _second_order_of_fused,
)


def _forget_first(pull_back):
    def found(outputs, cotangents, targets=None, *rest):
        arrived = pull_back(outputs, cotangents, targets, *rest)
        for node in arrived if targets is None else ():
            node.grad = None
        return arrived

    return found


def _two_passes() -> bool:
    x = leaf(1.0, 2.0)
    for _ in range(2):
        (x * 3.0).sum().backward()
    return differ(x.grad, [6.0, 6.0])


plant(
    "49",
    "engine:accumulate",
    "engine",
    "a second backward pass replaces the gradient of a leaf where it should add to it",
    "accumulation",
    lambda: changed((backward, "pull_back", _forget_first(backward.pull_back))),
    _two_passes,
)


def _step_unseen() -> bool:
    x = mg.nn.Parameter(np.array([1.0, 2.0]))
    y = (x * x).sum()
    x.grad = mg.tensor([1.0, 1.0])
    mg.optim.SGD([x], lr=1.0).step()
    return not raises(y.backward, GradientError)


plant(
    "50",
    "engine:written",
    "engine",
    "nobody looks whether an array was written to (by an optimiser's step, say) between the passes",
    "stale",
    lambda: everywhere(backward.check_written, lambda leaves, oldest_first: None),
    _step_unseen,
)


@contextlib.contextmanager
def _leaking_mode():
    def leave(self, kind=None, *rest):
        before = self._before.pop()
        if kind is None:
            graph._mode.recording = before

    before = graph._mode.recording
    with changed((graph.set_grad_enabled, "__exit__", leave)):
        try:
            yield
        finally:
            graph._mode.recording = before


def _mode_leaks() -> bool:
    before = mg.is_grad_enabled()
    with contextlib.suppress(KeyError), mg.no_grad():
        raise KeyError
    leaked = mg.is_grad_enabled() != before
    graph._mode.recording = before
    return leaked


plant(
    "51",
    "engine:exceptions",
    "engine",
    "no_grad stays in force after an error within its block",
    "state|zero",
    _leaking_mode,
    _mode_leaks,
)


def _ones(like, lift):
    z = np.ones(like.shape, like.dtype)
    return Tensor(z) if lift else z


plant(
    "52",
    "op:split",
    "engine",
    "the cotangent of an output that nobody used counts as ones, where there are several outputs",
    "missing term|wrong formula",
    lambda: changed((backward, "_zeros", _ones)),
    lambda: wrong(lambda x: mg.split(x, 2)[0] * 2.0, [1.0, 2.0]),
)


@contextlib.contextmanager
def _pooled():
    own, pull_back = backward.own, backward.pull_back
    pool: dict[tuple, np.ndarray] = {}
    taken: Counter = Counter()

    def from_pool(arrived):
        g = own(arrived)
        if isinstance(g, Tensor):
            return g
        key = (g.shape, g.dtype)
        taken[key] += 1
        buffer = pool.setdefault((*key, taken[key]), np.empty_like(g))
        buffer[...] = g
        return buffer

    def begin(*args, **kwargs):
        taken.clear()
        return pull_back(*args, **kwargs)

    with everywhere(own, from_pool), everywhere(pull_back, begin):
        yield


def _overwritten() -> bool:
    first = mg.grad(lambda x: (x * 2.0).sum())(np.array([1.0, 2.0]))
    mg.grad(lambda x: (x * 5.0).sum())(np.array([1.0, 2.0]))
    return differ(first, [2.0, 2.0])


plant(
    "53",
    "op:multiply",
    "engine",
    "gradients lie in buffers that the next backward pass takes back and overwrites",
    "stale|alias",
    _pooled,
    _overwritten,
)


def _recursive(nodes_behind):
    def found(places, targets, create_graph):
        places, seen = list(places), set()

        def reach(node):
            seen.add(node)
            for source in expand.sources_of(node):
                if source not in seen:
                    reach(source)

        for place in places:
            reach(expand.node_of(place))
        return nodes_behind(places, targets, create_graph)

    return found


def _deep() -> bool:
    x = y = leaf(1.0)
    for _ in range(2 * sys.getrecursionlimit()):
        y = y + 1.0
    return raises(y.backward, RecursionError) or differ(x.grad, [1.0])


plant(
    "54",
    "engine:deep",
    "engine",
    "the graph is searched by recursion, which a long chain overflows",
    "edge size|memory",
    lambda: everywhere(backward.nodes_behind, _recursive(backward.nodes_behind)),
    _deep,
    origin="micrograd issue 90; PyTorch issue 5534",
)


def _data(t):
    return t.data if isinstance(t, Tensor) else t


plant(
    "55",
    "op:tanh",
    "ops",
    "tanh: its rule takes the output as a constant, so that the second derivative lacks a term",
    "second order",
    lambda: rule("tanh", 0, lambda g, out, x: g * (1 - _data(out * out)), arrays=False),
    lambda: wrong(mg.tanh, [0.3, -0.8], order=2),
    origin="PyTorch issue 104040",
)


# --- the engine: more ----------------------------------------------------------------------------


def _plain_lost(total):
    def found(arrived):
        if isinstance(arrived, list):
            deferred = [c for c in arrived if isinstance(c, backward.Deferred)]
            arrived = deferred or arrived
        return total(arrived)

    return found


plant(
    "HL1",
    "engine:accumulate",
    "engine",
    "where a weight is used in products and elsewhere, only the gathered products are added up",
    "accumulation|missing term",
    lambda: everywhere(backward.total, _plain_lost(backward.total)),
    lambda: wrong(lambda x, w: mg.matmul(x, w) + w, SQUARE, OTHER),
)


def _newest(cls, contributions):
    return linear.products(contributions[0].a, contributions[0].b)


plant(
    "HL2",
    "cell:RNNCell",
    "engine",
    "of the products gathered over time only the newest is formed",
    "accumulation|last step|truncated",
    lambda: changed((linear.Product, "total", classmethod(_newest))),
    lambda: wrong(lambda x, w: mg.tanh(mg.matmul(mg.matmul(x, w), w)), SQUARE, OTHER),
)


def _leading_only(of_shape):
    def found(c, value, node, i):
        lead = len(getattr(c, "shape", ())) - value.ndim
        if lead < 0 or isinstance(c, Tensor):
            return of_shape(c, value, node, i)
        return c.sum(axis=tuple(range(lead)))

    return found


plant(
    "HL3",
    "op:multiply",
    "engine",
    "broadcasting is undone for axes that were missing, not for axes of length 1",
    "missing reduction",
    lambda: changed((backward, "of_shape", _leading_only(backward.of_shape))),
    lambda: wrong(lambda x, y: x * y, [[2.0], [3.0]], [[1.0, 2.0, 3.0]]),
)


def _mean_to(x, *, shape):
    total = sum_to(x, shape=shape)
    return total / max(1, np.size(x) // max(1, total.size))


sum_to = registry["sum_to"].forward
plant(
    "HL4",
    "op:add",
    "engine",
    "broadcasting is undone by the mean in place of the sum",
    "mean for sum|factor",
    lambda: forward("sum_to", _mean_to),
    lambda: wrong(lambda x, y: x + y, [1.0], [1.0, 2.0, 3.0]),
)


def _constant_seed(g, create_graph):
    return Tensor(_data(g)) if create_graph else _data(g)


def _through_cotangent() -> bool:
    """d/dv of x^T vjp(v), which is linear in v."""
    x, v = leaf(1.0, 2.0), leaf(0.5, -1.0)
    (x * x * x).backward(v, create_graph=True)
    if not x.grad.requires_grad:
        return True
    (dv,) = backward.gradients([x.grad.sum()], [v])
    x.grad = None
    return dv is None or differ(dv, 3 * x.data**2)


plant(
    "HL5",
    "engine:second order",
    "engine",
    "a recorded pass takes the cotangent it starts from as a constant",
    "second order",
    lambda: changed((backward, "_lift", _constant_seed)),
    _through_cotangent,
)


def _index_changed() -> bool:
    x, i = leaf(1.0, 2.0, 3.0), np.array([0, 1])
    y = mg.getitem(x, i)
    i[:] = 2
    y.sum().backward()
    return differ(x.grad, [1.0, 1.0, 0.0])


plant(
    "HL6",
    "op:getitem",
    "ops",
    "getitem keeps the caller's index array, which may change before the backward pass",
    "stale|alias",
    lambda: changed((index, "_own", _data)),
    _index_changed,
)


def _unchecked(node):
    """As `entered`, but for the look whether the function gave the same again."""
    marker = graph.Leaf().rank
    with mg.set_grad_enabled(True):
        out = node.op.reference(*node.args, **node.params)
    outs = out if isinstance(out, tuple) else (out,)
    return outs, expand.made_after(marker, outs)[0]


def _replayed_otherwise() -> bool:
    masks, x = iter([2.0, 5.0, 7.0]), leaf(1.0)
    y = mg.checkpoint(lambda x: x * next(masks))(x)
    if raises(y.sum().backward, GradientError):
        return False
    return differ(x.grad, [2.0])


plant(
    "HL7",
    "engine:checkpoint",
    "engine",
    "a checkpointed function that gives another result when it is computed again, as dropout with "
    "a fresh mask does, is differentiated there, and nobody says so",
    "stale",
    lambda: everywhere(expand.entered, _unchecked),
    _replayed_otherwise,
)


def _one_older(rank, outs):
    made, older = expand.made_after(rank, outs)
    return made, dict(list(older.items())[:1])


plant(
    "HL8",
    "engine:checkpoint",
    "engine",
    "a checkpointed call passes gradients to the first tensor that it depends on, to no other",
    "zero",
    lambda: changed((transforms, "made_after", _one_older)),
    lambda: wrong(lambda x, y: mg.checkpoint(lambda x, y: x * y)(x, y), [2.0], [3.0]),
)


def _alone(arrived):
    g = backward.total(arrived)
    return g if isinstance(g, Tensor) else np.asarray(g)


def _shares() -> bool:
    seed = np.array([1.0, 2.0])
    _, pull = mg.vjp(lambda x: x + 0.0, np.array([3.0, 4.0]))
    (g,) = pull(seed)
    return np.shares_memory(g, seed)


plant(
    "HL9",
    "op:add",
    "engine",
    "a gradient to which one contribution arrived alone is that array itself: the cotangent's own "
    "memory, or that of another gradient",
    "alias",
    lambda: everywhere(backward.own, _alone),
    _shares,
)


# --- rules ---------------------------------------------------------------------------------------


def _first_row(g, out, x, y):
    c = g * x
    lead = c.ndim - np.ndim(y)
    return c if lead <= 0 else c[(0,) * lead]


plant(
    "HL10",
    "op:multiply",
    "ops",
    "multiply: where y was repeated, its gradient is that of the first copy",
    "missing reduction",
    lambda: rule("multiply", 1, _first_row),
    lambda: wrong(lambda x, y: x * y, SQUARE, [2.0, 3.0]),
)
plant(
    "HL11",
    "op:divide",
    "ops",
    "divide: the sign of the gradient of y",
    "sign",
    lambda: rule("divide", 1, lambda g, out, x, y: (g * out) / y),
    lambda: wrong(lambda x, y: x / y, [1.0, 2.0], [3.0, -4.0]),
)
plant(
    "HL12",
    "op:divide",
    "ops",
    "divide: the gradient of x by |y|, right where y is positive",
    "sign",
    lambda: rule("divide", 0, lambda g, out, x, y: g / mg.absolute(y)),
    lambda: wrong(lambda x, y: x / y, [1.0, 2.0], [3.0, -4.0]),
)
plant(
    "HL13",
    "op:sigmoid",
    "ops",
    "sigmoid: a gradient larger by half a part in a thousand",
    "factor",
    lambda: rule("sigmoid", 0, lambda g, out, x: 1.0005 * (g * out * (1 - out))),
    lambda: wrong(mg.sigmoid, [0.3, -0.7]),
)


def _right_transposed(g, out, x, y):
    if x.ndim == y.ndim == 2 and y.shape[0] == y.shape[1] and g.shape == x.shape:
        return mg.matmul(mg.swapaxes(g, 0, 1), x)
    return _matmul_right(g, out, x, y)


_matmul_right = registry["matmul"].vjps[1]
plant(
    "HL14",
    "op:matmul",
    "ops",
    "matmul: the gradient of a square right argument is transposed",
    "transposed",
    lambda: rule("matmul", 1, _right_transposed),
    lambda: wrong(mg.matmul, SQUARE, OTHER),
)
plant(
    "HL15",
    "op:where",
    "ops",
    "where: each of the two gets the gradient of the other",
    "swapped",
    lambda: rules("where", lambda r: [r[0], r[2], r[1]]),
    lambda: wrong(lambda x, y: mg.where(np.array([True, False]), x, y), [1.0, 2.0], [3.0, 4.0]),
)


def _exclusive(g, out, x, *, axis, reverse):
    return registry["cumsum"](g, axis=axis, reverse=not reverse) - g


plant(
    "HL16",
    "op:cumsum",
    "ops",
    "cumsum: the gradient leaves out the element's own place",
    "missing term",
    lambda: rule("cumsum", 0, _exclusive),
    lambda: wrong(mg.cumsum, [1.0, 2.0, 3.0]),
)


def _put_last(g, *, index, shape):
    out = np.zeros(shape, g.dtype)
    out[index] = g
    return out


plant(
    "HL17",
    "op:take",
    "ops",
    "take and getitem: where an index repeats, its gradient is the last one in place of the sum",
    "duplicates",
    lambda: forward("put", _put_last),
    lambda: wrong(lambda x: mg.take(x, [1, 1, 0]), [1.0, 2.0]),
)


def _all_at_ties(g, lower, taken, other):
    return mg.where(lower, 0, g)


def _tied() -> bool:
    """Both arguments moved together: there maximum is smooth, with slope 1."""
    return differ(mg.grad(lambda x: mg.maximum(x, x * 1.0).sum())(np.array([2.0])), [1.0])


plant(
    "HL18",
    "op:maximum",
    "ops",
    "maximum and minimum: both arguments get all of the gradient at a tie",
    "ties",
    lambda: changed((elementwise, "_share", _all_at_ties)),
    _tied,
)
plant(
    "HL19",
    "op:softmax",
    "ops",
    "softmax: the term that all elements share is left out",
    "missing term",
    lambda: rule("softmax", 0, lambda g, out, x, *, axis: out * g),
    lambda: wrong(mg.softmax, [0.3, -0.7, 1.1]),
)


def _columns(g, out, x, *, axis):
    axis = 0 if x.ndim > 1 and x.shape[0] == x.shape[-1] else axis
    return g - mg.exp(out) * mg.sum(g, axis=axis, keepdims=True)


plant(
    "HL20",
    "op:log_softmax",
    "ops",
    "log_softmax: of a square matrix the gradients are summed over the wrong axis",
    "wrong formula|transposed",
    lambda: rule("log_softmax", 0, _columns),
    lambda: wrong(mg.log_softmax, SQUARE),
)
_to_start = registry["affine"].vjps[2]
plant(
    "HL21",
    "op:affine",
    "ops",
    "affine: the gradient of the bias counts twice",
    "factor",
    lambda: rule("affine", 2, lambda *given: [_to_start(*given)] * 2),
    lambda: wrong(mg.affine, SQUARE, OTHER, [0.5, -0.5]),
)


def _spread_flat(g, out, x, *, axis, keepdims):
    if g.ndim and g.shape == x.shape[-g.ndim :]:
        return mg.broadcast_to(g, x.shape)
    return _sum_to_x(g, out, x, axis=axis, keepdims=keepdims)


_sum_to_x = registry["sum"].vjps[0]
plant(
    "HL22",
    "op:sum",
    "ops",
    "sum: the axis that went is not put back, which a square argument does not betray",
    "transposed|wrong formula",
    lambda: rule("sum", 0, _spread_flat),
    lambda: wrong(lambda x: mg.sum(x, axis=1), SQUARE),
)


def _at_zero() -> bool:
    with np.errstate(invalid="ignore"):
        g = mg.grad(lambda y: mg.power(np.array([0.0]), y).sum())(np.array([2.0]))
    return differ(g, [0.0])


plant(
    "HL23",
    "op:power",
    "ops",
    "power: the gradient of the exponent takes the logarithm of a base of 0",
    "not finite",
    lambda: rule("power", 1, lambda g, out, x, y: g * (out * mg.log(x))),
    _at_zero,
)
plant(
    "HL24",
    "op:logaddexp",
    "ops",
    "logaddexp: each argument gets the share of the other",
    "swapped",
    lambda: rules("logaddexp", lambda r: r[::-1]),
    lambda: wrong(mg.logaddexp, [0.3, 1.0], [1.0, -2.0]),
)
plant(
    "HL25",
    "op:split",
    "ops",
    "split: equal pieces are joined in the reverse order",
    "swapped",
    lambda: rule(
        "split",
        0,
        lambda g, out, x, *, sections, axis: mg.concatenate(
            g[::-1] if len({p.shape for p in g}) == 1 else g, axis=axis
        ),
    ),
    lambda: wrong(lambda x: (p := mg.split(x, 2))[0] * p[1] * p[1], [1.0, 3.0]),
)
plant(
    "HL26",
    "op:flip_rows",
    "ops",
    "flip_rows: the gradient is not flipped back",
    "wrong formula",
    lambda: rule("flip_rows", 0, lambda g, out, x, *, lengths: g),
    lambda: wrong(lambda x: mg.flip_rows(x, lengths=[2, 3]), numbers(3, 2)),
)
plant(
    "HL27",
    "op:tanh",
    "ops",
    "tanh: the quick rule for arrays sees its output in float32",
    "float32",
    lambda: rule(
        "tanh",
        0,
        lambda g, out, x: kernels.tanh_rule(g, np.asarray(out, np.float32).astype(out.dtype)),
        recorded=False,
    ),
    # Less than 1e-6, and far more than rounding: a claim about bits.
    lambda: (
        not np.array_equal(
            mg.grad(lambda x: mg.tanh(x).sum())(np.array([0.3, 0.7])),
            1 - mg.tanh(np.array([0.3, 0.7])) * mg.tanh(np.array([0.3, 0.7])),
        )
    ),
)


def _float32_rows(total):
    def rounded(cls, contributions):
        g = total(contributions)
        return g if isinstance(g, Tensor) else g.astype(np.float32).astype(g.dtype)

    return classmethod(rounded)


def _bias_rounded() -> bool:
    x, w, b = SQUARE, OTHER, np.array([0.5, -0.5])
    g = mg.grad(lambda b: (mg.affine(x, w, b) * np.pi).sum())(b)
    return not np.array_equal(g, [2 * np.pi] * 2)


plant(
    "HL28",
    "op:affine",
    "ops",
    "the gradient of a bias is added up in float32",
    "float32",
    lambda: changed((linear.RowSum, "total", _float32_rows(linear.RowSum.total))),
    _bias_rounded,
)


def _without_ddof(g, out, x, *, axis, ddof, keepdims):
    return _var_to_x(g, out, x, axis=axis, ddof=0.0, keepdims=keepdims)


_var_to_x = registry["var"].vjps[0]
plant(
    "HL29",
    "op:var",
    "ops",
    "var: the gradient is that of ddof 0",
    "factor",
    lambda: rule("var", 0, _without_ddof),
    lambda: wrong(lambda x: mg.var(x, ddof=1), [1.0, 2.0, 4.0]),
)
plant(
    "HL30",
    "op:matmul",
    "ops",
    "matmul: in a recorded pass the left gradient takes the right argument as a constant",
    "second order",
    lambda: rule(
        "matmul",
        0,
        lambda g, out, x, y: registry["matmul"](g, mg.swapaxes(_data(y), -1, -2)),
        arrays=False,
    ),
    lambda: wrong(lambda x, y: mg.matmul(x, y), SQUARE, OTHER, order=2),
)


def _seed_written() -> bool:
    seed = np.array([1.0, 2.0])
    mg.exp(leaf(1.0, 2.0)).backward(seed)
    return differ(seed, [1.0, 2.0])


plant(
    "HL31",
    "op:exp",
    "ops",
    "exp: the rule writes into the cotangent that it is given",
    "writes into its arguments",
    lambda: rule("exp", 0, lambda g, out, x: np.multiply(g, out, out=g), recorded=False),
    _seed_written,
)


# --- cells ---------------------------------------------------------------------------------------


def _gru_exchanged(x, state, W, U, b_x, b_h):
    xr, xz, xn = mg.split(mg.affine(x, W, b_x), 3, axis=-1)
    hr, hz, hn = mg.split(mg.affine(state, U, b_h), 3, axis=-1)
    r, z = mg.sigmoid(xr + hr), mg.sigmoid(xz + hz)
    n = mg.tanh(xn + r * hn)
    h = z * n + (1 - z) * state
    return h, h


def _lstm_misordered(x, state, W, U, b):
    h, c = state
    i, g, f, o = mg.split(mg.affine(h, U, mg.affine(x, W, b)), 4, axis=-1)
    c = mg.sigmoid(f) * c + mg.sigmoid(i) * mg.tanh(g)
    h = mg.sigmoid(o) * mg.tanh(c)
    return h, cells.LSTMState(h, c)


def _rnn_bias_twice(x, state, W, U, b_x, b_h):
    h = mg.tanh(mg.affine(state, U, b_h) + mg.affine(x, W, b_x) + b_h)
    return h, h


def _gru_saturated() -> bool:
    """An update gate that is wide open keeps the state."""
    cell = mg.nn.GRUCell(1, 1, rng=0)
    cell.bias_ih.data[1] = 50.0
    _, h = cell(np.array([[0.5]]), np.array([[0.7]]))
    return differ(h, [[0.7]])


def _rnn_biases() -> bool:
    """Of the two biases only the sum matters."""
    cell = mg.nn.RNNCell(1, 1, rng=0)
    x, h = np.array([[0.5]]), np.array([[0.7]])
    first = cell(x, h)[0]
    cell.bias_hh.data += 0.25
    cell.bias_ih.data -= 0.25
    return differ(cell(x, h)[0], first)


def _outputs_differ() -> bool:
    cell, xs = mg.nn.LSTMCell(2, 3, rng=0), numbers(4, 2, 2)
    two = [outputs(cell, xs, fused=f) for f in (True, False)]
    return any(differ(a, b) for a, b in zip(*two, strict=True))


plant(
    "HL32",
    "cell:GRUCell",
    "cells",
    "GRU: the update gate and its complement exchanged",
    "forward|gates",
    lambda: step(cells.GRUCell, _gru_exchanged),
    _gru_saturated,
    forward=True,
)
plant(
    "HL33",
    "cell:LSTMCell",
    "cells",
    "LSTM: the step takes the gates as i g f o, the fused kernel as i f g o",
    "gates|forward",
    lambda: step(cells.LSTMCell, _lstm_misordered),
    _outputs_differ,
    forward=True,
)
plant(
    "HL34",
    "cell:RNNCell",
    "cells",
    "RNN: the recurrent bias is added twice",
    "forward|factor",
    lambda: step(cells.RNNCell, _rnn_bias_twice),
    _rnn_biases,
    forward=True,
)


# --- the fused rule ------------------------------------------------------------------------------


def fused_rule(new: Callable):
    """Wraps the rule of the fused LSTM: new(rule, needs, g, out, *args, lengths=)."""
    it = registry["lstm"]
    old = it.vjp
    return changed((it, "vjp", lambda *args, **params: new(old, *args, **params)))


def _without(i: int):
    def new(rule, needs, g, *args, **params):
        return rule(needs, (*g[:i], np.zeros_like(g[i]), *g[i + 1 :]), *args, **params)

    return new


def _change_gradient(i: int, change: Callable):
    def new(rule, needs, g, out, xs, h0, *args, **params):
        found = list(rule(needs, g, out, xs, h0, *args, **params))
        found[i] = change(found[i])
        return found

    return new


plant(
    "HL35",
    "cell:LSTMCell",
    "unfold",
    "fused LSTM: the cotangent of the last c is dropped",
    "state|zero|missing term",
    lambda: fused_rule(_without(2)),
    lambda: fused_differs(lambda ys, state: ys.sum() + (state.c * 2.0).sum()),
)
plant(
    "HL36",
    "cell:LSTMCell",
    "unfold",
    "fused LSTM: the cotangent of the last h is dropped, that of the outputs is not",
    "state|zero|missing term",
    lambda: fused_rule(_without(1)),
    lambda: fused_differs(lambda ys, state: ys.sum() + (state.h * 2.0).sum()),
)
plant(
    "HL37",
    "cell:LSTMCell",
    "unfold",
    "fused LSTM: the recurrent weight's gradient lacks the first step, whose h is the initial one",
    "first step|missing term",
    lambda: fused_rule(_change_gradient(4, lambda products: products and products[:1])),
    lambda: fused_differs(lambda ys, state: ys.sum(), state=(np.ones((2, 3)), np.zeros((2, 3)))),
)


def _initial_state_gradient() -> bool:
    cell, xs = mg.nn.LSTMCell(2, 3, rng=0), numbers(4, 2, 2)
    h, c = numbers(2, 3, seed=1), numbers(2, 3, seed=2)
    two = [
        mg.grad(lambda h, c, f=f: mg.unfold(cell, xs, (h, c), fused=f)[0].sum(), (0, 1))(h, c)
        for f in (True, False)
    ]
    return any(differ(a, b) for a, b in zip(*two, strict=True))


plant(
    "HL38",
    "cell:LSTMCell",
    "unfold",
    "fused LSTM: no gradient reaches the initial c",
    "zero|state",
    lambda: fused_rule(_change_gradient(2, np.zeros_like)),
    _initial_state_gradient,
)


# --- through time --------------------------------------------------------------------------------

run = unfold.run


def _one_longer(step, xs, state, lengths=None):
    return run(step, xs, state, None if lengths is None else np.minimum(lengths + 1, len(xs)))


def _padding_counts(**options) -> bool:
    """Whether a row of a padded batch differs from that row run alone at its own length."""
    cell, xs = mg.nn.GRUCell(2, 3, rng=0), numbers(4, 2, 2)
    ys, h = outputs(cell, xs, lengths=[2, 4], fused=False, **options)
    ys_alone, h_alone = outputs(cell, xs[:2, :1], fused=False, **options)
    return differ(h[:1], h_alone) or differ(ys[:2, :1], ys_alone) or bool(ys[2:, 0].any())


plant(
    "HL39",
    "cell:GRUCell",
    "unfold",
    "unfold: every row runs one step past its length",
    "mask|forward",
    lambda: everywhere(run, _one_longer),
    _padding_counts,
    forward=True,
)
plant(
    "HL40",
    "cell:GRUCell",
    "unfold",
    "unfold backwards in time: the whole sequence is flipped, padding included",
    "mask|forward",
    lambda: changed((unfold, "flip_rows", lambda x, lengths=None: mg.flip_rows(x))),
    lambda: _padding_counts(reverse=True),
    forward=True,
)


def _map_first(f, *states):
    if len(states) == 2 and isinstance(states[0], tuple):
        new, old = states
        return unfold.like(new, [f(new[0], old[0]), *new[1:]])
    return _map(f, *states)


_map = unfold._map


def _c_moves() -> bool:
    cell, xs = mg.nn.LSTMCell(2, 3, rng=0), numbers(4, 2, 2)
    c = outputs(cell, xs, lengths=[2, 4], fused=False)[2]
    return differ(c[:1], outputs(cell, xs[:2, :1], fused=False)[2])


plant(
    "HL41",
    "cell:LSTMCell",
    "unfold",
    "unfold: past the end of a row its h is kept, its c goes on",
    "mask|state|forward",
    lambda: changed((unfold, "_map", _map_first)),
    _c_moves,
    forward=True,
)


def _forgets_one_row(step, xs, state, lengths=None):
    if xs.shape[1] == 1:
        state = unfold._map(lambda s: s * 0, state)
    return run(step, xs, state, lengths)


def _row_alone() -> bool:
    cell, xs, h = mg.nn.GRUCell(2, 3, rng=0), numbers(4, 2, 2), numbers(2, 3)
    whole = outputs(cell, xs, state=h, fused=False)[1]
    return differ(whole[:1], outputs(cell, xs[:, :1], state=h[:1], fused=False)[1])


plant(
    "HL42",
    "cell:GRUCell",
    "unfold",
    "unfold: a batch of one row begins at zeros, whatever the state",
    "row|state|forward",
    lambda: everywhere(run, _forgets_one_row),
    _row_alone,
    forward=True,
)


def _forgets_seventh(step, xs, state, lengths=None):
    count = iter(range(len(xs)))

    def skipping(x, s):
        y, new = step(x, s)
        return (y, s) if next(count) == 6 else (y, new)

    return run(skipping, xs, state, lengths)


def _cut_in_two() -> bool:
    cell, xs = mg.nn.GRUCell(2, 3, rng=0), numbers(9, 1, 2)
    whole = outputs(cell, xs, fused=False)[1]
    _, state = mg.unfold(cell, xs[:4], fused=False)
    return differ(whole, outputs(cell, xs[4:], state=state, fused=False)[1])


plant(
    "HL43",
    "cell:GRUCell",
    "unfold",
    "unfold: the state after the seventh step is not carried on",
    "state|forward",
    lambda: everywhere(run, _forgets_seventh),
    _cut_in_two,
    forward=True,
)


def _detach_h(state):
    if isinstance(state, cells.LSTMState):
        return cells.LSTMState(state.h.detach(), state.c)
    return detach_state(state)


detach_state = unfold.detach_state


def _pieces_hang_together() -> bool:
    cell, xs = mg.nn.LSTMCell(2, 3, rng=0), numbers(4, 1, 2)
    try:
        for _, ys, _ in mg.tbptt(cell, xs, 2):
            ys.sum().backward()
    except GradientError:
        return True
    return False


plant(
    "HL44",
    "engine:tbptt",
    "unfold",
    "tbptt and detach_state: h is cut from its graph, c is not",
    "truncated|state",
    lambda: everywhere(detach_state, _detach_h),
    _pieces_hang_together,
)
