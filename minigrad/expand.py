"""Nodes whose op has a `reference`, the same function made of other ops, put in the node's place.

A fused op has rules for arrays only, and `checkpoint` makes ops without rules. A backward pass that
needs more than that runs the reference on the node's arguments: for good where the pass is itself
recorded (`expand`), for one pass where there are no rules (`entered`).
"""

from __future__ import annotations

import operator
import threading
from typing import Any

import numpy as np

from .errors import GradientError
from .graph import RANK_LEVEL, Leaf, Node, Place, Tensor, described, set_grad_enabled

by_rank = operator.attrgetter("rank")


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


def _unfolded(node: Node) -> tuple[tuple[Tensor, ...], list[Node]]:
    """A node's outputs computed by its op's reference, and the nodes made, oldest first."""
    assert node.op is not None and node.op.reference is not None and node.args is not None
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
            stack.extend(sources_of(inner))
    return outs, sorted(made, key=by_rank)


_expanding = threading.RLock()


def expand(node: Node) -> tuple[Tensor, ...]:
    """Unfolds a fused node in place: its op's reference, run on the same arguments, stands for it.

    A fused op has no rule for its rule, so a pass that is to be differentiated again expands it
    first. The new nodes take ranks from the gap below the fused node's, as if they had been made
    in its place: from here on the graph *is* the unfolded one, to any order and to the bit (and
    at the unfolded one's speed).
    """
    with _expanding:  # two passes, in one thread or in two, must find the same nodes
        if node.expansion is None:
            outs, made = _unfolded(node)
            gap = RANK_LEVEL  # what is expanded within an expansion finds a smaller gap
            while node.rank % (gap * RANK_LEVEL) == 0 and gap < RANK_LEVEL**2:
                gap *= RANK_LEVEL
            for i, inner in enumerate(made):
                inner.rank = node.rank - gap + (i + 1) * (gap // RANK_LEVEL)
            node.expansion = outs  # type: ignore[misc]
        return node.expansion


def entered(node: Node) -> tuple[tuple[Tensor, ...], list[Node]]:
    """What stands for a node without rules in one pass: its outputs again, and the nodes made."""
    outs, made = _unfolded(node)
    for i, (out, first) in enumerate(zip(outs, node.outs, strict=True)):
        if not np.array_equal(out.data, first, equal_nan=True):
            raise GradientError(
                f"backward: {described(node)} computed again, output {i}",
                "expected the values of the forward pass, got others",
                "draw random numbers outside of the function, and change nothing that it reads",
            )
    return outs, made
