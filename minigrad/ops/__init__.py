"""The ops: calculus and nothing else.

The grammar of a rule, `rule(g, out, *args, **params)`:

- In scope are `g` (the cotangent of the output), `out` (the output), the arguments, and the
  keyword parameters. One rule for each differentiable argument.
- It uses operators and ops only: no `np.`, no `.data`. An ordinary pass feeds it arrays, a
  recorded pass (`create_graph=True`) feeds it tensors, and the same text builds the next
  derivative.
- It does not undo broadcasting: the pass does so, once, for all.
- It writes into nothing that it was given.
- `None` in place of a rule means not differentiable, which is not a zero gradient.
- It may return a `Deferred` contribution in place of an array: the operands of a product whose
  sum over many calls is formed at once (`ops/linear.py`).
"""

from .elementwise import (
    absolute,
    add,
    astype,
    divide,
    exp,
    log,
    maximum,
    minimum,
    multiply,
    negative,
    power,
    relu,
    sigmoid,
    softplus,
    sqrt,
    subtract,
    tanh,
    where,
)
from .linear import affine, matmul
from .reduce import broadcast_to, log_softmax, logsumexp, max, mean, min, softmax, sum
from .shape import (
    concatenate,
    expand_dims,
    flip_rows,
    getitem,
    moveaxis,
    reshape,
    split,
    squeeze,
    stack,
    swapaxes,
    transpose,
    unstack,
)

__all__ = [
    "absolute",
    "add",
    "affine",
    "astype",
    "broadcast_to",
    "concatenate",
    "divide",
    "exp",
    "expand_dims",
    "flip_rows",
    "getitem",
    "log",
    "log_softmax",
    "logsumexp",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "moveaxis",
    "multiply",
    "negative",
    "power",
    "relu",
    "reshape",
    "sigmoid",
    "softmax",
    "softplus",
    "split",
    "sqrt",
    "squeeze",
    "stack",
    "subtract",
    "sum",
    "swapaxes",
    "tanh",
    "transpose",
    "unstack",
    "where",
]
