"""visualize.py on other nets than LeNet: the included AlexNet, ONNX files, names of classes."""

import json

import numpy as np
import pytest

from app.formats.net import open_network
from app.formats.npz import load_npz, save_npz
from app.formats.weights import load_weights, save_weights
from app.options.visualize_settings import complete
from app.runs.references import reference_of
from benchmarks.judge import judge
from tests import scripts
from tests.scripts import ROOT, assert_one_line

EXPORTED = ROOT / "tests" / "exported"
ALEXNET = ["--net", "alexnet-torchvision"]
QUICK = ["--chains", 2, "--iterations", 6, "--leapfrog-steps", 4]


def run(*options, **how):
    return scripts.run("visualize.py", *options, **how)


def result_of(folder):
    return json.loads((folder / "diagnostics.json").read_text())


def test_alexnet_right_after_install(tmp_path):
    result = run(*ALEXNET, "--layer", "conv1", "--unit", "0,5", "--film", "--out", tmp_path / "v")
    assert result.returncode == 0, result.stderr
    assert {"grid.png", "sequence.png", "film.gif"} <= {p.name for p in (tmp_path / "v").iterdir()}
    samples = load_npz(tmp_path / "v" / "samples.npz")["samples"]
    assert samples.shape == (2, 4, 11, 11, 3)
    for row in result_of(tmp_path / "v")["units"]:
        assert 0.4 < row["acceptance"] < 0.95
        assert np.isfinite(row["energy_error"])
        assert row["score"] > 20  # far above noise, whose scores are about 0


def test_digits_right_after_install(tmp_path):
    """A net that learned from its own samples: q and T come from its file, chains from noise."""
    options = ["--net", "digits", "--unit", "0,3", "--chains", 5, "--iterations", 80]
    result = run(*options, "--out", tmp_path / "v")
    assert result.returncode == 0, result.stderr
    assert "q file" in result.stdout
    settings = json.loads((tmp_path / "v" / "settings.json").read_text())
    assert (settings["reference"], settings["temperature"], settings["start"]) == (
        "file",
        1,
        "noise",
    )
    arrays = load_npz(tmp_path / "v" / "samples.npz")
    found = judge(arrays["samples"], arrays["units"])
    assert found["network"].mean() >= 0.7
    assert found["neighbours"].mean() >= 0.7
    for row in result_of(tmp_path / "v")["units"]:
        assert 0.5 < row["acceptance"] < 0.98
    assert not np.array_equal(arrays["without_noise"], arrays["samples"])
    of_the_net = complete({"net": "digits", "unit": [3]})
    assert reference_of(of_the_net, (28, 28, 1)).noise == pytest.approx(0.1, abs=0.001)
    for other in ({"temperature": 0.5}, {"sigma": 0.9}, {"layer": "silu3"}):  # are other p's
        assert reference_of({**of_the_net, **other}, (28, 28, 1)).noise == 0
    asked = {"net": "digits", "layer": "conv2", "unit": [0]}
    assert complete(asked)["reference"] == "data"  # sees a part of the image only
    with pytest.raises(ValueError, match="--reference file is for nodes that see all"):
        complete({**asked, "reference": "file"})


@pytest.mark.slow
def test_annealed_chains_go_on_bit_identically(tmp_path):
    options = [*ALEXNET, "--layer", "conv2", "--unit", 7, "--chains", 3, "--iterations", 30]
    assert run(*options, "--out", tmp_path / "whole").returncode == 0
    waits = np.random.default_rng(0).uniform(0.5, 1.5, 5)
    scripts.until_finished(9, waits, "visualize.py", *options, "--out", tmp_path / "killed")
    whole, killed = (load_npz(tmp_path / name / "samples.npz") for name in ("whole", "killed"))
    np.testing.assert_array_equal(whole["samples"], killed["samples"])


def test_defaults_of_a_net():
    alexnet = complete({"net": "alexnet-torchvision"})
    assert (alexnet["layer"], alexnet["pixel_order"], alexnet["chains"]) == ("conv5", "rgb", 4)
    assert complete({})["layer"] == "fc2"
    onnx = complete({"weights": str(EXPORTED / "lenet.onnx")})
    assert onnx["net"] == onnx["weights"]
    with pytest.raises(ValueError, match="no weights of zeilerfergus are included: --weights"):
        complete({"net": "zeilerfergus"})


