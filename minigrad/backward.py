"""The backward pass: in which order nodes are visited, and how contributions add up.

No calculus here: derivatives are the rules in `ops/`. The pass walks the nodes from the newest to
the oldest, calls each node's rule once, when everything that depends on it has been visited, and
collects for each node the contributions to its cotangent *in the order in which they arrive*.
That order is part of the bit contract.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from .errors import GradientError, GraphFreedError, ShapeError
from .graph import RANK_GAP, Leaf, Node, Op, Tensor, register, registry, set_grad_enabled

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
    for i, c in enumerate(plain[1:]):
        if i and isinstance(result, np.ndarray) and result.shape:
            result += c  # the sum is ours alone
        else:
            result = result + c
    return result


# --- which nodes, in which order ------------------------------------------------------------------

Place = Node | tuple[Node, int]  # where cotangents arrive: a node, or one output of several


def _origin(t: Tensor) -> tuple[Node | None, int]:
    """The node that a tensor is an output of, and which; of an expanded node, what it became."""
    node, index = t.node, t.index
    while node is not None and node.expansion is not None:
        t = node.expansion[index]
        node, index = t.node, t.index
    return node, index


def _place(t: Tensor) -> Place | None:
    """Where the cotangent of a tensor is collected; None for a constant."""
    node, index = _origin(t)
    return (node, index) if node is not None and node.op is not None and node.op.multi else node


def _sources(node: Node) -> list[Node]:
    """The nodes that this one was computed from."""
    found = []
    for a in node.args or ():
        if isinstance(a, Tensor):
            source = a.node
            if source is not None and source.expansion is not None:
                source = _origin(a)[0]
            if source is not None:
                found.append(source)
    return found


def _nodes_behind(outputs: Iterable[Tensor], targets: set[Node] | None, expand: bool) -> list[Node]:
    """The nodes on a path from `outputs` to a target, oldest first (no targets: to any leaf)."""
    # Nothing made before the oldest target can depend on it, so the search need not go there.
    floor = min((n.rank for n in targets), default=0) if targets is not None else -1
    stack = [node for t in outputs if (node := _origin(t)[0]) is not None]
    seen: set[Node] = set()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        if node.args is None:
            raise _freed(node)
        if expand and node.op is not None and node.op.reference is not None:
            stack.extend(n for t in _expand(node) if (n := _origin(t)[0]) is not None)
            continue
        seen.add(node)
        for source in _sources(node):
            if source not in seen and source.rank >= floor:
                stack.append(source)
    oldest_first = sorted(seen, key=_rank)
    if targets is None:
        return oldest_first
    needed: set[Node] = set()
    for node in oldest_first:
        if node in targets or not needed.isdisjoint(_sources(node)):
            needed.add(node)
    return [n for n in oldest_first if n in needed]


_rank = operator.attrgetter("rank")


def _freed(node: Node) -> GraphFreedError:
    return GraphFreedError(
        f"backward: through {node.op.name}, whose graph is gone",  # type: ignore[union-attr]
        "expected a graph that no earlier backward pass has used up",
        "run the forward pass again, or pass retain_graph=True to the first backward",
    )


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
            _check_unchanged(node)
            marker = Leaf().rank
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
            for i, inner in enumerate(sorted(made, key=_rank)):
                inner.rank = node.rank - RANK_GAP + 1 + i
            node.expansion = outs
        return node.expansion


# --- the walk ------------------------------------------------------------------------------------


def pull_back(
    outputs: Sequence[Tensor],
    cotangents: Sequence[Any],
    targets: set[Node] | None = None,
    create_graph: bool = False,
    retain_graph: bool = True,
) -> dict[Place, list]:
    """Contributions to the cotangent of each target (or each leaf), in order of arrival.

    With `create_graph` the rules are fed tensors and what they compute is recorded; otherwise
    they are fed plain arrays.
    """
    order = _nodes_behind(outputs, targets, expand=create_graph)
    wanted = None if targets is None else set(order)  # None: every node leads to a leaf
    pending: dict[Place, list] = {}
    for tensor, g in zip(outputs, cotangents, strict=True):
        place = _place(tensor)
        if place is not None and (wanted is None or _origin(tensor)[0] in wanted):
            pending.setdefault(place, []).append(g)

    found: dict[Place, list] = {}
    with set_grad_enabled(create_graph):
        while order:
            node = order.pop()
            op = node.op
            if op is None or (targets is not None and node in targets):
                for place in [node] if op is None or not op.multi else _places(node):
                    if place in pending:
                        found[place] = pending[place]
                if op is None or not any(source in wanted for source in _sources(node)):  # type: ignore[operator]
                    continue
            if op.multi:
                lists = [pending.pop(place, None) for place in _places(node)]
                if any(lists):
                    _visit(node, lists, wanted, pending, create_graph)
            else:
                contributions = pending.pop(node, None)
                if contributions is not None:
                    _visit(node, [contributions], wanted, pending, create_graph)
            if not retain_graph:
                node.args, node.values, node.params = None, (), {}
                node.outs = node.saved = ()
    return found


def _places(node: Node) -> list[Place]:
    return [(node, i) for i in range(len(node.outs))]


def _visit(node: Node, lists: list, wanted: set[Node] | None, pending: dict, lift: bool) -> None:
    """Calls the node's rule and sends the contributions on to the arguments that want them."""
    op, args, params = node.op, node.args, node.params
    values: Any = node.values
    out: Any = node.outs
    assert op is not None and args is not None
    if lift:
        _check_unchanged(node)
        values, out = args, tuple([Tensor.of(o, node, i) for i, o in enumerate(out)])
    g: Any
    if op.multi:  # a missing cotangent is zero
        g = tuple([total(c) if c else _zeros(o, lift) for c, o in zip(lists, node.outs, strict=True)])
    else:
        (contributions,) = lists
        g = contributions[0] if len(contributions) == 1 else None
        if g is None or isinstance(g, Deferred):
            g = total(contributions)
        out = out[0]
    if node.saved:
        out = (*(out if op.multi else (out,)), *node.saved)

    needs = []
    for a in args:
        source = a.node if isinstance(a, Tensor) else None
        if source is not None:
            if source.expansion is not None:
                source = _origin(a)[0]
            if wanted is not None and source not in wanted:
                source = None
            elif type(source) is Leaf and source.written > node.rank:
                raise _overwritten(node, a)
        needs.append(source)

    rules = op.vjps if lift else op.array_vjps
    if rules is not None:
        for i, rule in enumerate(rules):
            if rule is not None and i < len(needs) and needs[i] is not None:
                c = rule(g, out, *values, **params) if params else rule(g, out, *values)
                _send(c, args[i], values[i], needs[i], pending)
    else:
        wants = [source is not None for source in needs]
        cs = op.vjp(wants, g, out, *values, **params)  # type: ignore[misc]
        for a, value, source, c in zip(args, values, needs, cs, strict=True):
            if source is not None and c is not None:
                _send(c, a, value, source, pending)


