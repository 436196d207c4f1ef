"""Texts to learn from, cut into the parts train, valid and test."""

from __future__ import annotations

import hashlib
import os
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

from ..errors import FileError, UsageError

# Per hundred, in this order; what a file's hash or a place in a text is compared with.
TRAIN, VALID, TEST = 90, 5, 5

# Tests repeat themselves and are larger than everything else together; the codecs' tables and
# pydoc's topics are written by programs. What remains is text that people wrote.
LEFT_OUT = {"test", "tests", "idle_test", "encodings", "pydoc_data"}

LIBRARY = "standard library"  # the name of its corpus


class Corpus(NamedTuple):
    """One text in three parts that share no file and no character position.

    Args:
        name: what the text is, for people.
        train, valid, test: the parts; `valid` is for choosing, `test` only for reporting.
    """

    name: str
    train: str
    valid: str
    test: str

    @property
    def digest(self) -> str:
        """SHA-256 over the three parts, by which a resumed run knows its text again.

        >>> Corpus("a", "x", "y", "z").digest == Corpus("b", "x", "y", "z").digest
        True
        """
        digest = hashlib.sha256()
        for part in (self.train, self.valid, self.test):
            data = part.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "little") + data)
        return digest.hexdigest()


def stdlib_files() -> list[Path]:
    """The .py files of the running interpreter's standard library, sorted by path.

    A file counts if its first name is in `sys.stdlib_module_names`, which leaves out installed
    packages and files about this machine, and if no folder of its path is in `LEFT_OUT`. Inside
    a virtual environment these are the files of the interpreter it was made from.

    >>> "json/decoder.py" in [file.relative_to(stdlib_root()).as_posix()
    ...                       for file in stdlib_files()]
    True
    """
    root = stdlib_root()
    files = []
    for folder, inside, names in os.walk(root):
        here = Path(folder)
        inside[:] = [name for name in inside if _belongs(here.relative_to(root) / name)]
        files += [
            here / name
            for name in names
            if name.endswith(".py") and _belongs(here.relative_to(root) / name)
        ]
    return sorted(files, key=lambda file: file.relative_to(root).as_posix())


def stdlib_root() -> Path:
    """The folder that holds the standard library of the running interpreter."""
    return Path(sysconfig.get_path("stdlib"))


def _belongs(path: Path) -> bool:
    first = path.parts[0].removesuffix(".py")
    return first in sys.stdlib_module_names and not LEFT_OUT.intersection(path.parts)


def rank(path: str) -> int:
    """A number from 0 to 2^64 - 1 that depends on a file's relative path alone.

    `rank % 100` decides which part the file is in, so no file is in two parts and adding a file
    moves no other. The rank also gives the order of reading, so that a capped part is a mixture
    of packages rather than those whose names begin with `a`.

    >>> rank("json/decoder.py") % 100
    93
    """
    return int.from_bytes(hashlib.sha256(path.encode("utf-8")).digest()[:8], "big")


def part_of(path: str) -> str:
    """The part, `train`, `valid` or `test`, that the file with this relative path is in.

    >>> part_of("json/decoder.py")
    'valid'
    """
    percent = rank(path) % 100
    return "train" if percent < TRAIN else "valid" if percent < TRAIN + VALID else "test"


def stdlib_corpus(limit: int | None = None) -> Corpus:
    """The standard library's own source text, split by files: 90 % train, 5 % valid, 5 % test.

    Files that are not UTF-8 are left out, line ends become `\\n`, files are joined by `\\n`.

    Args:
        limit: at most this many characters altogether, shared out 90 / 5 / 5.

    Raises:
        UsageError: `limit` is too small to leave something of every part.
        FileError: this interpreter has no source files (a zipped or stripped one).
    """
    root = stdlib_root()
    texts: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    paths = (file.relative_to(root).as_posix() for file in stdlib_files())
    for path in sorted(paths, key=rank):
        try:
            texts[part_of(path)].append(_newlines((root / path).read_bytes().decode("utf-8")))
        except (UnicodeDecodeError, OSError):
            continue
    if not all(texts.values()):
        raise FileError(
            f"standard library: {str(root)!r}",
            f"expected some hundred .py files, got {sum(map(len, texts.values()))}",
            "give a text of your own with --text PATH",
        )
    return _capped(Corpus(LIBRARY, *("\n".join(part) for part in texts.values())), limit)


def text_corpus(path: str | os.PathLike, limit: int | None = None, minimum: int = 2000) -> Corpus:
    """A person's own text, split where it stands: the first 90 % train, then 5 % valid, 5 % test.

    A single text has no files to draw lots with, so the parts are contiguous: the end of the text
    is predicted from its beginning, and no character is in two parts.

    Args:
        path: a text file in UTF-8.
        limit: at most this many characters, counted from the beginning.
        minimum: fewer characters than this are refused.

    Raises:
        UsageError: `limit` is too small to leave something of every part.
        FileError: the file is unreadable, empty, not UTF-8 or too short.
    """
    text = read_text(path, minimum)[:limit]
    first, second = len(text) * TRAIN // 100, len(text) * (TRAIN + VALID) // 100
    parts = text[:first], text[first:second], text[second:]
    return _capped(Corpus(Path(path).name, *parts), limit)


def read_text(path: str | os.PathLike, minimum: int = 1) -> str:
    """The text of a UTF-8 file, its line ends turned into `\\n`, a byte order mark removed.

    Args:
        path: the file.
        minimum: fewer characters than this are refused.

    Raises:
        FileError: the file is unreadable, empty, not UTF-8 (the message says at which byte) or
            shorter than `minimum`.
    """
    what = f"text: {os.fspath(path)!r}"
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise FileError(
            what,
            f"expected a readable file, got: {error.strerror}",
            "check the path and its permissions",
        ) from error
    try:
        text = _newlines(data.decode("utf-8").removeprefix("\ufeff"))
    except UnicodeDecodeError as error:
        raise FileError(
            what,
            f"expected UTF-8, got byte 0x{data[error.start]:02x} "
            f"at offset {error.start} ({error.reason})",
            "convert it: iconv -f ITS_ENCODING -t utf-8",
        ) from error
    if not text:
        raise FileError(what, "expected text, got an empty file", "choose a file with text in it")
    if len(text) < minimum:
        raise FileError(
            what, f"expected at least {minimum} characters, got {len(text)}", "choose a longer text"
        )
    return text


def _newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _capped(corpus: Corpus, limit: int | None) -> Corpus:
    if limit is None:
        return corpus
    if limit < 20:
        raise UsageError(
            "corpus: limit",
            f"expected at least 20 characters, got {limit}",
            "give a larger limit, or none",
        )
    return corpus._replace(
        train=corpus.train[: limit * TRAIN // 100],
        valid=corpus.valid[: limit * VALID // 100],
        test=corpus.test[: limit * TEST // 100],
    )
