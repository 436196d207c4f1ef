"""Hooks: functions that see the cotangent of a tensor in each backward pass, and may change it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .errors import GradientError, ShapeError, UsageError
from .expand import node_of, origin
from .graph import Node, Tensor, described, hooks


def register_hook(x: Tensor, hook: Callable) -> Callable[[], None]:
    """Calls `hook(g)` in each backward pass, once the cotangent of this tensor is complete.

    What `hook` returns, unless it is None, goes on in place of g. Returns a function that takes
    the hook away. A hook that refers to the tensor itself keeps the graph in memory until a
    backward pass has used it up, or the hook is taken away. Raises `GradientError` for a tensor
    that needs no gradient, `UsageError` for a hook that is no function. A hook may not write into
    g, which others may hold.
    """
    place: Any = origin(x.source)
    if place is None:
        raise GradientError(
            "register_hook: on a constant",
            "expected a tensor that needs a gradient",
            "set requires_grad=True first, and check for .detach() and no_grad()",
        )
    if not callable(hook):
        raise UsageError(
            "register_hook: the hook",
            f"expected a function of the cotangent, got {type(hook).__name__}",
            "pass a function that takes g and returns another, or None to leave it as it is",
        )
    index = place[1] if type(place) is tuple else 0
    found = hooks.setdefault(node_of(place), {}).setdefault(index, [])
    found.append(hook)
    return lambda: found.remove(hook) if hook in found else None


def run_hooks(node: Node, places: list, pending: dict, total: Callable) -> None:
    """Shows what has arrived at the places of a node, added up, to its hooks."""
    for place in places:
        index = place[1] if type(place) is tuple else 0
        for hook in hooks.get(node, {}).get(index, ()):
            if place not in pending:
                break
            g = total(pending[place])
            g = g if isinstance(g, Tensor) else Tensor(g)
            new: Any = hook(g)
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
