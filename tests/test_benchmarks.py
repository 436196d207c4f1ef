"""The benchmarks: their arithmetic, their check, their reports. No time is asserted."""

import csv
import doctest
import importlib
import io
import math
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import contestants, peak, plot, problems, recurrent, report, scaling, workers
from benchmarks.contestants import Absent
from benchmarks.problems import CELLS, GRIDS, Problem, WrongAnswer
from benchmarks.report import Result

ROOT = Path(__file__).parent.parent
TINY = (2, 1, 3, 4)
SVG = "{http://www.w3.org/2000/svg}"
HERE = [cell for cell in CELLS if problems.offered(cell)]


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


# --- arithmetic ----------------------------------------------------------------------------------


def test_operations_are_counted():
    """T N = 6 rows times (5 + 7) inputs times G 7 outputs, two operations each."""
    shape = (2, 3, 5, 7)
    assert Problem("lstm", "f32", "inference", shape).flops == 2 * 6 * 12 * 28
    assert Problem("gru", "f64", "inference", shape).flops == 2 * 6 * 12 * 21
    assert Problem("rnn", "f32", "training", shape).flops == 3 * 2 * 6 * 12 * 7
    assert Problem("lstm", "f32", "inference", shape).gflops(4032) == 1e-9


@given(st.floats(0.1, 3.0), st.floats(1e-6, 1e3), st.lists(st.integers(0, 12), min_size=2))
def test_the_exponent_of_a_power_is_found(e: float, factor: float, logarithms: list[int]):
    sizes = [2.0**k for k in {*logarithms, 13}]
    if len(sizes) > 1:
        assert math.isclose(scaling.exponent(sizes, [factor * s**e for s in sizes]), e)


def test_the_exponent_is_that_of_least_squares():
    """Through (0, 0), (1, 3), (2, 0) and (3, 3) in logarithms: slope 3/5."""
    values = [1.0, math.e**3, 1.0, math.e**3]
    assert math.isclose(scaling.exponent([1, math.e, math.e**2, math.e**3], values), 0.6)


def result(**seconds: list[float]) -> Result:
    problem = Problem("lstm", "f32", "training", TINY)
    made = Result(problem, 2, 100.0, list(seconds))
    made.seconds = dict(seconds)
    made.notes = {name: "a way" for name in seconds}
    return made


def test_a_ratio_is_the_median_of_the_ratios_within_a_round():
    """A round in which everyone is slow changes no ratio; that of the medians would be 3 / 2."""
    r = result(minigrad=[1.0, 2.0, 10.0], torch=[3.0, 2.0, 30.0], jax=[2.0, 5.0, 4.0])
    assert (r.ratio("torch"), r.ratio("minigrad"), r.ratio("onnxruntime")) == (3.0, 1.0, None)
    assert r.best_peer() == "torch"
    assert r.quartiles("minigrad") == (1.5, 2.0, 6.0)
    assert r.percent("minigrad") == r.problem.gflops(2.0)
    assert report.ratios([r, result(minigrad=[1.0], torch=[12.0])], "torch") == pytest.approx(6.0)
    alone = result(torch=[1.0])
    assert (alone.ratio("torch"), result(minigrad=[1.0]).best_peer()) == (None, None)


def test_the_grids_hold_shapes():
    for name, shapes in GRIDS.items():
        assert len(set(shapes)) == len(shapes) > 0, name
        assert all(len(s) == 4 and min(s) >= 1 for s in shapes), name
    assert set(GRIDS["short"]) < set(GRIDS["issue"])
    assert recurrent.shapes(["2x1x3x4", "issue", "2x1x3x4"]) == [TINY, *GRIDS["issue"]]


# --- the check -----------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", HERE)
@pytest.mark.parametrize("phase", problems.PHASES)
def test_the_right_answer_is_right(cell: str, phase: str):
    problem = Problem(cell, "f64", phase, (3, 2, 3, 4))
    right = problems.right_answer(problem)
    gradients = {"xs", *CELLS[cell].states, *problems.WEIGHTS} if problem.training else set()
    assert set(right) == {"ys"} | gradients
    assert problems.check(problem, problems.in_minigrad(problem, "auto")(), right) < 1e-15
    single = problem._replace(dtype="f32")
    assert 0 < problems.check(single, problems.in_minigrad(single, "auto")(), right) < 1e-5


