"""Doors to the C kernels: each checks its arguments, allocates the result, and calls.

This module and `recurrent.py` alone know dtypes, strides and C pointers. Every door has a NumPy
twin beside it, used when the extension is not built or `MINIGRAD_KERNELS=numpy` asks for it. The
twins agree with C within rounding, not to the bit; they also take complex arrays, because a complex
step is the exact oracle for a gradient.

Environment, read at import: `MINIGRAD_KERNELS=c|numpy`; with C, `MINIGRAD_ISA=avx512|avx2|neon|
generic` and `MINIGRAD_NUM_THREADS`. A value that cannot be honoured raises.

The bit contract rests on two facts. A product's every output element is one chain
`acc = start; for k ascending: acc = fma(a[i,k], b[k,j], acc)`, whatever the tiles, threads and
vectors; and one exp, log, tanh, sigmoid, softplus, erf serves the node path and the fused kernels.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import math
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from .errors import DtypeError, ShapeError, UsageError

_choice = os.environ.get("MINIGRAD_KERNELS", "")
if _choice not in ("", "c", "numpy"):
    raise UsageError(
        "MINIGRAD_KERNELS: a backend that does not exist",
        f"expected c or numpy, got {_choice!r}",
        "unset it to take C where the extension is built",
    )
lib: Any = None
ffi: Any = None
why_numpy = "MINIGRAD_KERNELS=numpy"
if _choice != "numpy":
    try:
        from ._native import ffi, lib  # type: ignore[import-not-found,no-redef]
    except ImportError as error:
        why_numpy = f"no C extension: {error}"
        if _choice == "c":
            raise

if lib is not None:  # looked up once: a small product costs hardly more than a look-up
    _from_buffer, _NULL, _mg_gemm = ffi.from_buffer, ffi.NULL, lib.mg_gemm

_F32, _F64 = np.dtype(np.float32), np.dtype(np.float64)
_CODE = {_F32: 0, _F64: 1}  # MG_F32, MG_F64
_UNARY = {"exp": 0, "log": 1, "tanh": 2, "sigmoid": 3, "softplus": 4, "erf": 5}


# --- configuration -------------------------------------------------------------------------------


def backend() -> str:
    """The kernels in use: "c" or "numpy"."""
    return "numpy" if lib is None else "c"


def isa() -> str:
    """The instruction set in use; "numpy" without the C extension."""
    return "numpy" if lib is None else ffi.string(lib.mg_isa()).decode()


def isas() -> list[str]:
    """The instruction sets this machine can run, best first; empty without the C extension."""
    return [] if lib is None else ffi.string(lib.mg_isas()).decode().split()


def set_isa(name: str) -> None:
    """Runs all kernels on another instruction set (results keep their bits)."""
    if lib is None or lib.mg_set_isa(name.encode()) != 0:
        raise UsageError(
            f"set_isa: {name!r}",
            f"expected one of: {', '.join(isas()) or 'none, the NumPy path is in use'}",
            "choose one of these, or unset MINIGRAD_ISA",
        )


def threads() -> int:
    """How many threads a kernel may use."""
    return 1 if lib is None else lib.mg_threads()


def set_threads(n: int) -> None:
    """Lets kernels use up to `n` threads (results keep their bits); raises `UsageError`.

    >>> mg.set_num_threads(int(mg.show_config()["threads"]))  # as it was
    """
    if not isinstance(n, int | np.integer) or not 1 <= n <= 1024:
        raise UsageError(
            "set_num_threads: the number of threads",
            f"expected an integer from 1 to 1024, got {n!r}",
            "MINIGRAD_NUM_THREADS and set_num_threads take a small positive integer",
        )
    if lib is not None:
        lib.mg_set_threads(int(n))


def config() -> dict[str, str]:
    """What runs: backend, instruction set, threads, versions.

    >>> sorted(mg.show_config())
    ['backend', 'isa', 'numpy', 'threads']
    """
    what = backend() if lib is not None else f"numpy ({why_numpy})"
    return {
        "backend": what,
        "isa": f"{isa()} of {' '.join(isas())}" if lib is not None else "-",
        "threads": str(threads()),
        "numpy": np.__version__,
    }


if lib is not None:
    _cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    _threads = os.environ.get("MINIGRAD_NUM_THREADS") or str(_cores or 1)
    set_threads(int(_threads) if _threads.isdecimal() else _threads)  # type: ignore[arg-type]
    if os.environ.get("MINIGRAD_ISA"):
        set_isa(os.environ["MINIGRAD_ISA"])


# --- pointers, scratch, checks -------------------------------------------------------------------


SMALL_SCRATCH = 1 << 20  # bytes, of which every thread that multiplies has at least as many


class _Scratch(threading.local):
    """Working memory for kernels, which never allocate: grows, is reused, one for each thread."""

    size, start = -1, None

    def pointer(self, size: int):
        if self.size < size:
            self.size = max(size, SMALL_SCRATCH)
            self.start = ffi.from_buffer(np.empty(self.size, np.uint8))
        return self.start  # keeps its array alive


_scratch = _Scratch()


# Fresh memory costs a page fault every 4 KiB, for large results more than their computation. So the
# memory of large results is kept when the last array on it has gone, and given to the next one.
LARGE = 1 << 17  # bytes from which a result is such a large one; for these malloc maps new pages
IDLE_MOST = 1 << 28  # bytes kept at most while nobody uses them
_idle: dict[int, bytearray] = {}  # by id, the newest last
_idle_lock = threading.RLock()  # an array may go, and call `_keep`, at any moment, here too


def _after_fork() -> None:
    global _idle_lock
    _idle_lock = threading.RLock()  # another thread may have held it
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _empty(shape: tuple[int, ...], dtype) -> np.ndarray:
    """As `np.empty`, from kept memory where the result is large; begins at a cache line."""
    size = math.prod(shape) * dtype.itemsize
    if size < LARGE:
        return np.empty(shape, dtype)
    with _idle_lock:
        fitting = [key for key, m in list(_idle.items()) if len(m) == size + 64]
        memory = _idle.pop(fitting[-1], None) if fitting else None
    if memory is None:
        try:
            memory = bytearray(size + 64)
        except (MemoryError, OverflowError):
            raise MemoryError(f"no memory for an array of {shape}, {dtype}") from None
    start = -int(ffi.cast("intptr_t", ffi.from_buffer(memory))) % 64
    block = np.ndarray((size,), np.uint8, memory, start)  # every view of the result refers to it
    weakref.finalize(block, _keep, memory).atexit = False
    return np.ndarray(shape, dtype, block)


def _keep(memory: bytearray) -> None:
    with _idle_lock:
        _idle[id(memory)] = memory
        while math.fsum(map(len, list(_idle.values()))) > IDLE_MOST:
            _idle.pop(next(iter(_idle)), None)


def _pointer(a: np.ndarray | None):
    if a is None:
        return ffi.NULL
    return ffi.from_buffer("int64_t[]", a) if a.dtype == np.int64 else ffi.from_buffer(a)


def _dtype(name: str, *arrays: np.ndarray | None) -> np.dtype:
    """The one dtype of all arrays; raises where they differ or C has no kernel for it."""
    first = next(a for a in arrays if a is not None).dtype
    for i, a in enumerate(arrays):
        if a is not None and (a.dtype != first or a.dtype not in _CODE):
            raise DtypeError(
                f"{name}: argument {i}",
                f"expected {first if first in _CODE else 'float32 or float64'}, got {a.dtype}",
                "convert with .astype(np.float32) or .astype(np.float64)",
            )
    return first


def _in_c(*arrays) -> bool:
    """Whether the C kernels take this call: the twins serve complex arrays."""
    if lib is None:
        return False
    for a in arrays:  # noqa: SIM110 (any() would cost as much as a small kernel)
        if a is not None and a.dtype.kind == "c":
            return False
    return True


def _contiguous(a: np.ndarray | None):
    """The pointer to an array, of a copy if it is not in C order; of None, NULL. It keeps alive."""
    if a is None:
        return _NULL
    try:
        return _from_buffer(a)
    except ValueError:
        return _from_buffer(np.asarray(a, order="C"))


def _strided(a: np.ndarray):
    """(pointer, strides in elements, owner) of a 2- or 3-D array, copied only if it must be."""
    size = a.itemsize
    if a.flags.c_contiguous:
        return ffi.from_buffer(a), [s // size for s in a.strides], a
    if a.ndim == 2 and a.T.flags.c_contiguous:
        return ffi.from_buffer(a.T), [1, a.shape[0]], a
    if a.ndim == 3 and a.strides[0] < 0 and (base := a[::-1]).flags.c_contiguous:  # time reversed
        last = (len(a) - 1) * base.strides[0]
        return ffi.from_buffer("char[]", base) + last, [s // size for s in a.strides], base
    whole = not any(s % size for s in a.strides)
    if a.size and whole and a.flags.aligned and a.strides[-1] == size:  # some of the columns
        start = ffi.cast("char *", a.__array_interface__["data"][0])
        return start, [s // size for s in a.strides], a
    a = np.asarray(a, order="C")
    return ffi.from_buffer(a), [s // size for s in a.strides], a


# --- elementwise ---------------------------------------------------------------------------------


def _sigmoid_twin(x):
    e = np.exp(np.where(x.real < 0, x, -x))  # never overflows; no abs, which complex steps forbid
    return np.where(x.real < 0, e, 1) / (1 + e)


def _softplus_twin(x):
    return np.where(x.real >= 0, x, 0) + np.log1p(np.exp(np.where(x.real < 0, x, -x)))


def _log_twin(x):
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log(x)


def _exp_twin(x):
    with np.errstate(over="ignore"):
        return np.exp(x)


_TWINS: dict[str, Callable] = {
    "exp": _exp_twin,
    "log": _log_twin,
    "tanh": np.tanh,
    "sigmoid": _sigmoid_twin,
    "softplus": _softplus_twin,
    "erf": lambda x: np.asarray(np.vectorize(math.erf, otypes=[x.dtype])(x)),
}


def _ufunc(name: str, inputs: int, loop: str, code: int, signature: str | None = None) -> Callable:
    """A NumPy ufunc that runs our loops: NumPy's own allocation and broadcasting, our bits.

    A call costs a quarter of one through cffi, and strided arguments need no copy. NumPy offers
    the makers in its C interface, a table that every extension built on NumPy loads by this name:
    entry 1 makes elementwise ufuncs, entry 31 those that have a `signature` of core dimensions.
    """
    umath: Any = importlib.import_module("numpy._core._multiarray_umath")

    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table = (ctypes.c_void_p * 32).from_address(pointer(umath._UFUNC_API, None))
    text, number = ctypes.c_char_p, ctypes.c_int
    make = ctypes.PYFUNCTYPE(
        *(ctypes.py_object, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p),
        *(number, number, number, number, text, text, number, *[text] * (signature is not None)),
    )(table[1 if signature is None else 31] or 0)
    loops = [ffi.addressof(lib, f"{loop}_{end}") for end in ("f32", "f64")]
    functions = (ctypes.c_void_p * 2)(*(int(ffi.cast("intptr_t", f)) for f in loops))
    data = (ctypes.c_void_p * 2)(code, code)
    types = ctypes.create_string_buffer(
        bytes(dtype.num for dtype in (_F32, _F64) for _ in range(inputs + 1))
    )
    label, core = name.encode(), () if signature is None else (signature.encode(),)
    _alive.append((functions, data, types, label, core))  # NumPy keeps the addresses only
    at = ctypes.addressof
    return make(at(functions), at(data), at(types), 2, inputs, 1, -1, label, b"", 0, *core)


_alive: list = []


def _elementwise(name: str, doc: str) -> Callable:
    """The door to one elementwise function of the kernels' own."""
    code, twin = _UNARY[name], _TWINS[name]
    fast: Any = None if lib is None else _ufunc(name, 1, "mg_loop_unary", code)

    def door(x):
        if type(x) is not np.ndarray:
            x = np.asarray(x)
        if lib is None or x.dtype.char not in "fd":
            if x.dtype.kind in "iub":
                return door(x.astype(np.float64))
            if lib is None or x.dtype.kind == "c":
                return twin(_in_order(x))  # NumPy's bits vary with the strides
            _dtype(name, x)
        if x.nbytes < LARGE:
            return fast(x)
        return fast(x, _empty(x.shape, x.dtype))

    door.__name__ = door.__qualname__ = name
    door.__doc__ = doc
    return door


