"""The laws of an op, P1 to P16 but for those of the engine (`engine_laws.py`).

A law is tried on one example at a time. f is the function under test, x its arguments, y = f(x),
V a cotangent of the outputs, vjp(V) = J^T V the gradients that the code under test gives.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from .. import kernels
from . import oracle
from .dots import Call, apart, called, copied, dot_test, refused, rounded, top, units
from .example import LAYOUTS, Array, Example, generator, lay, signed
from .laws import Broken, Finding, Law, NotApplicable, Trial, law
from .subject import Subject, is_float

OP_LAWS: dict[str, Law] = {}


@dataclass
class OpInfo:
    """What is known about an op under test.

    subject: the op. reference: the same function in plain NumPy, `reference(*arrays, **params)`, or
    None. names: of the arguments. rowwise: the axis along which rows are computed independently of
    each other, for all arguments and outputs, or one for each argument, None for those that all
    rows share; None if there is no such axis. dtypes: in which the op can compute. owns: whether a
    call keeps copies of the arrays among its parameters (indices), so that the caller may do with
    them what he likes between the forward and the backward pass.
    """

    subject: Subject
    reference: Callable | None = None
    names: tuple[str, ...] = ()
    rowwise: int | Sequence[int | None] | None = None
    dtypes: tuple[str, ...] = ("float64", "float32")
    owns: bool = False

    @property
    def name(self) -> str:
        return self.subject.name

    def argument(self, i: int) -> str:
        """What argument i is called."""
        return self.names[i] if i < len(self.names) else f"argument {i}"


def _bytes(x) -> tuple:
    return x.tobytes(), x.shape, x.strides, x.dtype.str


# --- forms ---------------------------------------------------------------------------------------


@law(OP_LAWS, "P1", "the forward pass gives the same bits, whether recorded or not", share=0.5)
def P1(trial: Trial, info: OpInfo, example: Example):
    """f(x) = f(x), and the y that a gradient belongs to is f(x): the same bits.

    Catches a forward pass that remembers earlier calls or draws random numbers, and a recorded
    pass that computes something else than the plain one.
    """
    call = Call(info, example)
    for what in ("{} of the recorded call, beside that of a plain one", "{} of a second call"):
        outs = call.forward(*example.arrays())
        _as_many(trial, outs, call)
        call.outs_agree(trial, call.outs, outs, what, exact=True)


def _as_many(trial: Trial, expected: Sequence, call: Call) -> None:
    n, m = len(expected), len(call.outs)
    trial.true(n == m, "the outputs", f"{n} of them", f"{m}")


@law(OP_LAWS, "P2", "a gradient has the shape and dtype of its input")
def P2(trial: Trial, info: OpInfo, example: Example):
    """vjp(V)_i has the shape and the dtype of x_i, in every dtype that f computes in.

    Catches axes that were broadcast and not summed, kept axes that were lost, float64 that creeps
    into float32 code, scalars in place of arrays.
    """
    for dtype in info.dtypes:
        call = Call(info, example.at(dtype=dtype))
        given = call.pull(*call.gs)
        for i, g in zip(call.wrt, given, strict=True):
            if g is not None:
                name = info.argument(i)
                trial.like(g, call.args[i], f"the gradient of {name}", input=name)


@law(OP_LAWS, "P3", "nothing that was passed in is written to")
def P3(trial: Trial, info: OpInfo, example: Example):
    """Arguments, parameters, outputs and cotangents have the same bytes before and after, and the
    processor rounds as before.

    Catches rules that scale a cotangent in place, and forward code that normalises its argument.
    """
    args = example.arrays()
    watched = {info.argument(i): a for i, a in enumerate(args) if isinstance(a, np.ndarray)} | {
        k: v for k, v in example.params.items() if isinstance(v, np.ndarray)
    }
    before = {k: _bytes(a) for k, a in watched.items()}

    def unchanged(when: str):
        for k, a in watched.items():
            trial.true(
                _bytes(a) == before[k], f"{k} after {when}", "the bytes that it had before",
                "others", input=k,
            )  # fmt: skip

    try:
        info.subject.forward(args, example.params)
    except Exception as error:
        raise Broken(refused(info, error)) from error
    unchanged("the forward pass")
    call = Call(info, replace_arrays(example, args))
    unchanged("the recorded forward pass")
    for j, (o, g) in enumerate(zip(call.outs, call.gs, strict=True)):
        watched[call.called(j)] = o
        before[call.called(j)] = _bytes(o)
        if g is not None:
            watched[f"the cotangent of {call.called(j)}"] = g
            before[f"the cotangent of {call.called(j)}"] = _bytes(g)
    call.pull(*call.gs)
    unchanged("the backward pass")
    trial.true(
        np.multiply(2.0**-1060, 0.5) > 0, "denormal numbers after the call", "numbers as before",
        "zeros: the call has left the processor in a mode that flushes them",
    )  # fmt: skip
    if info.owns:
        _overwritten(trial, info, example)


def _overwritten(trial: Trial, info: OpInfo, example: Example) -> None:
    """That parameters which the caller writes to after a call change nothing any more."""
    params = copy.deepcopy(example.params)
    call = Call(info, replace(example, params=params))
    expected = Call(info, example).grads
    for a in params.values():
        for part in a if isinstance(a, tuple) else (a,):
            if isinstance(part, np.ndarray) and part.size:
                part[...] = part.flat[0]
    what = "{}, after parameters were overwritten"
    call.grads_agree(trial, call.whole(call.pull(*call.gs)), expected, what, exact=True)


def _exact(info: OpInfo) -> bool:
    """Whether bits must agree: in minigrad's functions, unless NumPy stands in for the kernels."""
    return info.subject.traced and kernels.backend() == "c"


