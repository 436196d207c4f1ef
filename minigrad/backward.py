"""The backward pass: in which order nodes are visited, and how contributions add up.

No calculus here: derivatives are the rules in `ops/`. The pass walks the nodes from the newest to
the oldest, calls each node's rule once, when everything that depends on it has been visited, and
collects for each place the contributions to its cotangent *in the order in which they arrive*.
That order is part of the bit contract.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .errors import GradientError, GraphFreedError, ShapeError
from .expand import by_rank, entered, expand, node_of, origin, sources_of
from .graph import (
    Leaf,
    Node,
    Op,
    Place,
    Tensor,
    described,
    hooks,
    numbers,
    observers,
    register,
    registry,
    set_grad_enabled,
)

_ndarray = np.ndarray

# An identity marks the place where a function being differentiated begins (see `transforms.py`).
identity = register(Op("identity", lambda x: x, vjps=[lambda g, out, x: g]))


# --- contributions -------------------------------------------------------------------------------


class Deferred:
    """A contribution that is not worked out yet.

    A rule may return one in place of an array. The pass keeps it; when the target's cotangent is
    due, `total` of its class is given all of them, in order of arrival, and returns their sum.
    """

    __slots__ = ()

    @classmethod
    def total(cls, contributions: list) -> Any:
        raise NotImplementedError(cls.__name__ + ".total")


# A cotangent on its way is what has arrived: one contribution as it is, several in a list.


def _arrive(contribution, place: Place, pending: dict[Place, Any]) -> None:
    """Puts a contribution behind those that have arrived at a place."""
    arrived = pending.get(place)
    if arrived is None:
        pending[place] = contribution
    elif type(arrived) is list:
        arrived.append(contribution)
    else:
        pending[place] = [arrived, contribution]


def total(arrived: Any) -> Any:
    """The sum of what has arrived: arrays in order, then each kind of deferred ones."""
    if type(arrived) is not list:
        return arrived.total([arrived]) if isinstance(arrived, Deferred) else arrived
    plain: list[Any] = []
    deferred: dict[type[Deferred], list] = {}
    for c in arrived:
        if isinstance(c, Deferred):
            deferred.setdefault(type(c), []).append(c)
        else:
            plain.append(c)
    if deferred:
        plain.extend([kind.total(group) for kind, group in deferred.items()])
    result = plain[0]
    for i in range(1, len(plain)):
        if i > 1 and type(result) is _ndarray and result.ndim:
            result += plain[i]  # the sum is ours alone
        else:
            result = result + plain[i]
    return result


# --- which nodes, in which order -----------------------------------------------------------------


def _nodes_behind(
    places: Iterable[Place], targets: set[Node] | None, create_graph: bool
) -> tuple[list[Node], bool]:
    """The nodes on a path from `places` to a target, oldest first (no targets: to any leaf).

    And whether any of them stands in for an expanded one, whose name others still use.
    """
    # Nothing made before the oldest target can depend on it, so the search need not go there.
    floor = min((n.rank for n in targets), default=0) if targets is not None else -1
    seen = {node_of(place) for place in places}
    stack, leaves, replaced, expanded = list(seen), [], [], False
    while stack:
        node = stack.pop()
        sources = node.sources
        if not sources:
            if sources is None:
                raise _freed(node)
            leaves.append(node)
        if create_graph and node.op is not None and node.op.reference is not None:
            sources = [t.source for t in expand(node)]
            replaced.append(node)
        for source in sources:
            if source is not None:
                n = source[0] if type(source) is tuple else source
                if n in seen:
                    continue
                if n.expansion is not None:
                    expanded = True
                    if (source := origin(source)) is None or (n := node_of(source)) in seen:
                        continue
                if n.rank >= floor:
                    seen.add(n)
                    stack.append(n)
    seen.difference_update(replaced)
    oldest_first = sorted(seen, key=by_rank)
    _check_written(leaves, oldest_first)
    if targets is None:
        return oldest_first, expanded
    needed: set[Node] = set()
    for node in oldest_first:
        if node in targets or not needed.isdisjoint(sources_of(node)):
            needed.add(node)
    return [n for n in oldest_first if n in needed], expanded


def _freed(node: Node) -> GraphFreedError:
    return GraphFreedError(
        f"backward: through {described(node)}, whose graph is gone",
        "expected a graph that no earlier backward pass has used up",
        "run the forward pass again, or pass retain_graph=True to the first backward; "
        "for a state carried on from an earlier piece of a sequence: mg.detach_state(state)",
    )


def _check_written(leaves: list, oldest_first: list[Node]) -> None:
    """Raises if an array was changed in place after a call that backward is to go through."""
    written = max([leaf.written for leaf in leaves], default=-1)
    if written < 0 or written <= next((n.rank for n in oldest_first if n.op), written):
        return  # as good as always
    for node in oldest_first:
        for i, source in enumerate(node.sources or ()):
            if isinstance(source, Leaf) and source.written > node.rank:
                value = node.values[i]
                raise GradientError(
                    f"backward: through {described(node)}, argument {i}",
                    f"expected the array {value.dtype} {value.shape} of the forward pass, "
                    "got one that was written to since",
                    "call backward before the step of the optimiser, or run forward again",
                )


# --- the walk ------------------------------------------------------------------------------------


def pull_back(
    outputs: Sequence[Tensor],
    cotangents: Sequence[Any],
    targets: set[Node] | None = None,
    create_graph: bool = False,
    retain_graph: bool = True,
) -> dict[Place, Any]:
    """What arrives at each target (or each leaf): a contribution, or a list in order of arrival.

    With `create_graph` the rules are fed tensors and what they compute is recorded; otherwise
    they are fed plain arrays.
    """
    ends = [p for t in outputs if (p := origin(t.source)) is not None]
    order, expanded = _nodes_behind(ends, targets, create_graph)
    wanted = None if targets is None else set(order)  # None: every node leads to a leaf
    pending: dict[Place, Any] = {}
    for t, g in zip(outputs, cotangents, strict=True):
        place = origin(t.source)  # an output may have been expanded meanwhile
        if place is not None and (wanted is None or node_of(place) in wanted):
            _arrive(g, place, pending)

    found: dict[Place, Any] = {}
    hooked = len(hooks) > 0
    observer = observers.get(threading.get_ident()) if observers else None
    plain = not (create_graph or observer is not None or expanded)
    with set_grad_enabled(create_graph):
        while order:
            node = order.pop()
            op = node.op
            if hooked:
                _run_hooks(node, pending)
            if op is None or (targets is not None and node in targets):
                found |= {p: pending[p] for p in _places(node) if p in pending}
                if op is None or wanted is None or wanted.isdisjoint(sources_of(node)):
                    continue
            if wanted is not None:
                wanted.discard(node)  # visited: if it was made for this pass alone, it may go
            if op.multi:
                arrived: Any = [pending.pop((node, i), None) for i in range(len(node.out))]
                if all([c is None for c in arrived]):
                    continue
            elif (arrived := pending.pop(node, None)) is None:
                continue
            if plain and op.plain:
                _visit_plain(node, arrived, wanted, pending)
            elif op.vjp is not None or op.vjps is not None:
                if observer is None:
                    _visit(node, arrived, wanted, pending, create_graph)
                else:
                    with observer.visiting(node):
                        _visit(node, arrived, wanted, pending, create_graph, observer)
            else:  # a reference alone
                order.extend(_enter(node, arrived, wanted, pending))
                hooked = len(hooks) > 0
            if not retain_graph:
                if observer is not None:
                    observer.used_up(node)
                node.sources = None
                node.values = node.out = ()
                if hooked:  # a hook may refer to the node, and so keep it alive
                    hooks.pop(node, None)
                if op.fused:
                    node.saved = ()  # type: ignore[misc]
    return found


def _places(node: Node) -> list[Place]:
    if node.op is None or not node.op.multi:
        return [node]
    return [(node, i) for i in range(len(node.outs))]


def _visit(
    node: Node, arrived, wanted: set[Node] | None, pending: dict, lift: bool, observer=None
) -> None:
    """Calls the node's rule and sends the contributions on to the sources that want them."""
    op, sources, params = node.op, node.sources, node.params
    assert op is not None
    values: Any = node.values
    out: Any = node.out
    if lift:
        values = node.args
        out = [Tensor.of(o, node, i) for i, o in enumerate(node.outs)]
        out = tuple(out) if op.multi else out[0]
    g: Any = _cotangents(arrived, node.outs, lift) if op.multi else total(arrived)
    if node.saved:
        out = (*(out if op.multi else (out,)), *node.saved)

    needs = [s is not None and (wanted is None or _wants(s, wanted)) for s in sources]
    if op.vjp is not None:
        contributions = op.vjp(needs, g, out, *values, **params)
    else:
        rules: Any = op.vjps if lift else op.array_vjps
        contributions = [
            rule(g, out, *values, **params) if need else None
            for rule, need in zip(rules, needs)  # noqa: B905 (a rule may be missing at the end)
        ]
    for i, (source, value, c) in enumerate(zip(sources, node.values, contributions)):  # noqa: B905
        if needs[i] and c is not None:
            if observer is not None:
                observer.sent(node, g, i, c)
            _send(c, source, value, pending)


