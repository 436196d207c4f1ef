"""The backward pass: in which order nodes are visited, and how contributions add up.

No calculus here: derivatives are the rules in `ops/`. The pass walks the nodes from the newest to
the oldest, calls each node's rule once, when everything that depends on it has been visited, and
collects for each node the contributions to its cotangent *in the order in which they arrive*.
That order is part of the bit contract.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from .errors import GradientError, GraphFreedError, ShapeError
from .graph import RANK_GAP, Node, Op, Tensor, register, registry, set_grad_enabled

# An identity marks the place where a function being differentiated begins (see `transforms.py`).
identity = register(Op("identity", lambda x: x, vjps=[lambda g, out, x: g]))


class Deferred:
    """A contribution that is not worked out yet.

    A rule may return one in place of an array. The pass keeps it; when the target's cotangent is
    due, `total` of its class is given all of them, in order of arrival, and returns their sum.
    """

    __slots__ = ()

    @classmethod
    def total(cls, contributions: list) -> Any:
        raise NotImplementedError(cls.__name__ + ".total")


def total(contributions: list) -> Any:
    """The sum of contributions: arrays in order of arrival, then each kind of deferred ones."""
    if len(contributions) == 1 and not isinstance(contributions[0], Deferred):
        return contributions[0]
    plain: list[Any] = []
    deferred: dict[type[Deferred], list] = {}
    for c in contributions:
        if isinstance(c, Deferred):
            deferred.setdefault(type(c), []).append(c)
        else:
            plain.append(c)
    plain.extend(kind.total(group) for kind, group in deferred.items())
    result = plain[0]
    for c in plain[1:]:
        result = result + c
    return result


# --- the walk ------------------------------------------------------------------------------------


def _origin(t: Tensor) -> tuple[Node | None, int]:
    """The node that a tensor is an output of, and which; of an expanded node, what it became."""
    node, index = t.node, t.index
    while node is not None and node.expansion is not None:
        t = node.expansion[index]
        node, index = t.node, t.index
    return node, index


def _sources(node: Node) -> Iterable[Node]:
    """The nodes that this one was computed from."""
    for a in node.args or ():
        if isinstance(a, Tensor) and (source := _origin(a)[0]) is not None:
            yield source


def _nodes_behind(outputs: Iterable[Tensor], targets: set[Node] | None, expand: bool) -> list[Node]:
    """The nodes on a path from `outputs` to a target, newest first (no targets: to any leaf)."""
    # Nothing made before the oldest target can depend on it, so the search need not go there.
    floor = min((n.rank for n in targets), default=0) if targets is not None else -1
    stack = [node for t in outputs if (node := _origin(t)[0]) is not None]
    seen: set[Node] = set()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        if node.args is None:
            raise GraphFreedError(
                f"backward: through {node.op.name}, whose graph is gone",  # type: ignore[union-attr]
                "expected a graph that no earlier backward pass has used up",
                "run the forward pass again, or pass retain_graph=True to the first backward",
            )
        if expand and node.op is not None and node.op.reference is not None:
            stack.extend(n for t in _expand(node) if (n := _origin(t)[0]) is not None)
            continue
        seen.add(node)
        stack.extend(source for source in _sources(node) if source.rank >= floor)
    if targets is None:
        return sorted(seen, key=lambda n: n.rank, reverse=True)
    needed = set()
    oldest_first = sorted(seen, key=lambda n: n.rank)
    for node in oldest_first:
        if node in targets or any(source in needed for source in _sources(node)):
            needed.add(node)
    return [n for n in reversed(oldest_first) if n in needed]


_expanding = threading.RLock()


def _expand(node: Node) -> tuple[Tensor, ...]:
    """Unfolds a fused node in place: its op's reference, run on the same arguments, stands for it.

    A fused op has no rule for its rule, so a pass that is to be differentiated again expands it
    first. The new nodes take ranks from the gap below the fused node's, as if they had been made
    in its place: from here on the graph *is* the unfolded one, to any order and to the bit (and
    at the unfolded one's speed).
    """
    assert node.op is not None and node.op.reference is not None and node.args is not None
    with _expanding:  # two passes, in one thread or in two, must find the same nodes
        if node.expansion is None:
            marker = Node(None, (), {}, ()).rank
            with set_grad_enabled(True):
                out = node.op.reference(*node.args, **node.params)
            outs = out if isinstance(out, tuple) else (out,)
            stack = [t.node for t in outs if t.node is not None]
            made: set[Node] = set()
            while stack:
                inner = stack.pop()
                if inner.rank > marker and inner not in made:
                    made.add(inner)
                    stack.extend(_sources(inner))
            for i, inner in enumerate(sorted(made, key=lambda n: n.rank)):
                inner.rank = node.rank - RANK_GAP + 1 + i
            node.expansion = outs
        return node.expansion


def pull_back(
    outputs: Sequence[Tensor],
    cotangents: Sequence[Any],
    targets: set[Node] | None = None,
    create_graph: bool = False,
    retain_graph: bool = True,
) -> dict[Node, list[list]]:
    """Contributions to the cotangent of each target (or each leaf), in order of arrival.

    The result maps a node to one list for each of its outputs. With `create_graph` the rules are
    fed tensors and what they compute is recorded; otherwise they are fed plain arrays.
    """
    order = _nodes_behind(outputs, targets, expand=create_graph)
    wanted = set(order)
    pending: dict[Node, list[list]] = {}

    def send(node: Node, index: int, contribution) -> None:
        lists = pending.get(node)
        if lists is None:
            lists = pending[node] = [[] for _ in range(max(1, len(node.outs)))]
        lists[index].append(contribution)

    for tensor, g in zip(outputs, cotangents, strict=True):
        source, index = _origin(tensor)
        if source is not None and source in wanted:
            send(source, index, g)

    found: dict[Node, list[list]] = {}
    with set_grad_enabled(create_graph):
        for node in order:
            lists = pending.pop(node, None)
            if lists is None:
                continue
            if node.op is None or (targets is not None and node in targets):
                found[node] = lists
                if not any(source in wanted for source in _sources(node)):
                    continue
            _visit(node, lists, wanted, send, create_graph)
            if not retain_graph:
                node.args, node.params = None, {}
                node.outs = node.saved = ()
    return found


def _visit(node: Node, lists: list[list], wanted: set[Node], send: Callable, lift: bool) -> None:
    """Calls the node's rule and sends the contributions on to the arguments that want them."""
    op, args, params, outs = node.op, node.args, node.params, node.outs
    assert op is not None and args is not None
    needs = [isinstance(a, Tensor) and _origin(a)[0] in wanted for a in args]
    values: tuple
    out: Any
    if lift:
        values, out = args, tuple(Tensor.of(o, node, i) for i, o in enumerate(outs))
    else:
        values, out = tuple(a.data if isinstance(a, Tensor) else a for a in args), outs
    g: Any
    if op.multi:  # a missing cotangent is zero
        g = tuple(total(c) if c else _zeros(o, lift) for c, o in zip(lists, outs, strict=True))
    else:
        g, out = total(lists[0]), out[0]
    if node.saved:
        out = (*(out if op.multi else (out,)), *node.saved)

    if op.vjps is not None:
        for i, rule in enumerate(op.vjps):
            if rule is not None and i < len(needs) and needs[i]:
                _send_one(args[i], rule(g, out, *values, **params), send)
    else:
        for a, need, c in zip(args, needs, op.vjp(needs, g, out, *values, **params), strict=True):  # type: ignore[misc]
            if need and c is not None:
                _send_one(a, c, send)


def _send_one(arg: Tensor, contribution, send: Callable) -> None:
    """Sends one contribution, or a list of them, summed over the axes that were broadcast."""
    if isinstance(contribution, list):
        for c in contribution:
            _send_one(arg, c, send)
        return
    if not isinstance(contribution, Deferred) and np.shape(contribution) != arg.shape:
        contribution = registry["sum_to"](contribution, shape=arg.shape)
    node, index = _origin(arg)
    send(node, index, contribution)


def _zeros(like: np.ndarray, lift: bool):
    z = np.zeros(like.shape, like.dtype)
    return Tensor(z) if lift else z


# --- what is made of it --------------------------------------------------------------------------


def _seed(output: Tensor, gradient) -> Any:
    """The cotangent to start from: `gradient`, or one for an output with one element."""
    if output.node is None:
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
    array = gradient.data if isinstance(gradient, Tensor) else np.asarray(gradient)
    if array.shape != output.shape or array.dtype != output.dtype:
        raise ShapeError(
            "backward: gradient=",
            f"expected {output.dtype} {output.shape}, got {array.dtype} {array.shape}",
            "the cotangent has the shape and dtype of the tensor it belongs to",
        )
    return gradient if isinstance(gradient, Tensor) else array


def _own(contributions: list) -> Any:
    """Their total, as the receiver's own: an array that arrived alone may be somebody else's."""
    g = total(contributions)
    if len(contributions) > 1 or isinstance(contributions[0], Deferred):
        return g
    return Tensor.of(np.array(g.data), g.node, g.index) if isinstance(g, Tensor) else np.array(g)


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
        for leaf, (contributions,) in found.items():
            g = _own(contributions)
            g = g if isinstance(g, Tensor) else Tensor(g)
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
        if o.node is not None
        else None
        for i, o in enumerate(outputs)
    ]
    if create_graph:
        for node, _ in map(_origin, inputs):
            # A graph that was used up is found out, and named, by the walk.
            if node is not None and node.args is not None and node.op and node.op.reference:
                _expand(node)
    places = [_origin(t) for t in inputs]
    targets = {node for node, _ in places if node is not None}
    if not targets:
        return [None] * len(inputs)
    found = pull_back(outputs, seeds, targets, create_graph)
    with set_grad_enabled(create_graph):
        arrived = [found[n][i] if n is not None and n in found else [] for n, i in places]
        return [_own(contributions) if contributions else None for contributions in arrived]
