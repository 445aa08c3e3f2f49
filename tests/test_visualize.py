"""visualize.py as a user runs it: pictures, numbers, kills, resumption, errors in one line."""

import json
import math
import resource
import shlex
import signal
import subprocess
from copy import copy

import numpy as np
import pytest
from PIL import Image

from app.data.load import load
from app.formats.net import open_network
from app.formats.npz import load_npz, save_npz
from app.options.visualize import two_numbers, units
from app.options.visualize_settings import PRESETS, REFERENCES, complete, preset
from app.pictures.images import displayed
from app.runs.node import NodeChains, load_network
from benchmarks.judge import judge
from hmc.energy import NodeEnergy, rounding_error
from tests import scripts
from tests.scripts import ROOT, assert_one_line, command, until_finished


def run(*options, **how):
    return scripts.run("visualize.py", *options, **how)


def samples(folder):
    return load_npz(folder / "samples.npz")["samples"]


def test_threes_right_after_install(tmp_path):
    """The default settings: another LeNet and MNIST's own threes recognise every sample."""
    result = run("--unit", 3, "--chains", 6, "--film", "--out", tmp_path / "v")
    assert result.returncode == 0, result.stderr
    names = {
        ".lock",
        "settings.json",
        "checkpoint.npz",
        "diagnostics.json",
        "samples.npz",
        "grid.png",
        "sequence.png",
        "trace.png",
        "film.gif",
    }
    assert {path.name for path in (tmp_path / "v").iterdir()} == names
    arrays = load_npz(tmp_path / "v" / "samples.npz")
    assert arrays["samples"].shape == (1, 6, 28, 28, 1)
    assert arrays["units"].tolist() == [3]
    found = judge(arrays["samples"], arrays["units"])
    assert found["network"][0] == 1
    assert found["neighbours"][0] >= 5 / 6
    assert 0.5 < found["variety"][0] < 1.5
    told = json.loads((tmp_path / "v" / "diagnostics.json").read_text())
    assert told["seed"] == 0
    assert told["settings"]["reference"] == "data"
    assert told["settings"]["temperature"] == 1
    assert told["forecast"]["theta"] == pytest.approx(0.4 * math.pi)
    (unit,) = told["units"]
    assert unit["unit"] == 3
    assert 0.6 < unit["acceptance"] < 0.99
    assert 0 < unit["energy_error"] < 2
    assert unit["divergences"] == unit["chains_that_never_moved"] == 0
    assert unit["score"] > 50
    assert unit["ess"] > 1
    assert unit["rhat"] > 0.9
    assert 0 < told["rounding_error_of_U"] < 0.1
    for name in ("grid", "sequence", "trace"):
        with Image.open(tmp_path / "v" / f"{name}.png") as picture:
            assert np.asarray(picture.convert("L")).std() > 10
    with Image.open(tmp_path / "v" / "film.gif") as film:
        assert film.n_frames > 20