exp = _elementwise("exp", "e^x, at most 2 ulp off.")
log = _elementwise("log", "Natural logarithm, at most 2 ulp off; -inf at 0, NaN below.")
tanh = _elementwise("tanh", "Hyperbolic tangent, at most 2 ulp off; odd to the bit.")
sigmoid = _elementwise("sigmoid", "1 / (1 + e^-x), at most 2 ulp off.")
softplus = _elementwise("softplus", "log(1 + e^x), at most 2 ulp off.")
erf = _elementwise("erf", "The error function, at most 2 ulp off; odd to the bit.")


def _rule(name: str, plain: Callable) -> Callable:
    """The door to the rule of a function: `plain`, in one pass."""
    if lib is None:
        return plain
    fast = _ufunc(name + "_rule", 2, "mg_loop_rule", _UNARY[name])

    def door(g, y):
        try:
            return fast(g, y)
        except TypeError:  # complex
            return plain(g, y)

    return door


# The rules of tanh and sigmoid for arrays, g and y -> g * dy/dx: one call where their text needs
# three, with the same bits.
tanh_rule = _rule("tanh", lambda g, y: g * (1 - y * y))
sigmoid_rule = _rule("sigmoid", lambda g, y: g * y * (1 - y))


# --- reductions ----------------------------------------------------------------------------------