def _visit_plain(node: Node, g: Any, wanted: set[Node] | None, pending: dict) -> None:
    """What `_visit` does for the most common ops and passes: a rule for each argument, arrays."""
    op, values, out, sources = node.op, node.values, node.out, node.sources
    assert op is not None
    if op.multi:
        g = _cotangents(g, out, False)
    elif type(g) is not _ndarray:
        g = total(g)
    rules: Any = op.array_vjps
    if len(values) == 1:  # on the way to a target, or it would not be visited
        (x,) = values
        c = rules[0](g, out, x, **node.params) if node.params else rules[0](g, out, x)
        _put(c, sources[0], x, pending)
    elif len(values) == 2 and not node.params:  # a loop would cost as much as the rules
        x, y = values
        x_source, y_source = sources
        if x_source is not None and (wanted is None or node_of(x_source) in wanted):
            _put(rules[0](g, out, x, y), x_source, x, pending)
        if y_source is not None and (wanted is None or node_of(y_source) in wanted):
            _put(rules[1](g, out, x, y), y_source, y, pending)
    else:
        for rule, source, value in zip(rules, sources, values):  # noqa: B905
            if source is not None and (wanted is None or node_of(source) in wanted):
                _put(rule(g, out, *values, **node.params), source, value, pending)


def _cotangents(arrived: list, outs: tuple, lift: bool) -> tuple:
    """The cotangent of each of several outputs; one that is missing is zero."""
    return tuple(
        [
            c if type(c) is _ndarray else _zeros(o, lift) if c is None else total(c)
            for c, o in zip(arrived, outs, strict=True)
        ]
    )


