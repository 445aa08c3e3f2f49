"""Files of weights: what must be in them, what they tell of images, and how nets take them."""

import io
import json
import os
import pickle
import shutil
import struct
import zipfile

import numpy as np
import pytest

from app.data.load import load
from app.files import open_regular
from app.formats import npz
from app.formats.net import open_network, read_source
from app.formats.npz import load_npz, save_npz
from app.formats.onnx import graph
from app.formats.weights import load_weights, save_weights
from app.options.visualize_settings import complete
from app.runs.node import load_network
from nn import fillers, nets
from tests import scripts
from tests.onnx_models import EXPORTED
from tests.scripts import ROOT, assert_one_line

DG = ROOT / "assets" / "lenet-dg.npz"


def parameters(network):
    layers = network.layers.items()
    return {f"{name}.{key}": w for name, layer in layers for key, w in layer.params.items()}


# Formats that are not read


def zipped(*names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"contents")
    return file.getvalue()


OLD_PYTORCH = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
PICKLED = pickle.dumps({"conv1.w": 3}, protocol=4)
NPY = io.BytesIO()
np.save(NPY, np.arange(3.0))
FOREIGN = {
    "net.pth": (zipped("archive/data.pkl", "archive/data/0"), "PyTorch's format", "onnx.export"),
    "net.pt": (zipped("net/code/x.py", "net/data.pkl"), "PyTorch's format", "safetensors"),
    "pytorch_model.bin": (zipped("archive/data.pkl"), "PyTorch's format", "net.onnx"),
    "called.npz": (zipped("archive/data.pkl"), "PyTorch's format", "net.onnx"),
    "called.safetensors": (zipped("archive/data.pkl"), "PyTorch's format", "net.onnx"),
    "called.onnx": (zipped("archive/data.pkl"), "PyTorch's format", "net.onnx"),
    "old": (OLD_PYTORCH + b"more", "PyTorch's format", "net.onnx"),
    "broken.pt": (b"no zip file", "PyTorch's format", "net.onnx"),
    "net.keras": (zipped("config.json", "model.weights.h5"), "Keras's format", "net.export("),
    "net.h5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "Keras's format", "format='onnx'"),
    "net.caffemodel": (b"\x0a\x05LeNet", "Caffe's format", "ONNX"),
    "net.tflite": (b"\x1c\x00\x00\x00TFL3" + bytes(99), "TensorFlow Lite's format", "tf2onnx"),
    "saved_model.pb": (b"\x08\x01\x12", "TensorFlow's format", "tf2onnx"),
    "w.npy": (NPY.getvalue(), "one array without a name", "numpy.savez"),
    "w.pkl": (PICKLED, "a pickle, which can run any program", "numpy.savez"),
    "older": (pickle.dumps([1], protocol=2), "a pickle, which can run any", "numpy.savez"),
    "pickled": (PICKLED, "a pickle, which can run any program", "numpy.savez"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_formats_that_are_not_read_are_named(tmp_path, name):
    contents, what, how = FOREIGN[name]
    path = tmp_path / name
    path.write_bytes(contents)
    with pytest.raises(ValueError) as caught:
        load_weights(path)
    text = str(caught.value)
    assert text.startswith(f"{path} is not a ")
    assert f" file, but {what}" in text
    assert how in text
    assert "\n" not in text
    for unsafe in ("allow_pickle", "weights_only", "trust", "torch.load", "unsafe", "safe_mode"):
        assert unsafe not in text


def test_a_foreign_format_ends_the_scripts_in_one_line(tmp_path, small_data):
    path = tmp_path / "x.pth"
    path.write_bytes(zipped("archive/data.pkl"))
    options = ["--weights", path, "--out", tmp_path / "run"]
    for script, more in (("visualize.py", []), ("train.py", ["--data", small_data])):
        result = scripts.run(script, *options, *more)
        assert_one_line(result, 2, "x.pth is not a .npz file, but PyTorch's format: export the net")


# No weights, or weights that are none


def safetensors(path, header):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)


@pytest.mark.parametrize("what", ["empty.npz", "shape.npz", "empty.safetensors", "counter.npz"])
def test_a_file_without_weights_is_not_no_file(tmp_path, what):
    """It must never leave a net with the weights that it was born with."""
    path = tmp_path / what
    if what == "empty.npz":
        path.write_bytes(b"PK\5\6" + bytes(18))
    elif what == "shape.npz":
        save_npz(path, {"input_shape": np.array([28, 28, 1])})
    elif what == "counter.npz":
        save_npz(path, {"bn1.num_batches_tracked": np.array(3)})
    else:
        safetensors(path, {})
    for net in ("lenet", EXPORTED / "lenet.onnx"):
        with pytest.raises(ValueError, match=f"{what}: there are no weights in it"):
            open_network(net, path)
    with pytest.raises(ValueError, match=f"{what}: there are no weights in it"):
        complete({"weights": str(path)})


def test_scripts_refuse_a_file_without_weights(tmp_path, small_data):
    path = tmp_path / "empty.npz"
    path.write_bytes(b"PK\5\6" + bytes(18))
    options = ["--weights", path, "--out", tmp_path / "run"]
    for script, more in (("visualize.py", []), ("train.py", ["--data", small_data])):
        result = scripts.run(script, *options, *more)
        assert_one_line(result, 2, "empty.npz: there are no weights in it")
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc2.b": np.full(10, np.nan, np.float32)}, "fc2.b is not made of finite numbers"),
        ({"fc2.b": np.full(10, 1e300)}, "fc2.b is not made of finite numbers"),  # in float32
        ({"fc2.b": np.arange(10)}, "fc2.b is made of int64, not of real numbers"),
        ({"fc2.b": np.array(["x"] * 10)}, "fc2.b is made of <U1, not of real numbers"),
        ({"fc2.b": np.ones(10, bool)}, "fc2.b is made of bool, not of real numbers"),
        ({"state": np.array("{}")}, "a checkpoint of a run: its weights are in model.npz once"),
        ({"fc3.b": np.ones(10, np.float32)}, "do not fit the net: fc3.b is unknown"),
    ],
)
def test_weights_that_are_none(tmp_path, change, message):
    path = tmp_path / "w.npz"
    save_npz(path, load_npz(DG) | change)
    with pytest.raises(ValueError, match=message) as caught:
        open_network("lenet", path)
    assert str(caught.value).startswith(f"{path}")


