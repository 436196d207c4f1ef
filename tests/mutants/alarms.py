"""False alarms: the checker on code without bugs, over many examples.

    PYTHONPATH=tests python -m mutants.alarms --examples 100000

Every op and cell of minigrad and every correct specimen goes through all its laws; the examples are
shared out evenly, as the laws' own shares have it. Prints each failure with its report, and the
number of examples, of failures and of inconclusive ones.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time

import numpy as np
from samples.calls import OPS

from minigrad.testing.run import run

from . import specimens
from .power import CELLS, check_of_specimen, check_of_subject


def subjects() -> list[str]:
    """What has no bugs: "op:multiply", "cell:LSTMCell", "specimen:rnn"."""
    pairs = [f"specimen:{n}" for n, s in specimens.items() if s.kind in ("op", "recurrence")]
    return [*(f"op:{n}" for n in OPS), *(f"cell:{n}" for n in CELLS), *pairs]


def check_of(subject: str):
    kind, _, name = subject.partition(":")
    return check_of_specimen(name) if kind == "specimen" else check_of_subject(subject)


def trial(work: tuple[str, int, int]) -> dict:
    """One subject under all its laws, about `examples` examples in all."""
    subject, examples, seed = work
    np.seterr(all="ignore")
    check = check_of(subject)
    skipped = {id for id, law in check.laws.items() if check.skip.get(id) or law.unless(check.info)}
    laws = [law for id, law in check.laws.items() if id not in skipped]
    share = examples / max(1e-9, sum(law.share for law in laws))
    found = {"subject": subject, "examples": 0, "inconclusive": 0, "blunt": [], "failures": []}
    for law in laws:
        n = max(1, round(share * law.share))
        r = run(law, check.info, check.structure, n, seed, sampled=True)
        found["examples"] += r.examples - r.not_applicable
        found["inconclusive"] += r.inconclusive
        if r.inconclusive > 0.02 * max(50, r.examples):
            found["blunt"].append(
                f"{subject} {law.id}: {r.inconclusive} of {r.examples}: {r.reason}"
            )
        if r.verdict == "fail":
            found["failures"].append(check.report(r).text())
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m mutants.alarms",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--examples", type=int, default=100_000, help="in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", nargs="*", help='these alone: "op:multiply", "cell:LSTMCell"')
    options = parser.parse_args()
    names = options.only or subjects()
    each = -(-options.examples // len(names))
    start, total, blunt, failures = time.time(), [0, 0], [], []
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        work = [(name, each, options.seed) for name in names]
        for found in pool.imap_unordered(trial, work):
            total[0] += found["examples"]
            total[1] += found["inconclusive"]
            blunt += found["blunt"]
            for text in found["failures"]:
                failures.append(text)
                print(text, end="\n\n", flush=True)
    for line in blunt:
        print("often inconclusive:", line)
    print(
        f"{total[0]:,} examples of {len(names)} subjects, {len(failures)} failed, "
        f"{total[1]:,} inconclusive ({100 * total[1] / max(1, total[0]):.2f} %); "
        f"{time.time() - start:.0f} s with {options.jobs} processes"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
