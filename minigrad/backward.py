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

from .checks import check_written, freed, of_shape, seed_of
from .expand import by_rank, entered, expand, node_of, origin, sources_of
from .graph import (
    Leaf,
    Node,
    Place,
    Tensor,
    hooks,
    observers,
    set_grad_enabled,
)
from .hooks import run_hooks

_ndarray = np.ndarray


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
    if len(arrived) == 2 and type(arrived[0]) is type(arrived[1]) is _ndarray:  # most often
        return arrived[0] + arrived[1]
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


def nodes_behind(
    places: Iterable[Place], targets: set[Node] | None, create_graph: bool
) -> tuple[list[Node], bool]:
    """The nodes on a path from `places` to a target, oldest first (no targets: to any leaf).

    And whether any of them stands in for an expanded one, whose name others still use.
    """
    # Nothing made before the oldest target can depend on it, so the search need not go there.
    floor = None if targets is None else min((n.rank for n in targets), default=0)
    seen = {node_of(place) for place in places}
    stack, leaves, replaced, expanded = list(seen), [], [], False
    while stack:
        node = stack.pop()
        sources = node.sources
        if not sources:
            if sources is None:
                raise freed(node)
            leaves.append(node)
        elif create_graph and node.op.reference is not None:  # type: ignore[union-attr]
            sources, expanded = [t.source for t in expand(node)], True
            replaced.append(node)
        for source in sources:
            if source is not None:
                n = source[0] if type(source) is tuple else source
                if n not in seen:
                    if n.expansion is not None:
                        expanded = True
                        if (source := origin(source)) is None or (n := node_of(source)) in seen:
                            continue
                    if floor is None or n.rank >= floor:
                        seen.add(n)
                        stack.append(n)
    seen.difference_update(replaced)
    oldest_first = sorted(seen, key=by_rank)
    check_written(leaves, oldest_first)
    if targets is None:
        return oldest_first, expanded
    needed: set[Node] = set()
    for node in oldest_first:
        if node in targets or not needed.isdisjoint(sources_of(node)):
            needed.add(node)
    return [n for n in oldest_first if n in needed], expanded


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
    with set_grad_enabled(create_graph):
        return _Pass(outputs, cotangents, targets, create_graph, retain_graph).walk()


