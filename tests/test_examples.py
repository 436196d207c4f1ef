"""The examples run, and the README shows what they print."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    every = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [body for kind, body in every if kind == language]


def _without_docstring(source: str) -> str:
    return source.split('"""', 2)[2].strip()


def test_readme_first_screen_is_the_quickstart_example():
    source = (ROOT / "examples/quickstart.py").read_text(encoding="utf-8")
    assert _blocks("python")[0].strip() == _without_docstring(source)


@pytest.mark.native  # without C the digits of the last line may differ
def test_readme_first_screen_prints_what_stands_below_it(capsys):
    runpy.run_path(str(ROOT / "examples/quickstart.py"), run_name="__main__")
    assert capsys.readouterr().out == _blocks("")[0]


def test_readme_custom_cell_is_the_example_and_runs():
    source = (ROOT / "examples/custom_cell.py").read_text(encoding="utf-8")
    shown = _blocks("python")[1]
    definition, use = shown.split("\nlayer = ")
    assert definition.strip() in source
    scope: dict = {}
    exec("import numpy as np\nimport minigrad as mg\n" + shown, scope)
    assert use and scope["ys"].shape == (7, 2, 12)


def test_the_tour_ends_where_it_says(capsys):
    scope = runpy.run_path(str(ROOT / "examples/tour.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert abs(scope["third"](1.5) - scope["exact"]) < 1e-14
    assert "repeated for t = 2..19" in printed
    assert "log (tour.py:" in printed
    assert all(len(line) <= 80 for line in scope["energy"].graph().splitlines())


def test_custom_cell_example_solves_its_task():
    module = runpy.run_path(str(ROOT / "examples/custom_cell.py"))
    assert module["main"]() < 0.01


def test_the_checked_cell_holds_and_the_leaking_one_fails_as_the_readme_shows(capsys):
    module = runpy.run_path(str(ROOT / "examples/check_my_cell.py"))
    results, failure = module["main"]()
    assert {r.verdict for r in results} == {"pass", "skip"}
    assert failure.verdict == "fail"
    assert f"one test for each of {len(results)} laws" in README
    printed = capsys.readouterr().out
    assert "P7 (the gradient is that of the function): pass" in printed
    (shown,) = [block for block in _blocks("") if block.startswith("Leaking")]
    for part in shown.split("...\n"):  # but for the error bar, which may get sharper
        assert re.sub(r"\+- \S+,", "", part) in re.sub(r"\+- \S+,", "", printed)
