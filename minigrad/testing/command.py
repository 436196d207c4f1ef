"""`python -m minigrad check`: the laws on a cell, an op or a pair, without writing a test."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..cells import Cell
from ..errors import MinigradError, UsageError
from .check import Check
from .report import html_page, summary
from .run import Result


def check(
    target: str,
    *,
    laws: Sequence[str] | None = None,
    skip: Sequence[str] = (),
    examples: int | None = None,
    seed: int | None = None,
    html: Path | None = None,
) -> int:
    """Tries the laws on `module:name` or `file.py:name` and prints what came of them; 1 if one does
    not hold or nothing is known of it, 0 otherwise."""
    checked = check_of(
        target, laws=laws, skip=dict(map(_reason, skip)), examples=examples, seed=seed
    )
    results: list[Result] = []
    for id in checked.laws:
        if sys.stderr.isatty():
            print(f"\r{id} ...   ", end="", file=sys.stderr, flush=True)
        results.append(checked.run_law(id))
    if sys.stderr.isatty():
        print("\r" + " " * 12 + "\r", end="", file=sys.stderr)
    failures = [r for r in results if r.verdict in ("fail", "inconclusive")]
    for (_, *same), result in _distinct(failures):
        print(checked.report(result).text(), end="\n\n")
        if same:
            print(f"The same is found by {', '.join(same)}.", end="\n\n")
    print(summary(checked.info, results))
    if html is not None:
        html.write_text(html_page(checked.info, results), encoding="utf-8")
        print(f"\nthe same as a page: {html}")
    return 1 if failures else 0


def _distinct(failures: Sequence[Result]) -> list[tuple[list[str], Result]]:
    """The failures that say something new, each with the ids of the laws that say it, too."""
    found: dict[Any, tuple[list[str], Result]] = {}
    for r in failures:
        f = r.finding
        # Numbers differ from example to example; of shapes and errors there is one report.
        key = (f.what, f.got) if f is not None and f.analytic is None else r.law.id
        found.setdefault(key, ([], r))[0].append(r.law.id)
    return list(found.values())


def _reason(text: str) -> tuple[str, str]:
    law, sign, reason = text.partition("=")
    if not sign:
        raise UsageError(
            f"check: --skip {text}",
            "expected LAW=REASON, got no reason",
            'say why the law does not hold by design: --skip "C21=no gates"',
        )
    return law, reason


def check_of(target: str, *, skip: dict[str, str] | None = None, **options) -> Check:
    """The check of what `module:name` or `file.py:name` names: a cell class, a function of (I, H)
    that makes a cell, an op, a function of tensors, a pair (forward, vjp), or what `check_op` and
    `check_cell` have made."""
    from . import check_cell, check_op

    found = find(target)
    if hasattr(found, "check") and isinstance(found.check, Check):
        made = found.check
        if skip:
            made.skip |= skip
        chosen = options.get("laws")
        made = Check(
            made.info, made.table, made.structure, skip=made.skip, laws=chosen or list(made.laws),
            examples=options.get("examples") or made.examples,
            seed=made.seed if options.get("seed") is None else options["seed"],
            simplify=made.simplify,
        )  # fmt: skip
        return made
    make = check_cell if makes_a_cell(found) else check_op
    return make(found, skip=skip, **options).check  # type: ignore[attr-defined]


def makes_a_cell(found: Any) -> bool:
    """Whether calling it with two sizes gives a cell."""
    if inspect.isclass(found):
        return issubclass(found, Cell)
    if isinstance(found, tuple) or not inspect.isfunction(found):
        return False
    try:
        return isinstance(found(2, 3), Cell)
    except Exception:  # a function of tensors, which does not know what to do with two sizes
        return False


def find(target: str) -> Any:
    """The object that `module:name` or `file.py:name` names; raises `UsageError`."""
    place, sign, name = target.rpartition(":")
    if not sign or not place or not name:
        raise UsageError(
            f"check: {target}",
            "expected module:name or file.py:name",
            "for example: python -m minigrad check my_module:MyCell",
        )
    module = _module(place)
    found = module
    for part in name.split("."):
        if not hasattr(found, part):
            names = ", ".join(n for n in vars(module) if not n.startswith("_"))
            raise UsageError(
                f"check: {target}",
                f"expected a name of {place}, got {part}",
                f"it has {names}" if names else "it has no names at all",
            )
        found = getattr(found, part)
    return found


def _module(place: str) -> Any:
    sys.path.insert(0, str(Path.cwd()))
    try:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        spec = importlib.util.spec_from_file_location(Path(place).stem, place)
        if spec is None or spec.loader is None or not Path(place).is_file():
            raise ImportError(f"there is no file {place}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module
    except MinigradError:
        raise
    except Exception as error:
        raise UsageError(
            f"check: {place}",
            f"expected a module that can be imported, got {type(error).__name__}: {error}",
            "run this where `import` finds it, or name the file: path/to/file.py:name",
        ) from error
    finally:
        sys.path.pop(0)
