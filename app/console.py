"""How the scripts speak: errors as one line, and Ctrl-C as a request rather than a blow."""

import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

if sys.stderr is None:  # closed by who started us; progress bars want one
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115  for as long as the program runs

LONGEST_WORD, LONGEST_LINE = 400, 2000  # letters of a message: a file or a user may send any number
GONE = errno.EPIPE, errno.EIO  # who read our output has ended; the terminal is closed
STOPS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


def cut(text: str, most: int) -> str:
    """A text without its midst if it is longer than this."""
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 3 :]}"


def plain(text: Any) -> str:
    """A text as one line that any terminal can show and a person can read."""
    line = cut(" ".join(cut(word, LONGEST_WORD) for word in str(text).split()), LONGEST_LINE)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)


def one_line(error: BaseException) -> str:
    """The message of an exception as one line, with the file an OSError is about."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return plain(f"{where}{error.strerror}")
    if isinstance(error, MemoryError):
        return plain(f"out of memory: {error}")
    return plain(error)


def script() -> str:
    return os.path.basename(sys.argv[0])


def by(shape: tuple) -> str:
    """(28, 28, 1) as a person writes it."""
    return " x ".join(map(str, shape))


def warn(message: str) -> None:
    print(f"{script()}: warning: {plain(message)}", file=sys.stderr)


def fail(message: str) -> None:
    print(f"{script()}: error: {plain(message)}", file=sys.stderr)


class Unheard(io.RawIOBase):
    """The bytes of an output stream. That nobody reads them any more must not end the work."""

    def __init__(self, stream, warns):
        self.stream, self.warns = stream, warns  # which would close the file if it were let go
        self.raw = getattr(stream.buffer, "raw", stream.buffer)  # python -u has no buffer

    def writable(self):
        return True

    def fileno(self):
        return self.raw.fileno()

    def isatty(self):
        return self.raw.isatty()

    def write(self, data):
        try:
            return self.raw.write(data)
        except OSError as error:
            if self.warns and error.errno not in GONE:
                self.warns = False
                warn(f"the output cannot be written: {error.strerror}")
            return len(data)


def unheard(stream, warns: bool):
    """A text stream that survives its reader, and writes what its encoding has no letters for."""
    if stream is None or stream not in (sys.__stdout__, sys.__stderr__):  # of tests, a notebook
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(Unheard(stream, warns)),
        stream.encoding,
        "backslashreplace",
        line_buffering=stream.line_buffering or stream.write_through,
    )


sys.stdout, sys.stderr = unheard(sys.stdout, True), unheard(sys.stderr, False)


@contextmanager
def fail_in_one_line(
    status: int, kept: Callable[[], str] = lambda: "", less: str = ""
) -> Iterator[None]:
    """End the program with `status` and one line on stderr when a known kind of error comes up.

    kept() says, at that moment, what was kept of the work; less, what to do if memory runs out.
    KeyboardInterrupt may carry a signal.
    """
    try:
        yield
    except (ValueError, OSError, MemoryError, ArithmeticError, ImportError) as error:
        if os.environ.get("TRACEBACK"):  # for whoever mends this program
            raise
        hint = f"; {less}" if less and isinstance(error, MemoryError) else ""
        fail(f"{one_line(error)}{hint}{kept()}")
        sys.exit(status)
    except KeyboardInterrupt as stop:
        fail(f"interrupted{kept()}")
        sys.exit(128 + (stop.args[0] if stop.args else signal.SIGINT))


@contextmanager
def stop_signals() -> Iterator[list]:
    """Yield a list that fills with the signals (Ctrl-C, kill) received; a second one interrupts.

    The work ends at the next point where its state is whole, instead of anywhere. Once a second
    one has interrupted, the program is about to end: more of them are ignored. So is, as ever, what
    was ignored before, as under nohup.
    """
    received = []

    def remember(number, frame):
        if received:
            for every in before:
                before[every] = signal.SIG_IGN
                signal.signal(every, signal.SIG_IGN)
            raise KeyboardInterrupt(number)
        received.append(number)

    heard = [number for number in STOPS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, remember) for number in heard}
    try:
        yield received
    finally:
        for number, handler in before.items():  # who was told to stop is about to end
            signal.signal(number, signal.SIG_IGN if received else handler)
