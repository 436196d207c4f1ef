"""How cffi builds ``minigrad._native`` from the C files beside this one.

setup.py names this file in ``cffi_modules`` and runs it from the root of the repository.
"""

import hashlib
import os
from pathlib import Path

from cffi import FFI

CSRC = Path(__file__).parent

# -ffp-contract=off: an FMA stands only where the source writes one, so every compiler and every
# instruction set gives the same bits. For the same reason there is no -ffast-math and no
# -march=native: the kernels choose their instruction set when the library is loaded.
FLAGS = [
    *("-std=c11", "-O3", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"),
    *("-Wall", "-Wextra", "-Wshadow", "-fvisibility=hidden", "-pthread"),
]


def source_files() -> list[Path]:
    """The files that make the binary: C sources, headers, kernel lists; no tests, no benchmarks."""
    files = [path for end in ("*.c", "*.h", "*.def") for path in CSRC.rglob(end)]
    files = [path for path in files if path.relative_to(CSRC).parts[0] not in ("tests", "bench")]
    return sorted(files, key=lambda path: path.relative_to(CSRC).as_posix())


def source_hash() -> str:
    """The sha256 over names and contents of the source files; the binary remembers its own."""
    digest = hashlib.sha256()
    for path in source_files():
        content = path.read_bytes()
        digest.update(f"{path.relative_to(CSRC).as_posix()} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def declarations() -> str:
    """The section of minigrad.h that cffi reads as it stands."""
    header = (CSRC / "minigrad.h").read_text(encoding="utf-8")
    _, begin, rest = header.partition("/* cffi: begin */")
    section, end, _ = rest.partition("/* cffi: end */")
    if not (begin and end):
        raise ValueError("csrc/minigrad.h: no section from /* cffi: begin */ to /* cffi: end */")
    return section


ffi = FFI()
ffi.cdef(declarations() + "const char *mg_source_hash(void);")
ffi.set_source(
    "minigrad._native",
    '#include "minigrad.h"\n'
    f'static const char *mg_source_hash(void) {{ return "{source_hash()}"; }}',
    sources=[str(CSRC / name) for name in ("dispatch.c", "loops.c", "pool.c")]
    + sorted(str(path) for path in (CSRC / "isa").glob("*.c")),
    depends=[str(path) for path in source_files()],
    include_dirs=[str(CSRC)],
    extra_compile_args=FLAGS,
    extra_link_args=["-pthread"],
    libraries=["m"],
    # Without a working compiler minigrad installs all the same and runs on NumPy.
    # MINIGRAD_REQUIRE_EXT=1 forbids that: the build fails instead.
    optional=os.environ.get("MINIGRAD_REQUIRE_EXT", "0") in ("", "0"),
)
