"""The command line, as a stranger uses it: files, folders, interrupts, terminals, errors."""

import contextlib
import os
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from minigrad import io as files
from minigrad import kernels
from minigrad.__main__ import main
from minigrad.tasks import charlm
from minigrad.train import CHECKPOINT, LOG, load

SMALL = ["--hidden", "8", "--embedding", "4", "--batch", "4", "--window", "8"]
MODULE = [sys.executable, "-m", "minigrad"]
WORDS = ["the ", "cat ", "sat ", "on ", "a ", "mat ", "and ", "that ", "fat ", "rat ", "run "]


@pytest.fixture(autouse=True)
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder of one's own, with a text in it."""
    monkeypatch.chdir(tmp_path)
    path = Path("book.txt")
    path.write_text("".join(np.random.default_rng(0).choice(WORDS, 2000)))
    return path


def train(*flags: object) -> int:
    """`train charlm` on the book, with a small model unless it is resumed."""
    sizes = [] if "--resume" in flags else SMALL
    return main(["train", "charlm", "--text", "book.txt", *sizes, *map(str, flags)])


def refused(capsys: pytest.CaptureFixture, code: int, *command: object) -> str:
    """What standard error says of a command that fails with 1, having written nothing."""

    def everything() -> dict[Path, bytes | None]:
        return {path: path.read_bytes() if path.is_file() else None for path in Path().rglob("*")}

    before = everything()
    capsys.readouterr()
    assert main([str(word) for word in command]) == code
    err = capsys.readouterr().err
    assert everything() == before
    assert "Traceback" not in err
    return err


# --- training ------------------------------------------------------------------------------------


def test_a_run_from_beginning_to_end(capsys: pytest.CaptureFixture):
    assert train("--steps", 12) == 0
    out, err = capsys.readouterr()
    assert err == ""  # no bar where there is no terminal
    lines = out.splitlines()
    text = Path("book.txt").read_text()
    train_part, held_out = len(text) * 90 // 100, len(text) * 95 // 100
    assert lines[0] == (
        f"book.txt: {train_part:,} characters to train on, {held_out - train_part:,} to choose, "
        f"{len(text) - held_out:,} to test; {len(set(text[:train_part])) + 1} symbols"
    )
    assert lines[1].startswith("lstm, 1 x 8 units, ")
    assert f"kernels: backend {kernels.backend()}" in lines[1]
    assert "minigrad lstm" in out and "5-gram" in out and "bits equal: " in out
    assert f"checkpoint  {Path('out/charlm') / CHECKPOINT}" in lines
    assert f"log         {Path('out/charlm') / LOG}" in lines
    assert sorted(p.as_posix() for p in Path("out").rglob("*")) == [
        "out/charlm", f"out/charlm/{CHECKPOINT}", f"out/charlm/{LOG}"
    ]  # fmt: skip
    assert re.search(r"^more text   \S+ -m minigrad sample out/charlm --prompt \.\.\.$", out, re.M)


def test_every_run_has_a_folder_of_its_own(capsys: pytest.CaptureFixture):
    assert train("--steps", 1) == 0
    first = Path("out/charlm", CHECKPOINT).read_bytes()
    assert train("--steps", 2) == 0
    Path("out/charlm-2", CHECKPOINT).unlink()  # a run that was killed early has only a log
    assert train("--steps", 3) == 0
    assert [load(Path(f"out/charlm{n}"))[2].step for n in ("", "-3")] == [1, 3]
    assert Path("out/charlm", CHECKPOINT).read_bytes() == first
    for folder in ("out/charlm", "out/charlm-2"):
        err = refused(
            capsys, 1, "train", "charlm", "--text", "book.txt", "--steps", 9, "--out", folder
        )
        assert err == (
            f"error: train: --out {folder}\n"
            "  expected a folder without a run, got one that holds an earlier one\n"
            f"  remedy: choose another folder, or go on with --resume {folder}\n"
        )


@pytest.mark.parametrize("flags", [["--cell", "gru", "--layers", "2", "--threads", "1"],
                                   ["--cell", "rnn", "--dtype", "float64"],
                                   ["--clip", "inf", "--seed", "3", "--lr", "0.5"],
                                   ["--epochs", "0.03", "--limit", "5000"]])  # fmt: skip
