"""What a backward pass checks: graphs that are gone, arrays written to, where it starts from."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arguments import numbers
from .errors import GradientError, GraphFreedError, ShapeError
from .graph import Leaf, Node, Tensor, described, registry


def freed(node: Node) -> GraphFreedError:
    return GraphFreedError(
        f"backward: through {described(node)}, whose graph is gone",
        "expected a graph that no earlier backward pass has used up",
        "run the forward pass again, or pass retain_graph=True to the first backward; "
        "for a state carried on from an earlier piece of a sequence: mg.detach_state(state)",
    )


def check_written(leaves: list, oldest_first: list[Node]) -> None:
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


def seed_of(output: Tensor, gradient) -> Any:
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


def of_shape(contribution: Any, value: Any, node: Node, i: int) -> Any:
    """What a rule made for argument i, summed over the axes in which the argument was repeated."""
    shape = getattr(contribution, "shape", None)
    if shape == value.shape:
        return contribution
    try:
        fits = shape is not None and np.broadcast_shapes(shape, value.shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise GradientError(
            f"backward: the rule of {described(node)} for argument {i}",
            f"expected an array of shape {value.shape}, or of a shape that it broadcasts to, got "
            + (type(contribution).__name__ if shape is None else f"shape {shape}"),
            "a rule returns the cotangent of its argument; see the grammar in minigrad/ops",
        )
    return registry["sum_to"](contribution, shape=value.shape)
