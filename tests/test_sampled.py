"""Learning from the model's own samples: the loss, chains, guards, and going on after a kill."""

import json
import os
import signal
from functools import partial

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from app.data.images import Images
from app.formats.npz import save_npz
from app.formats.reference import reference_arrays, reference_from
from app.formats.weights import load_weights
from app.options import train as options
from app.options.train_settings import complete
from app.runs import checks, class_chains, sampled
from app.runs.folder import RunFolder
from app.runs.resume import restore_training, training_state
from app.runs.sampled import SampledTraining
from hmc.energy import NodeEnergy
from hmc.reference import Data, Natural, White
from hmc.sampler import HMC
from losses.sampled import fitted_intercepts, sampled_generative_loss
from nn.activations import SiLU
from nn.backend import to_host
from nn.linear import Linear
from nn.network import Network
from tests import naive, scripts
from tests.gradcheck import SMOOTH, numerical_gradient, relative_error
from tests.scripts import assert_one_line, rows, same_weights, until_finished
from train import run_epoch


@st.composite
def scores_and_chains(draw):
    n, m, K = draw(st.integers(1, 6)), draw(st.integers(0, 6)), draw(st.integers(2, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    chains = rng.permutation(np.arange(n + m) >= n)
    return rng.standard_normal((n + m, K)), rng.integers(0, K, n + m), chains


@hypothesis.given(case=scores_and_chains(), pull=st.sampled_from([0.0, 0.3]))
def test_loss_equals_loops_and_gradient_equals_differences(xp, case, pull):
    """Also of classes that have images and no chains, or chains and no images."""
    scores, labels, chains = case

    def loss():
        given = (xp.asarray(a) for a in (scores, labels, chains))
        return sampled_generative_loss(*given, pull)

    value, dscores, info = loss()
    expected = naive.sampled_generative_loss(scores, labels, chains, pull)
    assert float(value) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    numeric = numerical_gradient(lambda: float(loss()[0]), scores, SMOOTH)
    if np.abs(numeric).max() > 1e-3:
        assert relative_error(to_host(dscores), numeric) < 1e-7
    if not pull:
        np.testing.assert_allclose(to_host(dscores).sum(axis=0), 0, atol=1e-14)
        assert float(info["gap"]) == pytest.approx(-expected, abs=1e-12)


def chains_of(network, classes, trajectories, rng, q):
    """Images of chains from noise, each of its class."""
    energy = NodeEnergy(network, network.last, 0, reference=q)
    energy.take_units(classes)
    sampler = HMC(energy, 0.4, 4, jitter=0.2)
    state = sampler.start(rng.standard_normal((len(classes), *q.shape)))
    for _ in range(trajectories):
        state, _ = sampler.step(state, rng)
    return q.image(state.x)


def test_the_gradient_is_the_exact_one_of_a_net_whose_z_can_be_summed():
    """Images of one pixel: E_{p_y}[df_y/dw] is a sum over a fine grid. 60 batches of chains."""
    rng = np.random.default_rng(0)
    layers = [("fc1", Linear(6)), ("silu", SiLU()), ("fc2", Linear(3))]
    network, q = Network(layers, (1, 1, 1), rng).to(np, np.float64), White((1, 1, 1), 1.5, 0.3)
    for w in network.params().values():
        w[...] = rng.standard_normal(w.shape)
    x, labels = rng.standard_normal((12, 1, 1, 1)), np.arange(12) % 3

    def gradient(chains, classes, weights=None):
        """The gradient of the loss; weights of the chains instead of V, for the sum over a grid."""
        scores = network.bottom_up(np.concatenate([x, chains]))
        both, is_chain = np.concatenate([labels, classes]), np.arange(len(scores)) >= len(x)
        _, dscores, _ = sampled_generative_loss(scores, both, is_chain)
        if weights is not None:
            dscores[is_chain] = weights(scores[is_chain])
        grads = {}
        network.top_down(dscores, grads)
        return np.concatenate([g.reshape(-1) for g in grads.values()])

    grid = np.linspace(-14, 14, 20001).reshape(-1, 1, 1, 1)

    def exact(scores):  # p_y = exp(f_y) q / Z_y on the grid, N_y / N = 1 / 3 of the loss each
        log_q = -((grid.reshape(-1, 1) - 0.3) ** 2) / (2 * 1.5**2)
        p = np.exp(scores + log_q - (scores + log_q).max(axis=0))
        return p / p.sum(axis=0) / 3

    expected = gradient(grid, np.arange(len(grid)) % 3, exact)
    classes = np.arange(60 * 30) % 3
    chains = chains_of(network, classes, 60, rng, q)
    found = [
        gradient(part, own)
        for part, own in zip(np.split(chains, 60), np.split(classes, 60), strict=True)
    ]
    error = np.std(found, axis=0, ddof=1) / 60**0.5
    distance = np.abs(np.mean(found, axis=0) - expected)
    assert (distance <= 4 * error + 1e-12).all()
    assert np.linalg.norm(error) < 0.2 * np.linalg.norm(expected)  # or it would say nothing
    white_noise = q.image(rng.standard_normal((len(classes), 1, 1, 1)))  # no samples of p_y
    wrong = gradient(white_noise, classes)
    assert (np.abs(wrong - expected) > 4 * error).any()


def test_chains_of_a_linear_score_are_a_shifted_gaussian():
    """f = w x, q = N(mu, A A^T): p_y = N(mu + A A^T w_y, A A^T), so E_{p_y}[df/dw] is known."""
    rng = np.random.default_rng(1)
    q = Data(rng.standard_normal((50, 2, 2, 1)), 0.3)
    network = Network([("fc", Linear(2))], (2, 2, 1), rng).to(np, np.float64)
    w = network.params()["fc.w"]
    w[...] = 0.7 * rng.standard_normal(w.shape)
    classes = np.arange(4000) % 2
    x = chains_of(network, classes, 40, rng, q).reshape(4000, 4)
    for y in (0, 1):
        own = x[classes == y]
        expected = q.mean.reshape(-1) + q.A @ q.A @ w[:, y]
        error = own.std(axis=0, ddof=1) / len(own) ** 0.5
        assert (np.abs(own.mean(axis=0) - expected) < 4 * error).all()


def test_fitted_intercepts_are_the_likeliest():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 500)
    scores = rng.standard_normal((500, 3)) * 2 + [0, 40, -7] + 2 * (labels[:, None] == range(3))
    priors = np.bincount(labels) / 500
    alpha = fitted_intercepts(scores, priors)

    def likelihood(shift):
        f = scores + shift
        return (f[range(500), labels] - np.log(np.exp(f).sum(axis=1))).mean()

    posterior = np.exp(scores + alpha)
    posterior /= posterior.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(posterior.mean(axis=0), priors, atol=1e-4)
    best = likelihood(alpha)
    for _ in range(20):
        assert likelihood(alpha + 0.3 * rng.standard_normal(3)) < best


@pytest.fixture
def small_images():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 80)
    images = rng.integers(0, 50, (80, 4, 4, 1)) + 60 * labels[:, None, None, None]
    return Images(images.astype(np.uint8), labels, 3)


