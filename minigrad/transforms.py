"""Functional transformations, with JAX's names: `grad`, `vjp`, `jvp`, `jacobian`, `hessian`, ...

Arguments may be nested tuples, lists, dicts and modules (see `tree.py`); what belongs to an
argument, a gradient or a tangent, comes in the same form, that of a module as a dict from the names
of its parameters to arrays. Arrays in, arrays out; with tensors among the arguments, tensors out
that can be differentiated again. So the transformations nest, to any order.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from . import tree
from .arguments import FLOATS
from .backward import gradients
from .errors import DtypeError, GradientError, ShapeError, UsageError
from .expand import identity, made_after, node_of, origin
from .graph import Leaf, Node, Op, Tensor, is_grad_enabled, set_grad_enabled
from .ops import reshape, stack

# --- a function at a point -----------------------------------------------------------------------


class _Depth(threading.local):
    traces = 0  # how many functions are being differentiated around this point


_depth = _Depth()


def _point(name: str, value, record: bool) -> Tensor | None:
    """A fresh point to differentiate at; None for what has no gradient: integers, texts, ...

    Inside another trace the argument enters through an identity node, so that the walk of this
    gradient ends there, and does not run on into the graph that produced the argument.
    """
    if not isinstance(value, Tensor | np.ndarray | np.generic | float | complex):
        return None
    data = value.data if isinstance(value, Tensor) else np.asarray(value)
    if data.dtype not in FLOATS:
        if data.dtype.kind in "fc":
            raise _no_point(name, data.dtype)
        return None
    if record and isinstance(value, Tensor) and value.source is not None:
        return identity(value)
    return Tensor(data, requires_grad=True)


def _no_point(name: str, got) -> DtypeError:
    return DtypeError(
        f"{name}: nothing to differentiate by",
        f"expected float32 or float64, got {got}",
        "convert with .astype(np.float64), write 3.0 for 3, or leave the argument out",
    )


def _kind(value) -> str:
    return str(getattr(value, "dtype", type(value).__name__))


def _like(name: str, value, of: Tensor) -> Any:
    """What belongs to a tensor: an array or a tensor of its shape and dtype, or a number."""
    if isinstance(value, float | int):
        value = np.asarray(value, of.dtype)
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape != of.shape or dtype != of.dtype:
        raise ShapeError(
            name,
            f"expected {of.dtype} {of.shape}, got {_kind(value)} {'' if shape is None else shape}",
            "it has the shape and dtype of what it belongs to",
        )
    return value


def _has_tensor(values) -> bool:
    return any(isinstance(leaf, Tensor) for leaf in tree.flatten(values, objects=False)[0])


class _Trace:
    """A function run once, at fresh points that stand for some of its arguments.

    `outputs` are the tensors of its result, `points` those of each argument. `lift`: tensors go in
    or a function around this one is being differentiated, so tensors come out. `record`: they can
    be differentiated again.
    """

    def __init__(
        self,
        name: str,
        function: Callable,
        args: Sequence,
        argnums: Iterable[int] | None = None,
        kwargs: dict | None = None,
        has_aux: bool = False,
        also: Any = (),
    ):
        positions = range(len(args)) if argnums is None else _positions(name, argnums, len(args))
        kwargs = kwargs or {}
        self.name = name
        self.lift = _depth.traces > 0 or _has_tensor((args, kwargs, also))
        self.record = self.lift and is_grad_enabled()
        self.forms: list[tree.Form] = []
        self.points: list[list[Tensor | None]] = []
        self.shared: list[tuple[Leaf, Node]] = []  # leaves, and the points that share their arrays
        values = list(args)
        with set_grad_enabled(True):
            for i in positions:
                leaves, form = tree.flatten(args[i])
                what = f"{name}: argument {i}"
                points = [_point(what, leaf, self.record) for leaf in leaves]
                if form.kind in (None, type(None)) and not any(p is not None for p in points):
                    raise _no_point(what, _kind(args[i]))
                stand_ins = [v if p is None else p for v, p in zip(leaves, points, strict=True)]
                values[i] = form.build(stand_ins, copies=True)
                self.forms.append(form)
                self.points.append(points)
                for leaf, point in zip(leaves, points, strict=True):
                    node = leaf.node if isinstance(leaf, Tensor) else None
                    if isinstance(node, Leaf) and point is not None and point.node is not None:
                        self.shared.append((node, point.node))
            _depth.traces += 1
            try:
                result = function(*values, **kwargs)
            finally:
                _depth.traces -= 1
        self.aux = None
        if has_aux:
            if not isinstance(result, tuple) or len(result) != 2:
                raise UsageError(
                    f"{name}: the result of a function with has_aux=True",
                    f"expected a tuple (result, anything), got {_form_of(result)}",
                    "return two things, or leave has_aux out",
                )
            result, aux = result
            self.aux = self._out(aux)
        self.outputs, self.form = tree.flatten(result, objects=False)
        for output in self.outputs or [None]:
            if not isinstance(output, Tensor) or output.dtype not in FLOATS:
                raise GradientError(
                    f"{name}: the result of the function",
                    f"expected tensors of floats, got {_kind(output)}",
                    "compute with the arguments themselves; check for .detach(), .item(), .numpy()"
                    if self.form.kind in (None, type(None))
                    else "return what is no tensor beside the result, with has_aux=True",
                )
        self.value = self._out(result)

    def _out(self, result):
        """What leaves the trace: tensors that may be differentiated again, constants, arrays."""
        leaves, form = tree.flatten(result, objects=False)
        if not self.record:
            leaves = [x.detach() if isinstance(x, Tensor) else x for x in leaves]
        if not self.lift:
            leaves = [x.data if isinstance(x, Tensor) else x for x in leaves]
        return form.build(leaves)

    def all_points(self) -> list[Tensor]:
        return [p for points in self.points for p in points if p is not None]

    def pull(self, outputs: list[Tensor], cotangents: list) -> list:
        """The cotangent of every point, zeros where the outputs do not depend on it."""
        for original, point in self.shared:
            if original.written > point.rank:
                raise GradientError(
                    f"{self.name}: the arrays of its arguments",
                    "expected those of the call, got some that were written to since",
                    "pull before the step of the optimiser, or call it again",
                )
        lift = self.lift or any(isinstance(c, Tensor) for c in cotangents)
        record = is_grad_enabled() and (self.record or any(_needs_grad(c) for c in cotangents))
        points = self.all_points()
        found = gradients(outputs, points, cotangents, create_graph=record)
        return [_whole(g, p, lift) for g, p in zip(found, points, strict=True)]

    def nested(self, found: list) -> tuple:
        """What was found for each point, in the form of the arguments; None for other leaves."""
        left = iter(found)
        return tuple(
            form.build([None if p is None else next(left) for p in points])
            for form, points in zip(self.forms, self.points, strict=True)
        )


def _needs_grad(x) -> bool:
    return isinstance(x, Tensor) and x.source is not None


def _whole(g, of: Tensor, lift: bool):
    """A derivative, with zeros for None: a tensor if `lift`, else an array."""
    if isinstance(g, Tensor):
        return g if lift else g.data
    g = np.zeros(of.shape, of.dtype) if g is None else np.asarray(g)  # sums of 0-d are scalars
    return Tensor(g) if lift else g


def _form_of(result) -> str:
    if isinstance(result, tuple):
        return f"a tuple of {len(result)}"
    return type(result).__name__


def _positions(name: str, argnums: Iterable[int], count: int) -> list[int]:
    """The arguments that `argnums` means, negative ones counted from the end."""
    positions = [i + count if i < 0 else i for i in argnums]
    if any(not 0 <= i < count for i in positions) or len(set(positions)) < len(positions):
        raise UsageError(
            f"{name}: argnums",
            f"expected different positions among {count} argument(s), got {tuple(argnums)}",
            "positions count from 0, or from -1 backwards; keyword arguments have none",
        )
    return positions


def _numbers(name: str, argnums: int | Sequence[int]) -> tuple[int, ...]:
    given = argnums if isinstance(argnums, tuple | list) else (argnums,)
    try:
        numbers = tuple(operator.index(i) for i in given)
    except TypeError:
        numbers = ()
    if not numbers:
        raise UsageError(
            f"{name}: argnums",
            f"expected a whole number or a tuple of them, got {argnums!r}",
            "pass the positions of the arguments to differentiate by",
        )
    return numbers


def _one_or_all(found: tuple, argnums: int | Sequence[int]):
    return found if isinstance(argnums, tuple | list) else found[0]


# --- reverse mode --------------------------------------------------------------------------------


def value_and_grad(
    function: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable:
    """The function that returns `(f(*args), df/darg)`.

    `argnums` says for which positions (a number gives one gradient, a sequence a tuple of them).
    `function` returns a tensor with one element, or `(tensor, anything)` with `has_aux`: then
    `((value, anything), gradient)` comes back.

    A gradient has the form of its argument: nested tuples, lists and dicts of arrays, with None in
    place of what is no array of floats. Where the result does not depend on it, it is zeros. A
    module is passed on as a copy in which fresh points stand for its parameters; its gradient is a
    dict from their names to arrays, without parameters that have `requires_grad=False`. What the
    function assigns to attributes of the copy is lost: return it as `anything`. A closure on a
    module that refers to the module itself sees the original, and gets no gradient.

    Raises `GradientError` for a result that is no tensor or has several elements, `DtypeError`
    for an argument without floats, `UsageError` for `argnums` out of range.

    >>> mg.value_and_grad(lambda x: (x * x).sum())(np.array([1.0, 2.0]))
    (array(5.), array([2., 4.]))
    >>> model = mg.nn.Linear(1, 1, rng=0)
    >>> loss = lambda model, x, y: mg.nn.mse_loss(model(x), y)
    >>> x = np.array([[1.0], [2.0]])
    >>> for _ in range(100):  # plain gradient descent
    ...     value, g = mg.value_and_grad(loss)(model, x, 3 * x + 1)
    ...     for name, p in model.named_parameters():
    ...         p.data -= 0.1 * g[name]  # or p.grad = g[name], and a step of an optimiser
    >>> sorted(g), bool(value < 0.1)
    (['bias', 'weight'], True)
    """
    numbers = _numbers("grad", argnums)

    def wrapped(*args, **kwargs):
        trace = _Trace("grad", function, args, numbers, kwargs, has_aux)
        output = trace.outputs[0]
        if trace.form.kind is not None:
            raise GradientError(
                "grad: the result of the function",
                f"expected one tensor, got {_form_of(trace.value)}",
                "return the loss alone, or (loss, anything) with has_aux=True",
            )
        if output.size != 1:
            raise GradientError(
                "grad: of a result with several elements",
                f"expected one element, got shape {output.shape}",
                "sum it first, or use vjp, which takes a cotangent, or jacobian",
            )
        seed = np.ones(output.shape, output.dtype)
        g = _one_or_all(trace.nested(trace.pull([output], [seed])), argnums)
        return ((trace.value, trace.aux), g) if has_aux else (trace.value, g)

    return wrapped


def grad(function: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False) -> Callable:
    """The gradient of a scalar function, itself a function: `grad(f)(x) = df/dx`.

    Nests to any order. Arguments and errors as in `value_and_grad`; with `has_aux` the function
    returns `(gradient, anything)`. To differentiate a gradient by something else than its
    argument, outside of another transformation, pass an argument as a tensor: the result is then
    a tensor with its graph.

    Source: Goodfellow et al., Deep Learning, section 6.5.

    >>> cube = lambda x: x * x * x
    >>> float(mg.grad(mg.grad(cube))(2.0))
    12.0
    """
    both = value_and_grad(function, argnums, has_aux)

    def wrapped(*args, **kwargs):
        value, g = both(*args, **kwargs)
        return (g, value[1]) if has_aux else g

    return wrapped


def vjp(function: Callable, *args: Any, has_aux: bool = False) -> tuple:
    """`(f(*args), pull)`, where `pull(g)` gives g^T (df/darg) for every argument, as a tuple.

    The result may be nested tuples, lists and dicts of tensors; `g` has the same form, and each
    part of the tuple that of its argument, as in `value_and_grad`. An argument that the result
    does not depend on gets zeros. `pull` may be called any number of times. With `has_aux` the
    function returns `(result, anything)`, and `(f(*args), pull, anything)` comes back.

    Raises `GradientError` for a result that is no tensor of floats, `UsageError` and `ShapeError`
    for a cotangent that does not fit, `DtypeError` for an argument without floats.

    >>> y, pull = mg.vjp(lambda x: x * x, np.array([1.0, 2.0]))
    >>> pull(np.array([1.0, 10.0]))
    (array([ 2., 40.]),)
    """
    trace = _Trace("vjp", function, args, has_aux=has_aux)

    def pull(g):
        what = "vjp: the cotangent"
        parts = trace.form.leaves_of(g, what)
        cotangents = [_like(what, c, of=o) for c, o in zip(parts, trace.outputs, strict=True)]
        return trace.nested(trace.pull(trace.outputs, cotangents))

    return (trace.value, pull, trace.aux) if has_aux else (trace.value, pull)


# --- forward mode, and what is made of both ------------------------------------------------------

# Why forward mode has no rules of its own: over an MLP, an LSTM of 50 steps and a chain of 1,000
# small ops, `jvp` took 1.4 to 5.3 times as long as `grad` and made 3 times the nodes of the forward
# pass; a sketch of pairs (value, tangent) with a rule each took 0.15 to 0.65 times as long as
# `grad`. So rules would pay for a program that lives on `jvp`, at the price of a second rule for
# each op, fused and deferred ones included, that has to nest with the first to every order. The
# common second-order product, `hvp`, needs none: by reverse mode twice it took 0.34 to 0.62 times
# as long as `jvp(grad(f))`.


def _arguments(name: str, primals, tangents) -> None:
    """Checks that there is a tangent for each primal."""
    given = (primals, tangents)
    if not all(isinstance(x, tuple | list) for x in given) or len(primals) != len(tangents):
        raise UsageError(
            f"{name}: primals and tangents",
            f"expected two tuples of one length, got {_form_of(primals)} and {_form_of(tangents)}",
            "give a tuple of the arguments, also for one: (x,), and a tangent for each",
        )


def _tangents(trace: _Trace, tangents: Sequence) -> list:
    """The tangent of every point."""
    found = []
    for i, (form, points, t) in enumerate(zip(trace.forms, trace.points, tangents, strict=True)):
        what = f"{trace.name}: tangent {i}"
        for part, point in zip(form.leaves_of(t, what), points, strict=True):
            if point is not None:
                found.append(_like(what, part, of=point))
            elif part is not None:
                raise UsageError(
                    what,
                    f"expected None for a leaf that is no array of floats, got {_kind(part)}",
                    "integers do not move: put None in their place",
                )
    return found


def jvp(function: Callable, primals: Sequence, tangents: Sequence, has_aux: bool = False) -> tuple:
    """`(f(*primals), (df/dprimals) tangents)`: the value, and its derivative in one direction.

    `tangents` has the form of `primals`, a tuple of arguments, with None in place of leaves that
    are no arrays of floats; the derivative has the form of the value. With `has_aux` the function
    returns `(result, anything)`, and `(value, derivative, anything)` comes back. Errors as `vjp`.

    The vector-Jacobian product g -> g^T J is linear in g; its own vector-Jacobian product is
    t -> J t. So reverse mode, applied twice, is forward mode: one rule an op serves both. That
    takes the time of two to five gradients.

    Source: J. Townsend, A new trick for calculating Jacobian vector products, 2017.

    >>> mg.jvp(lambda x: x * x, (np.array([1.0, 2.0]),), (np.array([1.0, 10.0]),))
    (array([1., 4.]), array([ 2., 40.]))
    """
    _arguments("jvp", primals, tangents)
    trace = _Trace("jvp", function, primals, has_aux=has_aux, also=tangents)
    ts = _tangents(trace, tangents)
    # Zeros: the pull is linear in them, so their values do not matter, and 0 cannot overflow.
    us = [Tensor(np.zeros(o.shape, o.dtype), requires_grad=True) for o in trace.outputs]
    pulled = gradients(trace.outputs, trace.all_points(), us, create_graph=True)
    pairs = [(p, t) for p, t in zip(pulled, ts, strict=True) if p is not None]
    found = gradients([p for p, _ in pairs], us, [t for _, t in pairs], trace.record)
    moved = trace.form.build(
        [_whole(d, o, trace.lift) for d, o in zip(found, trace.outputs, strict=True)]
    )
    return (trace.value, moved, trace.aux) if has_aux else (trace.value, moved)


def hvp(function: Callable, primals: Sequence, tangents: Sequence) -> tuple:
    """The Hessian of a scalar function times a vector: (d^2 f / dx dx) v, without the Hessian.

    `primals` is the tuple of all arguments and `tangents` has its form; so has the product, a
    tuple also for one argument. The Hessian is symmetric, so this is the gradient of v^T df/dx:
    reverse mode twice, at the cost of a few gradients. Errors as `jvp` and `grad`.

    Source: B. Pearlmutter, Fast exact multiplication by the Hessian, 1994; Goodfellow et al., Deep
    Learning, section 6.5.10.

    >>> mg.hvp(lambda x: (x * x * x).sum(), (np.array([1.0, 2.0]),), (np.array([1.0, 10.0]),))
    (array([  6., 120.]),)
    """
    _arguments("hvp", primals, tangents)
    slope = grad(function, argnums=tuple(range(len(primals))))
    trace = _Trace("hvp", slope, primals, also=tangents)
    return trace.nested(trace.pull(trace.outputs, _tangents(trace, tangents)))


def jacobian(
    function: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable:
    """The function that returns the Jacobian, d f(*args)_i / d arg_j for all i and j.

    For a result of shape S and an argument of shape A its shape is S + A: a matrix for vectors.
    For a nested result it is nested likewise, and within that as the argument is. It is worked
    out row by row, with a backward pass for each element of the result. `argnums` and `has_aux`
    as in `grad`, errors as in `vjp`.

    >>> mg.jacobian(lambda x: mg.stack([x[0] * x[1], x[0] ** 2]))(np.array([2.0, 3.0]))
    array([[3., 2.],
           [4., 0.]])
    """
    numbers = _numbers("jacobian", argnums)

    def wrapped(*args, **kwargs):
        trace = _Trace("jacobian", function, args, numbers, kwargs, has_aux)
        found = [_one_or_all(trace.nested(_rows(trace, o)), argnums) for o in trace.outputs]
        result = trace.form.build(found)
        return (result, trace.aux) if has_aux else result

    return wrapped


def _rows(trace: _Trace, output: Tensor) -> list:
    """The Jacobian of one output by every point."""
    rows = []
    for i in range(output.size):
        unit = np.zeros(output.shape, output.dtype)
        unit.reshape(-1)[i] = 1
        rows.append(trace.pull([output], [unit]))
    shapes = [output.shape + p.shape for p in trace.all_points()]
    if not rows:
        zeros = [np.zeros(shape, output.dtype) for shape in shapes]
        return [Tensor(z) if trace.lift else z for z in zeros]
    return [reshape(stack(c), s) for c, s in zip(zip(*rows, strict=True), shapes, strict=True)]


def hessian(
    function: Callable, argnums: int | Sequence[int] = 0, has_aux: bool = False
) -> Callable:
    """The function that returns the second derivatives of a scalar function.

    H_ij = d^2 f / dx_i dx_j, of shape A + A for an argument of shape A, symmetric up to rounding:
    `jacobian(grad(f))`, and so nested as that is: for several arguments a tuple of tuples. Errors
    as `grad`.

    Source: Goodfellow et al., Deep Learning, section 4.3.1.

    >>> mg.hessian(lambda x: x[0] ** 2 * x[1])(np.array([2.0, 3.0]))
    array([[6., 4.],
           [4., 0.]])
    """
    return jacobian(grad(function, argnums, has_aux), argnums, has_aux)


# --- less memory for more work -------------------------------------------------------------------


class _Call:
    """One call of a checkpointed function, which can be made again."""

    def __init__(self, function: Callable, args: tuple, kwargs: dict):
        leaves, form = tree.flatten((args, kwargs), objects=False)
        # Tensors of our own: the caller may give theirs other data in the meantime.
        kept = [Tensor.at(x.data, x.source) if isinstance(x, Tensor) else x for x in leaves]
        self.function, (self.args, self.kwargs) = function, form.build(kept)
        self.depth = _depth.traces
        self.outputs: list[int] = []  # which leaves of the result the function computed
        self.arrays: tuple[np.ndarray, ...] = ()  # and their values
        self.form: tree.Form | None = None

    def again(self) -> tuple[Tensor, ...]:
        before, _depth.traces = _depth.traces, self.depth
        try:
            leaves, form = tree.flatten(self.function(*self.args, **self.kwargs), objects=False)
        finally:
            _depth.traces = before
        outs: list[Any] = [leaves[i] for i in self.outputs] if form == self.form else [None]
        if not all(_needs_grad(x) for x in outs):
            raise GradientError(
                "backward: checkpoint computed again",
                "expected a result of the same form, with a gradient as before, got another",
                "change nothing that the function reads between the two passes",
            )
        return tuple(outs)


class _Checkpoint(Op):
    """The op of one checkpointed call and of all tensors that it depends on, of any dtype.

    It has no rule: a backward pass makes the call again and goes through what that leaves behind.
    """

    def _gather(self, args):
        call, *tensors = args
        return (call, *[t.data for t in tensors]), (None, *[t.source for t in tensors]), True


_checkpoint = _Checkpoint(
    "checkpoint",
    lambda call, *tensors: call.arrays,
    reference=lambda call, *tensors: call.again(),
    multi=True,
)


def _is_younger(x, rank: int) -> bool:
    place = origin(x.source) if isinstance(x, Tensor) else None
    return place is not None and node_of(place).rank > rank


def checkpoint(function: Callable) -> Callable:
    """The same function with less memory: what it computes inside is not kept for the backward
    pass, but computed again there.

    Values and derivatives have the same bits, at every order. A chain of n steps cut into pieces
    of sqrt(n) steps keeps O(sqrt(n)) arrays in place of O(n), for one more forward pass. Gradients
    also reach tensors that the function closes over, parameters for instance: a module can be
    checkpointed. Arguments and result may be nested. A backward pass that is recorded
    (`create_graph=True`, nested transformations) keeps what it computes again.

    The function must compute the same twice: `GradientError` is raised in the backward pass if it
    does not, because it draws random numbers or reads what has changed.

    Source: T. Chen et al., Training deep nets with sublinear memory cost, 2016.

    >>> x = mg.tensor([1.0, 2.0], requires_grad=True)
    >>> y = mg.checkpoint(lambda x: (x + 1) * x * x)(x)
    >>> y  # one node, not three
    tensor([ 2., 12.], op=checkpoint)
    >>> y.sum().backward()
    >>> x.grad
    tensor([ 5., 16.])
    """

    def wrapped(*args, **kwargs):
        if not is_grad_enabled():
            return function(*args, **kwargs)
        # Recorded once, to see what the function depends on; then let go.
        marker = Leaf().rank
        call = _Call(function, args, kwargs)
        leaves, call.form = tree.flatten(function(*args, **kwargs), objects=False)

        call.outputs = [i for i, x in enumerate(leaves) if _is_younger(x, marker)]
        if not call.outputs:
            return call.form.build(leaves)
        outs = [leaves[i] for i in call.outputs]
        _, older = made_after(marker, outs)
        call.arrays = tuple(t.data for t in outs)
        outs = _checkpoint(call, *[Tensor.at(value, place) for place, value in older.items()])
        for i, out in zip(call.outputs, outs, strict=True):
            leaves[i] = out
        return call.form.build(leaves)

    return wrapped
