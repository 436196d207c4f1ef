"""The command line: `python -m minigrad train charlm`, `sample`, `check`, `config`."""

from __future__ import annotations

import argparse
import io
import os
import shlex
import sys
from dataclasses import fields
from pathlib import Path

from . import kernels
from .data import Corpus, stdlib_corpus, text_corpus
from .errors import MinigradError, UsageError
from .tasks import charlm
from .train import CHECKPOINT, LOG, Run, fit, load

DEFAULT_MINUTES = 1.6  # of training; with everything around it the demo ends in about two

SETTINGS = {
    "cell": "the recurrent cell",
    "hidden": "units in a recurrent layer",
    "embedding": "numbers that stand for a character",
    "layers": "recurrent layers",
    "batch": "rows of text that are read side by side",
    "window": "characters of a row in one update",
    "lr": "highest learning rate, of Adam",
    "clip": "longest gradient; inf does not clip",
    "dtype": "of all computations",
    "seed": "of the initial weights",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m minigrad", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    train = verbs.add_parser("train", help="train a model")
    tasks = train.add_subparsers(dest="task", required=True, metavar="TASK")
    lm = tasks.add_parser(
        "charlm",
        help="a character language model",
        description="Train a character model on the standard library's source, or on a text. "
        "Ctrl-C saves the state and stops.",
    )
    lm.add_argument("--text", type=Path, help="a text file (UTF-8) in place of the library")
    lm.add_argument("--limit", type=int, help="use at most so many characters")
    budget = lm.add_mutually_exclusive_group()
    budget.add_argument(
        "--minutes", type=float, help=f"how long to train in all (default: {DEFAULT_MINUTES})"
    )
    budget.add_argument("--epochs", type=float, help="how often to read the training part in all")
    budget.add_argument("--steps", type=int, help="how many updates in all")
    choices = {"cell": sorted(charlm.CELLS), "dtype": ["float32", "float64"]}
    for field in fields(charlm.Config):
        lm.add_argument(
            f"--{field.name}",
            type=type(field.default),
            choices=choices.get(field.name),
            help=f"{SETTINGS[field.name]} (default: {field.default})",
        )
    lm.add_argument("--out", type=Path, help="folder for checkpoint and log (default: out/charlm)")
    lm.add_argument("--resume", type=Path, help="go on with the run in this folder")
    _threads(lm)

    sample = verbs.add_parser("sample", help="continue a text with a trained model")
    sample.add_argument("checkpoint", type=Path, help="a run's folder, or a checkpoint")
    sample.add_argument("--prompt", default="\n", help="the text to continue (default: a new line)")
    sample.add_argument("--length", type=int, default=400, help="characters (default: 400)")
    sample.add_argument(
        "--temperature", type=float, default=0.8, help="0 takes the likeliest (default: 0.8)"
    )
    sample.add_argument("--seed", type=int, default=0, help="another one, another text")
    _threads(sample)

    check = verbs.add_parser(
        "check",
        help="check the gradients of a cell or an op",
        description="Try the laws of gradients and recurrences on a cell class, a function, or a "
        "pair (forward, vjp). Exits with 1 if one does not hold.",
    )
    check.add_argument("target", help="module:name, or file.py:name")
    check.add_argument("--laws", help="only these, with commas between: C7,P7")
    check.add_argument("--skip", action="append", default=[], metavar="LAW=REASON")
    check.add_argument("--examples", type=int, help="for each law (default: 100)")
    check.add_argument("--seed", type=int, help="another one, other examples")
    check.add_argument("--html", type=Path, help="write what was found to this page, too")
    _threads(check)

    verbs.add_parser("config", help="print what runs: backend, instruction set, threads")
    return parser


def _threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, help="kernel threads (all cores)")


def _corpus(text: Path | None, limit: int | None) -> Corpus:
    return stdlib_corpus(limit) if text is None else text_corpus(text, limit)


def _holds_run(folder: Path) -> bool:
    return (folder / CHECKPOINT).exists() or (folder / LOG).exists()


def _free_folder(out: Path | None) -> Path:
    """`out`, or the first of out/charlm, out/charlm-2, ... that holds no earlier run."""
    if out is not None:
        if _holds_run(out):
            raise UsageError(
                f"train: --out {out}",
                "expected a folder without a run, got one that holds an earlier one",
                f"choose another folder, or go on with --resume {out}",
            )
        return out
    folder, n = Path("out/charlm"), 1
    while _holds_run(folder):
        n += 1
        folder = Path(f"out/charlm-{n}")
    return folder


def _folder_of_run(path: Path) -> Path:
    """The folder that `--resume` names, directly or by the checkpoint in it."""
    if path.is_dir() or path.name == CHECKPOINT:
        return path if path.is_dir() else path.parent
    raise UsageError(
        f"train: --resume {path}",
        f"expected a run's folder or the {CHECKPOINT} in it, got another file or none",
        f"to go on from a copy, name it {CHECKPOINT} in a folder of its own",
    )


