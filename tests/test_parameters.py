"""Parameters: how they begin, are updated, taken from elsewhere and kept in files."""

import math

import numpy as np
import pytest

from app.files import write_whole
from app.formats.net import open_network
from app.formats.npz import load_npz, save_npz
from nn.backend import to_host
from nn.fillers import constant, xavier, xavier_caffe2014
from nn.linear import Linear
from nn.network import Network
from nn.sgd import POLICIES, SGD, MeanWeights


def test_set_params_lists_every_misfit():
    net = open_network("lenet")
    arrays = dict(net.params())
    del arrays["conv1.w"]
    arrays["fc2.w"] = np.zeros((500, 11), np.float32)
    arrays["other.w"] = np.zeros(3)
    with pytest.raises(ValueError) as error:
        net.set_params(arrays)
    for part in (
        "conv1.w is missing",
        "other.w is unknown",
        "fc2.w is (500, 11), expected (500, 10)",
    ):
        assert part in str(error.value)


def test_fillers():
    rng = np.random.default_rng(0)
    for filler, shape, bound in (
        (xavier, (5, 5, 20, 50), math.sqrt(3 / 500)),
        (xavier, (800, 500), 0.0612),
        (xavier_caffe2014, (5, 5, 20, 50), math.sqrt(3 / 500)),
        (xavier_caffe2014, (800, 500), 0.00274),
        (xavier_caffe2014, (500, 10), 0.0245),
    ):
        w = filler(shape, rng)
        assert w.dtype == np.float32
        assert 0.99 * bound < np.abs(w).max() < 1.01 * bound
        assert abs(w.mean()) < 0.05 * bound
    np.testing.assert_array_equal(constant(0.1)((3,), rng), np.float32([0.1] * 3))


def test_policies():
    assert POLICIES["fixed"](0.01, 10**6, 1) == 0.01
    assert POLICIES["inv"](0.01, 10_000, 1) == pytest.approx(0.01 * 2**-0.75)
    assert POLICIES["step"](0.01, 99_999, 100_000) == 0.01
    assert POLICIES["step"](0.01, 250_000, 100_000) == pytest.approx(0.0001)


def test_sgd_is_caffes_by_hand(xp):
    """Two steps: g += decay w; V = momentum V + lr mult g; w -= V, biases at twice the rate."""
    net = Network([("fc", Linear(1))], (1,), np.random.default_rng(0)).to(xp, np.float64)
    fc = net.layers["fc"]
    fc.params["w"][...], fc.params["b"][...] = 2.0, 1.0
    sgd = SGD(net, momentum=0.5, weight_decay=0.01)

    def step():
        sgd.step({"fc.w": xp.full((1, 1), 3.0), "fc.b": xp.full(1, 4.0)}, 0.1)

    step()
    V = 0.1 * (3 + 0.01 * 2)
    U = 0.2 * (4 + 0.01 * 1)
    assert fc.params["w"].item() == pytest.approx(2 - V)
    assert fc.params["b"].item() == pytest.approx(1 - U)
    step()
    V = 0.5 * V + 0.1 * (3 + 0.01 * (2 - V))
    assert fc.params["w"].item() == pytest.approx(2 - 0.1 * 3.02 - V)


def test_weights_are_whole_or_not_there(tmp_path):
    path = tmp_path / "w.npz"
    save_npz(path, {"a": np.arange(3)})

    def fails(file):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_whole(path, fails)
    np.testing.assert_array_equal(load_npz(path)["a"], np.arange(3))
    assert [p.name for p in tmp_path.iterdir()] == ["w.npz"]
    for contents in (b"", b"PK nonsense", path.read_bytes()[:100]):
        path.write_bytes(contents)
        with pytest.raises(ValueError, match="not a sound .npz file"):
            load_npz(path)


def test_mean_weights_are_those_of_all_updates_then_of_the_last_ones(xp):
    """After t updates the plain mean; from update `over` on, older ones count less and less."""
    net = Network([("fc", Linear(2))], (3,), np.random.default_rng(0)).to(xp, np.float64)
    mean, on_the_way = MeanWeights(net, over=4), []
    for t in range(7):
        for w in net.params().values():
            w += t + 1
        on_the_way.append({name: to_host(w).copy() for name, w in net.params().items()})
        mean.update()
    weights = np.ones(4) / 4
    for _ in range(3):  # updates 5, 6 and 7 have a quarter each of what is new
        weights = np.append(0.75 * weights, 0.25)
    for name, found in mean.means.items():
        expected = sum(c * w[name] for c, w in zip(weights, on_the_way, strict=True))
        np.testing.assert_allclose(to_host(found), expected, rtol=1e-12)
        assert found is not net.params()[name]