def test_flags_reach_the_run(flags: list[str]):
    threads = kernels.threads()
    try:
        budget = [] if "--epochs" in flags else ["--steps", "2"]
        assert train(*flags, *budget, "--out", "run") == 0
        assert "--threads" not in flags or kernels.threads() == 1
    finally:
        kernels.set_threads(threads)
    _, metadata, run = load(Path("run"))
    config, _ = charlm.read_config(metadata)
    given = dict(zip(flags[::2], flags[1::2], strict=True))
    for name, value in given.items():
        if hasattr(config, name[2:]):
            assert getattr(config, name[2:]) == type(getattr(config, name[2:]))(value)
    assert run.lr == config.lr
    steps = -(-(5000 * 90 // 100 - 1) // 4 // 8) if "--limit" in flags else None
    assert run.steps == (2 if steps is None else round(0.03 * steps))


def test_minutes_end_a_run_in_time():
    started = time.perf_counter()
    assert train("--minutes", "0.01", "--out", "run") == 0
    run = load(Path("run"))[2]
    assert run.minutes == 0.01
    assert run.steps == run.step >= 20
    assert time.perf_counter() - started < 30


# --- resuming ------------------------------------------------------------------------------------


def test_a_longer_budget_goes_on_from_the_same_place(capsys: pytest.CaptureFixture):
    assert train("--steps", 6, "--out", "run") == 0
    first = capsys.readouterr().out
    assert train("--resume", "run") == 0  # a finished run says again what it said
    again = capsys.readouterr().out.replace("resumed after step 6\n", "")
    assert [x for x in again.splitlines() if " ms " not in x] == [
        x for x in first.splitlines() if " ms " not in x
    ]
    assert train("--resume", f"run/{CHECKPOINT}", "--steps", 9) == 0
    assert "resumed after step 6" in capsys.readouterr().out
    assert load(Path("run"))[2].step == 9
    assert len(Path("run", LOG).read_text().splitlines()) == 10
    assert train("--resume", "run", "--epochs", "0.05") == 0
    assert load(Path("run"))[2].step == load(Path("run"))[2].steps > 9


def test_what_cannot_be_resumed(capsys: pytest.CaptureFixture):
    assert train("--steps", 6, "--out", "run") == 0
    command = ["train", "charlm", "--text", "book.txt", "--resume"]
    Path("other.txt").write_text("another text " * 900)
    Path("copy").mkdir()
    Path("run", CHECKPOINT).rename("run/best.safetensors")
    for path in ("run/best.safetensors", "nowhere", "book.txt"):
        assert refused(capsys, 1, *command, path) == (
            f"error: train: --resume {path}\n"
            f"  expected a run's folder or the {CHECKPOINT} in it, got another file or none\n"
            f"  remedy: to go on from a copy, name it {CHECKPOINT} in a folder of its own\n"
        )
    assert "expected a safetensors file, got no file" in refused(capsys, 1, *command, "run")
    Path("run/best.safetensors").rename(f"run/{CHECKPOINT}")
    assert "at least the 6 steps" in refused(capsys, 1, *command, "run", "--steps", 5)
    err = refused(capsys, 1, *command[:3], "other.txt", "--resume", "run", "--steps", 9)
    assert "expected what the run began with (book.txt), got another (other.txt)" in err
    err = refused(capsys, 1, *command, "run", "--hidden", 3, "--seed", 0, "--out", "x")
    assert "got --hidden, --seed, --out\n" in err
    damaged = bytearray(Path("run", CHECKPOINT).read_bytes())
    damaged[-9] ^= 1
    Path("copy", CHECKPOINT).write_bytes(damaged)
    assert "this one is damaged" in refused(capsys, 1, *command, "copy")


# --- what is refused -----------------------------------------------------------------------------


def test_texts_that_cannot_be_used(capsys: pytest.CaptureFixture):
    Path("folder").mkdir()
    for name, data, expected in [
        ("tiny.txt", b"hello\n", "expected at least 2000 characters, got 6"),
        ("empty.txt", b"", "expected text, got an empty file"),
        ("latin.txt", b"caf\xe9 " * 900, "expected UTF-8, got byte 0xe9 at offset 3"),
        ("short.txt", b"hello world " * 180, "expected at least 2080 characters for 32 rows"),
    ]:
        Path(name).write_bytes(data)
        err = refused(capsys, 1, "train", "charlm", "--text", name, "--steps", 3)
        assert err.startswith("error: ") and expected in err
        assert len(err.splitlines()) == 3
    for name in ("nowhere.txt", "folder"):
        err = refused(capsys, 1, "train", "charlm", "--text", name, "--steps", 3)
        assert err.startswith(f"error: text: {name!r}\n  expected a readable file, got: ")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--steps", "0"], "above 0 and finite, got steps 0"),
        (["--epochs", "inf"], "above 0 and finite, got epochs inf"),
        (["--minutes", "-1"], "above 0 and finite, got minutes -1.0"),
        (["--seed", "-1"], "charlm: seed\n  expected 0 or more, got -1"),
        (["--hidden", "0"], "charlm: hidden\n  expected above 0 and finite, got 0"),
        (["--limit", "5"], "expected at least 20 characters, got 5"),
        (["--limit", "40"], "the train part of book.txt\n  expected at least 2080"),
        (["--threads", "0"], "expected an integer from 1 to 1024, got 0"),
    ],
)
def test_values_without_meaning(flags: list[str], expected: str, capsys: pytest.CaptureFixture):
    err = refused(capsys, 1, "train", "charlm", "--text", "book.txt", *flags)
    assert expected in err
    assert len(err.splitlines()) == 3