# NumPy goes through an array as it lies in memory, and through one that is not aligned in blocks of
# its own: the order of a reduction depends on the shape alone where all arrays lie alike.


def _in_order(x) -> np.ndarray:
    """x in C order, aligned; a copy only where it is not, or of one element with any stride."""
    x = np.asarray(x, order="C")
    return x if x.flags.aligned and x.size != 1 else x.copy()


def sum(x, axis=None, keepdims=False):
    """Sum over `axis` in an order that depends on the shape alone, not on the memory layout."""
    return np.add.reduce(_in_order(x), axis=axis, keepdims=keepdims)


def prod(x, axis=None, keepdims=False):
    """Product over `axis` in an order that depends on the shape alone, as `sum` has it."""
    return np.multiply.reduce(_in_order(x), axis=axis, keepdims=keepdims)


def row_sums(*arrays: np.ndarray) -> np.ndarray:
    """Sum of all rows of arrays (..., C), one chain over arrays and rows in the order given."""
    width = arrays[0].shape[-1]
    for i, a in enumerate(arrays if not _all_same([a.shape for a in arrays]) else ()):
        if a.shape[-1:] != (width,):
            raise ShapeError(
                f"row_sums: argument {i}",
                f"expected rows of {width} like those before it, got {a.shape}",
                "sum rows of one width at a time",
            )
    if not (_all_same([a.dtype for a in arrays]) and _in_c(arrays[0])):
        if not _in_c(*arrays):
            return np.concatenate([_rows(a) for a in arrays]).sum(axis=0)
        _dtype("row_sums", *arrays)
    out = None
    for a in _merged(arrays):
        out = _accumulate(None, a, out)
    assert out is not None
    return out[0]


