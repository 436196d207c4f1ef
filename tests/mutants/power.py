"""The power of the checker: which law finds which seeded bug, how soon, and what it says of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from samples.calls import OPS

import minigrad as mg
from minigrad.testing import check_cell, check_op
from minigrad.testing import strategies as mgst
from minigrad.testing.check import Check
from minigrad.testing.replay import snippet
from minigrad.testing.run import EXAMPLES
from minigrad.testing.shrink import numbers
from minigrad.testing.strategies import Structure

from . import mutant, mutants, specimens
from .structures import STRUCTURES, inputs

TESTS = Path(__file__).parent.parent

# In this order a law is tried on a mutant: the sharpest first. Those not named follow.
# What keeps something between calls first, as other laws would find that on one example and not on
# the next.
FIRST = ("P5", "P7", "C1", "C7", "C6", "P2", "P4", "C14", "C3")


@dataclass
class Kill:
    """How a mutant was found: by which law, after how many examples of it, with which examples'
    numbers, which causes the report names, and whether its snippet fails again."""

    id: str
    law: str = ""
    examples: int = 0
    numbers: int | None = None
    causes: list[str] = field(default_factory=list)
    snippet: bool | None = None
    resolution: float = 0.0
    text: str = ""


# --- what is checked -----------------------------------------------------------------------------


def check_of_specimen(name: str, origin: str | None = None) -> Check:
    """The check that a person would write for a specimen."""
    s = specimens[name]
    pair = (s.forward, s.vjp)
    if s.kind == "op":
        made = check_op(pair, name=name, reference=s.reference, origin=origin,
                        **inputs(STRUCTURES[name]))  # fmt: skip
    else:
        made = check_cell(pair, name=name, shapes=s.shapes, reference=s.reference, origin=origin)
    return made.check  # type: ignore[attr-defined]


def rnn_cell_relu(input_size, hidden_size, dtype=np.float64, rng=None):
    """The RNN of a relu."""
    return mg.nn.RNNCell(input_size, hidden_size, nonlinearity="relu", dtype=dtype, rng=rng)


def lstm_cell_sigmoid(input_size, hidden_size, dtype=np.float64, rng=None):
    """The LSTM of the book."""
    return mg.nn.LSTMCell(input_size, hidden_size, candidate="sigmoid", dtype=dtype, rng=rng)


def lstm_cell_peephole(input_size, hidden_size, dtype=np.float64, rng=None):
    """The LSTM whose gates look at the cell."""
    return mg.nn.LSTMCell(input_size, hidden_size, peephole=True, dtype=dtype, rng=rng)


def lstm_cell_peephole_sigmoid(input_size, hidden_size, dtype=np.float64, rng=None):
    """The LSTM of the book with gates that look at the cell."""
    return mg.nn.LSTMCell(
        input_size, hidden_size, peephole=True, candidate="sigmoid", dtype=dtype, rng=rng
    )


def gru_cell_before(input_size, hidden_size, dtype=np.float64, rng=None):
    """The GRU that resets before the product."""
    return mg.nn.GRUCell(input_size, hidden_size, reset="before", dtype=dtype, rng=rng)


CELLS: dict[str, Callable] = {
    "RNNCell": mg.nn.RNNCell,
    "RNNCell relu": rnn_cell_relu,
    "LSTMCell": mg.nn.LSTMCell,
    "LSTMCell sigmoid": lstm_cell_sigmoid,
    "LSTMCell peephole": lstm_cell_peephole,
    "LSTMCell peephole sigmoid": lstm_cell_peephole_sigmoid,
    "GRUCell": mg.nn.GRUCell,
    "GRUCell before": gru_cell_before,
}

# Functions in which parts of the engine meet.
FUNCTIONS: dict[str, tuple[Callable, Structure]] = {
    "weight twice": (lambda x, w: mg.matmul(x, w) + w, mgst.arrays((3, 3), (3, 3))),
}

# Which check sees what is wrong with a part of the engine, or with a promise of the kernels.
ENGINE = {
    "HL1": "function:weight twice",
    "engine:accumulate": "op:multiply",
    "engine:diamond": "op:multiply",
    "engine:exceptions": "op:multiply",
    "engine:second order": "op:tanh",
    "engine:written": "cell:RNNCell",
    "engine:deep": "cell:RNNCell",
    "engine:checkpoint": "cell:RNNCell",
    "engine:tbptt": "cell:LSTMCell",
    "state:float": "op:matmul",
    "bits:isa": "cell:LSTMCell",
    "bits:threads": "cell:LSTMCell",
}


def check_of_subject(subject: str, origin: str | None = None) -> Check:
    """The check of a part of minigrad: "op:multiply", "cell:LSTMCell"."""
    kind, _, name = subject.partition(":")
    if kind == "op":
        how = dict(OPS[name])
        made = check_op(how.pop("f"), name=name, origin=origin, **how)
    elif kind == "function":
        f, structure = FUNCTIONS[name]
        made = check_op(f, name=name, inputs=structure, origin=origin)
    else:
        made = check_cell(CELLS[name], origin=origin)
    return made.check  # type: ignore[attr-defined]


def check_of(id: str) -> Check:
    """The check that ought to find a mutant."""
    origin = (
        f"import sys\nsys.path.insert(0, {str(TESTS)!r})\n"
        f"from mutants import mutant, specimens\non = mutant({id!r})\non.__enter__()\n"
    )
    m = mutants[id]
    if specimens[m.specimen].kind in ("op", "recurrence"):
        origin += f"s = specimens[{m.specimen!r}]\nf = s.forward, s.vjp"
        return check_of_specimen(m.specimen, origin)
    from . import engine, native

    SUBJECTS = engine.SUBJECTS | native.SUBJECTS
    subject = ENGINE.get(id) or ENGINE.get(SUBJECTS[id], SUBJECTS[id])
    kind, _, name = subject.partition(":")
    origin += {
        "op": f"from samples.calls import OPS\nf = OPS[{name!r}]['f']",
        "function": f"from mutants.power import FUNCTIONS\nf = FUNCTIONS[{name!r}][0]",
        "cell": f"from mutants.power import CELLS\nf = CELLS[{name!r}]",
    }[kind]
    return check_of_subject(subject, origin)


# --- the hunt ------------------------------------------------------------------------------------


def in_order(check: Check, law: str | None = None) -> list[str]:
    """The laws of a check: one that is expected to find the bug, the sharpest, the others."""
    first = [id for id in (law, *FIRST) if id in check.laws]
    return list(dict.fromkeys([*first, *check.laws]))


def hunt(
    check: Check,
    id: str,
    seed: int,
    examples: int = EXAMPLES,
    whole: bool = False,
    law: str | None = None,
) -> Kill | None:
    """The first law that finds a bug in what is checked; None if no law does.

    whole: with the minimal example and the report, too. law: which to try first.
    """
    for tried in in_order(check, law):
        result = check.run_law(tried, examples, seed, shrink=whole)
        if result.verdict != "fail":
            continue
        kill = Kill(id, tried, result.examples, resolution=result.resolution)
        if whole:
            report = check.report(result)
            kill.numbers = numbers(result.example, check.info)
            kill.causes = [c.name for c in report.causes()]
            kill.text = report.text()
            kill.snippet = fails_again(snippet(check.info, result.law, result.example))
        return kill
    return None


def fails_again(text: str) -> bool:
    """Whether a snippet fails in a fresh process, for the reason that it is about."""
    made = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=120, check=False
    )
    return made.returncode == 1 and "does not hold" in made.stdout + made.stderr


def find(
    id: str, seed: int, examples: int = EXAMPLES, whole: bool = False, law: str | None = None
) -> Kill | None:
    """How the checker finds a mutant, if it does."""
    m = mutants[id]
    with np.errstate(all="ignore"):
        if m.macro is not None:
            return find_native(id, seed, examples, whole, law)
        with mutant(id):
            return hunt(check_of(id), id, seed, examples, whole, law)


def find_native(
    id: str, seed: int, examples: int, whole: bool, law: str | None = None
) -> Kill | None:
    """The same in a process that runs the mutated extension."""
    from .native import SUBJECTS, run

    subject = ENGINE.get(SUBJECTS[id], SUBJECTS[id])
    if not subject.startswith(("op:", "cell:")):  # guard pages, poisoned memory, two threads, ...
        with mutant(id):
            return Kill(id, "probe", 1) if mutants[id].shows() else None
    code = (
        f"import sys; sys.path.insert(0, {str(TESTS)!r})\n"
        "import json\nfrom dataclasses import asdict\nfrom mutants.power import *\n"
        f"check = check_of_subject({subject!r})\n"
        f"kill = hunt(check, {id!r}, {seed}, {examples}, {whole}, {law!r})\n"
        "print('KILL', json.dumps(kill and asdict(kill)))\n"
    )
    made = run(id, code)
    for line in made.stdout.splitlines():
        if line.startswith("KILL "):
            found = json.loads(line[5:])
            return Kill(**found) if found else None
    return Kill(id, "crash", 1)  # the process died of it


# --- the table -----------------------------------------------------------------------------------


def table(kills: dict[str, Kill | None]) -> str:
    """Kills by class, and by law."""
    lines = ["class                        killed", ""]
    for family in sorted({mutants[id].family for id in kills}):
        ids = [id for id in kills if mutants[id].family == family]
        dead = [id for id in ids if kills[id]]
        lines.append(f"{family:28} {len(dead)}/{len(ids)}")
    dead = [k for k in kills.values() if k]
    lines += [f"{'all':28} {len(dead)}/{len(kills)}", ""]
    laws: dict[str, int] = {}
    for k in dead:
        laws[k.law] = laws.get(k.law, 0) + 1
    lines.append(
        "by law: " + ", ".join(f"{law} {n}" for law, n in sorted(laws.items(), key=lambda p: -p[1]))
    )
    firsts = sorted(k.examples for k in dead)
    if firsts:
        lines.append(
            f"examples until the first kill: median {firsts[len(firsts) // 2]}, "
            f"90 % within {firsts[int(0.9 * (len(firsts) - 1))]}, at most {firsts[-1]}"
        )
    counted = sorted(k.numbers for k in dead if k.numbers is not None)
    if counted:
        lines.append(f"numbers of a minimal example: median {counted[len(counted) // 2]}")
        named = [id for id, k in kills.items() if k and k.causes and right(id, k.causes[0])]
        listed = [id for id, k in kills.items() if k and any(right(id, c) for c in k.causes)]
        lines.append(
            f"right cause named first: {len(named)}/{len(dead)}, among those named: "
            f"{len(listed)}/{len(dead)}"
        )
        again = [k for k in dead if k.snippet]
        lines.append(f"snippets that fail again in a fresh process: {len(again)}/{len(dead)}")
    survivors = [id for id, k in kills.items() if not k]
    if survivors:
        lines += ["", "survivors:"]
        lines += [f"  {id}: {mutants[id].specimen}: {mutants[id].description}" for id in survivors]
    return "\n".join(lines)


def right(id: str, cause: str) -> bool:
    """Whether a named cause is one of those that the mutant allows."""
    return cause in mutants[id].cause.split("|")


def experiment(
    ids: Iterable[str],
    seed: int,
    examples: int = EXAMPLES,
    whole: bool = False,
    tell=None,
    known: dict[str, Kill | None] | None = None,
) -> dict[str, Kill | None]:
    """How each mutant is found; known: how it was with another seed, whose law is tried first."""
    found = {}
    for id in ids:
        before = (known or {}).get(id)
        found[id] = find(id, seed, examples, whole, before.law if before else None)
        if tell is not None:
            tell(id, found[id])
    return found


def as_json(kills: dict[str, Kill | None]) -> str:
    return json.dumps({id: k and asdict(k) for id, k in kills.items()}, indent=1)
