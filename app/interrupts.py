"""Ctrl-C while a script still loads its libraries: a line, and no traceback of theirs."""

import os
import sys


def interrupted(kind, error, trace):
    """sys.excepthook, for what comes up outside of console.fail_in_one_line."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    elif sys.stderr:
        print(f"{os.path.basename(sys.argv[0])}: error: interrupted", file=sys.stderr)


sys.excepthook = interrupted
