"""Training by itself: stages, queue, intercepts and checkpoints of a small net with dropout."""

import os
from functools import partial

import numpy as np
import pytest

from app.data.images import Images
from app.options.train_settings import complete
from app.runs.folder import RunFolder
from app.runs.resume import restore_training, training_state
from app.runs.training import Training
from losses.generative import effective_sample_size, importance_weights, intercepts
from nn.dropout import Dropout
from nn.linear import Linear
from nn.network import Network
from nn.relu import ReLU
from train import net_and_data, run_epoch, show


def small_training(small_images, **given):
    """A Training of a net with dropout instead of LeNet, checkpointing what LeNet would."""
    settings = complete({"threads": 2, "batch_size": 16, "lr": 0.1, **given})
    layers = [("fc1", Linear(20)), ("relu", ReLU()), ("drop", Dropout(0.5)), ("fc2", Linear(3))]
    network = Network(layers, (4, 4, 1), np.random.default_rng(0))
    return Training(settings, network, small_images, small_images, np)


@pytest.fixture(params=[4, 5], ids=["whole", "cut and mirrored"])
def small_images(request):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 80)
    images = rng.integers(0, 50, (80, 4, request.param, 1)) + 60 * labels[:, None, None, None]
    return Images(images.astype(np.uint8), labels, 3, size=(4, 4))


@pytest.mark.parametrize(
    "given",
    [
        {"switch_epoch": 1},
        {"mode": "dgdg", "switch_epoch": 1},
        {"switch_epoch": 2, "gg_queue": 40},  # not a multiple of the batch
        {"mode": "joint", "gg_weight": 0.3, "gg_queue": 10},  # less than a batch
    ],
    ids=["GG+DG", "DG+DG", "queue", "joint"],
)
def test_checkpoint_within_an_epoch_with_dropout(tmp_path, small_images, given):
    """Every step of GG and DG, dropout included, is the same after a checkpoint and a restore."""
    small = partial(small_training, small_images, epochs=3, **given)
    whole = small()
    run = RunFolder(tmp_path / "run")
    run.create({})
    while whole.epoch <= 3:
        run_epoch(whole, run, [])
    resumed = small()
    while resumed.epoch <= 3:
        run_epoch(resumed, run, ["a signal"])  # one step, then stop
        run.save_checkpoint(*training_state(resumed))
        resumed = small()
        run.load_checkpoint(partial(restore_training, resumed))
        if resumed.batch == 5:
            run_epoch(resumed, run, [])  # only the end of the epoch is left
    os.close(run.lock)
    for name, w in whole.network.params().items():
        np.testing.assert_array_equal(w, resumed.network.params()[name])
    for a, b in zip(whole.rows, resumed.rows, strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}


def test_modes_of_one_seed_start_alike_and_see_the_same_images(small_data):
    """Errors of one seed by two modes are a pair: initial weights and batches are the same."""
    modes = [{"mode": "dg"}, {"mode": "gg"}, {"mode": "ggdg"}, {"mode": "gg", "gg_queue": 50}]
    modes += [{"mode": "joint"}, {"mode": "ggdg", "switch_epoch": 1}, {"mode": "dgdg"}]
    seen = {}
    for seed in (3, 4):
        for given in modes:
            given = {"epochs": 3, "batch_size": 32, "seed": seed, "held_out": 10, **given}
            settings = complete({"data": str(small_data), "threads": 1, **given})
            network, train, test = net_and_data(settings)
            assert (len(train), len(test)) == (86, 10)
            weights = {name: w.copy() for name, w in network.params().items()}
            training, batches = Training(settings, network, train, test, np), []
            while training.epoch <= 3:
                for batch in training.batches():
                    batches.append(training.read_batch(batch))
                    training.step(*batches[-1])
                training.end_epoch()
            expected_weights, expected = seen.setdefault(seed, (weights, batches))
            for name, w in expected_weights.items():
                np.testing.assert_array_equal(weights[name], w)
            for a, b in zip(expected, batches, strict=True):
                np.testing.assert_array_equal(a[0], b[0])
                np.testing.assert_array_equal(a[1], b[1])
    one, other = (batches for _, batches in seen.values())
    assert any((a[1] != b[1]).any() for a, b in zip(one, other, strict=True))