class _Same(Example):
    """An example whose arrays are these very ones."""

    def arrays(self):
        return list(self.args)


def replace_arrays(example: Example, args: Sequence) -> Example:
    """The example with these very arrays as its arguments, not copies."""
    return _Same(tuple(args), example.params, example.seed, None, example.silent)


@law(OP_LAWS, "P4", "a gradient shares memory with nothing")
def P4(trial: Trial, info: OpInfo, example: Example):
    """Gradients share no memory with arguments, parameters, outputs, cotangents, or each other.

    Catches a rule that hands out the cotangent itself, one array for two inputs, or a view of a
    buffer: whoever adds to such a gradient in place changes something else.
    """
    call = Call(info, example)
    given = call.pull(*call.gs)
    others = {info.argument(i): a for i, a in enumerate(call.args)} | dict(example.params)
    for j, (o, g) in enumerate(zip(call.outs, call.gs, strict=True)):
        others[call.called(j)] = o
        others[f"the cotangent of {call.called(j)}"] = g
    for i, g in zip(call.wrt, given, strict=True):
        if not isinstance(g, np.ndarray):
            continue
        for k, a in others.items():
            if isinstance(a, np.ndarray) and np.may_share_memory(g, a):
                trial.true(
                    not np.shares_memory(g, a), f"the gradient of {info.argument(i)}",
                    "memory of its own", f"that of {k}", input=info.argument(i),
                )  # fmt: skip
        if not g.flags.writeable or (g.size > 1 and 0 in _moving(g)):
            trial.true(
                False, f"the gradient of {info.argument(i)}", "an array that can be written to",
                "a read-only one, or one whose elements share their place", input=info.argument(i),
            )  # fmt: skip
        others[f"the gradient of {info.argument(i)}"] = g


def _moving(a: np.ndarray) -> list[int]:
    return [s for s, n in zip(a.strides, a.shape, strict=True) if n > 1]


