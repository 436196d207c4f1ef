"""Seeded bugs in the C kernels, each compiled in by a macro, and two at the door to them.

`build` makes for each bug a folder with a copy of minigrad whose extension has it; `run` lets
Python code loose on one, in a process of its own, where a crash harms nobody:

    run("103", "kernels.tanh(guarded((5,), np.float64))").returncode  # -11, a segmentation fault

`SUBJECTS` names for each bug what sees it: "op:..." and "cell:..." the check of that op or cell;
"bits:isa" and "bits:threads" equal bits on another instruction set, with other numbers of threads;
"memory:guard" arrays that end where memory ends; "memory:poison" results laid over NaN;
"threads:concurrent" calls from several Python threads; "threads:units" a recurrent layer on two
threads that divide its units, as they do where rows are few; "state:float" the floating-point
modes.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import inspect
import mmap
import os
import re
import runpy
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from minigrad import recurrent

from . import Mutant, Specimen, add, bug, specimen
from .engine import changed, differ, numbers

ROOT = Path(__file__).parents[2]
CSRC = ROOT / "csrc"
PLAIN = "plain"  # the id of the build without a bug

SUBJECTS: dict[str, str] = {}

specimen(Specimen("native", "native"))


# --- builds --------------------------------------------------------------------------------------


# No optimisation changes a bit (see csrc/ffi_build.py), and -Og takes a third of the time of -O3.
FLAGS = ["-std=c11", "-Og", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math",
         "-fvisibility=hidden", "-fPIC", "-pthread", f"-I{CSRC}"]  # fmt: skip


@cache
def _ffi_build() -> dict[str, Any]:
    return runpy.run_path(str(CSRC / "ffi_build.py"))


def _compiler() -> list[str]:
    return os.environ.get("CC", "cc").split()


@cache
def _folder() -> Path:
    """Where the builds of these sources lie."""
    python = f"{sys.version} {sysconfig.get_platform()} {_compiler()} {FLAGS}"
    key = hashlib.sha256((_ffi_build()["source_hash"]() + python).encode()).hexdigest()[:16]
    return ROOT / "build" / "mutants" / key


def _units() -> list[str]:
    """The C files of the extension, but for the one that cffi writes."""
    top = [path.name for path in sorted(CSRC.glob("*.c"))]
    return top + [f"isa/{path.name}" for path in sorted((CSRC / "isa").glob("*.c"))]


@cache
def _asks() -> dict[Path, list[str]]:
    """The bugs that each source file asks for."""
    files = _ffi_build()["source_files"]()
    return {path: re.findall(r"\bMG_BUG\((\d+)\)", path.read_text()) for path in files}


def touched(number: str | None) -> list[str]:
    """The C files that are not the same with bug `number` compiled in."""
    units: set[str] = set()
    for path in [path for path, asked in _asks().items() if number in asked]:
        if path.suffix == ".c":
            units.add(path.relative_to(CSRC).as_posix())
        elif path.parent.name == "simd":
            units.add(f"isa/isa_{path.stem}.c")
        else:
            units |= {unit for unit in _units() if unit.startswith("isa/")}
    return sorted(units)


def _call(*words: object) -> None:
    done = subprocess.run([*_compiler(), *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _new(path: Path, make: Callable[[Path], None]) -> Path:
    """Makes a file, whole or not at all, unless it is there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{os.getpid()}.{path.name}")
        make(part)
        part.replace(path)
    return path


def _object(part: tuple[str, str | None]) -> Path:
    """One C file compiled, with a bug or without."""
    unit, number = part
    path = _folder() / "objects" / f"{number or PLAIN}-{Path(unit).stem}.o"
    define = [f"-DMG_MUTANT={number}"] if number else []
    return _new(path, lambda to: _call(*FLAGS, *define, "-c", CSRC / unit, "-o", to))


def _binding() -> Path:
    """The C file that cffi writes, compiled."""
    with contextlib.redirect_stdout(None):  # cffi says what it does
        emit = _ffi_build()["ffi"].emit_c_code
        source = _new(_folder() / "_native.c", lambda to: emit(str(to)))
    include = f"-I{sysconfig.get_path('include')}"
    path = _folder() / "objects" / "native.o"
    return _new(path, lambda to: _call(*FLAGS, include, "-c", source, "-o", to))


