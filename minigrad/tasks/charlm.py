"""A character language model: embedding, recurrent layers, linear head.

p(x(t+1) | x(1..t)) = softmax(V h(t) + c), trained by back-propagation through time truncated to
windows, with the state carried from window to window (Goodfellow et al., sections 10.2 and 10.7).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np

from .. import kernels, nn
from ..cells import State
from ..data import LIBRARY, Corpus, NGram, Vocabulary, batches, count_batches, trimmed
from ..decode import sample
from ..errors import FileError, UsageError
from ..graph import Tensor, no_grad
from ..optim import Adam
from ..train import Run
from ..unfold import detach_state, fused_op

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
VALID_CHARACTERS = 50_000  # of the valid part, for the column in the log
LANES = 64  # rows in which held-out text is read side by side


@dataclass(frozen=True)
class Config:
    """The sizes and settings of a model and its training."""

    cell: str = "lstm"
    hidden: int = 256
    embedding: int = 64
    layers: int = 1
    batch: int = 32
    window: int = 64
    lr: float = 4e-3
    clip: float = 1.0
    dtype: str = "float32"
    seed: int = 0

    def __post_init__(self):
        self._require("cell", self.cell in CELLS, f"one of {', '.join(CELLS)}")
        self._require("dtype", self.dtype in ("float32", "float64"), "float32 or float64")
        for name in ("hidden", "embedding", "layers", "batch", "window", "lr"):
            self._require(name, 0 < getattr(self, name) < math.inf, "above 0 and finite")
        self._require("clip", self.clip > 0, "above 0")
        self._require("seed", self.seed >= 0, "0 or more")

    def _require(self, name: str, fits: bool, expected: str) -> None:
        if not fits:
            raise UsageError(
                f"charlm: {name}",
                f"expected {expected}, got {getattr(self, name)!r}",
                f"the default is {getattr(Config, name)}",
            )


class CharLM(nn.Module):
    """ids (T, N) and a state give logits (T, N, V) and the next state.

    >>> from minigrad.tasks.charlm import CharLM, Config
    >>> logits, state = CharLM(Config(hidden=8), 20)(np.zeros((5, 2), int))
    >>> logits.shape
    (5, 2, 20)
    """

    def __init__(self, config: Config, symbols: int):
        rng = np.random.default_rng(config.seed)
        dtype = np.dtype(config.dtype)
        self.embedding = nn.Embedding(symbols, config.embedding, dtype=dtype, rng=rng)
        self.recurrent = CELLS[config.cell](
            config.embedding, config.hidden, config.layers, dtype=dtype, rng=rng
        )
        self.head = nn.Linear(config.hidden, symbols, dtype=dtype, rng=rng)
        if config.cell == "lstm":  # remember by default (Gers et al. 2000; section 10.10.1)
            for cell in self.recurrent.cells:
                cell.bias_ih.data[config.hidden : 2 * config.hidden] = 1

    def __call__(self, ids, state=None, fused: bool | str = "auto"):
        hidden, state = self.recurrent(self.embedding(ids), state, fused=fused)
        return self.head(hidden), state


class Training:
    """The task of training a `CharLM` on a corpus (see `minigrad.train.Task`)."""

    def __init__(self, config: Config, corpus: Corpus, vocabulary: Vocabulary | None = None):
        self.config, self.corpus = config, corpus
        self.vocabulary = vocabulary or Vocabulary.from_text(corpus.train)
        parts = {k: self.vocabulary.encode(getattr(corpus, k)) for k in ("train", "valid", "test")}
        for name, ids in parts.items():
            lanes = config.batch if name == "train" else 1
            if ids.size < lanes * (config.window + 1):
                raise UsageError(
                    f"charlm: the {name} part of {corpus.name}",
                    f"expected at least {lanes * (config.window + 1)} characters for "
                    f"{lanes} rows of {config.window} steps, got {ids.size}",
                    "give a longer text, or a smaller --batch or --window",
                )
        self.train, self.valid, self.test = parts.values()
        self.model = CharLM(config, len(self.vocabulary))
        self.optimizer = Adam(self.model.parameters(), lr=config.lr)
        self.carried: State = None  # the state after the last window
        self.epoch, self.window = 0, 0
        self._windows = self._read()

    def _read(self):
        return batches(self.train, self.config.batch, self.config.window, start=self.window)

    def steps_per_epoch(self) -> int:
        return count_batches(self.train.size, self.config.batch, self.config.window)

    def step(self, lr: float) -> dict[str, float]:
        """One window: forward, back through it, clip, update; the state is carried on.

        Raises `GradientError`, changing no parameter, where the gradients are not finite.
        """
        window = next(self._windows, None)
        if window is None:
            self.epoch, self.window, self.carried = self.epoch + 1, 0, None
            self._windows = self._read()
            window = next(self._windows)
        inputs, targets = window
        logits, state = self.model(inputs, self.carried)
        loss = nn.cross_entropy(logits, targets)
        self.model.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(
            self.model.parameters(), self.config.clip, error_if_nonfinite=True
        )
        self.optimizer.lr = lr
        self.optimizer.step()
        self.carried = detach_state(state)
        self.window += 1
        return {
            "loss": loss.item(),
            "symbols": targets.size,
            "grad_norm": norm,
            "epoch": self.epoch + self.window / self.steps_per_epoch(),
        }

    def validate(self) -> float:
        return self.bits(self.valid[:VALID_CHARACTERS])

    def bits(self, ids: np.ndarray) -> float:
        """Bits a character over `trimmed(ids, rows)`, read in windows, the state carried."""
        state, nats, count = None, 0.0, 0
        with no_grad():
            for inputs, targets in batches(ids, held_out_rows(ids), 2 * self.config.window):
                logits, state = self.model(inputs, state)
                nats += nn.cross_entropy(logits, targets, reduction="sum").item()
                count += targets.size
        return nats / count / math.log(2)

    def floors(self, order: int = 5) -> np.ndarray:
        """Bits a character of interpolated n-gram models on the same test characters."""
        ngram = NGram(self.train, self.valid, len(self.vocabulary), order)
        return ngram.bits(trimmed(self.test, held_out_rows(self.test)))

    # --- what a checkpoint holds -------------------------------------------------------------

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        arrays = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        arrays |= {f"optimizer.{k}": v for k, v in self.optimizer.state_dict().items()}
        parts = self.carried if isinstance(self.carried, tuple) else (self.carried,)
        arrays |= {f"carried.{i}": p.data for i, p in enumerate(parts) if p is not None}
        return arrays, {
            "task": "charlm",
            "config": json.dumps(asdict(self.config)),
            "vocabulary": json.dumps(self.vocabulary.characters),
            "text": self.corpus.name,
            "corpus": self.corpus.digest,
            "place": json.dumps([self.epoch, self.window]),
        }

    @classmethod
    def resumed(cls, arrays: dict, metadata: dict[str, str], corpus: Corpus) -> Training:
        """The training that a checkpoint holds; raises `FileError` for another text."""
        config, vocabulary = read_config(metadata)
        if metadata["corpus"] != corpus.digest:
            raise FileError(
                "resume: the text",
                f"expected what the run began with ({metadata['text']}), got another "
                f"({corpus.name})",
                "give the same --text and --limit; the library is another in every Python",
            )
        self = cls(config, corpus, vocabulary)
        self.model.load_state_dict(_under("model.", arrays))
        self.optimizer.load_state_dict(_under("optimizer.", arrays))
        carried = tuple(Tensor(a) for _, a in sorted(_under("carried.", arrays).items()))
        if carried:
            self.carried = carried if len(carried) > 1 else carried[0]
        self.epoch, self.window = json.loads(metadata["place"])
        self._windows = self._read()
        return self


def held_out_rows(ids: np.ndarray) -> int:
    """In how many rows a held-out text is read: fewer for a short one, so that rows stay long."""
    return max(1, min(LANES, ids.size // 1000))


def _under(prefix: str, arrays: dict) -> dict:
    return {k.removeprefix(prefix): a for k, a in arrays.items() if k.startswith(prefix)}


def read_config(metadata: dict[str, str]) -> tuple[Config, Vocabulary]:
    """Sizes and vocabulary from a checkpoint's metadata; raises `FileError`."""
    try:
        if metadata["task"] != "charlm":
            raise ValueError(metadata["task"])
        config = Config(**json.loads(metadata["config"]))
        return config, Vocabulary(json.loads(metadata["vocabulary"]))
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(
            "checkpoint: what it holds",
            f"expected a character model, got metadata that lacks it ({error!r})",
            "give the checkpoint.safetensors that `train charlm` has written",
        ) from error


