"""The training loop: budget, progress, log, checkpoints, interruption, resumption.

What is learned is a `Task`; what is here is the same for all tasks. A run's state after a step is
a function of its configuration and the number of steps alone: no clock enters. So an interrupted
and resumed run has the same bits as an uninterrupted one. A budget in minutes is turned into a
number of steps once the speed is known, and the checkpoint keeps that number. The clock decides
how large it is, so two runs of so many minutes differ from there on, interrupted or not.
"""

from __future__ import annotations

import contextlib
import csv
import json
import math
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, TextIO

import numpy as np
from tqdm import tqdm

from . import io
from .errors import FileError, UsageError

CHECKPOINT, LOG = "checkpoint.safetensors", "log.csv"
COLUMNS = ["step", "epoch", "symbols", "seconds", "lr", "loss", "bits", "grad_norm", "valid_bits"]
WARM_STEPS = 10  # the first ones are slower, and do not count when the speed is measured
TIMED_STEPS = 50  # after so many the speed is known, and minutes become a number of steps
VALIDATIONS = 10  # in a run, evenly spread, the last one at its end
SAVE_EVERY = 30.0  # seconds between checkpoints: what a crash may cost


class Task(Protocol):
    """What `fit` needs to know of a task."""

    def step(self, lr: float) -> dict[str, float]:
        """One update; returns loss (nats a symbol), symbols, grad_norm, epoch."""

    def validate(self) -> float:
        """Bits a symbol on a part of the held-out text."""

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """Everything that the next step depends on, as arrays and text."""

    def steps_per_epoch(self) -> int:
        """How many updates read the training part once."""