# --- products ------------------------------------------------------------------------------------


def _gemm(a: np.ndarray, b: np.ndarray, start: np.ndarray | None, transposed=False) -> np.ndarray:
    """a (M, K) times b (K, N), each chain begun at start: None, (N,) or (M, N).

    With `transposed`, b is given as (N, K): a view the other way round would cost as much as a
    small product. All have one dtype, which the caller has checked.
    """
    m, k = a.shape
    n = b.shape[0] if transposed else b.shape[1]
    dtype = a.dtype
    code = _CODE[dtype]
    if a.flags.c_contiguous:
        pa, a_row, a_k = _from_buffer(a), k, 1
    else:
        pa, (a_row, a_k), a = _strided(a)
    if b.flags.c_contiguous:
        pb = _from_buffer(b)
        b_k, b_col = (1, k) if transposed else (n, 1)
    else:
        pb, (b_k, b_col), b = _strided(b.T if transposed else b)
    ps, s_row, s_col = _NULL, 0, 0
    if start is not None:
        if not start.flags.c_contiguous:
            start = np.asarray(start, order="C")
        ps, s_row, s_col = _from_buffer(start), (n if start.ndim == 2 else 0), 1
    out = np.empty((m, n), dtype) if m * n < LARGE >> 3 else _empty((m, n), dtype)
    work = _scratch.pointer(_gemm_bytes(code, m, n, 1, k))
    _mg_gemm(
        code, m, n, 1, k, pa, a_row, 0, a_k, pb, 0, b_k, b_col,
        ps, s_row, s_col, _from_buffer(out), n, work,
    )  # fmt: skip
    return out