@pytest.mark.parametrize(
    "command",
    [[], ["tain"], ["train"], ["train", "charlm", "--cell", "mlp"], ["sample"],
     ["train", "charlm", "--steps", "3", "--epochs", "1"],
     ["train", "charlm", "--hidden", "1.5"], ["train", "charlm", "--dtype", "int8"]],
)  # fmt: skip
def test_wrong_usage(command: list[str], capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as caught:
        main(command)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: python -m minigrad")
    assert [path.name for path in Path().iterdir()] == ["book.txt"]


def test_help_states_every_default(capsys: pytest.CaptureFixture):
    with pytest.raises(SystemExit) as caught:
        main(["train", "charlm", "--help"])
    assert caught.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for name, value in vars(charlm.Config()).items():
        assert re.search(rf"--{name} \S+ [^-]*\(default: {re.escape(str(value))}\)", shown), name
    assert "None" not in shown


def test_a_folder_that_cannot_be_made(capsys: pytest.CaptureFixture):
    err = refused(capsys, 1, "train", "charlm", "--text", "book.txt", *SMALL, "--out", "book.txt")
    assert err == (
        "error: train: the folder 'book.txt'\n"
        "  expected one that can be made and written to, got: File exists\n"
        "  remedy: choose another with --out\n"
    )


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(28, "No space left on device", "log.csv"),
         "error: log.csv\n  expected to read or write it, got: No space left on device\n"
         "  remedy: check its permissions and the space left\n"),
        (OSError(28, "No space left on device"),
         "error: a file\n  expected to read or write it, got: No space left on device\n"
         "  remedy: check its permissions and the space left\n"),
        (MemoryError("9 TiB"), "error: memory\n  expected enough of it, got: 9 TiB\n"
         "  remedy: choose smaller sizes, or a part of the text with --limit\n"),
        (KeyboardInterrupt(), "\ninterrupted\n"),
    ],
)  # fmt: skip
def test_what_the_machine_refuses(
    error: BaseException,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
):
    def fail(*_):
        raise error

    monkeypatch.setattr("minigrad.__main__.text_corpus", fail)
    code = 130 if isinstance(error, KeyboardInterrupt) else 1
    assert refused(capsys, code, "train", "charlm", "--text", "book.txt") == expected


# --- sampling ------------------------------------------------------------------------------------


