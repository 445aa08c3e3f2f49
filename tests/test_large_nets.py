"""AlexNet and ZeilerFergusNet on a folder of images, at full size: minutes, so marked slow."""

import signal

import numpy as np
import pytest
from PIL import Image

from app.formats.net import open_network
from app.formats.npz import load_npz
from tests import scripts

RATES = {"alexnet": 0.01, "zeilerfergus": 0.001}


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """Three classes that differ in colour: train/ with 3 x 8 images, val/ with 3 x 1."""
    folder, rng = tmp_path_factory.mktemp("colours"), np.random.default_rng(0)
    for part, count in (("train", 8), ("val", 1)):
        for label, name in enumerate(("n01", "n02", "n03")):
            where = folder / part / name
            where.mkdir(parents=True)
            for i in range(count):
                pixels = np.full((*rng.integers(100, 200, 2), 3), 40 + rng.integers(20), np.uint8)
                pixels[..., label] += 150
                Image.fromarray(pixels).save(where / f"{i}.JPEG")
    return folder


def options(net, colours, mode, epochs):
    return [
        "--net",
        net,
        "--data",
        colours,
        "--mode",
        mode,
        "--epochs",
        epochs,
        "--batch-size",
        8,
        "--lr",
        RATES[net],
        "--threads",
        2,
    ]


@pytest.mark.slow
@pytest.mark.parametrize("net", RATES)
@pytest.mark.parametrize("mode", ["dg", "gg"])
def test_loss_falls(tmp_path, colours, net, mode):
    result = scripts.run("train.py", *options(net, colours, mode, 5), "--out", tmp_path / "run")
    assert result.returncode == 0, result.stderr
    losses = [float(row["loss"]) for row in scripts.rows(tmp_path / "run")]
    assert min(losses[-2:]) < losses[0] - 0.2
    model = load_npz(tmp_path / "run" / "model.npz")
    assert model["fc8.b"].shape == (3,)
    assert model["input_mean"].shape == open_network(net, up_to="conv1").input_shape


@pytest.mark.slow
@pytest.mark.parametrize("net", RATES)
def test_killed_runs_go_on_bit_identically(tmp_path, colours, net):
    """Cuts, mirrors and dropout included; a checkpoint has 360 MB or more."""
    asked = options(net, colours, "ggdg", 2)
    result = scripts.run("train.py", *asked, "--out", tmp_path / "whole")
    assert result.returncode == 0, result.stderr
    scripts.until_finished(signal.SIGTERM, [6, 8], "train.py", *asked, "--out", tmp_path / "killed")
    whole, killed = (load_npz(tmp_path / name / "model.npz") for name in ("whole", "killed"))
    for name in whole:
        np.testing.assert_array_equal(whole[name], killed[name])
