"""Sampling: the law of the draws, the chain from symbol to symbol, the seed."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad.decode import sample

P = np.array([0.5, 0.25, 0.2, 0.05, 0.0])


def fixed(logits):
    """A model whose distribution depends on nothing."""
    return lambda ids, state: (np.asarray(logits)[None, None], state)


def logits_of(p: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(p)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_frequencies_follow_the_softmax(temperature: float):
    """Hoeffding: P(|frequency - p| > e) <= 2 exp(-2 n e^2); e makes that 1e-9 for each symbol."""
    n = 20_000
    law = P ** (1 / temperature) / (P ** (1 / temperature)).sum()
    bound = math.sqrt(math.log(2 / 1e-9) / (2 * n))
    drawn = sample(fixed(logits_of(P)), 0, None, n, temperature, rng=3)
    frequencies = np.bincount(drawn, minlength=P.size) / n
    assert np.abs(frequencies - law).max() < bound
    assert frequencies[4] == 0  # a symbol of probability 0 is never drawn


def test_each_draw_inverts_the_distribution_function():
    """Symbol s is drawn where u lies between the sums of p before and after s."""
    p = np.array([0.25, 0.0, 0.5, 0.25])  # sums without rounding
    uniform = np.random.default_rng(5).random(500)
    expected = [0 if u < 0.25 else 2 if u < 0.75 else 3 for u in uniform]
    assert sample(fixed(logits_of(p)), 0, None, 500, rng=5) == expected


def test_a_draw_on_a_border_goes_up_and_never_to_what_cannot_be():
    class Given(np.random.Generator):
        values = iter([0.0, 0.25, 0.75])

        def random(self):
            return next(self.values)

    p = np.array([0.0, 0.25, 0.0, 0.5, 0.25])
    rng = Given(np.random.PCG64(0))
    assert sample(fixed(logits_of(p)), 0, None, 3, rng=rng) == [1, 3, 4]


def test_the_seed_decides():
    model = fixed(logits_of(P))
    first = sample(model, 0, None, 50, rng=1)
    assert sample(model, 0, None, 50, rng=1) == first
    assert sample(model, 0, None, 50, rng=np.random.default_rng(1)) == first
    assert sample(model, 0, None, 50, rng=2) != first


def test_temperature_zero_takes_the_likeliest_and_the_first_of_equals():
    assert sample(fixed([1.0, 3.0, 3.0, 2.0]), 0, None, 5, temperature=0, rng=9) == [1] * 5


@pytest.mark.parametrize("temperature", [1e-320, 1e-9])
def test_a_tiny_temperature_is_no_overflow(temperature: float):
    assert sample(fixed([1.0, 3.0, -700.0]), 0, None, 5, temperature) == [1] * 5


def test_a_huge_temperature_makes_all_equal():
    uniform = np.random.default_rng(4).random(200)
    drawn = sample(fixed([9.0, 0.0, -9.0, 1.0]), 0, None, 200, math.inf, rng=4)
    assert drawn == [int(4 * u) for u in uniform]


def test_large_logits_do_not_overflow():
    assert sample(fixed([1e4, 1e4 - 100.0]), 0, None, 5) == [0] * 5


def test_symbols_and_state_are_fed_back():
    """The model steps from s to s + 1 + state, and the state counts up."""
    seen = []

    def step(ids, state):
        assert ids.shape == (1, 1)
        assert not mg.is_grad_enabled()
        seen.append((int(ids[0, 0]), state))
        return mg.tensor(np.eye(10)[(ids + 1 + state) % 10]), state + 1

    assert sample(step, 7, 0, 5, temperature=0) == [8, 0, 3, 7, 2]
    assert seen == [(7, 0), (8, 1), (0, 2), (3, 3), (7, 4)]
    assert mg.is_grad_enabled()


def test_nothing_is_drawn_for_length_zero():
    assert sample(fixed(P), 0, None, 0) == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"temperature": -1}, "sample: temperature\n  expected 0 or more, got -1\n  remedy: "),
        ({"temperature": math.nan}, "sample: temperature\n  expected 0 or more, got nan\n  remedy"),
        ({"length": -1}, "sample: length\n  expected 0 or more, got -1\n  remedy: "),
        ({"rng": -1}, "sample: rng\n  expected a seed of 0 or more, got -1\n  remedy: "),
    ],
)
def test_arguments_without_meaning(arguments: dict, text: str):
    with pytest.raises(mg.UsageError) as caught:
        sample(fixed(P), 0, None, **{"length": 3, **arguments})
    assert str(caught.value).startswith(text)
