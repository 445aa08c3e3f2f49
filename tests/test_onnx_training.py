"""Training goes on with a ResNet from an ONNX file."""

import signal

import numpy as np
import pytest

from app.data import cifar
from fast import engine
from tests.gradcheck import relative_error
from tests.onnx_models import CONSTANTS, CONV, EXPORTED, imported, save
from tests.scripts import assert_one_line, rows, run, same_weights, until_finished

RESNET = EXPORTED / "resnet_cifar.onnx"
TURNED = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}  # a weight's axes, from PyTorch's order to ours


@pytest.mark.parametrize("how", ["plain", "engine", "processes"])
def test_gradients_are_pytorchs(how):
    images = np.random.default_rng(0).standard_normal((4, 3, 32, 32), np.float32)
    x = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    dy = np.random.default_rng(1).standard_normal((4, 10), np.float32)
    threads = 2 if how == "processes" else 1
    net, grads = engine(imported(RESNET), threads=threads, images=4, plain=how == "plain"), {}
    scores = net.bottom_up(x)
    dx = net.top_down(dy, grads)
    with np.load(EXPORTED / "resnet_cifar.npz") as arrays:
        theirs = dict(arrays)
    assert relative_error(scores, theirs.pop("scores")) < 1e-5
    assert relative_error(dx, theirs.pop("dx").transpose(0, 2, 3, 1)) < 1e-5
    assert len(theirs) == len(grads)
    for name, grad in theirs.items():
        ours = grads[name.replace("weight", "w").replace("bias", "b")]
        assert relative_error(ours, grad.transpose(TURNED[grad.ndim])) < 1e-5, name


@pytest.fixture
def pictures(tmp_path):
    """A folder of CIFAR-10's files: a bright bar whose place and colour tell the class."""
    rng, folder = np.random.default_rng(0), tmp_path / "pictures"
    folder.mkdir()
    for name in ("data_batch_1", "data_batch_2", "test_batch"):
        labels = np.arange(100) % 10
        images = rng.integers(0, 100, (100, 3, 32, 32), np.uint8)
        for image, y in zip(images, labels, strict=True):
            image[y % 3, 3 * y : 3 * y + 5] += 150
        records = np.hstack([labels[:, None], images.reshape(100, -1)]).astype(np.uint8)
        assert records.shape[1] == cifar.RECORD
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    return folder


OPTIONS = ["--batch-size", 20, "--threads", 2, "--pixel-mean", "image", "--pixel-scale", 0.02]


@pytest.mark.parametrize(
    "options",
    [
        ["dg"],
        ["gg"],
        pytest.param(["dg", "--plain"], marks=pytest.mark.slow),
        pytest.param(["gg", "--plain"], marks=pytest.mark.slow),
    ],
)
def test_the_loss_falls(tmp_path, pictures, options):
    options = ["--mode", *options, "--epochs", 5, "--lr", 0.02, *OPTIONS]
    result = run("train.py", "--net", RESNET, "--data", pictures, *options, "--out", tmp_path / "r")
    assert result.returncode == 0, result.stderr
    losses = [float(row["loss"]) for row in rows(tmp_path / "r")]
    assert losses[-1] < losses[0] - 1
    assert float(rows(tmp_path / "r")[-1]["test_error_eq6"]) < 80  # of 90 by guessing


@pytest.mark.parametrize(
    "how", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_killed_runs_go_on_bit_identically(tmp_path, pictures, how):
    options = ["--net", RESNET, "--data", pictures, "--mode", "ggdg", "--epochs", 8]
    options += ["--switch-epoch", 4, *OPTIONS]
    assert run("train.py", *options, "--out", tmp_path / "whole").returncode == 0
    waits = np.random.default_rng(how).uniform(0.5, 1.5, 5)
    until_finished(how, waits, "train.py", *options, "--out", tmp_path / "killed")
    same_weights(tmp_path / "whole", tmp_path / "killed")
    for a, b in zip(rows(tmp_path / "whole"), rows(tmp_path / "killed"), strict=True):
        a.pop("seconds"), b.pop("seconds")
        assert a == b


def test_intercepts_need_a_bias(tmp_path, pictures):
    """Of a last convolution, also below a global average; a ReLU in between stops them."""
    w = np.random.default_rng(0).standard_normal((10, 3, 3, 3)).astype(np.float32) / 5
    constants = CONSTANTS | {"w": w, "b": np.zeros(10, np.float32)}
    options = ["--data", pictures, "--mode", "gg", "--epochs", 1, *OPTIONS]
    pool = ("GlobalAveragePool", [""], {})
    path = save(tmp_path / "pooled.onnx", [CONV, pool], ("N", 3, 32, 32), **constants)
    result = run("train.py", "--net", path, *options, "--out", tmp_path / "pooled")
    assert result.returncode == 0, result.stderr
    steps = [CONV, ("Relu", [""], {}), pool]
    path = save(tmp_path / "relu.onnx", steps, ("N", 3, 32, 32), **constants)
    result = run("train.py", "--net", path, *options, "--out", tmp_path / "relu")
    assert_one_line(result, 2, "--mode gg", "relu.onnx has no bias there", "--mode dg")


def test_a_net_that_cannot_be_had_as_a_whole(tmp_path, pictures):
    path = save(tmp_path / "net.onnx", [CONV, ("Selu", [""], {})], ("N", 3, 32, 32), **CONSTANTS)
    result = run("train.py", "--net", path, "--data", pictures, "--out", tmp_path / "r")
    assert_one_line(result, 2, "net.onnx: Selu 'selu1': only these can be imported")
