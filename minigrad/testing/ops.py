"""All laws on one op: `check_op`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..arguments import FLOATS
from ..errors import UsageError
from ..graph import Op
from . import engine_laws  # noqa: F401 (enters its laws)
from .check import Check, collectable
from .example import VALUES, Array
from .op_laws import OP_LAWS, OpInfo
from .strategies import Call, Structure, broadcastable, dressed
from .subject import Pair, Traced, subject_of

LAWS = {id: OP_LAWS[id] for id in sorted(OP_LAWS, key=lambda id: int(id[1:]))}


def check_op(
    f: Any,
    *,
    inputs: Any = None,
    domain: tuple[float, float] | None = None,
    reference: Callable | None = None,
    name: str | None = None,
    names: Sequence[str] | None = None,
    rowwise: int | Sequence[int | None] | None = None,
    dtypes: Sequence[str] = ("float64", "float32"),
    owns: bool = False,
    values: Sequence[str] = VALUES,
    sharing: bool = True,
    laws: Sequence[str] | None = None,
    skip: dict[str, str] | None = None,
    examples: int | None = None,
    seed: int | None = None,
    origin: str | None = None,
) -> Callable:
    """A test function: the laws P1 to P18 of an op, one test a law when pytest collects it.

    <U, vjp(V)> = <V, J U> for any direction U and cotangent V is the chief of them (P7).

    f: a minigrad function or `Op`, or a pair `(forward, vjp)` of plain functions of arrays,
    `forward(*arrays, **params) -> out` and `vjp(g, out, *arrays, **params) -> tuple of gradients`
    (`g` and `out` are tuples where there are several outputs), or an `OpInfo`.

    inputs: what f is called with: a structure (`mgst.broadcastable(2)`, `mgst.arrays((3, 4))`,
    `mgst.calls(...)`), a tuple of arrays and shapes, or a Hypothesis strategy of tuples of arrays.
    None: arrays that broadcast, as many as f takes.
    domain: numbers strictly between these two; where f is defined and has a gradient.
    reference: the same function in NumPy, `reference(*arrays, **params)`. names: of the arguments.
    rowwise: the axis of rows that f computes independently, or one an argument (see `OpInfo`).
    dtypes: in which f can compute. owns: whether f keeps copies of index arrays (see `OpInfo`).
    values: the kinds of numbers that are drawn. sharing: whether one array may be drawn for two
    arguments. laws: ids; None takes all. skip: from ids to the reason why a law does not hold by
    design. examples: for a law that deserves all of them, 100 by default. seed: None takes what
    Hypothesis's profile says. origin: lines of Python that make f anew under the name `f`, for the
    snippet of a report, where that cannot be found out.

    The test raises `GradcheckError` at a law that does not hold. Raises `UsageError` for an
    unknown law, a skip without a reason, inputs that cannot be drawn or that f does not take.

    >>> from minigrad.testing import check_op, strategies as mgst
    >>> test_square = check_op(mg.square, inputs=mgst.broadcastable(1), examples=5, seed=0)
    >>> test_square()
    >>> wrong = (lambda x: x * x, lambda g, out, x: (g * x,))
    >>> test_wrong = check_op(wrong, name="square", names=["x"], laws=["P7"], seed=0)
    >>> test_wrong()  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    minigrad.testing.check.GradcheckError: square: the gradient of x: P7 ...
    """
    info = f if isinstance(f, OpInfo) else OpInfo(subject_of(f, name, origin))
    changes: dict[str, Any] = {"reference": reference, "rowwise": rowwise, "owns": owns or None}
    changes["names"] = None if names is None else tuple(names)
    changes["dtypes"] = _dtypes(info.name, dtypes) if dtypes != ("float64", "float32") else None
    info = replace(info, **{k: v for k, v in changes.items() if v is not None})
    if not info.names:
        info = replace(info, names=_names(f))
    calls = _structure(f, info, inputs, domain)
    structure = dressed(calls, domain, _values(info.name, values), sharing)
    check = Check(info, LAWS, structure, skip=skip, laws=laws, examples=examples, seed=seed)
    return collectable(check)


def _values(what: str, values: Sequence[str]) -> tuple[str, ...]:
    for v in values:
        if v not in VALUES:
            raise UsageError(
                f"{what}: values", f"expected some of {', '.join(VALUES)}, got {v!r}",
                "leave values out to draw all of them",
            )  # fmt: skip
    return tuple(values)


def _dtypes(what: str, dtypes: Sequence[str]) -> tuple[str, ...]:
    given = tuple([np.dtype(d).name for d in dtypes])
    if "float64" not in given or not set(given) <= {"float64", "float32"}:
        raise UsageError(
            f"{what}: dtypes", f"expected float64, with or without float32, got {tuple(dtypes)}",
            "derivatives are compared in float64; float32 is compared with it",
        )  # fmt: skip
    return given


def _parameters(f: Any) -> list[inspect.Parameter] | None:
    """The arguments that f takes by position; None if it does not say."""
    if isinstance(f, OpInfo):
        f = f.subject
    if isinstance(f, Traced):
        f = f.function
    elif isinstance(f, Pair):
        f = f.primal
    if isinstance(f, tuple):
        f = f[0]
    if isinstance(f, Op):
        if f.vjps is None:
            return None
        found = _signature(f.forward)
        return None if found is None else found[: len(f.vjps)]
    return _signature(f)


def _signature(f: Any) -> list[inspect.Parameter] | None:
    try:
        found = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in found):
        return None
    return [
        p for p in found
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty
    ]  # fmt: skip


def _names(f: Any) -> tuple[str, ...]:
    found = _parameters(f)
    return tuple([p.name for p in found]) if found else ()


def _structure(f: Any, info: OpInfo, inputs: Any, domain) -> Structure:
    """The structure of calls that `inputs` means."""
    if inputs is None:
        if isinstance(f, Op) and f.vjps is not None:
            count = len(f.vjps)
        else:
            found = _parameters(f)
            count = len(found) if found else 0
        if not count:
            raise _no_inputs(info, "it does not say how many arrays it takes")
        guess = broadcastable(count)
        for k in range(3):
            example = dressed(guess, domain, ("generic",)).sample(0, k)
            with np.errstate(all="ignore"):
                try:
                    info.subject.forward(example.arrays(), {})
                except Exception as error:
                    raise _no_inputs(info, f"{type(error).__name__}: {error}") from error
        return guess
    if isinstance(inputs, Structure):
        return inputs
    if isinstance(inputs, tuple | list):
        call = Call(tuple([_argument(info, x) for x in inputs]))
        return Structure(lambda c: call)
    if hasattr(inputs, "map") and hasattr(inputs, "example"):
        return _of_strategy(info, inputs)
    raise _no_inputs(info, f"inputs is a {type(inputs).__name__}")


def _no_inputs(info: OpInfo, why: str) -> UsageError:
    return UsageError(
        f"{info.name}: inputs",
        f"expected to know with what to call it; {why}"[:300],
        "pass inputs=mgst.broadcastable(n), mgst.arrays((3, 4), ...) or a tuple of arrays",
    )


def _argument(info: OpInfo, x: Any) -> Any:
    """What one part of a tuple of inputs means: a shape, an array of floats, or a constant."""
    if isinstance(x, Array):
        return x
    if isinstance(x, tuple) and all(isinstance(s, int | np.integer) for s in x):
        return Array(tuple([int(s) for s in x]))
    if isinstance(x, float):
        x = np.asarray(x)
    if isinstance(x, np.ndarray) and x.dtype in FLOATS:
        return Array(x.shape, x.dtype.name, data=np.array(x))
    data = getattr(x, "data", None)
    if isinstance(data, np.ndarray):
        return _argument(info, data)
    return x


def _of_strategy(info: OpInfo, strategy) -> Structure:
    """Calls that a Hypothesis strategy draws."""

    def build(c):
        draw = getattr(c, "draw", None)
        if draw is None:
            raise UsageError(
                f"{info.name}: inputs", "expected a structure, got a strategy of Hypothesis",
                "install Hypothesis, which alone can draw from it, or use mgst",
            )  # fmt: skip
        drawn = draw(strategy)
        drawn = drawn if isinstance(drawn, tuple | list) else (drawn,)
        return Call(tuple([x if isinstance(x, tuple) else _argument(info, x) for x in drawn]))

    return Structure(build, foreign=True)
