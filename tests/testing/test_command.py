"""`python -m minigrad check`, as a person calls it."""

import subprocess
import sys
import textwrap

import pytest

from minigrad.__main__ import main

MODULE = textwrap.dedent('''
    import numpy as np
    import minigrad as mg


    class Leaky(mg.nn.Cell):
        def __init__(self, input_size, hidden_size):
            self.hidden_size = hidden_size
            n = hidden_size * input_size
            self.W = mg.nn.Parameter(np.linspace(-1, 1, n).reshape(hidden_size, -1))

        def initial_state(self, batch_size, dtype):
            return mg.tensor(np.zeros((batch_size, self.hidden_size), dtype))

        def __call__(self, x, h):
            h = 0.5 * h + mg.tanh(x @ self.W.T)
            return h, h


    class Leaking(Leaky):
        """Rows see each other."""

        def __call__(self, x, h):
            h = 0.5 * h + mg.tanh(x @ self.W.T) + 0.01 * mg.mean(h)
            return h, h


    product = (lambda x, y: x * y, lambda g, out, x, y: (g * y, -g * x))
''')


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "my_cells.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    yield "my_cells"
    sys.modules.pop("my_cells", None)


LAWS = ["--laws", "C1,C5,C6,P2,P7", "--examples", "20", "--seed", "0"]


def test_a_right_cell(module, capsys):
    assert main(["check", f"{module}:Leaky", *LAWS]) == 0
    said = capsys.readouterr().out
    assert "Leaky: 5 laws: 5 pass" in said


def test_a_wrong_cell_by_file_and_as_a_page(module, capsys, tmp_path):
    assert main(["check", "my_cells.py:Leaking", *LAWS, "--html", "found.html"]) == 1
    said = capsys.readouterr().out
    assert "Leaking: " in said and "C6 does not hold" in said
    page = (tmp_path / "found.html").read_text(encoding="utf-8")
    assert "C6" in page and "http" not in page.replace("http://www.w3.org", "")


def test_a_law_skipped_with_its_reason(module, capsys):
    skipped = ["--laws", "C6", "--skip", "C6=rows are meant to see each other"]
    assert main(["check", f"{module}:Leaking", *skipped]) == 0
    assert "rows are meant to see each other" in " ".join(capsys.readouterr().out.split())


def test_a_pair(module, capsys):
    assert main(["check", f"{module}:product", "--laws", "P7", "--seed", "0"]) == 1
    assert "sign" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["my_cells"], "expected module:name or file.py:name"),
        (["my_cells:Nothing"], "expected a name of my_cells, got Nothing"),
        (["no_such_module:X"], "expected a module that can be imported"),
        (["nothing.py:X"], "there is no file nothing.py"),
        (["my_cells:Leaky", "--laws", "C99"], "law C99"),
        (["my_cells:Leaky", "--skip", "C6"], "expected LAW=REASON"),
    ],
)
def test_what_cannot_be_done_is_said_in_three_lines(module, capsys, args, said):
    assert main(["check", *args]) == 1
    error = capsys.readouterr().err
    assert said in error and "remedy:" in error


WITHOUT = """
import sys
for name in ("hypothesis", "pytest", "_pytest"):
    sys.modules[name] = None
from minigrad.testing import GradcheckError, check_cell, check_op, gradcheck
import minigrad as mg
import numpy as np
gradcheck(mg.tanh, np.ones(3))
test = check_cell(mg.nn.RNNCell, examples=3, seed=0)
test()
wrong = check_op((lambda x: x * x, lambda g, out, x: (g * x,)), name="square", examples=20)
try:
    wrong()
except GradcheckError as error:
    print(str(error).splitlines()[0])
"""


def test_without_hypothesis_and_pytest():
    made = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("square: the gradient of x: P7 does not hold")
