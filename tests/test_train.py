"""The training loop: schedule, log, checkpoints, interruption, resumption.

The task here is a toy whose every state is known; `tests/tasks` does the same with real models.
"""

import csv
import io
import json
import math
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from minigrad import io as files
from minigrad import train
from minigrad.errors import FileError, UsageError
from minigrad.train import CHECKPOINT, COLUMNS, LOG, TIMED_STEPS, Run, fit, load


class Toy:
    """w <- 1.25 w + lr: no learning rate can be missed, doubled or swapped without a trace."""

    def __init__(self, w: float = 1.0):
        self.w = np.array([w])
        self.rates: list[float] = []
        self.at: dict[int, object] = {}  # what else happens in the step of that number

    def step(self, lr: float) -> dict[str, float]:
        self.rates.append(lr)
        self.at.get(len(self.rates), lambda: None)()  # type: ignore[operator]
        self.w = 1.25 * self.w + lr
        return {"loss": 2 * math.log(2), "symbols": 3, "grad_norm": 0.5, "epoch": 0.25}

    def validate(self) -> float:
        return 4.0

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        return {"w": self.w}, {"task": "toy"}

    def steps_per_epoch(self) -> int:
        return 10


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / LOG, newline="") as file:
        return list(csv.DictReader(file))


def without_clock(folder: Path) -> list[dict[str, str]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows(folder)]


