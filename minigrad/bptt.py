"""Back-propagation through time, term by term: what each step contributes to a gradient."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from .backward import nodes_behind, own, pull_back
from .checks import seed_of
from .debug import Observer, Where, observer, place_of
from .errors import GradientError
from .expand import expand, node_of, origin
from .graph import Leaf, Node, Place, Tensor, observers


@dataclass(frozen=True, slots=True, eq=False)
class Contribution:
    """One term of a gradient that is a sum: of which call, where that was made, and the array."""

    op: str
    where: Where | None
    array: np.ndarray

    @property
    def t(self) -> int | None:
        """The time step, where `mg.debug()` was on when the graph was recorded."""
        return self.where.t if self.where is not None else None

    def __repr__(self):
        at = f" ({self.where})" if self.where is not None else ""
        return f"<Contribution of {self.op}{at}: {self.array.dtype} {self.array.shape}>"


def contributions(output: Tensor, parameter: Tensor, gradient=None) -> list[Contribution]:
    """The terms of d(output)/d(parameter), one for each call that uses it, newest first.

    dL/dW = sum over t of dL/dW(t), where W(t) is a copy of W that step t alone uses

    `gradient` weights an output with several elements, as in `backward`. Added up in this order
    the terms give the gradient: to the bit where they are plain arrays; where the gradient is one
    product or row sum gathered over time, within the rounding of that sum, since each term is
    rounded by itself. A term knows its time step `t` if the graph was recorded in `mg.debug()`. A
    fused node is unfolded in place (the bits stay). A parameter that enters time through one call,
    as the LSTM's two biases do through their sum, is followed to the calls that use the result.
    The graph is kept, and no `.grad` changes. Raises `GradientError`, `GraphFreedError`.

    Source: Goodfellow et al., Deep Learning, section 10.2.2, equations 10.22 to 10.28.

    The further back a step lies, the less it counts, here by the weight 0.5 a step:

    >>> class Decay(mg.nn.Cell):
    ...     def __init__(self):
    ...         self.w = mg.nn.Parameter(np.array(0.5))
    ...     def initial_state(self, batch_size, dtype):
    ...         return mg.tensor(np.ones((batch_size, 1), dtype))
    ...     def __call__(self, x, h):
    ...         return h, self.w * h + x
    >>> cell = Decay()
    >>> with mg.debug():
    ...     _, h = mg.unfold(cell, np.full((4, 1, 1), 0.5))
    >>> [(c.t, float(c.array)) for c in mg.contributions(h, cell.w)]
    [(3, 1.0), (2, 0.5), (1, 0.25), (0, 0.125)]
    """
    seed = seed_of(output, gradient)
    seed = seed.data if isinstance(seed, Tensor) else seed
    place = origin(parameter.source)
    if place is None:
        raise GradientError(
            "contributions: to a tensor that needs no gradient",
            "expected a parameter, or another tensor with requires_grad=True",
            "create it with requires_grad=True",
        )
    _unfold_in_place(output)
    order, _ = nodes_behind([origin(output.source)], {node_of(place)}, True)  # type: ignore
    shared = _shared(place, parameter, order)
    terms = _terms(output, seed, shared, order)
    if shared is not place:  # on, through the calls that lead from the parameter to what is shared
        end = Tensor.at(shared.out, shared)  # type: ignore[union-attr]
        back = [(node, pull_back([end], [c], {node_of(place)}).get(place)) for node, c in terms]
        terms = [(node, own(c)) for node, c in back if c is not None]
    return [
        Contribution(node.op.name, getattr(node, "where", None), c)  # type: ignore[union-attr]
        for node, c in terms
    ]


def _unfold_in_place(output: Tensor) -> None:
    """Unfolds the fused nodes behind a tensor; one that knows where it was made tells its steps."""
    stack, seen = [node_of(output.source)], set()
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.op is not None and node.op.reference is not None and node.sources is not None:
            with _at_work(node):
                outs = expand(node)
            stack.extend(node_of(t.source) for t in outs if t.source is not None)
        stack.extend(node_of(s) for s in node.sources or () if s is not None)


@contextmanager
def _at_work(node: Node) -> Iterator[None]:
    """The ops that a fused node stands for are told of as in its place: provenance alone."""
    before = observer()
    if getattr(node, "where", None) is not None:
        watch = observers[threading.get_ident()] = Observer(False, False)
        watch.place = place_of(node)
    try:
        yield
    finally:
        observers.pop(threading.get_ident(), None)
        if before is not None:
            observers[threading.get_ident()] = before


def _uses(place: Place, order: list[Node]) -> list[tuple[Node, int]]:
    """The calls, and their arguments, that use a place: in the order of the backward pass."""
    return [
        (node, i)
        for node in reversed(order)
        for i, source in enumerate(node.sources)
        if source is not None and origin(source) == place
    ]


def _shared(place: Place, parameter: Tensor, order: list[Node]) -> Place:
    """The parameter, or what one call before the first step makes of it for several others."""
    at = place
    while len(uses := _uses(at, order)) == 1:
        ((node, _),) = uses
        known = getattr(node, "where", None)
        leaves = all(s is not None and node_of(s).op is None for s in node.sources)
        if node.op.multi or node.out.shape != parameter.shape or not leaves:  # type: ignore
            return place
        if known is not None and known.t is not None:
            return place
        at = node
    return at if uses else place


def _terms(output: Tensor, seed, place: Place, order: list[Node]) -> list[tuple[Node, np.ndarray]]:
    """Each use of a place, and its term of the gradient: the pass of a graph with a copy a use."""
    copies: dict[Node, Node] = {}
    before: dict[Node, Any] = {}
    try:
        for node, i in _uses(place, order):
            copy = Leaf()
            copy.rank = node_of(place).rank
            copy.written = getattr(node_of(place), "written", -1)
            copies[copy] = node
            before.setdefault(node, node.sources)
            node.sources = [*node.sources[:i], copy, *node.sources[i + 1 :]]
        found = pull_back([output], [seed], set(copies)) if copies else {}
    finally:
        for node, sources in before.items():
            node.sources = sources
    return [(node, own(found[copy])) for copy, node in copies.items() if copy in found]
