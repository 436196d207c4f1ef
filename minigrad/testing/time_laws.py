"""Laws of a recurrent cell over time: C1 to C4, C10, C14, C20.

R(xs, s) = (ys, last s) is the recurrence on a sequence xs from the state s, with its gradients for
a cotangent of ys and of every part of the last state.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .case import Case, Named, needs_cell, total
from .cell_info import CELL_LAWS, CellInfo
from .example import Sequences, generator, signed
from .laws import Trial, law
from .recurrence import Run, step_of
from .subject import Traced


@law(CELL_LAWS, "C1", "a sequence in two pieces, the state carried, gives the same as in one")
def C1(trial: Trial, info: CellInfo, example: Sequences):
    """R(xs, s) = R(xs[k:], R(xs[:k], s)) for any cut k, 0 and T among them.

    Backwards the gradient of the second piece's initial state is the cotangent of the first one's
    last state; gradients of weights add up. Finds what is special at the first or last step of a
    call, or at a number of steps; a state that is not carried on; truncation.
    """
    case, k = Case(trial, info, example), min(example.cut, example.T)
    dys, dlast = case.dys, case.dlast
    before = after = None
    if case.lengths is not None:
        before, after = np.minimum(case.lengths, k), np.maximum(case.lengths - k, 0)
    first = case.at(xs=case.xs[:k], lengths=before)
    second = case.at(xs=case.xs[k:], state=first.last, lengths=after)
    which, facts = f"against two pieces, cut at step {k}", {"cut": k}
    trial.true(
        first.ys.shape[2:] == second.ys.shape[2:] == case.run.ys.shape[2:], f"ys {which}",
        f"(T, N, *{case.run.ys.shape[2:]})", f"shapes {first.ys.shape} and {second.ys.shape}",
        facts=case.facts(**facts),
    )  # fmt: skip
    pieces = Run(np.concatenate([first.ys, second.ys]), second.last, second.pull)
    case.agree_outputs(case.outputs(case.run), case.outputs(pieces), which, facts=facts)

    late = second.pull(dys[k:], dlast)
    early = first.pull(dys[:k], late.state)
    joined = case.slopes(early)
    joined["xs"] = np.concatenate([early.xs, late.xs])
    for name, g in late.weights.items():
        joined[name] = joined[name] + g
    whole = case.slopes(case.gradients)
    case.agree_gradients(whole, joined, which, loose=joined, facts=facts)


@law(CELL_LAWS, "C2", "weights collect the gradients of all steps, chained by hand", share=0.3)
def C2(trial: Trial, info: CellInfo, example: Sequences):
    """dW = the sum over t of dW(t), where step t is run by itself, from the state before it, and
    pulls back dy(t) and the gradient of the state after it.

    Finds a gradient of a weight that is overwritten at each step in place of added, or counted
    twice; steps left out; the state of another step in a product.
    """
    case = Case(trial, info, example)
    states = [case.state]
    for t in range(example.T):
        states.append(_step(case, t, states[-1]).last)
    after, steps, xs = case.dlast, [], []
    for t in reversed(range(example.T)):  # each step is run anew: nothing in between
        found = _step(case, t, states[t]).pull(case.dys[t : t + 1], after)
        after = found.state
        steps.append(found.weights)
        xs.append(found.xs)
    chained = {"xs": np.concatenate([*xs[::-1], case.xs[:0]])}
    chained |= dict(zip(case.sized.names[1:], after, strict=False))
    chained |= total([case.no_weights(), *steps])
    whole, facts = case.slopes(case.gradients), {"steps": _by_step(steps)}
    case.agree_gradients(whole, chained, "against step by step", loose=chained, facts=facts)


def _step(case: Case, t: int, state, weights: Named | None = None) -> Run:
    """Step t run by itself."""
    left = None if case.lengths is None else np.clip(case.lengths - t, 0, 1)
    return case.at(xs=case.xs[t : t + 1], state=state, weights=weights, lengths=left)


def _by_step(steps: list[Named]) -> Named:
    """The contributions (T, ...) of the steps, found newest first."""
    return {name: np.stack([s[name] for s in steps[::-1]]) for name in steps[0]} if steps else {}


@law(CELL_LAWS, "C3", "no steps: the state as it was, its gradients as they came", share=0.3)
def C3(trial: Trial, info: CellInfo, example: Sequences):
    """R((), s) = ((), s); ds = the cotangent of the last state, in memory of its own; dW = 0.

    Finds zeros returned for a state or its gradient, a cotangent handed back itself, so that who
    adds to one changes the other, and code that cannot do without a first step.
    """
    lengths = None if example.lengths is None else (0,) * example.N
    case = Case(trial, info, replace(example, T=0, lengths=lengths))
    facts = case.facts()
    case.agree_outputs(
        dict(zip(case.sized.parts, case.run.last, strict=True)),
        dict(zip(case.sized.parts, case.state, strict=True)), "after no steps", exact=True,
    )  # fmt: skip
    found = case.gradients
    state = dict(zip(case.sized.names[1:], case.dlast, strict=False))
    case.agree_gradients(case.slopes(found), state, "after no steps", exact=True)
    case.agree_gradients(case.slopes(found), case.no_weights(), "after no steps", exact=True)
    for i, (name, g) in enumerate(zip(case.sized.names[1:], found.state, strict=False)):
        for what, other in (
            *((f"the cotangent of the last {p}", d)
              for p, d in zip(case.sized.parts, case.dlast, strict=True)),
            *((n, a) for n, a in zip(case.sized.names, case.arguments(), strict=True)),
            *((f"the gradient of {n}", a)
              for n, a in zip(case.sized.names[1:], found.state[:i], strict=False)),
        ):  # fmt: skip
            trial.true(
                not np.shares_memory(g, other), f"the gradient of {name} after no steps",
                "memory of its own", f"that of {what}", input=name, facts=facts,
            )  # fmt: skip


@law(CELL_LAWS, "C4", "one step is the cell itself", needs_cell("a single step"), share=0.6)
def C4(trial: Trial, info: CellInfo, example: Sequences):
    """R((x), s) = cell(x, s), outputs and gradients.

    Finds code for a single step that differs from that for many, and a cell that is not called as
    it is when it is unfolded.
    """
    case = Case(trial, info, replace(example, T=1, lengths=None))
    n, cell = len(case.state), case.sized.cell
    assert cell is not None

    def step(x, *rest):
        weights = dict(zip(case.weights, rest[n:], strict=True))
        return step_of(cell, x, rest[:n], weights)

    args = [case.xs[0], *case.arguments()[1:]]
    outs, pull = Traced(step).linearise(args, {}, range(len(args)))
    got = dict(zip(("ys", *case.sized.parts), (outs[0][None], *outs[1:]), strict=True))
    case.agree_outputs(case.outputs(case.run), got, "of one step")
    found = [
        np.zeros_like(a) if g is None else g
        for a, g in zip(args, pull(case.dys[0], *case.dlast), strict=True)
    ]
    slopes = dict(zip(case.sized.names, [found[0][None], *found[1:]], strict=True))
    case.agree_gradients(case.slopes(case.gradients), slopes, "of one step")


@law(CELL_LAWS, "C10", "what comes later has no influence", share=0.7)
def C10(trial: Trial, info: CellInfo, example: Sequences):
    """ys[:k] and their gradients stay as they are when xs[k:] changes; d ys[:k] / d xs[k:] = 0.

    Finds code that reads a step ahead, an index that is one too far, and statistics taken over all
    of time.
    """
    case, k = Case(trial, info, example), min(example.cut, example.T)
    xs = np.array(case.xs)
    rng = generator(example.seed, 60)
    xs[k:] = rng.standard_normal(xs[k:].shape)
    other = case.at(xs=xs)
    facts, which = {"cut": k}, f"before step {k}, with other inputs from there on"
    early = {"ys": other.ys[:k]}
    case.agree_outputs(early, {"ys": case.run.ys[:k]}, which, facts=facts)

    dys = np.array(case.dys)
    dys[k:] = 0
    found = case.slopes(case.run.pull(dys))
    late = {"xs": found["xs"][k:]}
    zero = {"xs": np.zeros_like(late["xs"])}
    case.agree_gradients(
        late, zero, f"from step {k} on, for outputs before it", exact=True, facts=facts
    )
    case.agree_gradients(case.slopes(other.pull(dys)), found, f"of ys {which}", facts=facts)


@law(CELL_LAWS, "C14", "every cotangent counts, and every part of the initial state", share=0.6)
def C14(trial: Trial, info: CellInfo, example: Sequences):
    """The gradients for cotangents of ys, h(T), c(T), each one alone, add up to those for all at
    once; none of them is zero unless nothing depends, nor is that of any part of the initial state.

    A cotangent that is missing is one of zeros. What depends is found out by moving the arguments.
    Finds a cotangent of a last state that is ignored, and a gradient that never reaches a state.
    """
    case = Case(trial, info, example)
    n = len(case.state)
    alone = []
    for j, name in enumerate(("ys", *case.sized.parts)):
        only = [c if i == j else None for i, c in enumerate(case.cotangents)]
        found = case.run.pull(only[0], only[1:])
        alone.append(case.slopes(found))
        if not any(g.any() for g in alone[-1].values()):
            moved = _moves(case, range(len(case.sized.names)), j)
            what = name if name == "ys" else f"the last {name}"
            trial.true(
                not moved, f"the gradients for a cotangent of {what} alone",
                f"some that are not 0: it moves by {moved:.6g} along a direction", "only zeros",
                input=case.sized.names[0], facts=case.facts(gradients=alone[-1], output=name),
            )  # fmt: skip
    zeros = [np.zeros_like(c) for c in case.cotangents]
    explicit = case.slopes(case.run.pull(case.dys, zeros[1:]))
    case.agree_gradients(explicit, alone[0], "for zeros in place of missing cotangents")
    got, whole = total(alone), case.slopes(case.gradients)
    case.agree_gradients(whole, got, "for all cotangents at once", loose=got)
    for i, name in enumerate(case.sized.names[1 : 1 + n]):
        if not whole[name].any() and (moved := _moves(case, [1 + i], None)):
            trial.true(
                False, f"the gradient of {name}",
                f"not 0: the outputs move by {moved:.6g} along a direction", "only zeros",
                input=name, axes=case.axes(name, True, whole[name].ndim),
                facts=case.facts(gradients=whole),
            )  # fmt: skip


def _moves(case: Case, arguments, output: int | None) -> float:
    """The slope of one output, or of all, weighed with their cotangents, along a direction in some
    arguments; 0 if it is not clearly different from 0 on both sides."""
    h = 2.0**-16
    values = []
    for side in (0, 1, -1):
        args = [
            a.astype(np.float64)
            + (side * h * signed(a.shape, case.example.seed, 320, i) if i in arguments else 0)
            for i, a in enumerate(case.arguments())
        ]
        n = len(case.state)
        run = case.at(args[0], args[1 : 1 + n], dict(zip(case.weights, args[1 + n :], strict=True)))
        values.append(
            sum(
                float((c * o).sum())
                for j, (c, o) in enumerate(zip(case.cotangents, (run.ys, *run.last), strict=True))
                if output in (None, j)
            )
        )
    here, up, down = values
    right, left = (up - here) / h, (here - down) / h
    slope = (right + left) / 2
    return slope if abs(right - left) < abs(slope) / 8 and abs(slope) > 1e-6 else 0.0


@law(CELL_LAWS, "C20", "a shared weight gets the sum over separate copies", share=0.3)
def C20(trial: Trial, info: CellInfo, example: Sequences):
    """dW = the sum over t of dW(t) for T copies W(t) = W, one for each step, all in one graph.

    All steps go forward before the first goes back. Finds gradients that are kept for the wrong
    step, what one step leaves behind for another, and a cache that goes by the weights' identity.
    """
    case = Case(trial, info, example)
    steps = _copies_of_cell(case) if info.cell else _copies_by_hand(case)
    summed, facts = total([case.no_weights(), *steps]), {"steps": _by_step(steps[::-1])}
    which = "against the sum over copies, one for each step"
    case.agree_gradients(case.gradients.weights, summed, which, loose=summed, facts=facts)


def _copies_by_hand(case: Case) -> list[Named]:
    runs, state, after = [], case.state, case.dlast
    for t in range(case.example.T):
        copies = {name: np.array(w) for name, w in case.weights.items()}
        runs.append(_step(case, t, state, copies))
        state = runs[-1].last
    found = []
    for t in reversed(range(len(runs))):
        g = runs[t].pull(case.dys[t : t + 1], after)
        after = g.state
        found.append(g.weights)
    return found[::-1]


def _copies_of_cell(case: Case) -> list[Named]:
    """The cell's own steps, in one graph, and one backward pass through all of it."""
    from ..ops import where

    T, n, cell = case.example.T, len(case.state), case.sized.cell
    assert cell is not None
    if T == 0:
        return []
    names, mask = list(case.weights), case.active

    def over(t, a, b):
        return where(mask[t].reshape(-1, *[1] * (a.ndim - 1)), a, b)

    def steps(*args):
        xs, state, copies = args[:T], list(args[T : T + n]), args[T + n :]
        ys = []
        for t in range(T):
            own = dict(zip(names, copies[t * len(names) :][: len(names)], strict=True))
            y, *new = step_of(cell, xs[t], state, own)
            ys.append(over(t, y, 0))
            state = [over(t, a, b) for a, b in zip(new, state, strict=True)]
        return (*ys, *state)

    args = [*case.xs, *case.state, *[np.array(w) for _ in range(T) for w in case.weights.values()]]
    _, pull = Traced(steps).linearise(args, {}, range(len(args)))
    found = pull(*case.dys, *case.dlast)[T + n :]
    filled = [
        np.zeros_like(a) if g is None else g for a, g in zip(args[T + n :], found, strict=True)
    ]
    return [dict(zip(names, filled[t * len(names) :][: len(names)], strict=True)) for t in range(T)]