def _package(id: str, objects: list[Path]) -> Path:
    """A folder for the import path: minigrad by links, with an extension of its own."""
    folder = _folder() / id
    package = folder / "minigrad"
    link = ["-shared", "-pthread", *objects, "-lm"]
    if sys.platform == "darwin":
        link += ["-undefined", "dynamic_lookup"]
    _new(package / "_native.abi3.so", lambda to: _call(*link, "-o", to))
    for path in (ROOT / "minigrad").iterdir():
        if path.name != "__pycache__" and not path.name.startswith("_native."):
            with contextlib.suppress(FileExistsError):
                (package / path.name).symlink_to(path)
    return folder


def _parts(number: str | None) -> list[tuple[str, str | None]]:
    """The C files of a build, each with the bug that is to be compiled in."""
    changed = touched(number)
    return [(unit, number if unit in changed else None) for unit in _units()]


def build(ids: Iterable[str] | None = None) -> dict[str, Path]:
    """Builds minigrad once for each bug, and once without, in parallel: folders for `PYTHONPATH`.

    What a bug does not touch is compiled once for all; what is there is not built again.
    """
    ids = [PLAIN, *(NUMBERS if ids is None else ids)]
    parts = {id: _parts(None if id == PLAIN else NUMBERS[id]) for id in ids}
    binding = _binding()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        different = dict.fromkeys(part for needed in parts.values() for part in needed)
        objects = dict(zip(different, pool.map(_object, different), strict=True))
        folders = pool.map(
            lambda id: _package(id, [binding, *(objects[part] for part in parts[id])]), ids
        )
        return dict(zip(ids, folders, strict=True))


# --- runs ----------------------------------------------------------------------------------------


