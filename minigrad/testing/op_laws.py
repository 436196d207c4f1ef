"""The laws of an op, P1 to P18."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .example import Example
from .laws import Law, Trial, law
from .subject import Subject

OP_LAWS: dict[str, Law] = {}


@dataclass
class OpInfo:
    """What is known about an op under test.

    subject: the op. reference: the same function in plain NumPy, or None. names: of the arguments.
    """

    subject: Subject
    reference: Any = None
    names: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.subject.name

    def argument(self, i: int) -> str:
        """What argument i is called."""
        return self.names[i] if i < len(self.names) else f"argument {i}"


@law(OP_LAWS, "P2", "a gradient has the shape and dtype of its input")
def P2(trial: Trial, info: OpInfo, example: Example):
    args = example.arrays()
    outs, pull = info.subject.linearise(args, example.params, example.wrt)
    for i, g in zip(example.wrt, pull(*example.cotangents(outs)), strict=True):
        if g is not None:
            name = info.argument(i)
            trial.like(g, args[i], f"the gradient of {name}", input=name)


@law(OP_LAWS, "P5", "the same call gives the same bits")
def P5(trial: Trial, info: OpInfo, example: Example):
    first, second = (
        info.subject.linearise(example.arrays(), example.params, example.wrt) for _ in range(2)
    )
    for a, b in zip(first[0], second[0], strict=True):
        trial.same(b, a, "the output of the second call")
    gs = example.cotangents(first[0])
    for i, a, b in zip(example.wrt, first[1](*gs), second[1](*gs), strict=True):
        name = info.argument(i)
        if a is not None:
            trial.same(b, a, f"the second gradient of {name}", input=name)
