"""Laws of what a recurrent cell is made of: units, biases, gates, and a reference: C21 to C23, C28.

They change the weights in a way whose effect is known. None of them looks into the cell: what an
axis of a weight stands for is found out from its length at other sizes.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ..cells import Cell, GRUCell, LSTMCell, RNNCell
from ..graph import Tensor
from .cell_info import CELL_LAWS, CellInfo
from .dots import top
from .example import Sequences, generator, signed
from .laws import Broken, NotApplicable, Trial, law
from .recurrence import Recurrence
from .runs import EPS, Batch, Results, against, batch, sample_cell

# --- what the axes stand for ---------------------------------------------------------------------


class Axis(NamedTuple):
    """Its length is units * H + features * I + fixed."""

    units: int
    features: int
    fixed: int


UNIT, FEATURE = Axis(1, 0, 0), Axis(0, 1, 0)
JOINED = Axis(1, 1, 0)  # one matrix for x and h side by side


@lru_cache(maxsize=64)
def axes_of(recurrence: Recurrence) -> dict[str, tuple[Axis, ...]]:
    """The axes of the parts of a state, of the weights, and of ys, without time and rows.

    Raises `NotApplicable` for a recurrence that does not come in all sizes.
    """
    found = []
    for I, H in ((3, 5), (3, 7), (4, 5)):  # noqa: E741
        try:
            sized = recurrence.at(I, H)
            run = batch(Trial(), CellInfo(recurrence), Sequences(1, 1, I, H)).run()
        except Exception as error:
            raise NotApplicable(f"it cannot be made with {H} units: {error}") from None
        shapes = dict(zip(sized.parts, sized.state, strict=True))
        found.append({**shapes, **sized.weights, "ys": run.ys.shape[2:]})
    forms = {}
    for name, first in found[0].items():
        more_units, more_features = found[1][name], found[2][name]
        axes = []
        for n, u, f in zip(first, more_units, more_features, strict=True):
            units, features = (u - n) // 2, f - n
            axes.append(Axis(units, features, n - 5 * units - 3 * features))
        forms[name] = tuple(axes)
    return forms


class Labelling(NamedTuple):
    """How units lie on an axis: gate by gate or unit by unit; and, joined, x first or h first."""

    by_gate: bool = True
    x_first: bool = True


def _labellings(axes: dict) -> list[Labelling]:
    """The ways in which a recurrence may have labelled its units, the usual one first."""
    all_axes = [a for form in axes.values() for a in form]
    gates = (True, False) if any([a.units > 1 for a in all_axes]) else (True,)
    order = (True, False) if JOINED in all_axes else (True,)
    return [Labelling(g, x) for g, x in itertools.product(gates, order)]


def _places(axis: Axis, order: np.ndarray, I: int, way: Labelling) -> np.ndarray | None:  # noqa: E741
    """The indices that put an axis in another order of units; None where it has no units."""
    H = len(order)
    if axis.units == 0:
        return None
    if axis == JOINED:
        x = np.arange(I)
        return np.concatenate([x, I + order] if way.x_first else [order, H + x])
    if axis.features or axis.fixed:
        raise NotApplicable("an axis whose meaning is not known: neither units nor features")
    block = np.arange(axis.units)
    if way.by_gate:
        return (block[:, None] * H + order).reshape(-1)
    return (order[:, None] * axis.units + block).reshape(-1)


def _reordered(a: np.ndarray, axes: tuple, leading: int, order, I: int, way) -> np.ndarray:  # noqa: E741
    for i, axis in enumerate(axes):
        places = _places(axis, order, I, way)
        if places is not None:
            a = np.take(a, places, leading + i)
    return a


def misfit(of: Batch, got: Results, expected: Results, when: str) -> Broken | None:
    """What is wrong with outputs, if something is: a try of one way among several."""
    try:
        replace(of, trial=Trial()).agree(got, Results(expected.outputs), when, exact=False)
    except Broken as broken:
        return broken
    return None


# --- families ------------------------------------------------------------------------------------


def family(info: CellInfo) -> str | None:
    """ "lstm" or "gru" where the letters of gates say so, "rnn" of an RNNCell; None of others, and
    of variants without the tanh that makes the signs and the saturated gates of a family."""
    if info.family:
        return info.family
    cell = sample_cell(info)[0]
    if isinstance(cell, LSTMCell) and cell.candidate != "tanh":
        return None
    if isinstance(cell, RNNCell) and cell.nonlinearity != "tanh":
        return None
    letters = {"".join(sorted(g)) for g in info.gates.values()}
    if "fgio" in letters:
        return "lstm"
    if "nrz" in letters:
        return "gru"
    return "rnn" if isinstance(cell, RNNCell) else None


def _letters(info: CellInfo, of: Batch) -> dict[str, str]:
    """The letters of the gates of each weight; "h" where there is one block."""
    if family(info) == "rnn":
        return dict.fromkeys(of.weights, "h")
    return info.gates


def _rows(letters: str, gate: str, H: int) -> slice:
    at = letters.index(gate)
    return slice(at * H, (at + 1) * H)


# --- C21 -----------------------------------------------------------------------------------------

ODD = {"lstm": "g", "gru": "n", "rnn": "h"}  # gates that change sign with the state


def _own_units(cell: Cell, H: int) -> bool:
    """Whether a cell has numbers for each unit that are no parameters, and differ."""
    learned = {id(p) for p in cell.parameters()}
    for value in vars(cell).values():
        if isinstance(value, np.ndarray | Tensor) and id(value) not in learned:
            a = value.data if isinstance(value, Tensor) else value
            if H in a.shape and np.ptp(a) != 0:
                return True
    return False


def _fixed_units(info: CellInfo) -> str | None:
    cell, _, units = sample_cell(info)
    if cell is not None and _own_units(cell, units):
        return "it holds numbers for each unit that are no parameters"
    return None


@law(CELL_LAWS, "C21", "units have no order, and no sign", _fixed_units, 0.3)
def C21(trial: Trial, info: CellInfo, example: Sequences):
    """R(P xs, P s0, P weights) = P R(xs, s0, weights), P another order of the units: outputs, last
    states, gradients. With known gates also S in place of P, the signs of some units: only the
    gates between -1 and 1 (g of an LSTM, n of a GRU) change theirs.

    Axes are found by their lengths at other sizes; gates may lie one after the other, or unit by
    unit, a joined matrix may begin with x or with h: one of these must fit. Catches an order of
    gates that differs between the matrices, or backwards; a peephole that is a full matrix; units
    treated by place, as in the tail of a vector.
    """
    example = replace(example, H=max(2, example.H))
    of = batch(trial, info, example)
    axes = axes_of(info.recurrence)
    order = generator(example.seed, 30).permutation(example.H)
    if (order == np.arange(example.H)).all():
        order = np.roll(order, 1)
    base, gs = of.base, of.gs
    first: Broken | None = None
    for way in _labellings(axes):
        expected = Results(*[
            {k: _turn(of, axes, k, a, order, way) for k, a in kind.items()} for kind in base
        ])  # fmt: skip
        arrays = {k: _turn(of, axes, k, a, order, way) for k, a in of.arrays.items()}
        cotangents = [
            _turn(of, axes, k, g, order, way) for k, g in zip(base.outputs, gs, strict=True)
        ]
        got = of.at(arrays).results(cotangents)
        what = "with units in another order"
        if wrong := misfit(of, got, expected, what):
            first = first or wrong
            continue
        of.agree(got, expected, what, exact=False)
        break
    else:
        raise first  # type: ignore[misc]
    _signs(info, of, axes)


def _turn(of: Batch, axes: dict, name: str, a: np.ndarray, order, way: Labelling) -> np.ndarray:
    """One array, an argument or an output, with its units in another order."""
    if name == "xs":
        return a
    key, leading = name, 0
    if name == "ys":
        leading = 2
    elif name not in of.weights:
        key, leading = name.removesuffix("0"), 1
        key = key if key in axes else name
    return _reordered(a, axes[key], leading, order, of.example.I, way)


def _signs(info: CellInfo, of: Batch, axes: dict) -> None:
    """The second half of C21: some units change sign."""
    kind = family(info)
    letters = _letters(info, of)
    plain = [(UNIT,), (FEATURE,), (UNIT, UNIT)]
    if kind is None or axes["ys"] != (UNIT,):
        return
    rows = {}
    for name in of.weights:
        own = letters.get(name, "")
        columns = axes[name][1:]
        if ODD[kind] not in own or len(own) != {"lstm": 4, "gru": 3, "rnn": 1}[kind]:
            return
        if columns and columns not in (plain[0], plain[1]):
            return
        rows[name] = own
    sign = np.where(generator(of.example.seed, 31).random(of.example.H) < 0.5, -1.0, 1.0)
    sign[0] = -1.0

    def turned(name, a):
        if name == "xs":
            return a
        if name not in of.weights:
            return a * sign
        by_row = np.concatenate([
            sign if g == ODD[kind] else np.ones_like(sign) for g in rows[name]
        ])  # fmt: skip
        a = a * by_row.reshape(-1, *[1] * (a.ndim - 1))
        return a * sign if axes[name][1:] == (UNIT,) else a

    expected = Results(*[{k: turned(k, a) for k, a in part.items()} for part in of.base])
    turned_of = of.at({k: turned(k, a) for k, a in of.arrays.items()})
    got = turned_of.results([g * sign for g in of.gs])
    of.agree(got, expected, "with the sign of some units changed", exact=False)


# --- C22 -----------------------------------------------------------------------------------------


def _biases(info: CellInfo) -> list[str]:
    """The weights that are biases: by their names, and of one axis of units."""
    try:
        axes = axes_of(info.recurrence)
    except NotApplicable:
        return []
    return [
        name
        for name in info.recurrence.at(3, 5).weights
        if re.fullmatch(r"bias.*|b|b_\w+|b[a-z]{0,2}\d*", name.split(".")[-1].lower())
        and len(axes[name]) == 1
        and axes[name][0] == Axis(axes[name][0].units, 0, 0) != Axis(0, 0, 0)
    ]


def _no_bias(info: CellInfo) -> str | None:
    return None if _biases(info) else "no bias"


def _alike(name: str, bias: str) -> int:
    """How much the ends of two names agree, so that W_i comes with b_i."""
    pairs = zip(reversed(name), reversed(bias), strict=False)
    return len(list(itertools.takewhile(lambda p: p[0] == p[1], pairs)))


@law(CELL_LAWS, "C22", "a bias is the weight of a feature that is always 1", _no_bias, 0.3)
def C22(trial: Trial, info: CellInfo, example: Sequences):
    """R(xs, b + d, W) = R([xs, 1], b, [W, d]), and the gradient of the new column is that of b. Of
    two biases: where what moves from one to the other changes nothing, their gradients are equal.

    Every matrix with a bias of as many rows must have one for which the first part holds. The
    second is demanded of an RNN and an LSTM in all rows, of a GRU in those of r and z: in the gate
    n, r scales one of the two by design. Catches a bias that counts twice, forward or back, one
    that is not there, its gradient summed over the last step or a mean of rows.
    """
    biases = _biases(info)
    axes = axes_of(info.recurrence)
    of = batch(trial, info, example)
    for W, form in axes.items():
        if W not in of.weights:
            continue
        inner = [i for i, a in enumerate(form) if a in (FEATURE, JOINED)]
        outer = [a for a in form if a.units and not a.features and not a.fixed]
        partners = [b for b in biases if len(outer) == 1 == len(inner) and axes[b][0] == outer[0]]
        if not partners:
            continue
        partners.sort(key=lambda b: -_alike(W, b))
        _feature(info, of, W, inner[0], partners)
    if len(biases) == 2 and axes[biases[0]] == axes[biases[1]]:
        _moved_between(info, of, biases)


def _widened(info: CellInfo, of: Batch, W: str, column: np.ndarray, x_first: bool):
    """The batch with a feature more, always 1, whose column in W is given and 0 in other matrices;
    and, for each matrix that got a column, how to take it out again."""
    axes = axes_of(info.recurrence)
    sized = info.recurrence.at(of.example.I + 1, of.example.H)
    if any([a.features for part in sized.parts for a in axes[part]]):
        raise NotApplicable("a state that grows with the features")
    weights, cut = {}, {}
    for name, w in of.weights.items():
        inner = [i for i, a in enumerate(axes[name]) if a.features]
        if not inner:
            weights[name] = w
            continue
        if axes[name][inner[0]] not in (FEATURE, JOINED) or w.ndim != 2:
            raise NotApplicable("an axis whose meaning is not known: neither units nor features")
        joined = axes[name][inner[0]] == JOINED and not x_first
        at = of.example.I + joined * of.example.H
        new = column if name == W else np.zeros_like(column, shape=w.shape[1 - inner[0]])
        weights[name] = np.insert(w, at, new, axis=inner[0])
        cut[name] = (at, inner[0])
    xs = np.concatenate([of.xs, np.ones((*of.xs.shape[:-1], 1), of.xs.dtype)], -1)
    return replace(of, sized=sized, xs=xs, weights=weights), cut


def _feature(info, of: Batch, W: str, inner: int, partners: list[str]) -> None:
    """The first part of C22, for one matrix; some bias must fit."""
    first: Broken | None = None
    x_firsts = (True, False) if axes_of(info.recurrence)[W][inner] == JOINED else (True,)
    for bias, x_first in itertools.product(partners, x_firsts):
        d = 0.5 * signed(of.weights[bias].shape, of.example.seed, 32)
        shifted = of.at({bias: of.weights[bias] + d})
        expected = shifted.base
        wide, cut = _widened(info, of, W, d, x_first)
        got = wide.results()
        what = f"with {bias} as the weight of a feature in {W}"
        if wrong := misfit(shifted, got, expected, what):
            first = first or wrong
            continue
        column = np.take(got.gradients[W], cut[W][0], cut[W][1])
        narrow = {
            k: np.delete(g, *cut[k]) if k in cut else g[..., :-1] if k == "xs" else g
            for k, g in got.gradients.items()
        }
        shifted.agree(Results(got.outputs, narrow), expected, what, exact=False)
        own = expected.gradients[bias]
        of.trial.close(
            own, column, 2 * shifted.bar("gradients", bias, own, column),
            f"the gradient of {bias} as that of a feature in {W}",
            input=bias, axes=("unit",), facts=of.facts(gradients=expected.gradients),
        )  # fmt: skip
        return
    raise first  # type: ignore[misc]


def _moved_between(info, of: Batch, biases: list[str]) -> None:
    """The second part of C22: what moves from one bias to the other."""
    one, two = biases
    blocks = axes_of(info.recurrence)[one][0].units
    letters = _letters(info, of).get(one, "0123456789"[:blocks])
    kind = family(info)
    demanded = {"lstm": "ifgo", "rnn": "h", "gru": "rz"}.get(kind or "", "")
    for gate in letters if kind is None else demanded:
        rows = _rows(letters, gate, of.example.H)
        d = np.zeros(of.weights[one].shape)
        d[rows] = 0.5 * signed((of.example.H,), of.example.seed, 33)
        run = of.at({one: of.weights[one] + d, two: of.weights[two] - d}).run()
        what = f"with a part of {one} moved to {two}, gate {gate}"
        if wrong := misfit(of, Results(of.outputs(run)), of.base, what):
            if gate in demanded:
                raise wrong
            continue
        first, second = (of.base.gradients[name][rows] for name in biases)
        of.trial.close(
            first, second, sum([of.bar("gradients", name, first, second) for name in biases]),
            f"the gradient of {one} as that of {two}, gate {gate}",
            input=one, axes=("unit",), facts=of.facts(gradients=of.base.gradients),
        )  # fmt: skip


# --- C23 -----------------------------------------------------------------------------------------

FAR = 40.0  # sigmoid(40) is 1 in float64, and sigmoid(-40) 4e-18


def _no_family(info: CellInfo) -> str | None:
    kind = family(info)
    if kind is None:
        return "no family known: say the letters of its gates (gates=)"
    return None if kind == "rnn" or _biases(info) else "no bias to saturate its gates with"


class Case(NamedTuple):
    """A batch whose outcome is known: outputs and gradients by name, within a bar."""

    what: str
    batch: Batch
    cotangents: list
    outputs: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]
    bar: float


@law(CELL_LAWS, "C23", "saturated gates keep, forget and halve what they should", _no_family, 0.3)
def C23(trial: Trial, info: CellInfo, example: Sequences):
    """LSTM, f open and i closed: c(T) = c(0), and dc(0) = dc(T); f closed, i open, g at 1: c = 1,
    and h = 0 with o closed, tanh 1 with o open. GRU, z open: h(T) = h(0), and dh(0) = dh(T); r and
    z closed: dh(0) = 0 from dh(T). All weights 0: what is kept is halved at each step, and so is
    its gradient. RNN, of numbers so small that tanh x = x, with U = 1: h(T) = h(0) + sum of
    W x(t), and dh(0) = dh(T) + sum of dy(t).

    The gates are those that the letters name (`gates=`). Catches gates in another order, also one
    that is consistent, so that every gradient is right; f and i, or z and 1 - z exchanged; a state
    that is not carried; factors missing in the chain.
    """
    of = batch(trial, info, example)
    kind = family(info) or ""
    if len(of.state) != {"lstm": 2, "gru": 1, "rnn": 1}[kind]:
        raise NotApplicable("a state of other parts than its family has")
    steps = np.full(example.N, example.T) if of.lengths is None else of.lengths
    for case in _CASES[kind](info, of, steps):
        run = case.batch.run()
        outputs = case.batch.outputs(run)
        gradients = case.batch.gradients(run, case.cotangents)
        for expected, found, what in (
            (case.outputs, outputs, ""), (case.gradients, gradients, "the gradient of "),
        ):  # fmt: skip
            for name, value in expected.items():
                trial.close(
                    found[name], value, case.bar, f"{what}{name}, {case.what}",
                    input=name if what else None, axes=of.axes(name),
                    facts=of.facts(gradients=gradients),
                )  # fmt: skip


def _saturated(info: CellInfo, of: Batch, **gates: float) -> Batch:
    """The batch with some gates at a fixed place: the bias there, all other weights of them 0."""
    letters, axes = _letters(info, of), axes_of(info.recurrence)
    blocks = {k: own for k, own in letters.items() if axes[k][0] == Axis(len(own), 0, 0)}
    carrying = [b for b in _biases(info) if set(gates) <= set(blocks.get(b, ""))]
    if not carrying:
        raise NotApplicable("no bias whose gates are all known")
    new = {k: np.array(w) for k, w in of.weights.items()}
    for gate, value in gates.items():
        for name, own in blocks.items():
            if gate in own:
                rows = _rows(own, gate, of.example.H)
                new[name][rows] = value if name == carrying[0] else 0.0
    return replace(of, weights=new)


def _without_weights(of: Batch) -> Batch:
    return replace(of, weights={k: np.zeros_like(w) for k, w in of.weights.items()})


def _noise(of: Batch) -> float:
    """What rounding, and gates that are closed up to 4e-18, leave after T steps."""
    sizes = [1.0, *[top(a) for a in (*of.state, *of.weights.values())]]
    return 64 * EPS * (1 + len(of.xs)) * of.example.H * max(sizes) ** 2


def _lstm_cases(info: CellInfo, of: Batch, steps: np.ndarray) -> Iterator[Case]:
    h0, c0 = of.state
    ran, share = steps[:, None] > 0, 0.5 ** steps[:, None].astype(float)
    dc = of.example.cotangents([c0])[0]
    only_c, bar = [None, None, dc], _noise(of)
    open_f = _saturated(info, of, f=FAR, i=-FAR)
    yield Case("f open, i closed", open_f, only_c, {"c": c0}, {"c0": dc}, bar)
    for o, out, word in ((-FAR, 0.0, "closed"), (FAR, np.tanh(1.0), "open")):
        yield Case(
            f"f closed, i open, g at 1, o {word}", _saturated(info, of, f=-FAR, i=FAR, g=FAR, o=o),
            only_c, {"c": np.where(ran, 1.0, c0), "h": np.where(ran, out, h0)},
            {"c0": np.where(ran, 0.0, dc)}, bar,
        )  # fmt: skip
    yield Case(
        "all weights 0", _without_weights(of), only_c,
        {"c": c0 * share, "h": np.where(ran, np.tanh(c0 * share) / 2, h0)}, {"c0": dc * share}, bar,
    )  # fmt: skip


def _gru_cases(info: CellInfo, of: Batch, steps: np.ndarray) -> Iterator[Case]:
    (h0,) = of.state
    ran, share = steps[:, None] > 0, 0.5 ** steps[:, None].astype(float)
    dh = of.example.cotangents([h0])[0]
    only_h, bar = [None, dh], _noise(of)
    yield Case("z open", _saturated(info, of, z=FAR), only_h, {"h": h0}, {"h0": dh}, bar)
    closed = _saturated(info, of, r=-FAR, z=-FAR)
    yield Case("r and z closed", closed, only_h, {}, {"h0": np.where(ran, 0.0, dh)}, bar)
    yield Case(
        "all weights 0", _without_weights(of), only_h, {"h": h0 * share}, {"h0": dh * share}, bar
    )


def _rnn_cases(info: CellInfo, of: Batch, steps: np.ndarray) -> Iterator[Case]:
    axes, tiny = axes_of(info.recurrence), 2.0**-26
    forms = {name: axes[name] for name in of.weights}
    biases = _biases(info)
    W = [k for k, form in forms.items() if form == (UNIT, FEATURE)]
    U = [k for k, form in forms.items() if form == (UNIT, UNIT)]
    if len(W) != 1 or len(U) != 1 or {*W, *U, *biases} != set(forms) or axes["ys"] != (UNIT,):
        raise NotApplicable("weights other than W (H, I), U (H, H) and biases")
    w, h0, xs = of.weights[W[0]], of.state[0] * tiny, of.xs * tiny
    zeros = {b: np.zeros_like(of.weights[b]) for b in biases}
    valid = (np.arange(len(xs))[:, None] < steps)[..., None]
    added = np.where(valid, xs @ w.T, 0)
    dys, dh = of.example.cotangents([added, h0])
    # tanh a = a - a^3 / 3 + ...: what is left out, at each step
    a = float((np.abs(h0) + np.abs(added).sum(0)).max(initial=0.0))
    total = dh + np.where(valid, dys, 0).sum(0)
    case = replace(of.at({**zeros, U[0]: np.eye(of.example.H)}), xs=xs, state=(h0,))
    noise = 64 * (1 + len(xs)) * EPS
    left_out = (1 + len(xs)) * a * a
    yield Case("U = 1, tiny numbers", case, [dys, dh], {"h": h0 + added.sum(0)}, {},
               a * (left_out + noise))  # fmt: skip
    yield Case("U = 1, tiny numbers", case, [dys, dh], {}, {"h0": total},
               float(np.abs(dh).sum() + np.abs(dys).sum()) * (left_out + noise))  # fmt: skip


_CASES: dict[str, Callable] = {"lstm": _lstm_cases, "gru": _gru_cases, "rnn": _rnn_cases}


# --- C28 -----------------------------------------------------------------------------------------


def _sigmoid(x):
    e = np.exp(np.where(x.real < 0, x, -x))
    return np.where(x.real < 0, e, 1) / (1 + e)


def _over_time(step: Callable, xs, state: list, lengths) -> list:
    """(ys, *last state) of plain code for one step."""
    ys = np.zeros((len(xs), *state[0].shape), np.result_type(xs, *state))
    for t, x in enumerate(xs):
        new = step(x, *state)
        valid = np.ones(len(x), bool) if lengths is None else t < np.asarray(lengths)
        ys[t] = np.where(valid[:, None], new[0], 0)
        state = [np.where(valid[:, None], n, s) for n, s in zip(new, state, strict=True)]
    return [ys, *state]


def _relu(x):
    return np.where(x.real > 0, x, 0)


def _plain_rnn(function: Callable) -> Callable:
    def plain_rnn(xs, h, W, U, b=0.0, a=0.0, lengths=None):
        return _over_time(lambda x, h: [function(x @ W.T + b + h @ U.T + a)], xs, [h], lengths)

    return plain_rnn


def _plain_lstm(candidate: Callable, peephole: bool) -> Callable:
    def plain_lstm(xs, h, c, W, U, *rest, lengths=None):
        n = h.shape[1]
        *biases, p = rest if peephole else (*rest, np.zeros(3 * n))
        p_i, p_f, p_o = (p[k * n : (k + 1) * n] for k in range(3))

        def step(x, h, c):
            z = x @ W.T + h @ U.T + sum(biases)
            i, f, g, o = (z[:, k * n : (k + 1) * n] for k in range(4))
            c = _sigmoid(f + p_f * c) * c + _sigmoid(i + p_i * c) * candidate(g)
            return [_sigmoid(o + p_o * c) * np.tanh(c), c]

        return _over_time(step, xs, [h, c], lengths)

    return plain_lstm


def _plain_gru(before: bool) -> Callable:
    def plain_gru(xs, h, W, U, b=0.0, a=0.0, lengths=None):
        def step(x, h):
            n = h.shape[1]
            cut = [slice(k * n, (k + 1) * n) for k in range(3)]
            bias = a if np.ndim(a) else np.zeros(3 * n)
            zx = x @ W.T + b
            zr, zz, zn = (h @ U[rows].T + bias[rows] for rows in cut)
            r, z = _sigmoid(zx[:, cut[0]] + zr), _sigmoid(zx[:, cut[1]] + zz)
            inner = (r * h) @ U[cut[2]].T + bias[cut[2]] if before else r * zn
            return [h + (1 - z) * (np.tanh(zx[:, cut[2]] + inner) - h)]

        return _over_time(step, xs, [h], lengths)

    return plain_gru


def reference_of(info: CellInfo) -> Callable | None:
    """The reference beside a recurrence: its own, or that of one of the library's cells."""
    if info.reference is not None or info.cell is None:
        return info.reference
    cell, *_ = sample_cell(info)
    if type(cell) is RNNCell:
        return _plain_rnn(np.tanh if cell.nonlinearity == "tanh" else _relu)
    if type(cell) is LSTMCell:
        return _plain_lstm(np.tanh if cell.candidate == "tanh" else _sigmoid, cell.peephole)
    if type(cell) is GRUCell:
        return _plain_gru(cell.reset == "before")
    return None


def _no_reference(info: CellInfo) -> str | None:
    return None if reference_of(info) else "no reference beside it (reference=)"


@law(CELL_LAWS, "C28", "it computes what its reference computes", _no_reference, 0.2)
def C28(trial: Trial, info: CellInfo, example: Sequences):
    """R(xs, s0, weights) = reference(xs, s0, weights): outputs and last states; and the gradients
    along a direction, g . (J d) = (J' g) . d, with J d of the reference by the complex step.

    The reference is plain NumPy, called like the forward of a pair; the library's cells bring
    theirs. Catches what is consistent and yet another function: a bias added twice, a peephole
    from the state before, a reset on the other side of the product, another order of gates.
    """
    against(batch(trial, info, example), reference_of(info))  # type: ignore[arg-type]
