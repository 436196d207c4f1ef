"""What goes wrong, in three lines: what it concerns, expected and got, the remedy."""

from __future__ import annotations


def three_lines(what: str, expected_and_got: str, remedy: str) -> str:
    """The text of every error and warning; a part that has line breaks of its own loses them.

    >>> print(three_lines("matmul: argument 1", "expected 3 rows, got 4", "transpose it"))
    matmul: argument 1
      expected 3 rows, got 4
      remedy: transpose it
    """
    what, expected_and_got, remedy = (
        " ".join(part.split()) for part in (what, expected_and_got, remedy)
    )
    return f"{what}\n  {expected_and_got}\n  remedy: {remedy}"


class MinigradError(Exception):
    """Base of every error of minigrad; its text has three lines.

    >>> raise MinigradError("matmul: argument 1", "expected 3 rows, got 4", "transpose it")
    Traceback (most recent call last):
    minigrad.errors.MinigradError: matmul: argument 1
      expected 3 rows, got 4
      remedy: transpose it
    """

    def __init__(self, what: str, expected_and_got: str, remedy: str):
        self.what, self.expected_and_got, self.remedy = what, expected_and_got, remedy
        super().__init__(three_lines(what, expected_and_got, remedy))

    def __reduce__(self):
        return type(self), (self.what, self.expected_and_got, self.remedy)


class ShapeError(MinigradError, ValueError):
    """Shapes do not fit together."""


class DtypeError(MinigradError, TypeError):
    """A dtype that minigrad does not compute with, or two that must not mix."""


class GradientError(MinigradError, RuntimeError):
    """A gradient that cannot be computed as asked."""


class GraphFreedError(GradientError):
    """The graph was already used up by a backward pass."""


class AnomalyError(MinigradError, ArithmeticError):
    """A NaN or an infinity made from finite numbers, found by `mg.debug()`."""


class StateDictError(MinigradError, ValueError):
    """A state dict does not fit the module that is to take it."""


class FileError(MinigradError, OSError):
    """A file is missing, damaged or of the wrong kind."""

    __str__ = Exception.__str__  # OSError would print only its first two arguments


class UsageError(MinigradError, ValueError):
    """An argument that has no meaning here."""


class GradientWarning(UserWarning):
    """A gradient that is probably not the one that was meant; silenced as any warning of Python.

    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", mg.GradientWarning)
    """