@dataclass
class Run:
    """How far a run is and how far it is to go; stands in the checkpoint."""

    lr: float
    warmup: int = 50
    steps: int | None = None  # to go in all; None while the speed is not known
    minutes: float | None = None  # the budget, if it was one in minutes
    step: int = 0
    symbols: int = 0
    seconds: float = 0.0
    warm_seconds: float = 0.0  # what the first WARM_STEPS took

    def rate(self) -> float:
        """The learning rate of the next step: a linear rise, then a linear fall to zero."""
        rise = min(1.0, (self.step + 1) / self.warmup)
        fall = 1.0 if self.steps is None else 1 - self.step / self.steps
        return self.lr * rise * fall

    def validates(self) -> bool:
        """Whether the step just done is followed by a validation."""
        if self.steps is None:
            return False
        return self.step == self.steps or self.step % max(1, self.steps // VALIDATIONS) == 0

    def set_budget(
        self,
        task: Task,
        steps: int | None = None,
        epochs: float | None = None,
        minutes: float | None = None,
    ) -> None:
        """How long to train in all, counted from the beginning: exactly one of the three.

        Raises `UsageError` for none, for several, for one that is not above 0 and finite, and for
        fewer steps than the run has behind it.
        """
        budgets = [("steps", steps), ("epochs", epochs), ("minutes", minutes)]
        given = {k: v for k, v in budgets if v is not None}
        if len(given) != 1 or not all(0 < v < math.inf for v in given.values()):
            raise UsageError(
                "train: how long",
                "expected one of steps, epochs, minutes, above 0 and finite, got "
                + (", ".join(f"{k} {v}" for k, v in given.items()) or "none"),
                "give one of the three",
            )
        if epochs is not None:
            steps = max(1, round(epochs * task.steps_per_epoch()))
        if minutes is not None:
            steps = self.steps_in(minutes)
        if steps is not None and steps < self.step:
            raise UsageError(
                "train: how long",
                f"expected at least the {self.step} steps that the run has behind it, got {steps}",
                "give a larger budget; it counts from the beginning of the run",
            )
        self.steps, self.minutes = steps, minutes

    def steps_in(self, minutes: float) -> int | None:
        """How many steps fit into a run of so many minutes; None while the speed is not known."""
        if self.step < TIMED_STEPS:
            return None
        pace = (self.seconds - self.warm_seconds) / (self.step - WARM_STEPS)
        return max(TIMED_STEPS, self.step + round((60 * minutes - self.seconds) / pace))

    def metadata(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_metadata(cls, text: str) -> Run:
        return cls(**json.loads(text))


def fit(task: Task, run: Run, folder: Path, stream: TextIO | None = None) -> bool:
    """Trains to the end of the budget; True, or False if an interrupt (Ctrl-C) stopped it.

    Writes `checkpoint.safetensors` (atomically, now and then and at the end) and `log.csv` to
    `folder`. The step under way is finished first, and then the state saved; a second Ctrl-C
    raises `KeyboardInterrupt` at once. After that, or an error in a step, the last
    checkpoint is as it was. A run without a budget goes on until it is interrupted.

    task: what is trained. run: brought forward in place. stream: where the progress bar goes if
    that is a terminal (standard error). Raises `FileError` where `folder` cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(
            f"train: the folder {str(folder)!r}",
            f"expected one that can be made and written to, got: {error.strerror}",
            "choose another with --out",
        ) from error
    saved_at = started = time.perf_counter()
    seconds_before = run.seconds
    mean_loss = math.nan
    with (
        _interruptible() as interrupted,
        _open_log(folder / LOG, run.step) as log,
        tqdm(
            total=run.steps,
            initial=run.step,
            file=sys.stderr if stream is None else stream,
            disable=None,  # silent when not a terminal
            dynamic_ncols=True,
            bar_format="{l_bar}{bar}| {elapsed}<{remaining}{postfix}",  # fits into 80 columns
        ) as bar,
    ):
        rows = csv.writer(log, lineterminator="\n")
        while (run.steps is None or run.step < run.steps) and not interrupted.is_set():
            lr = run.rate()
            result = task.step(lr)
            run.step += 1
            run.symbols += int(result["symbols"])
            now = time.perf_counter()
            run.seconds = seconds_before + now - started
            if run.step == WARM_STEPS:
                run.warm_seconds = run.seconds
            if run.steps is None and run.minutes is not None:
                run.steps = bar.total = run.steps_in(run.minutes)
            valid = f"{task.validate():.6f}" if run.validates() else ""
            loss = result["loss"]
            rows.writerow([
                run.step, f"{result['epoch']:.4f}", run.symbols, f"{run.seconds:.3f}",
                f"{lr:.6g}", f"{loss:.6f}", f"{loss / math.log(2):.6f}",
                f"{result['grad_norm']:.6g}", valid,
            ])  # fmt: skip
            mean_loss = loss if math.isnan(mean_loss) else 0.98 * mean_loss + 0.02 * loss
            bar.set_postfix_str(
                f"loss {mean_loss:.3f}, {mean_loss / math.log(2):.3f} bits/char, "
                f"{run.symbols / max(run.seconds, 1e-9) / 1000:.0f}k chars/s",
                refresh=False,
            )
            bar.update()
            if now - saved_at > SAVE_EVERY:
                save(folder / CHECKPOINT, task, run)
                saved_at = now
        save(folder / CHECKPOINT, task, run)
    return not interrupted.is_set()


# --- checkpoints and logs ------------------------------------------------------------------------


def save(path: Path, task: Task, run: Run) -> None:
    """Writes the state of a task and its run to one file, wholly or not at all."""
    arrays, metadata = task.state()
    io.save(path, arrays, {**metadata, "run": run.metadata()})


def load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str], Run]:
    """What `save` has written; `path` may be the folder. Raises `FileError`."""
    path = path / CHECKPOINT if path.is_dir() else path
    arrays, metadata = io.load(path)
    try:
        return arrays, metadata, Run.from_metadata(metadata["run"])
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(
            f"load: {str(path)!r}",
            f"expected a checkpoint of a training run, got another safetensors file ({error!r})",
            "give the checkpoint.safetensors that a run has written",
        ) from error


def _open_log(path: Path, step: int) -> TextIO:
    """The log, ready to go on after `step`: rows beyond the checkpoint are taken out.

    Every row goes to the file as it is written. So the rows up to a checkpoint are whole, and one
    that a crash has cut short lies beyond it.
    """
    kept = [",".join(COLUMNS)]
    if step and path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()[1:]:
            number, *others = line.split(",")
            if number.isdecimal() and int(number) <= step and len(others) == len(COLUMNS) - 1:
                kept.append(line)
    io.write_atomically(path, ("\n".join(kept) + "\n").encode())
    return open(path, "a", buffering=1, newline="", encoding="utf-8")


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Within the block, the first Ctrl-C (or SIGTERM) sets the event; a second one interrupts.

    An interrupt in the middle of an update would leave half-changed parameters; so the loop asks
    between two steps.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def handler(number, frame):
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    before = {s: signal.signal(s, handler) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for s, h in before.items():
            signal.signal(s, h)
