"""NumPy's files: .npy, an array, and .npz, a zip file of them. Nothing in them is run or believed.

An array: b"\\x93NUMPY", the version (2 bytes), the length of the header (2 bytes, from version 2
on 4 bytes), a header like {'descr': '<f4', 'fortran_order': False, 'shape': (5, 3), }, the numbers.
"""

import math
import os
import re
import zipfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from app.files import open_regular, write_whole
from app.formats.reading import reading

HEADER = re.compile(
    r"\{'descr': *'([^']*)', *'fortran_order': *(True|False), *"
    r"'shape': *\(((?:\d{1,18}, ?)*(?:\d{1,18})?)\),? *\}\s*"
)
NUMBERS = re.compile(r"[<>|=]?[biufU]\d{1,8}")  # booleans, whole and real numbers, text
LONGEST_HEADER = 2**16  # bytes
MOST_AXES = 32
CHUNK = 2**20  # bytes at a time
SMALL, FACTOR = 2**30, 10  # a zip file unpacks to so many bytes, or to so many times its own size


def save_npz(path: str | Path, arrays: dict[str, np.ndarray]) -> None:
    """Write {name: array} to path."""

    def write(file):
        # As np.savez does, whose older versions leave the archive open when the disk is full.
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)

    write_whole(path, write)


def load_npy(path: str | Path) -> np.ndarray:
    """The array in an .npy file. ValueError if it is not a sound one."""
    with open_regular(path) as file, reading(path, ".npy"):
        return read_array(file, os.fstat(file.fileno()).st_size)


def load_npz(path: str | Path) -> dict[str, np.ndarray]:
    """{name: array} from path. ValueError if it is not a sound .npz file, or too large unpacked."""
    with open_regular(path) as file, reading(path, ".npz"):
        size = os.fstat(file.fileno()).st_size
        archive = zipfile.ZipFile(file)
        unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > max(SMALL, FACTOR * size):
            raise ValueError(f"{size:,} bytes would unpack to {unpacked:,}, which no weights do")
        arrays = {}
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name == member.filename or name in arrays:
                raise ValueError(f"{member.filename!r} in it is no array, or is there twice")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{name} is packed in a way that NumPy does not use")
            with archive.open(member) as packed:
                try:
                    arrays[name] = read_array(packed, member.file_size)
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from None
        return arrays


def read_array(file: BinaryIO, size: int) -> np.ndarray:
    """The array in an .npy file of `size` bytes, which must be as long as its header says."""
    start = file.read(8)
    if start[:7] not in (b"\x93NUMPY\x01", b"\x93NUMPY\x02", b"\x93NUMPY\x03"):
        raise ValueError("it does not begin as an array of NumPy does")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(file.read(width), "little")
    header = file.read(min(length, LONGEST_HEADER)).decode("latin1")
    found = HEADER.fullmatch(header)
    if not found:
        raise ValueError(f"its header is not sound: {header[:60]!r}")
    kind, by_columns, numbers = found.groups()
    shape = tuple(int(n) for n in numbers.replace(",", " ").split())
    dtype = number_type(kind)
    expected, present = math.prod(shape) * dtype.itemsize, size - 8 - width - length
    if present != expected or len(shape) > MOST_AXES:
        raise ValueError(f"{shape} numbers of {kind} are {expected} bytes, there are {present}")
    array = np.empty(math.prod(shape), dtype)
    data = array.view(np.uint8)
    for begin in range(0, expected, CHUNK):
        part = file.read(min(CHUNK, expected - begin))
        data[begin : begin + len(part)] = np.frombuffer(part, np.uint8)
        if begin + len(part) < min(begin + CHUNK, expected):
            raise ValueError("it is cut off")
    file.read(1)  # a zip file's checksum is looked at where it ends
    array = array.reshape(shape, order="F" if by_columns == "True" else "C")
    return array.astype(dtype.newbyteorder("="), copy=False)


def number_type(kind: str) -> np.dtype:
    """The dtype of a header's 'descr', if it is one of numbers or text."""
    try:
        return np.dtype(NUMBERS.fullmatch(kind).group())
    except (AttributeError, TypeError, ValueError, OverflowError):
        raise ValueError(f"it is made of {kind!r}, not of numbers or text") from None
