"""reproduce.py: real runs on small data, killed and gone on with, and its errors."""

import contextlib
import json
import os
import signal
import subprocess
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from app.formats.npz import save_npz
from app.paper.errors import comparison, error, history, paired
from app.paper.figures import CLASSES
from app.paper.jobs import Job, by_turns, why
from app.paper.natural import options, short
from app.paper.sampling import as_table, result_of, samples_of
from app.runs.folder import write_json
from tests import scripts
from tests.scripts import ROOT, assert_one_line, command
from tests.test_cifar import cifar_folder

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


def test_the_schedule_has_the_papers_proportions():
    asked = dict(pairwise(map(str, options("GG+DG", 0.002, 42, 50_000, 256))))
    assert (asked["--epochs"], asked["--switch-epoch"]) == ("42", "27")  # 70 and 45 in the paper
    assert asked["--lr-step"] == str(12 * 196)  # 196 batches an epoch; the paper: 20 epochs
    assert asked["--finetune-lr"] == "0.0006"


def test_table3_on_small_data(tmp_path, small_data):
    result = run("table3", "--quick", "--seeds", 1, "--data", small_data, "--out", tmp_path)
    told = "96 training images of 10 classes", "table3 takes from 100 to 10000 labels"
    assert_one_line(result, 2, *told)
    assert "goes on from there" not in result.stderr


def assert_one_line_at_the_end(result, *parts):
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    last = result.stderr.rstrip().split("\n")[-1]
    assert last.startswith("reproduce.py: error: ")
    for part in parts:
        assert part in last