def test_weights_that_are_not_finite_are_not_written(tmp_path):
    path = tmp_path / "m.npz"
    with pytest.raises(FloatingPointError, match="fc.w is not finite: .*m.npz was not written"):
        save_weights(path, {"fc.w": np.array([1, np.inf])}, (2, 2, 1), 1.0, 0.0, "rgb")
    assert not path.exists()


def test_a_finished_run_is_not_completed_with_weights_that_are_not_finite(tmp_path, small_data):
    folder = tmp_path / "run"
    options = ["--data", small_data, "--epochs", 2, "--out", folder]
    assert scripts.run("train.py", *options).returncode == 0
    (folder / "model.npz").unlink()
    arrays = load_npz(folder / "checkpoint.npz")
    arrays["w/fc2.w"][0, 0] = np.nan
    save_npz(folder / "checkpoint.npz", arrays)
    result = scripts.run("train.py", "--resume", folder)
    assert result.returncode in (1, 2)
    assert "fc2.w is not finite" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (folder / "model.npz").exists()


# What a file tells of its images


@pytest.mark.parametrize("name", ["lenet-dg", "lenet-ggdg", "lenet-judge"])
def test_shipped_weights_tell_their_input(name):
    """uint8 images that are made the input as the file says are recognised."""
    path = ROOT / "assets" / f"{name}.npz"
    _, images = load_weights(path)
    assert images == {"shape": (28, 28, 1), "scale": 1 / 256, "mean": 0, "order": "rgb"}
    _, test = load()
    pixels, labels = test.images[:500], test.labels[:500]
    x = (pixels - images["mean"]) * images["scale"]
    scores = open_network("lenet", path).bottom_up(x.astype(np.float32))
    assert np.mean(scores.argmax(axis=1) == labels) > 0.98


def test_shipped_weights_of_alexnet_tell_their_input():
    _, images = load_weights(ROOT / "assets" / "alexnet-torchvision-conv.npz")
    assert images["shape"] == (224, 224, 3)
    assert images["order"] == "rgb"
    np.testing.assert_allclose(images["mean"], [123.675, 116.28, 103.53])
    np.testing.assert_allclose(images["scale"], 1 / (255 * np.array([0.229, 0.224, 0.225])))


