"""The character model: what it learns, what its figures mean, what a checkpoint holds."""

import math
import re
import signal
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import kernels, recurrent
from minigrad.data import LIBRARY, Corpus, NGram, Vocabulary, trimmed
from minigrad.errors import FileError, GradientError, UsageError
from minigrad.tasks import charlm
from minigrad.tasks.charlm import CharLM, Config, Training, compare_paths, continue_text, report
from minigrad.train import Run, fit, load
from minigrad.unfold import fused_op

WORDS = ["the ", "cat ", "sat ", "on ", "a ", "mat ", "and ", "that ", "fat ", "rat ", "run "]


def text(length: int, seed: int) -> str:
    rng = np.random.default_rng(seed)
    return "".join(rng.choice(WORDS, length // 2))[:length]


def corpus(train: int = 200, held_out: int = 120, name: str = "toy") -> Corpus:
    return Corpus(name, text(train, 1), text(held_out, 2), text(held_out, 3))


def small(**changes) -> Config:
    sizes = {"hidden": 9, "embedding": 5, "batch": 4, "window": 8}
    return Config(**{**sizes, **changes})


MODELS = [
    small(),
    small(cell="gru"),
    small(cell="rnn"),
    small(layers=2, dtype="float64", clip=math.inf),
    small(cell="gru", layers=2),
]


def name_of(config: Config) -> str:
    return f"{config.cell}-{config.layers}-{config.dtype}"


# --- resumption ----------------------------------------------------------------------------------


@pytest.mark.parametrize("config", MODELS, ids=name_of)
def test_resumed_equals_uninterrupted(config: Config, tmp_path: Path):
    """To the bit, wherever it stops: 200 characters give 7 windows, the last of them a short one.

    The stops: in an epoch, before its last window, at its end, after the first window of the next.
    """
    whole = Training(config, corpus())
    assert whole.steps_per_epoch() == 7
    assert fit(whole, Run(lr=config.lr, warmup=5, steps=17), tmp_path / "whole")
    expected, about, _ = load(tmp_path / "whole")
    for stops in ([3], [6], [7], [8, 14, 15]):
        folder = tmp_path / "-".join(map(str, stops))
        training, run = Training(config, corpus()), Run(lr=config.lr, warmup=5, steps=17)
        for stop in stops:
            interrupt_after(training, stop - run.step)
            assert not fit(training, run, folder)
            assert run.step == stop
            arrays, metadata, run = load(folder)
            training = Training.resumed(arrays, metadata, corpus())
        assert fit(training, run, folder)
        arrays, metadata, _ = load(folder)
        assert list(arrays) == list(expected)
        for name, array in expected.items():
            assert array.dtype == arrays[name].dtype
            assert np.array_equal(array, arrays[name]), f"{name} after stops at {stops}"
        assert {k: v for k, v in metadata.items() if k != "run"} == {
            k: v for k, v in about.items() if k != "run"
        }


def interrupt_after(training: Training, steps: int) -> None:
    step, left = training.step, iter(range(steps - 1, -1, -1))

    def interrupted(lr: float):
        if next(left) == 0:
            signal.raise_signal(signal.SIGINT)
        return step(lr)

    training.step = interrupted  # type: ignore[method-assign]


def test_a_checkpoint_holds_all_that_moves():
    training = Training(small(layers=2), corpus())
    training.step(0.01)
    arrays, metadata = training.state()
    weights = {f"model.{name}" for name in training.model.state_dict()}
    moments = {f"optimizer.{m}.{i}" for m in "mvt" for i in range(len(weights))}
    assert set(arrays) == weights | moments | {"optimizer.steps", "carried.0", "carried.1"}
    assert set(metadata) == {"task", "config", "vocabulary", "text", "corpus", "place"}
    assert metadata["place"] == "[0, 1]"
    kept = {name: array.copy() for name, array in arrays.items()}
    training.step(0.01)
    changed = {
        name for name, array in training.state()[0].items() if not (array == kept[name]).all()
    }
    assert changed == set(kept)


def test_the_state_is_carried_within_an_epoch_and_dropped_between():
    training, seen = Training(small(), corpus()), []
    model = training.model
    training.model = lambda ids, state: (seen.append(state), model(ids, state))[1]  # type: ignore
    training.model.parameters, training.model.zero_grad = model.parameters, model.zero_grad
    carried = []
    for _ in range(9):
        training.step(0.01)
        carried.append(training.carried)
    assert [state is None for state in seen] == [k in (0, 7) for k in range(9)]
    for k in (1, 2, 6, 8):
        assert seen[k] is carried[k - 1]
    assert not any(part.requires_grad for state in carried for part in state)


def test_another_text_is_refused():
    arrays, metadata = Training(small(), corpus()).state()
    other = corpus(name="other")._replace(test=text(121, 3))
    with pytest.raises(FileError) as caught:
        Training.resumed(arrays, metadata, other)
    assert str(caught.value) == (
        "resume: the text\n"
        "  expected what the run began with (toy), got another (other)\n"
        "  remedy: give the same --text and --limit; the library is another in every Python"
    )
    Training.resumed(arrays, metadata, corpus(name="the same, renamed"))


@pytest.mark.parametrize(
    "metadata",
    [{}, {"task": "other"}, {"task": "charlm", "config": '{"size": 3}', "vocabulary": '"ab"'},
     {"task": "charlm", "config": '{"hidden": -1}', "vocabulary": '"ab"'},
     {"task": "charlm", "config": "{}", "vocabulary": '"aa"'}],
)  # fmt: skip
def test_a_checkpoint_of_something_else(metadata: dict[str, str]):
    with pytest.raises(FileError, match="expected a character model, got metadata that lacks it"):
        charlm.load_model({}, metadata)


# --- sizes and settings --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("cell", "mlp", "one of lstm, gru, rnn, got 'mlp'"),
        ("dtype", "int8", "float32 or float64, got 'int8'"),
        *((name, 0, "above 0 and finite, got 0") for name in ("hidden", "embedding", "layers")),
        *((name, -2, "above 0 and finite, got -2") for name in ("batch", "window", "lr")),
        ("lr", math.inf, "above 0 and finite, got inf"),
        ("lr", math.nan, "above 0 and finite, got nan"),
        ("clip", 0.0, "above 0, got 0.0"),
        ("seed", -1, "0 or more, got -1"),
    ],
)
def test_settings_without_meaning(name: str, value, expected: str):
    with pytest.raises(UsageError) as caught:
        Config(**{name: value})
    assert str(caught.value) == (
        f"charlm: {name}\n  expected {expected}\n  remedy: the default is {getattr(Config, name)}"
    )