@law(OP_LAWS, "P5", "the same call gives the same bits, whatever was called in between")
def P5(trial: Trial, info: OpInfo, example: Example):
    """vjp(V), asked twice, and of a second call after calls on other data and other shapes: the
    same bits; and the first answer is still what it was. Of arrays in which there are other numbers
    by now: what arrays of their own with these numbers give.

    Catches work space that is not cleared, one that is reused while somebody still needs it, and
    caches that mistake one call for another.
    """
    call = Call(info, example)
    gs = [copied(g) for g in call.gs]
    first = [copied(g) for g in call.whole(call.pull(*gs), False)]
    held = call.pull(*gs)
    kept = [copied(g) for g in call.whole(held, False)]
    outs = [copied(o) for o in call.outs]
    for other in (replace(example, seed=example.seed ^ 1), _wider(example)):
        try:
            between = Call(info, other)
            between.pull(*between.gs)
        except Exception:  # this law is not about the call in between
            continue
    call.grads_agree(trial, kept, first, "{}, asked again", exact=True)
    still = call.whole(held, False)
    call.grads_agree(trial, still, first, "{}, kept while other calls were made", exact=True)
    again = call.whole(call.pull(*gs), False)
    second = Call(info, example)
    anew = second.whole(second.pull(*second.gs), False)
    call.outs_agree(trial, call.outs, outs, "{}, after other calls", exact=True)
    call.outs_agree(trial, second.outs, outs, "{} of a second call", exact=True)
    call.grads_agree(trial, again, first, "{}, asked again after other calls", exact=True)
    call.grads_agree(trial, anew, first, "{} of a second call", exact=True)
    _refilled(trial, info, example, call)


def _refilled(trial: Trial, info: OpInfo, example: Example, call: Call) -> None:
    """The same arrays with other numbers in them: half of those that they had."""
    if not all(a.flags.writeable and 0 not in _moving(a) for a in call.args if is_float(a)):
        return
    call.pull(*call.gs)  # the last call before
    for i in {id(a): i for i, a in enumerate(call.args) if is_float(a)}.values():
        call.args[i] *= 0.5
    laid = [a.layout if isinstance(a, Array) else None for a in example.args]
    args = [
        a if how is None else lay(np.array(a), how)  # where memory lies may move the last bit
        for a, how in zip(call.args, laid, strict=True)
    ]
    if example.shared is not None:
        args[example.shared[1]] = args[example.shared[0]]
    same = Call(info, replace_arrays(example, call.args))
    got = [copied(g) for g in same.whole(same.pull(*same.gs), False)]  # before another call
    own = Call(info, replace_arrays(example, args))
    expected = own.whole(own.pull(*own.gs), False)
    what = "{} of the same arrays with other numbers in them"
    same.outs_agree(trial, same.outs, own.outs, what, exact=True)
    same.grads_agree(trial, got, expected, what, exact=True)


def _wider(example: Example) -> Example:
    """The example with one more in each side of one length: another shape that mostly fits, too."""
    sides = sorted({s for a in example.args if isinstance(a, Array) for s in a.shape} - {0, 1})
    if not sides:
        return replace(example, seed=example.seed ^ 2)
    return _resized(example, {sides[example.seed % len(sides)]: sides[-1] + 1})


def _resized(example: Example, sides: dict[int, int]) -> Example:
    """The example with other lengths in place of some."""
    args = [
        _of_shape(a, tuple([sides.get(s, s) for s in a.shape])) if isinstance(a, Array) else a
        for a in example.args
    ]
    return replace(example, args=tuple(args), seed=example.seed ^ 2)


def _of_shape(a: Array, shape: tuple) -> Array:
    """The array in another shape; numbers that were given are repeated."""
    return replace(a, shape=shape, data=None if a.data is None else np.resize(a.data, shape))


# --- calculus ------------------------------------------------------------------------------------