def _put(c: Any, source: Place, value, pending: dict) -> None:
    """What `_send` does, at once for an array of the right shape that arrives first."""
    if type(c) is _ndarray and c.shape == value.shape:
        if source in pending:
            _arrive(c, source, pending)
        else:
            pending[source] = c
    elif isinstance(c, Deferred):
        _arrive(c, source, pending)
    else:
        _send(c, source, value, pending)


def _enter(node: Node, arrived, wanted: set[Node] | None, pending: dict) -> list[Node]:
    """The nodes that stand for one without rules, which take over what has arrived at it."""
    outs, made = entered(node)
    if wanted is not None:
        for inner in made:
            if not wanted.isdisjoint(sources_of(inner)):
                wanted.add(inner)
        made = [inner for inner in made if inner in wanted]
    for out, g in zip(outs, arrived if node.op.multi else [arrived], strict=True):  # type: ignore
        place = origin(out.source)
        if g is not None and place is not None and (wanted is None or node_of(place) in wanted):
            for c in g if type(g) is list else [g]:
                _arrive(c, place, pending)
    return made


def _wants(source: Place, wanted: set[Node]) -> bool:
    place = origin(source)
    return place is not None and node_of(place) in wanted


def _send(contribution, source: Place, value, pending: dict) -> None:
    """Sends one contribution, or a list of them, summed over the axes that were broadcast."""
    if isinstance(contribution, list):
        for c in contribution:
            _send(c, source, value, pending)
        return
    if not isinstance(contribution, Deferred) and contribution.shape != value.shape:
        contribution = registry["sum_to"](contribution, shape=value.shape)
    if node_of(source).expansion is not None:
        source = origin(source)  # type: ignore[assignment]
    _arrive(contribution, source, pending)


def _run_hooks(node: Node, pending: dict) -> None:
    """Shows the complete cotangents of a node to its hooks, which may put others in their place."""
    for place in _places(node):
        index = place[1] if type(place) is tuple else 0
        for hook in hooks.get(node, {}).get(index, ()):
            if place not in pending:
                break
            g = total(pending[place])
            g = g if isinstance(g, Tensor) else Tensor(g)
            new = hook(g)
            if new is not None:
                new = new if isinstance(new, Tensor) else Tensor(new)
                if new.shape != g.shape or new.dtype != g.dtype:
                    raise ShapeError(
                        f"hook: its result for {described(node)}",
                        f"expected {g.dtype} {g.shape}, got {new.dtype} {new.shape}",
                        "return a cotangent like the one that was given, or None",
                    )
                g = new
            pending[place] = g if g.source is not None else g.data


def _zeros(like: np.ndarray, lift: bool):
    z = np.zeros(like.shape, like.dtype)
    return Tensor(z) if lift else z


