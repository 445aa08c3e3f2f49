"""The integrator's physics, and the sampler on known targets."""

import math

import numpy as np
import pytest

from hmc.ascent import Ascent
from hmc.leapfrog import leapfrog
from hmc.sampler import HMC


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
        (
            np.einsum("tci,tcj->cij", draws - mean, draws - mean) / len(draws),
            np.linalg.inv(precision),
        ),
    ):
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
    ascent = Ascent(gaussian(np.diag([1.0, 4.0]), 2.0), 0.2, 300)
    state = ascent.start(np.zeros((3, 2)))
    values = [state.value[0]]
    for _ in range(300):
        state, info = ascent.step(state)
        values.append(state.value[0])
    np.testing.assert_allclose(state.x, 2, atol=1e-3)
    assert (state.taken == 300).all()
    assert values[-1] < 1e-6 * values[0]
    assert (info["probability"] == 1).all()


def test_numbers_that_make_no_sampler():
    for options in ({"mass": 0}, {"step_size": -1}, {"temperature": 0}, {"steps": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(options))}"):
            HMC(oscillator, **{"step_size": 0.1, "steps": 3, **options})
