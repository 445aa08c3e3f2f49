"""Files that are whole or not there, and files that one process holds for itself."""

import os
import tempfile


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
