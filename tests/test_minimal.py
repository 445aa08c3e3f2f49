"""minimal.py computes what nn/, losses/ and hmc/ compute, stays short, and does what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hmc.leapfrog import leapfrog
from hmc.sampler import HMC
from losses.generative import generative_loss
from nn.conv import Conv
from nn.linear import Linear
from nn.pool import MaxPool
from nn.relu import ReLU

with pytest.MonkeyPatch.context() as patch:  # minimal.py sets this for itself, not for the tests
    patch.setenv("OPENBLAS_NUM_THREADS", os.environ.get("OPENBLAS_NUM_THREADS", "1"))
    import minimal

ROOT = Path(minimal.__file__).parent
SEEDS = range(3)


def same(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def layer_of(kind, *sizes, w, b):
    layer = kind(*sizes)
    layer.params |= {"w": w, "b": b}
    return layer


def random_net(rng, scale=1.0):
    shapes = (5, 5, 1, 8), (5, 5, 8, 32), (512, 128), (128, 10)
    net = []
    for shape in shapes:
        net.append(scale * rng.standard_normal(shape) / np.prod(shape[:-1]) ** 0.5)
        net.append(scale * rng.standard_normal(shape[-1]))
    return net


@pytest.mark.parametrize("seed", SEEDS)
def test_conv_is_the_layer(seed):
    rng = np.random.default_rng(seed)
    N, H, W, C, F = rng.integers(1, 4), *rng.integers(5, 9, 2), *rng.integers(1, 4, 2)
    K = rng.integers(1, 6)
    x = rng.standard_normal((N, H, W, C))
    w, b = rng.standard_normal((K, K, C, F)), rng.standard_normal(F)
    layer = layer_of(Conv, int(F), int(K), w=w, b=b)
    y = layer.forward(x)
    same(minimal.conv(x, w, b), y)
    dy = rng.standard_normal(y.shape)
    dx, dw, db = minimal.conv_backward(dy, x, w)
    same(dx, layer.backward(dy))
    gradients = layer.gradients(dy)
    same(dw, gradients["w"])
    same(db, gradients["b"])


@pytest.mark.parametrize("seed", SEEDS)
def test_max_pool_is_the_layer_also_at_ties(seed):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 3, (2, 6, 8, 3)).astype(float)  # few values: many maxima are not unique
    layer = MaxPool(2, 2)
    value = layer.forward(x)
    y, argmax = minimal.max_pool(x)
    same(y, value)
    dy = rng.standard_normal(y.shape)
    same(minimal.max_pool_backward(dy, argmax), layer.backward(dy))


@pytest.mark.parametrize("seed", SEEDS)
def test_relu_and_linear_are_the_layers(seed):
    rng = np.random.default_rng(seed)
    x, dy = rng.standard_normal((4, 6)), rng.standard_normal((4, 6))
    x[0, 0] = 0  # the kink passes no gradient
    relu = ReLU()
    same(minimal.relu(x), relu.forward(x))
    same(minimal.relu_backward(dy, x), relu.backward(dy))
    w, b, dy = rng.standard_normal((6, 5)), rng.standard_normal(5), rng.standard_normal((4, 5))
    linear = layer_of(Linear, 5, w=w, b=b)
    same(minimal.linear(x, w, b), linear.forward(x))
    dx, dw, db = minimal.linear_backward(dy, x, w)
    same(dx, linear.backward(dy))
    gradients = linear.gradients(dy)
    same(dw, gradients["w"])
    same(db, gradients["b"])


def test_the_net_is_a_stack_of_these_layers():
    rng = np.random.default_rng(0)
    net, x = random_net(rng), rng.standard_normal((3, 28, 28, 1))
    w1, b1, w2, b2, w3, b3, w4, b4 = net
    layers = [
        layer_of(Conv, 8, 5, w=w1, b=b1),
        MaxPool(2, 2),
        layer_of(Conv, 32, 5, w=w2, b=b2),
        MaxPool(2, 2),
        layer_of(Linear, 128, w=w3, b=b3),
        ReLU(),
        layer_of(Linear, 10, w=w4, b=b4),
    ]
    y = x
    for layer in layers:
        y = layer.forward(y)
    scores, kept = minimal.bottom_up(x, net)
    same(scores, y)

    dy = dscores = rng.standard_normal(scores.shape)
    gradients = []
    for layer in reversed(layers):
        of_layer = layer.gradients(dy)
        gradients = [of_layer[name] for name in ("w", "b") if name in of_layer] + gradients
        dy = layer.backward(dy)
    dx, dnet = minimal.top_down(dscores, kept, net)
    same(dx, dy)
    for mine, theirs in zip(dnet, gradients, strict=True):
        same(mine, theirs)


@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 1e4])
def test_loss_is_the_generative_loss(scale):
    rng = np.random.default_rng(1)
    scores, labels = scale * rng.standard_normal((16, 5)), rng.integers(0, 5, 16)
    loss, dscores, ess = minimal.generative_loss(scores, labels)
    expected, gradient, info = generative_loss(scores, labels)
    np.testing.assert_allclose(loss, expected, rtol=1e-12, atol=1e-12)
    same(dscores, gradient)
    same(ess, info["ess"])


def test_images_without_a_label_are_samples_of_q():
    """Eq. 11: the weights are over all images, the loss is that of the labelled ones alone."""
    rng = np.random.default_rng(2)
    scores, labels = rng.standard_normal((12, 4)), rng.integers(0, 4, 7)
    loss, dscores, _ = minimal.generative_loss(scores, labels)
    log_weights = scores - np.log(np.exp(scores).sum(axis=0))
    same(loss, -np.mean([np.log(12) + log_weights[i, y] for i, y in enumerate(labels)]))
    same(dscores.sum(axis=0), np.zeros(4))
    change, eps = rng.standard_normal(scores.shape), 1e-6
    ends = [minimal.generative_loss(scores + s * eps * change, labels)[0] for s in (1, -1)]
    slope = (ends[0] - ends[1]) / (2 * eps)
    assert slope == pytest.approx((dscores * change).sum(), rel=1e-7)


def test_energy_and_its_gradient():
    rng = np.random.default_rng(3)
    net, classes = random_net(rng), np.array([3, 0, 9])
    own = classes[:, None] == np.arange(10)
    mean, A = rng.standard_normal(784), rng.standard_normal((784, 784)) / 28
    z = rng.standard_normal((3, 784))
    U, dU = minimal.energy(z, own, net, mean, A)
    for i in range(3):
        x = (mean + A @ z[i]).reshape(1, 28, 28, 1)
        f = minimal.bottom_up(x, net)[0][0, classes[i]]
        prior = (z[i] ** 2).sum() / (2 * minimal.SIGMA**2)
        assert U[i] == pytest.approx((prior - f) / minimal.TEMPERATURE, rel=1e-12)
    change, eps = rng.standard_normal(z.shape), 1e-6
    ends = [minimal.energy(z + s * eps * change, own, net, mean, A)[0] for s in (1, -1)]
    slope = (ends[0] - ends[1]) / (2 * eps)
    np.testing.assert_allclose(slope, (dU * change).sum(axis=1), rtol=1e-6)


def quartic(x):
    """An energy whose trajectories are not known in closed form."""
    return (x**4 / 4 + x**2 / 2).sum(axis=1), x**3 + x


def test_leapfrog_is_that_of_hmc():
    rng = np.random.default_rng(4)
    x, momentum = rng.standard_normal((5, 7)), rng.standard_normal((5, 7))
    end = minimal.leapfrog(quartic, x, momentum, quartic(x)[1], 0.1, 20)
    value, gradient = leapfrog(quartic, x, momentum, quartic(x)[1], 0.1, 20)  # moves x in place
    for mine, theirs in zip(end, (x, momentum, value, gradient), strict=True):
        same(mine, theirs)


def test_hmc_step_is_that_of_hmc():
    """The same random numbers lead to the same chains and the same decisions."""
    x = np.random.default_rng(5).standard_normal((50, 4))
    sampler = HMC(quartic, 0.45, 5)  # so long a step that some trajectories are rejected
    state, rng = sampler.start(x), np.random.default_rng(6)
    z, (U, dU), own_rng = x.copy(), quartic(x), np.random.default_rng(6)
    rejected = 0
    for _ in range(20):
        state, info = sampler.step(state, rng)
        accepted = minimal.hmc_step(quartic, z, U, dU, own_rng, 0.45, 5)
        np.testing.assert_array_equal(accepted, info["accepted"])
        for mine, theirs in (z, state.x), (U, state.value), (dU, state.gradient):
            same(mine, theirs)
        rejected += (~accepted).sum()
    assert 20 < rejected < 980


def test_it_is_short():
    lines = Path(minimal.__file__).read_text().splitlines()
    assert len(lines) <= 200
    assert max(map(len, lines)) <= 100


def test_it_needs_nothing_of_the_project():
    imported = re.findall(r"^(?:import|from) (\w+)", Path(minimal.__file__).read_text(), re.M)
    assert set(imported) - sys.stdlib_module_names == {"numpy", "PIL"}


def digits(path, rows):
    """The pixels (rows, 10, 28, 28), from 0 to 1."""
    picture = Image.open(path).convert("L").resize((280, rows * 28), Image.Resampling.BOX)
    return np.asarray(picture).reshape(rows, 28, 10, 28).swapaxes(1, 2) / np.float32(255)


def test_main_on_a_few_images(tmp_path, monkeypatch, capsys):
    whole = minimal.read
    few = {part: [array[:640] for array in whole(part)] for part in ("train", "t10k")}
    monkeypatch.setattr(minimal, "read", few.get)
    monkeypatch.chdir(tmp_path)
    minimal.main(epochs=1, iterations=20, rows=1)
    said = capsys.readouterr().out
    assert re.search(r"test error \d+\.\d+ ?%", said)
    assert "accepted" in said
    assert digits(tmp_path / "minimal.png", 1).std(axis=(2, 3)).min() > 0


def test_without_mnist_one_line_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(minimal, "MNIST", tmp_path / "nothing")
    with pytest.raises(SystemExit, match=r"minimal\.py: .*nothing.*") as error:
        minimal.main()
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_as_a_newcomer_runs_it(tmp_path):
    run = subprocess.run(
        [sys.executable, minimal.__file__], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    error = float(re.search(r"test error ([\d.]+) ?%", run.stdout).group(1))
    assert error < 3
    drawn = digits(tmp_path / "minimal.png", 3)
    assert drawn.std(axis=(2, 3)).min() > 0.05

    # A LeNet that was trained apart from all this takes most of them for what they should be.
    judge = np.load(ROOT / "assets" / "lenet-judge.npz")
    names = [f"{layer}.{kind}" for layer in ("conv1", "conv2", "fc1", "fc2") for kind in "wb"]
    scores, _ = minimal.bottom_up(drawn.reshape(-1, 28, 28, 1), [judge[name] for name in names])
    assert np.mean(scores.argmax(axis=1) == np.tile(np.arange(10), 3)) >= 0.7
