"""Lines of code, room by room: what is left without blank lines, comments and docstrings."""

import ast
import io
import re
import sys
import tokenize
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NOT_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE),
    *(tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING, tokenize.ENDMARKER),
}
# A literal is matched first, so that /* inside a string does not open a comment.
C_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|/\*.*?\*/|//[^\n]*', re.DOTALL)


def python_lines(text: str) -> int:
    """The number of lines that hold code in Python text.

    >>> python_lines('"A docstring."\\n\\nx = 1  # a comment\\n')
    1
    """
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and ast.get_docstring(node, clean=False) is not None:
                docstrings.update(range(first.lineno, first.end_lineno + 1))
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NOT_CODE:
            code.update(range(token.start[0], token.end[0] + 1))
    return len(code - docstrings)


def c_lines(text: str) -> int:
    """The number of lines that hold code in C text.

    >>> c_lines('/* a comment\\n   of two lines */\\nint x; // one more\\n')
    1
    """

    def blank(match: re.Match) -> str:
        token = match.group()
        return token if token[0] in "\"'" else re.sub(r"[^\n]", " ", token)

    return sum(bool(line.strip()) for line in C_TOKEN.sub(blank, text).split("\n"))


def room(path: Path) -> str:
    """The module of minigrad, the folder of csrc, or the top folder that a file belongs to.

    >>> room(Path("minigrad/ops/linear.py")), room(Path("csrc/simd/avx2.h")), room(Path("setup.py"))
    ('minigrad/ops', 'csrc/simd', '.')
    """
    parts = path.parts
    if parts[0] == "minigrad":
        return f"minigrad/{parts[1]}"
    if parts[0] == "csrc":
        return "/".join(parts[:2]) if len(parts) > 2 else "csrc"
    return parts[0] if len(parts) > 1 else "."


def count(root: Path) -> dict[str, int]:
    """Lines of code per room, in the order of the names."""
    total: Counter[str] = Counter()
    for path in sorted(root.rglob("*")):
        relative = path.relative_to(root)
        if any(part.startswith(".") or part in ("build", "dist") for part in relative.parts):
            continue
        if path.suffix == ".py":
            total[room(relative)] += python_lines(path.read_text(encoding="utf-8"))
        elif path.suffix in (".c", ".h", ".def"):
            total[room(relative)] += c_lines(path.read_text(encoding="utf-8"))
    return dict(sorted(total.items()))


def main() -> None:
    rooms = count(ROOT)
    tops: Counter[str] = Counter()
    for name, lines in rooms.items():
        print(f"{lines:7}  {name}")
        tops[name.split("/")[0]] += lines
    print()
    for name, lines in tops.items():
        print(f"{lines:7}  {name}")
    print(f"{sum(tops.values()):7}  in all")


if __name__ == "__main__":
    sys.exit(main())