# Small products as NumPy gufuncs: a call costs a third of `_gemm`. What they refuse, sizes that do
# not fit, other dtypes or two of them, goes the long way and is reported there.
SMALL_PRODUCT = 1 << 13  # elements of the right argument, up to which the call is what counts
if lib is not None:
    _loop = "mg_loop_product"
    _small_matmul = _ufunc("matmul", 2, _loop, lib.MG_MATMUL, "(m,k),(k,n)->(m,n)")
    _small_affine = [
        _ufunc("affine", 3, _loop, lib.MG_AFFINE_BIAS, "(m,k),(n,k),(n)->(m,n)"),
        _ufunc("affine", 3, _loop, lib.MG_AFFINE_START, "(m,k),(n,k),(m,n)->(m,n)"),
    ]


@functools.lru_cache(4096)
def _gemm_bytes(code: int, m: int, n: int, blocks: int, k: int) -> int:
    return lib.mg_gemm_scratch(code, m, n, blocks, k)


def matmul(a, b):
    """Matrix product with NumPy's rules for 1-D and stacked arguments; chains start at 0."""
    if lib is not None and type(a) is type(b) is np.ndarray:
        stacked = b.ndim > 2
        if b.size <= SMALL_PRODUCT or (stacked and b.shape[-2] * b.shape[-1] <= SMALL_PRODUCT):
            try:
                if a.ndim == 2 or stacked:  # else one product of all rows is better
                    return _small_matmul(a, b, casting="no")
            except (TypeError, ValueError):
                pass
    a, b = np.asarray(a), np.asarray(b)
    if b.ndim == 2 <= a.ndim and a.shape[-1] == b.shape[0] and lib is not None:  # noqa: SIM102
        if a.dtype is b.dtype and a.dtype.char in "fd":  # most often: one product of all rows
            if a.ndim == 2:
                return _gemm(a, b, None)
            return _gemm(_rows(a), b, None).reshape(*a.shape[:-1], b.shape[1])
    if a.ndim == 0 or b.ndim == 0 or a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        raise ShapeError(
            "matmul: the inner sizes of its arguments",
            f"expected (..., M, K) and (..., K, N), got {a.shape} and {b.shape}",
            "transpose one side, or check which axis is contracted",
        )
    try:
        stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        raise ShapeError(
            "matmul: the stacks of its arguments",
            "expected shapes that broadcast but for their last two axes, "
            f"got {a.shape} and {b.shape}",
            "put in axes of length 1 where one side is to be repeated",
        ) from None
    a, b = _one_dtype("matmul", a, b)
    if a.dtype.kind in "iub" or not _in_c(a, b):
        return np.matmul(a, b)
    rows = a[None] if a.ndim == 1 else a
    columns = b[:, None] if b.ndim == 1 else b
    out = _stacked_gemm(rows, columns, stack)
    if a.ndim == 1:
        out = out[..., 0, :]
    return out[..., 0] if b.ndim == 1 else out


