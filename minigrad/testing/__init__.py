"""Gradients checked by property: for ops, for functions, for recurrent cells."""

from .ops import check_op
