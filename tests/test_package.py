"""The package as a whole: version, binary, source archive, build script, names of tests."""

import ast
import doctest
import importlib.metadata
import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections import Counter
from pathlib import Path

import pytest

import minigrad
from minigrad import kernels

ROOT = Path(__file__).parent.parent
FFI_BUILD = runpy.run_path(str(ROOT / "csrc" / "ffi_build.py"))
CONFTEST = runpy.run_path(str(ROOT / "tests" / "conftest.py"))


def run(*command: object, **environment: str) -> subprocess.CompletedProcess:
    """A command in the root of the repository, with the variables that steer the build removed."""
    steering = ("CC", "CFLAGS", "MINIGRAD_REQUIRE_EXT", "PYTHON", "VENV")
    inherited = {k: v for k, v in os.environ.items() if k not in steering}
    return subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


# --- version -------------------------------------------------------------------------------------


def test_the_version_is_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert minigrad.__version__ == project["version"]
    assert importlib.metadata.version("minigrad") == project["version"]


# --- names of tests ------------------------------------------------------------------------------


def twice_defined(source: str) -> list[str]:
    """Names of functions and classes defined twice in one scope: the first never runs."""
    found = []
    for scope in ast.walk(ast.parse(source)):
        if isinstance(scope, ast.Module | ast.ClassDef):
            kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
            names = Counter(node.name for node in scope.body if isinstance(node, kinds))
            found += [name for name, times in names.items() if times > 1]
    return found


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT))
)
def test_no_test_hides_another(path: Path):
    assert twice_defined(path.read_text(encoding="utf-8")) == []


def test_a_hidden_test_is_seen():
    source = "def test_a(): pass\nclass T:\n  def f(self): pass\n  def f(self): pass\n"
    assert twice_defined(source) == ["f"]
    assert twice_defined(source + "def test_a(): pass\n") == ["test_a", "f"]


# --- the binary ----------------------------------------------------------------------------------


@pytest.mark.native
def test_every_declared_function_is_in_the_binary():
    declared = re.sub(r"/\*.*?\*/", "", FFI_BUILD["declarations"](), flags=re.S)
    names = re.findall(r"\bmg_\w+(?=\()", declared)
    assert {"mg_isa", "mg_gemm", "mg_recurrent_forward"} <= set(names)
    assert {name for name in names if not hasattr(kernels.lib, name)} == set()


def test_the_hash_covers_the_sources_and_not_the_tests(tmp_path: Path):
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc")
    (tmp_path / "csrc" / "tests").mkdir(exist_ok=True)

    def source_hash() -> str:
        return runpy.run_path(str(tmp_path / "csrc" / "ffi_build.py"))["source_hash"]()

    assert source_hash() == FFI_BUILD["source_hash"]()
    (tmp_path / "csrc" / "tests" / "test_new.c").write_text("int x;\n")
    assert source_hash() == FFI_BUILD["source_hash"]()
    hashes = {source_hash()}
    for name in ("dispatch.c", "kernels.def", "simd/simd.h"):
        path = tmp_path / "csrc" / name
        path.write_bytes(path.read_bytes() + b"\n")
        hashes.add(source_hash())
    path.rename(path.with_name("renamed.h"))
    hashes.add(source_hash())
    assert len(hashes) == 5


def test_a_stale_or_unloadable_binary_is_refused(monkeypatch: pytest.MonkeyPatch):
    problem = CONFTEST["binary_problem"]
    monkeypatch.delenv("MINIGRAD_KERNELS", raising=False)
    assert problem(True, "a" * 64, "a" * 64) is None
    assert problem(False, None, "a" * 64) is None
    assert problem(True, "b" * 64, "a" * 64) == (
        "the C extension is stale: built from bbbbbbbbbbbb, csrc is aaaaaaaaaaaa; "
        "run ./build.sh build"
    )
    assert problem(True, None, "a" * 64).startswith("the C extension is built but not in use")
    monkeypatch.setenv("MINIGRAD_KERNELS", "numpy")
    assert problem(True, None, "a" * 64) is None


