"""The IDX format of MNIST: a magic number, the sizes, then the bytes; gzipped or not.

Magic: two zero bytes, 0x08 for unsigned bytes, the number of axes. Sizes: big-endian int32.
"""

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np

from app.files import naming, open_regular

PACKED = 1032  # gzip makes at most so many bytes of one


def read_idx(path: str | Path, axes: int) -> np.ndarray:
    """The uint8 array in an IDX file with this number of axes.

    No more is read than the file's header tells. ValueError names the file, what was found and
    what was expected.
    """
    with open_regular(path) as raw, naming(path):
        most = os.fstat(raw.fileno()).st_size
        file, zipped = raw, raw.peek(2)[:2] == b"\x1f\x8b"
        if zipped:
            file, most = gzip.GzipFile(fileobj=raw), PACKED * most
        try:
            header = file.read(4 + 4 * axes)
            shape = shape_in(path, header, axes)
            needed = math.prod(shape)
            data = file.read(min(needed, most) + 1)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path}: broken or truncated gzip file ({error})") from None
    if len(data) == needed:
        return np.frombuffer(data, np.uint8).reshape(shape)
    what = "truncated" if len(data) < needed else "too long"
    found = f"{len(data)} bytes" if what == "truncated" else f"more than {needed} bytes"
    raise ValueError(f"{path}: {what}: {found} of data, expected {needed} for {shape}")


def shape_in(path: str | Path, header: bytes, axes: int) -> tuple:
    """The sizes in the first bytes of an IDX file. ValueError if they are not those of one."""
    expected = bytes([0, 0, 8, axes])
    if header[:4] != expected:
        raise ValueError(
            f"{path}: not an IDX file of {axes} axes of bytes: it starts with "
            f"0x{header[:4].hex() or '(nothing)'}, expected 0x{expected.hex()}"
        )
    if len(header) < 4 + 4 * axes:
        raise ValueError(f"{path}: truncated in its header: {len(header)} of {4 + 4 * axes} bytes")
    return tuple(int(size) for size in np.frombuffer(header, ">u4", axes, offset=4))
