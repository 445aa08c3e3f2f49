"""argparse as the scripts use it: errors in one line, numbers within bounds, settings of a file."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

from app import __version__
from app.console import plain


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
        self.add_argument("--version", action="version", version=f"%(prog)s {__version__}")

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {plain(message)} (--help explains the options)\n")

    def parse_args(self, args=None, namespace=None):
        for word in sys.argv[1:] if args is None else args:
            if word.startswith("--") and word.endswith("=--"):  # argparse would make it a list
                self.error(f"argument {word[:-3]}: expected one argument")
        return super().parse_args(args, namespace)

    def checked(self, settings: dict[str, Any], unset: dict[str, Any]) -> dict[str, Any]:
        """Settings from a file, each held to what its option takes, and what it makes of them.

        unset: {name: None or False} of options that may be absent. ValueError names the first
        setting that no command line could have given.
        """

        def refuse(message):
            raise ValueError(message)

        absent = [n for n, v in settings.items() if v in (None, False) and v is unset.get(n, ...)]
        given = {name: value for name, value in settings.items() if name not in absent}
        words = []
        for name, value in given.items():
            text = ",".join(map(str, value)) if isinstance(value, list) else value
            option = f"--{name.replace('_', '-')}"
            words.append(option if value is True else f"{option}={text}")
        self.error = refuse
        found = vars(self.parse_args(words))
        for name, value in given.items():
            if found[name] != value:
                raise ValueError(f"{name} is {value!r}, which its option does not take")
        return settings | found


def number(
    kind: type,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Callable[[str], float]:
    """An argparse type: a finite int or float with low <= x <= high and above < x < below."""

    def convert(text):
        try:
            value = kind(text)
        except (ValueError, OverflowError):
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not -1e18 <= value <= 1e18:
            raise argparse.ArgumentTypeError(f"{text} is not a number up to 1e18")
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
            raise argparse.ArgumentTypeError(f"{text} must be {' and '.join(broken)}")
        return value

    return convert


def named_path(text: str) -> str:
    """An argparse type: the path of a file or folder, as it was given."""
    if not text:
        raise argparse.ArgumentTypeError("the name of a file or folder must not be empty")
    return text


def absolute_path(text: str) -> str:
    """An argparse type: a path that stays the same when a run is resumed from elsewhere."""
    return os.path.abspath(named_path(text))