@pytest.mark.parametrize("required", ["0", "1"])
def test_a_missing_compiler(required: str, tmp_path: Path):
    """Without a compiler the build succeeds and has no binary, unless the binary is required."""
    pytest.importorskip("setuptools")
    done = run(
        *(sys.executable, "setup.py", "build_ext"),
        *("--build-lib", tmp_path / "lib", "--build-temp", tmp_path / "temp"),
        CC=str(tmp_path / "no-compiler"),
        MINIGRAD_REQUIRE_EXT=required,
    )
    assert (done.returncode != 0) == (required == "1")
    assert "no-compiler" in done.stderr
    assert not list((tmp_path / "lib").rglob("_native*"))


def test_the_source_archive_holds_every_source(tmp_path: Path):
    pytest.importorskip("setuptools")
    done = run(
        *(sys.executable, "setup.py", "egg_info", "--egg-base", tmp_path),
        *("sdist", "--dist-dir", tmp_path),
    )
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        held = {name.partition("/")[2] for name in tar.getnames()}
    wanted = {path.relative_to(ROOT).as_posix() for path in FFI_BUILD["source_files"]()}
    wanted |= {path.relative_to(ROOT).as_posix() for path in (ROOT / "minigrad").rglob("*.py")}
    wanted |= {"build.sh", "setup.py", "pyproject.toml", "csrc/ffi_build.py", "csrc/Makefile"}
    wanted |= {"LICENSE", "README.md", "tests/conftest.py", "tools/size.py", "benchmarks/peak.c"}
    assert wanted - held == set()
    assert [name for name in held if name.endswith((".so", ".o"))] == []


# --- build.sh ------------------------------------------------------------------------------------


def test_build_without_a_verb_lists_every_verb():
    done = run("sh", "build.sh")
    listed = re.findall(r"^  ([a-z-]+)  ", done.stdout, flags=re.M)
    assert listed == [
        *("demo", "build", "test", "test-c", "sanitize", "lint"),
        *("format", "mutants", "bench", "peers", "size", "check", "clean"),
    ]
    script = (ROOT / "build.sh").read_text()
    assert listed == re.findall(r"^    ([a-z-]+)\)", script, flags=re.M)
    assert (done.returncode, done.stderr) == (0, "")


def test_build_refuses_an_unknown_verb():
    done = run("sh", "build.sh", "tets")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith('./build.sh: no verb "tets"\n')


@pytest.mark.parametrize("found", ["3.10.14", "2.7.18", None])
def test_build_refuses_a_wrong_python(found: str | None, tmp_path: Path):
    python = tmp_path / "python"
    if found:
        python.write_text(f"#!/bin/sh\necho {found}\n")
        python.chmod(0o755)
    done = run("sh", "build.sh", "test", PYTHON=str(python), VENV=str(tmp_path / "venv"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"PYTHON={python}\n"
        f"  expected Python 3.11 or later, got {found or 'none that runs'}\n"
        "  remedy: name another interpreter, for example: PYTHON=python3.12 ./build.sh test\n"
    )
    assert not (tmp_path / "venv").exists()


def test_build_refuses_a_python_that_did_not_make_the_environment(tmp_path: Path):
    python, venv = tmp_path / "python", tmp_path / "venv"
    for path, found in ((python, "3.77.0"), (venv / "bin" / "python", "3.66.0")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\necho {found}\n")
        path.chmod(0o755)
    done = run("sh", "build.sh", "demo", PYTHON=str(python), VENV=str(venv))
    assert (done.returncode, done.stdout) == (1, "")
    assert "expected Python 3.66.0, with which" in done.stderr
    assert "got 3.77.0\n  remedy: ./build.sh clean" in done.stderr


# --- tools ---------------------------------------------------------------------------------------


def test_size_counts_every_room():
    path = ROOT / "tools" / "size.py"
    done = run(sys.executable, path)
    rooms, tops = done.stdout.split("\n\n")
    counts = {line.split()[1]: int(line.split()[0]) for line in rooms.splitlines()}
    assert {"minigrad/graph.py", "csrc", "csrc/simd", "tests", "tools"} <= set(counts)
    assert tops.splitlines()[-1].split() == [str(sum(counts.values())), "in", "all"]
    size = runpy.run_path(str(path))
    runner = doctest.DocTestRunner()
    for name in ("python_lines", "c_lines", "room"):
        for example in doctest.DocTestFinder().find(size[name], name, globs=size):
            runner.run(example)
    assert (runner.failures, runner.tries) == (0, 3)
