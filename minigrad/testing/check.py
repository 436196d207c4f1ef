"""Checks: all laws on one subject, as tests that pytest collects, or by themselves."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

from ..errors import UsageError
from . import shrink
from .laws import Law
from .report import Report
from .run import EXAMPLES, Result, run
from .strategies import Structure

_POSITIONAL = inspect.Parameter.POSITIONAL_OR_KEYWORD


class GradcheckError(AssertionError):
    """A law that does not hold; its text is the report, which it also keeps as `report`."""

    def __init__(self, report: Report):
        self.report = report
        super().__init__(report.text())


class InconclusiveError(GradcheckError):
    """The oracle was not sharp enough to say whether a law holds."""


class Check:
    """All laws on one subject.

    info: what is known about it, an `OpInfo` or a `CellInfo`. skip: laws that do not hold by
    design, with the reason, which is printed. laws: the ids to try; all if None. examples: None
    takes 100, or what Hypothesis's profile says within pytest.
    """

    def __init__(
        self,
        info,
        table: dict[str, Law],
        structure: Structure,
        *,
        skip: dict[str, str] | None = None,
        laws: Sequence[str] | None = None,
        examples: int | None = None,
        seed: int | None = None,
        simplify: Callable | None = shrink.simplify,
    ):
        self.info, self.structure, self.simplify = info, structure, simplify
        self.skip = dict(skip or {})
        for id in [*self.skip, *(laws or ())]:
            if id not in table:
                raise UsageError(
                    f"{info.name}: law {id}",
                    f"expected one of {', '.join(table)}, got {id!r}",
                    "see docs/gradient_checking.md for what each law says",
                )
        for id, reason in self.skip.items():
            if not isinstance(reason, str) or not reason.strip():
                raise UsageError(
                    f"{info.name}: law {id} skipped",
                    f"expected a reason, got {reason!r}",
                    'say why the law does not hold by design: skip=dict(C21="no gates")',
                )
        self.table = table
        self.laws = {id: law for id, law in table.items() if laws is None or id in laws}
        self.examples, self.seed = examples, seed

    def run_law(
        self, id: str, examples: int | None = None, seed: int | None = None, shrink: bool = True
    ) -> Result:
        """What comes of one law; without shrink, a failure stays as it was found."""
        law = self.laws[id]
        reason = self.skip.get(id) or law.unless(self.info)
        if reason:
            return Result(law, "skip", reason)
        n = examples or self.examples or EXAMPLES
        return run(
            law, self.info, self.structure, max(1, round(n * law.share)),
            self.seed if seed is None else seed, self.simplify, shrink,
        )  # fmt: skip

    def run(self, examples: int | None = None, seed: int | None = None) -> list[Result]:
        """What comes of each law."""
        return [self.run_law(id, examples, seed) for id in self.laws]

    def report(self, result: Result) -> Report:
        """The report of a failure."""
        return Report(self.info, result)

    def demand(self, result: Result) -> None:
        """Raises `GradcheckError` for a law that does not hold, `InconclusiveError` for one of
        which nothing is known."""
        if result.verdict == "fail":
            raise GradcheckError(self.report(result))
        if result.verdict == "inconclusive":
            raise InconclusiveError(self.report(result))


def collectable(check: Check) -> Callable:
    """The check as a test function: pytest collects one test a law, `-k C7` chooses one.

    Called without arguments it tries every law and raises at the first that does not hold. Its
    `check` is the `Check`.
    """

    def test(law: str | None = None) -> None:
        for id in check.laws if law is None else [law]:
            result = check.run_law(id, check.examples or _examples_of_profile())
            if result.verdict == "skip" and law is not None:
                import pytest

                pytest.skip(f"{check.info.name} {id}: {result.reason}")
            check.demand(result)

    test.__doc__ = f"The laws on {check.info.name}."
    test.check = check  # type: ignore[attr-defined]
    # A parametrised argument must have no default in pytest's eyes.
    test.__signature__ = inspect.Signature([inspect.Parameter("law", _POSITIONAL)])  # type: ignore[attr-defined]
    try:
        import pytest
    except ImportError:
        return test
    ids = [f"{id}-{check.info.name}" for id in check.laws]
    return pytest.mark.parametrize("law", list(check.laws), ids=ids)(test)


def _examples_of_profile() -> int:
    try:
        import hypothesis
    except ImportError:
        return EXAMPLES
    return hypothesis.settings().max_examples
