"""Reports: what they say, how wide they are, and snippets that fail again."""

import functools
import html.parser
import importlib
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import BUGS, CELLS, OPS, G, find

import minigrad as mg
from minigrad.errors import UsageError
from minigrad.testing import Array, Example, Sequences, check_op, command, replay
from minigrad.testing import strategies as mgst
from minigrad.testing.check import Check, GradcheckError
from minigrad.testing.laws import Finding, Law
from minigrad.testing.op_laws import OP_LAWS, OpInfo
from minigrad.testing.replay import code, snippet
from minigrad.testing.report import Report, html_page, summary
from minigrad.testing.run import Result
from minigrad.testing.shrink import simplify
from minigrad.testing.subject import Pair, origin_of, subject_of

replaying = importlib.import_module("minigrad.testing.replay")  # the package has a function replay
INFO = SimpleNamespace(name="LSTM", argument=lambda i: "xs")
EVERY = Law("P7", "the gradient is that of the function", lambda *_: None, lambda info: None)


def failure(example=None, **finding):
    example = example or Sequences(4, 2, 1, 3, lengths=(4, 2))
    found = Finding("the gradient of W", "1 +- 1e-12", "2 at (5, 0)", "W", **finding)
    result = Result(EVERY, "fail", examples=7, example=example, finding=found, resolution=2.5e-13,
                    method="complex step", evaluations=41, inconclusive=1)  # fmt: skip
    return Report(INFO, result)


def wide(n=12):
    N = np.arange(1.0, n + 1).reshape(n, 1)
    A = N.copy()
    A[5] += 3
    A[7] += 1e-9
    facts = {"gates": {"W": "ifgo"}, "H": 3}
    return failure(
        analytic=A, numeric=N, error=np.full(N.shape, 1e-12), axes=("unit", "column"), facts=facts
    )


def narrow(text):
    return max(map(len, text.splitlines())) <= 100


# --- text ----------------------------------------------------------------------------------------


def test_the_first_line_says_what_which_input_which_law():
    assert wide().text().splitlines()[0] == "LSTM: the gradient of W: P7 does not hold"


def test_the_worst_entries_have_names_and_come_first():
    lines = wide().text().splitlines()
    at = next(i for i, line in enumerate(lines) if "analytic" in line)
    assert lines[at].split() == [
        "index",
        "analytic",
        "numeric",
        "bar",
        "difference",
        "/",
        "tolerance",
    ]
    first, second = lines[at + 1 : at + 3]
    assert first.strip().startswith("unit 2 (gate f), column 0")
    assert first.split()[-4:] == ["9", "6", "1.0e-12", "3e+12"]
    assert second.strip().startswith("unit 1 (gate g), column 0")
    assert second.split()[-4:-2] == ["8.000000001", "8"]  # digits enough to tell them apart
    assert "(2 of 12 entries are wrong)" in lines[at + 3]


def test_at_most_eight_entries():
    N = np.ones((5, 5))
    text = failure(analytic=2 * N, numeric=N, error=0 * N + 1e-12).text()
    assert sum("5e+11" in line or "1e+12" in line for line in text.splitlines()) == 8
    assert "25 of 25 entries are wrong" in text


def test_all_parts_are_there():
    text = wide().text()
    for part in (
        "The law: the gradient is that of the function.",
        "Expected 1 +- 1e-12, got 2 at (5, 0).",
        "T = 4 steps, N = 2 rows, I = 1 features, H = 3 units",
        "lengths (4, 2)",
        "Likely cause",
        "1. ",
        "'P7', example)",
        "Smallest relative error this run could have seen: 2.5e-13.",
        "7 examples tried; 1 inconclusive; 41 calls of the forward code; oracle: complex step.",
    ):
        assert part in text, part


@pytest.mark.parametrize("name", BUGS)
def test_no_line_is_wider_than_100_columns(name):
    info, result = find(BUGS[name], 0, simplify if name in CELLS else None)
    report = Report(info, result)
    assert narrow(report.text())
    assert narrow(summary(info, [result] * 3))


WORDS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=300)