@pytest.mark.parametrize(
    ("part", "size", "least", "rows"), [("train", 35, 36, 4), ("valid", 8, 9, 1), ("test", 8, 9, 1)]
)
def test_a_part_that_is_too_short(part: str, size: int, least: int, rows: int):
    Training(small(), corpus()._replace(**{part: text(least, 5)}))
    with pytest.raises(UsageError) as caught:
        Training(small(), corpus()._replace(**{part: text(size, 5)}))
    assert str(caught.value) == (
        f"charlm: the {part} part of toy\n"
        f"  expected at least {least} characters for {rows} rows of 8 steps, got {size}\n"
        "  remedy: give a longer text, or a smaller --batch or --window"
    )


@pytest.mark.parametrize("config", MODELS, ids=name_of)
def test_the_model_is_what_its_settings_say(config: Config):
    model = CharLM(config, 7)
    assert {p.dtype for p in model.parameters()} == {np.dtype(config.dtype)}
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[config.cell]
    shapes = {name: p.shape for name, p in model.named_parameters()}
    assert shapes["embedding.weight"] == (7, 5)
    assert shapes["recurrent.weight_ih_l0"] == (gates * 9, 5)
    assert shapes["head.weight"] == (7, 9)
    assert ("recurrent.weight_hh_l1" in shapes) == (config.layers == 2)
    logits, _ = model(np.zeros((3, 2), int))
    assert (logits.shape, logits.dtype) == ((3, 2, 7), np.dtype(config.dtype))
    again, other = CharLM(config, 7), CharLM(Config(**{**vars(config), "seed": 1}), 7)
    for p, q, r in zip(model.parameters(), again.parameters(), other.parameters(), strict=True):
        assert np.array_equal(p.data, q.data)
        assert p.data.size == 1 or not np.array_equal(p.data, r.data)


