"""A law tried on many examples: sampled ones and, where Hypothesis is there, ones that it draws."""

from __future__ import annotations

import copy
import math
import os
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..graph import is_grad_enabled, set_grad_enabled
from .example import Example
from .laws import Broken, Finding, Inconclusive, Law, NotApplicable, Trial
from .strategies import Sampler, Structure

EXAMPLES = 100
WITNESSES = 16  # failing examples kept for the diagnosis, at most
POWERLESS = 0.1  # more inconclusive examples than this share, and a run proves nothing


@dataclass
class Result:
    """What came of a law.

    verdict: "pass", "fail", "inconclusive", or "skip" with its reason. examples: how many were
    tried, until the first failure if there was one; `inconclusive` and `not_applicable` are among
    them. resolution: the smallest relative error that every conclusive example would have shown
    (the median of theirs). margin: the largest difference seen, in units of its tolerance. notes:
    of each thing noted, in how many examples it held: {"bits": "97 of 100"}. Of a
    failure: the minimal example and the finding, and as witnesses the first findings on other
    examples, not yet shrunk: a minimal example says least about what is wrong.
    """

    law: Law
    verdict: str
    reason: str = ""
    examples: int = 0
    inconclusive: int = 0
    not_applicable: int = 0
    resolution: float = 0.0
    margin: float = 0.0
    evaluations: int = 0
    method: str = ""
    example: Any = None
    finding: Finding | None = None
    notes: dict[str, str] = field(default_factory=dict)
    witnesses: list[tuple[Any, Finding]] = field(default_factory=list)


