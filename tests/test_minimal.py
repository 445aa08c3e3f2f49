"""minimal.py computes what nn/, losses/ and hmc/ do, and runs as a newcomer runs it."""

import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import minimal
from hmc.reference import Data
from hmc.sampler import HMC
from losses.generative import generative_loss
from nn.conv import Conv
from nn.linear import Linear
from nn.network import Network
from nn.pool import MaxPool
from nn.relu import ReLU
from tests.gradcheck import relative_error
from tests.scripts import ROOT


def book(net):
    """The textbook's net over the same parameters."""
    layers = [("conv1", Conv(8, 5)), ("pool1", MaxPool(2, 2)), ("conv2", Conv(16, 5))]
    layers += [
        ("pool2", MaxPool(2, 2)),
        ("fc1", Linear(128)),
        ("relu", ReLU()),
        ("fc2", Linear(10)),
    ]
    network = Network(layers, (28, 28, 1), np.random.default_rng(0)).to(np, np.float64)
    for w, array in zip(network.params().values(), net, strict=True):
        w[...] = array
    return network


def float64_net(rng):
    return [w + 0.1 * rng.standard_normal(w.shape) for w in minimal.new_network(rng)]


def test_layers_are_the_textbooks():
    rng = np.random.default_rng(0)
    net = float64_net(rng)
    network, x, dy = book(net), rng.random((5, 28, 28, 1)), rng.standard_normal((5, 10))
    scores, layers = minimal.bottom_up(x, net)
    assert relative_error(scores, network.bottom_up(x)) < 1e-12
    dx, gradients = minimal.top_down(dy, layers, net)
    grads = {}
    assert relative_error(dx, network.top_down(dy, grads)) < 1e-12
    for gradient, name in zip(gradients, network.params(), strict=True):
        assert relative_error(gradient, grads[name]) < 1e-12, name


def test_ties_of_a_pool_go_to_the_first_pixel():
    y, argmax = minimal.max_pool(np.ones((1, 4, 4, 1)))
    assert (y == 1).all()
    assert (argmax == 0).all()


def test_the_loss_is_the_projects():
    rng = np.random.default_rng(1)
    scores, labels = 5 * rng.standard_normal((40, 10)), rng.integers(0, 10, 40)
    loss, dscores, ess = minimal.generative_loss(scores, labels)
    expected, dexpected, info = generative_loss(scores, labels)
    assert abs(loss - expected) < 1e-12
    assert np.abs(dscores - dexpected).max() < 1e-12
    assert relative_error(ess, info["ess"]) < 1e-12
    # Samples from q alone count in the weights, and not as examples of a class.
    counts = np.arange(40) < 30
    loss, dscores, _ = minimal.generative_loss(scores, np.where(counts, labels, -1))
    expected, dexpected, _ = generative_loss(scores, labels, counts.astype(float))
    assert abs(loss - expected) < 1e-12
    assert np.abs(dscores - dexpected).max() < 1e-12


def test_the_reference_is_the_projects():
    images = np.random.default_rng(2).random((50, 28, 28, 1))
    mean, A = minimal.fit_q(images)
    q = Data(images, minimal.NOISE)
    np.testing.assert_allclose(mean, q.mean.reshape(-1), rtol=1e-12)
    unbiased = 50 / 49  # np.cov divides by n - 1
    found = (A.astype(float) @ A - minimal.NOISE**2 * np.eye(784)) / unbiased
    assert np.abs(found + minimal.NOISE**2 * np.eye(784) - q.A @ q.A).max() < 1e-5  # float32


def test_the_sampler_is_the_projects():
    """The same random numbers, the same trajectories, the same decisions."""
    rng = np.random.default_rng(3)
    net, q = float64_net(rng), (rng.random(784), 0.1 * rng.standard_normal((784, 784)))

    def node(z):
        return minimal.energy(z, np.arange(10), net, q)

    z = rng.standard_normal((10, 784))
    U, dU = node(z)
    hmc = HMC(node, 0.05, 4)
    state, ours, theirs = hmc.start(z), np.random.default_rng(4), np.random.default_rng(4)
    accepted = []
    for _ in range(6):
        z, U, dU, moved = minimal.hmc_step(node, z, U, dU, ours, 0.05, 4)
        state, info = hmc.step(state, theirs)
        np.testing.assert_array_equal(moved, info["accepted"])
        assert relative_error(z, state.x) < 1e-12
        assert relative_error(U, state.value) < 1e-12
        accepted.append(moved)
    assert 0 < np.mean(accepted) < 1


def test_its_energy_has_the_gradient_that_it_says():
    rng = np.random.default_rng(5)
    net, q = float64_net(rng), (rng.random(784), 0.1 * rng.standard_normal((784, 784)))
    z, d = rng.standard_normal((2, 10, 784))
    _, gradient = minimal.energy(z, np.arange(10), net, q)
    up, down = (minimal.energy(z + e * d, np.arange(10), net, q)[0] for e in (1e-6, -1e-6))
    np.testing.assert_allclose((up - down) / 2e-6, (gradient * d).sum(axis=1), rtol=1e-5)


def test_it_is_short():
    text = (ROOT / "minimal.py").read_text()
    assert len(text.splitlines()) <= 200
    assert set(re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE)) == {
        "PIL",
        "functools",
        "gzip",
        "numpy",
        "pathlib",
        "time",
    }


def test_it_runs(tmp_path, capsys):
    minimal.main(epochs=1, images=2000, iterations=3, picture=tmp_path / "digits.png")
    printed = capsys.readouterr().out
    assert float(re.search(r"test error (\S+) %", printed)[1]) < 70
    assert "ten digits are in" in printed
    assert np.asarray(Image.open(tmp_path / "digits.png")).std() > 10


@pytest.mark.slow
def test_the_command_of_the_readme(tmp_path):
    command = [sys.executable, ROOT / "minimal.py"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert float(re.search(r"test error (\S+) %", result.stdout)[1]) < 3
    assert np.asarray(Image.open(tmp_path / "minimal.png")).std() > 30
