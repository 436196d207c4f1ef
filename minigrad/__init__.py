"""minigrad: one definition of a cell; read, unfolded, differentiated, run fused: the same bits."""

from . import nn, operators, optim, tree
from .backward import backward
from .bptt import contributions
from .debug import debug
from .errors import (
    AnomalyError,
    DtypeError,
    FileError,
    GradientError,
    GradientWarning,
    GraphFreedError,
    MinigradError,
    ShapeError,
    StateDictError,
    UsageError,
)
from .graph import Op, Tensor, is_grad_enabled, no_grad, set_grad_enabled, tensor
from .kernels import config as show_config
from .kernels import set_threads as set_num_threads
from .operators import from_dlpack
from .ops import *  # noqa: F403
from .ops import __all__ as _op_names
from .transforms import checkpoint, grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp
from .unfold import Output, detach_state, tbptt, unfold

__version__ = "0.1.0"

del operators

__all__ = [
    "AnomalyError",
    "DtypeError",
    "FileError",
    "GradientError",
    "GradientWarning",
    "GraphFreedError",
    "MinigradError",
    "Op",
    "Output",
    "ShapeError",
    "StateDictError",
    "Tensor",
    "UsageError",
    "backward",
    "checkpoint",
    "contributions",
    "debug",
    "detach_state",
    "from_dlpack",
    "grad",
    "hessian",
    "hvp",
    "is_grad_enabled",
    "jacobian",
    "jvp",
    "nn",
    "no_grad",
    "optim",
    "set_grad_enabled",
    "set_num_threads",
    "show_config",
    "tbptt",
    "tensor",
    "tree",
    "unfold",
    "value_and_grad",
    "vjp",
    *_op_names,
]