def small_training(small_images, **given):
    usual = {"threads": 1, "batch_size": 16, "chains": 30, "epochs": 2, "lr": 1e-3, "net": "lenet"}
    settings = complete({"mode": "samples", **usual, **given})
    layers = [("fc1", Linear(20)), ("silu", SiLU()), ("fc2", Linear(3))]
    network = Network(layers, (4, 4, 1), np.random.default_rng(0))
    return SampledTraining(settings, network, small_images, small_images, np)


def test_every_step_is_the_same_after_a_restore(tmp_path, small_images, monkeypatch):
    """Also where an alarm goes off now and then, and good states are kept."""
    monkeypatch.setattr(sampled, "GOOD", 3)
    real = sampled.Guard.alarm

    def alarm(self, gap, score, acceptance):
        found = real(self, gap, score, acceptance)
        return "the planted fault" if int(1e6 * score) % 2 else found

    monkeypatch.setattr(sampled.Guard, "alarm", alarm)
    for module in (sampled, checks):
        monkeypatch.setattr(module, "MOST_RETURNS", 100)
    whole, run = small_training(small_images), RunFolder(tmp_path / "run")
    run.create({})
    while whole.epoch <= 2:
        run_epoch(whole, run, [])
    assert 1 <= whole.returns
    resumed = small_training(small_images)
    while resumed.epoch <= 2:
        run_epoch(resumed, run, ["a signal"])  # one step, then stop
        run.save_checkpoint(*training_state(resumed))
        resumed = small_training(small_images)
        run.load_checkpoint(partial(restore_training, resumed))
        if resumed.batch == 5:
            run_epoch(resumed, run, [])
    os.close(run.lock)
    for name, w in whole.network.params().items():
        np.testing.assert_array_equal(w, resumed.network.params()[name])
        np.testing.assert_array_equal(whole.mean.means[name], resumed.mean.means[name])
    assert 0 < whole.mean.updates == resumed.mean.updates < 10  # undone ones do not count
    np.testing.assert_array_equal(whole.chains.z, resumed.chains.z)
    np.testing.assert_array_equal(whole.pictures, resumed.pictures)
    assert whole.pictures[-1].any()
    for a, b in zip(whole.rows, resumed.rows, strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}