@law(OP_LAWS, "P6", "the gradient is linear in the cotangent")
def P6(trial: Trial, info: OpInfo, example: Example):
    """vjp(a V + b W) = a vjp(V) + b vjp(W); vjp(2^k V) = 2^k vjp(V) for k = -40 and 40; vjp(0) = 0;
    a missing cotangent counts as zeros.

    Catches clipped gradients, thresholds below which they vanish, missing cotangents taken for
    ones, sums in a lower precision.
    """
    call = Call(info, example)
    usual = call.grads
    if not all(np.isfinite(g).all() for g in usual):
        raise NotApplicable("the gradient is not finite")
    # Outputs without elements have a cotangent of zeros, too.
    zeros = [None if g is None else np.zeros_like(g) for g in call.gs]
    got = [np.abs(g) for g in call.gradients(zeros)]
    nothing = [np.zeros_like(g) for g in got]
    call.grads_agree(trial, got, nothing, "{} for a cotangent of zeros", exact=True)
    if not any(g is not None and g.size for g in call.gs):
        return
    for k in (-40, 40):
        if k > 0 and max(map(top, usual)) > 2.0**900:  # it would overflow
            continue
        scaled = [None if g is None else np.ldexp(g, k) for g in call.gs]
        got = [np.ldexp(g, -k) for g in call.gradients(scaled)]
        what = f"2^{-k} times {{}} for 2^{k} times the cotangent"
        call.grads_agree(trial, got, usual, what, times=0)
    a, b = (float(x) for x in signed((2,), example.seed, 2400))
    other = call.cotangents(1)
    both = [
        None if v is None else (a * v + b * w).astype(v.dtype)
        for v, w in zip(call.gs, other, strict=True)
    ]
    others = call.gradients([copied(g) for g in other])
    expected = [a * g + b * h for g, h in zip(usual, others, strict=True)]
    size = [4 * call.largest + abs(g) + abs(h) for g, h in zip(usual, others, strict=True)]
    what = "{} for a V + b W, beside a and b times those for V and W"
    call.grads_agree(trial, call.gradients(both), expected, what, size=size, times=4)
    if len(call.outs) > 1:
        missing = example.seed % len(call.outs)
        one = [None if j == missing else copied(g) for j, g in enumerate(call.gs)]
        zero = [
            np.zeros_like(o) if j == missing and is_float(o) else copied(g)
            for j, (o, g) in enumerate(zip(call.outs, call.gs, strict=True))
        ]
        what = f"{{}} without a cotangent of output {missing}, beside that for zeros"
        call.grads_agree(trial, call.gradients(one), call.gradients(zero), what, exact=True)


@law(OP_LAWS, "P7", "the gradient is that of the function")
def P7(trial: Trial, info: OpInfo, example: Example):
    """<U, vjp(V)> = <V, J U> within the bar of the oracle and rounding, for several directions U:
    all inputs moved, each alone, two of one shape moved alike. At kinks the derivative lies
    between those on its two sides.

    Catches every wrong derivative: a sign, a factor, a wrong operand, a transposition, a missing
    term, an entry left out.
    """
    dot_test(trial, Call(info, example.at(dtype="float64")))


@law(OP_LAWS, "P8", "the layout in memory changes nothing")
def P8(trial: Trial, info: OpInfo, example: Example):
    """f and vjp of arrays that lie in memory in any order are those of their copies in C order: the
    same bits for minigrad's functions, within rounding for others.

    Catches code that ignores strides, reshapes in memory order, or writes where it must not.
    """
    drawn = [a.layout for a in example.args if isinstance(a, Array)]
    rng = generator(example.seed, 2500)
    exact = _exact(info)
    for k in range(2):
        layouts = [LAYOUTS[c] for c in rng.integers(1, len(LAYOUTS), len(drawn))]
        chosen = iter(drawn if k == 0 and set(drawn) - {"C"} else layouts)
        args = [
            replace(a, layout=next(chosen)) if isinstance(a, Array) else a for a in example.args
        ]
        laid = Call(info, replace(example, args=tuple(args)))
        plain = [np.array(a, order="C") if isinstance(a, np.ndarray) else a for a in laid.args]
        if example.shared is not None:
            plain[example.shared[1]] = plain[example.shared[0]]
        call = Call(info, replace_arrays(example, plain))
        # Cotangents too; the second time with all entries one number, as that of a sum.
        gs = [
            g
            if g is None or not g.size
            else (np.broadcast_to(g.flat[0], g.shape) if k else lay(g, layout))
            for g, layout in zip(call.gs, layouts * len(call.gs) or ["C"], strict=False)
        ]
        call.gs = [None if g is None else np.array(g, order="C") for g in gs]
        what = "{} of arrays laid out otherwise"
        call.outs_agree(trial, laid.outs, call.outs, what, exact)
        call.grads_agree(trial, laid.whole(laid.pull(*gs)), call.grads, what, exact)