@settings(max_examples=25)
@given(WORDS, WORDS)
def test_long_words_do_not_widen_it(what, reason):
    finding = Finding(what, reason, what, what)
    example = Example((Array((40,), data=np.pi * np.arange(40)),))
    result = Result(EVERY, "fail", reason, example=example, finding=finding)
    report = Report(SimpleNamespace(name=what, argument=lambda i: reason), result)
    assert narrow(report.text() + "\n.")
    assert narrow(summary(report.info, [result, Result(EVERY, "skip", reason)]))


def test_a_report_of_what_did_not_fail():
    report = Report(INFO, Result(EVERY, "inconclusive", "the bar is too wide", 5, 5))
    assert report.text().startswith("LSTM: P7: inconclusive\n")
    assert "the bar is too wide" in report.text()
    assert report.causes() == []


def test_nan_and_no_bar():
    A, N = np.array([np.nan, 1.0, np.inf]), np.array([1.0, 1.0, 2.0])
    text = failure(analytic=A, numeric=N, error=np.zeros(3)).text()
    assert "2 of 3 entries are wrong" in text and "nan" in text and "inf" in text


def test_summary_is_aligned():
    skip = Result(OP_LAWS["P2"], "skip", "no gates")
    lines = summary(
        INFO, [Result(EVERY, "pass", examples=100, resolution=1e-13), skip]
    ).splitlines()
    assert lines[0] == "LSTM: 2 laws: 1 pass, 1 skip"
    column = lines[1].index("title")
    assert lines[2][column:] == EVERY.title
    assert "(no gates)" in " ".join(" ".join(lines[3:]).split())
    assert lines[2].split()[:6] == ["P7", "pass", "100", "0", "1e-13", "-"]


# --- HTML ----------------------------------------------------------------------------------------


