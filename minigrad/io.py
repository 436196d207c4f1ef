"""Named arrays to and from files: safetensors, never a pickle."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from .errors import DtypeError, FileError, UsageError

# safetensors itself notices a broken header but no flipped bit in the numbers. Two entries, so
# that damage to the name of one cannot make a file of ours look like a foreign one.
FORMAT, CHECKSUM = "minigrad.format", "minigrad.sha256"
VERSION = "1"

DTYPES = (
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
)

# How other files begin, for people who give the wrong one.
SIGNATURES = {
    b"PK\x03\x04": "a zip archive, as .npz and PyTorch's .pt are",
    b"\x80": "a pickle",
    b"\x93NUMPY": "a .npy file",
    b"\x89HDF\r\n": "an HDF5 file",
}


def save(
    path: str | os.PathLike,
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write named arrays to a safetensors file, wholly or not at all.

    Args:
        path: the file; whatever stood there is replaced in one step.
        arrays: arrays of any shape, of one of the dtypes in `DTYPES`.
        metadata: strings to keep beside them.

    Raises:
        DtypeError: an array of another dtype.
        UsageError: a name or an entry of the metadata is no string, or has a name kept for us.
        FileError: the file cannot be written; the old one is untouched.
    """
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    metadata = dict(metadata or {})
    for name, array in arrays.items():
        if array.dtype.name not in DTYPES:
            raise DtypeError(
                f"save: array {name!r}",
                f"expected one of {', '.join(DTYPES)}, got {array.dtype.name}",
                "convert it with .astype",
            )
    for key in (*arrays, *metadata, *metadata.values()):
        if not isinstance(key, str):
            raise UsageError(
                "save: arrays, metadata",
                f"expected strings, got {key!r}",
                "write numbers as text, for instance with json.dumps",
            )
    for key in (FORMAT, CHECKSUM):
        if key in metadata:
            raise UsageError(
                "save: metadata", f"expected names of your own, got {key!r}", "choose another name"
            )
    if "__metadata__" in arrays:
        raise UsageError(
            "save: arrays", "expected names of your own, got '__metadata__'", "choose another name"
        )
    ours = {FORMAT: VERSION, CHECKSUM: checksum(arrays, metadata)}
    write_atomically(path, safetensors.numpy.save(arrays, metadata | ours))


def load(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Read what `save`, or another writer of safetensors, has written.

    Files of ours carry a checksum over everything in them, and a single flipped bit is noticed.

    Args:
        path: the file.

    Returns:
        arrays by name, the caller's own to change, and the metadata.

    Raises:
        FileError: the file is missing, unreadable, damaged, or of another format.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/state.safetensors", {"weight": np.eye(2)}, {"step": "17"})
    ...     arrays, metadata = load(f"{folder}/state.safetensors")
    >>> metadata
    {'step': '17'}
    """
    what = f"load: {os.fspath(path)!r}"
    try:
        with open(path, "rb") as file:
            beginning = file.read(8)
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            for a in arrays.values():
                if a.dtype.isbuiltin != 1:  # another library has taught NumPy more
                    raise TypeError(str(a.dtype))
    except FileNotFoundError as error:
        raise FileError(
            what, "expected a safetensors file, got no file", "check the path"
        ) from error
    except OSError as error:
        raise FileError(
            what,
            f"expected a readable file, got: {error.strerror or error}",
            "check the path and its permissions",
        ) from error
    except (AttributeError, TypeError) as error:  # bfloat16 and the like, of other writers
        raise FileError(
            what, f"expected dtypes that NumPy has, got: {error}", "convert them to float32 first"
        ) from error
    except (safetensors.SafetensorError, ValueError) as error:
        for signature, kind in SIGNATURES.items():
            if beginning.startswith(signature):
                raise FileError(
                    what,
                    f"expected a safetensors file, got {kind}",
                    "convert it with safetensors.numpy.save_file",
                ) from error
        raise FileError(
            what,
            f"expected a whole safetensors file, got: {error}",
            "take another copy; this one is damaged or of another format",
        ) from error
    if FORMAT in metadata or CHECKSUM in metadata:
        version, found = metadata.pop(FORMAT, None), metadata.pop(CHECKSUM, None)
        if version != VERSION and found is not None:
            raise FileError(
                what,
                f"expected format {VERSION}, got {version}",
                "read it with the version of minigrad that wrote it",
            )
        if found != checksum(arrays, metadata):
            raise FileError(
                what,
                "expected contents that fit the checksum, got others",
                "take another copy; this one is damaged",
            )
    return arrays, metadata


def checksum(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    """SHA-256 over names, dtypes, shapes, metadata and numbers, whatever their order in a file."""
    about = [[name, arrays[name].dtype.name, arrays[name].shape] for name in sorted(arrays)]
    digest = hashlib.sha256(json.dumps([about, sorted(metadata.items())]).encode())
    for name in sorted(arrays):
        array = arrays[name].astype(arrays[name].dtype.newbyteorder("<"), copy=False)
        digest.update(array.tobytes())
    return digest.hexdigest()


def write_atomically(path: str | os.PathLike, data: bytes) -> None:
    """Put a file in place in one step: readers and crashes see the old bytes or the new ones.

    The bytes go to a new file in the same folder, which is forced to the disk and then takes the
    name; the folder is forced to the disk last, without which the name could be lost.

    Raises:
        FileError: it cannot be written; the old file is untouched and nothing is left behind.
    """
    path = Path(os.path.realpath(path))  # through a link, not over it
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:  # an interrupt, too, must leave nothing behind
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise FileError(
                f"save: {str(path)!r}",
                f"expected a file that can be written, got: {error.strerror or error}",
                "check the folder, its permissions and the space left",
            ) from error
        raise
    if hasattr(os, "O_DIRECTORY"):  # elsewhere a folder cannot be opened
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