@pytest.mark.parametrize(
    ("net", "preset"), [("lenet", ("data", 1.0)), ("alexnet-torchvision", ("natural", 4.0))]
)
def test_included_weights_are_those_that_the_presets_are_for(net, preset):
    settings = complete({"net": net})
    assert (settings["reference"], settings["sigma"]) == preset


SHAPE = np.array([28, 28, 1])
NONSENSE = {
    "input_order": [
        (np.array("xyz"), "input_order must be rgb, or bgr for colours, got 'xyz'"),
        (np.array(["rgb"]), "input_order must be rgb"),
        (np.array(3), "input_order must be rgb"),
        (np.array("bgr"), "or bgr for colours, got 'bgr'"),
    ],
    "input_scale": [
        (np.array(np.nan), "input_scale is not made of finite numbers"),
        (np.array(0.0), "input_scale must be from 1e-12 to 1e12, got 0.0"),
        (np.array(1e-30), "input_scale must be from 1e-12 to 1e12"),
        (np.array(1e30), "input_scale must be from 1e-12 to 1e12"),
        (np.array("1"), "input_scale is made of <U1, not of real numbers"),
        (np.ones(3), r"one number, or one for each channel, got an array of \(3,\)"),
        (np.ones((28, 28, 1)), r"one number, or one for each channel, got an array of \(28, 28"),
        (np.ones(0), r"one number, or one for each channel, got an array of \(0,\)"),
    ],
    "input_mean": [
        (np.array(np.inf), "input_mean is not made of finite numbers"),
        (np.ones((2, 2)), r"one number, or one for each channel, got an array of \(2, 2\)"),
        (np.ones((27, 28, 1)), "one number, or one for each channel"),
    ],
    "input_shape": [
        (np.array([28, 28]), r"input_shape must be 3 positive whole numbers, got \[28 28\]"),
        (np.array([28, 28, 0]), "input_shape must be 3 positive whole numbers"),
        (np.array([28, 28, -1]), "input_shape must be 3 positive whole numbers"),
        (np.array([28.0, 28, 1]), "input_shape must be 3 positive whole numbers"),
        (np.array(28), "input_shape must be 3 positive whole numbers"),
    ],
}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [(key, *case) for key, cases in NONSENSE.items() for case in cases],
)
def test_settings_of_images_that_make_no_sense(tmp_path, key, value, message):
    path = tmp_path / "w.npz"
    save_npz(path, load_npz(DG) | {key: value})
    with pytest.raises(ValueError, match=message) as caught:
        load_weights(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("mean", [0.5, np.arange(1), np.ones((28, 28, 1))])
def test_settings_of_images_that_make_sense(tmp_path, mean):
    save_weights(tmp_path / "w.npz", {"a.w": np.ones(2)}, (28, 28, 1), [-0.5], mean * 1.0, "rgb")
    arrays, images = load_weights(tmp_path / "w.npz")
    np.testing.assert_array_equal(images["mean"], mean)
    assert images["scale"] == -0.5
    assert list(arrays) == ["a.w"]
    assert arrays["a.w"].dtype == np.float32


def test_a_layer_may_be_called_input(tmp_path):
    """Its weights are no setting of images."""
    arrays = {"input_conv.w": np.ones(2, np.float32), "input_conv.b": np.ones(2, np.float32)}
    save_weights(tmp_path / "w.npz", arrays, (28, 28, 1), 1.0, 0.0, "rgb")
    assert load_weights(tmp_path / "w.npz")[0].keys() == arrays.keys()


def test_training_says_when_weights_are_for_other_pixels(tmp_path, small_data, capsys):
    import train
    from app.options.train_settings import complete as settings_of

    given = {"data": str(small_data), "mode": "dg", "weights": str(DG)}
    train.net_and_data(settings_of(given))
    assert not capsys.readouterr().err
    train.net_and_data(settings_of(given | {"pixel_scale": 1.0}))
    said = capsys.readouterr().err
    assert "lenet-dg.npz is for --pixel-scale 0.00390625, this run has 1.0" in said


# One way to open a net


def test_sizes_are_compared_before_anything_is_drawn_or_made(tmp_path, monkeypatch):
    """A net for images of 700 x 700 has a matrix of 14 GB, which the file has not."""
    path = tmp_path / "w.npz"

    def never(*args):
        raise AssertionError("drawn at random")

    monkeypatch.setattr(fillers, "uniform", never)
    for shape in ([700, 700, 1], [9000, 9000, 1], [29, 28, 1]):
        save_npz(path, load_npz(DG) | {"input_shape": np.array(shape)})
        for up_to in (None, "conv2"):  # which any image would fit
            with pytest.raises(
                ValueError,
                match=r"w.npz for lenet .--net .* images of .* fc1.w is \(800, 500\), expe",
            ):
                open_network("lenet", path, up_to=up_to)
    for shape in ([2**40, 2**40, 1], [2**62, 2**62, 2**62]):
        save_npz(path, load_npz(DG) | {"input_shape": np.array(shape)})
        with pytest.raises(
            ValueError, match="w.npz: images of .* do not fit the net: they are too"
        ):
            open_network("lenet", path)
    save_npz(path, load_npz(DG) | {"input_shape": np.array([3, 3, 1])})
    with pytest.raises(
        ValueError, match="w.npz: images of 3 x 3 x 1 do not fit the net: layer con"
    ):
        open_network("lenet", path)


def test_a_net_with_weights_is_the_one_without_them(tmp_path):
    drawn = open_network("lenet", seed=3)
    again = open_network("lenet", seed=3, up_to="pool2")
    weights = {name: w.astype(np.float64) for name, w in parameters(drawn).items()}
    save_weights(tmp_path / "w.npz", weights, (28, 28, 1), 1.0, 0.0, "rgb")
    loaded = open_network("lenet", tmp_path / "w.npz")
    part = open_network("lenet", tmp_path / "w.npz", up_to="pool2")
    x = np.random.default_rng(0).random((2, 28, 28, 1), np.float32)
    np.testing.assert_array_equal(loaded.bottom_up(x), drawn.bottom_up(x))
    np.testing.assert_array_equal(part.bottom_up(x), again.bottom_up(x))
    assert list(part.layers) == ["conv1", "pool1", "conv2", "pool2"]
    for w in parameters(loaded).values():
        assert w.flags.writeable
        assert w.flags.c_contiguous


def test_a_source_makes_nets_that_share_nothing():
    source = read_source("lenet", DG)
    one, two = source.filled(), source.filled()
    one.layers["fc2"].params["b"] += 1
    assert not np.array_equal(parameters(one)["fc2.b"], parameters(two)["fc2.b"])
    np.testing.assert_array_equal(parameters(two)["fc2.b"], source.arrays["fc2.b"])


@pytest.mark.parametrize("net", ["named", "onnx"])
def test_a_command_reads_its_files_once(tmp_path, monkeypatch, net):
    read = []

    def counted(path):
        read.append(os.path.basename(path))
        return open_regular(path)

    for module in (npz, graph):
        monkeypatch.setattr(module, "open_regular", counted)
    path = tmp_path / "net.onnx" if net == "onnx" else tmp_path / "w.npz"
    shutil.copy(EXPORTED / "lenet.onnx" if net == "onnx" else DG, path)
    settings = complete({"weights": str(path)})
    load_network(settings)
    assert read == [path.name]
    load_network(settings)  # its weights are not kept
    assert read == 2 * [path.name]
    complete({"weights": str(path)})
    os.utime(path, (0, 0))  # it could be another
    load_network(settings)
    assert read == 4 * [path.name]


def test_training_reads_an_onnx_file_once(small_data, monkeypatch):
    import train
    from app.options.train_settings import complete as settings_of

    read = []

    def counted(path):
        read.append(os.path.basename(path))
        return open_regular(path)

    monkeypatch.setattr(graph, "open_regular", counted)
    given = {"net": str(EXPORTED / "keras_grey.onnx"), "data": str(small_data), "mode": "dg"}
    with pytest.raises(ValueError, match="keras_grey.onnx"):  # it is for other images
        train.net_and_data(settings_of(given))
    assert read == ["keras_grey.onnx"]


def test_nets_are_tables_only():
    """open_network is the one way from a name to a net."""
    assert not hasattr(nets, "build")
    with pytest.raises(ValueError, match="no net 'foo': there are lenet, alexnet"):
        open_network("foo")
    with pytest.raises(ValueError, match="no layer 'conv9'; this net has conv1, pool1"):
        open_network("lenet", up_to="conv9")
