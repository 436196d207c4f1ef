"""Nodes whose op has a `reference`, the same function made of other ops, put in the node's place.

A fused op has rules for arrays only, and `checkpoint` makes ops without rules. A backward pass that
needs more than that runs the reference on the node's arguments: for good where the pass is itself
recorded (`expand`), for one pass where there are no rules (`entered`).
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Iterable
from typing import Any

import numpy as np

from .errors import GradientError
from .graph import (
    RANK_LEVEL,
    Leaf,
    Node,
    Op,
    Place,
    Tensor,
    described,
    hooks,
    register,
    set_grad_enabled,
)

by_rank = operator.attrgetter("rank")

# An identity marks a place: where a function being differentiated begins (see `transforms.py`),
# or where a hook stands.
identity = register(Op("identity", lambda x: x, vjps=[lambda g, out, x: g]))


def node_of(place: Any) -> Node:
    """The node at a place."""
    return place[0] if type(place) is tuple else place


def origin(source: Place | None) -> Place | None:
    """A place in the graph; of an output of an expanded node, the place that it became."""
    while source is not None:
        node, index = source if isinstance(source, tuple) else (source, 0)
        if node.expansion is None:
            break
        source = node.expansion[index].source
    return source


def sources_of(node: Node) -> list[Node]:
    """The nodes that this one was computed from."""
    places = [origin(source) for source in node.sources or () if source is not None]
    return [node_of(place) for place in places if place is not None]


def made_after(rank: int, outs: Iterable[Tensor]) -> tuple[list[Node], dict[Place, Any]]:
    """The nodes behind `outs` that are younger than `rank`, oldest first; and what they were
    computed from that is older: its places, with the values there."""
    stack = [node_of(p) for t in outs if (p := origin(t.source)) is not None]
    made: set[Node] = set()
    older: dict[Place, Any] = {}
    while stack:
        node = stack.pop()
        if node.rank <= rank or node in made:
            continue
        made.add(node)
        for value, source in zip(node.values, node.sources or (), strict=False):
            if (place := origin(source)) is not None:
                stack.append(node_of(place))
                if node_of(place).rank <= rank:
                    older[place] = value
    return sorted(made, key=by_rank), older


def entered(node: Node) -> tuple[tuple[Tensor, ...], list[Node]]:
    """A node's outputs computed by its op's reference, and the nodes made, oldest first."""
    op = node.op
    assert op is not None and op.reference is not None and node.args is not None
    marker = Leaf().rank
    with set_grad_enabled(True):
        out = op.reference(*node.args, **node.params)
    outs = out if isinstance(out, tuple) else (out,)
    if op.only_reference:  # computed again in each pass: does it hold still?
        for i, (again, first) in enumerate(zip(outs, node.outs, strict=True)):
            if not np.array_equal(again.data, first, equal_nan=True):
                raise GradientError(
                    f"backward: {described(node)} computed again, output {i}",
                    "expected the values of the forward pass, got others",
                    "draw random numbers outside of the function, and change nothing that it reads",
                )
    return outs, made_after(marker, outs)[0]


_expanding = threading.RLock()


def expand(node: Node) -> tuple[Tensor, ...]:
    """Unfolds a fused node in place: its op's reference, run on the same arguments, stands for it.

    A fused op has no rule for its rule, so a pass that is to be differentiated again expands it
    first, and the fused nodes within. The new nodes take ranks from the gap below the fused
    node's, as if they had been made in its place: from here on the graph *is* the unfolded one, to
    any order and to the bit (and at the unfolded one's speed).
    """
    with _expanding:  # two passes, in one thread or in two, must find the same nodes
        if node.expansion is None:
            for i, inner in enumerate(_expanded([node])[:-1], 1):
                inner.rank = node.rank - RANK_LEVEL + i
        return node.expansion  # type: ignore[return-value]


def _expanded(nodes: list[Node]) -> list[Node]:
    """The nodes, and those that each fused one among them unfolds to in front of it."""
    found = []
    for node in nodes:
        if node.op is not None and node.op.reference is not None:
            outs, made = entered(node)
            node.expansion, marks = _marked(node, outs)  # type: ignore[misc]
            found += _expanded(made) + marks
        found.append(node)
    return found


def _marked(node: Node, outs: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], list[Node]]:
    """The outputs of an expansion, those with a hook through an identity that takes the hook over:
    what stands in the node's place may be used within the expansion as well."""
    marked, marks = [], []
    for i, out in enumerate(outs):
        functions = hooks.get(node, {}).get(i)
        if functions and out.source is not None:
            with set_grad_enabled(True):
                out = identity(out)
            hooks[out.source] = {0: functions}
            marks.append(out.source)
        marked.append(out)
    return tuple(marked), marks