@pytest.mark.parametrize(
    "how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_killed_chains_go_on_exactly(tmp_path, how, monkeypatch):
    options = ["--unit", "1,7", "--chains", 9, "--iterations", 60, "--threads", 2, "--film"]
    assert run(*options, "--out", tmp_path / "whole").returncode == 0
    waits = np.random.default_rng(how).uniform(0.6, 2.5, 6)
    folder = tmp_path / "killed"
    until_finished(how, waits, "visualize.py", *options, "--out", folder)
    np.testing.assert_array_equal(samples(tmp_path / "whole"), samples(folder))
    whole, killed = (
        json.loads((f / "diagnostics.json").read_text()) for f in (tmp_path / "whole", folder)
    )
    assert whole.pop("seconds") > 0
    assert killed.pop("seconds") > 0
    assert whole == killed
    assert (folder / "film.gif").read_bytes() == (tmp_path / "whole" / "film.gif").read_bytes()


@pytest.mark.slow
def test_an_ascent_goes_on_exactly(tmp_path):
    options = ["--sampler", "ascent", "--chains", 3, "--iterations", 3000]
    assert run(*options, "--out", tmp_path / "whole").returncode == 0
    until_finished(
        signal.SIGINT, [0.8, 1.0, 0.9], "visualize.py", *options, "--out", tmp_path / "killed"
    )
    np.testing.assert_array_equal(samples(tmp_path / "whole"), samples(tmp_path / "killed"))


def test_a_run_stopped_while_it_climbs_goes_on_climbing(tmp_path):
    options = ["--start", "ascent", "--ascent-steps", 1500, "--chains", 2, "--iterations", 4]
    assert run(*options, "--out", tmp_path / "whole").returncode == 0
    until_finished(
        signal.SIGINT, [1.5, 1.5], "visualize.py", *options, "--out", tmp_path / "killed"
    )
    np.testing.assert_array_equal(samples(tmp_path / "whole"), samples(tmp_path / "killed"))


def test_resuming_with_other_weights_is_refused(tmp_path):
    weights = tmp_path / "w.npz"
    weights.write_bytes((ROOT / "assets" / "lenet-dg.npz").read_bytes())
    options = ["--weights", weights, "--chains", 2, "--iterations", 3, "--out", tmp_path / "v"]
    assert run(*options).returncode == 0
    (tmp_path / "v" / "diagnostics.json").unlink()
    weights.write_bytes((ROOT / "assets" / "lenet-ggdg.npz").read_bytes())
    assert_one_line(run(*options, "--resume"), 2, "not of this run", "weights have changed")


def test_numbers_that_overflow(tmp_path):
    arrays = load_npz(ROOT / "assets" / "lenet-dg.npz")
    arrays["fc2.w"] = arrays["fc2.w"] * np.float32(1e38)
    save_npz(tmp_path / "large.npz", arrays)
    options = ["--chains", 2, "--iterations", 40, "--out", tmp_path / "v"]
    assert_one_line(run(*options, "--weights", tmp_path / "large.npz"), 2, "energy is not finite")
    arrays["fc2.w"][0, 0] = np.nan
    save_npz(tmp_path / "nan.npz", arrays)
    assert_one_line(run(*options, "--weights", tmp_path / "nan.npz"), 2, "nan.npz: fc2.w is not")
    arrays["input_shape"] = np.array([28, 28])
    save_npz(tmp_path / "shape.npz", arrays)
    result = run(*options, "--weights", tmp_path / "shape.npz", "--out", tmp_path / "u")
    assert_one_line(result, 2, "shape.npz: input_shape must be 3 positive whole numbers")


def test_seeds(tmp_path):
    quick = ["--chains", 2, "--iterations", 4]
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert run(*quick, "--seed", seed, "--out", tmp_path / name).returncode == 0
    np.testing.assert_array_equal(samples(tmp_path / "a"), samples(tmp_path / "b"))
    assert (samples(tmp_path / "a") != samples(tmp_path / "c")).any()


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        (["--layer", "conv1", "--unit", "0-19"], (20, 2, 5, 5, 1)),
        (["--layer", "conv2", "--unit", "0,49"], (2, 2, 14, 14, 1)),
        (["--layer", "pool2", "--unit", "4"], (1, 2, 16, 16, 1)),
        (["--layer", "conv2", "--unit", "1", "--position", "0,7"], (1, 2, 28, 28, 1)),
        (["--layer", "fc1", "--unit", "7"], (1, 2, 28, 28, 1)),
        (["--sampler", "langevin"], (1, 2, 28, 28, 1)),
        (["--sampler", "ascent"], (1, 2, 28, 28, 1)),
        (["--reference", "white"], (1, 2, 28, 28, 1)),
        (["--reference", "natural"], (1, 2, 28, 28, 1)),
        (["--reference", "natural", "--layer", "conv2", "--start", "noise"], (1, 2, 14, 14, 1)),
        (["--start", ROOT / "docs" / "images" / "digits.png"], (1, 2, 28, 28, 1)),
        (["--preset", "paper", "--leapfrog-steps", "5"], (1, 2, 28, 28, 1)),
        (["--precision", "float64", "--step-size", "0.005"], (1, 2, 28, 28, 1)),
        (["--weights", ROOT / "assets" / "lenet-ggdg.npz", "--sigma", "1"], (1, 2, 28, 28, 1)),
    ],
)
def test_any_node_and_any_sampler(tmp_path, options, shape):
    result = run(*options, "--chains", 2, "--iterations", 24, "--out", tmp_path / "v")
    assert result.returncode == 0, result.stderr
    found = samples(tmp_path / "v")
    assert found.shape == shape
    assert np.isfinite(found).all()
    told = json.loads((tmp_path / "v" / "diagnostics.json").read_text())
    unit = told["units"][0]
    small_steps = {"--preset", "langevin"} & set(options)  # a chain may not move within 24
    if not small_steps:
        assert unit["chains_that_never_moved"] == 0
    if "ascent" in options:
        assert told["forecast"] is None
        assert unit["score"] > 5
    canvas = (28, 28, 1) if "--position" in options else shape[2:]
    assert canvas == shape[2:]