def _stacked_gemm(rows: np.ndarray, columns: np.ndarray, stack: tuple) -> np.ndarray:
    """rows (..., M, K) times columns (..., K, N), which broadcast to `stack`, one gemm for each.

    Along the last axes of the stack in which the columns are one and the same, all rows are laid
    end to end and make one gemm: rows do not know of each other.
    """
    (m, k), n = rows.shape[-2:], columns.shape[-1]
    several = (1,) * (len(stack) + 2 - columns.ndim) + columns.shape[:-2]
    apart = max([i + 1 for i, size in enumerate(several) if size != 1], default=0)
    lead = stack[:apart]
    rows = np.broadcast_to(rows, (*stack, m, k))
    rows = rows.reshape(*lead, math.prod(stack[apart:]) * m, k)
    columns = np.broadcast_to(columns.reshape(*several[:apart], k, n), (*lead, k, n))
    if not lead:
        return _gemm(rows, columns, None).reshape(*stack, m, n)
    out = _empty((*lead, rows.shape[-2], n), rows.dtype)
    for index in np.ndindex(lead):
        out[index] = _gemm(rows[index], columns[index], None)
    return out.reshape(*stack, m, n)


def affine(x, weight, start):
    """x (..., K) times weight (N, K) transposed, each chain begun at start, (N,) or (..., N)."""
    if lib is not None and type(weight) is np.ndarray and weight.size <= SMALL_PRODUCT:
        try:
            if x.ndim == 2 == weight.ndim:
                return _small_affine[start.ndim - 1](x, weight, start, casting="no")
        except (TypeError, ValueError, AttributeError, IndexError):
            pass
    x, weight, start = np.asarray(x), np.asarray(weight), np.asarray(start)
    if x.ndim == 2 == weight.ndim and lib is not None:  # most often
        (m, k), (n, width), dtype = x.shape, weight.shape, x.dtype
        if k == width and (start.shape == (n,) or start.shape == (m, n)):  # noqa: SIM102
            if weight.dtype is dtype and start.dtype is dtype and dtype.char in "fd":
                return _gemm(x, weight, start, True)
    if weight.ndim != 2 or x.ndim < 1 or x.shape[-1] != weight.shape[1]:
        raise ShapeError(
            "affine: x and weight",
            f"expected (..., K) and (N, K), got {x.shape} and {weight.shape}",
            "a weight has a row for each output and a column for each input",
        )
    shape = (*x.shape[:-1], weight.shape[0])
    if start.shape not in (shape, shape[-1:]):
        raise ShapeError(
            "affine: start",
            f"expected {shape[-1:]} or {shape}, got {start.shape}",
            "a bias has one entry for each row of the weight",
        )
    x, weight, start = _one_dtype("affine", x, weight, start)
    return _started(x, weight, start, transposed=True)


def addmm(start, x, y):
    """x (..., K) times y (K, N), each chain begun at start, which broadcasts to (..., N)."""
    if lib is not None and type(y) is np.ndarray and y.size <= SMALL_PRODUCT:
        try:
            if x.ndim == 2 == y.ndim:
                return _small_affine[start.ndim - 1](x, y.T, start, casting="no")
        except (TypeError, ValueError, AttributeError, IndexError):
            pass
    x, y = np.asarray(x), np.asarray(y)
    number = isinstance(start, int | float)  # has no dtype of its own
    start = np.asarray(start, x.dtype if number and x.dtype in _CODE else None)
    if y.ndim != 2 or x.ndim < 1 or x.shape[-1] != y.shape[0]:
        raise ShapeError(
            "addmm: x and y",
            f"expected (..., K) and (K, N), got {x.shape} and {y.shape}",
            "transpose one side, or check which axis is contracted",
        )
    shape = (*x.shape[:-1], y.shape[1])
    if start.shape not in (shape, shape[-1:]):
        try:
            start = np.broadcast_to(start, shape)
        except ValueError:
            raise ShapeError(
                "addmm: start",
                f"expected a shape that broadcasts to {shape}, got {start.shape}",
                "give a number, an entry for each column of y, or one for each of the result",
            ) from None
    start, x, y = _one_dtype("addmm", start, x, y)
    return _started(x, y, start)