def test_killed_runs_go_on_bit_identically(tmp_path, small_data):
    options = ["--data", small_data, "--mode", "samples", "--net", "digits", "--epochs", 4]
    options += ["--batch-size", 16, "--threads", 2, "--chains", 20, "--trajectories", 1]
    assert scripts.run("train.py", *options, "--out", tmp_path / "whole").returncode == 0
    waits = np.random.default_rng(0).uniform(0.5, 2.5, 5)
    until_finished(signal.SIGKILL, waits, "train.py", *options, "--out", tmp_path / "killed")
    same_weights(tmp_path / "whole", tmp_path / "killed")
    for a, b in zip(rows(tmp_path / "whole"), rows(tmp_path / "killed"), strict=True):
        a.pop("seconds"), b.pop("seconds")
        assert a == b
    names = {path.name for path in (tmp_path / "killed").iterdir()}
    assert {"model.npz", "curves.png", "chains.png", "metrics.csv"} <= names
    drawn = ["--weights", tmp_path / "killed" / "model.npz", "--net", "digits", "--iterations", 12]
    result = scripts.run("visualize.py", *drawn, "--chains", 2, "--out", tmp_path / "drawn")
    assert result.returncode == 0, result.stderr
    assert "q file" in result.stdout
    settings = json.loads((tmp_path / "drawn" / "settings.json").read_text())
    assert (settings["reference"], settings["temperature"]) == ("file", 1.0)


@pytest.mark.parametrize(
    ("numbers", "problem"),
    [
        ((400.0, 5.0, 0.7), "the gap between images and chains is 400"),
        ((-400.0, 5.0, 0.7), "the gap"),
        ((1.0, 3000.0, 0.7), "the largest score is 3000"),
        ((1.0, 5.0, 0.01), "the acceptance is 0.01"),
        ((np.nan, 5.0, 0.7), "not finite"),
        ((1.0, np.inf, 0.7), "not finite"),
    ],
)
def test_guards_fire(numbers, problem):
    guard = sampled.Guard()
    for _ in range(5):
        assert guard.alarm(1.0, 30.0, 0.7) == ""
    for _ in range(200):
        found = guard.alarm(*numbers)
        if found:
            break
    assert problem.rstrip("0123456789.") in found