class _Tally:
    """Counts over the examples of one run."""

    def __init__(self, law: Law, info):
        self.law, self.info = law, info
        self.examples = self.inconclusive = self.not_applicable = self.evaluations = 0
        self.resolutions: list[float] = []
        self.witnesses: list[tuple[Any, Finding]] = []
        self.margin, self.method, self.reason = 0.0, "", ""
        self.notes: dict[str, list[bool]] = {}

    def trial(self, example) -> Trial:
        """One trial, counted; raises `Broken` if the law does not hold."""
        trial = Trial(self.law.id, locate=False)
        self.examples += not self.witnesses  # what comes after a failure only shrinks it
        try:
            attempt(self.law, self.info, example, trial)
        except Broken as broken:
            if len(self.witnesses) < WITNESSES:
                self.witnesses.append((example, broken.finding))
            raise
        except Inconclusive as why:
            self.inconclusive += 1
            self.reason = str(why)
        except NotApplicable as why:
            self.not_applicable += 1
            self.reason = str(why)
        finally:
            self.evaluations += trial.evaluations
            self.margin = max(self.margin, trial.margin)
            self.method = self.method or trial.method
            for what, fact in trial.notes.items():
                self.notes.setdefault(what, []).append(fact)
            if 0 < trial.resolution < math.inf:
                self.resolutions.append(trial.resolution)
        return trial

    def result(self, example=None, finding: Finding | None = None) -> Result:
        verdict, reason = "pass", ""
        if finding is not None:
            verdict = "fail"
        elif self.examples and self.not_applicable == self.examples:
            verdict, reason = "skip", self.reason
        elif self.inconclusive > POWERLESS * max(1, self.examples - self.not_applicable):
            verdict, reason = "inconclusive", self.reason
        middle = sorted(self.resolutions)[len(self.resolutions) // 2] if self.resolutions else 0.0
        return Result(
            self.law, verdict, reason, self.examples, self.inconclusive, self.not_applicable,
            middle, self.margin, self.evaluations, self.method, example, finding,
            {what: f"{sum(facts)} of {len(facts)}" for what, facts in self.notes.items()},
            self.witnesses,
        )  # fmt: skip


def attempt(law: Law, info, example, trial: Trial | None = None) -> Trial:
    """One trial of a law on one example; an error of the code under test breaks the law, too."""
    trial = trial or Trial(law.id)
    recording = is_grad_enabled()
    if isinstance(example, Example) and example.params:  # which somebody may write to
        example = replace(example, params=copy.deepcopy(example.params))
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # overflow is what P9 looks for, warnings P11
            law.check(trial, info, example)
    except (Broken, Inconclusive, NotApplicable):
        _still(recording)
        raise
    except Exception as error:
        _still(recording)
        text = " ".join(str(error).split())
        raise Broken(
            Finding(
                f"{info.name}, called by the law", "an answer",
                f"{type(error).__name__}: {text}"[:400], facts={"error": error},
            )
        ) from error  # fmt: skip
    _still(recording)
    return trial


def _still(recording: bool) -> None:
    """That the recording switch is as it was; it is put back, for the sake of what comes next."""
    now = is_grad_enabled()
    if now != recording:
        set_grad_enabled(recording).__enter__()
        raise Broken(Finding("the recording mode afterwards", f"{recording}", f"{now}"))


def finding_of(law: Law, info, example, locate: bool = True) -> Finding | None:
    """What breaks the law on this example; None if it holds, or says nothing about it."""
    try:
        attempt(law, info, example, Trial(law.id, locate=locate))
    except Broken as broken:
        return broken.finding
    except (Inconclusive, NotApplicable):
        pass
    return None


def run(
    law: Law,
    info,
    structure: Structure,
    examples: int = EXAMPLES,
    seed: int | None = None,
    simplify: Callable | None = None,
    shrink: bool = True,
    sampled: bool = False,
) -> Result:
    """A law tried on `examples` examples, at most.

    seed: None takes Hypothesis's own choice (that of its profile); a number is repeatable, with or
    without Hypothesis. simplify(law, info, example): a simpler example that breaks the law too.
    Without shrink the first failure stays as it was found; sampled: without Hypothesis.
    """
    tally = _Tally(law, info)
    hypothesis = None if sampled else _hypothesis()
    if hypothesis is None:
        found = _sampled(tally, structure, examples, seed or 0, shrink)
    else:
        # Independent examples first, as those that Hypothesis draws resemble each other; then
        # Hypothesis, which climbs towards the worst case.
        drawn = examples if structure.foreign else examples // 4
        first = _seed_of(hypothesis) if seed is None else seed
        found = _sampled(tally, structure, examples - drawn, first, shrink)
        if found is None and drawn:
            found = _drawn(hypothesis, tally, structure, drawn, seed, shrink)
    if found is None:
        return tally.result()
    example, finding = found
    if shrink:
        if simplify is not None:
            example = simplify(law, info, example)
        finding = finding_of(law, info, example) or finding
        tally.witnesses = [(e, finding_of(law, info, e) or f) for e, f in tally.witnesses]
    return tally.result(example, finding)


def _hypothesis():
    try:
        import hypothesis
    except ImportError:
        return None
    return hypothesis


def _seed_of(hypothesis) -> int:
    """A seed for where none was given: always the same in a profile that derandomises."""
    return 0 if hypothesis.settings().derandomize else int.from_bytes(os.urandom(4))


def _sampled(tally, structure, examples, seed, shrink):
    law, info = tally.law, tally.info
    for i in range(examples):
        choices = Sampler(seed, zlib.crc32(law.id.encode()), i)
        example = structure.build(choices)
        try:
            tally.trial(example)
        except Broken as broken:
            if shrink:
                example = structure.simplest(
                    choices.made, lambda e: finding_of(law, info, e, locate=False) is not None
                )
            return example, broken.finding
    return None


def _drawn(hypothesis, tally, structure, examples, seed, shrink):
    last: list = []

    def body(example):
        try:
            trial = tally.trial(example)
        except Broken as broken:
            last[:] = [example, broken.finding]
            raise _Failed from None
        if 0 < trial.margin < math.inf:
            hypothesis.target(math.log10(trial.margin))

    phases = hypothesis.Phase
    chosen = dict(
        max_examples=examples, deadline=None, database=None, report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=(phases.generate, phases.target, *([phases.shrink] if shrink else [])),
        verbosity=hypothesis.Verbosity.quiet,
    )  # fmt: skip
    if seed is not None:
        chosen["derandomize"] = False
    test = hypothesis.settings(**chosen)(hypothesis.given(structure.strategy())(body))
    if seed is not None:
        test = hypothesis.seed(seed)(test)
    try:
        test()
    except _Failed:
        return last
    except hypothesis.errors.Flaky:  # not on every call: the last failure counts
        return last or None
    return None


class _Failed(Exception):
    """Raised where Hypothesis is to know that an example fails: always the same, from one place."""