def test_only_the_forget_gate_of_an_lstm_begins_with_ones():
    model = CharLM(small(), 7)
    ones = model.recurrent.cells[0].bias_ih.data == 1
    assert np.flatnonzero(ones).tolist() == list(range(9, 18))


# --- learning ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_it_learns_a_repetitive_text(cell: str):
    """After 60 steps far below the log2 6 = 2.58 bits of guessing among five letters and a rest."""
    repeated = Corpus("abcde", "abcde" * 100, "abcde" * 20, "abcde" * 20)
    training = Training(small(cell=cell, hidden=24, lr=0.02), repeated)
    losses = [training.step(0.02)["loss"] for _ in range(60)]
    assert abs(losses[0] - math.log(6)) < 0.5
    assert losses[-1] / math.log(2) < 0.1
    assert training.bits(training.test) < 0.1
    floors = training.floors()
    assert floors[0] > math.log2(5)
    assert floors[4] < 0.1
    assert continue_text(training.model, training.vocabulary, "cde", 7, 0) == "abcdeab"


def test_a_diverged_run_is_stopped_before_it_spoils_the_weights():
    training = Training(small(), corpus())
    training.step(0.01)
    training.model.head.bias.data[0] = np.nan
    before = training.model.state_dict()
    with pytest.raises(GradientError, match="expected a finite number, got nan"):
        training.step(0.01)
    for name, array in training.model.state_dict().items():
        assert np.array_equal(array, before[name], equal_nan=True)


def test_gradients_are_clipped_and_the_norm_before_is_reported():
    norms = {}
    for clip in (1e-3, math.inf):
        training = Training(small(clip=clip), corpus())
        norms[clip] = training.step(0.0)["grad_norm"]
        squares = [(p.grad.data**2).sum() for p in training.model.parameters()]
        assert math.isclose(math.sqrt(sum(squares)), min(clip, norms[clip]), rel_tol=1e-5)
    assert norms[1e-3] == norms[math.inf] > 1e-3


