"""The n-gram models against a plain version that counts in dicts, one symbol at a time."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from minigrad.data import NGram, Vocabulary, stdlib_corpus
from minigrad.data.ngram import STEPS, _maximise
from minigrad.errors import UsageError


def objective(w, pairs):
    """The logarithm of the probability of a bucket's part of the valid text, prior included."""
    likelihood = sum(math.log(w * frequency + (1 - w) * below) for frequency, below in pairs)
    return likelihood + 0.5 * math.log(w) + 0.5 * math.log(1 - w)


class PlainNGram:
    """The same models as `NGram`, read off the definition."""

    def __init__(self, train, valid, size, order):
        self.size = size
        self.followers = defaultdict(Counter)  # context -> symbol -> count
        for n in range(1, order + 1):
            for i in range(n - 1, len(train)):
                self.followers[tuple(train[i - n + 1 : i])][train[i]] += 1
        self.weights = {}  # (n, bucket) -> weight
        for n in range(1, order + 1):
            samples = defaultdict(list)  # bucket -> (relative frequency, probability below)
            for i in range(n - 1, len(valid)):
                context = tuple(valid[i - n + 1 : i])
                if context in self.followers:
                    below = self.probability(valid[i], context[1:]) if n > 1 else 1 / size
                    samples[self.bucket(context)].append((self.frequency(valid[i], context), below))
            for bucket, pairs in samples.items():
                self.weights[n, bucket] = self.maximise(pairs)

    def frequency(self, symbol, context):
        counts = self.followers[context]
        return counts[symbol] / sum(counts.values())

    def bucket(self, context):
        counts = self.followers[context]
        return math.floor(2 * math.log2(sum(counts.values()) / len(counts)))

    @staticmethod
    def maximise(pairs):
        low, high = 0, 1
        for _ in range(60):  # of cutting off the third that cannot hold the maximum
            a, b = low + (high - low) / 3, high - (high - low) / 3
            low, high = (a, high) if objective(a, pairs) < objective(b, pairs) else (low, b)
        return (low + high) / 2

    def probability(self, symbol, context):
        below = self.probability(symbol, context[1:]) if context else 1 / self.size
        if context not in self.followers:
            return below
        w = self.weights.get((len(context) + 1, self.bucket(context)), 0.5)
        return w * self.frequency(symbol, context) + (1 - w) * below


def symbols(size, least):
    return st.lists(st.integers(0, size - 1), min_size=least, max_size=60)


@st.composite
def problems(draw):
    size, order = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    return draw(symbols(size, 5)), draw(symbols(size, 1)), draw(symbols(size, 2)), size, order


@given(problems())
def test_equal_to_the_plain_version(problem):
    train, valid, text, size, order = problem
    model, plain = NGram(train, valid, size, order), PlainNGram(train, valid, size, order)
    p = model.probability(text)
    assert p.shape == (order, len(text))
    for n in range(1, order + 1):
        for i, symbol in enumerate(text):
            expected = plain.probability(symbol, tuple(text[max(0, i - n + 1) : i]))
            assert p[n - 1, i] == pytest.approx(expected, rel=1e-6)
    assert model.bits(text) == pytest.approx(-np.log2(p[:, 1:]).mean(axis=1), rel=1e-15)


@given(problems())
def test_probabilities_of_a_context_sum_to_one(problem):
    train, valid, context, size, order = problem
    model = NGram(train, valid, size, order)
    for length in range(len(context) + 1):
        distribution = model.distribution(np.array(context[:length], int))
        assert distribution.shape == (size,)
        assert distribution.sum() == pytest.approx(1, abs=1e-13)
        assert (distribution > 0).all()


@given(problems())
def test_distribution_is_the_probability_of_what_comes_next(problem):
    train, valid, text, size, order = problem
    model = NGram(train, valid, size, order)
    p = model.probability(text)
    for i, symbol in enumerate(text):
        assert model.distribution(text[:i])[symbol] == p[min(order, i + 1) - 1, i]


@given(problems())
def test_an_order_is_the_same_in_a_model_of_higher_order(problem):
    train, valid, text, size, order = problem
    high = NGram(train, valid, size, 5)
    assert (
        NGram(train, valid, size, order).probability(text) == high.probability(text)[:order]
    ).all()


