"""Running the scripts as a user does, and what an error must look like."""

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from app.formats.npz import load_npz

ROOT = Path(__file__).resolve().parent.parent


def command(script, *options):
    return [sys.executable, str(ROOT / script), "--device", "cpu", *map(str, options)]


def run(script, *options, cwd=None, **how):
    return subprocess.run(
        command(script, *options), cwd=cwd, capture_output=True, text=True, timeout=900, **how
    )


def assert_one_line(result, status, *parts):
    """The last line on stderr, and with status 2 the only one, is an error with these parts."""
    assert result.returncode == status, result.stderr
    lines = result.stderr.rstrip("\n").split("\n")
    if status == 2:
        assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    assert ".py: error: " in lines[-1]
    for part in parts:
        assert part in lines[-1]


def rows(folder):
    with open(folder / "metrics.csv") as file:
        return list(csv.DictReader(file))


def until_finished(how, waits, script, *options):
    """Run a script with --resume, sent the signal `how` after each wait, until it finishes."""
    for wait in [*waits, 100]:
        process = subprocess.Popen(
            command(script, *options, "--resume"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        start = time.monotonic()
        while process.poll() is None and time.monotonic() - start < wait:
            time.sleep(0.01)
        process.send_signal(how)
        _, error = process.communicate(timeout=60)
        if process.returncode == 0:
            return
        if how != signal.SIGKILL and "go on with" in error:
            assert process.returncode == 128 + how
            assert f"python {script} --resume" in error
    raise AssertionError(f"not finished: {error}")


def same_weights(a, b):
    a, b = load_npz(a / "model.npz"), load_npz(b / "model.npz")
    assert set(a) == set(b)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])