class _Pass:
    """One walk from the newest node to the oldest.

    `order` are the nodes left, the next one last; `pending` is what has arrived at places not yet
    visited, `found` what arrived at the targets. `wanted` are the nodes on the way to a target,
    None where every node leads to a leaf.
    """

    def __init__(self, outputs, cotangents, targets, create_graph: bool, retain_graph: bool):
        self.targets = set() if targets is None else targets
        self.lift, self.retain, self.hooked = create_graph, retain_graph, len(hooks) > 0
        ends = [p for t in outputs if (p := origin(t.source)) is not None]
        self.order, self.expanded = nodes_behind(ends, targets, create_graph)
        self.wanted = None if targets is None else set(self.order)
        self.pending: dict[Place, Any] = {}
        self.found: dict[Place, Any] = {}
        self.observer = observers.get(threading.get_ident()) if observers else None
        for t, g in zip(outputs, cotangents, strict=True):
            place = origin(t.source)  # an output may have been expanded meanwhile
            if place is not None and self.wants(place):
                _arrive(g, place, self.pending)

    def wants(self, source: Place) -> bool:
        """Whether a contribution to this source is of any use."""
        if self.wanted is None:
            return True
        place = origin(source) if self.expanded else source
        return place is not None and node_of(place) in self.wanted

    def walk(self) -> dict[Place, Any]:
        """Visits all nodes; most passes are of the kind that may hurry."""
        if not (self.lift or self.observer is not None or self.expanded):
            self.hurry()
        while self.order:
            self.visit(self.order.pop())
        return self.found

    def visit(self, node: Node) -> None:
        """Adds up what has arrived at a node, calls its rule, sends the contributions on."""
        op, pending = node.op, self.pending
        places: list[Any] = [node]
        if op is not None and op.multi:
            places = [(node, i) for i in range(len(node.out))]
        if self.hooked:
            run_hooks(node, places, pending, total)
        if op is None or node in self.targets:
            self.found |= {p: pending[p] for p in places if p in pending}
            if op is None or self.wanted is None or self.wanted.isdisjoint(sources_of(node)):
                return
        if self.wanted is not None:
            self.wanted.discard(node)  # if it was made for this pass alone, it may go
        arrived = [pending.pop(p, None) for p in places]
        if all([c is None for c in arrived]):
            return
        if op.only_reference:
            self.enter(node, arrived)
        elif self.observer is None:
            self.call_rules(node, arrived)
        else:
            with self.observer.visiting(node):
                self.call_rules(node, arrived)
        if not self.retain:
            self.use_up(node)

    def use_up(self, node: Node) -> None:
        """Lets go of what the node held, and so of all that only it needed."""
        if self.observer is not None:
            self.observer.used_up(node)
        node.sources = None
        node.values = node.out = ()
        if node.op.fused:  # type: ignore[union-attr]
            node.saved = ()  # type: ignore[misc]
        if self.hooked:  # a hook may refer to the node, and so keep it alive
            hooks.pop(node, None)

    def call_rules(self, node: Node, arrived: list) -> None:
        """The contributions to the node's sources, in the order of its arguments."""
        op, sources, params, lift = node.op, node.sources, node.params, self.lift
        assert op is not None
        values: Any = node.values
        outs: Any = node.outs
        cotangents = _whole(arrived, outs, lift)
        if lift:
            values = node.args
            outs = tuple([Tensor.of(o, node, i) for i, o in enumerate(outs)])
        g: Any = cotangents if op.multi else cotangents[0]
        out: Any = (*outs, *node.saved) if op.multi or node.saved else outs[0]
        needs = [s is not None and self.wants(s) for s in sources]
        if op.vjp is not None:
            contributions = op.vjp(needs, g, out, *values, **params)
        else:
            rules: Any = op.vjps if lift else op.array_vjps
            contributions = [
                rule(g, out, *values, **params) if need else None
                for rule, need in zip(rules, needs)  # noqa: B905 (a rule may be missing at the end)
            ]
        for i, (need, c) in enumerate(zip(needs, contributions)):  # noqa: B905
            if need and c is not None:
                if self.observer is not None:
                    self.observer.sent(node, g, i, c)
                self.send(node, i, c)

    def cotangents(self, node: Node) -> tuple | None:
        """Those of several outputs: a missing one is zero, and if all are, there is none."""
        outs = node.out
        arrived = [self.pending.pop((node, i), None) for i in range(len(outs))]
        if all([c is None for c in arrived]):
            return None
        return _whole(arrived, outs, False)

    def send(self, node: Node, i: int, contribution) -> None:
        """Sends what the rule made for argument i, summed over the axes that were broadcast.

        It may be a list of contributions, or None for none.
        """
        if type(contribution) is list:
            for c in contribution:
                self.send(node, i, c)
        elif contribution is not None:
            if not isinstance(contribution, Deferred):
                contribution = of_shape(contribution, node.values[i], node, i)
            place: Any = node.sources[i]
            if self.expanded:
                place = origin(place)
            _arrive(contribution, place, self.pending)

    def enter(self, node: Node, arrived: list) -> None:
        """Puts the nodes that stand for one without rules in its place (see `checkpoint`)."""
        outs, made = entered(node)
        used = [node_of(s) for inner in made for s in inner.sources if s is not None]
        self.expanded |= any([n.expansion is not None for n in used])
        if self.wanted is not None:
            for inner in made:
                if not self.wanted.isdisjoint(sources_of(inner)):
                    self.wanted.add(inner)
            made = [inner for inner in made if inner in self.wanted]
        for out, g in zip(outs, arrived, strict=True):
            place = origin(out.source)
            if g is not None and place is not None and self.wants(place):
                for c in g if type(g) is list else [g]:
                    _arrive(c, place, self.pending)
        self.order.extend(made)
        self.hooked = len(hooks) > 0

    def hurry(self) -> None:
        """The walk over plain arrays: the commonest nodes are visited right here, since a call for
        each part of `visit` would cost as much as a rule; the others are visited there.
        """
        order, pending, wanted, retain = self.order, self.pending, self.wanted, self.retain
        targets, hooked = self.targets, self.hooked
        while order:
            node = order.pop()
            op = node.op
            if op is None or not op.short or hooked or (targets and node in targets):
                self.visit(node)
                if self.expanded:
                    return
                hooked = self.hooked
                continue
            if wanted is not None:
                wanted.discard(node)
            g = self.cotangents(node) if op.multi else pending.pop(node, None)
            if g is None:
                continue
            if type(g) is not _ndarray:
                g = total(g)
            out, values, sources = node.out, node.values, node.sources
            rules: Any = op.array_vjps
            if len(values) == 2 and not node.params:
                (x, y), (source, other) = values, sources
                if source is not None and (wanted is None or node_of(source) in wanted):
                    c = rules[0](g, out, x, y)
                    if type(c) is not _ndarray or c.shape != x.shape:
                        self.send(node, 0, c)
                    elif source in pending:
                        _arrive(c, source, pending)
                    else:
                        pending[source] = c
                if other is not None and (wanted is None or node_of(other) in wanted):
                    c = rules[1](g, out, x, y)
                    if type(c) is not _ndarray or c.shape != y.shape:
                        self.send(node, 1, c)
                    elif other in pending:
                        _arrive(c, other, pending)
                    else:
                        pending[other] = c
            else:
                for i, (rule, source, x) in enumerate(zip(rules, sources, values)):  # noqa: B905
                    if source is not None and (wanted is None or node_of(source) in wanted):
                        c = rule(g, out, *values, **node.params)
                        if type(c) is not _ndarray or c.shape != x.shape:
                            self.send(node, i, c)
                        elif source in pending:
                            _arrive(c, source, pending)
                        else:
                            pending[source] = c
            if not retain:
                node.sources = None
                node.values = node.out = ()


