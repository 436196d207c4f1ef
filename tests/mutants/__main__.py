"""`./build.sh mutants`: the checker on every seeded bug, and the table of what it found.

./build.sh mutants                     every mutant, one seed
./build.sh mutants --seeds 20          with twenty seeds: how many found in all of them
./build.sh mutants --whole             with minimal examples, causes and snippets, too
./build.sh mutants --ids 59 HR3        these alone, with their reports
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import mutants
from .power import as_json, experiment, right, table


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="./build.sh mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--ids", nargs="*", help="these mutants alone, with their reports")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--examples", type=int, default=100, help="for each law")
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--python", action="store_true", help="leave the mutants in C out")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    ids = options.ids or [id for id, m in mutants.items() if not (options.python and m.macro)]
    whole = options.whole or bool(options.ids)
    always = dict.fromkeys(ids, True)

    def tell(id, kill):
        if kill is None:
            always[id] = False
        if whole and kill is not None:
            sign = "+" if kill.causes and right(id, kill.causes[0]) else "-"
            print(
                f"{id:6} {kill.law:5} after {kill.examples:3}, {kill.numbers} numbers, "
                f"{sign} {kill.causes[:2]} for {mutants[id].cause!r}, snippet {kill.snippet}",
                flush=True,
            )
        elif kill is None:
            print(f"{id:6} survives: {mutants[id].specimen}: {mutants[id].description}", flush=True)
        if options.ids and kill is not None:
            print(kill.text, end="\n\n")

    known = None
    for seed in range(options.first, options.first + options.seeds):
        first = seed == options.first
        kills = experiment(ids, seed, options.examples, whole and first, tell, known)
        known = known or kills
        print(f"--- seed {seed}: {sum(map(bool, kills.values()))}/{len(kills)}", flush=True)
        if seed == options.first:
            print(table(kills), flush=True)
            if options.json:
                options.json.write_text(as_json(kills))
    if options.seeds > 1:
        print(f"found with every seed: {sum(always.values())}/{len(ids)}")
        print("not always: " + ", ".join(id for id in ids if not always[id]))
    return 0 if all(always.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
