"""The seeded bugs in minigrad: each is there when planted, and gone without a trace after."""

import sys
from types import FunctionType

import pytest
from mutants import CAUSES, mutant, mutants, specimens
from mutants.engine import SUBJECTS

from minigrad.graph import is_grad_enabled, registry
from minigrad.nn import GRUCell, LSTMCell, RNNCell

IDS = list(SUBJECTS)


def attributes() -> dict[tuple, int]:
    """What is behind every name of minigrad's modules, classes and ops, by identity."""
    owners: dict[tuple, object] = {("op", name): op for name, op in registry.items()}
    for key, module in sorted(sys.modules.items()):
        if key == "minigrad" or key.startswith("minigrad."):
            owners[key,] = module
            for name, value in vars(module).items():
                if isinstance(value, type) and value.__module__ == key:
                    owners[key, name] = value
    found = {
        (*owner, name): id(value)
        for owner, thing in owners.items()
        for name, value in vars(thing).items()
    }
    fused = sys.modules["minigrad.unfold"].FUSED
    found |= {("FUSED", step): id(op) for step, op in fused.items()}
    return found | {("recording",): is_grad_enabled()}


def test_the_catalogue_is_whole():
    assert {str(n) for n in range(45, 56)} <= set(IDS)
    assert sum(id.startswith("HL") for id in IDS) >= 20


@pytest.mark.parametrize("id", IDS)
def test_a_bug_shows_when_it_is_planted(id: str):
    m = mutants[id]
    assert not m.shows()
    with mutant(id):
        assert m.shows()
    assert not m.shows()


@pytest.mark.parametrize("id", IDS)
def test_all_is_as_it_was_afterwards(id: str):
    before = attributes()
    with mutant(id):
        assert attributes() != before
    assert attributes() == before
    with pytest.raises(KeyError), mutant(id):
        mutants[id].shows()
        raise KeyError
    assert attributes() == before


@pytest.mark.parametrize("id", IDS)
def test_a_bug_says_what_it_is(id: str):
    m = mutants[id]
    assert m.specimen in specimens and specimens[m.specimen].kind == "library"
    assert m.family == "C engine" and m.patch is not None and m.description
    assert set(m.cause.split("|")) <= set(CAUSES)
    kind, _, name = SUBJECTS[id].partition(":")
    if kind == "op":
        assert name in registry or isinstance(getattr(sys.modules["minigrad"], name), FunctionType)
    elif kind == "cell":
        assert name in {c.__name__ for c in (RNNCell, LSTMCell, GRUCell)}
    else:
        assert kind == "engine"