def _whole(arrived: list, outs: tuple, lift: bool) -> tuple:
    """The cotangents of outputs, added up; one that is missing is zero."""
    pairs = zip(arrived, outs, strict=True)
    return tuple([_zeros(o, lift) if c is None else total(c) for c, o in pairs])


def _zeros(like: np.ndarray, lift: bool):
    z = np.zeros(like.shape, like.dtype)
    return Tensor(z) if lift else z


# --- what is made of it --------------------------------------------------------------------------


def own(arrived: Any) -> Any:
    """Its total, as the receiver's own: an array that arrived alone may be somebody else's."""
    g = total(arrived)
    if type(arrived) is list or isinstance(arrived, Deferred):
        return g if isinstance(g, Tensor) else np.asarray(g)  # sums of 0-d arrays are scalars
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
    g = _lift(seed_of(output, gradient), create_graph)
    keep = create_graph if retain_graph is None else retain_graph
    found = pull_back([output], [g], None, create_graph, keep)
    sums: list[tuple[Leaf, Tensor]] = []
    with set_grad_enabled(create_graph):
        for leaf, arrived in found.items():
            assert isinstance(leaf, Leaf)
            g = own(arrived)
            g = g if isinstance(g, Tensor) else Tensor.of(g, None)
            sums.append((leaf, g if leaf.grad is None else leaf.grad + g))  # type: ignore[operator]
    for leaf, g in sums:  # all of them or, after an error, none
        leaf.grad = g
        leaf.passes += 1


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
        _lift(seed_of(o, None if cotangents is None else cotangents[i]), create_graph)
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
        return [own(g) if g is not None else None for g in arrived]
