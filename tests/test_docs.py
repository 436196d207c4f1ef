"""docs/gradient_checking.md: its Python and its commands run, every law stands there by its title,
and its reports are those of real runs."""

import importlib.util
import itertools
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from minigrad.testing.cell_laws import CELL_LAWS
from minigrad.testing.ops import LAWS as OP_LAWS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/gradient_checking.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PYTHON = [body for kind, body in BLOCKS if kind == "python"]
COMMANDS = [
    line for kind, body in BLOCKS if kind == "sh" for line in body.splitlines() if line.strip()
]
FEW = 2  # examples, where a command or a check would take more


def missing(block: str) -> str | None:
    """The framework that a block needs and that is not installed."""
    needed = re.findall(r"^import (torch|jax)$", block, re.MULTILINE)
    return next((name for name in needed if importlib.util.find_spec(name) is None), None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the blocks that name a file lie as this file; `my_ops.py` has the ops of the page."""
    where = tmp_path_factory.mktemp("docs")
    for block in PYTHON:
        if name := re.match(r"# (\w+\.py)\n", block):
            (where / name[1]).write_text(block, encoding="utf-8")
    ops = [
        block for block in PYTHON if "swish(x):\n    return x * mg" in block or "rms_norm" in block
    ]
    (where / "my_ops.py").write_text("\n".join(ops), encoding="utf-8")
    return where


def run(folder, command):
    program = [sys.executable, *shlex.split(command)[1:]]
    return subprocess.run(
        program, cwd=folder, capture_output=True, text=True, timeout=600, check=False
    )


# --- Python --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scope(folder):
    """The names of the page, after all of its blocks have run one after another."""
    names: dict = {"__name__": "docs"}
    before = set(sys.modules)
    sys.path.insert(0, str(folder))
    try:
        for block in PYTHON:
            if missing(block) is None:
                above = PAGE[: PAGE.index(block)].count("\n") * "\n"  # for line numbers of errors
                exec(compile(above + block, ROOT / "docs/gradient_checking.md", "exec"), names)
        yield names
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            if getattr(sys.modules[name], "__file__", None) and (folder / f"{name}.py").exists():
                del sys.modules[name]


def test_every_block_runs(scope):
    assert len(PYTHON) > 10 and {"MyCell", "swish", "rms_norm", "J", "Leaking"} <= scope.keys()


CHECKS = ["test_my_cell", "test_swish", "test_rms_norm", "test_softmax", "test_my_lstm"]


@pytest.mark.parametrize("name", CHECKS)
def test_every_check_of_the_page_holds(scope, name):
    check = scope[name].check
    found = {id: check.run_law(id, FEW, seed=0) for id in check.laws if id != "C26"}
    assert {id: r.reason for id, r in found.items() if r.verdict not in ("pass", "skip")} == {}
    assert sum(r.verdict == "pass" for r in found.values()) >= 10


@pytest.mark.parametrize(("name", "needs"), [("torch_swish", "torch"), ("jax_swish", "jax")])
def test_the_checks_of_other_frameworks_hold(scope, name, needs):
    pytest.importorskip(needs)
    check = scope[f"test_{name}"].check
    found = {id: check.run_law(id, FEW, seed=0).verdict for id in check.laws}
    assert set(found.values()) == {"pass", "skip"}


# --- commands and reports ------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_runs(folder, command):
    command, _, says = command.partition("  # ")
    if "minigrad check" in command and "--seed 0" not in command:
        command += f" --examples {FEW}"
    if "pytest" in command:
        command += " -p no:cacheprovider"
    done = run(folder, command)
    assert done.returncode == (1 if says == "exit code 1" else 0), done.stdout + done.stderr


def without_bars(text: str) -> str:
    """The text without error bars and what is measured in them, which may get sharper."""
    return " ".join(re.sub(r"\d+(\.\d+)?e[-+]\d+", "#", text).split())


def reports():
    """Pairs of a command and the report below it."""
    for (kind, body), (after, text) in itertools.pairwise(BLOCKS):
        if kind == "sh" and not after:
            yield body.strip().splitlines()[-1].partition("  # ")[0], text


@pytest.mark.parametrize(("command", "shown"), list(reports()))
def test_a_report_is_that_of_a_run(folder, command, shown):
    printed = run(folder, command).stdout
    for part in shown.split("...\n")[0].split("\n\n"):
        if not part.startswith(("Likely", "To see", "import", "Power")):  # as far as numbers go
            assert without_bars(part) in without_bars(printed)
    first = re.search(r"^  1\. [\w ]+:", shown, re.MULTILINE)
    assert first is not None and first[0] in printed


def test_there_are_three_reports():
    assert len(list(reports())) == 3


# --- laws ----------------------------------------------------------------------------------------


def test_every_law_stands_on_the_page_under_its_title():
    found = dict(re.findall(r"^- \*\*([PC]\d+): (.*?)\.\*\*", _unwrapped(), re.MULTILINE))
    assert found == {law.id: law.title for law in [*OP_LAWS.values(), *CELL_LAWS.values()]}


def test_the_number_of_laws_is_right():
    assert f"It knows {len(OP_LAWS) + len(CELL_LAWS)} laws" in _unwrapped()


def test_the_links_within_the_page_lead_somewhere():
    titles = re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles}
    links = set(re.findall(r"\]\(#([^)]*)\)", PAGE))
    assert links and links <= anchors


def _unwrapped() -> str:
    return re.sub(r"(?<=\S)\n(?: +)?(?=[^\s\-#`|])", " ", PAGE)