def test_a_run_that_diverges_goes_back_at_half_the_rate(tmp_path, small_images, capsys):
    training = small_training(small_images, lr=1e-3)
    good = {name: w.copy() for name, w in training.network.params().items()}
    images, labels, known = training.read_batch(0)
    training.network.params()["fc2.w"][...] *= np.float32(1e30)
    training.step(images, labels, known)
    assert (training.lr, training.returns) == (5e-4, 1)
    for name, w in training.network.params().items():
        np.testing.assert_array_equal(w, good[name])
    assert np.isfinite(training.chains.z).all()
    told = capsys.readouterr().err
    assert "at iteration 0 of learning from samples in epoch 1: back to the last good" in told
    training.step(*training.read_batch(1))
    assert training.returns == 1
    assert training.tally.images == 16  # the loss of the first batch was not finite
    run = RunFolder(tmp_path / "run")
    run.create({})
    run.save_checkpoint(*training_state(training))
    run.load_checkpoint(partial(restore_training, small_training(small_images, lr=1e-3)))
    os.close(run.lock)
    training.returns = sampled.MOST_RETURNS
    training.network.params()["fc2.w"][...] = np.nan
    with pytest.raises(FloatingPointError, match="after 8 returns to a good state: try a smaller"):
        training.step(*training.read_batch(2))


@pytest.mark.parametrize(("eps", "steps"), [(0.5, 5), (0.314, 5), (0.1, 16), (0.01, 25)])
def test_a_trajectory_stays_a_quarter_turn(small_images, eps, steps):
    """Between 5 and 25 steps: eps L is pi / 2 there."""
    chains = small_training(small_images).chains
    chains.tuning.trial = np.full(3, eps)
    assert chains.steps_of_a_quarter_turn() == steps
    chains.trajectories = 1
    chains.move(np.array([0, 1, 2]), np.random.default_rng(0))
    assert chains.sampler.steps == steps


def test_the_mean_of_the_weights_is_tested_and_kept(small_images):
    training, tested = small_training(small_images), []
    alpha = training.intercepts

    def intercepts(count):
        tested.append(({n: w.copy() for n, w in training.network.params().items()}, alpha(count)))
        return tested[-1][1]

    training.intercepts = intercepts
    for epoch in (1, 2):
        for batch in training.batches():
            training.step(*training.read_batch(batch))
        own = {name: w.copy() for name, w in training.network.params().items()}
        mean = {name: m.copy() for name, m in training.mean.means.items()}
        training.end_epoch()
        weights, shift = tested[-1]
        if epoch == 2:  # the file's bias has the intercepts
            mean_with_them = {**mean, "fc2.b": mean["fc2.b"] + shift.astype(np.float32)}
        for name, w in training.network.params().items():
            np.testing.assert_array_equal(weights[name], mean[name])
            assert np.abs(own[name] - mean[name]).max() > 0
            np.testing.assert_array_equal(w, own[name] if epoch == 1 else mean_with_them[name])


def test_chains_that_began_anew_do_not_count_at_once(small_images):
    training = small_training(small_images, rebirth=1.0)
    x, classes, _ = training.chains.move(training.train.labels[:16], np.random.default_rng(0))
    assert len(x) == len(classes) == 0
    scores = training.learn_from(
        np.zeros((3, 4, 4, 1), np.float32), np.array([0, 1, 2]), x, classes
    )
    assert scores["gap"] == 0


def test_the_oldest_chain_of_each_class_is_shown(small_images):
    chains = small_training(small_images).chains
    chains.age[:] = 0
    chains.age[[4, 6]] = 7  # of the classes 1 and 0; class 2 has none that is older than others
    np.testing.assert_array_equal(chains.classes[[6, 4, 2]], [0, 1, 2])
    shown, z = chains.oldest_of_each_class(), chains.z[[6, 4, 2]]
    chains.energy.take_units(np.arange(3))
    np.testing.assert_array_equal(shown, chains.energy.without_noise(z))


def test_chains_of_a_net_that_has_learned_must_leave_the_noise_first(small_images):
    """With --weights f is not 0, and draws from q are no samples."""
    training = small_training(small_images, weights="/some/where.npz", rebirth=0.0)
    assert not training.chains.age.any()
    training.step(*training.read_batch(0))
    assert training.returns == 0
    assert training.good["chains/age"].min() == class_chains.WARM_UP
    with pytest.raises(ValueError, match="--chains: at least one for each of 3 classes"):
        small_training(small_images, chains=2)


