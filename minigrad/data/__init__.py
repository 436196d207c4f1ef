"""Texts, vocabularies, batches, and the n-gram floors to measure a model against."""

from .ngram import NGram
from .stream import batches, count_batches, trimmed
from .text import LIBRARY, Corpus, part_of, read_text, stdlib_corpus, stdlib_files, text_corpus
from .vocab import Vocabulary

__all__ = [
    "LIBRARY",
    "Corpus",
    "NGram",
    "Vocabulary",
    "batches",
    "count_batches",
    "part_of",
    "read_text",
    "stdlib_corpus",
    "stdlib_files",
    "text_corpus",
    "trimmed",
]