def test_position_looks_where_it_says(tmp_path):
    """A node at the lower left sees only its 14 x 14 pixels there; the rest stays noise."""
    result = run(
        "--layer",
        "conv2",
        "--unit",
        3,
        "--position",
        "7,0",
        "--chains",
        20,
        "--iterations",
        300,
        "--sampler",
        "ascent",
        "--reference",
        "white",
        "--out",
        tmp_path / "v",
    )
    assert result.returncode == 0
    images = samples(tmp_path / "v")[0, ..., 0]
    outside = images.copy()
    outside[:, 14:, :14] = 0
    assert np.abs(outside).max() < 0.05 * np.abs(images).max() + 0.5
    assert np.abs(images[:, 14:, :14]).max() > 1


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--net", "vgg"], ["'vgg'", "lenet"]),
        (["--layer", "conv9"], ["no layer 'conv9'", "conv1, pool1, conv2, pool2, fc1, relu1, fc2"]),
        (["--unit", "10"], ["fc2 has units 0 .. 9, not 10"]),
        (["--unit", "x"], ["'x' is not like 3, 0-9"]),
        (["--unit", "3,3"], ["named twice"]),
        (["--position", "1,1"], ["fc2 is not a map"]),
        (["--layer", "conv2", "--position", "8,0"], ["position 8,0 is outside", "rows are 0 .. 7"]),
        (["--layer", "conv2", "--position", "x"], ["--position", "'x' is not like 3,4"]),
        (["--sigma", "0"], ["--sigma", "0 must be at least 1e-12"]),
        (["--mass", "-1"], ["--mass", "at least 1e-12"]),
        (["--temperature", "0"], ["--temperature", "at least 1e-12"]),
        (["--step-size", "nan"], ["--step-size", "nan"]),
        (["--step-size", "nan"], ["--step-size", "nan is not a number up to 1e18"]),
        (["--chains", "0"], ["--chains", "at least 1"]),
        (["--sampler", "langevin", "--leapfrog-steps", "9"], ["does not go with"]),
        (["--sampler", "ascent", "--temperature", "1"], ["does not go with --sampler ascent"]),
        (["--weights", "/no/such/file"], ["/no/such/file: No such file"]),
        (["--weights", ROOT / "README.md"], ["README.md is not a sound .npz file"]),
        (["--out", ROOT / "nn"], ["not empty and holds no run"]),
        (["--resume", "/no/such/run"], ["nothing to resume"]),
        (["--chains", "100000", "--unit", "0-9"], ["out of memory", "; lower --chains"]),
    ],
)
def test_errors_are_one_line(tmp_path, options, parts):
    if "--out" not in options and "--resume" not in options:
        options = [*options, "--out", tmp_path / "v"]
    how = {}
    if "100000" in options:
        how["preexec_fn"] = lambda: resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))
    assert_one_line(run(*options, cwd=tmp_path, **how), 2, *parts)
    assert not (tmp_path / "v").exists()


