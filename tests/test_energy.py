"""The energy of a node: value, gradient, processes, rounding, errors."""

import numpy as np
import pytest

from fast.cpu import CPU
from fast.cpu.team import Team
from hmc.energy import NodeEnergy, rounding_error
from hmc.reference import Data, Natural, White
from hmc.sampler import HMC
from nn.backend import to_host
from nn.conv import Conv
from nn.linear import Linear
from nn.network import Network
from nn.pool import MaxPool
from nn.relu import ReLU


def white():
    return White((10, 12, 2), 1.5, 0.3)


def natural():
    return Natural((10, 12, 2), 0.7, 0.1)


def data():
    return Data(np.random.default_rng(0).random((50, 10, 12, 2)), 0.05)


REFERENCES = [white, natural, data]


def small_net(channels=2):
    layers = [
        ("conv1", Conv(4, 3)),
        ("relu1", ReLU()),
        ("pool1", MaxPool(2, 2)),
        ("conv2", Conv(5, 3)),
        ("fc", Linear(3)),
    ]
    return Network(layers, (10, 12, channels), np.random.default_rng(0))


def test_a_sample_without_its_noise(xp):
    """A linear f = g x moves q = N(mu, C), C = S + s^2 I, to the mean m = mu + C g: images of
    N(m, S) with noise. Their mean given x is m + S C^-1 (x - m)."""
    rng = np.random.default_rng(0)
    q = Data(rng.random((30, 3, 4, 1)), ridge=0.3)
    C, q.noise = q.A @ q.A, 0.3
    net = Network([("fc", Linear(2))], (3, 4, 1), rng).to(xp, np.float64)
    g = to_host(net.params()["fc.w"])[:, 1]
    m = q.mean.reshape(-1) + C @ g
    energy = NodeEnergy(net, "fc", 1, reference=q.to(xp, np.float64))
    z = xp.asarray(rng.standard_normal((5, 3, 4, 1)))
    x = to_host(q.image(z)).reshape(5, -1)
    S = C - 0.09 * np.eye(12)
    expected = m + np.linalg.solve(C, (x - m).T).T @ S
    np.testing.assert_allclose(to_host(energy.without_noise(z)).reshape(5, -1), expected)
    q.noise = 0.0
    np.testing.assert_array_equal(energy.without_noise(z), q.image(z))


@pytest.mark.parametrize(
    ("layer", "unit", "position"),
    [("conv1", 2, (0, 3)), ("pool1", [0, 1, 2, 3], None), ("conv2", 4, None), ("fc", 1, None)],
)
@pytest.mark.parametrize("make", REFERENCES, ids=lambda make: make.__name__)
def test_energy_of_a_node(xp, layer, unit, position, make):
    """The value by its formula, the gradient by differences; one unit, or one for each chain."""
    rng = np.random.default_rng(2)
    net = small_net().to(xp, np.float64)
    q = make().to(xp, np.float64)
    energy = NodeEnergy(net, layer, unit, position, q)
    z = rng.standard_normal((4, *q.shape))
    value, gradient = (to_host(a) for a in energy(xp.asarray(z)))
    f = to_host(net.bottom_up(q.image(xp.asarray(z)), to=layer))
    place = tuple(s // 2 for s in f.shape[1:3]) if f.ndim == 4 else ()
    score = f[(np.arange(4), *(position or place), np.broadcast_to(unit, 4))]
    np.testing.assert_allclose(value, (z**2).sum(axis=(1, 2, 3)) / 2 - score)
    np.testing.assert_allclose(to_host(energy.score(xp.asarray(z), xp.asarray(value))), score)
    for _ in range(3):
        d = rng.standard_normal(z.shape)
        up = to_host(energy(xp.asarray(z + 1e-6 * d))[0])
        down = to_host(energy(xp.asarray(z - 1e-6 * d))[0])
        np.testing.assert_allclose(
            (up - down) / 2e-6, (gradient * d).sum(axis=(1, 2, 3)), rtol=1e-5, atol=1e-5
        )


def test_energy_by_processes_is_the_same():
    net = small_net().to(np, np.float64)
    x = np.random.default_rng(0).standard_normal((40, 10, 12, 2))
    units = np.arange(40) % 3
    value, gradient = NodeEnergy(net, "fc", units)(x)
    value2, gradient2 = NodeEnergy(Team(net, CPU, 3), "fc", units)(x)
    np.testing.assert_allclose(value, value2, rtol=1e-12)
    np.testing.assert_allclose(gradient, gradient2, rtol=1e-10, atol=1e-12)


def test_one_energy_serves_any_number_of_chains():
    net = small_net()
    x = np.random.default_rng(0).standard_normal((7, 10, 12, 2)).astype(np.float32)
    energy = NodeEnergy(net, "fc", 1)
    whole = energy(x)[0].copy()
    for n in (1, 4, 7):
        np.testing.assert_allclose(energy(x[:n])[0], whole[:n], rtol=1e-5)


def test_rounding_error_is_measured():
    x = np.random.default_rng(0).standard_normal((4, 10, 12, 2)).astype(np.float32)
    single = NodeEnergy(small_net(), "fc", 0)
    double = NodeEnergy(small_net().to(np, np.float64), "fc", 0)
    error = rounding_error(single(x)[0], double, x)
    assert 0 < error < 5e-5


def test_flat_scores_are_noticed_at_any_sigma():
    net = small_net()
    net.layers["conv1"].params["b"][:2] = -100
    x = np.random.default_rng(0).standard_normal((9, 10, 12, 2)).astype(np.float32)
    for sigma in (1e-6, 1.0, 1e6):
        q = White(net.input_shape, sigma)
        flat = NodeEnergy(net, "relu1", np.arange(9) % 4, reference=q).is_flat(x / sigma)
        assert flat[[0, 1, 4, 5, 8]].all()
        assert not NodeEnergy(net, "conv1", 2, reference=q).is_flat(x / sigma).any()


def test_nodes_that_are_not_there():
    net = small_net()
    for options, message in [
        (("conv9", 0), "no layer 'conv9'; this net has conv1, relu1, pool1, conv2, fc"),
        (("fc", 3), r"layer fc has units 0 .. 2, not 3"),
        (("fc", [-1, 2]), r"units 0 .. 2, not -1"),
        (("conv1", 0, (8, 0)), r"position 8,0 is outside the map of conv1, whose rows are 0 .. 7"),
        (("fc", 0, (0, 0)), "is not a map"),
    ]:
        with pytest.raises(ValueError, match=message):
            NodeEnergy(net, *options)


def test_a_chain_that_diverges_is_rejected_without_noise():
    """Warnings are errors in these tests: overflow in a trajectory must not raise one."""
    net = small_net()
    hmc = HMC(NodeEnergy(Team(net, CPU, 2), "fc", 0), 1e30, 20)
    state = hmc.start(np.ones((20, 10, 12, 2), np.float32))
    state, info = hmc.step(state, np.random.default_rng(0))
    assert info["divergent"].all()
    assert not info["accepted"].any()
    assert (state.x == 1).all()
