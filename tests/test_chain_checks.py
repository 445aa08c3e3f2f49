"""What tells whether to believe a chain: tuning, forecast, diagnostics."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.runs.chains import Chains
from hmc.diagnostics import autocorrelation, effective_draws, judgement, split_rhat
from hmc.forecast import forecast
from hmc.sampler import HMC
from hmc.tuning import RobbinsMonro


@pytest.mark.parametrize("target", [0.6, 0.8, 0.9])
def test_tuning_reaches_its_target(target):
    """Chains of very different scales, each with a step size of its own."""
    scale = np.array([0.1, 1.0, 10.0] * 20)[:, None]

    def energy(x):
        return ((x / scale) ** 2).sum(axis=1) / 2, x / scale**2

    hmc = HMC(energy, 0.05, 1)  # more steps, and resonances blur what a step size means
    tuning = RobbinsMonro(0.05, 60, target)
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
    tuning = RobbinsMonro(0.1, 2, 0.8, largest=0.15)
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
    eps, steps, sigma, mass, temperature = settings
    told = forecast(iterations, eps / sigma, steps, mass, temperature)  # in z = x / sigma
    assert told.theta == pytest.approx(theta, rel=0.02)
    if remains is not None:
        assert told.remains == pytest.approx(remains, rel=0.12)
        assert told.reached == pytest.approx(1 - math.cos(told.theta) ** iterations, abs=0.01)
    assert (word in told.warning) if word else not told.warning


@given(
    st.floats(1e-6, 1e-2),
    st.integers(1, 100),
    st.floats(1e-4, 10),
    st.floats(1e-4, 10),
)
def test_settings_that_a_forecast_recommends_are_good(eps, steps, mass, temperature):
    told = forecast(50, eps, steps, mass, temperature)
    if told.warning:
        better = float(told.warning.split("--step-size ")[1].split()[0].rstrip(","))
        assert not forecast(50, better, steps, mass, temperature).warning or steps == 1


def test_forecast_is_what_the_sampler_does():
    """Without f: correlation with the start, from the chains themselves."""
    T, m = 0.5, 0.3
    eps = 0.12 * math.sqrt(T * m) / 10

    def energy(z):
        return (z**2).sum(axis=1) / 2, z

    rng = np.random.default_rng(0)
    start = math.sqrt(T) * rng.standard_normal((50, 2000))
    hmc = HMC(energy, eps, 10, m, T)
    state = hmc.start(start)
    for _ in range(40):
        state, _ = hmc.step(state, rng)
    correlation = np.corrcoef(start.ravel(), state.x.ravel())[0, 1]
    assert correlation == pytest.approx(forecast(40, eps, 10, m, T).remains, abs=0.02)


def test_judgements():
    rng = np.random.default_rng(0)
    settled = rng.standard_normal((4, 100))
    assert judgement(settled) == "samples"
    assert judgement(settled[:, :9]) == "too few"
    assert judgement(settled + 5 * np.arange(4)[:, None]) == "apart"
    assert judgement(settled + np.linspace(0, 8, 100)) == "still moving"
    assert judgement(np.cumsum(settled, axis=1)) == "still moving"
    found = {judgement(settled[:1] + np.linspace(0, drift, 100)) for drift in np.arange(0, 8, 0.1)}
    assert found == {"settled", "still moving"}  # one chain says nothing of others
    assert judgement(np.zeros((1, 50))) == judgement(np.zeros((3, 3))) == "stuck"
    assert judgement(np.zeros((3, 2))) == "too few"
    moving = settled + np.linspace(0, 8, 100)
    for chain in range(4):  # one of them stands still in the second half
        stopped = moving.copy()
        stopped[chain, 50:] = stopped[chain, 50]
        assert judgement(stopped) == "stuck"
        stopped[chain, 50] += 1e-9
        assert judgement(stopped) == "still moving"


def ar1(rho, n, m, rng):
    x = np.empty((n, m))
    x[:, 0] = rng.standard_normal(n)
    for t in range(1, m):
        x[:, t] = rho * x[:, t - 1] + math.sqrt(1 - rho**2) * rng.standard_normal(n)
    return x


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9, -0.4])
def test_effective_draws_of_autoregressive_chains(rho):
    """n m (1 - rho) / (1 + rho)."""
    draws = ar1(rho, 8, 4000, np.random.default_rng(0))
    expected = 8 * 4000 * (1 - rho) / (1 + rho)
    assert effective_draws(draws) == pytest.approx(expected, rel=0.15)
    correlation = autocorrelation(draws).mean(axis=0)
    np.testing.assert_allclose(correlation[:4], rho ** np.arange(4), atol=0.03)
    assert split_rhat(draws) == pytest.approx(1, abs=0.02)


def test_diagnostics_see_chains_that_disagree_or_stand_still():
    rng = np.random.default_rng(0)
    apart = rng.standard_normal((4, 500)) + np.array([0, 0, 0, 5.0])[:, None]
    assert split_rhat(apart) > 1.5
    assert effective_draws(apart) < 20
    trend = rng.standard_normal((4, 500)) + np.linspace(0, 5, 500)
    assert split_rhat(trend) > 1.4
    still = np.ones((4, 500))
    assert math.isnan(split_rhat(still))
    for still in (np.full((4, 25), 0.1), np.repeat([[0.1], [0.7], [1e6]], 50, axis=1)):
        assert math.isnan(split_rhat(still))  # whatever the rounding of a mean of equal numbers
        assert math.isnan(effective_draws(still))
        assert np.isnan(autocorrelation(still)).all()
    assert math.isnan(effective_draws(still))
    assert math.isnan(split_rhat(rng.standard_normal((4, 3))))
    assert effective_draws(rng.standard_normal((1, 400))) == pytest.approx(400, rel=0.4)


def normal_chains(heat=1.0, steps=30, largest=0.05, seed=0, temperature=1.0, warm_up=100):
    """200 chains on N(0, 0.1^2 temperature) in 5 dimensions, begun far away."""

    def energy(x):
        return 50 * (x * x).sum(axis=1), 100 * x

    sampler = HMC(energy, 0.002, steps, jitter=0.2, temperature=temperature)
    tuning = RobbinsMonro(0.002, 200, 0.8, largest)
    x = np.full((200, 5), 3.0)
    return Chains(
        sampler,
        x,
        np.random.default_rng(seed),
        lambda state: {"score": state.x[:, 0]},
        warm_up=warm_up,
        tuning=tuning,
        heat=heat,
    )


@pytest.mark.parametrize(("heat", "final"), [(1.0, 1.0), (100.0, 1.0), (100.0, 0.25), (1.0, 0.25)])
def test_chains_end_at_their_own_temperature(heat, final):
    chains = normal_chains(heat, temperature=final)
    temperatures, spreads = [], []
    for _ in range(160):
        chains.step()
        temperatures.append(chains.sampler.temperature / final)
        spreads.append(chains.state.x.std() / final**0.5)
        energy = 50 * (chains.state.x**2).sum(axis=1)
        np.testing.assert_allclose(chains.energy(), energy, rtol=1e-6)
    assert temperatures[79:] == [1.0] * 81
    assert temperatures[0] == pytest.approx(heat ** (1 - 1 / 80))
    assert temperatures == sorted(temperatures, reverse=True)
    variance = np.mean(np.square(spreads[110:]))
    assert variance == pytest.approx(0.01, rel=0.1)
    if heat > 1:
        assert max(spreads[20:40]) > 0.2  # it was hotter


def test_trajectories_that_are_too_good_get_fewer_and_longer_steps():
    chains = normal_chains(steps=30, largest=0.1 * np.pi / 2 / 30)
    for _ in range(150):
        chains.step()
    assert chains.sampler.steps < 8
    assert 0.6 < np.mean(chains.records["probability"][110:]) < 0.95
    length = chains.sampler.steps * np.mean(chains.sampler.step_size)
    assert length == pytest.approx(0.1 * np.pi / 2, rel=0.3)


def test_a_warm_up_too_short_to_tune_longer_steps_leaves_the_steps_as_they_are():
    chains = normal_chains(steps=30, largest=0.1 * np.pi / 2 / 30, warm_up=40)
    for _ in range(60):
        chains.step()
    assert chains.sampler.steps == 30
    assert np.mean(chains.records["probability"][41:]) > 0.95


def test_annealed_chains_go_on_from_a_checkpoint():
    whole, part = normal_chains(100.0), normal_chains(100.0)
    for _ in range(130):
        whole.step()
    for stop in (10, 83, 97, 130):
        while part.iteration < stop:
            part.step()
        arrays, rest = part.checkpoint()
        arrays = {name: np.array(array) for name, array in arrays.items()}
        part = normal_chains(100.0, seed=1)
        part.restore(arrays, rest)
    np.testing.assert_array_equal(whole.state.x, part.state.x)
    assert whole.sampler.steps == part.sampler.steps


def with_scores(scores, warm_up=0):
    """Chains whose scores (n, iterations + 1) are these, and whose proposals were good."""
    n, m = scores.shape
    chains = Chains(
        HMC(lambda x: (x[:, 0] ** 2, 2 * x), 0.1, 1),
        np.zeros((n, 1)),
        np.random.default_rng(0),
        lambda state: {"score": np.zeros(n)},
        warm_up=warm_up,
    )
    chains.iteration = m - 1
    chains.records = {"score": list(scores.T), "energy": list(-scores.T)}
    chains.records |= {
        name: [np.full(n, 0.9)] * (m - 1) for name in ("probability", "energy_error")
    }
    return chains


@pytest.mark.parametrize(
    ("warm_up", "stuck_from", "counted"),
    [(0, 100, 1), (0, 0, 1), (200, 100, 1), (200, 299, 1), (200, 310, 0), (0, 400, 0)],
)
def test_chains_that_stopped_moving_are_counted(warm_up, stuck_from, counted):
    """One of four, at rest from iteration 100 of 400 on: R-hat alone does not tell."""
    scores = np.random.default_rng(0).standard_normal((4, 401))
    scores[2, stuck_from:] = scores[2, stuck_from]
    (found,) = with_scores(scores, warm_up).diagnose(1)
    assert found["chains_that_never_moved"] == counted
    assert (found["iterations_judged"], found["last_iterations"]) == (200, 100)
    first, second = with_scores(scores, warm_up).diagnose(2)
    assert first["chains_that_never_moved"] == 0
    assert second["chains_that_never_moved"] == counted


def test_a_diagnosis_of_few_iterations_says_so():
    for iterations, judged, last in [(1, 1, 1), (2, 1, 1), (5, 3, 3), (9, 5, 5), (12, 6, 5)]:
        scores = np.random.default_rng(0).standard_normal((2, iterations + 1))
        (found,) = with_scores(scores).diagnose(1)
        assert (found["iterations_judged"], found["last_iterations"]) == (judged, last)
        assert found["chains_that_never_moved"] == 0
    assert found["rhat"] is not None
