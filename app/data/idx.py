"""The IDX format of MNIST: a magic number, the sizes, then the bytes; gzipped or not.

Magic: two zero bytes, 0x08 for unsigned bytes, the number of axes. Sizes: big-endian int32.
"""

import gzip
import math
import zlib

import numpy as np


def read_idx(path, axes):
    """The uint8 array in an IDX file with this number of axes.

    ValueError names the file, what was found and what was expected.
    """
    try:
        with open(path, "rb") as file:
            contents = file.read()
        if contents[:2] == b"\x1f\x8b":
            contents = gzip.decompress(contents)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: broken or truncated gzip file ({error})") from None
    header = 4 + 4 * axes
    expected = bytes([0, 0, 8, axes])
    if contents[:4] != expected:
        raise ValueError(
            f"{path}: not an IDX file of {axes} axes of bytes: it starts with "
            f"0x{contents[:4].hex() or '(nothing)'}, expected 0x{expected.hex()}"
        )
    if len(contents) < header:
        raise ValueError(f"{path}: truncated in its header: {len(contents)} of {header} bytes")
    shape = tuple(int(size) for size in np.frombuffer(contents, ">u4", axes, offset=4))
    found, needed = len(contents) - header, math.prod(shape)
    if found != needed:
        what = "truncated" if found < needed else "too long"
        raise ValueError(f"{path}: {what}: {found} bytes of data, expected {needed} for {shape}")
    return np.frombuffer(contents, np.uint8, offset=header).reshape(shape)
