"""Reference distributions: A and its transpose, the moments of x, no torus to be seen."""

import math

import numpy as np
import pytest

from hmc.reference import Data, Natural, White, colour_correlation, fast_length, measured, torus
from hmc.sampler import HMC
from nn.backend import to_host
from tests.gradcheck import adjoint_error

IMAGES = np.random.default_rng(0).random((300, 6, 7, 2)) ** 2


def make(name):
    return {
        "white": lambda: White((6, 7, 2), 1.7, 0.4),
        "natural": lambda: Natural((9, 14, 3), 1.7, 0.4),
        "natural, grey": lambda: Natural((9, 14, 1), 0.5),
        "data": lambda: Data(IMAGES, 0.1),
        "measured": lambda: measured(IMAGES),
    }[name]()


NAMES = ["white", "natural", "natural, grey", "data", "measured"]


@pytest.mark.parametrize("name", NAMES)
def test_transpose(xp, name):
    q, rng = make(name).to(xp, np.float64), np.random.default_rng(1)

    def apply(z):
        return to_host(q.apply(xp.asarray(z)))

    def transpose(dx):
        return to_host(q.transpose(xp.asarray(dx)))

    z = rng.standard_normal((3, *q.shape))
    assert apply(z).shape == (3, *q.image_shape)
    assert adjoint_error(apply, transpose, z, rng) < 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_coordinates_lead_back_to_the_image(name):
    q = make(name).to(np, np.float64)
    x = np.random.default_rng(2).random((2, *q.image_shape))
    z = q.coordinates(x)
    np.testing.assert_allclose(q.image(z), x, atol=2e-2)
    assert (z**2).sum() <= 1.01 * (q.coordinates(q.image(z)) ** 2).sum()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_the_coordinates_of_the_mean_are_0(name, dtype):
    """Alone, where there is nothing to solve for, and beside another image."""
    q = make(name).to(np, dtype)
    other = np.random.default_rng(2).random(q.image_shape).astype(dtype)
    both = np.stack([np.broadcast_to(q.mean, q.image_shape), other]).astype(dtype)
    assert (q.coordinates(both[:1]) == 0).all()
    z = q.coordinates(both)
    assert (z[0] == 0).all()
    np.testing.assert_allclose(z[1:], q.coordinates(both[1:]), atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_the_slope_of_q(name):
    """A A^T slope = mu - x, up to the precision of the conjugate gradients."""
    q = make(name).to(np, np.float64)
    x = np.random.default_rng(2).random((2, *q.image_shape))
    there = q.apply(q.transpose(q.slope(x)))
    np.testing.assert_allclose(there, q.mean - x, atol=2e-2 if "white" != name != "data" else 1e-10)


def test_a_natural_pixel_has_the_variance_and_the_colours_that_are_asked_for():
    q = Natural((20, 26, 3), 2.0, 0.5)
    # x = A z with z from N(0, I): the covariance of pixels is A A^T, found from A^T of unit images.
    for place in ((0, 0), (10, 13), (19, 25)):
        rows = np.zeros((3, 20, 26, 3))
        rows[np.arange(3), place[0], place[1], np.arange(3)] = 1
        columns = q.transpose(rows).reshape(3, -1)
        np.testing.assert_allclose(columns @ columns.T, 4 * colour_correlation(3), rtol=1e-10)


def test_the_torus_does_not_show():
    """Opposite borders are nearly independent, neighbours are alike, and alike everywhere."""
    q, N = Natural((40, 40, 1), 1.0), 40
    rows = np.zeros((3, N, N, 1))
    rows[0, 0, 20], rows[1, 1, 20], rows[2, N - 1, 20] = 1, 1, 1
    top, below, bottom = q.transpose(rows).reshape(3, -1)
    assert top @ below > 0.6
    assert abs(top @ bottom) < 0.15
    assert torus((163, 163, 3)) == (216, 216)
    assert [fast_length(n) for n in (1, 7, 9, 204)] == [2, 8, 10, 216]


def test_the_spectrum_falls_as_one_over_f():
    q = Natural((64, 64, 1), 1.0)
    x = q.image(np.random.default_rng(0).standard_normal((400, *q.shape)))[..., 0]
    power = (np.abs(np.fft.rfft(x * np.hanning(64), axis=2)) ** 2).mean(axis=(0, 1))
    slope = np.polyfit(np.log(np.arange(4, 24)), np.log(power[4:24]), 1)[0]
    assert -1.3 < slope < -0.8  # along a line: of 1/f^2 in the plane, 1/f is left


def test_data_has_the_moments_of_the_images():
    q = Data(IMAGES, 0.1)
    rows = IMAGES.reshape(len(IMAGES), -1)
    np.testing.assert_allclose(q.mean.reshape(-1), rows.mean(axis=0))
    expected = np.cov(rows.T, bias=True) + 0.01 * np.eye(rows.shape[1])
    np.testing.assert_allclose(q.A @ q.A, expected, rtol=1e-9, atol=1e-12)


def test_a_measured_reference_has_the_spread_and_colours_of_the_images():
    rng = np.random.default_rng(0)
    source = Natural((24, 24, 3), 3.0, 1.0)
    images = source.image(rng.standard_normal((500, *source.shape)))
    q = measured(images)
    x = q.image(rng.standard_normal((500, *q.shape)))
    assert x.std() == pytest.approx(images.std(), rel=0.1)
    colours = [np.corrcoef(a.reshape(-1, 3).T) for a in (x, images)]
    np.testing.assert_allclose(*colours, atol=0.05)
    near = [np.corrcoef(a[:, 5, 5, 0], a[:, 5, 7, 0])[0, 1] for a in (x, images)]
    assert near[0] == pytest.approx(near[1], abs=0.15)


def test_chains_in_z_sample_q_in_x():
    """Without f, x = mu + A z has q's covariance, within 4 standard errors over 200 chains."""
    q = Data(IMAGES[..., :1], 0.2)
    hmc = HMC(lambda z: ((z**2).sum(axis=(1, 2, 3)) / 2, z), 0.4, 4, jitter=0.2)
    rng = np.random.default_rng(0)
    state = hmc.start(3 * np.ones((200, *q.shape)))
    for _ in range(60):
        state, _ = hmc.step(state, rng)
    x = (q.image(state.x) - q.mean).reshape(200, -1)
    products = x[:, :, None] * x[:, None, :]
    error = products.std(axis=0, ddof=1) / math.sqrt(200)
    assert (np.abs(products.mean(axis=0) - q.A @ q.A) < 4.5 * error).all()


def test_float32_stays_float32(xp):
    for name in NAMES:
        q = make(name).to(xp, np.float32)
        x = q.image(xp.zeros((1, *q.shape), np.float32))
        assert x.dtype == q.transpose(x).dtype == np.float32
