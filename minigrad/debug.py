"""Looking inside: where each node was made, which op made a NaN, who writes where a graph reads.

`debug` puts an observer into `graph.observers` for its thread: ops tell it of every call, the
backward pass of every contribution. Without it nobody looks, and nothing here runs. `unfold` and
the layers tell the time step, the layer and the direction through `tells`, `tell` and `timed`.
"""

from __future__ import annotations

import functools
import math
import os
import sys
import threading
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from .backward import pull_back, total
from .errors import AnomalyError, GradientError
from .graph import Node, Op, Tensor, described, observers, set_grad_enabled

# --- provenance ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Where:
    """Where a node was made: what is not known is None.

    `t` counts from 0 and is the true time, also where time runs backwards (of rows of different
    lengths, that of the longest). `direction` is "forward" or "reverse", `cell` the name of a
    class, `file` and `line` the innermost place outside of minigrad, or in a built-in cell.

    >>> print(Where(t=17, layer=0, direction="reverse", file="/lib/cells.py", line=41))
    h(t=17), layer 0, reverse, cells.py:41
    """

    t: int | None = None
    layer: int | None = None
    direction: str | None = None
    cell: str | None = None
    file: str | None = None
    line: int | None = None

    def __str__(self):
        parts = []
        if self.t is not None:
            parts.append(f"h(t={self.t})")
        if self.layer is not None:
            parts.append(f"layer {self.layer}")
        if self.direction == "reverse":
            parts.append("reverse")
        if self.file is not None:
            parts.append(f"{os.path.basename(self.file)}:{self.line}")
        return ", ".join(parts)


_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_CELLS = _PACKAGE + "cells.py"  # the one file of the package that is read as a user's


