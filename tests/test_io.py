import os
import stat

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minigrad import io
from minigrad.errors import DtypeError, FileError, UsageError

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ARRAYS = hnp.arrays(
    st.sampled_from(io.DTYPES).map(np.dtype), hnp.array_shapes(min_dims=0, min_side=0, max_side=4)
)


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "state.safetensors"
    io.save(path, {"weight": np.arange(6.0).reshape(2, 3), "n": np.int64(3)}, {"step": "17"})
    return path


@given(st.dictionaries(NAMES, ARRAYS, max_size=4), st.dictionaries(NAMES, NAMES, max_size=4))
def test_load_undoes_save_to_the_bit(tmp_path_factory, arrays, metadata):
    path = tmp_path_factory.getbasetemp() / "law.safetensors"
    io.save(path, arrays, metadata)
    loaded, loaded_metadata = io.load(path)
    assert loaded_metadata == metadata
    assert loaded.keys() == arrays.keys()
    assert all(same(loaded[name], arrays[name]) for name in arrays)


def test_views_and_byte_orders_are_saved_as_their_numbers(tmp_path):
    path = tmp_path / "views.safetensors"
    wide = np.arange(24.0).reshape(4, 6)
    arrays = {"t": wide.T, "step": wide[::2, ::-3], "big": wide.astype(">f8")}
    io.save(path, arrays)
    loaded, metadata = io.load(path)
    assert metadata == {}
    for name, array in arrays.items():
        assert (loaded[name] == array).all() and loaded[name].dtype == np.float64


def test_nan_payloads_and_signed_zeros_survive(tmp_path):
    bits = np.array([0x7FC00001, 0xFFC12345, 0x80000000, 1], np.uint32)
    io.save(tmp_path / "bits", {"x": bits.view(np.float32)})
    assert (io.load(tmp_path / "bits")[0]["x"].view(np.uint32) == bits).all()


def test_loaded_arrays_belong_to_the_caller(file):
    arrays, _ = io.load(file)
    arrays["weight"][:] = -1
    assert io.load(file)[0]["weight"][1, 2] == 5


def test_other_readers_read_our_files(file):
    arrays = safetensors.numpy.load_file(file)
    assert (arrays["weight"] == np.arange(6.0).reshape(2, 3)).all()


def test_we_read_the_files_of_others(tmp_path):
    path = tmp_path / "theirs.safetensors"
    safetensors.numpy.save_file({"w": np.ones(3, np.float32)}, path, {"format": "pt"})
    arrays, metadata = io.load(path)
    assert same(arrays["w"], np.ones(3, np.float32)) and metadata == {"format": "pt"}


def test_dtypes_that_numpy_lacks_are_refused_with_a_remedy(tmp_path):
    header = b'{"x":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}'
    (tmp_path / "theirs").write_bytes(len(header).to_bytes(8, "little") + header + b"..")
    with pytest.raises(FileError, match=r"dtypes that NumPy has(.|\n)*convert them to float32"):
        io.load(tmp_path / "theirs")


def test_every_truncation_is_noticed(file):
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(FileError, match="expected a whole safetensors file"):
            io.load(file)


def test_every_flipped_bit_is_noticed(file):
    whole = file.read_bytes()
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        with pytest.raises(FileError):
            io.load(file)
    file.write_bytes(whole)
    io.load(file)