def test_weights_of_another_net(tmp_path):
    arrays = load_npz(ROOT / "assets" / "lenet-dg.npz")
    arrays["conv1.w"] = arrays["conv1.w"][:3]
    arrays["fc9.w"] = arrays.pop("fc1.w")
    save_npz(tmp_path / "other.npz", arrays)
    result = run("--weights", tmp_path / "other.npz", "--out", tmp_path / "v")
    assert_one_line(result, 2, "fc1.w is missing", "fc9.w is unknown", "conv1.w is (3, 5, 1, 20)")


def test_warnings_say_what_to_change(tmp_path):
    """Chains that cannot move, or blow up, or feel nothing: said, not failed."""
    quick = ["--chains", 2, "--iterations", 5]
    stuck = run(*quick, "--preset", "paper", "--temperature", 1, "--out", tmp_path / "stuck")
    assert stuck.returncode == 0
    assert "warning: the chain will hardly move" in stuck.stderr
    assert "--step-size" in stuck.stderr
    wild = run(*quick, "--step-size", 10, "--out", tmp_path / "wild")
    assert wild.returncode == 0
    assert "warning: unstable" in wild.stderr
    assert (
        "unit 3: some chains never moved in the last 3 iterations: lower --step-size (it was 10)"
        in wild.stderr
    )
    arrays = load_npz(ROOT / "assets" / "lenet-dg.npz")
    arrays["fc1.b"][4] = -1e6  # a ReLU that is off
    save_npz(tmp_path / "dead.npz", arrays)
    dead = run(
        *quick,
        "--weights",
        tmp_path / "dead.npz",
        "--layer",
        "relu1",
        "--unit",
        4,
        "--out",
        tmp_path / "dead",
    )
    assert dead.returncode == 0
    assert "unit 4 of relu1 has no gradient" in dead.stderr
    for result in (stuck, wild, dead):
        assert "RuntimeWarning" not in result.stderr


def test_few_iterations_are_said_to_be_few(tmp_path):
    result = run("--chains", 2, "--iterations", 1, "--out", tmp_path / "v")
    assert result.returncode == 0
    assert "warning: unit 3: there are too few iterations to judge the chains by" in result.stderr
    result = run("--chains", 2, "--iterations", 40, "--out", tmp_path / "u")
    assert "too few" not in result.stderr


def test_rounding_is_checked_chain_by_chain(monkeypatch):
    """In float64, all chains at once would need more memory than they did when they ran."""
    settings = complete({"chains": 3, "unit": [1, 7], "iterations": 4, "threads": 1})
    chains = NodeChains(settings, *load_network(settings), np)
    for _ in range(4):
        chains.step()
    node, z = chains.node, chains.state.x
    exact_q = copy(chains.reference).to(np, np.float64)
    network = chains.network.up_to(node.layer).to(np, np.float64)
    exact = NodeEnergy(network, node.layer, node.unit, node.position or None, exact_q)
    expected = rounding_error(node(z)[0], exact, z) / chains.sampler.temperature
    sizes = []
    call = NodeEnergy.__call__
    monkeypatch.setattr(
        NodeEnergy, "__call__", lambda self, z: (sizes.append(len(z)), call(self, z))[1]
    )
    assert chains.rounding() == pytest.approx(expected, rel=0.5)
    assert sizes == [1] * 6


def test_a_net_of_another_size_brings_its_shape(tmp_path):
    """train.py writes the input's shape beside the weights."""
    net = open_network("lenet", input_shape=(32, 30, 1), classes=4)
    save_npz(tmp_path / "m.npz", net.params() | {"input_shape": np.array([32, 30, 1])})
    result = run(
        "--weights",
        tmp_path / "m.npz",
        "--unit",
        3,
        "--chains",
        1,
        "--iterations",
        2,
        "--out",
        tmp_path / "v",
    )
    assert result.returncode == 0, result.stderr
    assert samples(tmp_path / "v").shape == (1, 1, 32, 30, 1)