def _line() -> tuple[str | None, int | None]:
    """File and line of the innermost frame outside of minigrad, or in a built-in cell."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file == _CELLS or not file.startswith((_PACKAGE, "<frozen ")):
            return file, frame.f_lineno
        frame = frame.f_back  # type: ignore[assignment]
    return None, None


# --- arrays that a graph needs -------------------------------------------------------------------


class _Lock:
    """An array that nodes hold: its flag before, how many nodes, the sum of its bytes."""

    __slots__ = ("array", "count", "sum", "writeable")

    def __init__(self, array: np.ndarray, writeable: bool):
        self.array, self.count, self.writeable = array, 0, writeable
        self.sum = zlib.crc32(array.tobytes())
        array.flags.writeable = False


class _Locks:
    """Locks arrays against writes for as long as a node that holds them needs them."""

    def __init__(self):
        self.locks: dict[int, _Lock] = {}  # by id; a lock keeps its array alive
        self.nodes: dict[weakref.ref[Node], list[int]] = {}
        self.waiting: list[weakref.ref[np.ndarray]] = []  # views of arrays that are locked still

    def hold(self, node: Node) -> None:
        keys = []
        for i, array in enumerate((*node.values, *node.outs)):
            if type(array) is np.ndarray:
                lock = self.locks.get(id(array))
                if lock is None:
                    writeable = array.flags.writeable
                    if i >= len(node.values) and 0 not in array.strides:
                        writeable |= self._base_was_writeable(array)  # without us it would be
                    lock = self.locks[id(array)] = _Lock(array, writeable)
                lock.count += 1
                keys.append(id(array))
        self.nodes[weakref.ref(node, self._let_go)] = keys

    def _base_was_writeable(self, array: np.ndarray) -> bool:
        base = array.base
        while isinstance(base, np.ndarray) and id(base) not in self.locks:
            base = base.base
        return isinstance(base, np.ndarray) and self.locks[id(base)].writeable

    def used_up(self, node: Node) -> None:
        self._let_go(weakref.ref(node))

    def _let_go(self, node: weakref.ref[Node]) -> None:
        for key in self.nodes.pop(node, ()):
            self.locks[key].count -= 1
            if not self.locks[key].count:
                self._open(self.locks.pop(key))

    def _open(self, lock: _Lock) -> None:
        if lock.writeable and not _made_writeable(lock.array):
            self.waiting.append(weakref.ref(lock.array))
        elif lock.writeable and self.waiting:
            self.waiting = [ref for ref in self.waiting if not _made_writeable(ref())]

    def open_all(self) -> None:
        self.nodes.clear()
        while self.locks:
            self._open(self.locks.popitem()[1])
        waiting = math.inf
        while len(self.waiting) < waiting:  # a view of a view waits for that one
            waiting = len(self.waiting)
            self.waiting = [ref for ref in self.waiting if not _made_writeable(ref())]

    def check(self, node: Node) -> None:
        """Raises if an array of the node was changed all the same: through a view or its base."""
        for i, array in enumerate((*node.values, *node.outs)):
            lock = self.locks.get(id(array))
            if lock is not None and zlib.crc32(array.tobytes()) != lock.sum:
                n = len(node.values)
                which = f"argument {i}" if i < n else f"output {i - n}"
                raise GradientError(
                    f"backward: through {described(node)}, {which}",
                    f"expected the array {array.dtype} {array.shape} of the forward pass, "
                    "got one that was written to since",
                    "write into a copy, or only after backward; look for writes through another "
                    "view of the same memory",
                )


def _made_writeable(array: np.ndarray | None) -> bool:
    """Makes an array writeable; False if it is a view of one that is not (True if it is gone)."""
    if array is not None:
        try:
            array.flags.writeable = True
        except ValueError:
            return False
    return True


# --- what made a NaN -----------------------------------------------------------------------------


def _finite(value: Any) -> bool:
    """Whether every number is finite, of an array, a number, a tensor or a tuple of them."""
    if isinstance(value, tuple | list):
        return all(map(_finite, value))
    if isinstance(value, Tensor):
        value = value.data
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return bool(np.isfinite(value).all())
    return True


def _count(array: np.ndarray) -> str:
    """How many elements are not finite: "2 NaN and 1 inf of 12"."""
    counts = {
        "NaN": int(np.isnan(array).sum()),
        "inf": int(np.isposinf(array).sum()),
        "-inf": int(np.isneginf(array).sum()),
    }
    found = " and ".join(f"{n} {name}" for name, n in counts.items() if n)
    return f"{found} of {array.size}" if found else "all finite"


def _range(value: Any) -> str:
    """The range of an argument: "float64 (2, 3) from -1 to 2.5"."""
    value = value.data if isinstance(value, Tensor) else value
    if not isinstance(value, np.ndarray):
        return repr(value)
    text = f"{value.dtype} {value.shape}"
    finite = value[np.isfinite(value)] if value.dtype.kind == "f" else value
    return f"{text} from {finite.min():.6g} to {finite.max():.6g}" if finite.size else text


_DIVISION = "divide by what is never 0: y + eps, or where(y == 0, 1, y) in place of y"
_LOG = "take logarithms of what is above 0 alone: log(x + eps), log1p, log_softmax, logsumexp"
_EXP = "keep the argument small: subtract its maximum, or use logsumexp, softmax, sigmoid, tanh"
_POWER = "raise what is above 0 alone, and clip what can grow"
_ROOT = "take roots of what is above 0 alone: sqrt(x + eps); the slope at 0 is infinite"
_ARC = "keep the argument inside of the domain: clip(x, -1 + eps, 1 - eps)"
_SIZE = (
    "where values outgrow the dtype, make weights, inputs or the learning rate smaller, or clip "
    "gradients (mg.nn.utils.clip_grad_norm_)"
)
_REMEDIES = {
    **dict.fromkeys(["divide", "reciprocal", "remainder", "floor_divide"], _DIVISION),
    **dict.fromkeys(["log", "log2", "log10", "log1p"], _LOG),
    **dict.fromkeys(["exp", "exp2", "expm1", "sinh", "cosh"], _EXP),
    **dict.fromkeys(["power"], _POWER),
    **dict.fromkeys(["sqrt"], _ROOT),
    **dict.fromkeys(["arcsin", "arccos", "arctanh", "arccosh"], _ARC),
}


def _anomaly(what: str, op: Op, made: np.ndarray, given: dict[str, Any]) -> AnomalyError:
    ranges = "; ".join(f"{name} {_range(value)}" for name, value in given.items())
    return AnomalyError(
        what,
        f"expected finite values, got {_count(made)}, from finite ones: {ranges or 'none'}",
        _REMEDIES.get(op.name, _SIZE)
        + "; if it is meant, mg.debug(nonfinite=False) around it lets it pass",
    )


# --- the observer --------------------------------------------------------------------------------


class Observer:
    """What `debug` looks on with: the ops and the backward pass call its methods.

    `visited` is the node whose rule is running: what the rule computes is told of as that node's.
    """

    def __init__(self, nonfinite: bool, lock: bool, locks: _Locks | None = None):
        self.nonfinite, self.lock = nonfinite, lock
        self.locks = _Locks() if locks is None else locks
        self.place: dict[str, Any] = {}  # t, layer, direction, cell
        self.visited: Node | None = None

    def where(self) -> Where:
        made_for = getattr(self.visited, "where", None)
        if made_for is not None:
            return made_for
        file, line = _line()
        return Where(**self.place, file=file, line=line)

    @contextmanager
    def at(self, place: dict[str, Any], visited: Node | None = None) -> Iterator[None]:
        """What happens within is told of as of this place, or of this node."""
        before = self.place, self.visited
        self.place, self.visited = place, visited
        try:
            yield
        finally:
            self.place, self.visited = before

    def called(self, op: Op, values: Sequence, params: dict, outs: tuple, node: Node | None):
        """An op was called; `node` is None where the call was not recorded."""
        if node is not None:
            node.where = self.where()
            if self.lock:
                self.locks.hold(node)
        if not self.nonfinite or self.visited is not None or _finite(outs) or not _finite(values):
            return
        if op.reference is not None:  # the ops that it stands for are seen one by one
            with set_grad_enabled(False):
                op.reference(*map(_constant, values), **params)
        i = next(i for i, out in enumerate(outs) if not _finite(out))
        where = node.where if node is not None else self.where()
        raise _anomaly(
            f"{op.name} ({where}): " + (f"output {i}" if op.multi else "its output"),
            op,
            outs[i],
            {f"argument {k}": v for k, v in enumerate(values)},
        )

    def visiting(self, node: Node):
        """The backward pass is about to call the node's rule, within the context returned."""
        self.locks.check(node)
        return self.at(self.place, node)

    def sent(self, node: Node, g: Any, i: int, contribution: Any) -> None:
        """The node's rule, given the cotangent g, made a contribution for argument i."""
        if not self.nonfinite:
            return
        op, outs = node.op, node.outs
        assert op is not None
        with set_grad_enabled(False):
            parts = contribution if isinstance(contribution, list) else [contribution]
            made = next((m for c in parts if not _finite(m := total(c))), None)
        if made is None or not _finite((g, *node.values, *outs)):
            return
        if op.reference is not None:
            self._visit_reference(node, g)
        made = made.data if isinstance(made, Tensor) else made
        given = {"cotangent": g} if not op.multi else {f"cotangent {k}": c for k, c in enumerate(g)}
        raise _anomaly(
            f"backward: the rule of {described(node)} for argument {i}",
            op,
            made,
            given | {f"argument {k}": v for k, v in enumerate(node.values)},
        )

    def _visit_reference(self, node: Node, g: Any) -> None:
        """Goes back through the ops that a fused op stands for, which are seen one by one."""
        assert node.op is not None and node.op.reference is not None
        points = [
            v if s is None else Tensor(v, requires_grad=True)
            for v, s in zip(node.values, node.sources, strict=True)
        ]
        with self.at(place_of(node)), set_grad_enabled(True):
            outs = node.op.reference(*points, **node.params)
            pairs = zip(outs, g, strict=True) if node.op.multi else [(outs, g)]
            ends, gs = zip(*[(o, _constant(c).data) for o, c in pairs], strict=True)
            pull_back(ends, gs)

    def used_up(self, node: Node) -> None:
        """The backward pass no longer needs the node."""
        self.locks.used_up(node)

    def timed(self, steps: Sequence, lengths: np.ndarray | None) -> Iterator[tuple[int, Any]]:
        place = self.place
        n = len(steps) if lengths is None else int(lengths.max(initial=0))
        for t, x in enumerate(steps):
            true = n - 1 - t if place["direction"] == "reverse" and t < n else t
            self.place = {**place, "t": true}
            yield t, x
        self.place = place