def load_model(arrays: dict, metadata: dict[str, str]) -> tuple[CharLM, Vocabulary]:
    """The model in a checkpoint and its vocabulary; raises `FileError`, `StateDictError`."""
    config, vocabulary = read_config(metadata)
    model = CharLM(config, len(vocabulary))
    model.load_state_dict(_under("model.", arrays))
    return model, vocabulary


# --- what is done with a model -------------------------------------------------------------------


def continue_text(
    model: CharLM,
    vocabulary: Vocabulary,
    prompt: str,
    length: int,
    temperature: float,
    seed: int = 0,
) -> str:
    """`length` characters drawn from the model after it has read the prompt ("\\n" if empty)."""
    ids = vocabulary.encode(prompt or "\n")
    state = None
    with no_grad():
        if ids.size > 1:
            _, state = model(ids[:-1, None], None)
    drawn = sample(model, int(ids[-1]), state, length, temperature, rng=seed)
    return vocabulary.decode(drawn)


@dataclass
class Comparison:
    """The fused path against the unfolded one, on one batch."""

    equal: bool
    fused_ms: float
    unfolded_ms: float


def compare_paths(
    training: Training, repeats: int = 5, clock: Callable[[], float] = time.perf_counter
) -> Comparison:
    """Forward and backward of one window on both paths: bits compared, median times in turn."""
    inputs, targets = next(batches(training.train, training.config.batch, training.config.window))
    model = training.model
    before = [p.grad for p in model.parameters()]
    times: dict[bool, list[float]] = {True: [], False: []}
    results: dict[bool, list[np.ndarray]] = {}
    for _ in range(repeats):
        for fused in (True, False):
            model.zero_grad()
            start = clock()
            # "auto" takes the fused path where the cell has one
            logits, _ = model(inputs, fused="auto" if fused else False)
            loss = nn.cross_entropy(logits, targets)
            loss.backward()
            times[fused].append(1000 * (clock() - start))
            results[fused] = [logits.data, loss.data, *(p.grad.data for p in model.parameters())]  # type: ignore[union-attr]
    for p, g in zip(model.parameters(), before, strict=True):
        p.grad = g
    equal = all(np.array_equal(a, b) for a, b in zip(results[True], results[False], strict=True))
    return Comparison(equal, *(float(np.median(times[f])) for f in (True, False)))


