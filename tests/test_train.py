"""train.py as a user runs it: real MNIST, kills, resumption, and every error in one line."""

import json
import os
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from data.images import Images
from losses.generative import intercepts
from nn.backend import gpu_problem
from nn.dropout import Dropout
from nn.linear import Linear
from nn.network import Network
from nn.relu import ReLU
from nn.threads import BLAS_VARIABLES
from nn.weights import load_npz
from report.run_folder import RunFolder
from report.train_settings import DEFAULTS, complete
from tests import scripts
from tests.scripts import ROOT, assert_one_line, command, rows, until_finished
from train import run_epoch
from training import Training


def run(*options, **how):
    return scripts.run("train.py", *options, **how)


def same_weights(a, b):
    a, b = load_npz(a / "model.npz"), load_npz(b / "model.npz")
    assert set(a) == set(b)
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


def test_real_mnist_end_to_end(tmp_path):
    """Two epochs on a sixth of MNIST: GG, then DG."""
    result = run("--limit", 10000, "--epochs", 2, "--out", tmp_path / "run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "run"
    files = {"settings.json", "metrics.csv", "curves.png", "checkpoint.npz", "model.npz"}
    assert {path.name for path in folder.iterdir()} == files
    first, second = rows(folder)
    ess = [f"ess_{y}" for y in range(10)]
    assert list(first) == ["epoch", "stage", "loss", "ess", *ess, "test_error",
                           "test_error_eq6", "lr", "seconds"]  # fmt: skip
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


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
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


def small_training(small_images, **given):
    """A Training of a net with dropout instead of LeNet, checkpointing what LeNet would."""
    settings = complete({"threads": 2, "batch_size": 16, "lr": 0.1, **given})
    layers = [("fc1", Linear(20)), ("relu", ReLU()), ("drop", Dropout(0.5)), ("fc2", Linear(3))]
    network = Network(layers, (4, 4, 1), np.random.default_rng(0))
    return Training(settings, network, small_images, small_images, np)


@pytest.fixture(params=[4, 5], ids=["whole", "cut and mirrored"])
def small_images(request):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 80)
    images = rng.integers(0, 50, (80, 4, request.param, 1)) + 60 * labels[:, None, None, None]
    return Images(images.astype(np.uint8), labels, 3, size=(4, 4))


def test_checkpoint_within_an_epoch_with_dropout(tmp_path, small_images):
    """Every step of GG and DG, dropout included, is the same after a checkpoint and a restore."""
    whole = small_training(small_images, epochs=3, switch_epoch=1)
    run = RunFolder(tmp_path / "run")
    run.create({})
    while whole.epoch <= 3:
        run_epoch(whole, run, [])
    resumed = small_training(small_images, epochs=3, switch_epoch=1)
    while resumed.epoch <= 3:
        run_epoch(resumed, run, ["a signal"])  # one step, then stop
        run.save_checkpoint(*resumed.state())
        resumed = small_training(small_images, epochs=3, switch_epoch=1)
        run.load_checkpoint(resumed.restore)
        if resumed.batch == 5:
            run_epoch(resumed, run, [])  # only the end of the epoch is left
    run.lock.close()
    for name, w in whole.network.named().items():
        np.testing.assert_array_equal(w, resumed.network.named()[name])
    for a, b in zip(whole.rows, resumed.rows, strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}


def test_intercepts_are_in_the_bias_after_gg(small_images):
    training = small_training(small_images, mode="gg", epochs=2)
    while training.epoch <= 2:
        run_epoch(training, RunFolder("unused"), [])
    scores = training.scores(small_images).astype(float)
    log_mean = np.log(np.exp(scores).mean(axis=0))
    np.testing.assert_allclose(log_mean, np.log(training.priors), atol=1e-5)
    wrong = 100 * np.mean(scores.argmax(axis=1) != small_images.labels)
    assert training.rows[-1]["test_error_eq6"] == pytest.approx(wrong)


def test_few_labels_with_unlabelled_images(tmp_path, small_data):
    """Killed or not, the run is the same; the guesses are counted in GG, not in DG."""
    options = ["--data", small_data, "--labels", 20, "--unlabeled-weight", 1, "--epochs", 8,
               "--switch-epoch", 6, "--batch-size", 8]  # fmt: skip
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


