"""How the scripts speak: errors as one line, and Ctrl-C as a request rather than a blow."""

import argparse
import os
import signal
import sys
from contextlib import contextmanager

if sys.stderr is None:  # closed by who started us; progress bars want one
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115  for as long as the program runs


def one_line(error):
    """The message of an exception without line breaks, with the file an OSError is about."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    if isinstance(error, MemoryError):
        return f"out of memory: {error}"
    return " ".join(str(error).split())


def script():
    return os.path.basename(sys.argv[0])


def by(shape):
    """(28, 28, 1) as a person writes it."""
    return " x ".join(map(str, shape))


def warn(message):
    print(f"{script()}: warning: {message}", file=sys.stderr)


@contextmanager
def fail_in_one_line(status, kept=lambda: "", less=""):
    """End the program with `status` and one line on stderr when a known kind of error comes up.

    kept() says, at that moment, what was kept of the work; less, what to do if memory runs out.
    """
    try:
        yield
    except (ValueError, OSError, MemoryError, ArithmeticError, ImportError) as error:
        if os.environ.get("TRACEBACK"):  # for whoever mends this program
            raise
        hint = f"; {less}" if less and isinstance(error, MemoryError) else ""
        print(f"{script()}: error: {one_line(error)}{hint}{kept()}", file=sys.stderr)
        sys.exit(status)
    except KeyboardInterrupt:
        print(f"{script()}: error: interrupted{kept()}", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


@contextmanager
def stop_signals():
    """Yield a list that fills with the signals (Ctrl-C, kill) received; a second one interrupts.

    The work ends at the next point where its state is whole, instead of anywhere. Once a second
    one has interrupted, the program is about to end: more of them are ignored.
    """
    received = []

    def remember(number, frame):
        if received:
            for every in before:
                before[every] = signal.SIG_IGN
                signal.signal(every, signal.SIG_IGN)
            raise KeyboardInterrupt
        received.append(number)

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():  # who was told to stop is about to end
            signal.signal(number, signal.SIG_IGN if received else handler)


class OneLineParser(argparse.ArgumentParser):
    """argparse without the usage text in front of each error, and without abbreviated options.

    Options that were not given are absent from the result: the caller knows what was asked for.
    """

    def __init__(self, **options):
        super().__init__(
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **options,
        )

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (--help explains the options)\n")


def number(kind, low=None, high=None, above=None, below=None):
    """An argparse type: a finite int or float with low <= x <= high and above < x < below."""

    def convert(text):
        try:
            value = kind(text)
        except (ValueError, OverflowError):
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        shown = text if len(text) < 30 else f"{text[:30]}..."
        if not -1e18 <= value <= 1e18:
            raise argparse.ArgumentTypeError(f"{shown} is not a number up to 1e18")
        bounds = [
            (low, lambda bound: value >= bound, "at least"),
            (high, lambda bound: value <= bound, "at most"),
            (above, lambda bound: value > bound, "above"),
            (below, lambda bound: value < bound, "below"),
        ]
        broken = [
            f"{word} {bound}"
            for bound, test, word in bounds
            if bound is not None and not test(bound)
        ]
        if broken:
            raise argparse.ArgumentTypeError(f"{shown} must be {' and '.join(broken)}")
        return value

    return convert


def absolute_path(text):
    """An argparse type: a path that stays the same when a run is resumed from elsewhere."""
    return os.path.abspath(text)
