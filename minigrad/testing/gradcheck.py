"""One function at one point: PyTorch's `gradcheck` and `gradgradcheck`, JAX's `check_grads`.

The names and keywords are theirs; what is checked is more, and tolerances are computed. All laws
of an op that say something about one example are tried on it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import tree
from ..errors import UsageError
from ..graph import Op, Tensor
from .check import GradcheckError, InconclusiveError
from .example import Array, Example
from .laws import Broken, Inconclusive, NotApplicable, Trial
from .op_laws import OP_LAWS, OpInfo
from .report import Report
from .run import Result, attempt
from .subject import Subject, Traced, is_float, subject_of

# P7 first: a person wants to hear of a wrong gradient before all else.
FIRST_ORDER = ("P2", "P7", "P1", "P3", "P4", "P5", "P6", "P8", "P10", "P17")
SECOND_ORDER = ("P14",)


def gradcheck(
    f: Any,
    inputs: Any,
    *,
    eps: float | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = True,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
    params: dict | None = None,
    name: str | None = None,
    seed: int = 0,
) -> bool:
    """Whether the gradients of a function are right at a point: True, or `GradcheckError`.

    For a cotangent V and a direction U: |<U, vjp(V)> - <V, J U>| <= error bar of J U + rounding,
    J U by a complex step where the function takes one, else by extrapolated central differences;
    several signed directions, and the whole gradient only to locate an error. Besides: shapes and
    dtypes, nothing written to, no shared memory, the same bits twice, linearity in the cotangent,
    missing cotangents, layouts, accumulation, modes.

    f: a function of tensors returning a tensor or nested containers of them, an `Op`, or a pair
    `(forward, vjp)` of plain functions of arrays, `vjp(g, out, *arrays)` giving a tuple of
    gradients. inputs: an array or tensor, or a tuple of them; gradients are checked of those that
    require one, of all float arrays if none does. params: keyword parameters for f.

    The other keywords are PyTorch's. atol and rtol, which nobody needs to set, widen the computed
    tolerance by atol + rtol |derivative|. nondet_tol above 0 lets two equal calls differ.
    check_undefined_grad=False leaves out missing cotangents. eps, fast_mode, check_grad_dtypes,
    check_forward_ad and masked are taken and change nothing: steps are chosen by what the
    differences show, directions come first always, dtypes and forward mode are always checked.
    With raise_exception=False a failure returns False. Raises `InconclusiveError` where the oracle
    is not sharp enough, `UsageError` for inputs without floats, and for batched gradients.

    Source: Goodfellow et al., Deep Learning, section 11.5, on numerical derivatives.

    >>> from minigrad.testing import gradcheck
    >>> gradcheck(mg.tanh, np.linspace(-2, 2, 5))
    True
    """
    if check_batched_grad or check_batched_forward_grad:
        raise UsageError(
            "gradcheck: check_batched_grad",
            "expected False, got True: there is no vmap",
            "leave it out, or give the function a batch axis of its own",
        )
    subject, args = _subject_and_args("gradcheck", f, inputs, name)
    skip = [
        *(["P1", "P5"] if nondet_tol > 0 else []),
        *(["P6"] if not check_undefined_grad else []),
    ]
    laws = [id for id in FIRST_ORDER if id not in skip] if check_backward_ad else ["P1", "P2"]
    return _try("gradcheck", subject, args, params, laws, atol, rtol, seed, raise_exception, f)


def gradgradcheck(
    f: Any,
    inputs: Any,
    grad_outputs: Any = None,
    *,
    eps: float | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = True,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool = False,
    params: dict | None = None,
    name: str | None = None,
    seed: int = 0,
) -> bool:
    """Whether the second derivatives of a function are right at a point: True, or `GradcheckError`.

    The gradient is itself a function, (x, V) -> vjp(V), of which the same is demanded as of the
    function in `gradcheck`; and its derivative in x is symmetric: <U, H W> = <W, H U>. Arguments,
    keywords and errors as there; grad_outputs and gen_non_contig_grad_outputs are taken and change
    nothing, cotangents are drawn from the seed. A pair has no second order: `UsageError`.

    >>> from minigrad.testing import gradgradcheck
    >>> gradgradcheck(lambda x, y: mg.tanh(x) * y, (np.ones(3), np.ones(3)))
    True
    """
    if check_batched_grad:
        return gradcheck(f, inputs, check_batched_grad=True)
    subject, args = _subject_and_args("gradgradcheck", f, inputs, name)
    if not subject.traced:
        raise UsageError(
            f"gradgradcheck: {subject.name}",
            "expected a function of minigrad, got a pair, which has no second order",
            "check a pair with gradcheck, or write the function with minigrad's ops",
        )
    return _try(
        "gradgradcheck", subject, args, params, SECOND_ORDER, atol, rtol, seed, raise_exception, f
    )


def check_grads(
    f: Any,
    args: Any,
    order: int,
    modes: Sequence[str] = ("fwd", "rev"),
    atol: float | None = None,
    rtol: float | None = None,
    eps: float | None = None,
) -> None:
    """Checks the derivatives of a function at a point up to an order; raises `GradcheckError`.

    JAX's name and arguments: order 1 is `gradcheck`, each higher one checks the gradient of the
    one before as a function of its arguments and cotangents. modes and eps change nothing, atol
    and rtol widen the computed tolerance.

    >>> from minigrad.testing import check_grads
    >>> check_grads(lambda x: mg.sin(x) * x, (np.ones(2),), order=3)
    """
    if isinstance(order, bool) or not isinstance(order, int) or order < 1:
        raise UsageError(
            "check_grads: order", f"expected an integer from 1, got {order!r}", "pass order=2"
        )
    gradcheck(f, args, atol=atol, rtol=rtol)
    subject, values = _subject_and_args("check_grads", f, args, None)
    for n in range(2, order + 1):
        example = _example(values, {}, 0)
        outs = subject.forward(example.arrays(), {})
        slope = subject.gradient(len(outs), example.wrt)
        if slope is None:
            raise UsageError(
                f"check_grads: order {n} of {subject.name}",
                "expected a function of minigrad, got a pair, which has no second order",
                "pass order=1, or write the function with minigrad's ops",
            )
        values = [*values, *example.cotangents(outs)]
        subject = slope
        laws = ("P2", "P7")
        _try("check_grads", subject, values, {}, laws, atol, rtol, 0, True, None)


# --- how ------------------------------------------------------------------------------------------


def _subject_and_args(what: str, f: Any, inputs: Any, name: str | None) -> tuple[Subject, list]:
    """What is checked, as a function of the arrays that are to be checked alone; and these."""
    given = list(inputs) if isinstance(inputs, tuple | list) else [inputs]
    if isinstance(f, tuple | Subject):
        subject = subject_of(f, name)
        return subject, [_plain(what, i, x) for i, x in enumerate(given)]
    leaves, form = tree.flatten(given, objects=False)
    for adapter, roots in (("from_torch", {"torch"}), ("from_jax", {"jax", "jaxlib"})):
        theirs = [x for x in leaves if _root(x) in roots]
        if theirs:
            raise UsageError(
                f"{what}: inputs",
                f"expected arrays or tensors of minigrad, got those of {_root(theirs[0])}",
                f"wrap its function: {what}({adapter}(f), inputs)",
            )
    arrays = [_plain(what, i, x) for i, x in enumerate(leaves)]
    asked = [isinstance(x, Tensor) and x.requires_grad for x in leaves]
    floats = [isinstance(a, np.ndarray) and a.dtype.kind == "f" for a in arrays]
    wanted = [i for i, yes in enumerate(asked if any(asked) else floats) if yes and floats[i]]
    if not wanted:
        raise UsageError(
            f"{what}: inputs",
            "expected at least one array of float32 or float64, got none",
            "convert with .astype(np.float64), write 3.0 for 3",
        )
    if not any(_is_container(x) for x in given) and len(wanted) == len(leaves):
        return subject_of(f, name), arrays
    base = subject_of(f, name)

    def function(*tensors, **params):
        # What is held fast follows the dtype of what moves, as some laws try float32, too.
        dtype = tensors[0].dtype if tensors[0].dtype.kind == "f" else np.dtype(np.float64)
        whole = [a.astype(dtype) if is_float(a) else a for a in arrays]
        for i, t in zip(wanted, tensors, strict=True):
            whole[i] = t
        return f(*form.build(whole), **params)

    subject = Traced(function, base.name)
    return subject, [arrays[i] for i in wanted]


def _is_container(x) -> bool:
    return isinstance(x, tuple | list | dict)


def _plain(what: str, i: int, x: Any) -> Any:
    if isinstance(x, Tensor):
        return np.array(x.data)
    if _root(x) == "torch" and hasattr(x, "detach"):
        return _plain(what, i, np.array(x.detach().cpu().numpy()))
    if _root(x) in ("jax", "jaxlib") and hasattr(x, "__array__"):
        return _plain(what, i, np.array(x))
    if isinstance(x, float):
        return np.asarray(x)
    if isinstance(x, np.ndarray | np.generic) and x.dtype.kind in "fc":
        if x.dtype not in (np.float32, np.float64):
            raise UsageError(
                f"{what}: input {i}",
                f"expected float32 or float64, got {x.dtype}",
                "convert with .astype(np.float64)",
            )
        return np.asarray(x)
    return x


def _root(x: Any) -> str:
    """The package that an object's class comes from."""
    return type(x).__module__.partition(".")[0]