def spoiled(answer: dict, name: str, how: str) -> dict:
    a = answer[name].copy()
    if how == "slip":
        a.reshape(-1)[-1] += 1e-3 * np.abs(a).max()
    elif how == "nan":
        a.reshape(-1)[0] = np.nan
    elif how == "dtype":
        a = a.astype(np.float64)
    elif how == "size":
        a = a.reshape(-1)[:-1]
    return {k: v for k, v in {**answer, name: a}.items() if how != "gone" or k != name}


@pytest.mark.parametrize("how", ["slip", "nan", "dtype", "size", "gone"])
@pytest.mark.parametrize("name", ["ys", "xs", "h0", "c0", *problems.WEIGHTS])
def test_a_wrong_answer_is_refused(name: str, how: str):
    problem = Problem("lstm", "f32", "training", TINY)
    answer, right = problems.in_minigrad(problem, "auto")(), problems.right_answer(problem)
    problems.check(problem, answer, right)
    with pytest.raises(WrongAnswer, match=name):
        problems.check(problem, spoiled(answer, name, how), right)


class Fake:
    """A worker that answers as told, in this process."""

    def __init__(self, answer, seconds=1.0):
        self.answer, self.seconds, self.measured = answer, seconds, 0

    def prepare(self, problem):
        if isinstance(self.answer, Exception):
            raise self.answer
        return workers.Ready("a way", self.answer)

    def measure(self):
        self.measured += 1
        if self.measured > 2 * self.seconds:
            raise Absent("its process ended (exit code -9)")
        return self.seconds


def test_who_is_wrong_absent_or_dies_gets_no_time():
    problem = Problem("lstm", "f32", "training", TINY)
    answer, right = problems.in_minigrad(problem, "auto")(), problems.right_answer(problem)
    team = {
        "minigrad": Fake(answer, 2.0),
        "liar": Fake(spoiled(answer, "weight_hh", "slip"), 2.0),
        "mute": Fake(Absent("inference only")),
        "mortal": Fake(answer, 1.0),
        "honest": Fake(answer, 3.0),
    }
    found = recurrent.measure(problem, 1, team, right, 4, 10.0)
    assert found.seconds == {"minigrad": [2.0] * 4, "honest": [3.0] * 4}
    assert team["liar"].measured == team["mute"].measured == 0
    assert found.faults == {
        "liar": "the gradient of weight_hh is off by 1.0e-03 of the largest entry",
        "mute": "inference only",
        "mortal": "its process ended (exit code -9)",
    }
    text = report.table([found])
    assert "  liar: the gradient of weight_hh is off by 1.0e-03 of the largest entry" in text
    assert "1.50x honest" in text and "liar  ratio" not in text


# --- reports -------------------------------------------------------------------------------------


def results() -> list[Result]:
    found = []
    for cell, threads, shape in [("lstm", 1, TINY), ("gru", 2, TINY), ("lstm", 1, (8, 1, 3, 64))]:
        r = result(minigrad=[1e-3, 1e-3], torch=[2e-3, 2e-3], jax=[5e-4, 4e-4])
        r.problem, r.threads = r.problem._replace(cell=cell, shape=shape), threads
        r.names.append("onnxruntime")
        r.faults["onnxruntime"] = "inference only <yet>"
        found.append(r)
    return found