def test_sigma_is_in_units_of_the_input(tmp_path):
    """A net that takes pixels of 0 .. 255 needs a larger sigma than one that takes 0 .. 1."""
    net = open_network("lenet")
    for scale in (1 / 256, 1.0):
        save_weights(tmp_path / "m.npz", net.params(), (28, 28, 1), scale, 0.0, "rgb")
        settings = complete({"weights": str(tmp_path / "m.npz"), "reference": "white"})
        assert settings["sigma"] == pytest.approx(512 * scale)
    assert complete({"weights": str(tmp_path / "m.npz"), "sigma": 3.0})["sigma"] == 3


def test_list_layers():
    listed = run(*ALEXNET, "--list-layers").stdout
    assert "on images of 224 x 224 x 3" in listed
    (conv3,) = [line.split() for line in listed.splitlines() if line.startswith("conv3")]
    assert conv3 == ["conv3", *["13", "x", "13", "x", "384"], "384", *["99", "x", "99"]]
    listed = run("--weights", EXPORTED / "lenet.onnx", "--list-layers")
    assert listed.returncode == 0, listed.stderr
    names = [line.split()[0] for line in listed.stdout.splitlines()[1:]]
    assert names == list(open_network(str(EXPORTED / "lenet.onnx")).layers)


@pytest.mark.parametrize(
    "name", ["two_layers", "lenet", "alexnet", pytest.param("vgg", marks=pytest.mark.slow)]
)
def test_samples_from_an_onnx_file(tmp_path, name):
    path = EXPORTED / f"{name}.onnx"
    result = run("--weights", path, "--unit", 1, *QUICK, "--out", tmp_path / "v")
    assert result.returncode == 0, result.stderr
    assert result_of(tmp_path / "v")["settings"]["net"] == str(path)
    assert f"{name} " in result.stdout
    again = run("--resume", tmp_path / "v")
    assert "is finished" in again.stdout


def test_weights_of_the_lower_part_alone(tmp_path):
    arrays, images = load_weights(ROOT / "assets" / "alexnet-torchvision-conv.npz")
    assert images["shape"] == (224, 224, 3)
    names = {"conv1.w": "features.0.weight", "conv1.b": "features.0.bias"}
    state = {
        names[name]: arrays[name].transpose(3, 2, 0, 1) if name.endswith("w") else arrays[name]
        for name in names
    }
    save_npz(tmp_path / "torch.npz", state)
    net = open_network("alexnet-torchvision", tmp_path / "torch.npz", up_to="conv1")
    np.testing.assert_array_equal(net.params()["conv1.w"], arrays["conv1.w"])
    result = run(*ALEXNET, "--weights", tmp_path / "torch.npz", "--layer", "conv2", "--unit", 0)
    assert_one_line(result, 2, "torch.npz", "conv2.w is missing", "conv2.b is missing")


def test_colours_in_another_order_are_turned_for_the_picture(tmp_path):
    options = [*ALEXNET, "--layer", "conv1", "--unit", 3, *QUICK]
    for order in ("rgb", "bgr"):
        assert run(*options, "--pixel-order", order, "--out", tmp_path / order).returncode == 0
    rgb, bgr = (load_npz(tmp_path / order / "samples.npz")["samples"] for order in ("rgb", "bgr"))
    np.testing.assert_array_equal(rgb, bgr[..., ::-1])


def test_a_single_iteration_cannot_cool_down(tmp_path):
    options = [*ALEXNET, "--layer", "conv1", "--chains", 1, "--iterations", 1]
    result = run(*options, "--out", tmp_path / "v")
    assert result.returncode == 0, result.stderr