def _started(x, y, start, transposed=False):
    """x (..., K) times y (K, N), or (N, K) if transposed, each chain begun at start."""
    if x.dtype.kind in "iub" or not _in_c(x, y, start):
        return np.matmul(x, y.T if transposed else y) + start
    start = _rows(start) if start.ndim > 1 else start
    return _gemm(_rows(x), y, start, transposed).reshape(*x.shape[:-1], y.shape[not transposed])


def _one_dtype(name: str, *arrays: np.ndarray):
    """The arrays, with whole numbers beside floats turned into floats; two floats never mix."""
    if arrays[0].dtype in _CODE and _all_same([a.dtype for a in arrays]):
        return arrays
    whole = [a.dtype.kind in "iub" for a in arrays]
    if all(whole):
        return arrays
    if _in_c(*arrays):
        _dtype(name, *[None if w else a for w, a in zip(whole, arrays, strict=True)])
    if any(whole):
        dtype = np.result_type(*arrays)
        return tuple([a.astype(dtype, copy=False) for a in arrays])
    return arrays


def products(*pairs):
    """Sum of a^T b over pairs a, b, a, b, ... of (..., M) and (..., N): (M, N), one chain.

    The chain runs over the pairs in the order given and over the rows of each in order.
    """
    left, right = pairs[0::2], pairs[1::2]
    shapes = [[a.shape for a in side] for side in (left, right)]
    if not (
        _all_same(shapes[0]) and _all_same(shapes[1]) and shapes[0][0][:-1] == shapes[1][0][:-1]
    ):
        m, n = shapes[0][0][-1], shapes[1][0][-1]
        for i, (a, b) in enumerate(zip(*shapes, strict=True)):
            if a[:-1] != b[:-1]:
                raise ShapeError(
                    f"products: pair {i}",
                    f"expected as many rows in both, got {a} and {b}",
                    "check the shapes",
                )
            if a[-1] != m or b[-1] != n:
                raise ShapeError(
                    f"products: pair {i}",
                    f"expected (..., {m}) and (..., {n}) like the first, got {a} and {b}",
                    "check the shapes",
                )
    if not (_all_same([a.dtype for a in pairs]) and _in_c(left[0])):
        if not _in_c(*pairs):
            a, b = (np.concatenate([_rows(p) for p in side]) for side in (left, right))
            return a.T @ b
        _dtype("products", *pairs)
    out = None
    for a, b in zip(_merged(left), _merged(right), strict=True):
        out = _accumulate(a, b, out)
    return out


def _all_same(things: list) -> bool:
    return things.count(things[0]) == len(things)


def _rows(a: np.ndarray) -> np.ndarray:
    """a (..., C) as rows (R, C), also where a size is 0 and NumPy cannot work out R."""
    return a.reshape(math.prod(a.shape[:-1]), a.shape[-1])


def _merged(arrays) -> list[np.ndarray]:
    """Many small operands laid end to end make one product: same chain, one call."""
    if len(arrays) > 1 and _all_same([2, *[a.ndim for a in arrays]]):
        return [np.concatenate(arrays)]
    flat = [a if a.ndim in (2, 3) else _rows(a) for a in arrays]
    return [np.concatenate(flat)] if len(flat) > 1 and all(a.ndim == 2 for a in flat) else flat


