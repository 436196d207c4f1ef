"""Gradients checked by property: for functions at a point, for ops, for recurrent cells.

gradcheck, gradgradcheck, check_grads     one function at one point
check_op, check_cell                      all laws on drawn examples, a test a law
numerical_jvp, numerical_jacobian         derivatives with an error bar, no rule needed
strategies                                what is drawn: `strategies as mgst`
from_torch, from_jax                      functions of other frameworks
"""

from . import strategies
from .adapters import from_jax, from_torch
from .cell_info import CellInfo
from .cell_laws import check_cell
from .check import Check, GradcheckError, InconclusiveError
from .example import Array, Example, Sequences
from .gradcheck import check_grads, gradcheck, gradgradcheck
from .op_laws import OpInfo
from .ops import check_op
from .oracle import Estimate, numerical_jacobian, numerical_jvp
from .recurrence import of_cell, of_pair
from .replay import replay
from .report import Report
from .subject import subject_of

__all__ = [
    "Array",
    "CellInfo",
    "Check",
    "Estimate",
    "Example",
    "GradcheckError",
    "InconclusiveError",
    "OpInfo",
    "Report",
    "Sequences",
    "check_cell",
    "check_grads",
    "check_op",
    "from_jax",
    "from_torch",
    "gradcheck",
    "gradgradcheck",
    "numerical_jacobian",
    "numerical_jvp",
    "of_cell",
    "of_pair",
    "replay",
    "strategies",
    "subject_of",
]
