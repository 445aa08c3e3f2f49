"""Both losses: against loops, finite differences, and what theory says of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from losses.discriminative import discriminative_loss
from losses.generative import (
    effective_sample_size,
    generative_loss,
    importance_weights,
    intercepts,
)
from losses.joint import joint_loss
from losses.semi_supervised import semi_supervised_loss
from nn.backend import to_host
from tests import naive
from tests.gradcheck import SMOOTH, numerical_gradient, relative_error

LOSSES = {"DG": discriminative_loss, "GG": generative_loss}
TOLERANCE = 1e-7


@st.composite
def scores_and_labels(draw):
    n, K = draw(st.integers(1, 7)), draw(st.integers(2, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return rng.standard_normal((n, K)) * draw(st.sampled_from([0.1, 1, 5])), rng.integers(0, K, n)


@pytest.mark.parametrize("name", LOSSES)
@given(case=scores_and_labels())
def test_loss_equals_loops_and_gradient_equals_differences(xp, name, case):
    scores, labels = case
    loss, dscores, _ = LOSSES[name](xp.asarray(scores), xp.asarray(labels))
    expected = getattr(naive, {"DG": "discriminative_loss", "GG": "generative_loss"}[name])
    assert float(loss) == pytest.approx(expected(scores, labels), rel=1e-12, abs=1e-12)
    numeric = numerical_gradient(
        lambda: float(LOSSES[name](xp.asarray(scores), xp.asarray(labels))[0]),
        scores,
        SMOOTH,
    )
    if np.abs(numeric).max() > 1e-3:  # below, rounding of the loss shows: 1e-16 / eps = 1e-11
        assert relative_error(to_host(dscores), numeric) < TOLERANCE
    else:
        np.testing.assert_allclose(to_host(dscores), numeric, atol=1e-10)


@given(case=scores_and_labels())
def test_generative_gradient_is_eq_14_summed_over_the_batch(xp, case):
    scores, labels = case
    _, dscores, info = generative_loss(xp.asarray(scores), xp.asarray(labels))
    expected = naive.generative_gradient(scores, labels)
    np.testing.assert_allclose(to_host(dscores), expected, atol=1e-14)
    np.testing.assert_allclose(to_host(dscores).sum(axis=0), 0, atol=1e-14)
    weights = to_host(info["weights"])
    np.testing.assert_allclose(weights.sum(axis=0), 1)
    np.testing.assert_allclose(weights, to_host(importance_weights(xp.asarray(scores))))
    np.testing.assert_allclose(to_host(info["ess"]), 1 / (weights**2).sum(axis=0))


@st.composite
def scores_labels_and_queue(draw):
    scores, labels = draw(scores_and_labels())
    m = draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return scores, labels, rng.standard_normal((m, scores.shape[1])) * np.abs(scores).max()


@given(case=scores_labels_and_queue())
def test_a_queue_is_a_constant_that_makes_the_sample_larger(xp, case):
    """log p_y(x) / q(x) = f_y(x) - log Z_y. Finite differences, the queue fixed, of its two parts:
    n images stand for all n + m, so log Z_y has (n + m) / n times the gradient of the batch."""
    scores, labels, queue = case
    n, m = len(scores), len(queue)

    def log_p(part):
        """sum_i of f_{y_i}(x_i), or of log Z_{y_i}, by loops."""
        if part == "f":
            return sum(scores[i, y] for i, y in enumerate(labels))
        sample = np.concatenate([scores, queue])
        return sum(np.log(sum(np.exp(row[y]) for row in sample) / (n + m)) for y in labels)

    loss, dscores, info = generative_loss(
        *map(xp.asarray, (scores, labels)), None, xp.asarray(queue)
    )
    assert float(loss) == pytest.approx(naive.generative_loss(scores, labels, queue), abs=1e-12)
    f, log_Z = (
        numerical_gradient(lambda part=part: log_p(part), scores, SMOOTH) for part in ("f", "log Z")
    )
    expected = -(f - (n + m) / n * log_Z) / n
    np.testing.assert_allclose(to_host(dscores), expected, rtol=1e-6, atol=1e-8)
    weights = to_host(info["weights"])
    assert weights.shape == (n + m, scores.shape[1])
    np.testing.assert_allclose(weights.sum(axis=0), 1)
    np.testing.assert_allclose(to_host(info["ess"]), 1 / (weights**2).sum(axis=0))


@given(case=scores_and_labels(), times=st.integers(1, 3))
def test_a_queue_that_is_the_batch_again_changes_nothing_but_the_sample_size(xp, case, times):
    scores, labels = map(xp.asarray, case)
    alone = generative_loss(scores, labels)
    again = generative_loss(scores, labels, queue=xp.concatenate(times * [scores]))
    assert float(again[0]) == pytest.approx(float(alone[0]), abs=1e-12)
    np.testing.assert_allclose(to_host(again[1]), to_host(alone[1]), atol=1e-14)
    ess = [to_host(info["ess"]) for _, _, info in (alone, again)]
    np.testing.assert_allclose(ess[1], (times + 1) * ess[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_empty_queue_is_todays_gg_to_the_bit(xp, dtype):
    rng = np.random.default_rng(0)
    scores = xp.asarray(rng.standard_normal((64, 10)).astype(dtype))
    labels = xp.asarray(rng.integers(0, 10, 64))
    own = labels[:, None] == xp.arange(10)
    W = importance_weights(scores)
    today = -(own - own.sum(axis=0) * W) / own.sum()  # Eq. 14 without any queue
    for queue in (None, scores[:0]):
        dscores = generative_loss(scores, labels, queue=queue)[1]
        assert dscores.dtype == dtype
        np.testing.assert_array_equal(to_host(dscores), to_host(today.astype(dtype)))


@given(case=scores_labels_and_queue(), weight=st.sampled_from([0, 0.2, 1, 3]))
def test_the_joint_loss_is_the_sum_of_both(xp, case, weight):
    scores, labels, queue = map(xp.asarray, case)
    dg, gg = discriminative_loss(scores, labels), generative_loss(scores, labels, None, queue)
    loss, dscores, info = joint_loss(scores, labels, weight, queue)
    assert float(loss) == pytest.approx(float(dg[0]) + weight * float(gg[0]))
    np.testing.assert_allclose(to_host(dscores), to_host(dg[1] + weight * gg[1]), atol=1e-15)
    assert info.keys() == {"posterior", "weights", "ess"}


def test_the_joint_gradient_equals_differences(xp):
    rng = np.random.default_rng(2)
    scores, labels = rng.standard_normal((6, 4)), rng.integers(0, 4, 6)

    def loss():
        return float(joint_loss(xp.asarray(scores), xp.asarray(labels), 0.7)[0])

    dscores = to_host(joint_loss(xp.asarray(scores), xp.asarray(labels), 0.7)[1])
    assert relative_error(dscores, numerical_gradient(loss, scores, SMOOTH)) < TOLERANCE


@given(case=scores_and_labels(), shift=st.floats(-50, 50))
def test_what_each_loss_does_not_see(case, shift):
    """GG does not see a constant added to a column, DG one added to a row."""
    scores, labels = case
    column, row = scores.copy(), scores.copy()
    column[:, 0] += shift
    row[0] += shift
    for loss, moved in ((generative_loss, column), (discriminative_loss, row)):
        a, b = loss(scores, labels), loss(moved, labels)
        assert a[0] == pytest.approx(b[0], abs=1e-10)
        np.testing.assert_allclose(a[1], b[1], atol=1e-12)
    dscores = discriminative_loss(scores, labels)[1]
    np.testing.assert_allclose(dscores.sum(axis=1), 0, atol=1e-14)


def test_equal_scores(xp):
    """GG starts at 0 with all weights 1/n and ESS n, DG at log K."""
    scores, labels = xp.full((8, 5), 3.0), xp.arange(8) % 5
    loss, _, info = generative_loss(scores, labels)
    assert float(loss) == pytest.approx(0, abs=1e-15)
    np.testing.assert_allclose(to_host(info["ess"]), 8)
    assert float(discriminative_loss(scores, labels)[0]) == pytest.approx(np.log(5))


@pytest.mark.parametrize("name", LOSSES)
def test_huge_scores_stay_finite(xp, name):
    rng = np.random.default_rng(0)
    scores = xp.asarray(rng.choice([-1e4, 1e4], (16, 10)).astype(np.float32))
    loss, dscores, _ = LOSSES[name](scores, xp.asarray(rng.integers(0, 10, 16)))
    assert np.isfinite(float(loss))
    assert np.isfinite(to_host(dscores)).all()
    assert dscores.dtype == np.float32


def test_effective_sample_size_by_hand():
    weights = np.array([[0.25, 1.0, 0.5], [0.25, 0, 0.5], [0.25, 0, 0], [0.25, 0, 0]])
    np.testing.assert_allclose(effective_sample_size(weights), [4, 1, 2])


def test_intercepts_make_bayes_classifier():
    """With f_y = log p_y / q up to a constant, f + alpha is the log posterior up to a constant."""
    rng = np.random.default_rng(0)
    priors = np.array([0.7, 0.2, 0.1])
    p = rng.random((400, 3)) + 0.05
    p /= p.sum(axis=0)  # p_y over 400 images
    q = p @ priors
    images = rng.choice(400, 200_000, p=q)  # a sample from q
    f = np.log(p / q[:, None]) + np.array([3.0, -5, 40])  # any constant in each column
    alpha = intercepts(f[images], priors)
    posterior = p * priors / q[:, None]
    np.testing.assert_allclose(np.exp(f + alpha), posterior, rtol=0.02, atol=0.002)
    far = intercepts(np.array([[1e4, -1e4], [1e4, -1e4]], np.float32), [0.5, 0.5])
    np.testing.assert_allclose(far, np.log(0.5) - np.array([1e4, -1e4]))


@given(
    case=scores_and_labels(), seed=st.integers(0, 2**32 - 1), weight=st.sampled_from([0.1, 1, 3])
)
def test_semi_supervised_loss_equals_loops_and_differences(xp, case, seed, weight):
    scores, labels = case
    rng = np.random.default_rng(seed)
    known = rng.random(len(labels)) < 0.5
    priors = rng.dirichlet(np.ones(scores.shape[1]) * 5) + 1e-3
    labels = np.where(known, labels, -1)  # what is not known is not looked at

    def loss():
        return semi_supervised_loss(*map(xp.asarray, (scores, labels, known, priors)), weight)

    value, dscores, info = loss()
    expected = naive.semi_supervised_loss(scores, labels, known, priors, weight)
    assert float(value) == pytest.approx(expected, rel=1e-10, abs=1e-12)
    np.testing.assert_allclose(to_host(dscores).sum(axis=0), 0, atol=1e-14)
    # A guess that changes within eps is a kink: the two best must be further apart than that.
    Z = np.log(np.exp(scores).mean(axis=0))
    best = np.sort(scores - Z + np.log(priors), axis=1)
    if (best[:, -1] - best[:, -2]).min() > 1e-3:
        numeric = numerical_gradient(lambda: float(loss()[0]), scores, SMOOTH)
        np.testing.assert_allclose(to_host(dscores), numeric, rtol=1e-6, atol=1e-9)


def test_with_all_labels_known_it_is_the_generative_loss(xp):
    rng = np.random.default_rng(0)
    scores, labels = xp.asarray(rng.standard_normal((9, 4))), xp.asarray(rng.integers(0, 4, 9))
    whole = generative_loss(scores, labels)
    semi = semi_supervised_loss(scores, labels, xp.ones(9, bool), xp.ones(4) / 4, 0.1)
    assert float(whole[0]) == pytest.approx(float(semi[0]))
    np.testing.assert_allclose(to_host(whole[1]), to_host(semi[1]), atol=1e-15)


def test_an_image_counted_twice_is_as_good_as_two(xp):
    """Two copies of an image are two samples of q, too: so compare gradients with that in mind."""
    rng = np.random.default_rng(1)
    scores, labels = rng.standard_normal((6, 3)), rng.integers(0, 3, 6)
    counts = np.array([2.0, 1, 1, 3, 1, 1])
    _, dscores, info = generative_loss(*map(xp.asarray, (scores, labels, counts)))
    W = to_host(info["weights"])
    for y in range(3):
        N_y = counts[labels == y].sum()
        expected = -(counts * (labels == y) - N_y * W[:, y]) / counts.sum()
        np.testing.assert_allclose(to_host(dscores)[:, y], expected, atol=1e-14)


@pytest.mark.parametrize("name", LOSSES)
def test_labels_that_are_none(name):
    scores = np.zeros((4, 3))
    for labels in ([0, 1, 2], [1], [[0], [1], [2], [0]]):
        with pytest.raises(ValueError, match="expected a label for each of 4 images"):
            LOSSES[name](scores, np.array(labels))
    for wrong in (3, -1):
        with pytest.raises(ValueError, match="expected 0 to 2"):
            LOSSES[name](scores, np.array([0, wrong, 2, 1]))
