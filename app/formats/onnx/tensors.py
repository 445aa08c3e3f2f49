"""The numbers of a tensor in an ONNX file, or in another file beside it."""

import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from app.files import open_regular

MOST_AXES = 32
NAMED = 60  # letters of a name that a message repeats
TYPES = ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "BOOL", "INT64", "INT32", "INT16", "INT8")
TYPES += ("UINT64", "UINT32", "UINT16", "UINT8")


def decoded(path: str | Path, tensor: Any, name: str) -> np.ndarray:
    """A TensorProto's numbers. ValueError if they are not as many as its shape says."""
    from onnx import TensorProto, helper, numpy_helper

    def broken(why):
        return ValueError(f"the tensor {name!r} is not sound: {why}")

    shape = tuple(tensor.dims)
    if tensor.data_type not in [getattr(TensorProto, kind) for kind in TYPES]:
        raise broken(f"it has the type {tensor.data_type}, not one of {', '.join(TYPES)}")
    if len(shape) > MOST_AXES or min(shape, default=0) < 0:
        raise broken(f"it has the shape {shape}")
    if tensor.data_location == TensorProto.EXTERNAL:
        size = math.prod(shape) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        try:
            data = bytes_beside(path, tensor, size)
        except (OSError, ValueError) as error:
            why = error
            if isinstance(error, OSError):
                why = f"{error.strerror}: {str(error.filename)[-NAMED:]!r}"
            raise ValueError(f"the tensor {name!r} is kept in another file: {why}") from None
        tensor = TensorProto(data_type=tensor.data_type, dims=shape, raw_data=data)
    try:
        return numpy_helper.to_array(tensor)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  a library's text would not say more
        raise broken(f"its numbers do not fill {shape}") from None


def bytes_beside(path: str | Path, tensor: Any, size: int) -> bytes:
    """The bytes of a tensor that are not in the model's file, but in another of its folder.

    ValueError if that file, symbolic links followed, is elsewhere, or too short.
    """
    place = {entry.key: text(entry.value) for entry in tensor.external_data}
    name, offset, length = (place.get(key, "") for key in ("location", "offset", "length"))
    if not re.fullmatch(r"\d{0,18}", offset) or length not in ("", str(size)) or "\0" in name:
        raise ValueError(f"{size} bytes are needed, {length[:NAMED]!r} are said to be there")
    folder = os.path.dirname(os.path.abspath(path))
    file_name = os.path.realpath(os.path.join(folder, name))
    homes = os.path.realpath(folder), os.path.dirname(os.path.realpath(path))
    if not file_name.startswith(tuple(os.path.join(home, "") for home in homes)):
        raise ValueError(f"{name[:NAMED]!r} is outside the folder of {path}")
    with open_regular(file_name) as file:
        begin, present = int(offset or 0), os.fstat(file.fileno()).st_size
        if begin + size > present:
            raise ValueError(f"{name[:NAMED]!r} has {present} bytes, not {begin} + {size}")
        file.seek(begin)
        return file.read(size)


def text(value: Any) -> Any:
    """Bytes as text, anything else as it is: protobuf gives text that is not UTF-8 as bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