# --- what is made of it --------------------------------------------------------------------------


def _seed(output: Tensor, gradient) -> Any:
    """The cotangent to start from: `gradient`, or one for an output with one element."""
    if not isinstance(output, Tensor):
        raise GradientError(
            "backward: from what is no tensor",
            f"expected a tensor, got {type(output).__name__}",
            "compute it from tensors with requires_grad=True, without .data and .item()",
        )
    if output.source is None:
        raise GradientError(
            "backward: from a tensor that depends on nothing that needs a gradient",
            "expected requires_grad=True somewhere behind it",
            "create the inputs with requires_grad=True, and check for no_grad() and .detach()",
        )
    if gradient is None:
        if output.size != 1:
            raise GradientError(
                "backward: from a tensor with several elements",
                f"expected one element, got shape {output.shape}",
                "sum it first, or pass the cotangent as gradient=",
            )
        return np.ones(output.shape, output.dtype)
    if isinstance(gradient, Tensor):
        array = gradient.data
    elif isinstance(gradient, np.ndarray | np.generic):
        array = np.asarray(gradient)
    else:
        array = numbers("backward", gradient)
    if array.shape != output.shape or array.dtype != output.dtype:
        raise ShapeError(
            "backward: gradient=",
            f"expected {output.dtype} {output.shape}, got {array.dtype} {array.shape}",
            "the cotangent has the shape and dtype of the tensor it belongs to",
        )
    return gradient if isinstance(gradient, Tensor) else array


def _own(arrived: Any) -> Any:
    """Its total, as the receiver's own: an array that arrived alone may be somebody else's."""
    g = total(arrived)
    if type(arrived) is list or isinstance(arrived, Deferred):
        return g
    return Tensor.at(np.array(g.data), g.source) if isinstance(g, Tensor) else np.array(g)


def _lift(g, create_graph: bool):
    if create_graph:
        return g if isinstance(g, Tensor) else Tensor(g)
    return g.data if isinstance(g, Tensor) else g


def backward(
    output: Tensor, gradient=None, retain_graph: bool | None = None, create_graph: bool = False
) -> None:
    """Adds d(output)/d(leaf), weighted by `gradient`, to `.grad` of every leaf behind `output`.

    leaf.grad += gradient^T (d output / d leaf)

    `gradient` has the shape of `output` and may be left out if that has one element. The graph is
    used up unless `retain_graph` or `create_graph` is True; `create_graph` records the pass, so
    that gradients can be differentiated again (such a `.grad` refers to its graph and so keeps it
    alive: set it to None when done). Raises `GradientError`, `GraphFreedError` for a
    graph used up before, `ShapeError`.

    Source: Goodfellow et al., Deep Learning, section 6.5.

    >>> x = mg.tensor([1.0, 2.0], requires_grad=True)
    >>> (x * x).sum().backward()
    >>> x.grad
    tensor([2., 4.])
    """
    g = _lift(_seed(output, gradient), create_graph)
    keep = create_graph if retain_graph is None else retain_graph
    found = pull_back([output], [g], None, create_graph, keep)
    with set_grad_enabled(create_graph):
        for leaf, arrived in found.items():
            assert isinstance(leaf, Leaf)
            g = _own(arrived)
            g = g if isinstance(g, Tensor) else Tensor.of(g, None)
            leaf.passes += 1
            leaf.grad = g if leaf.grad is None else leaf.grad + g  # type: ignore[operator]


def gradients(
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    cotangents: Sequence[Any] | None = None,
    create_graph: bool = False,
) -> list:
    """The cotangents of `inputs`, or None for one that `outputs` do not depend on.

    Nothing is written to any `.grad`. Tensors if `create_graph`, arrays otherwise.
    """
    seeds = [
        _lift(_seed(o, None if cotangents is None else cotangents[i]), create_graph)
        if o.source is not None
        else None
        for i, o in enumerate(outputs)
    ]
    if create_graph:
        for node in (node_of(p) for t in inputs if (p := origin(t.source)) is not None):
            # A graph that was used up is found out, and named, by the walk.
            if node.sources is not None and node.op is not None and node.op.reference is not None:
                expand(node)
    targets = {node_of(p) for t in inputs if (p := origin(t.source)) is not None}
    if not targets:
        return [None] * len(inputs)
    found = pull_back(outputs, seeds, targets, create_graph)
    with set_grad_enabled(create_graph):
        arrived = [found.get(origin(t.source)) for t in inputs]  # type: ignore[arg-type]
        return [_own(g) if g is not None else None for g in arrived]