def test_an_onnx_file_that_leaves_the_size_open(tmp_path):
    from tests.onnx_models import CONSTANTS, CONV, GEMM, save

    steps = [CONV, ("Flatten", [""], {}), GEMM]
    save(tmp_path / "open.onnx", steps, ("N", 3, "H", "W"), 17, **CONSTANTS)
    model = ["--weights", tmp_path / "open.onnx", "--unit", 1]
    assert_one_line(run(*model), 2, "open.onnx", "is the input shape right?")
    result = run(*model, "--size", "6,7", "--chains", 2, "--iterations", 5, "--out", tmp_path / "v")
    assert result.returncode == 0, result.stderr
    assert load_npz(tmp_path / "v" / "samples.npz")["samples"].shape == (1, 2, 6, 7, 3)
    assert_one_line(run(*ALEXNET, "--size", "9,9"), 2, "--size is for .onnx files")
    assert_one_line(run(*model, "--size", "0,9"), 2, "--size 0,9: both must be at least 1")


def test_an_onnx_file_with_layers_that_cannot_be_had(tmp_path):
    """They are named, and what is below them can be looked into."""
    from tests.onnx_models import CONSTANTS, CONV, save

    steps = [CONV, ("Relu", [""], {}), ("Add", ["", "conv0"], {}), ("Selu", [""], {})]
    path = save(tmp_path / "net.onnx", steps, ("N", 3, 16, 16), 17, **CONSTANTS)
    listed = run("--net", path, "--list-layers")
    assert listed.returncode == 0, listed.stderr
    lines = listed.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["layer", "conv0", "relu1", "add2", "no"]
    assert lines[-1].startswith(f"no more can be had: {path}: Selu 'selu3': only these can")
    assert_one_line(run("--net", path), 2, "net.onnx: Selu 'selu3'", "; --layer names one below it")
    missing = run("--net", path, "--layer", "selu3")
    assert_one_line(missing, 2, "no layer 'selu3'; this net has conv0, relu1, add2; no more, as in")
    chosen = ["--net", path, "--layer", "add2", "--unit", 1, *QUICK]
    for name, how in {"plain": ["--plain"], "engine": ["--threads", 1], "team": []}.items():
        result = run(*chosen, *how, "--out", tmp_path / name)
        assert result.returncode == 0, result.stderr
    plain, engine = (load_npz(tmp_path / n / "samples.npz")["samples"] for n in ("plain", "engine"))
    np.testing.assert_allclose(plain, engine, rtol=1e-3, atol=1e-3)


def test_units_by_class_name(tmp_path):
    net = open_network("cifar10-quick", classes=1000)
    save_weights(tmp_path / "m.npz", net.params(), (32, 32, 3), 1.0, 0.0, "bgr")
    options = ["--net", "cifar10-quick", "--weights", tmp_path / "m.npz", *QUICK]
    result = run(*options, "--unit", "starfish,hen", "--out", tmp_path / "v")
    assert result.returncode == 0, result.stderr
    found = result_of(tmp_path / "v")
    assert found["settings"]["unit"] == [327, 8]
    assert found["settings"]["class_names"] == {"327": "starfish", "8": "hen"}
    result = run(*options, "--unit", "hen", "--layer", "conv3")
    assert_one_line(result, 2, "names are for the 1,000 classes of ImageNet, conv3 has 64")


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--net", "vgg"], ["'vgg' is neither an .onnx file nor one of lenet, alexnet"]),
        (["--net", "nothing.onnx"], ["nothing.onnx", "No such file"]),
        ([*ALEXNET, "--layer", "conv9"], ["no layer 'conv9'; this net has conv1, relu1"]),
        ([*ALEXNET, "--layer", "fc8"], ["fc8", "the included weights end with conv5", "--weights"]),
        ([*ALEXNET, "--unit", "zebrafish"], ["'zebrafish' is not like 3, 0-9", "ImageNet"]),
        ([*ALEXNET, "--unit", "900"], ["layer conv5 has units 0 .. 255, not 900"]),
        (
            [*ALEXNET, "--weights", "assets/lenet-dg.npz"],
            ["lenet-dg.npz: images of 28 x 28 x 1 do not fit the net"],
        ),
        (["--heat", 10, "--step-size", 0.1], ["--heat does not go with a step size that is fixed"]),
    ],
)
def test_errors_are_one_line(options, parts):
    assert_one_line(run(*options, cwd=ROOT), 2, *parts)