def test_a_queue_holds_the_newest_scores(small_images):
    """The ESS that is told is a share of batch and queue, n + m images."""
    training = small_training(small_images, mode="gg", gg_queue=40, batch_size=16)
    scores, shares, bottom_up = np.empty((0, 3), np.float32), [], training.engine.bottom_up

    def remembering(x, train=False):
        nonlocal scores
        found = bottom_up(x, train=train)
        scores = np.concatenate([found, scores])
        return found

    training.engine.bottom_up = remembering
    for batch, (before, after) in enumerate([(0, 16), (16, 32), (32, 40), (40, 40)]):
        training.step(*training.read_batch(batch))
        assert training.queued == after
        np.testing.assert_array_equal(training.queue[:after], scores[:after])
        sample = scores[: 16 + before]
        shares.append(effective_sample_size(importance_weights(sample)) / len(sample))
        np.testing.assert_allclose(training.tally.ess, np.mean(shares, axis=0), rtol=1e-5)


def test_joint_trains_the_bias(small_images):
    """DG gives each class a bias, so argmax f is the class: no intercepts are added."""
    training = small_training(small_images, mode="joint", epochs=2)
    while training.epoch <= 2:
        run_epoch(training, RunFolder("unused"), [])
    assert [row["stage"] for row in training.rows] == ["joint", "joint"]
    assert all(row["test_error"] == row["test_error_eq6"] for row in training.rows)
    assert training.network.params()["fc2.b"].all()


def test_intercepts_are_in_the_bias_after_gg(small_images):
    training = small_training(small_images, mode="gg", epochs=2)
    while training.epoch <= 2:
        run_epoch(training, RunFolder("unused"), [])
    scores = training.scores(small_images).astype(float)
    log_mean = np.log(np.exp(scores).mean(axis=0))
    np.testing.assert_allclose(log_mean, np.log(training.priors), atol=1e-5)
    wrong = 100 * np.mean(scores.argmax(axis=1) != small_images.labels)
    assert training.rows[-1]["test_error_eq6"] == pytest.approx(wrong)


def test_intercepts_come_from_the_images_learned_from(small_images):
    training = small_training(small_images, mode="gg", labels=20, unlabeled_weight=0.0)
    labelled = training.train.only(training.labelled)
    expected = intercepts(training.scores(labelled), training.priors)
    np.testing.assert_array_equal(training.intercepts(1024), expected)
    assert len(small_training(small_images, mode="gg", labels=20).learned_from) == 80


def test_the_bar_names_the_epoch_of_its_test_error(small_images):
    class Bar:
        def set_postfix(self, numbers, refresh):
            self.numbers = numbers

    training, bar = small_training(small_images, epochs=3, mode="dg"), Bar()
    run_epoch(training, RunFolder("unused"), [])
    show(training, bar)  # at the end of its own epoch
    assert list(bar.numbers) == ["loss", "ESS/n", "test error"]
    run_epoch(training, RunFolder("unused"), ["a signal"])
    show(training, bar)  # within the next one
    assert list(bar.numbers) == ["loss", "ESS/n", "test error of epoch 1"]


def test_switch_by_effective_sample_size(small_images):
    training = small_training(small_images, epochs=6, switch_epoch=5, switch_ess=0.999)
    stages = []
    while training.epoch <= 6:
        stages.append(training.stage)
        run_epoch(training, RunFolder("unused"), [])
    assert stages == ["GG"] + ["DG"] * 5
    assert training.rows[0]["ess"] < 0.999
    assert training.lr == 0.003


def test_dg_with_a_new_start(small_images):
    """DG+DG is DG up to the switch; there SGD begins anew at the rate of GG+DG's second part."""
    runs = {mode: small_training(small_images, epochs=3, mode=mode) for mode in ("dg", "dgdg")}
    rates = {mode: [] for mode in runs}
    for mode, training in runs.items():
        while training.epoch <= 3:
            rates[mode].append(training.rate())
            run_epoch(training, RunFolder("unused"), [])
    dg, dgdg = ([row["loss"] for row in training.rows] for training in runs.values())
    assert dg[:2] == dgdg[:2]
    assert dg[2] != dgdg[2]
    assert rates["dg"][:2] == rates["dgdg"][:2]
    assert rates["dgdg"][2] == 0.003