class Page(html.parser.HTMLParser):
    """What a page consists of; fails at a tag that is not closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words = [], [], ""
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words += data


def test_a_page_says_the_same_and_fetches_nothing():
    report = wide()
    page = Page(report.html())
    for line in report.snippet.splitlines():
        assert line in page.words
    for cause in report.causes():
        assert cause.text in page.words
    assert "unit 2 (gate f), column 0" in page.words
    assert not {t for t, _ in page.tags} & {"script", "link", "img", "iframe"}
    assert not any("src" in a or a.get("href", "#")[0] != "#" for _, a in page.tags)
    assert "url(" not in report.html() and "@import" not in report.html()


def test_the_heat_map_has_a_square_an_entry_and_time_from_left_to_right():
    N = np.ones((3, 2, 2))
    A = N.copy()
    A[2, 0, 1] = 2
    report = failure(analytic=A, numeric=N, error=0 * N + 1e-12, axes=("t", "row", "feature"))
    squares = [a for t, a in Page(report.html()).tags if t == "rect"]
    assert len(squares) == 12
    bad = [a for a in squares if a["class"] == "bad"]
    assert [(a["x"], a["y"]) for a in bad] == [("36", "18")]


def test_what_is_written_into_a_page_is_escaped():
    info = SimpleNamespace(name="<script>x</script>", argument=lambda i: "&")
    report = Report(
        info, Result(EVERY, "fail", example=Example(()), finding=Finding("<b>", "<", ">"))
    )
    assert "<script>" not in report.html() and "<b>" not in report.html()


def test_several_laws_on_one_page():
    info, result = find(BUGS["sign"], 0)
    page = html_page(info, [result, Result(EVERY, "pass", examples=3)])
    found = Page(page)
    assert ("a", {"href": "#G"}) in found.tags
    assert any(a.get("id") == "G" for _, a in found.tags)
    assert "planted: 2 laws: 1 pass, 1 fail" in found.words


# --- snippets ------------------------------------------------------------------------------------


def in_a_fresh_process(text):
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)


REAL = {k: b for k, b in OPS.items() if b.law is not G["G"]}


@pytest.mark.parametrize("name", REAL)
def test_a_snippet_fails_again(name):
    bug = REAL[name]
    info, result = find(bug, 0, simplify)
    made = in_a_fresh_process(
        snippet(info, result.law, result.example, _import(f"OPS[{name!r}].pair"))
    )
    assert made.returncode == 1, made.stderr
    assert f"planted: {result.finding.what}: {result.law.id} does not hold" in made.stderr
    assert narrow(made.stderr.split("GradcheckError: ")[1])


def _import(what):
    folder = str(Path(__file__).parent.parent)
    return f"import sys\nsys.path.insert(0, {folder!r})\nimport planted\nf = planted.{what}"


DOZEN = [k for k in OPS if k not in REAL]


def test_snippets_of_a_dozen_bugs_fail_again_for_the_same_law():
    """In one process, as a snippet does it: from its text alone."""
    for name in DOZEN:
        bug = OPS[name]
        info, result = find(bug, 0, simplify)
        text = snippet(
            info, result.law, result.example, f"from planted import OPS\nf = OPS[{name!r}].pair"
        )
        assert narrow(text)
        scope = {}
        exec(text.rpartition("\n")[0], scope)
        example = scope["example"]
        for a, b in zip(example.arrays(), result.example.arrays(), strict=True):
            assert a.tobytes() == b.tobytes() and a.dtype == b.dtype and a.strides == b.strides
        law = bug.law
        from minigrad.testing.run import finding_of

        again = finding_of(law, OpInfo(Pair(*scope["f"]), names=info.names), example)
        assert again is not None and again.what == result.finding.what
    assert len(DOZEN) >= 12


def double(x):
    return 2 * x


def wrong(g, out, x):
    return (g.astype(np.float32) * 2,)


pair = double, wrong
check = Check(
    OpInfo(Pair(lambda x: 2 * x, lambda g, out, x: (g.sum(),), name="unnamed"), names=("x",)),
    OP_LAWS, mgst.dressed(mgst.arrays((2,))), laws=["P2"], seed=0,
)  # fmt: skip


def test_a_pair_of_functions_is_found_by_its_names():
    made = in_a_fresh_process(snippet(OpInfo(subject_of(pair)), "P2", Example((Array((2,)),))))
    assert made.returncode == 1
    assert "double: the gradient of argument 0: P2 does not hold" in made.stderr


def test_functions_without_a_name_are_found_through_their_check():
    result = check.run_law("P2")
    text = check.report(result).snippet
    assert "['check'].info" in text
    made = in_a_fresh_process(text)
    assert made.returncode == 1
    assert "unnamed: the gradient of x: P2 does not hold" in made.stderr


def test_a_snippet_says_when_a_function_cannot_be_found():
    info = OpInfo(subject_of((lambda x: x, lambda g, out, x: (g,))))
    text = snippet(info, "P2", Example((Array((2,)),)))
    assert "f = ...  # put the function here" in text


def test_a_snippet_that_holds_ends_well():
    made = in_a_fresh_process(snippet(OpInfo(subject_of(mg.tanh)), "P5", Example((Array((2,)),))))
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("tanh: P5 holds on this example")


def test_replay():
    with pytest.raises(
        GradcheckError, match="double: the gradient of argument 0: P2 does not hold"
    ):
        replay(pair, "P2", Example((Array((2,)),)))
    with pytest.raises(UsageError, match="P99"):
        replay(pair, "P99", Example((Array((2,)),)))


class Scale:
    def __init__(self, by):
        self.by = by

    def forward(self, x):
        return self.by * x

    @staticmethod
    def twice(x):
        return 2 * x


by_three = Scale(3)
quarter = functools.partial(np.multiply, 0.25)
by_letter = {"d": lambda x: x + x}


@pytest.mark.parametrize(
    ("function", "value"),
    [
        (double, 4.0),
        (by_three.forward, 6.0),
        (Scale.twice, 4.0),
        (np.square, 4.0),
        (quarter, 0.5),
        (by_letter["d"], 4.0),
        (mg.tanh, float(np.tanh(2.0))),
    ],
)
def test_origins(function, value):
    made = origin_of(function)
    scope = {}
    exec(made, scope)
    assert float(np.asarray(mg.tensor(scope["f"](2.0)).data)) == value


def test_what_no_name_leads_to_has_no_origin():
    assert origin_of(lambda x: x) is None
    assert origin_of(Scale(4).forward) is None


@given(st.data())
def test_values_are_written_to_the_last_bit(data):
    dtype = data.draw(st.sampled_from(["float64", "float32", "int64", "bool"]))
    shape = data.draw(st.sampled_from([(), (0,), (3,), (2, 3), (1, 20), (2, 0)]))
    bits = np.dtype(dtype).itemsize * 8
    n = int(np.prod(shape))
    if dtype == "bool":
        a = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)), bool)
    elif dtype == "int64":
        a = np.array(data.draw(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=n, max_size=n)))
    else:
        floats = st.floats(width=bits)
        a = np.array(data.draw(st.lists(floats, min_size=n, max_size=n)), dtype)
    a = a.astype(dtype).reshape(shape)
    b = eval(code(a), {"np": np})
    assert (b.shape, b.dtype) == (a.shape, a.dtype)
    assert np.array_equal(a, b, equal_nan=dtype.startswith("f"))
    if dtype.startswith("f"):  # of a zero; one NaN is as good as another
        assert (np.signbit(a) == np.signbit(b))[~np.isnan(a)].all()
    made = Array(shape, dtype, data=a)
    again = eval(code(made), {"np": np, "Array": Array})
    assert np.array_equal(again.array(0, 0), a, equal_nan=dtype.startswith("f"))


@given(st.integers(0, 2**32 - 1))
def test_examples_are_written_so_that_they_can_be_read(seed):
    scope = {"np": np, "Array": Array, "Example": Example, "Sequences": Sequences}
    example = mgst.dressed(mgst.broadcastable(2)).sample(seed)
    again = eval(code(example), scope)
    assert all(
        a.tobytes() == b.tobytes() for a, b in zip(again.arrays(), example.arrays(), strict=True)
    )
    batch = mgst.sequences().sample(seed)
    assert eval(code(batch), scope) == batch


def test_other_values():
    for value in ((1,), [2.5], {"axis": None}, slice(None, None, -1), "x", np.float64(2), -np.inf):
        assert eval(code(value), {"np": np}) == value
    assert eval(code(np.float32), {"np": np}) is np.float32
    assert eval(code(np.dtype("int32")), {"np": np}) == np.int32


def test_how_many_entries_are_wrong_is_said_in_grammar():
    def said(n, wrong):
        A = np.ones(n)
        A[:wrong] = 2
        return failure(analytic=A, numeric=np.ones(n), error=np.zeros(n)).text()

    assert "(the only entry is wrong)" in said(1, 1)
    assert "(1 of 2 entries is wrong)" in said(2, 1)


def test_only_p7_calls_what_it_compares_with_numeric():
    text = wide().text()
    other = wide()
    other.result.law = EVERY._replace(id="C6")
    assert "analytic" in text and "  got " in other.text() and "analytic" not in other.text()


def test_a_call_that_is_refused_has_one_cause_and_it_is_not_a_guess_at_the_law():
    def picky(x):
        raise ValueError("two axes, please")

    check = check_op(picky, inputs=((2, 3),), laws=["P15"], examples=1, seed=0).check
    (cause,) = check.report(check.run_law("P15")).causes()
    assert cause.name == "forward" and "inputs=" in cause.text


def test_a_command_reports_what_several_laws_find_once(tmp_path, capsys):
    file = tmp_path / "picky.py"
    file.write_text(
        "from minigrad.testing import check_op\n"
        "def picky(x):\n    raise ValueError('four axes')\n"
        "test = check_op(picky, inputs=((2,),), examples=1, seed=0)\n"
    )
    assert command.check(f"{file}:test", laws=["P1", "P2", "P7"]) == 1
    printed = capsys.readouterr().out
    assert printed.count("does not hold") == 1
    assert "The same is found by P2, P7." in printed


def test_looking_for_a_name_asks_the_values_of_modules_nothing():
    class Deprecated:
        def __getattribute__(self, name):
            raise AssertionError(f"asked for {name}")

    assert replaying._leads_to(INFO, Deprecated()) is None