@law(OP_LAWS, "P9", "numbers stay numbers, and NaN stays NaN")
def P9(trial: Trial, info: OpInfo, example: Example):
    """Of large arguments (30, 800) within the domain neither y nor, where y is finite and smooth, a
    gradient is NaN or infinite. If moving one entry of an argument moves an output, then NaN in
    its place shows in that output; if an entry of a cotangent moves a gradient, so does NaN there.

    Catches overflow in saturation, log(0), 0 times infinity; NaN that is silently made 0.
    """
    rng = generator(example.seed, 2600)
    values = ("large", "huge", None)[int(rng.integers(3))]
    call = Call(info, example if values is None else example.at(values=values))
    for j, o in enumerate(call.outs):
        if is_float(o) and np.isnan(o).any():
            raise Broken(
                Finding(
                    called(call.outs, j, int(np.flatnonzero(np.isnan(o))[0])),
                    "a number (or domain=(low, high), if f is defined only there)", "NaN",
                    facts={"args": call.args, "outputs": list(call.outs)},
                )
            )  # fmt: skip
    if all(np.isfinite(o).all() for o in call.outs):
        _finite(call)
    if not all(np.isfinite(o).all() for o in call.outs):
        call = Call(info, example.at(values="generic"))
    if all(np.isfinite(o).all() for o in call.outs):
        _planted(trial, call, rng)
        _planted_back(trial, call, rng)


def _finite(call: Call) -> None:
    """Where outputs are finite, gradients are, unless the slope itself is not."""
    for i, g in zip(call.wrt, call.grads, strict=True):
        for k in np.flatnonzero(~np.isfinite(g))[:3]:
            only = [a if n == i else None for n, a in enumerate(call.args)]
            unit = units(only, i, int(k))
            left, right = oracle.one_sided(call.forward, call.args, unit)
            known = all(np.isfinite(e.value + e.error).all() for e in [*left, *right])
            steep = max(float(np.max(np.abs(e.value), initial=0)) for e in [*left, *right])
            if known and steep < 1e12:
                index = tuple(map(int, np.unravel_index(k, g.shape)))
                name = call.info.argument(i)
                raise Broken(
                    Finding(
                        f"the gradient of {name}",
                        "a number: the outputs are finite, and so are their slopes",
                        f"{g.flat[k]}" + (f" at {index}" if index else ""),
                        input=name,
                        analytic=g,
                        numeric=np.where(np.isfinite(g), g, 0),
                        error=np.zeros(g.shape),
                        facts={"args": call.args, "outputs": list(call.outs)},
                    )
                )


def _planted(trial: Trial, call: Call, rng) -> None:
    """NaN in one entry of an argument."""
    some = [i for i in call.wrt if call.args[i].size]
    if not some:
        return
    i = some[int(rng.integers(len(some)))]
    k = int(rng.integers(call.args[i].size))
    low, high = _domain(call.example.args[i])
    x = call.args[i].flat[k]
    step = min(0.5 + rng.random(), 0.5 * abs(high - x), 0.5 * abs(x - low))
    moved = call.forward(*_with(call, i, k, x + step))
    spoilt = call.forward(*_with(call, i, k, np.nan))
    for j, (o, m, s) in enumerate(zip(call.outs, moved, spoilt, strict=True)):
        if not is_float(o) or o.shape != m.shape or not np.isfinite(m).all():
            continue
        if (np.abs(m - o) > 1e-6 * (step + np.abs(o))).any() and not np.isnan(s).any():
            index = [int(n) for n in np.unravel_index(k, call.args[i].shape)]
            entry = call.info.argument(i) + (str(index) if index else "")
            raise Broken(
                Finding(
                    f"{call.called(j)} with NaN in {entry}",
                    "NaN somewhere, since another number there changes it", "numbers alone",
                    input=call.info.argument(i), facts={"args": call.args, "outputs": list(spoilt)},
                )
            )  # fmt: skip