def test_intercepts_come_from_the_images_learned_from(small_images):
    training = small_training(small_images, mode="gg", labels=20, unlabeled_weight=0.0)
    labelled = training.train.only(training.labelled)
    expected = intercepts(training.scores(labelled), training.priors)
    np.testing.assert_array_equal(training.intercepts(1024), expected)
    assert len(small_training(small_images, mode="gg", labels=20).learned_from) == 80


def test_an_unusual_size_is_said(tmp_path, small_data):
    result = run("--net", "cifar10-quick", "--data", small_data, "--epochs", 2, "--mode", "dg",
                 "--pixel-mean", 0, "--out", tmp_path / "r")  # fmt: skip
    assert result.returncode == 0, result.stderr
    told = "cifar10-quick was made for images of 32 x 32 x 3, the images of "
    assert f"warning: {told}{small_data} are 28 x 28 x 1" in result.stderr


def test_settings_of_few_labels():
    assert complete({"labels": 100, "epochs": 2})["switch_epoch"] == 1
    assert (complete({"labels": 50})["epochs"], complete({"labels": 50})["switch_epoch"]) == (6, 5)
    with pytest.raises(ValueError, match="--unlabeled-weight goes with --labels only"):
        complete({"unlabeled_weight": 1.0})


def test_switch_by_effective_sample_size(small_images):
    training = small_training(small_images, epochs=6, switch_epoch=5, switch_ess=0.999)
    stages = []
    while training.epoch <= 6:
        stages.append(training.stage)
        run_epoch(training, RunFolder("unused"), [])
    assert stages == ["GG"] + ["DG"] * 5
    assert training.rows[0]["ess"] < 0.999
    assert training.sgd.lr == 0.003


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, small_data):
    result = run("--data", small_data, "--mode", "dg", "--lr", "1e17", "--epochs", 3,
                 "--out", tmp_path / "run")  # fmt: skip
    assert_one_line(result, 1, "at iteration 1 of DG in epoch 1", "layer", "smaller --lr",
                    "before the first checkpoint")  # fmt: skip


def test_the_last_good_checkpoint_survives_a_full_disk(tmp_path, small_data):
    options = ["--data", small_data, "--epochs", 4, "--threads", 1]
    assert run(*options, "--out", tmp_path / "whole").returncode == 0
    folder = tmp_path / "run"
    process = subprocess.Popen(
        command("train.py", *options, "--out", folder), stderr=subprocess.PIPE
    )
    while not (folder / "checkpoint.npz").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    process.communicate()

    def no_large_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    before = (folder / "checkpoint.npz").read_bytes()
    result = run("--resume", folder, preexec_fn=no_large_files)
    assert_one_line(result, 1, "File too large", "last good checkpoint is")
    assert (folder / "checkpoint.npz").read_bytes() == before
    assert run("--resume", folder).returncode == 0
    same_weights(tmp_path / "whole", folder)


def test_a_full_disk_at_the_start(tmp_path, small_data):
    def no_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    result = run("--data", small_data, "--out", tmp_path / "run", preexec_fn=no_files)
    assert_one_line(result, 2, "File too large")


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
        (["--mode", "dg", "--switch-ess", "0.3"], ["goes with --mode ggdg"]),
        (["--data", "/no/such/folder"], ["no such folder: /no/such/folder"]),
        (["--data", str(ROOT / "docs")], ["no file like train-images"]),
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


def test_a_failed_start_leaves_nothing_behind(tmp_path):
    """A command with a mistake in it can be given again, corrected, with the same --out."""
    folder = tmp_path / "run"
    assert run("--data", "/no/such/folder", "--out", folder).returncode == 2
    assert not folder.exists()