@pytest.mark.parametrize(
    ("data", "got"),
    [
        (None, "expected a safetensors file, got no file"),
        (b"", "expected a whole safetensors file, got: "),
        (b"import this, for it is no safetensors", "expected a whole safetensors file, got: "),
        (b"\x80\x04\x95" + b"x" * 40, "expected a safetensors file, got a pickle"),
        (b"PK\x03\x04" + b"x" * 40, "expected a safetensors file, got a zip archive"),
        (b"\x93NUMPY" + b"x" * 40, "expected a safetensors file, got a .npy file"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path, data, got):
    path = tmp_path / "given"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(FileError) as caught:
        io.load(path)
    what, expected_and_got, remedy = str(caught.value).split("\n")
    assert what == f"load: {str(path)!r}"
    assert expected_and_got.startswith(f"  {got}")
    assert remedy.startswith("  remedy: ")


def test_a_folder_is_not_a_file(tmp_path):
    with pytest.raises(FileError, match="Is a directory"):
        io.load(tmp_path)


def test_a_newer_format_is_refused_by_name(file, monkeypatch):
    monkeypatch.setattr(io, "VERSION", "2")
    io.save(file, {})
    monkeypatch.undo()
    with pytest.raises(FileError, match="expected format 1, got 2"):
        io.load(file)


@pytest.mark.parametrize(
    ("arrays", "metadata", "error", "message"),
    [
        (
            {"x": np.ones(2, complex)},
            None,
            DtypeError,
            "array 'x'\n  expected one of .* complex128",
        ),
        ({"x": np.array([{}])}, None, DtypeError, "got object"),
        ({3: np.ones(2)}, None, UsageError, "expected strings, got 3"),
        ({}, {"step": 17}, UsageError, "expected strings, got 17"),
        ({}, {17: "step"}, UsageError, "expected strings, got 17"),
        ({}, {io.CHECKSUM: ""}, UsageError, "got 'minigrad.sha256'"),
        ({"__metadata__": np.ones(2)}, None, UsageError, "got '__metadata__'"),
    ],
)
def test_what_cannot_be_saved_leaves_no_file(tmp_path, arrays, metadata, error, message):
    with pytest.raises(error, match=message):
        io.save(tmp_path / "state", arrays, metadata)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", ["open", "write", "fsync", "replace"])
@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_midway_leaves_the_old_file_and_nothing_else(
    file, monkeypatch, step, failure
):
    before = file.read_bytes()
    real_open = open

    def fail(*args, **kwargs):
        raise failure

    class HalfWritten:
        def __init__(self, *args):
            self.file = real_open(*args)

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            self.file.close()

        def write(self, data):
            self.file.write(data[: len(data) // 2])
            fail()

    if step == "open":
        monkeypatch.setattr("builtins.open", fail)
    elif step == "write":
        monkeypatch.setattr("builtins.open", HalfWritten)
    else:
        monkeypatch.setattr(os, step, fail)
    with pytest.raises(FileError if isinstance(failure, OSError) else KeyboardInterrupt) as caught:
        io.save(file, {"weight": np.zeros(1000)})
    monkeypatch.undo()
    if isinstance(failure, OSError):
        assert str(caught.value) == (
            f"save: {str(file)!r}\n"
            "  expected a file that can be written, got: No space left on device\n"
            "  remedy: check the folder, its permissions and the space left"
        )
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]
    assert io.load(file)[1] == {"step": "17"}


def test_bytes_are_on_the_disk_before_the_name_and_the_folder_after(file, monkeypatch):
    events = []
    real = {"fsync": os.fsync, "replace": os.replace}

    def fsync(descriptor):
        about = os.fstat(descriptor)
        events.append("folder" if stat.S_ISDIR(about.st_mode) else about.st_size)
        real["fsync"](descriptor)

    def replace(source, target):
        assert os.path.dirname(source) == os.path.dirname(target)
        events.append("replace")
        real["replace"](source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    io.save(file, {"weight": np.zeros(3)})
    assert events == [file.stat().st_size, "replace", "folder"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileError, match="got: No such file or directory"):
        io.save(tmp_path / "none" / "state", {})


def test_permissions_are_those_of_any_new_file_and_a_link_stays_a_link(tmp_path):
    (tmp_path / "plain").touch()
    io.save(tmp_path / "state", {"x": np.ones(2)})
    assert (tmp_path / "state").stat().st_mode == (tmp_path / "plain").stat().st_mode
    (tmp_path / "link").symlink_to("state")
    io.save(tmp_path / "link", {"x": np.zeros(2)})
    assert (tmp_path / "link").is_symlink()
    assert (io.load(tmp_path / "state")[0]["x"] == 0).all()
