"""Rooms and one-way imports: a module of minigrad imports only from the rooms before its own."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "minigrad"

# In this order. A room is a module or a package; within a package, siblings may import each other.
# "__init__" is the public face: it may import every room before it, and only the command line
# may import from it.
ROOMS = (
    *(
        "errors",
        "kernels",
        "recurrent",
        "arguments",
        "value",
        "graph",
        "expand",
        "hooks",
        "checks",
        "backward",
        "debug",
        "bptt",
        "listing",
        "ops",
        "operators",
        "tree",
        "transforms",
        "module",
    ),
    *("cells", "unfold", "nn", "optim", "decode", "data", "draw", "testing", "io", "train"),
    *("tasks", "__init__", "__main__"),
)


def room_of(path: Path) -> str:
    """The room of a file, given its path inside the package."""
    return path.parts[0].removesuffix(".py")


def imported(path: Path, source: str) -> Iterator[tuple[int, str]]:
    """Line and room of everything of minigrad that a file imports, at its top or later."""
    package = ("minigrad", *path.parts[:-1])

    def room(module: tuple[str, ...]) -> str:
        return module[1] if len(module) > 1 else "__init__"

    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for name in node.names:
                module = tuple(name.name.split("."))
                if module[0] == "minigrad":
                    yield node.lineno, room(module)
        elif isinstance(node, ast.ImportFrom):
            module = tuple(node.module.split(".")) if node.module else ()
            if node.level:
                module = package[: len(package) - node.level + 1] + module
            if module == ("minigrad",):
                # `from minigrad import graph` takes a room, `from minigrad import Tensor` a face.
                known = (*ROOMS, "_native")
                for name in node.names:
                    yield node.lineno, name.name if name.name in known else "__init__"
            elif module[0] == "minigrad":
                yield node.lineno, room(module)


def wrong_imports(path: Path, source: str) -> list[str]:
    """One line for each import that breaks the order; `path` is inside the package."""
    here = room_of(path)
    if here not in ROOMS:
        return [f"minigrad/{path}: the room {here} has no place in ROOMS"]
    wrong = []
    for line, there in imported(path, source):
        if there == "_native":
            right = here == "kernels"
        else:
            right = there == here or (there in ROOMS and ROOMS.index(there) < ROOMS.index(here))
        if not right:
            wrong.append(f"minigrad/{path}:{line}: {here} imports from {there}")
    return wrong


def sources() -> Iterator[tuple[Path, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE), path.read_text(encoding="utf-8")


def test_imports_go_one_way():
    wrong = [line for path, source in sources() for line in wrong_imports(path, source)]
    assert not wrong, "\n".join(wrong)


def test_the_walk_sees_the_package():
    seen = {(room_of(path), there) for path, text in sources() for _, there in imported(path, text)}
    assert {
        ("kernels", "_native"),
        ("graph", "errors"),
        ("backward", "graph"),
        ("ops", "kernels"),
        ("ops", "ops"),
        ("__init__", "graph"),
    } <= seen


@pytest.mark.parametrize(
    ("path", "source", "culprit"),
    [
        ("graph.py", "from .backward import grad", "backward"),
        ("graph.py", "from . import errors, ops", "ops"),
        ("graph.py", "def late():\n    from .nn import Linear", "nn"),
        ("graph.py", "if TYPE_CHECKING:\n    import minigrad.cells as c", "cells"),
        ("graph.py", "try:\n    import numpy, minigrad.unfold\nexcept ImportError: pass", "unfold"),
        ("graph.py", "from ._native import lib", "_native"),
        ("graph.py", "from . import _native", "_native"),
        ("graph.py", "from minigrad.unknown import x", "unknown"),
        ("graph.py", "import minigrad as mg", "__init__"),
        ("graph.py", "from minigrad import Tensor", "__init__"),
        ("graph.py", "from . import Tensor", "__init__"),
        ("ops/linear.py", "from ..operators import table", "operators"),
        ("ops/linear.py", "from .. import transforms", "transforms"),
        ("ops/deep/er.py", "from ...transforms import grad", "transforms"),
        ("ops/__init__.py", "from ..module import Module", "module"),
        ("__init__.py", "from .__main__ import main", "__main__"),
    ],
)
def test_a_wrong_import_is_seen(path: str, source: str, culprit: str):
    line = source.count("\n", 0, source.index("import")) + 1
    if "try" in source:
        line = 2
    here = room_of(Path(path))
    assert wrong_imports(Path(path), source) == [
        f"minigrad/{path}:{line}: {here} imports from {culprit}"
    ]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("kernels.py", "import numpy\nfrom ._native import ffi\nfrom .errors import ShapeError"),
        ("ops/linear.py", "from .. import kernels\nfrom ..graph import Op\nfrom .shape import sum"),
        ("ops/linear.py", "from . import shape\nimport minigrad.ops.reduce"),
        ("ops/__init__.py", "from .linear import matmul\nfrom minigrad.backward import Deferred"),
        ("__init__.py", "from . import nn, optim\nfrom .train import fit"),
        ("__main__.py", "import minigrad as mg\nfrom minigrad import Tensor\nfrom . import train"),
    ],
)
def test_a_right_import_is_let_through(path: str, source: str):
    assert wrong_imports(Path(path), source) == []


def test_a_room_without_a_place_is_seen():
    assert wrong_imports(Path("attic.py"), "") == [
        "minigrad/attic.py: the room attic has no place in ROOMS"
    ]
