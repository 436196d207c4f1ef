import hashlib
import sys
import sysconfig

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad.data import Corpus, part_of, read_text, stdlib_corpus, stdlib_files, text_corpus
from minigrad.data import text as text_module
from minigrad.data.text import stdlib_root
from minigrad.errors import FileError, UsageError


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A standard library of our own making, for questions about single files."""
    monkeypatch.setattr(text_module, "stdlib_root", lambda: tmp_path)

    def write(path, data):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    for folder in ("json", "email", "asyncio"):
        for number in range(40):
            write(f"{folder}/module{number}.py", f"# {folder} {number}\n".encode())
    return write


def test_stdlib_files_are_sorted_python_files_of_standard_modules():
    files = [file.relative_to(stdlib_root()).as_posix() for file in stdlib_files()]
    assert files == sorted(files) and len(set(files)) == len(files)
    assert {"json/decoder.py", "ast.py", "asyncio/events.py"} <= set(files)
    for file in files:
        assert file.endswith(".py")
        assert file.split("/")[0].removesuffix(".py") in sys.stdlib_module_names
        left_out = {"test", "tests", "idle_test", "site-packages", "encodings", "pydoc_data"}
        assert not left_out & set(file.split("/"))


def test_stdlib_root_is_that_of_the_interpreter_also_in_a_virtual_environment():
    assert str(stdlib_root()).startswith(sys.base_prefix)
    assert str(stdlib_root()) == sysconfig.get_path("stdlib")


def test_what_a_file_must_be_to_count(library, tmp_path):
    before = stdlib_files()
    library("site-packages/json.py", b"#")
    library("test/json.py", b"#")
    library("json/tests/inner.py", b"#")
    library("json/data.txt", b"#")
    library("encodings/cp037.py", b"#")
    library("sitecustomize.py", b"#")
    library("_sysconfigdata__linux_.py", b"#")
    assert stdlib_files() == before
    library("abc.py", b"#")
    assert set(stdlib_files()) - set(before) == {tmp_path / "abc.py"}


def test_the_part_depends_on_the_path_alone():
    # Written out once by hand: a change of the rule would mix old test files into training.
    paths = ("abc.py", "json/decoder.py", "ast.py")
    assert [part_of(path) for path in paths] == ["train", "valid", "test"]
    parts = []
    for path in (f"module{number}.py" for number in range(2000)):
        percent = int(hashlib.sha256(path.encode()).hexdigest()[:16], 16) % 100
        parts.append("train" if percent < 90 else "valid" if percent < 95 else "test")
        assert part_of(path) == parts[-1]
    assert 1750 < parts.count("train") < 1850 and 70 < parts.count("valid") < 130


def test_no_file_is_in_two_parts_and_none_is_lost(library):
    corpus = stdlib_corpus()
    lines = [set(part.splitlines()) - {""} for part in corpus[1:]]
    assert all(lines)
    assert sum(map(len, lines)) == len(lines[0] | lines[1] | lines[2]) == 120


def test_adding_a_file_moves_no_other(library):
    before = stdlib_corpus()
    library("json/new.py", b"# new\n")
    after = stdlib_corpus()
    for name in ("train", "valid", "test"):
        old, new = getattr(before, name), getattr(after, name)
        assert [line for line in new.splitlines() if line and line != "# new"] == [
            line for line in old.splitlines() if line
        ]
    assert "# new\n" in getattr(after, part_of("json/new.py"))


def test_files_that_are_not_utf8_are_left_out_and_line_ends_normalised(library):
    library("abc.py", b"# latin \xe9\n")
    library("ast.py", b"one\r\ntwo\rthree\n")
    whole = "".join(stdlib_corpus()[1:])
    assert "latin" not in whole and "\r" not in whole and "one\ntwo\nthree\n" in whole


def test_the_corpus_of_this_interpreter_is_the_same_twice():
    assert stdlib_corpus() == stdlib_corpus()
    assert min(map(len, stdlib_corpus()[1:])) > 10_000


def test_limit_shortens_each_part_and_keeps_its_beginning(library):
    whole, short = stdlib_corpus(), stdlib_corpus(limit=200)
    assert [len(part) for part in short[1:]] == [180, 10, 10]
    assert all(w.startswith(s) for w, s in zip(whole[1:], short[1:], strict=True))
    # Reading in the order of the hash, even a short part holds files of several packages.
    assert len({line.split()[1] for line in short.train.splitlines() if line[:1] == "#"}) == 3


def test_no_standard_library_is_an_error_with_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(text_module, "stdlib_root", lambda: tmp_path)
    with pytest.raises(FileError) as caught:
        stdlib_corpus()
    assert str(caught.value) == (
        f"standard library: {str(tmp_path)!r}\n"
        "  expected some hundred .py files, got 0\n"
        "  remedy: give a text of your own with --text PATH"
    )


def test_digest_tells_texts_apart_and_sees_where_parts_end():
    digests = {
        Corpus("", *parts).digest
        for parts in [("ab", "c", "d"), ("a", "bc", "d"), ("a", "b", "cd"), ("ab", "d", "c")]
    }
    assert len(digests) == 4
    assert Corpus("x", "a", "b", "c").digest == Corpus("y", "a", "b", "c").digest


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), min_size=20))
def test_a_text_of_ones_own_is_cut_where_it_stands(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "own.txt"
    path.write_bytes(text.encode("utf-8"))
    text = text.removeprefix("\ufeff")
    corpus = text_corpus(path, minimum=1) if text else None
    if corpus:
        assert corpus.name == "own.txt"
        assert corpus.train + corpus.valid + corpus.test == text
        assert len(corpus.train) == len(text) * 90 // 100
        assert len(corpus.train + corpus.valid) == len(text) * 95 // 100


def test_limit_of_a_text_of_ones_own(tmp_path):
    path = tmp_path / "own.txt"
    path.write_text("0123456789" * 20)
    corpus = text_corpus(path, limit=100, minimum=1)
    assert [len(part) for part in corpus[1:]] == [90, 5, 5]
    assert "".join(corpus[1:]) == "0123456789" * 10
    with pytest.raises(UsageError, match="expected at least 20 characters, got 19"):
        text_corpus(path, limit=19, minimum=1)


def test_line_ends_and_the_byte_order_mark(tmp_path):
    path = tmp_path / "own.txt"
    path.write_bytes(b"\xef\xbb\xbfa\r\nb\rc\n\xc3\xa9")
    assert read_text(path) == "a\nb\nc\n\xe9"


@pytest.mark.parametrize(
    ("data", "problem", "remedy"),
    [
        (None, "expected a readable file, got: No such file", "check the path"),
        (b"", "expected text, got an empty file", "choose a file with text in it"),
        (b"\xef\xbb\xbf", "expected text, got an empty file", "choose a file with text in it"),
        (b"abc\xffdef", "expected UTF-8, got byte 0xff at offset 3 (invalid start byte)", "iconv"),
        (b"ab\xe2\x82", "expected UTF-8, got byte 0xe2 at offset 2 (unexpected end", "iconv"),
        (b"\xed\xa0\x80", "expected UTF-8, got byte 0xed at offset 0", "iconv"),
        (b"x" * 1999, "expected at least 2000 characters, got 1999", "choose a longer text"),
    ],
)
def test_what_is_wrong_with_a_text(tmp_path, data, problem, remedy):
    path = tmp_path / "own.txt"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(FileError) as caught:
        text_corpus(path)
    what, expected_and_got, last = str(caught.value).split("\n")
    assert what == f"text: {str(path)!r}"
    assert expected_and_got.strip().startswith(problem)
    assert last.strip().startswith(f"remedy: {remedy}") or remedy in last


def test_the_shortest_text_that_is_long_enough(tmp_path):
    path = tmp_path / "own.txt"
    path.write_text("x" * 2000)
    assert len("".join(text_corpus(path)[1:])) == 2000


def test_a_folder_is_not_a_text(tmp_path):
    with pytest.raises(FileError, match="Is a directory"):
        read_text(tmp_path)