def _domain(a) -> tuple[float, float]:
    return a.domain if isinstance(a, Array) else (-np.inf, np.inf)


def _with(call: Call, i: int, k: int, value) -> list:
    args = list(call.args)
    args[i] = np.array(args[i])
    args[i].flat[k] = value
    return args


def _planted_back(trial: Trial, call: Call, rng) -> None:
    """NaN in one entry of a cotangent."""
    some = [j for j, g in enumerate(call.gs) if g is not None and g.size]
    if not some:
        return
    j = some[int(rng.integers(len(some)))]
    k = int(rng.integers(call.gs[j].size))
    unit = units(call.gs, j, k)
    spoilt = [copied(g) for g in call.gs]
    spoilt[j].flat[k] = np.nan
    pairs = zip(call.wrt, call.gradients(unit), call.gradients(spoilt), strict=True)
    for i, alone, g in pairs:
        if np.isfinite(alone).all() and (np.abs(alone) > 1e-6).any() and not np.isnan(g).any():
            raise Broken(
                Finding(
                    f"the gradient of {call.info.argument(i)} of a cotangent with NaN in it",
                    "NaN somewhere, since that entry counts", "numbers alone",
                    input=call.info.argument(i), facts={"args": call.args, "cotangents": spoilt},
                )
            )  # fmt: skip


# --- shapes --------------------------------------------------------------------------------------


@law(OP_LAWS, "P11", "arrays without elements have gradients, too")
def P11(trial: Trial, info: OpInfo, example: Example):
    """With a side of length 0, f and vjp answer without a warning; gradients have the shapes of
    their inputs, and are exactly 0 where no output is left that could depend on them.

    Catches divisions by a length, maxima over nothing, shapes that are guessed from data. Tried on
    examples that have such a side, and on others with one of their sides cut to 0, if f takes it.
    """
    drawn = [a for a in example.args if isinstance(a, Array)]
    cut = all(np.size(a) for a in example.arrays() if isinstance(a, np.ndarray))
    if cut:
        sides = sorted({s for a in drawn for s in a.shape})
        if not sides:
            raise NotApplicable("no argument has an axis")
        example = _resized(example, {sides[example.seed % len(sides)]: 0})
    with warnings.catch_warnings(), np.errstate(all="warn"):
        warnings.simplefilter("error")
        try:
            info.subject.forward(example.arrays(), example.params)
        except Exception as error:
            if cut:
                raise NotApplicable("f is not defined for a side of length 0") from error
            raise Broken(
                Finding(
                    f"{info.name} of arrays without elements", "an answer, and no warning",
                    f"{type(error).__name__}: {' '.join(str(error).split())}"[:400],
                    facts={"error": error, "args": example.arrays()},
                )
            ) from error  # fmt: skip
        call = Call(info, example)
        try:
            given = call.pull(*call.gs)
        except Exception as error:
            if cut and isinstance(error, IndexError):  # indices of the longer side
                raise NotApplicable("f is not defined for a side of length 0") from error
            raise Broken(
                Finding(
                    f"the gradients of {info.name} for arrays without elements",
                    "arrays, and no warning",
                    f"{type(error).__name__}: {' '.join(str(error).split())}"[:400],
                    facts={"error": error, "args": call.args},
                )
            ) from error
    nothing = all(o.size == 0 for o in call.outs)
    for i, g in zip(call.wrt, given, strict=True):
        if g is not None:
            name = info.argument(i)
            trial.like(g, call.args[i], f"the gradient of {name}", input=name)
            if nothing:
                trial.same(g, np.zeros_like(g), f"the gradient of {name}", input=name)


