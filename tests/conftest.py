"""What all tests share: the header line, Hypothesis profiles, fixtures, and the leak guard."""

import os
import platform
import runpy
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from minigrad import kernels
from minigrad.graph import is_grad_enabled, set_grad_enabled

ROOT = Path(__file__).parent.parent

# HYPOTHESIS_PROFILE chooses. Times are no property of the code, so no profile has a deadline.
hypothesis.settings.register_profile("dev", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("nightly", deadline=None, max_examples=2000)
hypothesis.settings.register_profile("release", deadline=None, max_examples=10_000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


# --- which binary is tested ----------------------------------------------------------------------


def binary_problem(built: bool, built_from: str | None, sources: str) -> str | None:
    """One line on a binary that must not be tested, None on one that may.

    Args:
        built: whether a binary lies beside the package.
        built_from: the hash of the sources that the loaded binary was built from; None if none
            is loaded.
        sources: the hash of the sources that lie here.
    """
    if built_from is None:
        if built and os.environ.get("MINIGRAD_KERNELS") != "numpy":
            return f"the C extension is built but not in use ({kernels.why_numpy})"
        return None
    if built_from != sources:
        return (
            f"the C extension is stale: built from {built_from[:12]}, csrc is {sources[:12]}; "
            "run ./build.sh build"
        )
    return None


def pytest_configure() -> None:
    built = any((ROOT / "minigrad").glob("_native.*"))
    built_from = None
    if kernels.backend() == "c":
        built_from = kernels.ffi.string(kernels.lib.mg_source_hash()).decode()
    sources = runpy.run_path(str(ROOT / "csrc" / "ffi_build.py"))["source_hash"]()
    if problem := binary_problem(built, built_from, sources):
        raise pytest.UsageError(problem)


def pytest_report_header() -> str:
    backend = kernels.backend()
    if backend == "numpy":
        backend += f" ({kernels.why_numpy})"
    isas = f"isa {kernels.isa()} of {' '.join(kernels.isas()) or 'none'}"
    versions = f"numpy {np.__version__}, {platform.machine()}"
    return f"minigrad: kernels {backend}, {isas}, threads {kernels.threads()}, {versions}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if kernels.backend() == "numpy":
        skip = pytest.mark.skip(reason=f"needs the C extension ({kernels.why_numpy})")
        for item in items:
            if item.get_closest_marker("native"):
                item.add_marker(skip)


# --- fixtures ------------------------------------------------------------------------------------


def state() -> dict[str, object]:
    """What a test may change while it runs and must leave as it was."""
    return {
        "recording": is_grad_enabled(),
        "isa": kernels.isa(),
        "threads": kernels.threads(),
        "numpy error state": np.geterr(),
    }


def restore(before: dict[str, object]) -> None:
    set_grad_enabled(before["recording"]).__enter__()
    np.seterr(**before["numpy error state"])
    if kernels.backend() == "c":
        kernels.set_isa(before["isa"])
        kernels.set_threads(before["threads"])


@pytest.fixture(autouse=True)
def _guard() -> Iterator[None]:
    """Fails the test that leaks state, and repairs it, so that only this test fails."""
    before = state()
    yield
    after = state()
    restore(before)
    leaked = [f"{k}: {before[k]} before, {after[k]} after" for k in before if before[k] != after[k]]
    assert not leaked, f"the test leaks state: {'; '.join(leaked)}"


@pytest.fixture(params=kernels.isas() or [None], ids=lambda isa: isa or "numpy")
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs the test once on each instruction set of this machine."""
    if request.param is None:
        pytest.skip(f"instruction sets need the C extension ({kernels.why_numpy})")
    before = kernels.isa()
    kernels.set_isa(request.param)
    yield request.param
    kernels.set_isa(before)


@pytest.fixture(params=[1, 2], ids=lambda n: f"{n}-thread{'s' * (n > 1)}")
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Runs the test with one thread, then with two."""
    if kernels.backend() == "numpy" and request.param > 1:
        pytest.skip(f"threads need the C extension ({kernels.why_numpy})")
    before = kernels.threads()
    kernels.set_threads(request.param)
    yield request.param
    kernels.set_threads(before)
