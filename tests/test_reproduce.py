"""reproduce.py: real runs on small data, killed and gone on with, and its errors."""

import json
import signal
import subprocess
import time

import numpy as np
import pytest

from app.paper.natural import short
from tests import scripts
from tests.scripts import ROOT, assert_one_line, command
from tests.test_cifar import cifar_folder


def run(*options, **how):
    return scripts.run("reproduce.py", *options, **how)


def assert_one_line_at_the_end(result, *parts):
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    last = result.stderr.rstrip().split("\n")[-1]
    assert last.startswith("reproduce.py: error: ")
    for part in parts:
        assert part in last


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
        "DG+DG": 2,
        "GG": 2,
        "GG+DG": 2,
    }
    told = f"Differs from the paper: the images of {small_data} instead of MNIST."
    for word in ("| LeNet | GG+DG |  |", "standard errors of the paired", "quick", told):
        assert word in result.stdout
    assert (tmp_path / "r" / "quick" / "table1.png").stat().st_size > 5000
    again = run(*asked)
    assert again.returncode == 0
    assert again.stdout == result.stdout
    (place / "LeNet-ggdg-seed1" / "model.npz").unlink()
    so_far = run(*asked, "--so-far")
    assert "LeNet: GG is" in so_far.stdout
    assert "LeNet: GG+DG is" in so_far.stdout
    assert "DG, one seed." in so_far.stdout
    assert not (place / "LeNet-ggdg-seed1" / "model.npz").exists()
    other = run("table1", "--quick", "--seeds", 2, "--out", tmp_path / "r")
    assert_one_line_at_the_end(other, "was made with data", "choose another --out")


@pytest.mark.slow
def test_natural_images(tmp_path):
    """CIFAR-10's files: rates by held-out images, written down before a test image is looked at."""
    folder = cifar_folder(tmp_path / "cifar", np.random.default_rng(0), count=60)
    asked = ["table2", "--quick", "--data", folder, "--out", tmp_path / "r"]
    process = subprocess.Popen(command("reproduce.py", *asked), stderr=subprocess.DEVNULL)
    out = tmp_path / "r" / "quick"
    while not (out / "table2-rates.json").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for settings in out.glob("table2/*/settings.json"):  # none has looked at the test images
        made = json.loads(settings.read_text())
        assert made["held_out"] == (12 if "rate-" in str(settings) else None)
    assert not [path for path in out.glob("table2/*/model.npz") if "rate-" not in str(path)]
    rates = (out / "table2-rates.json").read_text()
    too_early = run(*asked, "--so-far")
    assert_one_line_at_the_end(too_early, "no run of table2 is finished under", "without --so-far")
    result = run(*asked)
    assert result.returncode == 0, result.stderr
    assert (out / "table2-rates.json").read_text() == rates
    numbers = json.loads((out / "table2.json").read_text())
    chosen = {kind: found["rate"] for kind, found in numbers["rates"].items()}
    assert numbers["rates"] == json.loads(rates)
    for kind, found in numbers["rates"].items():
        tried = found["held-out errors"]
        assert tried[f"{found['rate']:g}"] == min(tried.values())
        made = json.loads(
            (out / "table2" / f"{short(kind)}-batch256-seed0/settings.json").read_text()
        )
        assert (made["lr"], made["epochs"], made["held_out"]) == (chosen[kind], 3, None)
        if made["mode"] in ("ggdg", "dgdg"):
            assert made["switch_epoch"] == 2
            assert made["finetune_lr"] == pytest.approx(0.3 * chosen[kind])
        assert len(numbers["errors"][kind]) == 1
        assert len(numbers["runs"][f"{short(kind)}-batch256-seed0"]["ess"]) == 3
    assert numbers["errors with batch 64"].keys() == {"DG", "GG", "GG+DG"}
    assert "| GG+DG, queue | " in result.stdout
    assert "27 runs, 0.0 hours" in result.stdout
    (out / "table2" / "ggdg-batch256-seed0" / "model.npz").unlink()
    so_far = run(*asked, "--so-far").stdout
    assert "26 runs of 27, 0.0 hours" in so_far
    assert f"| GG+DG | {chosen['GG+DG']:g} |" in so_far
    assert "GG+DG is" not in so_far
    assert (out / "table2.png").stat().st_size > 10_000


def test_table3_on_small_data(tmp_path, small_data):
    result = run("table3", "--quick", "--seeds", 1, "--data", small_data, "--out", tmp_path)
    told = "96 training images of 10 classes", "table3 takes from 100 to 10000 labels"
    assert_one_line(result, 2, *told)
    assert "goes on from there" not in result.stderr


def test_figure3(tmp_path):
    result = run("figure3", "--quick", "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "quick" / "figure3.png").stat().st_size > 10_000


def test_figure4(tmp_path):
    result = run("figure4", "--quick", "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "| fc2 3 | 2 | 0." in result.stdout
    assert (tmp_path / "quick" / "figure4.png").stat().st_size > 10_000


@pytest.mark.parametrize("text", ["[]", "3", "{}", '{"lr": [', 50_000 * "["])
def test_settings_of_other_runs_are_checked(tmp_path, text):
    place = tmp_path / "r" / "quick" / "trainings" / "LeNet-dg-seed0"
    place.mkdir(parents=True)
    (place / "settings.json").write_text(text)
    result = run("table1", "--quick", "--out", tmp_path / "r")
    assert_one_line_at_the_end(result, "settings.json")


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["figure6"], ["figure6 needs a trained classifier of ImageNet", ".onnx", ".safetensors"]),
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
        (["table1", "--", "--size", "99"], ["table1 has no use for options behind --"]),
        (["figure3", "--", "--size", "99"], ["options behind -- need --weights: --size 99"]),
        (["figure6", "--weights", "x.onnx", "--", "--sice", "9"], ["arguments: --sice 9"]),
        (["figure7", "--weights", "README.md"], ["README.md is not a sound .npz file"]),
    ],
)
def test_errors_are_one_line(options, parts):
    assert_one_line(run(*options, cwd=ROOT), 2, *parts)