def test_tables_group_and_summarise():
    made = results()
    assert [[r.problem.cell for r in g] for g in report.groups(made)] == [["lstm"] * 2, ["gru"]]
    lines = report.table(report.groups(made)[0]).splitlines()
    assert lines[0] == "LSTM, f32, 1 thread, training; minigrad: a way"
    assert lines[1].split()[:4] == ["T", "N", "I", "H"]
    assert lines[2].split()[:7] == ["2", "1", "3", "4", "1.00", "1.00", "-"]
    assert lines[4].split() == ["mean", "2.00x", "0.450x", "0.450x"]
    assert lines[5:] == ["  onnxruntime: inference only <yet>"]
    assert len({len(line) for line in lines[1:4]}) <= 2  # the last column is as long as its text
    last = report.summary(made).splitlines()[-1]
    assert last.split() == ["GRU,", "reset", "after,", "f32,", "2", "threads,", "training",
                            "2.00x", "0.450x", "-"]  # fmt: skip


def test_the_csv_has_a_row_for_each_contestant():
    file = io.StringIO()
    report.write_csv(file, results(), {"torch": "2.0"})
    rows = list(csv.DictReader(io.StringIO(file.getvalue())))
    assert len(rows) == 3 * 4
    torch = rows[1]
    assert (torch["contestant"], torch["version"], torch["variant"]) == ("torch", "2.0", "a way")
    assert (torch["median_ms"], torch["ratio_to_minigrad"], torch["rounds"]) == ("2", "2", "2")
    assert (rows[3]["median_ms"], rows[3]["fault"]) == ("", "inference only <yet>")


def test_the_plot_is_xml_and_shows_everyone_with_a_time():
    made = results()
    root = ElementTree.fromstring(plot.plot(made))
    assert root.tag == SVG + "svg"
    texts = [element.text for element in root.iter(SVG + "text")]
    for name in ("minigrad", "torch", "jax"):
        assert texts.count(name) == 2  # one legend for each table
    assert "onnxruntime" not in texts
    assert {"LSTM, f32, 1 thread, training", "GRU, reset after, f32, 2 threads, training"} <= {
        *texts
    }
    told = [element.text or "" for element in root.iter(SVG + "title")]
    assert "jax, 8, 1, 3, 64: 0.450 times minigrad's 1.00 ms" in told
    marks = [e for e in root.iter() if e.tag in (SVG + "circle", SVG + "polygon")]
    assert len(marks) == 2 * 3 + 3 * 3 + 3 * 2  # legends, times, ratios
    assert {mark.get("fill") for mark in marks} == set(plot.COLOURS[:3])
    width, height = (float(root.attrib[k]) for k in ("width", "height"))
    for element in root.iter():
        for key, most in (("x", width), ("cx", width), ("y", height), ("cy", height)):
            assert 0 <= float(element.get(key, 0)) <= most
    assert root.findall(SVG + "text") == list(root.iter(SVG + "text"))
    assert "prefers-color-scheme: dark" in plot.plot(made)


def test_a_plot_of_minigrad_alone_has_no_ratios():
    root = ElementTree.fromstring(plot.plot([result(minigrad=[1e-3])]))
    texts = [element.text or "" for element in root.iter(SVG + "text")]
    assert "minigrad" in texts and not any("time over minigrad's" in text for text in texts)


@pytest.mark.parametrize("module", [report, plot, scaling])
def test_the_examples_in_the_docstrings_run(module):
    outcome = doctest.testmod(module)
    assert outcome.failed == 0 < outcome.attempted


# --- the peers, where they are installed ---------------------------------------------------------


@pytest.mark.parametrize("name", contestants.PEERS)
@pytest.mark.parametrize("cell", HERE)
def test_every_variant_of_every_peer_is_right(name: str, cell: str):
    for module in contestants.NEEDS.get(name, (name,)):
        pytest.importorskip(module)
    compared = 0
    for dtype, phase in (("f64", "training"), ("f32", "inference")):
        problem = Problem(cell, dtype, phase, (3, 2, 3, 4))
        try:
            variants = contestants.LIBRARIES[name](problem, 1)
        except Absent:
            continue
        right = problems.right_answer(problem)
        for variant in variants:
            problems.check(problem, variant.read(variant.run()), right)
            compared += 1
    assert compared > 0 or (name, cell) == ("torch", "gru-before")