def _example(args: Sequence, params: dict, seed: int) -> Example:
    made = [Array(a.shape, a.dtype.name, data=a) if is_float(a) else a for a in args]
    return Example(tuple(made), dict(params), seed)


def _names(f: Any, n: int) -> tuple[str, ...]:
    """What the arguments of a function are called, as far as its signature says."""
    function: Callable | None = f[0] if isinstance(f, tuple) else f if callable(f) else None
    if function is None or isinstance(function, Op):
        return ()
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return ()
    plain = [p.name for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return tuple(plain[:n])


def _try(what, subject, args, params, laws, atol, rtol, seed, raises, f) -> bool:
    example = _example(args, params or {}, seed)
    info = OpInfo(subject, names=_names(f, len(args)))
    for id in laws:
        law = OP_LAWS[id]
        if law.unless(info):
            continue
        trial = Trial(id, atol=atol or 0.0, rtol=rtol or 0.0)
        verdict, finding, reason = "pass", None, ""
        try:
            attempt(law, info, example, trial)
        except Broken as broken:
            verdict, finding = "fail", broken.finding
        except Inconclusive as why:
            verdict, reason = "inconclusive", str(why)
        except NotApplicable:
            continue
        if verdict == "pass":
            continue
        if not raises:
            return False
        result = Result(law, verdict, reason, 1, resolution=trial.resolution, margin=trial.margin,
                        evaluations=trial.evaluations, method=trial.method, example=example,
                        finding=finding)  # fmt: skip
        error = GradcheckError if verdict == "fail" else InconclusiveError
        raise error(Report(info, result))
    return True
