"""How every reader of this folder fails: in a line that names the file."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.formats.foreign import foreign_format

LONGEST = 600  # letters of a message: names in a broken file can be of any length


def one_line(error: Exception | str) -> str:
    """A message without line breaks, and no longer than a person reads."""
    text = " ".join(str(error).split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


@contextmanager
def reading(path: str | Path, kind: str) -> Iterator[None]:
    """Turn every failure to read `path` in this block into a ValueError that names the file.

    ValueErrors of this project say why. What a library raises on a broken file can be anything, and
    its text is not for the user. A failing disk or too little memory is no property of the file:
    OSError and MemoryError are passed on, except for a seek to a place that cannot be.
    """
    try:
        yield
        return
    except Exception as caught:  # noqa: BLE001  see above
        error, before = caught, caught.__context__
    if isinstance(before, OSError) and not error.__suppress_context__:
        error = before  # zipfile says "not a zip file" of a disk that fails
    if isinstance(error, MemoryError):
        raise error
    if isinstance(error, OSError) and error.errno != errno.EINVAL:
        error.filename = error.filename or str(path)
        raise error
    if kind != ".npy" and (name := foreign_format(path)):
        raise ValueError(f"{path} is not a {kind} file, but {name}")
    why = one_line(error) if isinstance(error, ValueError) else "it is cut off or damaged"
    raise ValueError(f"{path} is not a sound {kind} file: {why}")
