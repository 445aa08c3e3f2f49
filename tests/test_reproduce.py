"""reproduce.py: real runs on small data, killed and gone on with, and its errors."""

import json
import signal
import subprocess
import time

import pytest

from app.paper.figures import CLASSES
from app.paper.tables import comparison
from tests import scripts
from tests.scripts import ROOT, assert_one_line, command

NAMES = (ROOT / "assets" / "imagenet-classes.txt").read_text().splitlines()


def run(*options, **how):
    return scripts.run("reproduce.py", *options, **how)


def test_a_killed_table_goes_on_where_it_was(tmp_path, small_data):
    asked = ["table1", "--quick", "--seeds", 2, "--data", small_data, "--out", tmp_path / "r"]
    process = subprocess.Popen(command("reproduce.py", *asked), stderr=subprocess.DEVNULL)
    place = tmp_path / "r" / "quick" / "trainings"
    while not list(place.glob("*/model.npz")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    first = {path: path.stat().st_mtime for path in place.glob("*/model.npz")}
    result = run(*asked)
    assert result.returncode == 0, result.stderr
    assert all(path.stat().st_mtime == when for path, when in first.items())
    numbers = json.loads((tmp_path / "r" / "quick" / "table1.json").read_text())
    assert {column: len(errors) for column, errors in numbers["LeNet"].items()} == {
        "DG": 2,
        "GG": 2,
        "GG+DG": 2,
    }
    told = f"Differs from the paper: the images of {small_data} instead of MNIST."
    for word in ("| LeNet | GG+DG |  |", "standard errors of the difference", "quick", told):
        assert word in result.stdout
    assert (tmp_path / "r" / "quick" / "table1.png").stat().st_size > 5000
    again = run(*asked)
    assert again.returncode == 0
    assert again.stdout == result.stdout
    other = run("table1", "--quick", "--seeds", 2, "--out", tmp_path / "r")
    assert_one_line_at_the_end(other, "was made with data", "choose another --out")


def test_table3_on_small_data(tmp_path, small_data):
    result = run("table3", "--quick", "--seeds", 1, "--data", small_data, "--out", tmp_path)
    assert_one_line_at_the_end(result, "--labels 1000: there are only 96 training images")


def assert_one_line_at_the_end(result, *parts):
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    last = result.stderr.rstrip().split("\n")[-1]
    assert last.startswith("reproduce.py: error: ")
    for part in parts:
        assert part in last


def test_figure3(tmp_path):
    result = run("figure3", "--quick", "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "quick" / "figure3.png").stat().st_size > 10_000


def test_figure4(tmp_path):
    result = run("figure4", "--quick", "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "| fc2 3 | 3 | 0." in result.stdout
    assert (tmp_path / "quick" / "figure4.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["figure6"], ["figure6 needs a trained AlexNet", ".onnx", ".safetensors"]),
        (["figure9"], ["'figure9'", "table1"]),
        (["table1", "--seeds", "0"], ["--seeds", "at least 1"]),
        (
            ["table2", "--data", "assets"],
            ["assets: the images seem to be in", "mnist; expected MNIST"],
        ),
        (["figure6", "--weights", "assets/lenet-dg.npz"], ["lenet-dg.npz"]),
        (["weights", "--quick"], ["weights has no use for --quick"]),
        (["figure4", "--seeds", "3"], ["figure4 has no use for --seeds"]),
        (["table1", "--weights", "x.onnx"], ["table1 has no use for --weights"]),
        (["figure7", "--weights", "README.md"], ["README.md is not a sound .npz file"]),
    ],
)
def test_errors_are_one_line(options, parts):
    assert_one_line(run(*options, cwd=ROOT), 2, *parts)


def test_classes_of_the_figures_are_imagenets():
    assert {name for names in CLASSES.values() for name in names} <= set(NAMES)


def test_comparison_in_standard_errors():
    text = comparison([0.7, 0.8], [0.9, 1.0])  # each sd 0.0707, so a standard error of 0.0707
    assert text == "GG+DG is 0.200 below DG: 2.8 standard errors of the difference"
    assert comparison([0.9, 1.0], [0.7, 0.8]).startswith("GG+DG is 0.200 above DG: 2.8")
