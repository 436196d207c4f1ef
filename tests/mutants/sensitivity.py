"""How small an error the checker sees: every gradient times 1 + d, for smaller and smaller d.

    PYTHONPATH=tests python -m mutants.sensitivity

Of every op with a gradient and every cell of minigrad, in float64: the smallest power of ten for d
that law P7 finds within 100 examples. Also, of one entry alone: the first entry of each gradient.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
from samples.calls import OPS

from minigrad.testing.cell_info import CellInfo
from minigrad.testing.recurrence import Recurrence
from minigrad.testing.subject import Subject

from .power import CELLS, check_of_subject


class Scaled(Subject):
    """A subject whose gradients are off by a factor of 1 + d, all or their first entries."""

    def __init__(self, subject: Subject, d: float, first: bool):
        self.subject, self.d, self.first, self.name = subject, d, first, subject.name

    def forward(self, args, params):
        return self.subject.forward(args, params)

    def linearise(self, args, params, wrt):
        outs, pull = self.subject.linearise(args, params, wrt)

        def scaled(*gs):
            found = []
            for g in pull(*gs):
                g = None if g is None else np.array(g)
                if g is not None and g.size:
                    part = g.flat[0] if self.first else g
                    if self.first:
                        g.flat[0] = part * (1 + self.d)
                    else:
                        g = np.asarray(part * (1 + self.d)).astype(g.dtype)
                found.append(g)
            return found

        return outs, scaled


def seen(subject: str, d: float, first: bool, examples: int) -> bool:
    """Whether P7 finds gradients that are off by 1 + d."""
    check = check_of_subject(subject)
    info = check.info
    if isinstance(info, CellInfo):
        old = info.recurrence

        def sized(I, H):  # noqa: E741
            made = old.at(I, H)
            made.subject = Scaled(made.subject, d, first)
            return made

        info.recurrence = Recurrence(old.name, sized, old.origin, old.cell)
    else:
        check.info = replace(info, subject=Scaled(info.subject, d, first))
    return check.run_law("P7", examples, 0, shrink=False).verdict == "fail"


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m mutants.sensitivity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--examples", type=int, default=100)
    options = parser.parse_args()
    np.seterr(all="ignore")
    names = [*(f"op:{n}" for n in OPS), *(f"cell:{n}" for n in CELLS)]
    # Without a gradient, a factor changes nothing.
    moved = [n for n in names if seen(n, 1.0, False, options.examples)]
    print(f"{len(moved)} of {len(names)} have a gradient that P7 checks")
    for first in (False, True):
        least = {}
        for name in moved:
            power = 9
            if not seen(name, 1e-9, first, options.examples):
                power = next((p for p in range(8, 0, -1)
                              if seen(name, 10.0**-p, first, options.examples)), 0)  # fmt: skip
            else:
                while power < 15 and seen(name, 10.0 ** -(power + 1), first, options.examples):
                    power += 1
            least[name] = power
        count = Counter(least.values())
        print("one entry alone" if first else "all entries", end=": ")
        print(", ".join(f"1e-{p}: {n}" for p, n in sorted(count.items())))
        print("  bluntest:", ", ".join(sorted(least, key=lambda n: least[n])[:6]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
