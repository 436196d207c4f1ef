"""The graph behind a tensor as text: a line for each call, in at most 80 columns.

Oldest first, as a person would have written the computation down. Steps of a recurrence that are
the same calls again are shown once. The walk is a loop over a stack, and only lines that are
shown are made, so a graph of 100,000 calls is listed in seconds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import UsageError
from .expand import node_of, origin
from .graph import Leaf, Node, Tensor

WIDTH = 80
_COLUMN = 22  # characters of a column at most; the call gets what is left

_LONGEST_STEP = 2000  # calls in one step, of those that repeat
_TRIES = 32  # lengths of a step tried at one call


def graph(tensor: Tensor, names=None, fold: bool = True, limit: int | None = 100) -> str:
    """The graph behind a tensor as text of 80 columns: `print(loss.graph())`.

    First the leaves, each with the norm of its gradient, or a dash if there is none yet. Then a
    line for each call, the oldest first: the op and its arguments, dtype and shape of what came
    out, and where it was made if `mg.debug()` was on (line and layer). An argument that needs no
    gradient is shown as a number, or as the shape of an array in brackets; `%4.1` is output 1 of
    call 4.

    names: a Module, whose parameters are then shown by their names, or a dict from name to
    tensor. fold: steps of a recurrence that repeat are shown once; `%3(7)` is call 3 in step 7.
    limit: how many lines of leaves and of calls at most, None for all; the others are counted.
    Raises `UsageError` for names or a limit of another kind.

    >>> x = mg.tensor([1.0, 2.0], requires_grad=True)
    >>> y = x
    >>> for _ in range(50):
    ...     y = mg.tanh(y * 0.5 + x)
    >>> print(y.sum().graph(names={"x": x}))
    graph of %4: 151 calls, 1 leaf
    x  leaf                                                          float64 (2,)  -
    %1(0)  multiply(x, 0.5)                                           float64 (2,)
    %2(0)  add(%1(0), x)                                              float64 (2,)
    %3(0)  tanh(%2(0))                                                float64 (2,)
    %1(1)  multiply(%3(0), 0.5)                                       float64 (2,)
    %2(1)  add(%1(1), x)                                              float64 (2,)
    %3(1)  tanh(%2(1))                                                float64 (2,)
           ... these 3 calls repeated for steps 2..49 ...
    %4     sum(%3(49))                                                float64 ()
    """
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise UsageError(
            "graph: limit",
            f"expected a number of lines from 1, or None, got {limit!r}",
            "None shows all",
        )
    pairs = _pairs(names)
    place = origin(tensor.source)
    if place is None:
        return f"no graph: a constant, {_form(tensor.data)}"
    nodes = _behind(node_of(place))
    leaves, calls = [n for n in nodes if n.op is None], [n for n in nodes if n.op is not None]
    folds = _folds(calls) if fold else []
    known = _named(leaves, pairs) | _numbered(calls, folds)
    used = [p for n in calls for p in zip(_sources(n), n.values, strict=False)]
    arrays = {node_of(source): value for source, value in used if source is not None}
    arrays[node_of(place)] = tensor.data

    def row(line: Node | str) -> tuple[str, str, str, str] | str:
        if isinstance(line, str):
            return line
        if isinstance(line, Leaf):
            return known[line], "leaf", _form(arrays[line]), _gradient(line)
        return known[line], _call(line, known), _forms(line, arrays), _where(line)

    title = f"graph of {_place(place, known)}: {_counted(len(calls), 'call', 'calls')}, "
    lines = [_short(title + _counted(len(leaves), "leaf", "leaves"), WIDTH)]
    lines += _table([row(line) for line in _limited(leaves, limit, "leaves")])
    lines += _table([row(line) for line in _limited(_lines(calls, folds), limit, "lines")])
    return "\n".join(lines)


# --- the nodes -----------------------------------------------------------------------------------


def _sources(node: Node) -> list:
    """Where the arguments came from: for each a place in the graph as it is now, or None."""
    return [origin(s) for s in node.sources or ()]


def _behind(end: Node) -> list[Node]:
    """The nodes that a node depends on, itself among them, oldest first."""
    stack, seen = [end], {end}
    while stack:
        for source in _sources(stack.pop()):
            if source is not None and (n := node_of(source)) not in seen:
                seen.add(n)
                stack.append(n)
    return sorted(seen, key=lambda n: n.rank)


# --- folding over time ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Fold:
    """`length` calls from `start`, `times` times; the first `shown` times are worth a look."""

    start: int
    length: int
    times: int
    shown: int

    @property
    def stop(self) -> int:
        return self.start + self.length * self.times


def _folds(calls: list[Node]) -> list[_Fold]:
    """What repeats, oldest first: at each call the fold that reaches furthest."""
    ids: dict[Any, int] = {}
    kind = [ids.setdefault(_likeness(n), len(ids)) for n in calls]
    links = _links(calls)
    following, latest = [0] * len(calls), dict[int, int]()  # the next call of the same kind
    for i in reversed(range(len(calls))):
        following[i] = latest.get(kind[i], 0)
        latest[kind[i]] = i
    found, i = [], 0
    while i < len(calls):
        best = None
        for n in _lengths(calls, following, i):
            if best is not None and i + n < best.stop:
                continue  # the same steps, several at a time
            fold = _repeated(kind, links, i, n)
            if fold is not None and (best is None or fold.stop > best.stop):
                best = fold
        if best is not None:
            found.append(best)
        i = i + 1 if best is None else best.stop
    return found


def _likeness(node: Node) -> tuple:
    """What two calls have in common that may be one call of two steps."""
    where = getattr(node, "where", None)
    place = (where.layer, where.direction, where.line, where.t is None) if where else ()
    forms = tuple([(o.shape, o.dtype) for o in node.outs])
    return node.op.name, forms, len(node.values), tuple(node.params), place  # type: ignore[union-attr]


def _step(node: Node) -> tuple | None:
    """Layer, direction and time step of a node that knows them."""
    where = getattr(node, "where", None)
    return None if where is None or where.t is None else (where.layer, where.direction, where.t)


def _lengths(calls: list[Node], following: list[int], i: int) -> Iterator[int]:
    """How many calls a step that begins at call i may have: what the steps say, or trials."""
    step = _step(calls[i])
    if step is not None:
        if i == 0 or _step(calls[i - 1]) != step:
            n = 1
            while i + n < len(calls) and _step(calls[i + n]) == step:
                n += 1
            yield n
        return
    j = following[i]
    for _ in range(_TRIES):
        if not 0 < j - i <= _LONGEST_STEP:
            return
        yield j - i
        j = following[j]


def _links(calls: list[Node]) -> list[list[tuple[Any, int]]]:
    """For each call its arguments: the number of a call, a leaf or a constant; and which output."""
    at: dict[Node, Any] = {node: i for i, node in enumerate(calls)}

    def link(value, source) -> tuple[Any, int]:
        if source is None:
            return _constant(value), 0
        node, index = source if type(source) is tuple else (source, 0)
        return at.get(node, node), index

    return [[link(*p) for p in zip(n.values, _sources(n), strict=False)] for n in calls]


def _repeated(kind: list[int], links: list, start: int, length: int) -> _Fold | None:
    """The fold of this length at this start, None if nothing would be left out.

    The first step may take its arguments from elsewhere than the others, as one does that begins
    with an initial state; it is then shown besides the second.
    """
    second, third = start + length, start + 2 * length
    if third >= len(kind) or not _same(links[second], links[third], length):  # most end here
        return None
    like, times, shown = kind[start:second], 1, 1
    while kind[(i := start + times * length) : i + length] == like:
        if not all(_same(links[k - length], links[k], length) for k in range(i, i + length)):
            if times > 1:
                break
            shown = 2
        times += 1
    return _Fold(start, length, times, shown) if times > shown + 1 else None


def _same(one: list, two: list, length: int) -> bool:
    """Whether a call takes what the call `length` before it took, or the same a step further on.

    Of one call that serves all steps, as the one that cuts a sequence into its steps, any output.
    """
    for (p, i), (q, j) in zip(one, two, strict=False):
        if p != q and not (type(p) is int and type(q) is int and q - p == length and i == j):
            return False
    return True


# --- names ---------------------------------------------------------------------------------------


def _pairs(names) -> list[tuple[Any, Any]]:
    if names is None:
        return []
    if hasattr(names, "named_parameters"):
        return list(names.named_parameters())
    if isinstance(names, Mapping):
        return list(names.items())
    raise UsageError(
        "graph: names",
        f"expected a Module or a dict from name to tensor, got {type(names).__name__}",
        "pass the model, or for example dict(x=x)",
    )


def _named(leaves: list[Node], pairs: list) -> dict[Node, str]:
    """The names of leaves: those given, else x1, x2, ..."""
    given = {t.node: str(name) for name, t in reversed(pairs) if isinstance(t, Tensor)}
    taken, number, known = set(given.values()), 0, {}
    for leaf in leaves:
        name = given.get(leaf)
        while name is None or (leaf not in given and name in taken):
            number += 1
            name = f"x{number}"
        known[leaf] = name
    return known


def _numbered(calls: list[Node], folds: list[_Fold]) -> dict[Node, str]:
    """The names of calls: %1, %2, ...; in a fold %number(step), numbered by the first step."""
    known, number, i = {}, 1, 0
    for fold in [*folds, _Fold(len(calls), 0, 0, 0)]:
        for node in calls[i : fold.start]:
            known[node] = f"%{number}"
            number += 1
        for k in range(fold.start, fold.stop):
            n, call = divmod(k - fold.start, fold.length)
            step = _step(calls[k])
            known[calls[k]] = f"%{number + call}({n if step is None else step[2]})"
        number += fold.length
        i = fold.stop
    return known


def _place(place: Any, known: Mapping[Node, str]) -> str:
    name = known[node_of(place)]
    return f"{name}.{place[1]}" if type(place) is tuple else name


# --- lines ---------------------------------------------------------------------------------------


def _lines(calls: list[Node], folds: list[_Fold]) -> list[Node | str]:
    """The calls that are shown, and a text where steps are left out."""
    lines: list[Node | str] = []
    i = 0
    for fold in folds:
        first = fold.start + fold.shown * fold.length
        lines += calls[i:first]
        step, last = _step(calls[first]), _step(calls[fold.stop - 1])
        which = (
            f"steps {fold.shown}..{fold.times - 1}"
            if step is None or last is None
            else f"t = {step[2]}..{last[2]}"
        )
        what = "this call" if fold.length == 1 else f"these {fold.length} calls"
        lines.append(f"... {what} repeated for {which} ...")
        i = fold.stop
    return lines + calls[i:]


def _limited(lines: list, limit: int | None, what: str) -> list:
    """The first and the last lines, and between them how many are missing."""
    if limit is None or len(lines) <= limit:
        return lines
    first, last = (limit + 1) // 2, limit // 2
    left = f"... {len(lines) - first - last:,} {what} left out (limit={limit}) ..."
    return [*lines[:first], left, *lines[len(lines) - last :]]


def _counted(n: int, one: str, more: str) -> str:
    return f"{n:,} {one if n == 1 else more}"


def _form(array: np.ndarray) -> str:
    return f"{array.dtype} {array.shape}"


def _forms(node: Node, arrays: Mapping[Node, np.ndarray]) -> str:
    outs = node.outs or ((arrays[node],) if node in arrays else ())
    forms = [_form(o) for o in outs]
    if len(forms) == 1 or len(set(forms)) > 1:
        return ", ".join(forms)
    return f"{len(forms)} x {forms[0]}" if forms else ""


def _gradient(leaf: Leaf) -> str:
    if leaf.grad is None:
        return "-"
    return f"|grad| {np.linalg.norm(leaf.grad.data.ravel().astype(np.float64)):.3g}"


def _where(node: Node) -> str:
    where = getattr(node, "where", None)
    if where is None or where.file is None:
        return ""
    line = f"{os.path.basename(where.file)}:{where.line}"
    return line if where.layer is None else f"{line} l{where.layer}"


def _constant(value: Any) -> Any:
    """An argument or parameter that is no place in the graph, as it is shown."""
    if isinstance(value, Tensor):
        value = value.data
    if isinstance(value, np.ndarray):
        return f"[{', '.join(map(str, value.shape))}]"
    if isinstance(value, int | float | str | bool | tuple | type(None)):
        return repr(value)
    return type(value).__name__


def _call(node: Node, known: Mapping[Node, str]) -> str:
    name = node.op.name  # type: ignore[union-attr]
    if node.sources is None:
        return f"{name}: used up by a backward pass"
    args = [
        _constant(v) if s is None else _place(s, known)
        for v, s in zip(node.values, _sources(node), strict=True)
    ]
    if len(args) > 4:
        args[2:-1] = ["..."]
    args += [
        f"{k}={_constant(v)}" for k, v in node.params.items() if v is not None and v is not False
    ]
    return f"{name}({', '.join(args)})"


def _table(rows: list) -> list[str]:
    """Lines with aligned columns (name, call, form, note), and texts that run across them."""
    cells = [row for row in rows if not isinstance(row, str)]
    name, form, note = (
        min(_COLUMN, max((len(row[i]) for row in cells), default=0)) for i in (0, 2, 3)
    )
    widths = name, WIDTH - name - form - note - 6, form, note
    lines = []
    for row in rows:
        if isinstance(row, str):
            lines.append(_short(" " * (name + 2) + row, WIDTH))
        else:
            texts = [_short(text, w).ljust(w) for text, w in zip(row, widths, strict=True)]
            lines.append("  ".join(texts).rstrip())
    return lines


def _short(text: str, width: int) -> str:
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= width else text[: width - 3] + "..."
