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
        size = os.fstat(raw.fileno()).st_size
        file, zipped = raw, raw.peek(2)[:2] == b"\x1f\x8b"
        if zipped:
            file, size = gzip.GzipFile(fileobj=raw), PACKED * size
        try:
            header = file.read(4 + 4 * axes)
            shape = shape_in(path, header, axes)
            found, needed = size - len(header), math.prod(shape)
            about = "at most " if zipped else ""
            if needed <= found:
                data = file.read(needed + 1)
                found, about = len(data), ""
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path}: broken or truncated gzip file ({error})") from None
    if found == needed:
        return np.frombuffer(data, np.uint8).reshape(shape)
    what = f"truncated: {about}{found}" if found < needed else f"too long: more than {needed}"
    raise ValueError(f"{path}: {what} bytes of data, expected {needed} for {shape}")


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