def report(training: Training, run: Run) -> Iterator[str]:
    """What there is to say of a finished run, line by line, as it is found out."""
    from_library = training.corpus.name == LIBRARY
    count = trimmed(training.test, held_out_rows(training.test)).size - 1
    what = "of files never trained on" if from_library else "at the end of the text"
    yield f"held out ({count:,} characters {what}), bits per character:"
    bits, floors = training.bits(training.test), training.floors()
    rows = [(f"{n}-gram", b, "") for n, b in enumerate(floors, 1)]
    rows.append((f"minigrad {training.config.cell}", bits, "  <--"))
    for name, b, mark in sorted(rows, key=lambda row: -row[1]):
        yield f"  {name:<14}{b:8.3f}{mark}"
    below = ", ".join(str(n) for n, b in enumerate(floors, 1) if bits < b)
    if below:
        yield f"  below the n-gram models of order {below}"
    else:
        yield "  below none of the n-gram models: train longer"
    yield (
        f"trained on {run.symbols:,} characters in {run.seconds:.0f} s "
        f"({run.symbols / max(run.seconds, 1e-9):,.0f} characters a second, {run.step} steps)"
    )
    prompt = "\ndef " if from_library else training.corpus.test[:20]
    for temperature in (0.5, 1.0):
        yield f"\n--- 400 characters after {prompt!r}, temperature {temperature} ---"
        yield prompt + continue_text(training.model, training.vocabulary, prompt, 400, temperature)
    config = training.config
    batch = f"one batch ({config.window} steps, {config.batch} rows, {kernels.isa()})"
    c = compare_paths(training)
    if fused_op(training.model.recurrent.cells[0]) is None:
        yield f"\nno fused path for {config.cell}; forward and backward of {batch}:"
        yield f"  {c.unfolded_ms:.1f} ms unfolded"
    else:
        yield f"\nfused against unfolded, forward and backward of {batch}:"
        yield (
            f"  bits equal: {'yes' if c.equal else 'NO'};  "
            f"{c.fused_ms:.1f} ms against {c.unfolded_ms:.1f} ms"
        )
