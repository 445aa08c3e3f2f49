"""reproduce.py hands signals on to the trainings that it began."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.scripts import command

needs_proc = pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="no /proc to find the trainings in"
)


def children(folder):
    """Process ids of trainings under a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_text()
            if "train.py" in words and str(folder) in words:
                found.append(int(path.parent.name))
    return found


def begun(out):
    """A process of reproduce.py whose first training has begun."""
    process = subprocess.Popen(
        command("reproduce.py", "table1", "--quick", "--out", out),
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(out.glob("quick/trainings/*/settings.json")):
        assert process.poll() is None
        time.sleep(0.05)
    return process


@needs_proc
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_handed_on_to_the_trainings(tmp_path, how):
    out = tmp_path / "r"
    process = begun(out)
    assert children(out)
    process.send_signal(how)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + how
    assert error.rstrip().split("\n")[-1].startswith("reproduce.py: error: interrupted; the same")
    assert not children(out)
    for log in out.glob("quick/trainings/*.log"):  # each had time to save what it had
        assert "Traceback" not in log.read_text()


@needs_proc
def test_a_training_that_does_not_answer_is_ended_by_a_second_signal(tmp_path):
    out = tmp_path / "r"
    process = begun(out)
    os.kill(children(out)[0], signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in error
    time.sleep(0.5)
    assert not children(out)
