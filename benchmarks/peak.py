"""The peak of this machine: multiply-adds a second, measured, on one core and on several.

`peak.c` is compiled on the fly with the compiler that build.sh uses. Where there is none, there is
no peak, and no percentage of it.

    python -m benchmarks.peak
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SOURCE = Path(__file__).with_name("peak.c")
TAKE = 0.02  # seconds; long against the start of a thread, short against a turn of the scheduler


def cpus() -> list[int]:
    """The processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def pin(chosen: list[int]) -> None:
    """Keeps the calling thread, and those that it starts, on these processors; not on macOS."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, chosen)


def compiler() -> list[str] | None:
    """The command of the C compiler, or None if there is none."""
    if chosen := os.environ.get("CC", "").split():
        return chosen if shutil.which(chosen[0]) else None
    return next(([name] for name in ("cc", "gcc", "clang") if shutil.which(name)), None)


@functools.cache
def compiled() -> ctypes.CDLL | None:
    """peak.c, compiled and loaded; None without a compiler."""
    command = compiler()
    if command is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder, "peak.so")
        options = ["-O2", "-ffp-contract=fast", "-shared", "-fPIC", "-o"]
        done = subprocess.run([*command, *options, binary, SOURCE], capture_output=True, text=True)
        if done.returncode != 0:
            return None
        lib = ctypes.CDLL(str(binary))
    lib.peak_isa.restype = ctypes.c_char_p
    lib.peak_run.restype, lib.peak_run.argtypes = ctypes.c_double, [ctypes.c_int, ctypes.c_int64]
    return lib


def gflops(dtype: str, threads: int = 1, takes: int = 20) -> float | None:
    """The best of several takes, in GFLOP/s of all threads together; None without a compiler."""
    lib = compiled()
    if lib is None:
        return None
    is_f64, allowed = dtype == "f64", cpus()

    def once(n: int) -> float:
        operations = [0.0] * threads
        ready = threading.Barrier(threads + 1)

        def work(i: int) -> None:
            pin([allowed[i % len(allowed)]])
            ready.wait()
            operations[i] = lib.peak_run(is_f64, n)  # ctypes lets other threads run meanwhile

        team = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
        for thread in team:
            thread.start()
        ready.wait()
        start = time.perf_counter()
        for thread in team:
            thread.join()
        return sum(operations) / (time.perf_counter() - start) / 1e9

    start, n = time.perf_counter(), 1 << 16
    operations = lib.peak_run(is_f64, n)
    n = max(1, int(n * TAKE / (time.perf_counter() - start)))
    assert operations > 0
    return max(once(n) for _ in range(takes))


def main() -> int:
    lib = compiled()
    if lib is None:
        print("no C compiler: no peak")
        return 0
    for threads in range(1, len(cpus()) + 1):
        found = ", ".join(f"{d} {gflops(d, threads):.0f}" for d in ("f32", "f64"))
        print(f"{threads} thread(s), {lib.peak_isa().decode()}: {found} GFLOP/s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
