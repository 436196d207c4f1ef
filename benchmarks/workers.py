"""A process for each library and number of threads.

So no library's idle threads, settings or imports disturb another: the parent asks the workers in
turn, and who is not asked sleeps. A worker may use the first `threads` processors; JAX takes its
number of threads from that, the others are told.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from .contestants import LIBRARIES, Absent, Variant
from .peak import cpus, pin
from .problems import Arrays, Problem

REST = 0.02  # seconds; threads that spin after a run have gone to sleep by then
WARM = 0.002  # seconds of running that bring caches and clock back after a rest, one run at least
BURST = 0.005  # seconds of running that make one measurement, one run at least
PATIENCE = 600.0  # seconds until a worker that does not answer is given up

# The numbers of threads of the libraries, read when they are loaded.
THREADS = ("MINIGRAD_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Ready(NamedTuple):
    """What a worker says of a problem that it has prepared."""

    note: str
    answer: Arrays


# --- in the worker -------------------------------------------------------------------------------


def timed(run: Callable[[], Any], seconds: float) -> float:
    """The median time of the runs that fit into so many seconds, one at least."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measured(run: Callable[[], Any]) -> float:
    """Seconds of one run: after a rest, warm, without Python's collector of cycles."""
    gc.collect()
    gc.disable()
    try:
        time.sleep(REST)
        timed(run, WARM)
        return timed(run, BURST)
    finally:
        gc.enable()


def fastest(variants: list[Variant]) -> tuple[Variant, Arrays]:
    """The variant with the least time of three, and its answer."""
    for v in variants:
        v.run()  # may compile
    best = variants[0]
    if len(variants) > 1:
        best = min(variants, key=lambda v: min(measured(v.run) for _ in range(3)))
    return best, best.read(best.run())


def serve(connection, name: str, threads: int, variants: int) -> None:
    """The worker: prepares a problem it is sent, measures it when sent None, ends with the pipe."""
    pin(cpus()[:threads])
    variant = None
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            problem = connection.recv()
            try:
                if problem is not None:
                    variant = None  # frees the last one's memory
                    variant, answer = fastest(LIBRARIES[name](problem, threads)[:variants])
                    connection.send(Ready(variant.note, answer))
                else:
                    assert variant is not None
                    connection.send(measured(variant.run))
            except Exception as error:
                kind = "" if isinstance(error, Absent) else f"{type(error).__name__}: "
                connection.send(Absent(kind + " ".join(str(error).split())[:200]))


# --- in the parent -------------------------------------------------------------------------------


class Worker:
    """A library in a process of its own, on so many threads."""

    def __init__(self, name: str, threads: int, variants: int):
        self.task = (name, threads, variants)
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, *self.task), daemon=True)
        with environment({k: str(self.task[1]) for k in THREADS}):
            self.process.start()
        theirs.close()

    def _ask(self, message) -> Any:
        try:
            self.connection.send(message)
            if not self.connection.poll(PATIENCE):
                self.process.kill()
                self.process.join()
                raise Absent(f"no answer within {PATIENCE:.0f} s")
            answer = self.connection.recv()
        except (EOFError, OSError):
            self.process.join(5)
            raise Absent(f"its process ended (exit code {self.process.exitcode})") from None
        if isinstance(answer, Exception):
            raise answer
        return answer

    def prepare(self, problem: Problem) -> Ready:
        """Readies a problem; raises `Absent` where the library cannot do it."""
        if not self.process.is_alive():  # it has ended with the last problem
            self.connection.close()
            self._start()
        return self._ask(problem)

    def measure(self) -> float:
        """Seconds of one run of the problem prepared last."""
        return self._ask(None)

    def close(self) -> None:
        """Ends the process."""
        self.connection.close()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()


@contextlib.contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """These variables of the environment, for the processes started within."""
    before = {k: os.environ.get(k) for k in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for k, v in before.items():
            if v is None:
                del os.environ[k]
            else:
                os.environ[k] = v


@contextlib.contextmanager
def hired(names: list[str], threads: int, variants: int) -> Iterator[dict[str, Worker]]:
    """A worker for each library, ended on the way out."""
    workers: dict[str, Worker] = {}
    try:
        for name in names:
            workers[name] = Worker(name, threads, variants)
        yield workers
    finally:
        for worker in workers.values():
            worker.close()
