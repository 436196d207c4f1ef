"""Other libraries' gradient checkers on the seeded bugs of `tests/mutants`.

Each mutated pair (forward, vjp) is handed to the checker in the form that its users write:
`torch.autograd.Function`, `jax.custom_vjp` through a host callback, an autograd `primitive` with
`defvjp`. Usages:

    torch, docs     torch.autograd.gradcheck(f, inputs, eps=1e-6, atol=1e-4), as its documentation
                    has it, on the first call that comes with the specimen
    torch, expert   gradcheck in slow and in fast mode with default tolerances on every call that
                    comes with it, contiguous and strided
    jax             jax.test_util.check_grads(f, args, order=1, modes=["rev"]) in float64, on every
                    call
    autograd        autograd.test_util.check_grads(f, order=1, modes=["rev"])(*args), every call, by
                    every argument

A mutant counts as killed if the checker raises or returns False. A usage that fails on the correct
specimen is a false alarm, and its verdicts on that specimen's mutants do not count.

    pip install torch jax autograd
    python -m benchmarks.rivals [--ids 59 60] [--json FILE]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from mutants import Specimen, mutant, mutants, specimens

Args = tuple[tuple, dict]


def split(args: tuple) -> tuple[list[int], Callable]:
    """The positions of the float arrays, and how to put others in their place."""
    places = [i for i, a in enumerate(args) if isinstance(a, np.ndarray) and a.dtype.kind == "f"]

    def merged(arrays):
        whole = list(args)
        for i, a in zip(places, arrays, strict=True):
            whole[i] = a
        return whole

    return places, merged


def gradients(s: Specimen, g, out, args, params, places) -> list:
    """The gradients that the pair gives for the float arrays."""
    found = tuple(s.vjp(g, out, *args, **params))
    if len(found) == len(args):
        return [found[i] for i in places]
    return list(found[: len(places)])


# --- PyTorch -------------------------------------------------------------------------------------


def torch_function(s: Specimen, args: tuple, params: dict) -> Callable:
    import torch

    places, merged = split(args)

    class Wrapped(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *tensors):
            ctx.arrays = merged([t.detach().numpy() for t in tensors])
            ctx.out = s.forward(*ctx.arrays, **params)
            if isinstance(ctx.out, tuple):
                return tuple([torch.as_tensor(np.array(o)) for o in ctx.out])
            return torch.as_tensor(np.array(ctx.out))

        @staticmethod
        def backward(ctx, *gs):
            gs = tuple([g.numpy() for g in gs])
            g = gs if isinstance(ctx.out, tuple) else gs[0]
            found = gradients(s, g, ctx.out, ctx.arrays, params, places)
            return tuple([None if x is None else torch.as_tensor(x) for x in found])

    return Wrapped.apply


def torch_inputs(args: tuple, strided: bool = False) -> tuple:
    import torch

    places, _ = split(args)
    made = []
    for i in places:
        a = np.array(args[i])
        if strided and a.ndim:
            wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]))
            wide[..., ::2] = a
            t = torch.as_tensor(wide)[..., ::2]
        else:
            t = torch.as_tensor(a)
        made.append(t.requires_grad_())
    return tuple(made)


def torch_docs(s: Specimen) -> bool:
    import torch

    args, params = s.calls[0]
    f = torch_function(s, args, params)
    return torch.autograd.gradcheck(f, torch_inputs(args), eps=1e-6, atol=1e-4)


def torch_expert(s: Specimen) -> bool:
    import torch

    for args, params in s.calls:
        for strided in (False, True):
            for fast in (False, True):
                f = torch_function(s, args, params)
                if not torch.autograd.gradcheck(f, torch_inputs(args, strided), fast_mode=fast):
                    return False
    return True


# --- JAX -----------------------------------------------------------------------------------------


def jax_function(s: Specimen, args: tuple, params: dict) -> Callable:
    import jax

    places, merged = split(args)

    def host(*arrays):
        return s.forward(*merged([np.asarray(a) for a in arrays]), **params)

    def host_back(g, out, *arrays):
        whole = merged([np.asarray(a) for a in arrays])
        to_arrays = (lambda x: tuple(map(np.asarray, x))) if isinstance(out, tuple) else np.asarray
        found = gradients(s, to_arrays(g), to_arrays(out), whole, params, places)
        return tuple([np.zeros_like(a) if x is None else np.asarray(x)
                      for x, a in zip(found, arrays, strict=True)])  # fmt: skip

    def shapes(made):
        one = lambda a: jax.ShapeDtypeStruct(np.shape(a), np.asarray(a).dtype)  # noqa: E731
        return tuple(map(one, made)) if isinstance(made, tuple | list) else one(made)

    form = shapes(s.forward(*args, **params))

    @jax.custom_vjp
    def f(*arrays):
        return jax.pure_callback(host, form, *arrays)

    def forward(*arrays):
        out = f(*arrays)
        return out, (out, arrays)

    def backward(kept, g):
        out, arrays = kept
        return jax.pure_callback(host_back, shapes(arrays), g, out, *arrays)

    f.defvjp(forward, backward)
    return f


def jax_all(s: Specimen) -> bool:
    import jax
    from jax.test_util import check_grads

    jax.config.update("jax_enable_x64", True)
    logging.getLogger("jax").setLevel(logging.CRITICAL)  # each killed mutant would be a traceback
    for args, params in s.calls:
        places, _ = split(args)
        arrays = tuple([jax.numpy.asarray(args[i]) for i in places])
        check_grads(jax_function(s, args, params), arrays, order=1, modes=["rev"])
    return True


# --- HIPS autograd -------------------------------------------------------------------------------


def autograd_all(s: Specimen) -> bool:
    from autograd.extend import defvjp, primitive
    from autograd.test_util import check_grads

    for args, params in s.calls:
        places, merged = split(args)

        def flat(out):
            outs = out if isinstance(out, tuple) else (out,)
            return np.concatenate([np.ravel(o) for o in outs])

        def back(g, arrays, i, s=s, params=params, places=places, merged=merged):
            whole = merged(arrays)
            out = s.forward(*whole, **params)
            if isinstance(out, tuple):
                ends = np.cumsum([np.size(o) for o in out])[:-1]
                g = tuple([p.reshape(np.shape(o)) for p, o in zip(np.split(g, ends), out)])  # noqa: B905
            else:
                g = g.reshape(np.shape(out))
            found = gradients(s, g, out, whole, params, places)[i]
            return np.zeros_like(arrays[i]) if found is None else found

        f = primitive(lambda *arrays, s=s, p=params, m=merged: flat(s.forward(*m(arrays), **p)))
        rules = [
            lambda ans, *arrays, i=i, back=back: lambda g: back(g, arrays, i)
            for i in range(len(places))
        ]
        defvjp(f, *rules)
        for i in range(len(places)):
            arrays = [np.array(args[j]) for j in places]
            only = lambda x, f=f, i=i, a=arrays: f(*a[:i], x, *a[i + 1 :])  # noqa: E731
            check_grads(only, modes=["rev"], order=1)(arrays[i])
    return True


# --- the experiment ------------------------------------------------------------------------------

RIVALS: dict[str, tuple[str, Callable[[Specimen], bool]]] = {
    "torch, docs": ("torch", torch_docs),
    "torch, expert": ("torch", torch_expert),
    "jax": ("jax", jax_all),
    "autograd": ("autograd", autograd_all),
}


def passes(check: Callable[[Specimen], bool], s: Specimen) -> tuple[bool, str]:
    """Whether a checker is content, and its complaint if it is not."""
    np.random.seed(0)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return (True, "") if check(s) else (False, "False")
        except Exception as error:
            return False, f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def experiment(ids: list[str]) -> dict[str, dict[str, Any]]:
    """Verdicts by mutant and rival: True killed, False survived, None does not count."""
    found: dict[str, dict[str, Any]] = {id: {} for id in ids}
    for name, (library, check) in RIVALS.items():
        if importlib.util.find_spec(library) is None:
            print(f"{name}: left out, {library} is not installed")
            continue
        for s in {mutants[id].specimen for id in ids}:
            content, complaint = passes(check, specimens[s])
            if not content:
                print(f"{name}: false alarm on the correct {s}: {complaint}")
            for id in ids:
                if mutants[id].specimen == s:
                    with mutant(id):
                        killed = not passes(check, specimens[s])[0]
                    found[id][name] = killed if content else None
    return found


def table(found: dict[str, dict[str, Any]]) -> str:
    """Kills by family and rival."""
    names = [n for n in RIVALS if any(n in v for v in found.values())]
    families = sorted({mutants[id].family for id in found})
    lines = [f"{'':32}" + "".join(f"{n:>16}" for n in names)]
    groups = [(f, [id for id in found if mutants[id].family == f]) for f in families]
    backward = [id for id in found if not mutants[id].forward]
    for label, ids in [
        *groups,
        ("all but consistent forward ones", backward),
        ("all", list(found)),
    ]:
        cells = []
        for n in names:
            verdicts = [found[id][n] for id in ids if found[id].get(n) is not None]
            share = f"{100 * sum(verdicts) / max(1, len(verdicts)):.0f} %"
            cells.append(f"{sum(verdicts)}/{len(verdicts)} {share:>5}")
        lines.append(f"{label:32}" + "".join(f"{c:>16}" for c in cells))
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rivals",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--ids", nargs="*", help="only these mutants")
    parser.add_argument("--json", type=Path, help="write the verdicts to this file")
    options = parser.parse_args()
    pairs = [id for id, m in mutants.items() if specimens[m.specimen].kind in ("op", "recurrence")]
    found = experiment(options.ids or pairs)
    print(table(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