def guarded(shape: tuple[int, ...], dtype) -> np.ndarray:
    """Zeros that end where memory that may be read ends, so that one byte more is a fault."""
    dtype, page = np.dtype(dtype), mmap.PAGESIZE
    size = int(np.prod(shape)) * dtype.itemsize
    pages = -(-size // page) + 1
    memory = mmap.mmap(-1, pages * page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    assert protect(start + (pages - 1) * page, page, 0) == 0
    end = (pages - 1) * page
    return np.frombuffer(memory, dtype, size // dtype.itemsize, end - size).reshape(shape)


PRELUDE = f"""
import ctypes, hashlib, mmap, threading
import numpy as np
import minigrad as mg
from minigrad import kernels, recurrent

assert kernels.lib is not None

def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)

def show(*arrays):
    for a in arrays:
        a = np.asarray(a.data if isinstance(a, mg.Tensor) else a)
        print(a.shape, hashlib.sha256(np.ascontiguousarray(a).tobytes()).hexdigest()[:16])

def lstm(steps, rows, size=3, cotangents=(1, 1, 1), **options):
    "Shows what the fused LSTM gives, and its gradients."
    cell = mg.nn.LSTMCell(size, size, rng=0)
    xs, *state = (mg.tensor(numbers(*s), requires_grad=True)
                  for s in ((steps, rows, size), (rows, size), (rows, size)))
    ys, (h, c) = mg.unfold(cell, xs, tuple(state), fused=True, **options)
    show(ys, h, c)
    sum((w * t).sum() for w, t in zip(cotangents, (ys, h, c)) if w).backward()
    show(xs.grad, *[s.grad for s in state], *[p.grad for p in cell.parameters()])

def layer(kind, steps, rows, size=3, lengths=None):
    "Shows what the kernels make of a recurrent layer, both passes, in memory full of NaN."
    recurrent._empty = lambda shape, dtype: np.full(shape, np.nan, dtype)
    kind = recurrent.KINDS[kind]
    shapes = kind.shapes(steps, rows, size, size)
    args = tuple(numbers(*s, seed=i) / size**0.5 for i, s in enumerate(shapes))
    out, saved = recurrent.forward(kind, True, lengths, args)
    g = tuple(numbers(*a.shape, seed=20 + i) for i, a in enumerate(out))
    gradients = recurrent.backward(kind, g, lengths, args, out[0], saved)
    show(*out, *[a for a in gradients if a is not None])

{inspect.getsource(guarded)}
"""


def run(id: str | None, code: str, timeout: float = 60.0) -> subprocess.CompletedProcess:
    """Runs Python code on minigrad with a bug compiled in (None: without one), in a new process.

    In scope are `np`, `mg`, `kernels`, `guarded`, and what else stands in `PRELUDE`. Raises
    `subprocess.TimeoutExpired`.
    """
    folder = build([] if id is None else [id])[id or PLAIN]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MINIGRAD_")}
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    environment |= {"PYTHONPATH": path, "PYTHONFAULTHANDLER": "", "MINIGRAD_KERNELS": "c"}
    command = [sys.executable, "-c", PRELUDE + code]
    return subprocess.run(
        command, cwd=folder, env=environment, timeout=timeout, capture_output=True, text=True
    )


def _differs(id: str, code: str) -> bool:
    """Whether the code prints or ends otherwise than without a bug; only if it is switched on."""
    right = run(None, code)
    assert right.returncode == 0, right.stderr
    this = run(id if bug(id) else None, code)
    return (this.returncode, this.stdout) != (0, right.stdout)


# --- the bugs ------------------------------------------------------------------------------------

NUMBERS: dict[str, str] = {}  # what MG_MUTANT is defined as, by id


def compiled(
    id: str, subject: str, description: str, cause: str, code: str, number: str = "", **more: Any
) -> None:
    SUBJECTS[id], NUMBERS[id] = subject, number or id
    add(
        Mutant(
            id,
            "native",
            "F native",
            description,
            cause,
            lambda: _differs(id, code),
            macro=f"MG_MUTANT={NUMBERS[id]}",
            **more,
        )
    )


compiled(
    "101",
    "op:matmul",
    "small products: the length of a row is taken for the distance between rows, which a sliced "
    "left argument does not have",
    "layout",
    "show(kernels.matmul(numbers(4, 9)[:, :5], numbers(5, 3)))",
)
compiled(
    "102",
    "memory:poison",
    "a product that begins at 0 begins at 0 times what lay in its memory: NaN where that was NaN",
    "not finite|memory|stale",
    "out = np.full((4, 16), np.nan)\n"
    "show(kernels._small_matmul(numbers(4, 3), numbers(3, 16), out=out))",
)
compiled(
    "103",
    "memory:guard",
    "elementwise functions load a whole vector past the end of the array",
    "memory",
    "show(kernels.tanh(guarded((5,), np.float64)), kernels.tanh(guarded((19,), np.float32)))",
)
compiled(
    "104",
    "threads:concurrent",
    "small products pack their arguments into memory that all threads share, while Python's lock "
    "is released",
    "threads",
    """
a, b = numbers(400, 40, 40), numbers(400, 40, 40, seed=1)
right, wrong = kernels.matmul(a, b), []

def work():
    for _ in range(60):
        wrong.append(not np.array_equal(kernels.matmul(a, b), right))

workers = [threading.Thread(target=work) for _ in range(2)]
for w in workers: w.start()
for w in workers: w.join()
print(any(wrong))
""",
)
compiled(
    "105",
    "bits:threads",
    "the order in which a product is summed depends on the number of threads, where there is work "
    "for several: from 2 million multiplications",
    "threads",
    """
a, b = numbers(256, 300), numbers(300, 256, seed=1)
for n in (1, 2):
    kernels.set_threads(n)
    show(kernels.matmul(a, b))
""",
)
compiled(
    "106",
    "memory:huge",
    "the distance in bytes from the first element of a strided argument is kept in 32 bits; seen "
    "by a view whose elements lie a gigabyte apart, in memory that is never touched",
    "memory|layout",
    """
flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
far = np.frombuffer(mmap.mmap(-1, (1 << 31) + mmap.PAGESIZE, flags=flags))[:: 1 << 27][:3]
far[:] = 1, 2, 3
show(kernels.exp(far))
""",
)
compiled(
    "108",
    "op:matmul",
    "a product whose start is its own result, as between two pieces of a long sum, begins at 0",
    "alias|accumulation",
    "show(kernels.matmul(numbers(3, 100), numbers(100, 5)))\nlstm(3, 2)",
)
compiled(
    "109",
    "op:tanh",
    "elementwise functions load whole vectors from addresses rounded down to 16 bytes, which a "
    "view that begins at an odd element does not have",
    "layout|memory",
    "show(kernels.tanh(numbers(40)[1:]), kernels.exp(numbers(40)[1:]))",
)
compiled(
    "110",
    "state:float",
    "small products and elementwise functions leave denormal results flushed to zero, for NumPy "
    "and everybody else (x86-64 only)",
    "state|not finite",
    "kernels.tanh(numbers(3))\nprint((np.array([1e-310]) * 0.5)[0])",
)
compiled(
    "111",
    "op:exp",
    "exp is off by up to one part in ten thousand above 8",
    "forward",
    "show(kernels.exp(np.array([9.0, 20.0])))",
)
compiled(
    "HN1",
    "op:tanh",
    "elementwise functions take the last element for 0 where the last vector is not a whole one",
    "tail",
    "show(kernels.tanh(numbers(5)), kernels.exp(numbers(19).astype(np.float32)))",
    "201",
)
compiled(
    "HN2",
    "cell:LSTMCell",
    "the fused LSTM exchanges the weights of i and f, and those of g and o; its backward pass "
    "does not",
    "gates",
    "lstm(2, 2)",
    "202",
)
compiled(
    "HN3",
    "cell:LSTMCell",
    "the fused LSTM drops the cotangent of the last c",
    "state|zero|missing term",
    "lstm(3, 2, cotangents=(0, 0, 1))",
    "203",
)
compiled(
    "HN4",
    "cell:LSTMCell",
    "the fused LSTM gives the initial h the cotangent of the h after the first step",
    "first step|state",
    "lstm(3, 2)",
    "204",
)
compiled(
    "HN5",
    "op:matmul",
    "products leave out the last row of each tile of rows",
    "row|tail|zero",
    "show(kernels.matmul(numbers(5, 7), numbers(7, 3)))",
    "205",
)
compiled(
    "HN6",
    "cell:LSTMCell",
    "in the fused LSTM a row before a longer one runs one step past its length",
    "mask",
    "lstm(4, 2, lengths=[2, 4])",
    "206",
)
compiled(
    "HN7",
    "op:matmul",
    "a product that is summed in blocks of 256 begins every block anew; only where the right "
    "argument has more than 8192 elements is one summed so",
    "accumulation",
    "show(kernels.matmul(numbers(4, 300), numbers(300, 40)))",
    "207",
)
compiled(
    "HN8",
    "op:tanh",
    "tanh is flat beyond 4, off by up to 7e-4",
    "forward",
    "show(kernels.tanh(np.array([4.5, -7.0])))",
    "208",
)
compiled(
    "HN9",
    "op:sigmoid",
    "the sigmoid of NaN is 0",
    "not finite",
    "show(np.isnan(kernels.sigmoid(np.array([np.nan, 0.5]))))",
    "209",
    forward=True,
)
compiled(
    "HN10",
    "cell:LSTMCell",
    "in the fused LSTM the cotangent of a row's last h is lost if the row stands before a longer "
    "one",
    "mask|zero",
    "lstm(4, 2, lengths=[2, 4], cotangents=(0, 1, 0))",
    "210",
)
compiled(
    "HN11",
    "op:take",
    "rows added up by an index lack their last column where the last vector is not a whole one",
    "tail|zero",
    "show(kernels.scatter_rows(np.array([1, 0, 1]), numbers(3, 5), (3, 5)))",
    "211",
)
compiled(
    "HN12",
    "bits:isa",
    "on the generic instruction set a multiplication and an addition are rounded twice",
    "wrong formula",
    'kernels.set_isa("generic")\nshow(kernels.matmul(numbers(5, 7), numbers(7, 3)))',
    "212",
)
compiled(
    "HN13",
    "op:matmul",
    "a left argument that is packed element by element, being strided both ways, loses half its "
    "digits",
    "float32|layout",
    "show(kernels.matmul(numbers(6, 8)[::2, ::2], numbers(4, 3)))",
    "213",
)
compiled(
    "HN14",
    "bits:threads",
    "with several threads the fused LSTM leaves out the last row of each thread; it takes a second "
    "one from 2 million multiplications",
    "threads|row",
    "kernels.set_threads(2)\nlstm(8, 33, size=64)",
    "214",
)
compiled(
    "HN15",
    "cell:LSTMCell",
    "the fused LSTM, which multiplies the inputs of several steps at once, takes those of the "
    "first steps again and again: the thirteenth step of 8 rows sees the first input",
    "stale|wrong formula",
    "lstm(14, 8)",
    "215",
)
compiled(
    "HN16",
    "cell:GRUCell",
    "in the fused GRU the cotangent of the recurrent sum that r scales lacks the factor r",
    "factor|missing term",
    'layer("gru", 3, 2)',
    "216",
)
compiled(
    "HN17",
    "cell:GRUCell",
    "in the fused GRU of a batch with lengths the cotangent z*dh does not reach the h before",
    "missing term|mask",
    'layer("gru", 3, 2, lengths=[3, 2])',
    "217",
)
compiled(
    "HN18",
    "cell:GRUCell before",
    "the fused GRU that resets before the product multiplies r*h of the first step again and again",
    "stale|wrong formula",
    'layer("gru_before", 3, 2)',
    "218",
)
compiled(
    "HN19",
    "cell:GRUCell before",
    "the second product of the fused GRU that resets before it begins at 0, not at its bias",
    "missing term|forward",
    'layer("gru_before", 1, 2)',
    "219",
)
compiled(
    "HN20",
    "cell:LSTMCell peephole",
    "in the fused LSTM with peepholes the output gate looks at the c before the step",
    "wrong formula|stale",
    'layer("lstm_peephole", 2, 2)',
    "220",
)
compiled(
    "HN21",
    "cell:RNNCell relu",
    "in the fused RNN of a relu the cotangent goes through where h is 0",
    "wrong formula",
    'layer("rnn_relu", 2, 2)',
    "221",
)
compiled(
    "HN22",
    "threads:units",
    "threads that divide the units of a recurrent layer do not wait for one another",
    "threads",
    'kernels.set_threads(2)\nlayer("lstm", 32, 3, size=150)',
    "222",
)
compiled(
    "HN23",
    "memory:poison",
    "behind the last row that runs on, the last gate is left as it was in memory, and so is its "
    "cotangent",
    "memory|mask|stale",
    'layer("lstm", 3, 2, lengths=[3, 1])',
    "223",
)
compiled(
    "HN24",
    "cell:RNNCell",
    "the fused RNN, which computes four vectors of units at once, takes for all of them the sums "
    "with x of the first",
    "tail|wrong formula",
    'layer("rnn", 2, 2, size=17)',
    "224",
)


# --- at the door ---------------------------------------------------------------------------------

# The kernels keep nothing between calls, so what a cache would do wrong is planted before them.


LSTM = recurrent.KINDS["lstm"]


@contextlib.contextmanager
def _packed_once():
    packed: dict[int, tuple] = {}
    forward = recurrent.forward

    def door(kind, save, lengths, args):
        xs, h0, c0, w, u, *rest = args
        _, w, u = packed.setdefault(id(w), (w, w.copy(), u.copy()))
        return forward(kind, save, lengths, (xs, h0, c0, w, u, *rest))

    with changed((recurrent, "forward", door)):
        yield


def _updated_unseen() -> bool:
    xs, state = numbers(2, 1, 3), np.zeros((1, 3))
    w, u, b = numbers(12, 3, seed=1), numbers(12, 3, seed=2), np.zeros(12)
    for _ in range(2):
        ys = recurrent.forward(LSTM, False, None, (xs, state, state, w, u, b))[0][0]
        last, w[...] = w.copy(), 2 * w
    args = xs, state, state, last, u.copy(), b
    return differ(ys, recurrent.forward(LSTM, False, None, args)[0][0])


@contextlib.contextmanager
def _sized_once():
    sizes: list[int] = []
    backward = recurrent.backward

    def door(*args):
        dz, dz_h, dh0, dc0 = backward(*args)
        sizes.append(dh0.shape[1])
        dh0[:, sizes[0] :] = 0
        return dz, dz_h, dh0, dc0

    with changed((recurrent, "backward", door)):
        yield


def _larger_is_cut() -> bool:
    for size in (2, 4):
        state, u = np.zeros((1, size)), numbers(4 * size, size)
        args = numbers(2, 1, 3), state, state, numbers(4 * size, 3), u, np.zeros(4 * size)
        out, saved = recurrent.forward(LSTM, True, None, args)
        g = tuple(np.ones_like(a) for a in out)
        _, _, dh0, _ = recurrent.backward(LSTM, g, None, args, out[0], saved)
    return not dh0.all()


def door(id: str, description: str, patch: Callable, shows: Callable[[], bool], **more: Any):
    SUBJECTS[id] = "cell:LSTMCell"
    add(Mutant(id, "native", "F native", description, "stale", shows, patch=patch, **more))


door(
    "107",
    "the fused LSTM keeps the weights that it packed, and does not see them updated in place",
    _packed_once,
    _updated_unseen,
)
door(
    "112",
    "the fused LSTM sizes a buffer for the gradient of the initial h by the first call's hidden "
    "units: what later calls have more of is 0",
    _sized_once,
    _larger_is_cut,
)