def _send(contribution, arg: Tensor, value, source: Node, pending: dict) -> None:
    """Sends one contribution, or a list of them, summed over the axes that were broadcast."""
    if isinstance(contribution, list):
        for c in contribution:
            _send(c, arg, value, source, pending)
        return
    if not isinstance(contribution, Deferred) and contribution.shape != value.shape:
        contribution = registry["sum_to"](contribution, shape=value.shape)
    place = _place(arg) if source.op is not None and source.op.multi else source
    arrived = pending.get(place)
    if arrived is None:
        pending[place] = [contribution]
    else:
        arrived.append(contribution)


def _overwritten(node: Node, arg: Tensor) -> GradientError:
    return GradientError(
        f"backward: through {node.op.name}, an argument of which was written to",  # type: ignore[union-attr]
        f"expected the array {arg.shape} {arg.dtype} of the forward pass, "
        "got one changed in place since (an optimiser's step, load_state_dict)",
        "run the forward pass again, or call backward before the change",
    )


def _check_unchanged(node: Node) -> None:
    """A recorded pass reads the tensors again: their arrays must be those of the forward pass."""
    for i, (a, value) in enumerate(zip(node.args or (), node.values, strict=True)):
        if isinstance(a, Tensor) and a.data is not value:
            raise GradientError(
                f"backward: through {node.op.name}, argument {i}",  # type: ignore[union-attr]
                "expected the array of the forward pass, got a tensor whose .data was replaced",
                "run the forward pass again, or pass create_graph=True before the change",
            )


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
        for leaf, contributions in found.items():
            assert isinstance(leaf, Leaf)
            g = _own(contributions)
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
        if o.node is not None
        else None
        for i, o in enumerate(outputs)
    ]
    if create_graph:
        for node, _ in map(_origin, inputs):
            # A graph that was used up is found out, and named, by the walk.
            if node is not None and node.args is not None and node.op and node.op.reference:
                _expand(node)
    targets = {node for t in inputs if (node := _origin(t)[0]) is not None}
    if not targets:
        return [None] * len(inputs)
    found = pull_back(outputs, seeds, targets, create_graph)
    with set_grad_enabled(create_graph):
        arrived = [found.get(place) if (place := _place(t)) else None for t in inputs]
        return [_own(contributions) if contributions else None for contributions in arrived]
