"""The measures of benchmarks/measures.py on images of which the answer is known."""

import json
import subprocess
import sys

import numpy as np
import pytest

from app.data.load import load
from benchmarks.measures import frechet, nearest, normalised
from tests import scripts
from tests.scripts import ROOT


def test_frechet_distance_of_gaussians():
    """|m|^2 + sum of (s - s')^2 for independent numbers; 0 for the same; symmetric."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((20000, 5))
    b = rng.standard_normal((20000, 5)) * [1, 2, 3, 1, 1] + [3, 0, 0, 0, 0]
    assert frechet(a, b) == pytest.approx(9 + 1 + 4, rel=0.05)
    assert frechet(a, b) == pytest.approx(frechet(b, a), rel=1e-6)
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)
    turned = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    assert frechet(a @ turned, b @ turned) == pytest.approx(frechet(a, b), rel=1e-6)


def test_the_nearest_training_image_of_a_copy_is_itself():
    train, _ = load()
    number, distance = nearest(train.batch(slice(7, 12))[0] * 3 - 1, normalised(train.images))
    assert number.tolist() == [7, 8, 9, 10, 11]
    assert distance.max() < 1e-2  # float32


def test_the_command(tmp_path):
    """A folder of visualize.py, judged: all numbers are there, in their order."""
    options = ["--unit", "0-9", "--chains", 2, "--iterations", 12, "--out", tmp_path / "v"]
    result = scripts.run("visualize.py", *options)
    assert result.returncode == 0, result.stderr
    asked = [sys.executable, "-m", "benchmarks.judge", str(tmp_path / "v")]
    asked += ["--out", str(tmp_path / "judge.md")]
    result = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "v" / "judgement.json").read_text())
    assert found["count"] == 20
    distances = found["frechet"]
    assert 0 < distances["floor"] < distances["start"] < distances["samples"]  # DG goes too far
    assert found["test_error"] < 1.5  # LeNet's
    assert found["nearest"]["samples"] > 0
    assert (tmp_path / "v" / "nearest.png").exists()
    row = (tmp_path / "judge.md").read_text().splitlines()[-1]
    assert row in result.stdout
    assert row.startswith("| v | 20 | ")
    assert row.endswith(f"| {found['test_error']:.2f} % |")
