"""The laws of an op that need minigrad's engine: P10, P14, P17, P18.

They take the function as minigrad records it, and so say nothing about a pair of plain functions.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from .. import tree
from ..debug import Observer, observer
from ..graph import Tensor, is_grad_enabled, no_grad, observers, set_grad_enabled
from ..transforms import jvp
from .dots import Call, agree, dot_test, rounded
from .example import Example, signed
from .laws import Broken, Finding, NotApplicable, Trial, law
from .op_laws import OP_LAWS, OpInfo, replace_arrays
from .subject import is_float


def _engineless(info: OpInfo) -> str | None:
    return None if info.subject.traced else "a pair of plain functions has no engine behind it"


def _leaves(call: Call) -> list:
    """The arguments as tensors, those with a gradient as leaves."""
    return [
        Tensor(a, requires_grad=True)
        if i in call.wrt
        else (Tensor.at(a, None) if is_float(a) else a)
        for i, a in enumerate(call.example.arrays())
    ]


def _called(info: OpInfo, args: Sequence, params: dict) -> list[Tensor]:
    """The outputs that are tensors."""
    function = info.subject.function  # type: ignore[attr-defined]
    leaves, _ = tree.flatten(function(*args, **params), objects=False)
    return [x if isinstance(x, Tensor) else Tensor.at(np.asarray(x), None) for x in leaves]


def _loss(outs: Sequence[Tensor], gs: Sequence) -> Tensor:
    """<V, y>, of which the gradient is vjp(V)."""
    parts = [
        (o * g).sum() for o, g in zip(outs, gs, strict=True) if g is not None and o.requires_grad
    ]
    if not parts:
        raise NotApplicable("no output depends on an argument")
    loss = parts[0]
    for part in parts[1:]:
        loss = loss + part
    return loss


def _back(loss: Tensor) -> None:
    loss.backward(retain_graph=True)  # type: ignore[attr-defined]


@law(OP_LAWS, "P10", "gradients add up", _engineless, share=0.5)
def P10(trial: Trial, info: OpInfo, example: Example):
    """backward() adds to .grad what vjp gives, once for each call, and to what stood there before;
    a tensor that is used twice gets the sum of both; so does one behind an output used twice.

    Catches a gradient that is overwritten, counted twice, or kept where somebody else can see it.
    """
    call = Call(info, example)
    leaves = _leaves(call)
    points = [leaves[i] for i in call.wrt]
    outs = _called(info, leaves, call.params)
    loss = _loss(outs, call.gs)
    _back(loss)
    once = [None if t.grad is None else np.array(t.grad.data) for t in points]
    call.grads_agree(trial, _grads(points), call.grads, "{} in .grad after backward()")
    held = [o.data for o in outs if o.node is not None]
    for n, t in enumerate(points):
        if t.grad is not None:
            name = info.argument(call.wrt[n])
            own = not any(np.shares_memory(t.grad.data, a) for a in (*held, t.data))
            trial.true(own, f".grad of {name}", "memory of its own", "that of another", input=name)
            held.append(t.grad.data)
    _back(loss)
    doubled = [g if g is None else g + g for g in once]
    _are(trial, call, points, doubled, "after backward() twice")

    prior = [signed(t.shape, example.seed, 2700, n).astype(t.dtype) for n, t in enumerate(points)]
    for t, p in zip(points, prior, strict=True):
        t.grad = Tensor(np.array(p))
    _back(loss)
    kept = [p if g is None else p + g for p, g in zip(prior, once, strict=True)]
    _are(trial, call, points, kept, "after backward() added to one that was there")

    for t in points:
        t.grad = None
    other = call.cotangents(1)
    _back(_loss([*outs, *outs], [*call.gs, *other]))
    both = [None if a is None else a + b for a, b in zip(call.gs, other, strict=True)]
    size = [4 * call.largest + abs(g) for g in call.grads]
    what = "{} in .grad, of outputs that are used twice"
    call.grads_agree(trial, _grads(points), call.gradients(both), what, size=size, times=4)
    _twice(trial, info, example, call)


def _grads(points: Sequence[Tensor]) -> list[np.ndarray]:
    return [np.zeros(t.shape, t.dtype) if t.grad is None else t.grad.data for t in points]


def _are(trial: Trial, call: Call, points, expected, when: str) -> None:
    for n, (t, e) in enumerate(zip(points, expected, strict=True)):
        name = call.info.argument(call.wrt[n])
        if e is not None or t.grad is not None:
            got = None if t.grad is None else t.grad.data
            if got is None or e is None:
                trial.like(got, e, f".grad of {name} {when}", input=name)
            trial.same(got, e, f".grad of {name} {when}", input=name)


def _twice(trial: Trial, info: OpInfo, example: Example, call: Call) -> None:
    """One tensor in the place of two arguments of the same shape."""
    for i in call.wrt:
        for j in call.wrt:
            if i < j and call.args[i].shape == call.args[j].shape:
                args = list(call.args)
                args[j] = args[i]
                try:
                    both = Call(info, replace_arrays(example, args))
                except Broken:  # outside of the domain of argument j
                    return
                leaves = _leaves(both)
                leaves[j] = leaves[i]
                _back(_loss(_called(info, leaves, call.params), both.gs))
                m, n = call.wrt.index(i), call.wrt.index(j)
                (got,) = _grads([leaves[i]])
                agree(
                    trial,
                    got,
                    both.grads[m] + both.grads[n],
                    2 * both.largest + abs(both.grads[m]),
                    lambda: 2 * (both.noises[1][m] + both.noises[1][n]),  # noqa: B023
                    f".grad of {info.argument(i)}, passed as {info.argument(j)}, too",
                    info.argument(i),
                )
                return


@law(OP_LAWS, "P14", "the gradient has a gradient", _engineless, share=0.5)
def P14(trial: Trial, info: OpInfo, example: Example):
    """With S(x, V) = vjp(V) at x: S recorded has the bits of the plain pass; S passes the test of
    P7, in x and in V; where it is smooth, the second derivative is symmetric, <U, H W> = <W, H U>
    with H W = d<W, S>/dx; and forward mode agrees with reverse mode, <V, jvp(U)> = <vjp(V), U>.

    Catches what a rule treats as a constant, and rules that are right for arrays alone.
    """
    example = example.at(dtype="float64")
    call = Call(info, example)
    full = [
        g if g is not None else np.zeros_like(o) for g, o in zip(call.gs, call.outs, strict=True)
    ]
    slopes = info.subject.gradient(len(full), call.wrt)
    if slopes is None:
        raise NotApplicable("it has no second order")
    names = tuple([info.argument(i) for i in range(len(call.args))])
    names += tuple([f"the cotangent of output {j}" for j in range(len(full))])
    about = OpInfo(slopes, names=names)
    silent = Example(example.args, example.params, example.seed)  # every output has a cotangent
    second = Call(about, replace_arrays(silent, [*call.args, *full]))
    plain = call.gradients([g if is_float(g) else None for g in full])
    call.grads_agree(trial, second.outs, plain, "{} in a recorded pass", exact=True)
    if dot_test(trial, second, most=2):
        _symmetric(trial, call, second)
    _forward_mode(trial, info, call)


def _symmetric(trial: Trial, call: Call, second: Call) -> None:
    U, W = (
        [signed(call.args[i].shape, call.seed, 2800 + k, i) for i in call.wrt] for k in range(2)
    )
    of_U, of_W = (second.gradients([np.array(x) for x in Z])[: len(U)] for Z in (U, W))
    bars = lambda: second.noises[1][: len(U)]  # noqa: E731
    what = "the second derivative, <U, H W> beside <W, H U>"
    _dots(trial, what, (U, of_W), (W, of_U), 1.5, bars)


def _forward_mode(trial: Trial, info: OpInfo, call: Call) -> None:
    if not all(is_float(o) for o in call.outs):
        return
    U = [signed(call.args[i].shape, call.seed, 2900, i) for i in call.wrt]
    function = info.subject.function  # type: ignore[attr-defined]

    def moving(*xs):  # what else is given may be no array
        given = dict(zip(call.wrt, xs, strict=True))
        return function(*[given.get(i, a) for i, a in enumerate(call.args)], **call.params)

    moved = jvp(moving, [call.args[i] for i in call.wrt], U)[1]
    found, _ = tree.flatten(moved, objects=False)
    V = [np.zeros(o.shape) if g is None else g for o, g in zip(call.outs, call.gs, strict=True)]
    what = "forward mode, <V, jvp(U)> beside <U, vjp(V)>"
    backward = U, call.grads
    _dots(trial, what, backward, (V, found), call.largest, lambda: call.noises[1])


def _dots(trial: Trial, what: str, left: tuple, right: tuple, largest: float, noise) -> None:
    """<a, b> beside <c, d> for two pairs of lists of arrays; noise(): of the arrays b."""
    a, b = (
        np.concatenate([np.zeros(1), *[np.ravel(x * y) for x, y in zip(*pair, strict=True)]])
        for pair in (left, right)
    )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return
    norm = float(sum([np.abs(u).sum() for u in left[0]]))
    tolerance = rounded(float(np.abs(a).sum() + np.abs(b).sum()), norm * largest)
    if abs(a.sum() - b.sum()) > tolerance:
        moved = zip(left[0], noise(), strict=True)
        tolerance += 2 * float(sum([np.sum(np.abs(u) * m) for u, m in moved]))
    expected, got = f"{b.sum():.17g} +- {tolerance:.2g}", f"{a.sum():.17g}"
    trial.true(abs(a.sum() - b.sum()) <= tolerance, what, expected, got)


@law(OP_LAWS, "P17", "what is not asked for changes nothing", _engineless, share=0.5)
def P17(trial: Trial, info: OpInfo, example: Example):
    """Outputs have the same bits for any choice of arguments that have a gradient, and each
    gradient is the same whether it is asked for alone or with the others. Without such an
    argument, and under no_grad, nothing is recorded.

    Catches rules that share work they must not, and forward passes that depend on the mode.
    """
    call = Call(info, example)
    for n, i in enumerate(call.wrt[:4]):
        outs, pull = call.recorded(example.arrays(), (i,))
        name = info.argument(i)
        call.outs_agree(trial, outs, call.outs, f"{{}} where {name} alone has a gradient", True)
        (g,) = pull(*call.gs)
        got = np.zeros_like(call.grads[n]) if g is None else g
        trial.same(got, call.grads[n], f"the gradient of {name}, asked for alone", input=name)
    constants = [Tensor.at(a, None) if is_float(a) else a for a in example.arrays()]
    with set_grad_enabled(True):
        still = _called(info, constants, call.params)
    with no_grad():
        unseen = _called(info, _leaves(call), call.params)
    call.outs_agree(trial, [o.data for o in still], call.outs, "{} of constants", True)
    call.outs_agree(trial, [o.data for o in unseen], call.outs, "{} under no_grad", True)
    for j, o in enumerate(unseen):
        is_leaf = any(o is a for a in constants) or o.is_leaf
        trial.true(is_leaf, f"output {j} under no_grad", "a constant", "a recorded tensor")


# --- errors in the middle ------------------------------------------------------------------------


class _Stop(Exception):
    """The error that is planted."""


class _Saboteur(Observer):
    """Raises at the `at`-th call of an op or of a rule."""

    def __init__(self, at: int):
        super().__init__(False, False)
        self.left = at

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise _Stop

    def called(self, op, values, params, outs, node) -> None:
        self._count()
        super().called(op, values, params, outs, node)

    def sent(self, node, g, i, contribution) -> None:
        self._count()


@contextmanager
def _sabotage(at: int) -> Iterator[None]:
    before, me = observer(), threading.get_ident()
    observers[me] = _Saboteur(at)
    try:
        yield
    finally:
        observers.pop(me, None)
        if before is not None:
            observers[me] = before


POINTS = 12  # of the calls within a function, how many are made to fail, one at a time


@law(OP_LAWS, "P18", "an error in the middle leaves everything usable", _engineless, share=0.2)
def P18(trial: Trial, info: OpInfo, example: Example):
    """For k = 0, 1, ...: if the k-th call of an op, or of a rule, raises, then .grad, the recording
    mode, and the graph are as they were: the next call gives the same bits.

    Catches switches that are not put back, gradients of half a pass, graphs used up too early.
    Source: the method is that of "How SQLite Is Tested", section 3.
    """
    call = Call(info, example)
    leaves = _leaves(call)
    points = [leaves[i] for i in call.wrt]
    outs = _called(info, leaves, call.params)
    loss = _loss(outs, call.gs)
    _back(loss)
    before = [None if t.grad is None else np.array(t.grad.data) for t in points]

    def usable(when: str, mode: bool) -> None:
        now = is_grad_enabled()
        if now != mode:
            set_grad_enabled(mode).__enter__()  # so that what comes after this law is in order
            raise Broken(Finding(f"the recording mode after {when}", f"{mode}", f"{now}"))
        _are(trial, call, points, before, f"after {when}")

    for recording in (True, False):
        for k in range(POINTS):
            try:
                with set_grad_enabled(recording), _sabotage(k):
                    try:
                        _called(info, leaves, call.params)
                    except _Stop:
                        usable(f"an error in the call of op {k}", recording)
                        raise
            except _Stop:
                usable(f"an error in the call of op {k}", True)
                continue
            break
        call.outs_agree(trial, call.forward(*call.args), call.outs, "{} after an error", True)
    for k in range(POINTS):
        try:
            with _sabotage(k):
                _back(loss)
        except _Stop:
            usable(f"an error in step {k} of backward()", True)
            continue
        break
    else:
        _back(loss)
    twice = [g if g is None else g + g for g in before]
    _are(trial, call, points, twice, "after backward() failed and was called again")
    call.grads_agree(trial, call.gradients(call.gs), call.grads, "{} after an error", True)