# --- figures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [120, 2345])  # read in one row and in two
def test_bits_are_those_of_every_character_by_itself(length: int):
    training = Training(small(dtype="float64"), corpus(300))
    for _ in range(5):
        training.step(0.02)
    ids = training.vocabulary.encode(text(length, 7))
    rows = max(1, length // 1000)
    steps = (length - 1) // rows
    bits = 0.0
    for row in range(rows):
        state = None
        for t in range(row * steps, (row + 1) * steps):
            with mg.no_grad():
                logits, state = training.model(ids[t].reshape(1, 1), state)
            z = logits.data.ravel()
            bits += (np.log(np.exp(z).sum()) - z[ids[t + 1]]) / math.log(2)
    # The sums run in another order; each of n terms is off by some ulp of a number below 10.
    assert abs(training.bits(ids) - bits / (rows * steps)) < 1e-12


def test_model_and_floors_predict_the_same_characters(monkeypatch: pytest.MonkeyPatch):
    training = Training(small(), corpus(300, 2345))
    targets, counted = [], []
    cross_entropy, count = charlm.nn.cross_entropy, NGram.bits
    monkeypatch.setattr(
        charlm.nn,
        "cross_entropy",
        lambda z, y, **options: (targets.append(y.T), cross_entropy(z, y, **options))[1],
    )
    monkeypatch.setattr(NGram, "bits", lambda self, ids: (counted.append(ids), count(self, ids))[1])
    training.bits(training.test)
    floors = training.floors()
    assert len(floors) == 5
    read = np.concatenate(targets, axis=1).ravel()  # row after row, as the text stands
    assert read.size == 2344  # two rows of 1172
    assert np.array_equal(read, counted[0][1:])
    assert np.array_equal(read, training.test[1:])
    expected = NGram(training.train, training.valid, len(training.vocabulary), 5)
    assert np.array_equal(floors, expected.bits(trimmed(training.test, 2)))


def test_validation_reads_the_beginning_of_the_valid_part(monkeypatch: pytest.MonkeyPatch):
    training = Training(small(), corpus())
    monkeypatch.setattr(charlm, "VALID_CHARACTERS", 50)
    assert training.validate() == training.bits(training.valid[:50])
    assert training.validate() != training.bits(training.valid)


# --- sampling ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained() -> Training:
    training = Training(small(), corpus(400))
    for _ in range(150):
        training.step(0.02)
    return training


@pytest.mark.parametrize("prompt", ["t", "th", "saw that fat rat run"])
def test_the_prompt_is_read_before_the_text_goes_on(trained: Training, prompt: str):
    """Each character once, in order, each state handed on; and the likeliest at each place."""
    read: list[int] = []
    last = [None]

    def model(ids, state):
        assert state is last[0]
        read.extend(ids[:, 0])
        logits, last[0] = trained.model(ids, state)
        return logits, last[0]

    got = continue_text(model, trained.vocabulary, prompt, 30, 0)  # type: ignore[arg-type]
    ids = trained.vocabulary.encode(prompt + got)
    assert read == ids[:-1].tolist()
    logits, _ = trained.model(ids[:-1, None])
    likeliest = logits.data[len(prompt) - 1 :, 0].argmax(axis=-1)
    assert trained.vocabulary.decode(likeliest) == got


def test_odd_prompts(trained: Training):
    def after(prompt: str, seed: int = 0) -> str:
        return continue_text(trained.model, trained.vocabulary, prompt, 40, 1.0, seed)

    assert after("") == after("\n")
    assert after("\N{SNOWMAN}") == after("\ud800")  # both are the unknown character
    assert after("th") != after("ma")
    assert after("the ", 1) != after("the ", 2)
    assert len(after("")) == 40
    assert continue_text(trained.model, trained.vocabulary, "the", 0, 1.0) == ""


def test_a_loaded_model_goes_on_with_the_same_text(trained: Training):
    model, vocabulary = charlm.load_model(*trained.state())
    assert vocabulary == trained.vocabulary
    for prompt in ("the ", "a mat"):
        assert continue_text(model, vocabulary, prompt, 40, 0.8, 3) == continue_text(
            trained.model, trained.vocabulary, prompt, 40, 0.8, 3
        )


# --- the two paths -------------------------------------------------------------------------------


@pytest.mark.native
def test_both_paths_give_the_same_bits(trained: Training):
    clock = iter(np.cumsum([0, 0.001, 0, 0.005] * 3))  # a fused pass takes 1 ms, an unfolded 5
    before = [p.grad for p in trained.model.parameters()]
    found = compare_paths(trained, repeats=3, clock=lambda: float(next(clock)))
    assert found.equal
    assert math.isclose(found.fused_ms, 1) and math.isclose(found.unfolded_ms, 5)
    assert all(p.grad is g for p, g in zip(trained.model.parameters(), before, strict=True))


@pytest.mark.native
@pytest.mark.parametrize("kernel", ["forward_saving", "backward"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_wrong_kernel_is_noticed(cell: str, kernel: str, monkeypatch: pytest.MonkeyPatch):
    """One part in a thousand, in one element, is enough."""
    training = Training(small(cell=cell), corpus())
    op = fused_op(training.model.recurrent.cells[0])
    holder = op if kernel == "forward_saving" else recurrent
    right = getattr(holder, kernel)

    def wrong(*args, **kwargs):
        out = right(*args, **kwargs)
        first = out[0] if isinstance(out[0], np.ndarray) else out[0][0]
        first[0, 0, 0] *= np.float32(1.001)
        return out

    assert compare_paths(training, repeats=1).equal
    monkeypatch.setattr(holder, kernel, wrong)
    assert not compare_paths(training, repeats=1).equal


def test_a_report_says_what_was_measured(trained: Training):
    run = Run(lr=1.0, steps=40, step=40, symbols=1280, seconds=2.0)
    lines = "\n".join(report(trained, run)).split("\n")
    assert lines[0] == "held out (119 characters at the end of the text), bits per character:"
    table = [re.fullmatch(r"  (\S+(?: \S+)?) +(\d+\.\d{3})(  <--)?", line) for line in lines[1:7]]
    figures = {match[1]: float(match[2]) for match in table}
    assert list(figures.values()) == sorted(figures.values(), reverse=True)
    expected = {f"{n}-gram": b for n, b in enumerate(trained.floors(), 1)}
    expected["minigrad lstm"] = own = trained.bits(trained.test)
    assert figures == {name: round(b, 3) for name, b in expected.items()}
    below = [n for n in range(1, 6) if own < expected[f"{n}-gram"]]
    assert below and lines[7] == f"  below the n-gram models of order {str(below)[1:-1]}"
    assert lines[8] == "trained on 1,280 characters in 2 s (640 characters a second, 40 steps)"
    prompt = trained.corpus.test[:20]
    for temperature in (0.5, 1.0):
        at = lines.index(f"--- 400 characters after {prompt!r}, temperature {temperature} ---") + 1
        drawn = continue_text(trained.model, trained.vocabulary, prompt, 400, temperature)
        assert lines[at] == prompt + drawn
    assert lines[-2] == (
        "fused against unfolded, forward and backward of one batch "
        f"(8 steps, 4 rows, {kernels.isa()}):"
    )
    assert re.fullmatch(r"  bits equal: (yes|NO);  \d+\.\d ms against \d+\.\d ms", lines[-1])
    if kernels.backend() == "c":
        assert "bits equal: yes;" in lines[-1]


def test_a_report_on_the_library_and_on_a_cell_without_a_fused_path(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(charlm, "fused_op", lambda cell: None)
    training = Training(small(cell="gru"), corpus(name=LIBRARY))
    lines = "\n".join(report(training, Run(lr=1.0, steps=1))).split("\n")
    assert lines[0].startswith("held out (119 characters of files never trained on)")
    assert "  below none of the n-gram models: train longer" in lines
    assert r"--- 400 characters after '\ndef ', temperature 0.5 ---" in lines
    assert lines[-2].startswith("no fused path for gru; forward and backward of one batch (8 steps")
    assert re.fullmatch(r"  \d+\.\d ms unfolded", lines[-1])


def test_an_unequal_pair_is_reported_as_such(trained: Training, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(charlm, "compare_paths", lambda _: charlm.Comparison(False, 1.0, 2.0))
    lines = list(report(trained, Run(lr=1.0)))
    assert lines[-1] == "  bits equal: NO;  1.0 ms against 2.0 ms"


def test_the_vocabulary_comes_from_the_training_part_alone():
    parts = corpus()._replace(valid="\N{SNOWMAN}" * 50, test="\N{COMET}" * 50)
    training = Training(small(), parts)
    assert training.vocabulary == Vocabulary.from_text(parts.train)
    assert set(training.valid) == set(training.test) == {0}


@pytest.mark.native
def test_training_has_the_same_bits_on_every_instruction_set_and_number_of_threads():
    """Points 4 and 5 of the bit contract, from the seed to the checkpoint."""
    before, results = (kernels.isa(), kernels.threads()), {}
    try:
        for isa in kernels.isas():
            for threads in (1, 2):
                kernels.set_isa(isa)
                kernels.set_threads(threads)
                training = Training(small(hidden=133, batch=32, window=16), corpus(4000))
                for _ in range(2):  # large enough for two threads to share the work
                    training.step(0.01)
                results[isa, threads] = training.state()[0]
    finally:
        kernels.set_isa(before[0])
        kernels.set_threads(before[1])
    first, *others = results.values()
    for arrays in others:
        assert all(np.array_equal(arrays[name], first[name]) for name in first)
