"""Files that are whole or not there, and files that one process holds for itself."""

import os
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO


def open_regular(path: str | Path) -> BinaryIO:
    """Open a file for reading. ValueError if it is a pipe or a device, which may never end."""

    def without_waiting(name, flags):  # a pipe would wait for its writer
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    file = open(path, "rb", opener=without_waiting)  # noqa: SIM115  the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError(f"{path} is no regular file, but a pipe or a device: copy it into a file")
    return file


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


def hold(file, busy):
    """Take an open file for this process until it is closed. ValueError(busy) if another has it."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # not on Windows
        pass
    except OSError:
        raise ValueError(busy) from None