def test_without_standard_streams(tmp_path):
    """Pipes and files then take their numbers, 0 to 2."""
    options = ["--unit", "0-9", "--chains", 2, "--iterations", 6, "--threads", 2]
    words = shlex.join(command("visualize.py", *options, "--out", tmp_path / "v"))
    subprocess.run(f"exec {words} <&- >&- 2>&-", shell=True, timeout=60, check=True)
    assert (tmp_path / "v" / "diagnostics.json").exists()


@pytest.mark.parametrize("name", ["auto", "paper"])
@pytest.mark.parametrize("reference", REFERENCES)
def test_the_presets_for_users_are_those_of_the_script(name, reference):
    net = "digits" if reference == "file" else "lenet"  # whose file of weights keeps a q
    ours = complete({"net": net, "preset": name, "reference": reference})
    given = preset((28, 28, 1), reference, name)
    assert given == {key: ours[key] for key in given}
    assert given.keys() >= {"sigma", "temperature", "step_size", "leapfrog_steps", "mass", "start"}
    with pytest.raises(ValueError, match="no preset 'mine' for 'data': there are auto, paper"):
        preset((28, 28, 1), "data", "mine")


def test_presets_and_types():
    paper = complete({"preset": "paper"})
    printed = {
        "iterations": 300,
        "step_size": 1e-5,  # of z = x / sigma
        "leapfrog_steps": 100,
        "sigma": 10.0,
        "mass": 0.01,
        "temperature": 0.001,
    }
    rest = {"chains": 10, "heat": 1.0, "spread": 1.0}
    assert PRESETS["grey"]["paper"] == {**printed, **rest}
    assert (paper["reference"], paper["start"]) == ("white", "noise")
    assert {name: paper[name] for name in printed} == printed
    assert not paper["adapt"]
    assert complete({})["adapt"]
    assert not complete({"step_size": 0.1})["adapt"]
    assert complete({"preset": "paper", "sigma": 3.0})["sigma"] == 3
    assert units("3") == ([3], {})
    assert units("1,4,7-9") == ([1, 4, 7, 8, 9], {})
    assert units("starfish, 5,Hen") == ([327, 5, 8], {"327": "starfish", "8": "hen"})
    assert units("giant panda") == ([388], {"388": "giant panda"})
    with pytest.raises(ValueError, match="'shark' could be great white shark, tiger shark"):
        units("shark")
    assert two_numbers("3,4") == [3, 4]


def test_pictures_are_scaled_each_for_itself():
    rng = np.random.default_rng(0)
    images = rng.standard_normal((2, 3, 4, 5, 1)) * 1000 + 7
    images[1] *= 1e-6
    shown = displayed(images)
    assert shown.dtype == np.uint8
    assert (shown.max(axis=(2, 3, 4)) > 220).any(axis=1).all()
    assert displayed(np.zeros((4, 4, 1))).tolist() == np.full((4, 4, 1), 127).tolist()


def test_judge_recognises_mnist_itself():
    _, test = load()
    images = np.stack([test.images[test.labels == y][:10] for y in range(10)]) / np.float32(256)
    found = judge(images, np.arange(10))
    assert found["network"].mean() > 0.95
    assert found["neighbours"].mean() > 0.85
    assert found["variety"].mean() == pytest.approx(1, abs=0.1)
    noise = np.random.default_rng(0).standard_normal((10, 10, 28, 28, 1)).astype(np.float32)
    assert judge(noise, np.arange(10))["neighbours"].mean() < 0.4


def test_help_explains_each_option():
    text = run("--help").stdout
    names = set(complete({})) - {"adapt", "class_names", "pixels"} | {"out", "resume"}
    for name in names:
        assert f"--{name.replace('_', '-')} " in text
    assert "examples:" in text
