"""train.py as a user runs it: real MNIST, kills, resumption, errors in one line."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from app.formats.npz import load_npz
from app.options.train_settings import DEFAULTS, LATER, complete
from app.runs.folder import RunFolder
from app.runs.resume import training_state
from app.runs.training import Training
from fast.cpu.threads import BLAS_VARIABLES
from fast.device import gpu_problem
from tests import scripts
from tests.scripts import ROOT, assert_one_line, rows, same_weights, until_finished
from train import net_and_data, run_epoch


def run(*options, **how):
    return scripts.run("train.py", *options, **how)


def test_real_mnist_end_to_end(tmp_path):
    """Two epochs on a sixth of MNIST: GG, then DG."""
    result = run("--limit", 10000, "--epochs", 2, "--out", tmp_path / "run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "run"
    files = {"settings.json", "metrics.csv", "curves.png", "checkpoint.npz", "model.npz", ".lock"}
    assert {path.name for path in folder.iterdir()} == files
    first, second = rows(folder)
    ess = [f"ess_{y}" for y in range(10)]
    assert list(first) == [
        "epoch",
        "stage",
        "loss",
        "ess",
        *ess,
        "test_error",
        "test_error_eq6",
        "lr",
        "seconds",
    ]
    assert (first["stage"], second["stage"]) == ("GG", "DG")
    assert float(first["test_error_eq6"]) < 6.5  # measured: 5.05 after GG alone
    assert float(first["test_error_eq6"]) < float(first["test_error"])  # Eq. 6 against argmax f
    assert float(second["test_error"]) < 6  # measured: 4.95
    assert 0.1 < float(first["ess"]) < 0.5
    assert float(first["ess"]) == pytest.approx(np.mean([float(first[e]) for e in ess]))
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["switch_epoch"] == 1
    assert f"test error {float(second['test_error']):.2f} %" in result.stdout
    assert load_npz(folder / "model.npz")["conv2.w"].shape == (5, 5, 20, 50)
    again = run("--out", folder, cwd=tmp_path)
    assert_one_line(again, 2, "already holds a run", "--resume")
    finished = run("--resume", folder)
    assert finished.returncode == 0
    assert "is finished" in finished.stdout


@pytest.mark.parametrize(
    "how", [signal.SIGKILL, signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_killed_runs_go_on_bit_identically(tmp_path, small_data, how):
    """Killed again and again, at any moment, in GG or DG: the weights and metrics are the same."""
    options = ["--data", small_data, "--epochs", 12, "--batch-size", 8, "--threads", 2]
    assert run(*options, "--out", tmp_path / "whole").returncode == 0
    folder = tmp_path / "killed"
    waits = np.random.default_rng(how).uniform(0.3, 1.2, 8)
    until_finished(how, waits, "train.py", *options, "--out", folder)
    same_weights(tmp_path / "whole", folder)
    for a, b in zip(rows(tmp_path / "whole"), rows(folder), strict=True):
        a.pop("seconds"), b.pop("seconds")
        assert a == b
    assert not [path for path in folder.iterdir() if path.name.startswith(".writing-")] or (
        how == signal.SIGKILL
    )


def test_held_out_images_are_not_learned_from(tmp_path, small_data):
    result = run("--data", small_data, "--held-out", 16, "--epochs", 2, "--out", tmp_path / "r")
    assert result.returncode == 0, result.stderr
    assert "80 images" in result.stdout
    assert "held-out error" in result.stdout
    assert "held-out error" in result.stderr
    assert "test error" not in result.stdout + result.stderr
    for row in rows(tmp_path / "r"):
        assert float(row["test_error"]) * 16 / 100 == pytest.approx(
            round(float(row["test_error"]) * 16 / 100)
        )


def test_runs_made_before_an_option_was_there(tmp_path, small_data):
    """A file without the later settings is of a run with their defaults, and goes on."""
    options = ["--data", small_data, "--epochs", 3, "--batch-size", 8, "--threads", 1]
    assert run(*options, "--out", tmp_path / "whole").returncode == 0
    small = net_and_data(complete({"data": str(small_data), "threads": 1}))
    settings = complete(
        {"data": str(small_data), "epochs": 3, "batch_size": 8, "threads": 1, "device": "cpu"}
    )
    old = {name: value for name, value in settings.items() if name not in LATER}
    run_folder = RunFolder(tmp_path / "old")
    run_folder.create(old)
    training = Training(settings, *small, np)
    run_epoch(training, run_folder, [])
    run_folder.save_checkpoint(*training_state(training))
    os.close(run_folder.lock)
    result = run("--resume", tmp_path / "old")
    assert result.returncode == 0, result.stderr
    same_weights(tmp_path / "whole", tmp_path / "old")


def test_few_labels_with_unlabelled_images(tmp_path, small_data):
    """Killed or not, the run is the same; the guesses are counted in GG, not in DG."""
    options = [
        "--data",
        small_data,
        "--labels",
        20,
        "--unlabeled-weight",
        1,
        "--epochs",
        8,
        "--switch-epoch",
        6,
        "--batch-size",
        8,
    ]
    result = run(*options, "--out", tmp_path / "whole")
    assert result.returncode == 0, result.stderr
    found = rows(tmp_path / "whole")
    shares = [row["guessed_right"] for row in found]
    assert shares[6:] == ["", ""]
    assert float(shares[0]) < float(shares[5])
    assert 0.5 < float(shares[5]) <= 1
    waits = np.random.default_rng(0).uniform(0.4, 1.0, 4)
    until_finished(signal.SIGKILL, waits, "train.py", *options, "--out", tmp_path / "killed")
    same_weights(tmp_path / "whole", tmp_path / "killed")
    assert [row["guessed_right"] for row in rows(tmp_path / "killed")] == shares


def test_an_unusual_size_is_said(tmp_path, small_data):
    result = run(
        "--net",
        "cifar10-quick",
        "--data",
        small_data,
        "--epochs",
        2,
        "--mode",
        "dg",
        "--pixel-mean",
        0,
        "--out",
        tmp_path / "r",
    )
    assert result.returncode == 0, result.stderr
    told = "cifar10-quick was made for images of 32 x 32 x 3, the images of "
    assert f"warning: {told}{small_data} are 28 x 28 x 1" in result.stderr


def test_settings_of_few_labels():
    assert complete({"labels": 100, "epochs": 2})["switch_epoch"] == 1
    assert (complete({"labels": 50})["epochs"], complete({"labels": 50})["switch_epoch"]) == (6, 5)
    with pytest.raises(ValueError, match="--unlabeled-weight goes with --labels only"):
        complete({"unlabeled_weight": 1.0})


def test_one_epoch_is_gg_where_nobody_asked_for_dg(tmp_path, small_data):
    assert complete({"epochs": 1})["mode"] == "gg"
    assert complete({"epochs": 1, "labels": 50})["mode"] == "gg"
    assert complete({"epochs": 1, "mode": "dg"})["mode"] == "dg"
    assert complete({"epochs": 2})["switch_epoch"] == 1
    for asked in ({"mode": "ggdg"}, {"switch_ess": 0.2}, {"finetune_lr": 0.1}):
        with pytest.raises(
            ValueError, match="leaves none for dg: raise --epochs, or choose --mode"
        ):
            complete({"epochs": 1, **asked})
    result = run("--data", small_data, "--epochs", 1, "--out", tmp_path / "r")
    assert result.returncode == 0
    assert "warning: with one epoch there is none for dg" in result.stderr
    assert [row["stage"] for row in rows(tmp_path / "r")] == ["GG"]


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, small_data):
    result = run(
        "--data",
        small_data,
        "--mode",
        "dg",
        "--lr",
        "1e17",
        "--epochs",
        3,
        "--out",
        tmp_path / "run",
    )
    assert_one_line(
        result,
        1,
        "at iteration 1 of DG in epoch 1",
        "layer",
        "smaller --lr",
        "before the first checkpoint",
    )


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--nett", "lenet"], ["--nett", "--help"]),
        (["--net", "vgg"], ["'vgg'", "lenet"]),
        (["--mode", "both"], ["'both'", "ggdg"]),
        (["--epochs", "0"], ["--epochs", "at least 1"]),
        (["--labels", "5"], ["--labels 5: at least one for each of the 10 classes"]),
        (["--labels", "70000"], ["--labels 70000: there are only 60000 training images"]),
        (["--labels", "50", "--unlabeled-weight", "-1"], ["--unlabeled-weight", "at least 0"]),
        (["--epochs", "many"], ["--epochs", "'many' is not a number"]),
        (["--lr", "-1"], ["--lr", "above 0"]),
        (["--lr", "nan"], ["--lr", "nan"]),
        (["--momentum", "1"], ["--momentum", "below 1"]),
        (["--switch-ess", "2"], ["--switch-ess", "at most 1"]),
        (["--epochs", "5", "--switch-epoch", "5"], ["leaves none for dg"]),
        (["--mode", "dg", "--switch-ess", "0.3"], ["goes with --mode ggdg only"]),
        (["--mode", "dgdg", "--switch-ess", "0.3"], ["goes with --mode ggdg only"]),
        (["--mode", "gg", "--finetune-lr", "0.3"], ["goes with --mode ggdg and dgdg only"]),
        (["--mode", "gg", "--gg-weight", "0.3"], ["--gg-weight goes with --mode joint only"]),
        (["--mode", "dg", "--gg-queue", "9"], ["--gg-queue goes with gg, ggdg and joint"]),
        (["--labels", "50", "--gg-queue", "9"], ["neither --mode joint nor --gg-queue"]),
        (["--held-out", "60000"], ["--held-out 60000: there are only 60000 training images"]),
        (["--data", "/no/such/folder"], ["no such folder: /no/such/folder"]),
        (["--data", str(ROOT / "docs")], ["found images/, ", "expected MNIST"]),
        (["--classes", "8"], ["label 9 of training image", "out of range"]),
        (["--limit", "5"], ["no training image of class"]),
        (["--out", "/proc/nowhere"], ["/proc/nowhere"]),
        (["--out", str(ROOT / "nn")], ["is not empty and holds no run"]),
        (["--out", str(ROOT / "README.md")], ["README.md"]),
        (["--resume", "/no/such/run"], ["nothing to resume", "/no/such/run"]),
        (["--resume"], ["nothing to resume under runs/"]),
    ],
)
def test_errors_are_one_line(tmp_path, options, parts):
    if "--out" not in options and "--resume" not in options:
        options = [*options, "--out", tmp_path / "run"]
    assert_one_line(run(*options, cwd=tmp_path), 2, *parts)


@pytest.mark.skipif(gpu_problem() is None, reason="a GPU is there")
def test_no_gpu_is_said(tmp_path):
    options = ["--device", "gpu", "--out", tmp_path / "run"]
    assert_one_line(run(*options), 2, "--device gpu", "use --device cpu")


def test_defaults_are_the_papers():
    paper = {
        "batch_size": 64,
        "lr": 0.01,
        "weight_decay": 0.0005,
        "momentum": 0.9,
        "epochs": 25,
        "finetune_lr": 0.003,
    }
    assert {name: DEFAULTS[name] for name in paper} == paper
    assert complete({})["switch_epoch"] == 16


def test_help_explains_each_option():
    text = run("--help").stdout
    for name in DEFAULTS:
        assert f"--{name.replace('_', '-')} " in text
    assert "examples:" in text


@pytest.mark.parametrize("first", ["import numpy", "import threadpoolctl"])
def test_all_cores_are_used_and_blas_keeps_to_one(first):
    """A process for each core, and BLAS on one thread each, whatever was imported first."""
    environment = {k: v for k, v in os.environ.items() if k not in BLAS_VARIABLES}
    code = f"""{first}
import threadpoolctl
from app.options.train_settings import DEFAULTS
from app.formats.net import open_network
from fast import engine
engine(open_network("lenet"), threads=DEFAULTS["threads"])
blas = [i["num_threads"] for i in threadpoolctl.threadpool_info() if i["user_api"] == "blas"]
print(DEFAULTS["threads"], *blas)"""
    asked = [sys.executable, "-c", code]
    result = subprocess.run(
        asked, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    cores, *blas = map(int, result.stdout.split())
    assert cores == len(os.sched_getaffinity(0))
    assert blas
    assert set(blas) == {1}


@pytest.mark.slow
def test_the_papers_run(tmp_path):
    """All of MNIST, 25 epochs of GG+DG: the paper's 0.78 %."""
    result = run("--out", tmp_path / "run")
    assert result.returncode == 0, result.stderr
    assert float(rows(tmp_path / "run")[-1]["test_error"]) <= 0.85
