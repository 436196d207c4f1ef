"""`python -m benchmarks NAME ...` runs a benchmark; without a name it lists them."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

NAMES = ("recurrent", "scaling", "overhead", "nodes", "rivals", "peak")


def first_line(name: str) -> str:
    """What a benchmark says of itself, read without importing it."""
    text = Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").splitlines()[0]


def main(argv: list[str]) -> int:
    if argv and argv[0] in NAMES:
        module = importlib.import_module(f".{argv[0]}", __package__)
        sys.argv = [f"python -m benchmarks.{argv[0]}", *argv[1:]]
        return module.main()
    print("usage: python -m benchmarks NAME [ARGUMENT ...]\n")
    for name in NAMES:
        print(f"  {name:10} {first_line(name)}")
    known = not argv or argv[0] in ("-h", "--help")
    if not known:
        print(f"\nno benchmark {argv[0]!r}")
    return 0 if known else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
