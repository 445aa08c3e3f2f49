"""The benchmarks run: each prints its table, with the fewest rounds."""

import subprocess
import sys

import pytest

from tests.scripts import ROOT


@pytest.mark.parametrize(
    ("options", "row"),
    [
        (["sampling", "--chains", "2", "--iterations", "1"], "| 2 | "),
        (["lenet", "--rounds", "1"], "| df/dx, 1,024 images | "),
    ],
    ids=["sampling", "lenet"],
)
def test_a_benchmark_prints_its_table(options, row):
    asked = [sys.executable, "-m", f"benchmarks.{options[0]}", *options[1:]]
    result = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert row in result.stdout