def test_resume_refuses_other_settings_and_broken_files(tmp_path, small_data):
    folder = tmp_path / "run"
    options = ["--data", small_data, "--epochs", 2, "--out", folder]
    assert run(*options).returncode == 0
    (folder / "model.npz").unlink()
    result = run("--resume", folder, "--lr", "0.02")
    assert_one_line(result, 2, "lr 0.01", "0.02", "keeps its settings")
    good = (folder / "checkpoint.npz").read_bytes()
    (folder / "checkpoint.npz").write_bytes(good[: len(good) // 2])
    assert_one_line(run("--resume", folder), 2, "checkpoint.npz is not a sound .npz file")
    with open(folder / "checkpoint.npz", "wb") as file:
        np.savez(file, state="{}")
    assert_one_line(run("--resume", folder), 2, "checkpoint.npz is not of this run")
    (folder / "checkpoint.npz").write_bytes(good)
    (folder / "settings.json").write_text("{")
    assert_one_line(run("--resume", folder), 2, "settings.json is not sound JSON")


def test_broken_weights_are_never_kept(tmp_path, small_data):
    """The last step of an epoch can break them after its loss was finite."""
    result = run("--data", small_data, "--mode", "dg", "--lr", "1e17", "--epochs", 1,
                 "--batch-size", 96, "--out", tmp_path / "run")  # fmt: skip
    assert_one_line(result, 1, "not finite after iteration 1 of DG in epoch 1")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"settings.json"}


def test_a_run_killed_between_its_last_files_is_completed(tmp_path, small_data):
    folder = tmp_path / "run"
    assert run("--data", small_data, "--epochs", 2, "--out", folder).returncode == 0
    kept = {name: (folder / name).read_bytes() for name in ("model.npz", "metrics.csv")}
    for name in kept:
        (folder / name).unlink()
    (folder / ".writing-abc").write_bytes(b"half a file")
    assert run("--resume", folder).returncode == 0
    assert kept == {name: (folder / name).read_bytes() for name in kept}
    assert not (folder / ".writing-abc").exists()


def test_folders_and_checkpoints_of_other_runs(tmp_path, small_data):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder, seed in ((ours, 0), (theirs, 1)):
        options = ["--data", small_data, "--epochs", 2, "--seed", seed]
        assert run(*options, "--out", folder).returncode == 0
        (folder / "model.npz").unlink()
    (ours / "checkpoint.npz").write_bytes((theirs / "checkpoint.npz").read_bytes())
    assert_one_line(run("--resume", ours), 2, "checkpoint.npz is not of this run", "other settings")
    assert_one_line(run("--resume", ours, "--out", theirs), 2, "name two folders")
    result = scripts.run("visualize.py", "--resume", theirs)
    assert_one_line(result, 2, "holds the run of another program")
    for text in ("[]", "3", "{}"):
        (ours / "settings.json").write_text(text)
        assert_one_line(run("--resume", ours), 2, "holds the run of another program")


def test_one_process_at_a_time(tmp_path, small_data):
    options = ["--data", small_data, "--epochs", 1000, "--mode", "dg", "--out", tmp_path / "run"]
    process = subprocess.Popen(command("train.py", *options), stderr=subprocess.PIPE)
    while not (tmp_path / "run" / "checkpoint.npz").exists():
        time.sleep(0.01)
    assert_one_line(run("--resume", tmp_path / "run"), 2, "another process is at work in")
    for _ in range(3):  # an impatient Ctrl-C
        process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in error


def test_defaults_are_the_papers():
    paper = {"batch_size": 64, "lr": 0.01, "weight_decay": 0.0005, "momentum": 0.9, "epochs": 25,
             "finetune_lr": 0.003}  # fmt: skip
    assert {name: DEFAULTS[name] for name in paper} == paper
    assert complete({})["switch_epoch"] == 16


def test_default_folder_is_new_each_time(tmp_path, small_data):
    options = ["--data", small_data, "--epochs", 2]
    for _ in range(2):
        assert run(*options, cwd=tmp_path).returncode == 0
    names = {path.name for path in (tmp_path / "runs").iterdir()}
    assert names == {"lenet-ggdg-seed0", "lenet-ggdg-seed0-2"}


def test_help_explains_each_option():
    text = run("--help").stdout
    for name in DEFAULTS:
        assert f"--{name.replace('_', '-')} " in text
    assert "examples:" in text


def test_all_cores_are_used():
    """nn is imported before NumPy, so that the batch is split and BLAS left on one thread."""
    environment = {k: v for k, v in os.environ.items() if k not in BLAS_VARIABLES}
    code = "import train; print(train.nn.threads.THREADS)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment,
                            capture_output=True, text=True, check=True)  # fmt: skip
    assert int(result.stdout) == len(os.sched_getaffinity(0))


@pytest.mark.slow
def test_the_papers_run(tmp_path):
    """All of MNIST, 25 epochs of GG+DG: the paper's 0.78 %."""
    result = run("--out", tmp_path / "run")
    assert result.returncode == 0, result.stderr
    assert float(rows(tmp_path / "run")[-1]["test_error"]) <= 0.85
