"""The checker finds seeded bugs: a part of what `./build.sh mutants` measures, one seed.

Which are tried here follows from their names: one in six; `MINIGRAD_MUTANTS=all` tries all of
them.
"""

import os
import zlib

import numpy as np
import pytest
from mutants import mutants, specimens
from mutants.engine import SUBJECTS as OF_LIBRARY
from mutants.native import SUBJECTS as OF_NATIVE
from mutants.power import CELLS, ENGINE, FUNCTIONS, check_of_specimen, find, right
from mutants.structures import STRUCTURES
from samples.calls import OPS

EVERY = 1 if os.environ.get("MINIGRAD_MUTANTS") == "all" else 6
PYTHON = [id for id, m in mutants.items() if m.macro is None]
CHOSEN = [id for id in PYTHON if zlib.crc32(id.encode()) % EVERY == 0]


def test_every_mutant_has_a_check():
    for id, m in mutants.items():
        if specimens[m.specimen].kind == "op":
            assert m.specimen in STRUCTURES
        elif specimens[m.specimen].kind != "recurrence":
            subject = (OF_LIBRARY | OF_NATIVE)[id]
            kind, _, name = ENGINE.get(id, ENGINE.get(subject, subject)).partition(":")
            known = {"op": OPS, "cell": CELLS, "function": FUNCTIONS}
            assert name in known[kind] if kind in known else m.macro is not None, id


def test_there_are_enough_of_them():
    catalogue = {str(n) for n in range(1, 113)}
    numbers = {id.rstrip("abcdefg") for id in mutants}
    assert catalogue <= numbers and len(mutants) >= 300


@pytest.mark.parametrize("id", CHOSEN)
def test_it_is_found(id):
    kill = find(id, seed=0)
    assert kill is not None, f"{id} survives: {mutants[id].description}"


@pytest.mark.parametrize("name", [n for n in specimens if specimens[n].kind == "recurrence"][:2])
def test_correct_recurrences_pass(name):
    with np.errstate(all="ignore"):
        for result in check_of_specimen(name).run(20, seed=0):
            assert result.verdict in ("pass", "skip"), result.finding


@pytest.mark.parametrize(("id", "law"), [("1", "P2"), ("8", "P7"), ("59", "P7"), ("90", "C1")])
def test_a_bug_and_what_is_said_of_it(id, law):
    kill = find(id, seed=0, whole=True)
    assert kill is not None
    assert kill.law in (law, "P7")
    assert any(right(id, cause) for cause in kill.causes), kill.causes
    assert kill.snippet and kill.numbers is not None and kill.numbers <= 12, kill
    assert max(map(len, kill.text.splitlines())) <= 100