@law(OP_LAWS, "P12", "the gradient of a broadcast input is the sum over its copies")
def P12(trial: Trial, info: OpInfo, example: Example):
    """If f(x, y) = f(x', y'), where x' and y' are x and y broadcast to their common shape, then
    vjp_x = the sum of vjp_x' over the copies.

    Catches a reduction left out, over the wrong axis, or a mean in its place.
    """
    call = Call(info, example)
    if len(call.wrt) < 2:
        raise NotApplicable("there are no two arrays to broadcast")
    shapes = [call.args[i].shape for i in call.wrt]
    try:
        full = np.broadcast_shapes(*shapes)
    except ValueError:
        raise NotApplicable("the arguments do not broadcast") from None
    if all(s == full for s in shapes) or any(o.shape != full for o in call.outs):
        raise NotApplicable("nothing is broadcast")
    # The same at other numbers, too: at zeros much agrees that means something else.
    generic = replace(example.at(values="generic", data=None), seed=example.seed ^ 3)
    for tried in (generic, example):
        plain = call if tried is example else Call(info, tried)
        args = [
            np.array(np.broadcast_to(a, full)) if i in call.wrt else a
            for i, a in enumerate(plain.args)
        ]
        try:
            wide = Call(info, replace_arrays(example, args))
            expanded = wide.grads
        except Exception:  # which it need not take, nor its rule
            raise NotApplicable("the arguments mean something else when expanded") from None
        for x, y in zip(plain.outs, wide.outs, strict=True):
            if x.shape != y.shape or (is_float(x) and apart(x, y).max(initial=0) > 1e-9 * top(y)):
                raise NotApplicable("the arguments mean something else when expanded")
    sums, sizes = [], []
    for g, copies in zip(call.grads, expanded, strict=True):
        k = len(full) - g.ndim
        axes = (*range(k), *[k + n for n, s in enumerate(g.shape) if s == 1 != full[k + n]])
        sums.append(np.asarray(copies.sum(axes)).reshape(g.shape))
        size = np.abs(np.where(np.isfinite(copies), copies, 0)).sum(axes).reshape(g.shape)
        sizes.append(4 * size + call.largest)
    what = "{}, beside the sum of those of its copies"
    call.grads_agree(trial, call.grads, sums, what, size=sizes)


def _rowless(info: OpInfo) -> str | None:
    return (
        None if info.rowwise is not None else "no axis of independent rows was declared: rowwise="
    )


@law(OP_LAWS, "P13", "rows are computed independently of each other", _rowless)
def P13(trial: Trial, info: OpInfo, example: Example):
    """f(x)[b] = f(x[b]) and vjp(V)[b] = vjp(V[b]) for each row b; the gradient of what all rows
    share is the sum of those of the rows. The same bits for minigrad's functions on its kernels.

    Catches rows that leak into each other, means over the batch, a batch of one squeezed away.
    """
    call = Call(info, example)
    axes = info.rowwise
    per = [axes] * len(call.args) if isinstance(axes, int) else list(axes or ())
    per += [None] * (len(call.args) - len(per))
    rowed = {i: axis for i, axis in enumerate(per) if axis is not None and i in call.wrt}
    if not rowed:
        raise NotApplicable("no argument has rows")
    out_axis = axes if isinstance(axes, int) else next(iter(rowed.values()))
    counts = {call.args[i].shape[axis] for i, axis in rowed.items()}
    n = max(counts)
    if n < 2 or counts != {n}:
        raise NotApplicable("there is one row, or an argument is broadcast over them")
    exact = _exact(info)
    sums = [
        np.zeros(g.shape) if i not in rowed else np.array(g)
        for i, g in zip(call.wrt, call.grads, strict=True)
    ]
    for b in range(n):
        args = [_row(a, b, rowed[i]) if i in rowed else a for i, a in enumerate(call.args)]
        one = Call(info, replace_arrays(example, args))
        wanted = [_row(o, b, out_axis) for o in call.outs]
        one.outs_agree(trial, one.outs, wanted, f"{{}} of row {b} alone", exact)
        gs = [None if g is None else _row(g, b, out_axis) for g in call.gs]
        found, expected = one.gradients(gs), []
        for k, i in enumerate(call.wrt):
            expected.append(_row(call.grads[k], b, rowed[i]) if i in rowed else found[k])
            if i not in rowed:
                sums[k] += found[k]
        one.grads_agree(trial, found, expected, f"{{}} of row {b} alone", exact)
    size = [call.largest * n + n * top(g) for g in sums]
    what = "{}, beside the sum of those of the rows"
    call.grads_agree(trial, call.grads, sums, what, size=size)