def resumed(folder: Path) -> tuple[Toy, Run]:
    arrays, metadata, run = load(folder)
    assert metadata["task"] == "toy"
    return Toy(arrays["w"].item()), run


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that advances by one second each time it is read: a step lasts one second."""
    ticks = iter(range(10**9))
    monkeypatch.setattr(train.time, "perf_counter", lambda: float(next(ticks)))


# --- the schedule --------------------------------------------------------------------------------


def test_the_rate_rises_then_falls_to_zero():
    run = Run(lr=2.0, warmup=50, steps=100)
    for step, rate in [(0, 2 / 50), (24, 2 * 0.5 * 0.76), (49, 2 * 0.51), (75, 0.5), (99, 0.02)]:
        run.step = step
        assert math.isclose(run.rate(), rate, rel_tol=1e-15)


def test_the_rate_depends_on_the_step_alone():
    slow, fast = Run(1.0, steps=9, step=4, seconds=1e3, symbols=5), Run(1.0, steps=9, step=4)
    assert slow.rate() == fast.rate()


def test_every_step_gets_its_rate_and_its_row(tmp_path: Path):
    toy, run = Toy(), Run(lr=1.0, warmup=5, steps=25)
    assert fit(toy, run, tmp_path)
    assert toy.rates == [min(1.0, (k + 1) / 5) * (1 - k / 25) for k in range(25)]
    log = rows(tmp_path)
    assert list(log[0]) == COLUMNS
    assert [int(row["step"]) for row in log] == list(range(1, 26))
    assert [int(row["symbols"]) for row in log] == list(range(3, 78, 3))
    assert [row["lr"] for row in log] == [f"{lr:.6g}" for lr in toy.rates]
    assert {row["bits"] for row in log} == {"2.000000"}
    assert {row["loss"] for row in log} == {"1.386294"}
    assert {(row["grad_norm"], row["epoch"]) for row in log} == {("0.5", "0.2500")}
    assert [int(r["step"]) for r in log if r["valid_bits"]] == [*range(2, 25, 2), 25]
    assert {r["valid_bits"] for r in log} == {"", "4.000000"}
    seconds = [float(row["seconds"]) for row in log]
    assert seconds == sorted(seconds)
    assert abs(seconds[-1] - run.seconds) < 1e-3


# --- how long ------------------------------------------------------------------------------------


def test_a_budget_becomes_a_number_of_steps():
    run = Run(1.0)
    run.set_budget(Toy(), epochs=2.54)
    assert (run.steps, run.minutes) == (25, None)
    run.set_budget(Toy(), epochs=1e-9)
    assert run.steps == 1
    run.set_budget(Toy(), steps=7)
    assert run.steps == 7
    run.set_budget(Toy(), minutes=2)
    assert (run.steps, run.minutes) == (None, 2)  # the speed is not known yet
    run.step, run.seconds, run.warm_seconds = 60, 15.0, 5.0
    run.set_budget(Toy(), minutes=2)
    assert run.steps == 60 + 5 * (120 - 15)


@pytest.mark.parametrize("budget", [{}, {"steps": 3, "minutes": 1.0}, {"steps": 0}, {"epochs": -1},
                                    {"minutes": math.inf}, {"minutes": math.nan}])  # fmt: skip
def test_a_budget_without_meaning(budget: dict):
    with pytest.raises(UsageError) as caught:
        Run(1.0).set_budget(Toy(), **budget)
    what, expected, remedy = str(caught.value).split("\n")
    got = ", ".join(f"{k} {v}" for k, v in budget.items()) or "none"
    assert what == "train: how long"
    assert expected == (f"  expected one of steps, epochs, minutes, above 0 and finite, got {got}")
    assert remedy == "  remedy: give one of the three"


@pytest.mark.parametrize(
    ("budget", "got"), [({"steps": 59}, 59), ({"epochs": 5}, 50), ({"minutes": 0.22}, 51)]
)
def test_a_budget_that_lies_behind(budget: dict, got: int):
    run = Run(1.0, steps=100, step=60, seconds=15.0, warm_seconds=5.0)  # five steps a second
    with pytest.raises(UsageError, match=f"at least the 60 steps .* got {got}\n"):
        run.set_budget(Toy(), **budget)
    assert run.steps == 100


def test_minutes_become_steps_once_the_speed_is_known(tmp_path: Path, ticking: None):
    toy, run = Toy(), Run(lr=1.0, warmup=1)
    run.set_budget(toy, minutes=1.5)
    assert fit(toy, run, tmp_path)
    assert run.steps == run.step == 90  # at a second a step
    falling = [1 - k / 90 for k in range(TIMED_STEPS, 90)]
    assert toy.rates == [1.0] * TIMED_STEPS + falling
    assert load(tmp_path)[2] == run  # the checkpoint keeps the number


def test_slow_first_steps_do_not_make_a_short_run():
    """A minute is left after 50 steps, the last 40 of them at a second each: 60 more."""
    run = Run(1.0, step=TIMED_STEPS, warm_seconds=100.0, seconds=140.0)
    assert run.steps_in(200 / 60) == TIMED_STEPS + 60


def test_a_budget_that_is_over_when_the_speed_is_known(tmp_path: Path, ticking: None):
    run = Run(lr=1.0, minutes=0.01)
    assert fit(Toy(), run, tmp_path)
    assert run.steps == run.step == TIMED_STEPS


# --- interruption and resumption -----------------------------------------------------------------


@pytest.fixture
def signals() -> Iterator[None]:
    """A signal that is not heeded fails the test, and not the whole session."""

    def handler(number, frame):
        raise AssertionError(f"signal {number} came through")

    before = {s: signal.signal(s, handler) for s in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, old in before.items():
        signal.signal(number, old)


def test_an_interrupt_finishes_the_step_and_saves(tmp_path: Path, signals: None):
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    for number in (signal.SIGINT, signal.SIGTERM):
        folder, toy, run = tmp_path / number.name, Toy(), Run(1.0, steps=9)
        toy.at[4] = lambda number=number: signal.raise_signal(number)
        assert not fit(toy, run, folder)
        assert run.step == 4 == len(rows(folder))
        arrays, _, saved = load(folder)
        assert saved == run
        assert np.array_equal(arrays["w"], toy.w)
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize("stops", [[1], [5], [24], [3, 8, 9], [19, 20, 21]])
def test_resumed_equals_uninterrupted(stops: list[int], tmp_path: Path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert fit(Toy(), Run(lr=0.1, warmup=7, steps=25), whole)
    toy, run = Toy(), Run(lr=0.1, warmup=7, steps=25)
    for stop in stops:
        toy.at[stop - run.step] = interrupt
        assert not fit(toy, run, parts)
        assert run.step == stop
        toy, run = resumed(parts)
    assert fit(toy, run, parts)
    assert np.array_equal(load(parts)[0]["w"], load(whole)[0]["w"])
    assert without_clock(parts) == without_clock(whole)


@pytest.mark.parametrize("stop", [3, TIMED_STEPS - 1, TIMED_STEPS, 55])
def test_before_minutes_are_steps_only_the_clock_differs(stop: int, tmp_path: Path, ticking: None):
    """With equal clocks an interruption changes nothing, whether or not the speed was known."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert fit(Toy(), Run(lr=0.1, minutes=1.1), whole)
    toy, run = Toy(), Run(lr=0.1, minutes=1.1)
    toy.at[stop] = interrupt
    assert not fit(toy, run, parts)
    toy, run = resumed(parts)
    assert run.steps == (66 if stop >= TIMED_STEPS else None)
    assert fit(toy, run, parts)
    assert run == load(whole)[2]
    assert np.array_equal(load(parts)[0]["w"], load(whole)[0]["w"])


