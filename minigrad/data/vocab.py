"""Characters as whole numbers and back."""

from __future__ import annotations

import numpy as np

from ..errors import UsageError

CODE_POINTS = 0x110000


class Vocabulary:
    """The characters a model knows; number 0 stands for every other one.

    Every reader of a text, LSTM or n-gram model, gets the numbers made here. So an unknown
    character costs each of them `-log p(0)`, and their figures compare.

    Args:
        characters: the known characters; the one at place k gets the number k + 1.

    Raises:
        UsageError: a character is given twice.

    >>> vocabulary = Vocabulary("abc")
    >>> vocabulary.encode("cab?")
    array([3, 1, 2, 0], dtype=int32)
    >>> vocabulary.decode([3, 1, 2])
    'cab'
    """

    unknown = 0
    replacement = "\N{REPLACEMENT CHARACTER}"  # what decode writes for the unknown symbol

    def __init__(self, characters: str):
        points = _code_points(characters)
        self._numbers = np.zeros(CODE_POINTS, np.int32)
        self._numbers[points] = np.arange(1, points.size + 1)
        self._points = np.concatenate([_code_points(self.replacement), points])
        if np.count_nonzero(self._numbers) < points.size:
            twice = sorted({c for c in characters if characters.count(c) > 1})
            raise UsageError(
                "Vocabulary: characters",
                f"expected each once, got {''.join(twice)!r} more than once",
                "remove the repetitions",
            )
        self.characters = characters

    @classmethod
    def from_text(cls, text: str, min_count: int | None = None, max_size: int = 4096) -> Vocabulary:
        """The characters of a text, the most frequent first, equal ones by code point.

        Args:
            text: the training part, and no other.
            min_count: rarer characters stay unknown; None means one in a million, at least two.
                So the unknown symbol occurs in training and its probability is learned.
            max_size: at most so many numbers, the unknown symbol included.

        Raises:
            UsageError: no character is frequent enough.

        >>> Vocabulary.from_text("to be or not to be").characters
        ' otbe'
        """
        if min_count is None:
            min_count = max(2, len(text) // 1_000_000)
        counts = np.bincount(_code_points(text), minlength=CODE_POINTS)
        points = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts >= min_count)]
        if not points.size or max_size < 2:
            raise UsageError(
                "Vocabulary: text",
                f"expected a character that occurs {min_count} times, and room for 2 numbers; "
                f"got {len(text)} characters, room for {max_size}",
                "give a longer text, or a smaller min_count",
            )
        return cls("".join(map(chr, points[: max_size - 1])))

    def __len__(self) -> int:
        return len(self.characters) + 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self.characters == other.characters

    def __hash__(self) -> int:
        return hash(self.characters)

    def __repr__(self) -> str:
        return f"Vocabulary({self.characters!r})"

    def encode(self, text: str) -> np.ndarray:
        """The numbers of a text's characters, int32 of shape (len(text),)."""
        return self._numbers[_code_points(text)]

    def decode(self, ids: np.ndarray | list[int]) -> str:
        """The text of numbers 0 .. len(self) - 1; the unknown symbol becomes U+FFFD.

        Raises:
            UsageError: a number is outside the vocabulary.
        """
        numbers = np.asarray(ids, np.int64)
        if numbers.size and (numbers.min() < 0 or numbers.max() >= len(self)):
            raise UsageError(
                "Vocabulary.decode: ids",
                f"expected 0 .. {len(self) - 1}, got {numbers.min()} .. {numbers.max()}",
                "use the vocabulary the ids were made with",
            )
        return self._points[numbers].tobytes().decode("utf-32-le", "surrogatepass")


def _code_points(text: str) -> np.ndarray:
    # Python strings may hold lone surrogates; they are characters like any other here.
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
