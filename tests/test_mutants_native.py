"""The seeded bugs in C: each is there where it is compiled in, and nowhere else.

To build all of them takes a minute: two are tested unless MINIGRAD_MUTANTS=all.
"""

import os
import platform
import re
import shutil
import signal

import numpy as np
import pytest
from mutants import CAUSES, mutant, mutants, native, specimens

from minigrad import kernels, recurrent

ALL = os.environ.get("MINIGRAD_MUTANTS") == "all"
DOORS = [id for id in native.SUBJECTS if id not in native.NUMBERS]
TESTED = list(native.SUBJECTS) if ALL else ["103", "110", *DOORS]


@pytest.fixture(scope="module")
def builds():
    if shutil.which(native._compiler()[0]) is None:
        pytest.skip("needs a C compiler")
    return native.build(id for id in TESTED if id in native.NUMBERS)


def test_the_catalogue_is_whole():
    ids = set(native.SUBJECTS)
    assert {str(n) for n in range(101, 113)} <= ids
    assert sum(id.startswith("HN") for id in ids) >= 24


def test_every_number_stands_in_the_sources():
    asked = {number for numbers in native._asks().values() for number in numbers}
    assert asked == set(native.NUMBERS.values())
    assert len(native.NUMBERS) == len(asked)
    for number in asked:
        assert native.touched(number)


@pytest.mark.parametrize("id", native.SUBJECTS)
def test_a_bug_says_what_it_is(id: str):
    m = mutants[id]
    assert specimens[m.specimen].kind == "native" and m.family == "F native" and m.description
    assert set(m.cause.split("|")) <= set(CAUSES)
    assert (m.macro is None) == (m.patch is not None) == (id in DOORS)
    kinds = "op|cell|bits|memory|threads|state"
    assert re.fullmatch(rf"({kinds}):[\w ]+", native.SUBJECTS[id])


@pytest.mark.native
@pytest.mark.parametrize("id", TESTED)
def test_a_bug_shows_where_it_is_compiled_in(id: str, builds):
    if id == "110" and platform.machine() != "x86_64":
        pytest.skip("flushing to zero is switched on for x86-64 only")
    m = mutants[id]
    assert not m.shows()
    with mutant(id):
        assert m.shows()
    assert not m.shows()


@pytest.mark.native
@pytest.mark.parametrize("id", DOORS)
def test_a_door_is_as_it_was_afterwards(id: str):
    before = dict(vars(recurrent))
    with pytest.raises(KeyError), mutant(id):
        assert vars(recurrent) != before
        raise KeyError
    assert vars(recurrent) == before


@pytest.mark.native
def test_one_byte_past_a_guarded_array_is_a_fault(builds):
    code = "a = guarded((3, 5), np.float32)\na[:] = 1\nprint(a.sum())\n"
    done = native.run(None, code)
    assert (done.returncode, done.stdout) == (0, "15.0\n")
    read = "ctypes.string_at(a.ctypes.data, a.nbytes + 1)"
    assert native.run(None, code + read).returncode in (-signal.SIGSEGV, -signal.SIGBUS)


@pytest.mark.native
def test_a_run_takes_the_extension_that_was_built(builds):
    code = "import sys\nprint(sys.modules['minigrad._native'].__file__)"
    done = native.run("110", code)
    assert done.stdout.strip() == str(builds["110"] / "minigrad" / "_native.abi3.so")


@pytest.mark.native
def test_the_build_without_a_bug_has_the_bits_of_the_release(builds):
    release = kernels.tanh(np.random.default_rng(0).standard_normal(9))
    code = f"print(kernels.tanh(numbers(9)).tobytes() == {release.tobytes()!r})"
    assert native.run(None, code).stdout == "True\n"
