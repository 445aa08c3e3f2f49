"""The integrator's physics, the sampler on known targets, the energy of a node."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hmc.diagnostics import autocorrelation, effective_sample_size, split_rhat
from hmc.energy import NodeEnergy, rounding_error
from hmc.forecast import forecast
from hmc.leapfrog import leapfrog
from hmc.sampler import HMC, ascend
from hmc.tuning import DualAveraging
from nn.backend import to_host
from nn.conv import Conv
from nn.linear import Linear
from nn.network import Network
from nn.parallel import ParallelNetwork
from nn.pool import MaxPool
from nn.relu import ReLU


def gaussian(precision, mean=0.0):
    """Energy of N(mean, precision^-1) on vectors (n, d)."""
    precision = np.asarray(precision, float)

    def energy(x):
        centred = x - mean
        gradient = centred @ precision
        return (gradient * centred).sum(axis=1) / 2, gradient

    return energy


def oscillator(x):
    return (x**2).reshape(len(x), -1).sum(axis=1) / 2, x


class Counting:
    def __init__(self, energy):
        self.energy, self.calls = energy, 0

    def __call__(self, x):
        self.calls += 1
        return self.energy(x)


def orbit(step_size, steps, mass=1.0):
    x, momentum = np.array([[1.0]]), np.array([[0.0]])
    leapfrog(oscillator, x, momentum, x.copy(), step_size, steps, mass)
    return x[0, 0], momentum[0, 0]


def test_leapfrog_is_eq_20_to_22_step_by_step():
    rng = np.random.default_rng(0)
    energy = gaussian([[2.0, 0.5], [0.5, 1.0]])
    x, momentum = rng.standard_normal((3, 2)), rng.standard_normal((3, 2))
    q, p = x.copy(), momentum.copy()
    eps, m = 0.1, 0.7
    leapfrog(energy, x, momentum, energy(x)[1], eps, 5, m)
    for _ in range(5):
        p = p - eps / 2 * energy(q)[1]
        q = q + eps * p / m
        p = p - eps / 2 * energy(q)[1]
    np.testing.assert_allclose(x, q, rtol=1e-13)
    np.testing.assert_allclose(momentum, p, rtol=1e-13)


@pytest.mark.parametrize("mass", [1.0, 0.25])
def test_orbit_of_the_oscillator(mass):
    """The exact orbit of the discrete map: cos(theta t) with cos theta = 1 - (eps omega)^2 / 2."""
    eps = 0.1
    theta = math.acos(1 - eps**2 / mass / 2)
    x, _ = orbit(eps, 37, mass)
    assert x == pytest.approx(math.cos(37 * theta), abs=1e-12)
    x, momentum = orbit(1e-4, 10_000)
    assert (x, momentum) == (
        pytest.approx(math.cos(1), abs=1e-8),
        pytest.approx(-math.sin(1), abs=1e-8),
    )


def test_leapfrog_is_reversible_and_keeps_volume():
    rng = np.random.default_rng(1)
    energy = gaussian(np.diag([1.0, 4.0]))
    x, momentum = rng.standard_normal((2, 2)), rng.standard_normal((2, 2))
    q, p = x.copy(), momentum.copy()
    _, gradient = leapfrog(energy, q, p, energy(q)[1], 0.2, 25)
    p *= -1
    leapfrog(energy, q, p, gradient, 0.2, 25)
    np.testing.assert_allclose(q, x, atol=1e-12)
    np.testing.assert_allclose(-p, momentum, atol=1e-12)

    def flow(z):
        q, p = z[None, :2].copy(), z[None, 2:].copy()
        leapfrog(energy, q, p, energy(q)[1], 0.2, 7)
        return np.concatenate([q[0], p[0]])

    z = rng.standard_normal(4)
    jacobian = np.stack([(flow(z + d) - flow(z - d)) / 2e-3 for d in 1e-3 * np.eye(4)])
    assert np.linalg.det(jacobian) == pytest.approx(1, abs=1e-9)


def test_energy_error_falls_fourfold_when_the_step_is_halved():
    def quartic(x):
        return (x**4).sum(axis=1), 4 * x**3

    def error(eps):
        x, p = np.array([[1.0]]), np.array([[0.5]])
        value, _ = leapfrog(quartic, x, p, quartic(x)[1], eps, round(0.8 / eps))
        return abs(value[0] + p[0, 0] ** 2 / 2 - 1.125)

    for eps in (0.02, 0.01, 0.005):
        assert error(eps) / error(eps / 2) == pytest.approx(4, rel=0.05)


@pytest.mark.parametrize("steps", [1, 7])
def test_one_gradient_a_step(steps):
    energy = Counting(oscillator)
    hmc = HMC(energy, 0.1, steps)
    state = hmc.start(np.ones((4, 3)))
    assert energy.calls == 1
    rng = np.random.default_rng(0)
    for _ in range(5):
        state, _ = hmc.step(state, rng)
    assert energy.calls == 1 + 5 * steps


def draw(hmc, x, iterations, seed=0, warm_up=200):
    rng = np.random.default_rng(seed)
    state = hmc.start(x)
    draws, infos = [], []
    for iteration in range(iterations + warm_up):
        state, info = hmc.step(state, rng)
        if iteration >= warm_up:
            draws.append(state.x.copy())
            infos.append(info)
    return np.array(draws), infos


TARGETS = {
    "standard": (np.eye(3), np.zeros(3)),
    "wide and narrow": (np.diag([0.25, 1.0, 9.0]), np.array([1.0, -2.0, 0.5])),
    "correlated": (np.linalg.inv([[1.0, 0.8], [0.8, 1.0]]), np.array([3.0, 0.0])),
    "one number": (np.eye(1) * 4, np.array([-1.0])),
}


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize(
    ("eps", "steps", "mass", "jitter"),
    [(0.2, 6, 1.0, 0.2), (0.3, 1, 1.0, 0.0), (0.1, 8, 0.3, 0.2)],
    ids=["hmc", "langevin", "light"],
)
def test_moments_of_gaussians(name, eps, steps, mass, jitter):
    """Mean and covariance within 4 standard errors, from the spread between 64 chains."""
    precision, mean = TARGETS[name]
    hmc = HMC(gaussian(precision, mean), eps, steps, mass, jitter=jitter)
    chains = 64
    draws, infos = draw(hmc, np.zeros((chains, len(mean))), 400)
    acceptance = np.mean([info["probability"] for info in infos])
    assert 0.5 < acceptance <= 1
    for estimate, truth in (
        (draws.mean(axis=0), mean),
        (np.einsum("tci,tcj->cij", draws - mean, draws - mean) / len(draws),
         np.linalg.inv(precision)),
    ):  # fmt: skip
        standard_error = estimate.std(axis=0, ddof=1) / math.sqrt(chains)
        assert (np.abs(estimate.mean(axis=0) - truth) < 4 * standard_error).all()


def test_a_large_step_is_corrected_by_rejection():
    """Near the stability limit many proposals are refused; the moments are still right."""
    hmc = HMC(gaussian(np.eye(20)), 1.7, 3)
    draws, infos = draw(hmc, np.zeros((64, 20)), 600)
    assert np.mean([info["accepted"] for info in infos]) < 0.7
    variance = (draws**2).mean(axis=(0, 2))
    standard_error = variance.std(ddof=1) / math.sqrt(64)
    assert abs(variance.mean() - 1) < 4 * standard_error


def test_a_mixture_is_visited_in_proportion():
    """exp(-U) = 0.25 N(-2, 1) + 0.75 N(2, 1): the share of each side and the second moment."""

    def energy(x):
        a, b = -((x + 2) ** 2) / 2 + math.log(0.25), -((x - 2) ** 2) / 2 + math.log(0.75)
        top = np.maximum(a, b)
        pa, pb = np.exp(a - top), np.exp(b - top)
        gradient = ((x + 2) * pa + (x - 2) * pb) / (pa + pb)
        return -(top + np.log(pa + pb))[:, 0], gradient

    draws, _ = draw(HMC(energy, 0.3, 8, jitter=0.3), np.zeros((200, 1)), 1500)
    share = (draws[:, :, 0] > 0).mean(axis=0)
    truth = 0.75 * 0.97725 + 0.25 * 0.02275
    assert abs(share.mean() - truth) < 4 * share.std(ddof=1) / math.sqrt(200)
    second = (draws[:, :, 0] ** 2).mean(axis=0)
    assert abs(second.mean() - 5) < 4 * second.std(ddof=1) / math.sqrt(200)


def test_detailed_balance_between_cells():
    """In equilibrium as many chains cross from a cell to another as come back."""
    rng = np.random.default_rng(0)
    chains = 40_000

    def double_well(x):
        return ((x**2 - 1) ** 2).sum(axis=1), 4 * x * (x**2 - 1)

    grid = np.linspace(-3, 3, 20001)
    density = np.exp(-((grid**2 - 1) ** 2))
    x = rng.choice(grid, chains, p=density / density.sum())[:, None]  # exact draws
    hmc = HMC(double_well, 0.7, 2)
    state = hmc.start(x)
    edges = [-1.2, -0.6, 0, 0.6, 1.2]
    before = np.digitize(state.x[:, 0], edges)
    state, info = hmc.step(state, rng)
    after = np.digitize(state.x[:, 0], edges)
    assert 0.3 < info["accepted"].mean() < 0.95
    flow = np.zeros((6, 6))
    np.add.at(flow, (before, after), 1)
    difference, spread = flow - flow.T, np.sqrt(np.maximum(flow + flow.T, 1))
    assert (np.abs(difference) < 4 * spread).all()
    assert (flow > 50).sum() > 20


def test_temperature_and_seeds():
    hmc = HMC(gaussian(np.eye(2)), 0.1, 10, temperature=0.04, jitter=0.2)
    draws, _ = draw(hmc, np.zeros((64, 2)), 400)
    variance = (draws**2).mean(axis=(0, 2))
    assert abs(variance.mean() - 0.04) < 4 * variance.std(ddof=1) / 8
    again, _ = draw(hmc, np.zeros((64, 2)), 400)
    np.testing.assert_array_equal(draws, again)
    other, _ = draw(hmc, np.zeros((64, 2)), 400, seed=1)
    assert (draws != other).any()


def test_chains_are_accepted_each_for_itself():
    def energy(x):  # chain 1 stands before a wall it cannot enter
        wall = np.where((np.arange(len(x)) == 1) & (np.abs(x[:, 0]) > 0), np.inf, 0)
        return (x**2).sum(axis=1) / 2 + wall, x

    hmc = HMC(energy, 0.1, 3)
    state = hmc.start(np.zeros((3, 1)))
    state, info = hmc.step(state, np.random.default_rng(0))
    assert info["accepted"].tolist() == [True, False, True]
    assert info["divergent"].tolist() == [False, True, False]
    assert state.x[1, 0] == 0
    assert state.x[0, 0] != 0


def test_ascent_reaches_the_maximum():
    state = HMC(gaussian(np.diag([1.0, 4.0]), 2.0), 1, 1).start(np.zeros((3, 2)))
    for _ in range(100):
        state = ascend(gaussian(np.diag([1.0, 4.0]), 2.0), state, 0.2)
    np.testing.assert_allclose(state.x, 2, atol=1e-6)


@pytest.mark.parametrize("target", [0.6, 0.8, 0.9])
def test_dual_averaging_reaches_its_target(target):
    """Chains of very different scales, each with a step size of its own."""
    scale = np.array([0.1, 1.0, 10.0] * 20)[:, None]

    def energy(x):
        return ((x / scale) ** 2).sum(axis=1) / 2, x / scale**2

    hmc = HMC(energy, 0.05, 1)  # more steps, and resonances blur what a step size means
    tuning = DualAveraging(0.05, 60, target)
    rng = np.random.default_rng(0)
    state = hmc.start(scale * rng.standard_normal((60, 50)))
    for _ in range(300):
        state, info = hmc.step(state, rng)
        hmc.step_size = tuning.update(info["probability"])
    hmc.step_size = tuning.average
    rates = np.mean([hmc.step(state, rng)[1]["probability"] for _ in range(200)], axis=0)
    for group in range(3):
        assert rates[group::3].mean() == pytest.approx(target, abs=0.1)  # it errs upwards
    assert tuning.average[2] / tuning.average[0] == pytest.approx(100, rel=0.2)


def test_step_size_stays_below_the_largest():
    tuning = DualAveraging(0.1, 2, 0.8, largest=0.15)
    for _ in range(50):
        trial = tuning.update(np.ones(2))
    assert (trial <= 0.15 * (1 + 1e-12)).all()
    assert (tuning.average <= 0.15 * (1 + 1e-12)).all()


@pytest.mark.parametrize(
    ("iterations", "settings", "theta", "remains", "word"),
    [  # eps, L, sigma, m, T
        (300, (1e-4, 100, 10, 0.01, 1.0), 0.010, 0.985, "hardly move"),
        (300, (1e-4, 100, 10, 0.01, 0.001), 0.316, 2.4e-7, ""),
        (300, (1e-4, 100, 10, 1e-4, 1.0), 0.100, 0.22, "hardly move"),
        (300, (1e-4, 100, 10, 1e-4, 0.001), 3.162, 0.94, "resonance"),
        (100, (3e-6, 50, 10, 1e-5, 0.001), 0.150, 0.32, "hardly move"),
        (500, (3e-6, 50, 10, 1e-5, 0.001), 0.150, 0.0035, ""),
        (100, (1.0, 50, 10, 1e-5, 0.001), 5e4, None, "unstable"),
    ],
)
def test_forecast_of_printed_and_other_settings(iterations, settings, theta, remains, word):
    told = forecast(iterations, *settings)
    assert told.theta == pytest.approx(theta, rel=0.02)
    if remains is not None:
        assert told.remains == pytest.approx(remains, rel=0.12)
        assert told.reached == pytest.approx(1 - math.cos(told.theta) ** iterations, abs=0.01)
    assert (word in told.warning) if word else not told.warning


@given(st.floats(1e-6, 1e-2), st.integers(1, 100), st.floats(0.1, 100), st.floats(1e-4, 10),
       st.floats(1e-4, 10))  # fmt: skip
def test_settings_that_a_forecast_recommends_are_good(eps, steps, sigma, mass, temperature):
    told = forecast(50, eps, steps, sigma, mass, temperature)
    if told.warning:
        better = float(told.warning.split("--step-size ")[1].split()[0].rstrip(","))
        assert not forecast(50, better, steps, sigma, mass, temperature).warning or steps == 1


def test_forecast_is_what_the_sampler_does():
    """Without f: correlation with the start, from the chains themselves."""
    sigma, T, m = 10.0, 0.5, 0.3
    eps = 0.12 * sigma * math.sqrt(T * m) / 10

    def energy(x):
        return (x**2).sum(axis=1) / (2 * sigma**2 * T), x / (sigma**2 * T)

    rng = np.random.default_rng(0)
    start = sigma * math.sqrt(T) * rng.standard_normal((50, 2000))
    hmc = HMC(energy, eps, 10, m)
    state = hmc.start(start)
    for _ in range(40):
        state, _ = hmc.step(state, rng)
    correlation = np.corrcoef(start.ravel(), state.x.ravel())[0, 1]
    assert correlation == pytest.approx(forecast(40, eps, 10, sigma, m, T).remains, abs=0.02)


def ar1(rho, n, m, rng):
    x = np.empty((n, m))
    x[:, 0] = rng.standard_normal(n)
    for t in range(1, m):
        x[:, t] = rho * x[:, t - 1] + math.sqrt(1 - rho**2) * rng.standard_normal(n)
    return x


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, -0.4])
def test_effective_sample_size_of_autoregressive_chains(rho):
    """n m (1 - rho) / (1 + rho)."""
    draws = ar1(rho, 8, 4000, np.random.default_rng(0))
    expected = 8 * 4000 * (1 - rho) / (1 + rho)
    assert effective_sample_size(draws) == pytest.approx(expected, rel=0.15)
    correlation = autocorrelation(draws).mean(axis=0)
    np.testing.assert_allclose(correlation[:4], rho ** np.arange(4), atol=0.03)
    assert split_rhat(draws) == pytest.approx(1, abs=0.02)


def test_diagnostics_see_chains_that_disagree_or_stand_still():
    rng = np.random.default_rng(0)
    apart = rng.standard_normal((4, 500)) + np.array([0, 0, 0, 5.0])[:, None]
    assert split_rhat(apart) > 1.5
    assert effective_sample_size(apart) < 20
    trend = rng.standard_normal((4, 500)) + np.linspace(0, 5, 500)
    assert split_rhat(trend) > 1.4
    still = np.ones((4, 500))
    assert math.isnan(split_rhat(still))
    assert math.isnan(effective_sample_size(still))
    assert math.isnan(split_rhat(rng.standard_normal((4, 3))))
    assert effective_sample_size(rng.standard_normal((1, 400))) == pytest.approx(400, rel=0.4)


def small_net(channels=2):
    layers = [("conv1", Conv(4, 3)), ("relu1", ReLU()), ("pool1", MaxPool(2, 2)),
              ("conv2", Conv(5, 3)), ("fc", Linear(3))]  # fmt: skip
    return Network(layers, (10, 12, channels), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("layer", "unit", "position"),
    [("conv1", 2, (0, 3)), ("pool1", [0, 1, 2, 3], None), ("conv2", 4, None), ("fc", 1, None)],
)
def test_energy_of_a_node(xp, layer, unit, position):
    """The value by its formula, the gradient by differences; one unit, or one for each chain."""
    rng = np.random.default_rng(2)
    net = small_net().to(xp, np.float64)
    sigma, T = 1.5, 0.2
    energy = NodeEnergy(net, layer, unit, position, sigma, T)
    x = rng.standard_normal((4, 10, 12, 2))
    value, gradient = (to_host(a).copy() for a in energy(xp.asarray(x)))
    f = to_host(net.bottom_up(xp.asarray(x), to=layer))
    place = tuple(s // 2 for s in f.shape[1:3]) if f.ndim == 4 else ()
    score = f[(np.arange(4), *(position or place), np.broadcast_to(unit, 4))]
    square = (x**2).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(value, (square / (2 * sigma**2) - score) / T)
    for _ in range(4):
        d = rng.standard_normal(x.shape)
        up = to_host(energy(xp.asarray(x + 1e-6 * d))[0])
        down = to_host(energy(xp.asarray(x - 1e-6 * d))[0])
        np.testing.assert_allclose(
            (up - down) / 2e-6, (gradient * d).sum(axis=(1, 2, 3)), rtol=1e-6, atol=1e-6
        )


def test_energy_by_threads_is_the_same():
    net = small_net().to(np, np.float64)
    x = np.random.default_rng(0).standard_normal((40, 10, 12, 2))
    units = np.arange(40) % 3
    value, gradient = NodeEnergy(net, "fc", units)(x)
    value2, gradient2 = NodeEnergy(ParallelNetwork(net, 3), "fc", units)(x)
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
    single = NodeEnergy(small_net(), "fc", 0, temperature=1e-3)
    double = NodeEnergy(small_net().to(np, np.float64), "fc", 0, temperature=1e-3)
    error = rounding_error(single, double, x)
    assert 0 < error < 0.05


def test_numbers_that_make_no_sampler():
    for options in ({"mass": 0}, {"step_size": -1}, {"temperature": 0}, {"steps": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(options))}"):
            HMC(oscillator, **{"step_size": 0.1, "steps": 3, **options})


def test_flat_scores_are_noticed_at_any_sigma():
    net = small_net()
    net.layers["conv1"].params["b"][:2] = -100
    x = np.random.default_rng(0).standard_normal((9, 10, 12, 2)).astype(np.float32)
    for sigma in (1e-6, 1.0, 1e6):
        flat = NodeEnergy(net, "relu1", np.arange(9) % 4, sigma=sigma).is_flat(x)
        assert flat[[0, 1, 4, 5, 8]].all()
        assert not NodeEnergy(net, "conv1", 2, sigma=sigma).is_flat(x).any()


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
    hmc = HMC(NodeEnergy(ParallelNetwork(net, 2), "fc", 0), 1e30, 20)
    state = hmc.start(np.ones((20, 10, 12, 2), np.float32))
    state, info = hmc.step(state, np.random.default_rng(0))
    assert info["divergent"].all()
    assert not info["accepted"].any()
    assert (state.x == 1).all()
