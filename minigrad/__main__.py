"""The command line: `python -m minigrad train charlm`, `sample`, `config`."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path

from . import kernels
from .data import Corpus, stdlib_corpus, text_corpus
from .errors import MinigradError, UsageError
from .tasks import charlm
from .train import CHECKPOINT, Budget, Run, fit, load

DEFAULT_MINUTES = 1.4  # of training; with everything around it the demo ends in about two


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m minigrad", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    train = verbs.add_parser("train", help="train a model")
    tasks = train.add_subparsers(dest="task", required=True, metavar="TASK")
    lm = tasks.add_parser(
        "charlm",
        help="a character language model",
        description="Train a character model on the standard library's source, or on a text.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    lm.add_argument("--text", type=Path, help="a text file (UTF-8) in place of the library")
    lm.add_argument("--limit", type=int, help="use at most so many characters")
    budget = lm.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, help=f"how long to train ({DEFAULT_MINUTES})")
    budget.add_argument("--epochs", type=float, help="how often to read the training part")
    budget.add_argument("--steps", type=int, help="how many updates")
    for field in fields(charlm.Config):
        kind = type(field.default)
        choices = {"cell": sorted(charlm.CELLS), "dtype": ["float32", "float64"]}.get(field.name)
        lm.add_argument(
            f"--{field.name}", type=kind, choices=choices, help=f"({field.default})", default=None
        )
    lm.add_argument("--out", type=Path, help="folder for checkpoint and log (out/charlm, or the next free)")
    lm.add_argument("--resume", type=Path, help="go on from this checkpoint (a file or its folder)")
    _threads(lm)

    sample = verbs.add_parser("sample", help="continue a text with a trained model")
    sample.add_argument("checkpoint", type=Path)
    sample.add_argument("--prompt", default="\n")
    sample.add_argument("--length", type=int, default=400)
    sample.add_argument("--temperature", type=float, default=0.8)
    sample.add_argument("--seed", type=int, default=0)
    _threads(sample)

    verbs.add_parser("config", help="print what runs: backend, instruction set, threads")
    return parser


def _threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--threads", type=int, help="kernel threads (all cores)")


def _corpus(text: Path | None, limit: int | None) -> Corpus:
    return stdlib_corpus(limit) if text is None else text_corpus(text, limit)


def _free_folder(out: Path | None) -> Path:
    """`out`, or the first of out/charlm, out/charlm-2, ... that holds no earlier run."""
    if out is not None:
        if (out / CHECKPOINT).exists():
            raise UsageError(
                f"train: --out {out}",
                "expected a folder without a checkpoint, got one that holds an earlier run",
                f"choose another folder, or go on with --resume {out}",
            )
        return out
    folder, n = Path("out/charlm"), 1
    while (folder / CHECKPOINT).exists():
        n += 1
        folder = Path(f"out/charlm-{n}")
    return folder


def _train_charlm(args: argparse.Namespace) -> int:
    given = {f.name: getattr(args, f.name) for f in fields(charlm.Config)}
    given = {k: v for k, v in given.items() if v is not None}
    budget = None
    if (args.minutes, args.epochs, args.steps) != (None, None, None):
        budget = Budget(args.steps, args.epochs, args.minutes)

    if args.resume is not None:
        if given or args.out is not None:
            raise UsageError(
                "train: flags beside --resume",
                "expected only --text, --limit, --threads and a budget; got "
                + ", ".join(f"--{k}" for k in [*given, *(["out"] if args.out else [])]),
                "a resumed run keeps the sizes and the folder it began with",
            )
        arrays, metadata, run = load(args.resume)
        folder = args.resume if args.resume.is_dir() else args.resume.parent
        training = charlm.Training.resumed(arrays, metadata, _corpus(args.text, args.limit))
        if budget is None and run.steps is None:
            budget = Budget(minutes=DEFAULT_MINUTES)
    else:
        config = charlm.Config(**given)
        folder = _free_folder(args.out)
        training = charlm.Training(config, _corpus(args.text, args.limit))
        run = Run(lr=config.lr)
        budget = budget or Budget(minutes=DEFAULT_MINUTES)

    corpus, model = training.corpus, training.model
    print(
        f"{corpus.name}: {len(corpus.train):,} characters to train on, {len(corpus.valid):,} to "
        f"choose, {len(corpus.test):,} to test; {len(training.vocabulary)} symbols"
    )
    size = sum(p.size for p in model.parameters())
    print(
        f"{training.config.cell}, {training.config.layers} x {training.config.hidden} units, "
        f"{size:,} parameters, {training.config.dtype}; kernels: "
        + ", ".join(f"{k} {v}" for k, v in kernels.config().items())
    )
    if run.step:
        print(f"resumed after step {run.step}")
    sys.stdout.flush()
    if not fit(training, run, budget, folder):
        print(f"\ninterrupted after step {run.step}; the state is saved. Go on with")
        print(f"  {_command(args)} --resume {folder}")
        return 130
    print(charlm.report(training, training.floors(), run, folder))
    return 0


def _command(args: argparse.Namespace) -> str:
    words = ["python -m minigrad train charlm"]
    words += [f"--text {args.text}"] if args.text else []
    words += [f"--limit {args.limit}"] if args.limit else []
    return " ".join(words)


def _sample(args: argparse.Namespace) -> int:
    if args.length < 0:
        raise UsageError("sample: --length", f"expected 0 or more, got {args.length}", "raise it")
    arrays, metadata, _ = load(args.checkpoint)
    model, vocabulary = charlm.load_model(arrays, metadata)
    text = charlm.continue_text(
        model, vocabulary, args.prompt, args.length, args.temperature, args.seed
    )
    print(args.prompt + text)
    return 0


def _config(args: argparse.Namespace) -> int:
    for key, value in kernels.config().items():
        print(f"{key}: {value}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Runs a command; 0 if it did its job, 1 after an error, 2 for wrong usage, 130 for Ctrl-C."""
    args = _parser().parse_args(argv)
    try:
        if getattr(args, "threads", None) is not None:
            kernels.set_threads(args.threads)
        verb = {"train": _train_charlm, "sample": _sample, "config": _config}[args.verb]
        return verb(args)
    except MinigradError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