def children(folder):
    """Process ids of trainings under a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_text()
            if "train.py" in words and str(folder) in words:
                found.append(int(path.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_handed_on_to_the_trainings(tmp_path, how):
    out = tmp_path / "r"
    process = subprocess.Popen(
        command("reproduce.py", "table1", "--quick", "--out", out),
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(out.glob("quick/trainings/*/settings.json")):
        assert process.poll() is None
        time.sleep(0.05)
    assert children(out)
    process.send_signal(how)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + how
    assert error.rstrip().split("\n")[-1].startswith("reproduce.py: error: interrupted; the same")
    assert not children(out)
    for log in out.glob("quick/trainings/*.log"):  # each had time to save what it had
        assert "Traceback" not in log.read_text()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc")
def test_a_training_that_does_not_answer_is_ended_by_a_second_signal(tmp_path):
    out = tmp_path / "r"
    process = subprocess.Popen(
        command("reproduce.py", "table1", "--quick", "--out", out),
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list(out.glob("quick/trainings/*/settings.json")):
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(children(out)[0], signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in error
    time.sleep(0.5)
    assert not children(out)


def test_what_ended_a_run_is_said(tmp_path):
    job = Job("train.py", [], tmp_path / "run")
    job.log.write_text("\repoch 1\repoch 2")
    ended = subprocess.run(["sh", "-c", "kill -SEGV $$"]).returncode
    assert why(SimpleNamespace(returncode=ended), job) == (
        "ended by the signal SIGSEGV, after: epoch 2"
    )
    assert why(SimpleNamespace(returncode=1), job) == "epoch 2"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "epoch,test_error_eq6,ess,seconds,test_error\n",
        "a,b\n1,2\n",
        "epoch,test_error_eq6\n1,7\n2,5.5\n",
        "epoch,test_error_eq6,ess,seconds,test_error\n1,7,1,9,9\n2,nan,1,9,9\n",
        "epoch,test_error_eq6,ess,seconds,test_error\n1,7,1,9,9\n2,7,1,9,nan\n",
        "epoch,test_error_eq6,ess,seconds,test_error\n1,7,1,9,9\n2,-1,1,9,9\n",
        "epoch,test_error_eq6,ess,seconds,test_error\n1,7,1,9,9\n2,1,1.5,9,9\n",
        "epoch,test_error_eq6,ess,seconds,test_error\n1,7,1,9,9\n2,1,1,inf,9\n",
        "epoch,test_error_eq6,ess,seconds,test_error\n1,5,1,9,9\n",
        "epoch,test_error_eq6,ess,seconds,test_error\n2,5,1,9,9\n",
        "\0",
        "x\n" * 99,
        "epoch,test_error_eq6,ess,seconds,test_error\n1,7,1,9,9\n2\n",
        "epoch,test_error_eq6,ess,seconds,test_error\n1,7,1,9,9\n2,fast,1,9,9\n",
    ],
)
def test_metrics_that_are_not_sound(tmp_path, text):
    job = Job("train.py", ["--epochs", 2], tmp_path)
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(ValueError, match="metrics.csv does not end with the test error of epoch 2"):
        error(job)
    (tmp_path / "metrics.csv").write_text(
        "epoch,test_error_eq6,ess,seconds,test_error\n1,7,1,9,9\n2,5.5,0.5,8,9\n"
    )
    assert error(job) == 5.5
    expected = {
        "epoch": [1, 2],
        "error": [7, 5.5],
        "error of f": [9, 9],
        "ess": [1, 0.5],
        "seconds": [9, 8],
    }
    assert history(job) == expected


def test_results_that_are_not_sound(tmp_path):
    job = Job("visualize.py", ["--chains", 2, "--iterations", 12], tmp_path)
    good = {
        "settings": job.settings,
        "seconds": 1.5,
        "units": [
            {"unit": 3, "acceptance": 0.9, "energy_error": None, "score": 7.0}
            | {"judgement": "samples"}
        ],
    }
    write_json(tmp_path / "diagnostics.json", good)
    assert result_of(job) == good
    assert as_table([job])[-1].endswith("| 2 | 0.90 | - | 7 | 0.75 | samples |")
    for edit in [
        [],
        None,
        {},
        good | {"settings": {}},
        good | {"seconds": "long"},
        good | {"units": []},
        good | {"units": [3]},
        good | {"units": None},
        good | {"units": [{"unit": 3}]},
        good | {"units": [good["units"][0] | {"score": "high"}]},
    ]:
        write_json(tmp_path / "diagnostics.json", edit)
        with pytest.raises(ValueError, match="diagnostics.json is not of this run"):
            result_of(job)
    (tmp_path / "diagnostics.json").write_text(50_000 * "[")
    with pytest.raises(ValueError, match="diagnostics.json is not sound JSON"):
        result_of(job)
    for samples in ({}, {"samples": np.zeros(3)}, {"samples": np.zeros((1, 3, 28, 28, 1))}):
        save_npz(tmp_path / "samples.npz", samples)
        with pytest.raises(ValueError, match="samples.npz is not of this run"):
            samples_of(job)


@pytest.mark.parametrize("text", ["[]", "3", "{}", '{"lr": [', 50_000 * "["])
def test_settings_of_other_runs_are_checked(tmp_path, text):
    place = tmp_path / "r" / "quick" / "trainings" / "LeNet-dg-seed0"
    place.mkdir(parents=True)
    (place / "settings.json").write_text(text)
    result = run("table1", "--quick", "--out", tmp_path / "r")
    assert_one_line_at_the_end(result, "settings.json")


def test_figure3(tmp_path):
    result = run("figure3", "--quick", "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "quick" / "figure3.png").stat().st_size > 10_000


def test_figure4(tmp_path):
    result = run("figure4", "--quick", "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "| fc2 3 | 2 | 0." in result.stdout
    assert (tmp_path / "quick" / "figure4.png").stat().st_size > 10_000


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


def test_classes_of_the_figures_are_imagenets():
    assert {name for names in CLASSES.values() for name in names} <= set(NAMES)


def test_runs_that_can_be_compared_are_done_one_after_the_other():
    found = by_turns([["dg 0", "dg 1"], ["ggdg 0", "ggdg 1"], ["joint 0"]])
    assert found == ["dg 0", "ggdg 0", "joint 0", "dg 1", "ggdg 1"]


def test_comparison_in_standard_errors_of_paired_differences():
    # Both seeds differ by 0.2 and 0.3: the mean is 0.25, its standard error 0.05.
    assert paired([0.7, 0.8], [0.9, 1.1]) == pytest.approx((-0.25, 0.05))
    told = "5.0 standard errors of the paired differences, 2 seeds"
    assert comparison([0.7, 0.8], [0.9, 1.1]) == f"GG+DG is 0.250 ± 0.050 below DG: {told}"
    above = comparison([0.9, 1.1], [0.7, 0.8], "GG", "joint")
    assert above == f"GG is 0.250 ± 0.050 above joint: {told}"
    assert comparison([0.7], [0.9]) == "GG+DG is 0.20 below DG, one seed"
    assert comparison([0.7], [0.7]) == "GG+DG is equal to DG: 0.70"
    with pytest.raises(ValueError, match="zip"):
        comparison([0.7, 0.8], [0.9])
