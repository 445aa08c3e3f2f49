"""The .safetensors format: 8 bytes with the length of the header; the header; the numbers.

The header is JSON that says of each tensor its dtype, shape and place among the numbers. Together
the tensors fill these: nothing is left over, and no two of them overlap.
"""

import json
import math
import os
from pathlib import Path

import numpy as np

from app.files import open_regular
from app.formats.reading import reading

DTYPES = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "?"},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "<i1"},
    **{"U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "<u1"},
}


def load_safetensors(path: str | Path) -> dict[str, np.ndarray]:
    """{name: array} from a .safetensors file, of its own dtypes; BF16 becomes float32.

    ValueError if the file is not sound.
    """
    with open_regular(path) as file, reading(path, ".safetensors"):
        length, size = int.from_bytes(file.read(8), "little"), os.fstat(file.fileno()).st_size - 8
        if length > size:
            raise ValueError(f"it says that its header has {length} bytes")
        try:
            header = json.loads(file.read(length).decode(), object_pairs_hook=unique_names)
        except (ValueError, RecursionError):
            raise ValueError("its header is not sound JSON, or has a name twice") from None
        header.pop("__metadata__", None)
        entries = {name: checked_entry(name, **entry) for name, entry in header.items()}
        end = 0
        for begin, stop in sorted(entry[2:] for entry in entries.values()):
            if begin != end:
                raise ValueError(f"a tensor begins at byte {begin}, the one before ends at {end}")
            end = stop
        if end != size - length:
            raise ValueError(f"its tensors are {end} bytes, but there are {size - length}")
        data = file.read()
        return {name: tensor(data, *entry) for name, entry in entries.items()}


def unique_names(pairs: list[tuple]) -> dict:
    """A JSON object's pairs as a dict. ValueError if a name is there twice."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError
    return dict(pairs)


def checked_entry(name: str, dtype: str, shape: list, data_offsets: list) -> tuple:
    """(dtype, shape, begin, end) of a tensor, if they go together."""
    begin, end = data_offsets
    if not all(type(n) is int and n >= 0 for n in (begin, end, *shape)):
        raise ValueError(f"{name} has the shape {shape} at {data_offsets}")
    if dtype not in DTYPES:
        raise ValueError(f"{name} is made of {dtype}, not of one of {', '.join(DTYPES)}")
    if end - begin != math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize:
        raise ValueError(f"{name}, {dtype} of {shape}, is said to be at {data_offsets}")
    return dtype, shape, begin, end


def tensor(data: bytes, dtype: str, shape: list, begin: int, end: int) -> np.ndarray:
    """One tensor out of the data."""
    array = np.frombuffer(memoryview(data)[begin:end], DTYPES[dtype]).reshape(shape)
    if dtype == "BF16":  # the upper half of a float32
        array = (array.astype("<u4") << 16).view("<f4")
    return array
