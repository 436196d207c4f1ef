"""The training loop: budget, progress, log, checkpoints, interruption, resumption.

What is learned is a `Task`; what is here is the same for all tasks. A run's state after a step is
a function of its configuration and the number of steps alone: no clock enters. A budget in minutes
is turned into a number of steps early in the run, and the checkpoint keeps that number; from then
on an interrupted and resumed run has the same bits as an uninterrupted one.
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
from typing import Protocol

import numpy as np
from tqdm import tqdm

from . import io
from .errors import FileError, UsageError

CHECKPOINT, LOG = "checkpoint.safetensors", "log.csv"
COLUMNS = ["step", "epoch", "symbols", "seconds", "lr", "loss", "bits", "grad_norm", "valid_bits"]
TIMED_STEPS = 20  # a budget in minutes becomes a number of steps after so many
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
    steps: int | None = None  # to go in all; None until a budget in minutes has been converted
    step: int = 0
    symbols: int = 0
    seconds: float = 0.0

    def rate(self) -> float:
        """The learning rate of the next step: a linear rise, then a linear fall to zero."""
        rise = min(1.0, (self.step + 1) / self.warmup)
        fall = 1.0 if self.steps is None else 1 - self.step / self.steps
        return self.lr * rise * fall

    def metadata(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_metadata(cls, text: str) -> Run:
        return cls(**json.loads(text))


@dataclass
class Budget:
    """How long to train: one of the three."""

    steps: int | None = None
    epochs: float | None = None
    minutes: float | None = None

    def __post_init__(self):
        given = [k for k, v in asdict(self).items() if v is not None]
        if len(given) != 1 or not getattr(self, given[0]) > 0:
            raise UsageError(
                "budget: how long to train",
                "expected one of steps, epochs, minutes, above 0, got "
                + (", ".join(f"{k}={getattr(self, k)}" for k in given) or "none"),
                "give one",
            )

    def in_steps(self, task: Task, seconds_a_step: float | None = None) -> int | None:
        """The number of steps; None for minutes as long as the speed is not known."""
        if self.steps is not None:
            return self.steps
        if self.epochs is not None:
            return max(1, round(self.epochs * task.steps_per_epoch()))
        if seconds_a_step is None:
            return None
        return max(TIMED_STEPS + 1, round(60 * self.minutes / seconds_a_step))  # type: ignore[operator]


def fit(
    task: Task,
    run: Run,
    budget: Budget | None,
    folder: Path,
    stream=None,
) -> bool:
    """Trains until the budget is used up; True, or False if an interrupt (Ctrl-C) came first.

    Writes `checkpoint.safetensors` (atomically, now and then and at the end) and `log.csv` to
    `folder`. `budget` None goes on to the end that `run` already has. A second Ctrl-C
    stops at once, without a checkpoint of the last steps.
    """
    stream = sys.stderr if stream is None else stream
    folder.mkdir(parents=True, exist_ok=True)
    if budget is not None and (steps := budget.in_steps(task)) is not None:
        run.steps = steps
    log = _open_log(folder / LOG, run.step)
    saved_at = started = time.perf_counter()
    seconds_before, first_step = run.seconds, run.step
    mean_loss, valid = math.nan, math.nan
    with (
        log,
        _interruptible() as interrupted,
        tqdm(
            total=run.steps,
            initial=run.step,
            file=stream,
            disable=None,  # silent when not a terminal
            unit="step",
            dynamic_ncols=True,
        ) as bar,
    ):
        rows = csv.writer(log, lineterminator="\n")
        while run.steps is None or run.step < run.steps:
            lr = run.rate()
            result = task.step(lr)
            run.step += 1
            run.symbols += int(result["symbols"])
            now = time.perf_counter()
            run.seconds = seconds_before + now - started
            if run.steps is None and budget is not None and run.step - first_step == TIMED_STEPS:
                run.steps = budget.in_steps(task, (now - started) / TIMED_STEPS)
                bar.total = run.steps
            loss = result["loss"]
            mean_loss = loss if math.isnan(mean_loss) else 0.98 * mean_loss + 0.02 * loss
            if run.steps is not None and (
                run.step == run.steps or run.step % max(1, run.steps // 10) == 0
            ):
                valid = task.validate()
            else:
                valid = math.nan
            bits = loss / math.log(2)
            rows.writerow([
                run.step, f"{result['epoch']:.4f}", run.symbols, f"{run.seconds:.3f}",
                f"{lr:.6g}", f"{loss:.6f}", f"{bits:.6f}", f"{result['grad_norm']:.6g}",
                "" if math.isnan(valid) else f"{valid:.6f}",
            ])  # fmt: skip
            rate = (run.symbols / run.seconds) if run.seconds else 0
            bar.set_postfix_str(
                f"loss {mean_loss:.3f}, {mean_loss / math.log(2):.3f} bits/char, "
                f"{rate / 1000:.0f}k chars/s",
                refresh=False,
            )
            bar.update()
            if interrupted.is_set():
                break
            if now - saved_at > SAVE_EVERY:
                log.flush()
                save(folder / CHECKPOINT, task, run)
                saved_at = now
    save(folder / CHECKPOINT, task, run)
    return run.step == run.steps


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


def _open_log(path: Path, step: int):
    """The log, ready to go on after `step`: rows beyond the checkpoint are taken out."""
    kept = [COLUMNS]
    if step and path.exists():
        with open(path, newline="", encoding="utf-8") as file:
            kept += [r for r in list(csv.reader(file))[1:] if r and int(r[0]) <= step]
    text = "".join(",".join(row) + "\n" for row in kept)
    io.write_atomically(path, text.encode())
    return open(path, "a", newline="", encoding="utf-8")


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
