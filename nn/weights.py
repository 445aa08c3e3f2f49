"""Weights as .npz files, and how to write a file so that it is whole or not there."""

import io
import os
import tempfile
import zipfile
import zlib

import numpy as np


def write_whole(path, write):
    """Let write(file) fill a temporary file beside path, then put it in path's place at once.

    Whoever opens path finds the old contents or the new, also after a crash or on a full disk.
    """
    path = os.fspath(path)
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path) or ".", prefix=".writing-")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        os.unlink(temporary)
        if isinstance(error, OSError):
            error.filename = path
        raise


def save_npz(path, arrays):
    """Write {name: array} to path."""
    write_whole(path, lambda file: np.savez(file, **arrays))


def load_npz(path):
    """{name: array} from path. ValueError if it is not a sound .npz file."""
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            arrays = {
                name.removesuffix(".npy"): np.load(io.BytesIO(archive.read(name)))
                for name in archive.namelist()
            }
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} is not a sound .npz file: {error}") from None
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise ValueError(f"{path} is not a sound .npz file: not everything in it is an array")
    return arrays


def load_weights(path, input_shape):
    """({"conv1.w": array, ...}, shape of the net's input) from an .npz file.

    The shape is the file's `input_shape`, or else the one given. ValueError if something in the
    file is no real finite number.
    """
    arrays = load_npz(path)
    shape = arrays.pop("input_shape", np.array(input_shape))
    if shape.shape != (3,) or shape.dtype.kind not in "iu" or not (0 < shape).all():
        raise ValueError(f"{path}: input_shape must be 3 positive whole numbers, got {shape}")
    for name, array in arrays.items():
        if array.dtype.kind != "f" or not np.isfinite(array).all():
            raise ValueError(f"{path}: {name} is not made of finite real numbers")
    return arrays, tuple(shape.tolist())