def test_an_interrupt_in_the_last_step_is_heard_and_loses_nothing(tmp_path: Path):
    toy = Toy()
    toy.at[5] = interrupt
    assert not fit(toy, Run(1.0, steps=5), tmp_path)
    toy, run = resumed(tmp_path)
    assert fit(toy, run, tmp_path)
    assert toy.rates == []
    assert len(rows(tmp_path)) == 5


def test_an_interrupt_while_the_end_is_saved_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: None
):
    save = train.save
    monkeypatch.setattr(train, "save", lambda *what: (interrupt(), save(*what)))
    assert not fit(Toy(), Run(1.0, steps=5), tmp_path)
    assert load(tmp_path)[2].step == 5


def test_a_second_interrupt_stops_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(train, "SAVE_EVERY", -1.0)
    before, toy = signal.getsignal(signal.SIGINT), Toy()
    toy.at[4] = lambda: (interrupt(), interrupt())
    with pytest.raises(KeyboardInterrupt):
        fit(toy, Run(1.0, steps=9), tmp_path)
    assert len(toy.rates) == 4
    assert load(tmp_path)[2].step == 3  # the checkpoint before, whole
    assert signal.getsignal(signal.SIGINT) is before


def test_outside_the_main_thread_signals_are_left_alone(tmp_path: Path):
    done: list[bool] = []
    thread = threading.Thread(target=lambda: done.append(fit(Toy(), Run(1.0, steps=3), tmp_path)))
    thread.start()
    thread.join()
    assert done == [True]


def test_without_a_budget_only_an_interrupt_ends_it(tmp_path: Path):
    toy, run = Toy(), Run(1.0, warmup=1)
    toy.at[60] = interrupt
    assert not fit(toy, run, tmp_path)
    assert (run.step, run.steps) == (60, None)
    assert toy.rates == [1.0] * 60


# --- checkpoints and logs ------------------------------------------------------------------------


def test_checkpoints_come_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ticking: None
):
    saved: list[int] = []
    monkeypatch.setattr(train, "save", lambda path, task, run: saved.append(run.step))
    monkeypatch.setattr(train, "SAVE_EVERY", 30.0)
    assert fit(Toy(), Run(1.0, steps=100), tmp_path)
    assert saved == [31, 62, 93, 100]  # the clock advances by a second a step


def test_a_failing_step_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(train, "SAVE_EVERY", -1.0)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert fit(Toy(), Run(lr=0.1, steps=9), whole)
    toy = Toy()
    toy.at[6] = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        fit(toy, Run(lr=0.1, steps=9), parts)
    assert [path.name for path in sorted(parts.iterdir())] == [CHECKPOINT, LOG]
    toy, run = resumed(parts)
    assert run.step == 5
    assert fit(toy, run, parts)
    assert np.array_equal(load(parts)[0]["w"], load(whole)[0]["w"])
    assert without_clock(parts) == without_clock(whole)


def test_rows_beyond_the_checkpoint_and_broken_ones_are_dropped(tmp_path: Path):
    toy = Toy()
    toy.at[12] = interrupt
    assert not fit(toy, Run(1.0, steps=20), tmp_path)
    rest = ",3,1,1,1,1,1,\n"
    with open(tmp_path / LOG, "ab") as log:  # as a crash leaves it, and worse
        log.write(f"13,1{rest}14,1{rest}1".encode() + b"\nx\xff\n\n" + f"a,1{rest}".encode())
    toy, run = resumed(tmp_path)
    assert fit(toy, run, tmp_path)
    assert [int(row["step"]) for row in rows(tmp_path)] == list(range(1, 21))
    assert {row["epoch"] for row in rows(tmp_path)} == {"0.2500"}