@given(problems(), st.data())
def test_what_lies_further_back_than_the_order_changes_nothing(problem, data):
    train, valid, text, size, order = problem
    assume(len(text) > order)
    other = data.draw(symbols(size, 1).map(lambda s: s[:1])) + text[1:]
    model = NGram(train, valid, size, order)
    p, q = model.probability(text), model.probability(other)
    for n in range(1, order + 1):
        assert (p[n - 1, n:] == q[n - 1, n:]).all()


@given(st.lists(st.tuples(st.sampled_from([0, 0.1, 0.5, 1]), st.floats(0.01, 1)), min_size=1))
def test_no_other_weight_is_better(pairs):
    frequency, below = map(np.array, zip(*pairs, strict=True))
    weights = _maximise(frequency, np.ones(len(pairs), int), below)
    best = objective(weights[1], pairs)
    for w in np.linspace(0.001, 0.999, 999):
        assert objective(w, pairs) <= best + 1e-9
    assert weights[0] == 0 and weights[2] == pytest.approx(0.5, abs=1e-8)


def test_figures_that_can_be_worked_out_by_hand():
    # "ab" for ever: 500 times a, after which b is certain; the other context is b.
    text = np.array([0, 1] * 500)
    model = NGram(text, text, size=2, order=2)
    p = model.probability(text)
    assert p[0] == pytest.approx(0.5)
    # Both contexts share a bucket, in which w maximises 999 log(w + (1 - w) / 2) + prior,
    # so 999 / (1 + w) + 1 / (2 w) = 1 / (2 (1 - w)); the root is close to 1.
    w = model.weights[1][model.tables[1].buckets[0]]
    error = 2.0**-STEPS / (1 - w)  # relative, of 1 - w, after so many halvings
    assert 999 / (1 + w) + 0.5 / w == pytest.approx(0.5 / (1 - w), rel=error)
    assert p[1, 1:] == pytest.approx((1 + w) / 2)
    assert model.bits(text)[1] == pytest.approx(-math.log2((1 + w) / 2))


def test_unseen_contexts_leave_the_lower_order_as_it_is():
    model = NGram([0, 0, 0, 0, 1, 2], [0, 1, 0, 2], size=4, order=2)
    p = model.probability([3, 0])
    assert p[1, 1] == p[0, 1]  # nothing came after 3


def test_more_context_is_better_on_real_text_and_the_test_part_is_not_seen():
    corpus = stdlib_corpus(limit=400_000)
    vocabulary = Vocabulary.from_text(corpus.train)
    train, valid, test = map(vocabulary.encode, corpus[1:])
    model = NGram(train, valid, len(vocabulary))
    bits = model.bits(test)
    assert bits.shape == (5,) and (np.diff(bits) < 0).all()
    assert bits[0] < math.log2(len(vocabulary))
    # What it has counted it knows better, by far: the held-out figure is not the training one.
    assert model.bits(train)[4] < bits[4] - 0.5
    assert (model.bits(test) == bits).all()


def test_an_unknown_symbol_costs_what_its_probability_says():
    vocabulary = Vocabulary("ab")
    train = vocabulary.encode("abab?abab?")
    model = NGram(train, train, len(vocabulary), order=1)
    assert (
        model.probability(vocabulary.encode("?!"))[0].tolist()
        == [model.distribution([])[Vocabulary.unknown]] * 2
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 1], [0], 1, 1), r"NGram: train\n  expected symbols 0 .. 0, got 0 .. 1"),
        (([0, -1], [0], 2, 1), r"NGram: train\n  expected symbols 0 .. 1, got -1 .. 0"),
        (([0, 1], [], 2, 1), r"NGram: valid\n  expected symbols 0 .. 1, got none"),
        (([0, 1], [0], 2, 3), r"NGram: train\n  expected 3 symbols or more, got 2"),
        (([0, 1], [0], 2, 0), "NGram: size, order\n  expected 1 or more"),
        (([0, 1], [0], 6209, 5), "got 6209 and 5"),
    ],
)
def test_what_is_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        NGram(*arguments)


def test_nothing_to_predict_is_refused():
    with pytest.raises(UsageError, match="expected at least 2 symbols, got 1"):
        NGram([0, 1], [0], 2, 1).bits(np.array([0]))


def test_the_largest_vocabulary_that_fits_does_not_overflow():
    size = 6208  # 6208 ** 5 < 2 ** 63
    text = np.array([size - 1] * 10 + [0] + [size - 1] * 10)
    distribution = NGram(text, text, size).distribution([size - 1] * 4)
    assert distribution.sum() == pytest.approx(1, abs=1e-12)
    assert distribution.argmax() == size - 1