def test_a_worker_that_ends_is_replaced():
    problem = Problem("lstm", "f32", "training", TINY)
    right = problems.right_answer(problem)
    with workers.hired(["minigrad"], 1, 1) as team:
        worker = team["minigrad"]
        with pytest.raises(Absent, match="no rnn"):
            worker.prepare(problem._replace(cell="no rnn"))
        ready = worker.prepare(problem)
        assert ready.note in ("fused", "unfolded")
        problems.check(problem, ready.answer, right)
        assert worker.measure() > 0
        worker.process.kill()
        with pytest.raises(Absent, match="its process ended"):
            worker.measure()
        problems.check(problem, worker.prepare(problem).answer, right)
        process = worker.process
        assert process.is_alive()
    assert not process.is_alive()


# --- the programs --------------------------------------------------------------------------------


def test_the_list_of_benchmarks():
    done = run("benchmarks")
    assert (done.returncode, done.stderr) == (0, "")
    for name in importlib.import_module("benchmarks.__main__").NAMES:
        assert f"\n  {name} " in done.stdout
    assert run("benchmarks", "nodez").returncode == 2


def test_one_tiny_shape_beside_its_unfolded_form(tmp_path: Path):
    done = run(
        *("benchmarks", "recurrent", "--peers", "unfolded", "--grid", "2x1x3x4", "--cells", "lstm"),
        *("--threads", "1", "--rounds", "2"),
        *("--csv", str(tmp_path / "t.csv"), "--svg", str(tmp_path / "t.svg")),
    )
    assert (done.returncode, done.stderr) == (0, "")
    for phase in problems.PHASES:
        assert f"LSTM, f32, 1 thread, {phase}; minigrad: " in done.stdout
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["phase"], row["contestant"], row["rounds"]) for row in rows] == [
        (phase, name, "2") for phase in problems.PHASES for name in ("minigrad", "unfolded")
    ]
    texts = [e.text for e in ElementTree.parse(tmp_path / "t.svg").iter(SVG + "text")]
    assert texts.count("minigrad") == texts.count("unfolded") == 2


@pytest.mark.parametrize(
    ("argument", "value", "said"),
    [
        ("--grid", "tech", "no grid 'tech'"),
        ("--grid", "1x2x3", "no grid '1x2x3'"),
        ("--grid", "1x2x0x3", "no grid '1x2x0x3'"),
        ("--cells", "lstn", "no cell 'lstn'"),
        ("--peers", "keras", "no peer 'keras'"),
        ("--dtypes", "f16", "no dtype 'f16'"),
        ("--rounds", "0", "numbers from 1"),
    ],
)
def test_wrong_arguments_are_refused(argument, value, said, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        recurrent.main([argument, value])
    assert said in capsys.readouterr().err


def test_a_peer_that_is_not_installed_is_skipped(monkeypatch, capsys):
    monkeypatch.setattr(recurrent, "missing", lambda name: [name])
    monkeypatch.setattr(recurrent, "run", lambda *_: iter(()))
    arguments = ["--peers", "torch", "--cells", "lstm", "--threads", "1", "--grid", "2x1x3x4"]
    assert recurrent.main(arguments) == 0
    assert "torch: skipped, torch not installed (./build.sh peers)\n" in capsys.readouterr().out


def test_without_a_compiler_there_is_no_peak(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    peak.compiled.cache_clear()
    assert peak.gflops("f32") is None
    peak.compiled.cache_clear()
    assert report.number(result(minigrad=[1.0]).percent("minigrad")) != "-"
    unknown = result(minigrad=[1.0])
    unknown.peak = None
    assert report.number(unknown.percent("minigrad")) == "-"


def test_memory_is_counted_in_values_of_size_h():
    """Inference keeps the outputs alone; training several values, in memory that is reused."""
    shape = (64, 32, 8, 64)  # of outputs large enough for that
    kept = {
        phase: scaling.memory(Problem("lstm", "f32", phase, shape))["kept"]
        for phase in problems.PHASES
    }
    assert 1 <= kept["inference"] < 1.2 and kept["training"] > 2
