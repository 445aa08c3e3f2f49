"""train.py as a user runs it: real MNIST, kills, resumption, errors in one line."""

import json
import os
import signal
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

from app.data.images import Images
from app.formats.npz import load_npz
from app.options.train_settings import DEFAULTS, LATER, complete
from app.runs.folder import RunFolder
from app.runs.resume import restore_training, training_state
from app.runs.training import Training
from fast.cpu.threads import BLAS_VARIABLES
from fast.device import gpu_problem
from losses.generative import effective_sample_size, importance_weights, intercepts
from nn.dropout import Dropout
from nn.linear import Linear
from nn.network import Network
from nn.relu import ReLU
from tests import scripts
from tests.scripts import ROOT, assert_one_line, rows, same_weights, until_finished
from train import net_and_data, run_epoch, show


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


@pytest.mark.parametrize(
    "given",
    [
        {"switch_epoch": 1},
        {"mode": "dgdg", "switch_epoch": 1},
        {"switch_epoch": 2, "gg_queue": 40},  # not a multiple of the batch
        {"mode": "joint", "gg_weight": 0.3, "gg_queue": 10},  # less than a batch
    ],
    ids=["GG+DG", "DG+DG", "queue", "joint"],
)
def test_checkpoint_within_an_epoch_with_dropout(tmp_path, small_images, given):
    """Every step of GG and DG, dropout included, is the same after a checkpoint and a restore."""
    small = partial(small_training, small_images, epochs=3, **given)
    whole = small()
    run = RunFolder(tmp_path / "run")
    run.create({})
    while whole.epoch <= 3:
        run_epoch(whole, run, [])
    resumed = small()
    while resumed.epoch <= 3:
        run_epoch(resumed, run, ["a signal"])  # one step, then stop
        run.save_checkpoint(*training_state(resumed))
        resumed = small()
        run.load_checkpoint(partial(restore_training, resumed))
        if resumed.batch == 5:
            run_epoch(resumed, run, [])  # only the end of the epoch is left
    os.close(run.lock)
    for name, w in whole.network.params().items():
        np.testing.assert_array_equal(w, resumed.network.params()[name])
    for a, b in zip(whole.rows, resumed.rows, strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}


def test_modes_of_one_seed_start_alike_and_see_the_same_images(small_data):
    """Errors of one seed by two modes are a pair: initial weights and batches are the same."""
    modes = [{"mode": "dg"}, {"mode": "gg"}, {"mode": "ggdg"}, {"mode": "gg", "gg_queue": 50}]
    modes += [{"mode": "joint"}, {"mode": "ggdg", "switch_epoch": 1}, {"mode": "dgdg"}]
    seen = {}
    for seed in (3, 4):
        for given in modes:
            given = {"epochs": 3, "batch_size": 32, "seed": seed, "held_out": 10, **given}
            settings = complete({"data": str(small_data), "threads": 1, **given})
            network, train, test = net_and_data(settings)
            assert (len(train), len(test)) == (86, 10)
            weights = {name: w.copy() for name, w in network.params().items()}
            training, batches = Training(settings, network, train, test, np), []
            while training.epoch <= 3:
                for batch in training.batches():
                    batches.append(training.read_batch(batch))
                    training.step(*batches[-1])
                training.end_epoch()
            expected_weights, expected = seen.setdefault(seed, (weights, batches))
            for name, w in expected_weights.items():
                np.testing.assert_array_equal(weights[name], w)
            for a, b in zip(expected, batches, strict=True):
                np.testing.assert_array_equal(a[0], b[0])
                np.testing.assert_array_equal(a[1], b[1])
    one, other = (batches for _, batches in seen.values())
    assert any((a[1] != b[1]).any() for a, b in zip(one, other, strict=True))


def test_a_queue_holds_the_newest_scores(small_images):
    """The ESS that is told is a share of batch and queue, n + m images."""
    training = small_training(small_images, mode="gg", gg_queue=40, batch_size=16)
    scores, shares, bottom_up = np.empty((0, 3), np.float32), [], training.engine.bottom_up

    def remembering(x, train=False):
        nonlocal scores
        found = bottom_up(x, train=train)
        scores = np.concatenate([found, scores])
        return found

    training.engine.bottom_up = remembering
    for batch, (before, after) in enumerate([(0, 16), (16, 32), (32, 40), (40, 40)]):
        training.step(*training.read_batch(batch))
        assert training.queued == after
        np.testing.assert_array_equal(training.queue[:after], scores[:after])
        sample = scores[: 16 + before]
        shares.append(effective_sample_size(importance_weights(sample)) / len(sample))
        np.testing.assert_allclose(training.tally.ess, np.mean(shares, axis=0), rtol=1e-5)


def test_joint_trains_the_bias(small_images):
    """DG gives each class a bias, so argmax f is the class: no intercepts are added."""
    training = small_training(small_images, mode="joint", epochs=2)
    while training.epoch <= 2:
        run_epoch(training, RunFolder("unused"), [])
    assert [row["stage"] for row in training.rows] == ["joint", "joint"]
    assert all(row["test_error"] == row["test_error_eq6"] for row in training.rows)
    assert training.network.params()["fc2.b"].all()


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


def test_intercepts_come_from_the_images_learned_from(small_images):
    training = small_training(small_images, mode="gg", labels=20, unlabeled_weight=0.0)
    labelled = training.train.only(training.labelled)
    expected = intercepts(training.scores(labelled), training.priors)
    np.testing.assert_array_equal(training.intercepts(1024), expected)
    assert len(small_training(small_images, mode="gg", labels=20).learned_from) == 80


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


def test_the_bar_names_the_epoch_of_its_test_error(small_images):
    class Bar:
        def set_postfix(self, numbers, refresh):
            self.numbers = numbers

    training, bar = small_training(small_images, epochs=3, mode="dg"), Bar()
    run_epoch(training, RunFolder("unused"), [])
    show(training, bar)  # at the end of its own epoch
    assert list(bar.numbers) == ["loss", "ESS/n", "test error"]
    run_epoch(training, RunFolder("unused"), ["a signal"])
    show(training, bar)  # within the next one
    assert list(bar.numbers) == ["loss", "ESS/n", "test error of epoch 1"]


def test_switch_by_effective_sample_size(small_images):
    training = small_training(small_images, epochs=6, switch_epoch=5, switch_ess=0.999)
    stages = []
    while training.epoch <= 6:
        stages.append(training.stage)
        run_epoch(training, RunFolder("unused"), [])
    assert stages == ["GG"] + ["DG"] * 5
    assert training.rows[0]["ess"] < 0.999
    assert training.lr == 0.003


def test_dg_with_a_new_start(small_images):
    """DG+DG is DG up to the switch; there SGD begins anew at the rate of GG+DG's second part."""
    runs = {mode: small_training(small_images, epochs=3, mode=mode) for mode in ("dg", "dgdg")}
    rates = {mode: [] for mode in runs}
    for mode, training in runs.items():
        while training.epoch <= 3:
            rates[mode].append(training.rate())
            run_epoch(training, RunFolder("unused"), [])
    dg, dgdg = ([row["loss"] for row in training.rows] for training in runs.values())
    assert dg[:2] == dgdg[:2]
    assert dg[2] != dgdg[2]
    assert rates["dg"][:2] == rates["dgdg"][:2]
    assert rates["dgdg"][2] == 0.003


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