def test_a_missing_log_is_begun_again(tmp_path: Path):
    toy = Toy()
    toy.at[2] = interrupt
    assert not fit(toy, Run(1.0, steps=4), tmp_path)
    (tmp_path / LOG).unlink()
    toy, run = resumed(tmp_path)
    assert fit(toy, run, tmp_path)
    assert [int(row["step"]) for row in rows(tmp_path)] == [3, 4]


def test_rows_are_in_the_file_as_soon_as_they_are_written(tmp_path: Path):
    seen: list[int] = []
    toy = Toy()
    toy.at = {k: lambda: seen.append(len(rows(tmp_path))) for k in range(1, 6)}
    assert fit(toy, Run(1.0, steps=5), tmp_path)
    assert seen == [0, 1, 2, 3, 4]


def test_the_checkpoint_is_one_file_beside_the_log(tmp_path: Path):
    run = Run(lr=0.5, steps=3)
    assert fit(Toy(), run, tmp_path / "a" / "b")
    folder = tmp_path / "a" / "b"
    assert sorted(path.name for path in folder.iterdir()) == [CHECKPOINT, LOG]
    arrays, metadata = files.load(folder / CHECKPOINT)
    assert json.loads(metadata["run"]) == vars(run)
    assert list(arrays) == ["w"]
    for path in (folder, folder / CHECKPOINT):
        assert load(path)[2] == run


def test_another_safetensors_file_is_no_checkpoint(tmp_path: Path):
    path = tmp_path / "other.safetensors"
    for metadata in ({}, {"run": "{"}, {"run": "[1]"}, {"run": '{"speed": 1}'}):
        files.save(path, {"w": np.zeros(2)}, metadata)
        with pytest.raises(FileError, match=r"expected a checkpoint of a training run, got anoth"):
            load(path)
    with pytest.raises(FileError, match="got no file"):
        load(tmp_path)


def test_a_folder_that_cannot_be(tmp_path: Path):
    path = tmp_path / "file"
    path.write_text("mine")
    toy = Toy()
    with pytest.raises(FileError) as caught:
        fit(toy, Run(1.0, steps=3), path)
    assert str(caught.value) == (
        f"train: the folder {str(path)!r}\n"
        "  expected one that can be made and written to, got: File exists\n"
        "  remedy: choose another with --out"
    )
    assert toy.rates == []
    assert path.read_text() == "mine"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(train, "SAVE_EVERY", -1.0)
    toy, run = Toy(), Run(1.0, steps=0)
    assert fit(toy, run, tmp_path)
    before = (tmp_path / CHECKPOINT).read_bytes()
    full = open("/dev/full", "w", buffering=1)  # noqa: SIM115
    monkeypatch.setattr(train, "_open_log", lambda path, step: full)
    run.steps = 5
    with pytest.raises(OSError, match="No space left"):
        fit(toy, run, tmp_path)
    assert len(toy.rates) == 1
    assert (tmp_path / CHECKPOINT).read_bytes() == before


# --- the progress bar ----------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_is_silent_unless_on_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    stream = io.StringIO()
    assert fit(Toy(), Run(1.0, steps=3), tmp_path / "file", stream)
    assert stream.getvalue() == ""
    assert fit(Toy(), Run(1.0, steps=3), tmp_path / "captured")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    assert fit(Toy(), Run(1.0, steps=3), tmp_path / "terminal")
    assert "100%" in terminal.getvalue()


def test_the_bar_shows_loss_bits_speed_and_time_left(tmp_path: Path, ticking: None):
    terminal = Terminal()
    assert fit(Toy(), Run(1.0, steps=40), tmp_path, terminal)
    shown = terminal.getvalue()
    assert "loss 1.386, 2.000 bits/char, 0k chars/s" in shown
    assert "00:" in shown and "<00:00" in shown
    assert "\x1b" not in shown  # no colours: there is nothing for NO_COLOR to take away
