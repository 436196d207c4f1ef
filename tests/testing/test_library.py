"""Every op and every cell of minigrad under minigrad's own checker: a test a law."""

import os

import pytest
from mutants.power import CELLS
from samples.calls import OPS, SAME

import minigrad as mg
from minigrad.ops import __all__ as PUBLIC
from minigrad.testing import check_cell, check_op

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "dev")
EXAMPLES = {"dev": 20, "ci": 40, "nightly": 1000, "release": 10_000}[PROFILE]


def check_of(name):
    how = dict(OPS[name])
    return check_op(how.pop("f"), name=name, examples=EXAMPLES, **how).check


OP_CHECKS = {name: check_of(name) for name in OPS}
CELL_CHECKS = {
    name: check_cell(make, name=name, examples=EXAMPLES).check for name, make in CELLS.items()
}


def cases(checks):
    """A case for each law that applies; the others are not tests that were left out."""
    for name, check in checks.items():
        for id, law in check.laws.items():
            if reason := check.skip.get(id) or law.unless(check.info):
                yield (
                    pytest.param(name, id, id=f"{id}-{name}", marks=pytest.mark.skip(reason))
                    if (id in check.skip)
                    else None
                )
            else:
                yield pytest.param(name, id, id=f"{id}-{name}")


def all_cases(checks):
    return [case for case in cases(checks) if case is not None]


def test_every_public_op_is_called_somehow():
    assert {*OPS, *SAME} == set(PUBLIC)
    assert all(getattr(mg, a) is getattr(mg, b) for a, b in SAME.items())


@pytest.mark.parametrize(("name", "law"), all_cases(OP_CHECKS))
def test_op(name, law):
    check = OP_CHECKS[name]
    check.demand(check.run_law(law, seed=None if PROFILE in ("nightly", "release") else 0))


@pytest.mark.parametrize(("name", "law"), all_cases(CELL_CHECKS))
def test_cell(name, law):
    check = CELL_CHECKS[name]
    check.demand(check.run_law(law, seed=None if PROFILE in ("nightly", "release") else 0))