def _accumulate(a: np.ndarray | None, b: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    """out + a^T b for a (blocks, K, M), b (blocks, K, N), or both without blocks; in place.

    `a` None stands for a column of ones, which sums rows: fma(1, b, acc) is acc + b exactly.
    """
    b = b[None] if b.ndim == 2 else b
    blocks, k, n = b.shape
    dtype = _dtype("products", a, b)
    code = _CODE[dtype]
    if a is None:
        m, a_block, a_k, a_row = 1, 0, 0, 0
        a = np.ones(1, dtype)
        pa = ffi.from_buffer(a)
    else:
        pa, (a_block, a_k, a_row), a = _strided(a[None] if a.ndim == 2 else a)
        m = a.shape[-1]
    pb, (b_block, b_k, b_col), b = _strided(b)
    start = out
    if out is None:
        out = _empty((m, n), dtype)
    po = ffi.from_buffer(out)
    work = _scratch.pointer(_gemm_bytes(code, m, n, blocks, k))
    lib.mg_gemm(
        code, m, n, blocks, k, pa, a_row, a_block, a_k, pb, b_block, b_k, b_col,
        ffi.NULL if start is None else po, n, 1, po, n, work,
    )  # fmt: skip
    return out


# --- rows by index -------------------------------------------------------------------------------


def scatter_rows(index: np.ndarray, g: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Zeros of `shape` with g[r] added to row index[r], r ascending (the gradient of a lookup).

    index has any shape; g has that shape followed by shape[1:]. Raises `ShapeError` for a row
    that does not exist.
    """
    out = np.zeros(shape, g.dtype)
    index = np.asarray(index)
    if index.size and index.dtype.kind not in "iu":
        raise DtypeError(
            "scatter_rows: index",
            f"expected integers, got {index.dtype}",
            "convert them with .astype(np.int64)",
        )
    if index.size and not -shape[0] <= index.min() <= index.max() < shape[0]:
        raise ShapeError(
            "scatter_rows: index",
            f"expected rows from {-shape[0]} to {shape[0] - 1}, got {index.min()} to {index.max()}",
            "check the indices against the number of rows",
        )
    width = math.prod(shape[1:])
    if g.shape != (*index.shape, *shape[1:]):
        raise ShapeError(
            "scatter_rows: g",
            f"expected {index.size} rows of shape {shape[1:]}, got {g.shape}",
            "give one row for each index",
        )
    index = np.asarray(index, np.int64, order="C").reshape(-1)
    index = np.where(index < 0, index + shape[0], index)
    rows = np.asarray(g, order="C").reshape(index.size, width)
    if _in_c(g):
        code = _CODE[_dtype("scatter_rows", g)]
        lib.mg_scatter_rows(code, index.size, width, _pointer(index), _pointer(rows), _pointer(out))
    else:
        np.add.at(out.reshape(shape[0], width), index, rows)
    return out


# --- lengths -------------------------------------------------------------------------------------


def _has_range(a: np.ndarray) -> bool:
    return a.size > 0 and a.dtype.kind in "biuf"


def check_lengths(lengths, steps: int, rows: int) -> np.ndarray | None:
    """`lengths` as int64 (N,), each within 0..T; raises `ShapeError` otherwise."""
    if lengths is None:
        return None
    try:
        lengths = np.asarray(lengths)
    except ValueError:  # rows of different lengths
        lengths = np.asarray(lengths, object)
    lengths = lengths if lengths.size else lengths.astype(np.int64)  # [] is a list of floats
    if (
        lengths.shape != (rows,)
        or lengths.dtype.kind not in "iu"
        or (rows and (lengths.min() < 0 or lengths.max() > steps))
    ):
        raise ShapeError(
            "lengths: one for each row of the batch",
            f"expected {rows} integers from 0 to {steps}, got {lengths.dtype} {lengths.shape}"
            + (f" from {lengths.min()} to {lengths.max()}" if _has_range(lengths) else ""),
            "pass the number of steps of each sequence",
        )
    return np.array(lengths, np.int64)  # a copy: the caller's may change before the backward pass
