from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.data import Vocabulary
from minigrad.errors import UsageError

ANY_TEXT = st.text(st.characters())  # lone surrogates and all


@given(ANY_TEXT.filter(bool))
def test_decode_undoes_encode(text):
    vocabulary = Vocabulary.from_text(text, min_count=1, max_size=len(text) + 1)
    ids = vocabulary.encode(text)
    assert ids.dtype == np.int32 and ids.shape == (len(text),)
    assert Vocabulary.unknown not in ids
    assert vocabulary.decode(ids) == text


@given(ANY_TEXT, ANY_TEXT)
def test_every_other_character_is_the_unknown_one(known, text):
    vocabulary = Vocabulary("".join(sorted(set(known))))
    expected = "".join(c if c in known else "\ufffd" for c in text)
    assert vocabulary.decode(vocabulary.encode(text)) == expected
    assert (vocabulary.encode(text) == 0).tolist() == [c not in known for c in text]


@given(st.text("abcde\xe9\U0001f600", min_size=1), st.integers(1, 4), st.integers(2, 5))
def test_characters_are_sorted_by_frequency_then_code_point(text, min_count, max_size):
    expected = sorted(Counter(text).items(), key=lambda item: (-item[1], item[0]))
    expected = "".join(c for c, n in expected if n >= min_count)[: max_size - 1]
    if expected:
        vocabulary = Vocabulary.from_text(text, min_count, max_size)
        assert vocabulary.characters == expected
        assert len(vocabulary) == len(expected) + 1 <= max_size
    else:
        with pytest.raises(UsageError, match=f"expected a character that occurs {min_count} times"):
            Vocabulary.from_text(text, min_count, max_size)


def test_by_default_a_character_must_occur_twice_or_once_in_a_million():
    assert Vocabulary.from_text("aab").characters == "a"
    assert Vocabulary.from_text("a" * 4_000_000 + "bbbb" + "ccc").characters == "ab"


def test_a_vocabulary_is_its_characters():
    vocabulary = Vocabulary.from_text("to be or not to be")
    assert repr(vocabulary) == "Vocabulary(' otbe')"
    again = Vocabulary(vocabulary.characters)
    assert again == vocabulary and hash(again) == hash(vocabulary)
    assert vocabulary != Vocabulary(" otb") and vocabulary != " otbe"


def test_the_replacement_character_may_itself_be_known():
    vocabulary = Vocabulary("\ufffda")
    assert vocabulary.encode("\ufffdab").tolist() == [1, 2, 0]
    assert vocabulary.decode([0, 1, 2]) == "\ufffd\ufffda"


def test_what_a_vocabulary_refuses():
    with pytest.raises(UsageError, match="expected each once, got 'ac' more than once"):
        Vocabulary("abcac")
    with pytest.raises(UsageError, match=r"expected 0 .. 2, got 0 .. 3"):
        Vocabulary("ab").decode([0, 3])
    with pytest.raises(UsageError, match=r"expected 0 .. 2, got -1 .. 1"):
        Vocabulary("ab").decode([-1, 1])
    with pytest.raises(UsageError, match="got 0 characters"):
        Vocabulary.from_text("")
    assert Vocabulary("ab").decode([]) == ""