def test_a_checkpoint_of_another_run_is_refused(small_images):
    training = small_training(small_images)
    arrays, state = training_state(training)
    arrays, state = {n: np.array(a) for n, a in arrays.items()}, json.loads(json.dumps(state))
    planted = ("returns", -1), ("returns", 10**9), ("updates", -1), ("chains/trial", [-1.0])
    for name, value in planted:
        key = f"further/{name}"
        edited = {**arrays, key: np.array(value, arrays[key].dtype)}
        with pytest.raises(ValueError, match=name):
            restore_training(small_training(small_images), edited, dict(state))
    for name in arrays:
        edited = {n: a for n, a in arrays.items() if n != name}
        with pytest.raises(ValueError, match=f"{name} is missing"):
            restore_training(small_training(small_images), edited, dict(state))


@pytest.mark.parametrize("q", ["white", "natural", "data"])
def test_a_reference_in_a_file_is_the_same(q):
    rng = np.random.default_rng(0)
    images = rng.random((40, 6, 5, 3))
    made = {
        "white": lambda: White((6, 5, 3), 2.0, [0.1, 0.2, 0.3]),
        "natural": lambda: Natural((6, 5, 3), 0.7, 0.4),
        "data": lambda: Data(images, 0.05),
    }[q]()
    made.noise = 0.25
    again, temperature = reference_from(reference_arrays(made, 0.5), (6, 5, 3))
    assert again.noise == 0.25
    z = rng.standard_normal((2, *made.shape))
    np.testing.assert_allclose(again.image(z), made.image(z), atol=5e-3)
    assert temperature == 0.5
    twice, _ = reference_from(reference_arrays(again, 0.5), (6, 5, 3))
    np.testing.assert_allclose(twice.image(z), again.image(z), atol=1e-6)


def test_references_in_files_are_not_believed(tmp_path):
    good = reference_arrays(Data(np.random.default_rng(0).random((9, 2, 2, 1)), 0.1), 1.0)
    weights = {"fc.w": np.zeros((4, 2), np.float32), "input_shape": np.array([2, 2, 1])}
    broken = [{**good, name: np.array([np.nan, 1.0])} for name in good]
    broken += [{n: a for n, a in good.items() if n != name} for name in good]
    broken += [
        {**good, "q_root": np.zeros(7, np.float16)},
        {**good, "q_temperature": np.array(0.0)},
        {**good, "q_noise": np.array(-1.0)},
        {**good, "q_noise": np.array([1.0, 1.0])},
    ]
    broken += [{**good, "q_other": np.zeros(3)}, {**good, "q_kind": np.array("pink")}]
    for arrays in broken:
        save_npz(tmp_path / "w.npz", weights | arrays)
        with pytest.raises(ValueError, match="w.npz: q_"):
            load_weights(tmp_path / "w.npz")
    save_npz(tmp_path / "w.npz", weights | good)
    assert load_weights(tmp_path / "w.npz")[1]["q"].keys() == good.keys()
    save_npz(tmp_path / "w.npz", {"fc.w": weights["fc.w"], **good})
    with pytest.raises(ValueError, match="no input_shape"):
        load_weights(tmp_path / "w.npz")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"mode": "gg", "chains": 30}, "--chains goes with --mode samples only"),
        ({"mode": "samples", "labels": 100}, "--labels does not go with --mode samples"),
        ({"mode": "samples", "switch_ess": 0.1}, "--switch-ess goes with --mode ggdg only"),
    ],
)
def test_options_that_do_not_go_together(given, problem):
    with pytest.raises(ValueError, match=problem):
        complete(given)


def test_settings_of_our_own_are_taken_as_they_are():
    for some in ({}, {"net": "lenet", "chains": 50}, {"net": "cifar10-quick", "lr": 0.01}):
        asked = complete({"mode": "samples", **some})
        assert options.checked(json.loads(json.dumps(asked))) == asked
    assert complete({"mode": "samples"})["net"] == "digits"
    assert complete({"mode": "samples", "net": "cifar10-quick"})["batch_size"] == 32


def test_a_file_without_a_reference_says_so(tmp_path):
    result = scripts.run("visualize.py", "--reference", "file", "--out", tmp_path / "v")
    assert_one_line(result, 2, "--reference file", "lenet-dg.npz keeps none")