def test_a_sample_goes_on_from_the_prompt(capsys: pytest.CaptureFixture):
    assert train("--steps", 20, "--out", "run") == 0
    capsys.readouterr()

    def drawn(*flags: object) -> str:
        assert main(["sample", "run", *map(str, flags)]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    assert drawn() == drawn("--length", 400, "--temperature", 0.8, "--seed", 0)
    assert drawn("--prompt", "the ").startswith("the ")
    assert len(drawn("--prompt", "the ", "--length", 50)) == 4 + 50 + 1
    assert drawn("--prompt", "")[:-1] == drawn()[1:-1]
    assert drawn("--seed", 1) != drawn()
    assert drawn("--temperature", 0) == drawn("--temperature", 0, "--seed", 7)
    assert drawn("--prompt", "\N{SNOWMAN}", "--length", 0) == "\N{SNOWMAN}\n"
    assert drawn("--prompt", "\udcff", "--length", 0) == "?\n"  # a byte that is no UTF-8
    model, vocabulary = charlm.load_model(*load(Path("run"))[:2])
    assert drawn("--prompt", "a", "--length", 9) == (
        "a" + charlm.continue_text(model, vocabulary, "a", 9, 0.8, 0) + "\n"
    )


def test_what_cannot_be_sampled(capsys: pytest.CaptureFixture):
    assert train("--steps", 1, "--out", "run") == 0
    files.save("other.safetensors", {"w": np.zeros(3)})
    for flags, expected in [
        (["book.txt"], "expected a whole safetensors file"),
        (["nowhere"], "got no file"),
        (["."], "got no file"),
        (["other.safetensors"], "expected a checkpoint of a training run, got another"),
        (["run", "--length", "-1"], "sample: length\n  expected 0 or more, got -1"),
        (["run", "--temperature", "-1"], "sample: temperature\n  expected 0 or more, got -1.0"),
        (["run", "--seed", "-1"], "sample: rng\n  expected a seed of 0 or more, got -1"),
    ]:
        err = refused(capsys, 1, "sample", *flags)
        assert expected in err
        assert len(err.splitlines()) == 3


def test_config_says_what_runs(capsys: pytest.CaptureFixture):
    assert main(["config"]) == 0
    assert dict(x.split(": ", 1) for x in capsys.readouterr().out.splitlines()) == kernels.config()


# --- as a process --------------------------------------------------------------------------------


def wait_for(condition, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.skipif(os.name != "posix", reason="needs signals that a process can send")
def test_interrupted_in_the_middle_and_resumed():
    """Ctrl-C in a process of its own; what `--resume` makes of it has the uninterrupted bits."""
    log = Path("run", LOG)
    command = [*MODULE, "train", "charlm", "--text", "book.txt", *SMALL, "--steps", "1000"]
    process = subprocess.Popen(
        [*command, "--out", "run"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: log.exists() and log.read_text().count("\n") > 4, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    step = load(Path("run"))[2].step
    assert 4 <= step < 1000
    assert "held out" not in out
    resume = "-m minigrad train charlm --text book.txt --resume run"
    assert err == (
        f"\ninterrupted; the state after step {step} is saved. Go on with\n"
        f"  {sys.executable} {resume}\n"
    )
    assert log.read_text().count("\n") == step + 1
    assert main(resume.split()[2:]) == 0
    assert train("--steps", 1000, "--out", "whole") == 0
    (parts, _, _), (whole, _, _) = load(Path("run")), load(Path("whole"))
    assert list(parts) == list(whole)
    for name, array in whole.items():
        assert np.array_equal(parts[name], array), name


def test_interrupted_before_anything_is_saved(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    def twice(*_):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(charlm.Training, "step", twice)
    assert train("--steps", 9, "--out", "run") == 130
    assert capsys.readouterr().err == "\ninterrupted; nothing is saved yet\n"


def test_interrupted_while_the_report_is_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    def report(*_):
        yield "held out"
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(charlm, "report", report)
        assert train("--steps", 5, "--limit", 9000, "--out", "a run") == 130
    err = capsys.readouterr().err
    assert err.startswith("\ninterrupted; the state after step 5 is saved. Go on with\n")
    assert err.endswith("train charlm --text book.txt --limit 9000 --resume 'a run'\n")
    assert train("--limit", 9000, "--resume", "a run") == 0


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_the_bar_fits_into_a_terminal_of_80_columns():
    import fcntl
    import pty
    import termios

    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [*MODULE, "train", "charlm", "--text", "book.txt", *SMALL, "--steps", "300"],
        stdout=subprocess.DEVNULL,
        stderr=follower,
        env={k: v for k, v in os.environ.items() if k != "HOME"} | {"NO_COLOR": "1"},
    )
    os.close(follower)
    shown = b""
    with contextlib.suppress(OSError):  # which is how the end of a terminal shows
        while data := os.read(leader, 4096):
            shown += data
    os.close(leader)
    assert process.wait(timeout=60) == 0
    lines = re.split(r"[\r\n]+", shown.decode())
    assert max(map(len, lines)) <= 80
    last = [line for line in lines if line][-1]
    assert re.fullmatch(
        r"100%\|█+\| \d\d:\d\d<00:00, loss \d\.\d{3}, \d\.\d{3} bits/char, \d+k chars/s", last
    )
    assert b"\x1b" not in shown


def test_a_reader_that_leaves_is_no_error():
    assert train("--steps", 1, "--out", "run") == 0
    process = subprocess.Popen(
        [*MODULE, "sample", "run"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=60) == 1


def test_what_a_terminal_cannot_show_is_replaced():
    assert train("--steps", 1, "--out", "run") == 0
    done = subprocess.run(
        [*MODULE, "sample", "run", "--prompt", "\N{SNOWMAN}", "--length", "0"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"?\n", b"")