def _train_charlm(args: argparse.Namespace) -> int:
    config = {f.name: getattr(args, f.name) for f in fields(charlm.Config)}
    config = {name: value for name, value in config.items() if value is not None}
    budget = {"steps": args.steps, "epochs": args.epochs, "minutes": args.minutes}
    budget = {name: value for name, value in budget.items() if value is not None}

    if args.resume is not None:
        if config or args.out is not None:
            raise UsageError(
                "train: flags beside --resume",
                "expected only --text, --limit, --threads and a budget; got "
                + ", ".join(f"--{name}" for name in [*config, *(["out"] if args.out else [])]),
                "a resumed run keeps the sizes and the folder it began with",
            )
        folder = _folder_of_run(args.resume)
        arrays, metadata, run = load(folder)
        training = charlm.Training.resumed(arrays, metadata, _corpus(args.text, args.limit))
        if budget:
            run.set_budget(training, **budget)
    else:
        folder = _free_folder(args.out)
        training = charlm.Training(charlm.Config(**config), _corpus(args.text, args.limit))
        run = Run(lr=training.config.lr)
        run.set_budget(training, **budget or {"minutes": DEFAULT_MINUTES})

    corpus, size = training.corpus, sum(p.size for p in training.model.parameters())
    print(
        f"{corpus.name}: {len(corpus.train):,} characters to train on, {len(corpus.valid):,} to "
        f"choose, {len(corpus.test):,} to test; {len(training.vocabulary)} symbols"
    )
    print(
        f"{training.config.cell}, {training.config.layers} x {training.config.hidden} units, "
        f"{size:,} parameters, {training.config.dtype}; kernels: "
        + ", ".join(f"{k} {v}" for k, v in kernels.config().items())
    )
    if run.step:
        print(f"resumed after step {run.step}")
    sys.stdout.flush()
    try:
        if fit(training, run, folder):
            for line in charlm.report(training, run):
                print(line, flush=True)
            print(f"\ncheckpoint  {folder / CHECKPOINT}\nlog         {folder / LOG}")
            print("more text   " + _command("sample", folder, "--prompt", "..."))
            return 0
    except KeyboardInterrupt:  # the second one, or one while the report was made
        pass
    if not (folder / CHECKPOINT).exists():
        print("\ninterrupted; nothing is saved yet", file=sys.stderr)
        return 130
    text = [w for k in ("text", "limit") if (v := getattr(args, k)) for w in (f"--{k}", v)]
    step = load(folder)[2].step
    print(f"\ninterrupted; the state after step {step} is saved. Go on with", file=sys.stderr)
    print("  " + _command("train", "charlm", *text, "--resume", folder), file=sys.stderr)
    return 130


def _command(*words: object) -> str:
    """A command for people to copy, with the interpreter that they have used now."""
    return shlex.join([sys.orig_argv[0], "-m", "minigrad", *map(str, words)])


def _sample(args: argparse.Namespace) -> int:
    arrays, metadata, _ = load(args.checkpoint)
    model, vocabulary = charlm.load_model(arrays, metadata)
    text = charlm.continue_text(
        model, vocabulary, args.prompt, args.length, args.temperature, args.seed
    )
    print(args.prompt + text)
    return 0


def _check(args: argparse.Namespace) -> int:
    from .testing import command  # not needed by anybody else

    laws = None if args.laws is None else [id.strip() for id in args.laws.split(",")]
    return command.check(
        args.target,
        laws=laws,
        skip=args.skip,
        examples=args.examples,
        seed=args.seed,
        html=args.html,
    )


def _config(args: argparse.Namespace) -> int:
    for key, value in kernels.config().items():
        print(f"{key}: {value}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Runs a command; 0 if it did its job, 1 after an error, 2 for wrong usage, 130 for Ctrl-C."""
    args = _parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a model may write what a terminal cannot show
        sys.stdout.reconfigure(errors="replace")
    try:
        if getattr(args, "threads", None) is not None:
            kernels.set_threads(args.threads)
        verbs = {"train": _train_charlm, "sample": _sample, "check": _check, "config": _config}
        verb = verbs[args.verb]
        code = verb(args)
        sys.stdout.flush()
        return code
    except MinigradError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever read this (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where, why = error.filename or "a file", error.strerror or error
        print(f"error: {where}\n  expected to read or write it, got: {why}", file=sys.stderr)
        print("  remedy: check its permissions and the space left", file=sys.stderr)
        return 1
    except MemoryError as error:
        print(f"error: memory\n  expected enough of it, got: {error}", file=sys.stderr)
        print("  remedy: choose smaller sizes, or a part of the text with --limit", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