def _row(a: np.ndarray, b: int, axis: int) -> np.ndarray:
    """Row b alone, as a batch of one."""
    return np.array(a[(slice(None),) * (axis % a.ndim) + (slice(b, b + 1),)])


# --- precision -----------------------------------------------------------------------------------


def _single(info: OpInfo) -> str | None:
    return None if "float32" in info.dtypes else "float32 is not among dtypes="


@law(OP_LAWS, "P15", "float32 gives what float64 gives, rounded", _single)
def P15(trial: Trial, info: OpInfo, example: Example):
    """On numbers that float32 holds exactly, |f32 - f64| and |vjp32 - vjp64| stay within rounding
    of 2^-24: that of the result, and what a few units in arguments and cotangents do to it. (P7
    has compared float64 with the oracle.)

    Catches a float32 path of its own that is wrong, tables and constants of low precision.
    """
    single = Call(info, example.at(dtype="float32"))
    args = [a.astype(np.float64) if is_float(a) else a for a in single.args]
    double = Call(info, replace_arrays(example, args))
    double.gs = [None if g is None else g.astype(np.float64) for g in single.gs]
    most = max([top(o) for o in double.outs if is_float(o)] or [0.0])
    if most > 1e30 or not all(np.isfinite(o).all() for o in (*single.outs, *double.outs)):
        raise NotApplicable("the output is beyond float32")
    noises: list = []

    def noise(part: int, n: int):
        if not noises:
            noises.extend(double.noise("float32", 3))
        return noises[part][n]

    def compare(got, expected, size, more: Callable, what: str, name: str | None = None):
        bound = rounded(np.abs(expected), size, "float32") + 1e-36
        if (apart(got, expected) > bound).any():
            bound = bound + more()
        trial.close(got.astype(np.float64), expected, bound, what, input=name)

    for j, (a, b) in enumerate(zip(single.outs, double.outs, strict=True)):
        if is_float(a):
            more = lambda j=j: noise(0, j)  # noqa: E731
            compare(a, b, double.scale, more, f"{single.called(j)} in float32")
    for n, g in enumerate(single.grads):
        if np.isfinite(double.grads[n]).all():
            name = info.argument(single.wrt[n])
            size = max(single.largest * double.scale, top(double.grads[n]))
            more = lambda n=n: noise(1, n)  # noqa: E731
            compare(g, double.grads[n], size, more, f"the gradient of {name} in float32", name)


def _referenceless(info: OpInfo) -> str | None:
    return None if info.reference is not None else "no reference was given: reference="


@law(OP_LAWS, "P16", "the function is what its reference says", _referenceless)
def P16(trial: Trial, info: OpInfo, example: Example):
    """f(x) = reference(x) within rounding.

    Catches what no gradient can: forward and backward pass that agree on another function.
    """
    call = Call(info, example)
    assert info.reference is not None
    made = info.reference(*example.arrays(), **example.params)
    expected = [np.asarray(e) for e in (made if isinstance(made, tuple | list) else [made])]
    _as_many(trial, expected, call)
    for j, (o, e) in enumerate(zip(call.outs, expected, strict=True)):
        what = f"{call.called(j)}, beside the reference"
        trial.true(o.shape == e.shape, what, f"shape {e.shape}", f"shape {o.shape}")
    expected = [e.astype(o.dtype) for e, o in zip(expected, call.outs, strict=True)]
    call.outs_agree(trial, call.outs, expected, "{}, beside the reference", exact=False)
