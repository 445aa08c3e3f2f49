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
    except BaseException:
        os.unlink(temporary)
        raise


def save_npz(path, arrays):
    """Write {name: array} to path."""
    write_whole(path, lambda file: np.savez(file, **arrays))


def load_npz(path):
    """{name: array} from path. ValueError if it is not a sound .npz file."""
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            return {
                name.removesuffix(".npy"): np.load(io.BytesIO(archive.read(name)))
                for name in archive.namelist()
            }
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise ValueError(f"{path} is not a sound .npz file: {error}") from None
