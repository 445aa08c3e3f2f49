"""NumPy's files, .npy and .npz: what numpy writes is read, what is broken or hostile is named."""

import errno
import io
import os
import zipfile

import numpy as np
import pytest

from app.files import open_regular
from app.formats import npz
from app.formats.npz import load_npy, load_npz, save_npz
from app.formats.onnx.reader import read_onnx
from app.formats.safetensors import load_safetensors

ARRAYS = {
    "matrix": np.arange(6).reshape(2, 3),
    "one number": np.array(3.5),
    "text": np.array("naïve"),
    "no text": np.array(""),
    "nothing": np.zeros((0, 3), np.float32),
    "by columns": np.asfortranarray(np.random.default_rng(0).random((3, 4, 5))),
    "big-endian": np.arange(5, dtype=">f4"),
    "booleans": np.array([True, False]),
    "more than a chunk": np.random.default_rng(1).random(200_000),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_what_numpy_writes_is_read(tmp_path, name):
    array = ARRAYS[name]
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", a=array, b=array)
    np.savez_compressed(tmp_path / "c.npz", a=array, b=array)
    with open(tmp_path / "b.npy", "wb") as file:
        np.lib.format.write_array(file, array, version=(2, 0))
    found = [load_npy(tmp_path / f"{letter}.npy") for letter in "ab"]
    found += [load_npz(tmp_path / f"{letter}.npz")["b"] for letter in "ac"]
    for again in found:
        assert again.dtype == array.dtype.newbyteorder("=")
        assert again.flags.writeable
        np.testing.assert_array_equal(again, array)


def npy(header, data=b"", version=1):
    header = header.encode()
    length = len(header).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + data


def described(descr="<f4", shape="(2,)", fortran="False"):
    return f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n"


BROKEN = {
    "keys": (npy("{1: 2, 'a': 3}"), "its header is not sound: "),
    "bracket": (npy("("), "its header is not sound: '('"),
    "descr": (npy("{'descr': ('<f4',)}"), "its header is not sound"),
    "true shape": (npy("{'shape': (True,)}"), "its header is not sound"),
    "negative": (npy(described(shape="(-2,)")), "its header is not sound"),
    "code": (npy(described(shape="(__import__('os').abort(),)")), "its header is not sound"),
    "deep": (npy("(" * 60_000), "its header is not sound"),
    "long": (npy("(" * 70_000, version=2), "its header is not sound"),
    "digits": (npy(described(shape=f"({'9' * 5000},)")), "its header is not sound"),
    "version": (npy(described(), bytes(8), version=7), "does not begin as an array of NumPy"),
    "objects": (npy(described("|O"), bytes(16)), "made of '|O', not of numbers or text"),
    "no dtype": (npy(described("<f3"), bytes(6)), "made of '<f3', not of numbers or text"),
    "complex": (npy(described("<c8"), bytes(16)), "made of '<c8', not of numbers or text"),
    "short": (npy(described(), bytes(7)), "are 8 bytes, there are 7"),
    "longer": (npy(described(), bytes(9)), "are 8 bytes, there are 9"),
    "huge": (npy(described(shape="(999999999999,)"), bytes(8)), "there are 8"),
    "axes": (npy(described(shape=f"({'1, ' * 40})"), bytes(4)), "there are 4"),
    "nothing": (b"", "does not begin as an array of NumPy"),
    "cut": (npy(described(), bytes(8))[:20], "its header is not sound"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_array_is_refused_by_name(tmp_path, what):
    contents, message = BROKEN[what]
    (tmp_path / "a.npy").write_bytes(contents)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("conv1.w.npy", contents)
    for load, kind in ((load_npy, "npy"), (load_npz, "npz")):
        path = tmp_path / f"a.{kind}"
        with pytest.raises(ValueError) as caught:
            load(path)
        text = str(caught.value)
        assert text.startswith(f"{path} is not a sound .{kind} file: ")
        assert message in text
        assert ("conv1.w" in text) == (kind == "npz")
        assert "\n" not in text
        assert "pickle" not in text


def test_a_pickle_is_never_opened(tmp_path):
    class Trap:
        def __reduce__(self):
            return os._exit, (99,)

    np.save(tmp_path / "a.npy", np.array([Trap()]), allow_pickle=True)
    np.savez(tmp_path / "a.npz", a=np.array([Trap()]), allow_pickle=True)
    for load, name in ((load_npy, "a.npy"), (load_npz, "a.npz")):
        with pytest.raises(ValueError, match=r"made of '\|O', not of numbers or text") as caught:
            load(tmp_path / name)
        assert "allow_pickle" not in str(caught.value)


def archive(path, how=zipfile.ZIP_STORED, names=("a.npy",), contents=None):
    with zipfile.ZipFile(path, "w", how) as file:
        for name in names:
            file.writestr(name, contents or npy(described(), bytes(8)))
    return path.read_bytes()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_zip_files_that_numpy_would_not_write(tmp_path):
    path = tmp_path / "a.npz"
    for how in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        archive(path, how)
        with pytest.raises(ValueError, match="a.npz .*: a is packed in a way that NumPy does not"):
            load_npz(path)
    archive(path, names=("a.npy", "a.npy"))
    with pytest.raises(ValueError, match="'a.npy' in it is no array, or is there twice"):
        load_npz(path)
    archive(path, names=("a.npy", "notes.txt"))
    with pytest.raises(ValueError, match="'notes.txt' in it is no array"):
        load_npz(path)
    whole = bytearray(archive(path))
    for place in (6, whole.index(b"PK\x01\x02") + 8):  # the flags: encrypted
        whole[place] |= 1
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="a.npz is not a sound .npz file: it is cut off or"):
        load_npz(path)


def test_every_cut_and_every_flipped_number_is_found(tmp_path):
    path = tmp_path / "a.npz"
    whole = archive(path)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="a.npz is not a sound .npz file"):
            load_npz(path)
    data = whole.index(b"}\n") + 2
    for place in range(data, data + 8):
        broken = bytearray(whole)
        broken[place] ^= 16
        path.write_bytes(broken)
        with pytest.raises(ValueError, match="it is cut off or damaged"):  # by the checksum
            load_npz(path)


def test_what_unpacks_to_far_more_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    """2.4 MB can unpack to 4.8 GB; here both are smaller."""
    path = tmp_path / "a.npz"
    zeros = npy(described(shape="(1000000,)"), bytes(4_000_000))
    size = len(archive(path, zipfile.ZIP_DEFLATED, contents=zeros))
    assert size < 10_000
    assert not load_npz(path)["a"].any()  # so few are allowed
    monkeypatch.setattr(npz, "SMALL", 1_000_000)
    with pytest.raises(ValueError, match=r"a.npz .*: [\d,]+ bytes would unpack to 4,000,0"):
        load_npz(path)


@pytest.mark.parametrize("size", [0, 5, 100, 2**31, 2**32 - 2])
def test_sizes_that_lie(tmp_path, size):
    """Of the unpacked bytes, in the directory at the end of the file."""
    path = tmp_path / "a.npz"
    whole = archive(path, zipfile.ZIP_DEFLATED)
    place = whole.index(b"PK\x01\x02") + 24
    path.write_bytes(whole[:place] + size.to_bytes(4, "little") + whole[place + 4 :])
    with pytest.raises(ValueError, match="a.npz is not a sound .npz file"):
        load_npz(path)


LOADERS = {"npy": load_npy, "npz": load_npz, "safetensors": load_safetensors, "onnx": read_onnx}


@pytest.mark.parametrize("kind", LOADERS)
def test_only_regular_files_are_opened(tmp_path, kind):
    """A device never ends, and a pipe waits for who writes to it."""
    for name in ("device", "pipe", "folder"):
        path = tmp_path / f"{name}.{kind}"
        if name == "device":
            path.symlink_to("/dev/zero")
        elif name == "pipe":
            os.mkfifo(path)
        else:
            path.mkdir()
        expected = OSError if name == "folder" else ValueError
        with pytest.raises(expected, match=f"{name}.{kind}"):
            LOADERS[kind](path)
    with pytest.raises(FileNotFoundError):
        LOADERS[kind](tmp_path / f"none.{kind}")


def test_a_failing_disk_is_not_the_files_fault(tmp_path, monkeypatch):
    save_npz(tmp_path / "a.npz", {"a": np.arange(3)})

    class Failing(io.BytesIO):
        def read(self, *size):
            raise OSError(errno.EIO, "Input/output error")

    def failing(path):
        with open_regular(path) as file:
            broken = Failing(file.read())
        broken.fileno = lambda: os.open(path, os.O_RDONLY)
        return broken

    monkeypatch.setattr(npz, "open_regular", failing)
    with pytest.raises(OSError, match="Input/output error") as caught:
        load_npz(tmp_path / "a.npz")
    assert caught.value.filename == str(tmp_path / "a.npz")
    assert not isinstance(caught.value, ValueError)
