"""A failure told in Python: text that shows it again in a fresh process, and what runs there."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import fields, replace
from types import FunctionType
from typing import Any

import numpy as np

from ..errors import UsageError
from .example import Array, Example, Sequences
from .laws import Law
from .run import Result, attempt
from .subject import name_of, named, origin_of, subject_of

WIDTH = 100
_MISSING = "f = ...  # put the function here: it was made where no name leads to it"


# --- running one law on one example --------------------------------------------------------------


def replay(f, law: str, example, **facts) -> Result:
    """One law on one example: prints the report and raises `GradcheckError` if it does not hold.

    f: what `check_op` or `check_cell` takes (a function, an op, a pair, a cell), or an `OpInfo` or
    a `CellInfo`. law: its id. example: an `Example` or a `Sequences`. facts: what else an `OpInfo`
    or a `CellInfo` is to know, by keyword; of a pair that is a recurrence also `shapes`.
    Returns the `Result`. Raises `UsageError` for a law that there is not.

    >>> import minigrad as mg
    >>> from minigrad.testing.example import Array, Example
    >>> replay(mg.tanh, "P3", Example((Array((2,), data=[0.5, -1.0]),))).verdict
    tanh: P3 holds on this example (nothing that was passed in is written to)
    'pass'
    """
    from .check import GradcheckError, InconclusiveError
    from .laws import Broken, Inconclusive, NotApplicable, Trial
    from .op_laws import OpInfo
    from .report import Report

    if hasattr(f, "argument"):
        info = f
    elif isinstance(example, Sequences):
        info = _cell_info(f, **facts)
    else:
        info = OpInfo(subject_of(f, facts.pop("name", None)), **facts)
    found = _law(law, example)
    trial, result = Trial(law), Result(found, "pass", examples=1, example=example)
    try:
        attempt(found, info, example, trial)
    except Broken as broken:
        result = replace(result, verdict="fail", finding=broken.finding)
    except Inconclusive as why:
        result = replace(result, verdict="inconclusive", reason=str(why), inconclusive=1)
    except NotApplicable as why:
        result = replace(result, verdict="skip", reason=str(why), not_applicable=1)
    result = replace(
        result, margin=trial.margin, method=trial.method, evaluations=trial.evaluations,
        resolution=trial.resolution if math.isfinite(trial.resolution) else 0.0,
    )  # fmt: skip
    if result.verdict == "fail":
        raise GradcheckError(Report(info, result, snippet=False))
    if result.verdict == "inconclusive":
        raise InconclusiveError(Report(info, result, snippet=False))
    says = "holds on" if result.verdict == "pass" else "says nothing about"
    print(f"{info.name}: {law} {says} this example ({result.reason or found.title})")
    return result


def _cell_info(f, shapes=None, name=None, **facts):
    from . import cell_laws as cells

    if shapes is None:
        made = cells.of_cell(f, name)
    else:
        forward, vjp = f
        made = cells.of_pair(forward, vjp, shapes, name)
    return cells.CellInfo(made, **facts)


def _law(id: str, example) -> Law:
    tables = list(_tables())
    if isinstance(example, Sequences):  # a law of cells may have the id of a law of ops
        tables.reverse()
    for table in tables:
        if id in table:
            return table[id]
    known = [id for table in _tables() for id in table]
    raise UsageError(
        f"replay: law {id}", f"expected one of {', '.join(known)}, got {id!r}", "give its id: 'P7'"
    )


def _tables() -> list[dict[str, Law]]:
    from . import cell_laws, ops  # they import what reports are made of

    return [ops.LAWS, cell_laws.LAWS]


# --- the snippet ---------------------------------------------------------------------------------


def snippet(info, law: Law | str, example, origin: str | None = None) -> str:
    """Python that shows the failure again in a fresh process, and exits with 1 if it is there.

    It needs minigrad and NumPy. Every number stands in it as it was, to the last bit. origin: lines
    that make the function as `f`, in place of those that the subject knows.

    >>> import minigrad as mg
    >>> from minigrad.testing.example import Array, Example
    >>> from minigrad.testing.op_laws import OpInfo
    >>> from minigrad.testing.subject import subject_of
    >>> print(snippet(OpInfo(subject_of(mg.tanh)), "P5", Example((Array((2,), data=[0.5, -1.0]),))))
    import numpy as np
    from minigrad.testing import Array, Example, replay
    <BLANKLINE>
    from minigrad.graph import registry
    f = registry['tanh']
    <BLANKLINE>
    example = Example(
        args=(
            Array((2,), data=[0.5, -1.0]),
        ),
    )
    replay(f, 'P5', example)
    """
    id = law if isinstance(law, str) else law.id
    made, f, facts = _setup(info, origin)
    text = code(example)
    names = [n for n in ("Array", "Example", "Sequences") if f"{n}(" in text]
    head = f"import numpy as np\nfrom minigrad.testing import {', '.join(names)}, replay"
    call = f"replay({', '.join([f, repr(id), 'example', *facts])})"
    lines = f"{head}\n\n{made.strip()}\n\nexample = {text}\n{call}".splitlines()
    return "\n".join([part for line in lines for part in _fitting(line)])


def _setup(info, origin: str | None) -> tuple[str, str, list[str]]:
    """Lines that make the function `f` (or the `info`), which of the two, and further facts."""
    own = getattr(info, "setup", None)
    if origin is None and callable(own):
        return own(), "info", []
    recurrence = getattr(info, "recurrence", None)
    subject = recurrence or getattr(info, "subject", None)
    made = origin or getattr(subject, "origin", None)
    if made is None:
        if found := named(lambda value: _leads_to(info, value), "info"):
            return found, "info", []
        made = _MISSING
    function = getattr(subject, "primal", getattr(subject, "function", None))
    own_name = function is not None and name_of(function)
    facts = [] if info.name == own_name else [f"name={info.name!r}"]
    if recurrence is not None and recurrence.cell is None:
        made, facts = f"{made}\n{_shapes(recurrence)}", ["shapes=shapes", *facts]
    for f in fields(info) if dataclasses.is_dataclass(info) else ():
        value = getattr(info, f.name)
        if f.name in ("subject", "recurrence") or not f.init or value is None:
            continue
        if value == f.default or (
            f.name == "gates" and recurrence is not None and not _said(value)
        ):
            continue
        if callable(value):
            if not (found := origin_of(value, f.name)):
                continue
            made, text = f"{made}\n{found}", f.name
        else:
            text = code(value)
        facts.append(f"{f.name}={text}")
    return made, "f", facts


def _said(gates: dict[str, str]) -> bool:
    """Whether somebody has said which gates there are; digits were found out."""
    return any(not g.isdigit() for g in gates.values())


def _shapes(recurrence) -> str:
    """Python for the shapes of a recurrence, each side as I and H make it."""
    base, more_i, more_h = (recurrence.at(*ih) for ih in ((2, 3), (3, 3), (2, 4)))

    def side(n: int, i: int, h: int) -> str:
        i, h = i - n, h - n
        terms = [f"{k} * {letter}" if k != 1 else letter for k, letter in ((h, "H"), (i, "I")) if k]
        rest = n - 3 * h - 2 * i
        return " + ".join([*terms, *([str(rest)] if rest or not terms else [])])

    def shape(a, b, c) -> str:
        sides = [side(*n) for n in zip(a, b, c, strict=True)]
        return f"({sides[0]},)" if len(sides) == 1 else f"({', '.join(sides)})"

    state = [shape(*s) for s in zip(base.state, more_i.state, more_h.state, strict=True)]
    lines = ["def shapes(I, H):", "    weights = {}"]
    lines += [
        f"    weights[{name!r}] = {shape(s, more_i.weights[name], more_h.weights[name])}"
        for name, s in base.weights.items()
    ]
    return "\n".join([*lines, f"    return [{', '.join(state)}], weights\n"])


def _leads_to(info, value) -> str | None:
    """How an info is reached from a value of a module: a check, or a test that pytest collects."""
    if type(value) is FunctionType:  # isinstance would ask the value for its class
        return ".check.info" if getattr(vars(value).get("check"), "info", None) is info else None
    if type(value).__name__ == "Check":
        return ".info" if value.info is info else None
    return "" if value is info else None


def _fitting(line: str) -> list[str]:
    """The line itself, or lines that do the same in at most `WIDTH` columns."""
    if len(line) <= WIDTH or line != line.lstrip():
        return [line]
    try:
        compile(line, "line", "exec")
    except SyntaxError:  # a part of a statement
        return [line]
    pieces = [line[i : i + 40] for i in range(0, len(line), 40)]
    return ["exec(", *[f"    {piece!r}" for piece in pieces], ")"]


# --- values as Python ----------------------------------------------------------------------------


def code(value: Any, indent: int = 0) -> str:
    """Python that makes the value again, to the last bit; `np` and the names of this package are in
    scope."""
    if isinstance(value, Array):
        return _array(value, indent)
    if isinstance(value, Example | Sequences):
        return _call(value, indent)
    if isinstance(value, np.ndarray):
        start = f"np.array({_numbers(value, indent + 4)}"
        kind = "" if value.dtype == np.float64 and value.size else f", {value.dtype.name!r}"
        shape = f".reshape({value.shape})" if 0 in value.shape else ""
        return f"{start}{kind}){shape}"
    if isinstance(value, np.generic):
        return f"np.{type(value).__name__}({_number(value.item())})"
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, tuple | list) and type(value) in (tuple, list):
        inside = ", ".join(code(v, indent) for v in value)
        if isinstance(value, list):
            return f"[{inside}]"
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    if type(value) is dict:
        return "{" + ", ".join(f"{k!r}: {code(v, indent)}" for k, v in value.items()) + "}"
    if isinstance(value, type) and issubclass(value, np.generic):
        return f"np.{value.__name__}"
    if isinstance(value, np.dtype):
        return f"np.dtype({value.name!r})"
    return repr(value)


def _array(a: Array, indent: int) -> str:
    parts = [repr(tuple(a.shape))]
    plain = Array()
    for name in ("dtype", "layout", "values"):
        if getattr(a, name) != getattr(plain, name) and not (name == "values" and _given(a)):
            parts.append(f"{name}={getattr(a, name)!r}")
    if a.domain != plain.domain:
        parts.append(f"domain={code(tuple(float(v) for v in a.domain))}")
    if _given(a):
        parts.append(f"data={_numbers(np.array(a.data, a.dtype).reshape(a.shape), indent + 4)}")
    return f"Array({', '.join(parts)})"


def _given(a: Array) -> bool:
    return a.data is not None


def _call(e: Example | Sequences, indent: int) -> str:
    """A call of the class, a line for each field that is not what it would be anyway."""
    pad = " " * (indent + 4)
    lines, sizes = [], []
    for f in fields(e):
        value = getattr(e, f.name)
        if f.name == "args":
            inside = [f"{pad}    {code(a, indent + 8)},\n" for a in value]
            lines.append(f"{pad}args=(\n{''.join(inside)}{pad}),")
        elif f.name == "data":
            if value:
                inside = [f"{pad}    {k!r}: {code(v, indent + 8)},\n" for k, v in value.items()]
                lines.append(f"{pad}data={{\n{''.join(inside)}{pad}}},")
        elif f.name == "params":
            if value:
                lines.append(f"{pad}params={code(value, indent + 4)},")
        elif f.name == "notes":
            continue
        elif f.name in ("T", "N", "I", "H"):
            sizes.append(f"{f.name}={value}")
        elif value != f.default:
            lines.append(f"{pad}{f.name}={code(value)},")
    if sizes:
        lines.insert(0, f"{pad}{', '.join(sizes)},")
    kind = "Sequences" if isinstance(e, Sequences) else "Example"
    return f"{kind}(\n" + "\n".join(lines) + "\n" + " " * indent + ")"


def _numbers(a: np.ndarray, indent: int) -> str:
    """Nested lists of the numbers, in lines of at most `WIDTH` columns."""
    flat = [_number(v, a.dtype) for v in a.reshape(-1).tolist()]

    def nested(shape: tuple[int, ...], at: int) -> str:
        if not shape:
            return flat[at]
        step = math.prod(shape[1:])
        return "[" + ", ".join(nested(shape[1:], at + i * step) for i in range(shape[0])) + "]"

    text = nested(a.shape, 0)
    if len(text) + indent + 40 <= WIDTH:
        return text
    lines, line = [], " " * indent
    for piece in text.split(" "):
        if len(line) + len(piece) + 1 > WIDTH - 8 and line.strip():
            lines.append(line.rstrip())
            line = " " * indent
        line += piece + " "
    return "\n".join(["", *lines, line.rstrip()]) + "\n" + " " * (indent - 4)


def _number(v, dtype=None) -> str:
    """The shortest text that gives the number back, exactly."""
    if isinstance(v, float) and not math.isfinite(v):
        return "np.nan" if math.isnan(v) else "np.inf" if v > 0 else "-np.inf"
    if dtype == np.float32:
        short = str(np.float32(v))
        return short if float(np.float32(float(short))) == v else repr(v)
    return repr(v)
