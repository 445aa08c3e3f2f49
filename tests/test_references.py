"""q from pictures of one's own, and pictures to start from."""

import json

import numpy as np
import pytest
from PIL import Image

from app.data.folder import decode
from app.data.images import Pixels
from app.data.load import load
from app.runs.references import images_of
from tests import scripts
from tests.scripts import assert_one_line


@pytest.fixture
def forms(tmp_path):
    """200 MNIST images as pictures in a folder, and in train/CLASS/."""
    train, _ = load()
    plain, classes = tmp_path / "plain", tmp_path / "classes"
    for number, (image, label) in enumerate(zip(train.images[:200], train.labels, strict=False)):
        for place in (plain, classes / "train" / str(label)):
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0]).save(place / f"{number:03}.png")
    return plain, classes


def test_parts_of_pictures_are_parts_from_all_places(forms):
    """A unit that sees 5 x 5 pixels sees parts of digits, not digits of 5 x 5 pixels."""
    pixels, whole = Pixels(), (28, 28, 1)
    expected = images_of(None, (5, 5, 1), pixels, whole).std()
    for folder in forms:
        parts = images_of(str(folder), (5, 5, 1), pixels, whole)
        assert parts.shape == (200, 5, 5, 1)
        assert parts.std() == pytest.approx(expected, rel=0.15)  # squeezed to 5 x 5: 0.085
        assert not list(folder.glob("prepared*"))
        assert images_of(str(folder), whole, pixels, whole).shape == (200, *whole)


def test_resuming_with_other_pictures_is_refused(forms, tmp_path):
    folder, _ = forms
    options = ["--reference-data", folder, "--chains", 2, "--iterations", 3, "--layer", "conv2"]
    options += ["--out", tmp_path / "v"]
    assert scripts.run("visualize.py", *options).returncode == 0
    (tmp_path / "v" / "diagnostics.json").unlink()
    assert scripts.run("visualize.py", *options, "--resume").returncode == 0
    (tmp_path / "v" / "diagnostics.json").unlink()
    (folder / "000.png").unlink()
    result = scripts.run("visualize.py", *options, "--resume")
    assert_one_line(result, 2, "not of this run", "the images of --reference-data have changed")


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_parts_lie_on_white(tmp_path, mode):
    ink = np.zeros((8, 8, len(mode)), np.uint8)  # black, and transparent but for a square
    ink[2:5, 3:6, -1] = 255
    Image.fromarray(ink, mode).save(tmp_path / "ink.png")
    found = decode(tmp_path / "ink.png", (8, 8, 1))[..., 0]
    assert (found[2:5, 3:6] == 0).all()
    assert (found == 255).sum() == 64 - 9


def test_pictures_that_cannot_be_started_from(tmp_path):
    Image.new("1", (20000, 20000)).save(tmp_path / "bomb.png")
    result = scripts.run("visualize.py", "--start", tmp_path / "bomb.png", "--chains", 1)
    assert_one_line(result, 2, "bomb.png", "decompression bomb")


def test_weights_of_another_net_are_not_listed_as_ours(tmp_path):
    from app.formats.net import open_network
    from app.formats.weights import save_weights

    net = open_network("cifar10-quick")
    save_weights(tmp_path / "w.npz", net.params(), net.input_shape, 1 / 256, 0.0, "rgb")
    result = scripts.run("visualize.py", "--weights", tmp_path / "w.npz", "--list-layers")
    assert_one_line(result, 2, "w.npz for lenet (--net names another)")


def test_options_that_reproduce_sets_itself(tmp_path):
    for words in (["--out", "x"], ["--resume"], ["--list-layers"], ["--unit", "3"]):
        options = ["figure6", "--quick", "--weights", tmp_path / "n.onnx", "--out", tmp_path / "r"]
        result = scripts.run("reproduce.py", *options, "--", *words)
        assert_one_line(result, 2, f"behind --, {words[0]}: reproduce.py sets this itself")


def test_dg_with_a_new_start_needs_no_image_of_each_class(tmp_path, small_data):
    options = ["--data", small_data, "--mode", "dgdg", "--epochs", 2, "--limit", 2]
    result = scripts.run("train.py", *options, "--out", tmp_path / "r")
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "r" / "settings.json").read_text())["mode"] == "dgdg"
