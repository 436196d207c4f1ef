"""The border to C holds: whatever a caller brings, the process goes on and nothing is spoiled.

What could end the process runs in one of its own, which says "done" at its end.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_kernels import python

TESTS = Path(__file__).parent
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks /proc, or a limit")
pytestmark = pytest.mark.native


def assert_done(done: subprocess.CompletedProcess) -> None:
    assert (done.returncode, done.stdout) == (0, "done\n"), (done.stdout + done.stderr)[-3000:]


@pytest.mark.parametrize(
    "door",
    [
        *("matmul", "affine", "addmm", "products", "row_sums", "scatter_rows"),
        *("unary", "rule", "forward", "backward", "missing"),
    ],
)
def test_a_door_refuses_in_python_or_is_right(door):
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(TESTS / "border.py"), door],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert_done(done)


# Each of these arrays costs a few bytes: their elements lie at one place.
HUGE = """
import resource
import numpy as np
from minigrad import kernels, recurrent
from minigrad.errors import MinigradError

kernels.set_threads(1)
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, resource.RLIM_INFINITY))

def huge(*shape):
    return np.broadcast_to(np.zeros(()), shape)

def by_rows(*shape):  # as it stands for C: no copy is made of it
    return np.broadcast_to(np.zeros(shape[-1:]), shape)

one, many, most = np.zeros((1, 1)), 1 << 31, 1 << 59
calls = {
    "matmul, too many rows": lambda: kernels.matmul(by_rows(most, 1), one),
    "matmul, too long a sum": lambda: kernels.matmul(huge(2, most >> 1), huge(most >> 1, 2)),
    "matmul, stacked": lambda: kernels.matmul(by_rows(many, 1 << 20, 4, 2), np.zeros((2, 3))),
    "affine": lambda: kernels.affine(by_rows(most, 1), one, np.zeros(1)),
    "affine, bytes": lambda: kernels.affine(by_rows(many, 1), by_rows(many, 1), huge(many)),
    "addmm": lambda: kernels.addmm(np.zeros(1), by_rows(most, 1), one),
    "products": lambda: kernels.products(by_rows(1, most), one),
    "products, bytes": lambda: kernels.products(huge(1, many), huge(1, many)),
    "row_sums": lambda: kernels.row_sums(huge(1, most)),
    "scatter_rows": lambda: kernels.scatter_rows(np.zeros(1, int), huge(1, most), (1, most)),
    **{name: lambda name=name: getattr(kernels, name)(huge(most)) for name in kernels._UNARY},
    "rule": lambda: kernels.tanh_rule(huge(most), huge(most)),
}
for kind in recurrent.KINDS.values():
    for sizes in (  # T, N, I, H: one of them, or their product, is too much
        (most, 1, 1, 1), (1, most, 1, 1), (1, 1, most // 4, 1), (1, 1, 1, 1 << 27),
        (1 << 50, 1, 0, 1 << 10), (1 << 50, 1, 0, 1 << 14), (1 << 20, 1 << 30, 1, 1 << 5),
        (0, most, 1, 1), (0, 1, 1 << 55, 1), (1, 0, 1 << 55, 3), (1 << 58, 1, 0, 7),
    ):
        args = tuple(huge(*shape) for shape in kind.shapes(*sizes))
        call = kind, True, None, args
        calls[f"{kind} {sizes}"] = lambda call=call: recurrent.forward(*call)
    args = tuple(huge(*shape) for shape in kind.shapes(1, 1, 1, 2))
    outs, _ = recurrent.forward(kind, True, None, args)
    T = 1 << 55
    ys, saved = huge(T, 1, 2), huge(T, 1, kind.saved, 2)
    call = kind, (ys, *outs[1:]), None, args, ys, saved
    calls[f"{kind} backward"] = lambda call=call: recurrent.backward(*call)

wrong = []
for name, call in calls.items():
    try:
        call()
        wrong.append(f"{name} went through")
    except (MemoryError, MinigradError) as error:
        lines = str(error).split("\\n  ")
        if isinstance(error, MinigradError) and len(lines) != 3:
            wrong.append(f"{name}: {error}")
    except Exception as error:
        wrong.append(f"{name}: {type(error).__name__}: {error}")
print("\\n".join(wrong) or "done")
"""


@linux
def test_sizes_beyond_all_memory_are_refused_before_c():
    assert_done(python(HUGE, PYTHONFAULTHANDLER="1"))


NO_MEMORY = """
import gc, resource
import numpy as np
import minigrad as mg
from minigrad import kernels
from fused_cells import CELLS, parts

kernels.set_threads(1)

def limit(spare=None):  # bytes that may be taken beside those in use
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    most = resource.RLIM_INFINITY if spare is None else used + spare
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))

def train(cell, xs):
    ys, last = mg.unfold(cell, xs, fused=True)
    loss = (ys * ys).sum() + parts(last)[-1].sum()
    return loss

def bits(cell):
    return {k: (p.data.tobytes(), None if p.grad is None else p.grad.data.tobytes())
            for k, p in cell.named_parameters()}

def fails(call):
    limit(4 << 20)
    try:
        call()
    except MemoryError:
        return True
    finally:
        limit()
    return False

small = np.random.default_rng(0).normal(size=(5, 3, 4))
for name, make in CELLS.items():
    cell, undisturbed = make(4, 32, rng=0), make(4, 32, rng=0)
    for c in (cell, undisturbed):
        train(c, small).backward()
    before = bits(cell)
    large = np.ones((4096, 16, 4))
    assert fails(lambda: train(cell, large)), f"{name}: a forward pass found memory"
    assert bits(cell) == before, f"{name}: a failed forward pass changed the cell"
    loss = train(cell, large)
    assert fails(loss.backward), f"{name}: a backward pass found memory"
    assert bits(cell) == before, f"{name}: a failed backward pass changed the cell"
    del loss
    kernels._idle.clear()
    for c in (cell, undisturbed):
        train(c, small).backward()
    assert bits(cell) == bits(undisturbed), f"{name}: other bits after the failures"
print("done")
"""


@linux
def test_where_memory_ends_a_layer_stays_as_it_was():
    assert_done(python(NO_MEMORY, PYTHONFAULTHANDLER="1"))
