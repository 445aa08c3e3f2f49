"""Files: opened without waiting, read in part, written whole or not at all, held by one process."""

import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

LONGEST_TEXT = 2**26  # bytes of a text file: a line of metrics.csv for each of 200,000 epochs
# What systems leave in folders, besides names that begin with a dot.
SYSTEM = {"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information"}
SYSTEM |= {"lost+found", "__pycache__"}


def open_regular(path: str | Path) -> BinaryIO:
    """Open a file for reading. ValueError if it is a pipe or a device, which may never end."""

    def without_waiting(name, flags):  # a pipe would wait for its writer
        return os.open(name, flags | getattr(os, "O_NONBLOCK", 0))

    file = open(path, "rb", opener=without_waiting)  # noqa: SIM115  the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError(f"{path} is no regular file, but a pipe or a device: copy it into a file")
    return file


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Let an OSError in this block name `path`: a failing read or write does not."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def read_text(path: str | Path) -> str:
    """The text of a small file in UTF-8. ValueError if it is something else."""
    with open_regular(path) as file, naming(path):
        contents = file.read(LONGEST_TEXT + 1)
    if len(contents) > LONGEST_TEXT:
        raise ValueError(f"{path}: more than {LONGEST_TEXT:,} bytes, expected a short text")
    try:
        return contents.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text in UTF-8: {error}") from None


def parse_json(text: str, name: str | Path) -> Any:
    """What a JSON text says. ValueError with this name if it is not sound."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{name} is not sound JSON: {error}") from None


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is a system's own, and no data."""
    return name.startswith(".") or name in SYSTEM


def files_in(folder: str | Path) -> list[Path]:
    """What is in a folder, by name, but for folders and hidden files."""
    with os.scandir(folder) as entries:
        return sorted(Path(e.path) for e in entries if not is_hidden(e.name) and not e.is_dir())


def folders_in(folder: str | Path) -> list[Path]:
    """The folders in a folder, by name, but for hidden ones and a system's own."""
    with os.scandir(folder) as entries:
        return sorted(Path(e.path) for e in entries if not is_hidden(e.name) and e.is_dir())


def write_whole(path: str | Path, write: Callable[[BinaryIO], Any]) -> None:
    """Let write(file) fill a temporary file beside path, then put it in path's place at once.

    Whoever opens path finds the old contents or the new, also after a crash or on a full disk.
    """
    path = os.fspath(path)
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path) or ".", prefix=".writing-")
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary:
            os.unlink(temporary)
        if isinstance(error, OSError):
            error.filename = path
        raise


def hold(path: str | Path, busy: str) -> int:
    """Take the file at `path` for this process, until the handle that is returned is closed.

    It is made if it is not there, and never replaced or removed: whoever comes later opens the
    same file. ValueError(busy) if another process has it.
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise ValueError(busy) from None
    except (ImportError, OSError):  # Windows, and file systems that know no locks
        pass
    return handle