def _constant(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach()
    return Tensor.at(value, None) if isinstance(value, np.ndarray) else value


def place_of(node: Node) -> dict[str, Any]:
    """What the ops that a fused node stands for have in common with it."""
    where = getattr(node, "where", None)
    place = {name: getattr(where, name, None) for name in ("layer", "direction", "cell")}
    return {name: value for name, value in place.items() if value is not None}


# --- what time and layers tell -------------------------------------------------------------------


def observer() -> Observer | None:
    """This thread's observer, None outside of `mg.debug()`."""
    return observers.get(threading.get_ident()) if observers else None


F = TypeVar("F", bound=Callable)


def tells(function: F) -> F:
    """Marks a function that calls `tell`: what it told is forgotten when it ends, on errors too."""

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        looking = observer()
        if looking is None:
            return function(*args, **kwargs)
        with looking.at(looking.place, looking.visited):
            return function(*args, **kwargs)

    return wrapped  # type: ignore[return-value]


def tell(**what: Any) -> None:
    """Says, to `mg.debug()` alone, in which layer, cell or direction what follows takes place."""
    if (looking := observer()) is not None:
        looking.place = {**looking.place, **what}


def timed(steps: Sequence, lengths: np.ndarray | None) -> Iterable[tuple[int, Any]]:
    """`enumerate(steps)`; under `mg.debug()` each step of a cell also tells its true time."""
    looking = observer()
    if looking is None or "direction" not in looking.place:
        return enumerate(steps)
    return looking.timed(steps, lengths)


# --- debug ---------------------------------------------------------------------------------------


class debug:
    """Context manager: look at every call and every backward step of this thread, and speak up.

    Within the block

    - every recorded node learns where it was made: time step, layer, direction, cell, file and
      line of your code (of a cell of yours, the line in its `__call__`). Errors name it, and
      `Tensor.graph` shows it. So that each step is seen, `unfold` with fused="auto" goes node by
      node, with the same bits.
    - `nonfinite`: a NaN or an infinity raises `AnomalyError` at the op that made it, or at the
      node whose gradient rule made it: where all that came in was finite and something that came
      out is not. What holds one already is passed on without blame: padding, a mask of -inf,
      `where(mask, x, -np.inf)`. An infinity that you mean (the log of a mask with zeros) is
      computed on plain arrays, or within `debug(nonfinite=False)`.
    - `lock`: the arrays that a graph needs are read-only for as long as it needs them, so that
      NumPy itself raises ("assignment destination is read-only") at the line that would change
      one: write into a copy, or after backward. A change through another view of the same memory
      slips through there, and raises `GradientError` in the backward pass. A view that you take of
      a locked array stays read-only.

    Blocks nest; when the outermost ends, the flags of all arrays are as they were. Outside of a
    block all of it is off, and costs nothing.

    >>> w = mg.tensor([1.0, 0.0], requires_grad=True)
    >>> with mg.debug():
    ...     try:
    ...         y = mg.log(w)
    ...     except mg.AnomalyError as error:
    ...         print(error.expected_and_got)
    expected finite values, got 1 -inf of 2, from finite ones: argument 0 float64 (2,) from 0 to 1
    """

    def __init__(self, *, nonfinite: bool = True, lock: bool = True):
        self.nonfinite, self.lock = nonfinite, lock
        self._before: list[Observer | None] = []

    def __enter__(self):
        before = observer()
        locks = _Locks() if before is None else before.locks
        new = Observer(self.nonfinite, self.lock, locks)
        if before is not None:
            new.place, new.visited = before.place, before.visited
        self._before.append(before)
        observers[threading.get_ident()] = new
        return self

    def __exit__(self, *exc):
        before = self._before.pop()
        ended = observers.pop(threading.get_ident())
        if before is None:
            ended.locks.open_all()
        else:
            observers[threading.get_ident()] = before
