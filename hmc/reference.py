"""The reference distribution q of Eq. 5, as a Gaussian: x = mu + A z with z from N(0, I).

Section 4.6 of the paper asks for a parametric q, "such as Gaussian white noise". Any Gaussian will
do: the chains move z, whose reference is N(0, I) whatever A is. U(z) = -f(mu + A z) + |z|^2 / 2 has

    dU/dz = z - A^T df/dx

by the chain rule, so all that a reference needs is A and its transpose. All directions of z have
the same scale, so one step size suits them all; in x the narrowest direction of q would limit it
(docs/derivations.md).
"""

import math
from types import ModuleType

import numpy as np

from nn.backend import Array, array_module, to_device

# Correlation of colours in natural images; green and blue are as alike as red and green.
RED_GREEN, RED_BLUE = 0.91, 0.79
FALL = 1.0  # of the amplitude with the frequency; Tolhurst et al. (1992) measured 0.8 to 1.5
RIDGE = 0.05  # of the data reference, as a share of the range of the pixels


class White:
    """q = N(mean, sigma^2 I), the paper's: A = sigma. x and z (n, H, W, C).

    noise: the standard deviation of the noise that was added to the images from which f was
    learned, of which q has its part; 0 if there was none (energy.py takes it off a sample).
    """

    noise = 0.0

    def __init__(self, shape: tuple, sigma: float, mean: float | np.ndarray = 0.0):
        self.shape = self.image_shape = tuple(shape)  # of z, and of x
        self.sigma, self.mean = sigma, np.broadcast_to(np.asarray(mean, float), shape)

    def to(self, xp: ModuleType, dtype: type) -> "White":
        """Move the arrays to a library and a dtype."""
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray) or hasattr(value, "get"):
                setattr(self, name, xp.asarray(to_device(value, xp), dtype))
        return self

    def image(self, z: Array) -> Array:
        """x = mu + A z: (n, *shape) -> (n, *image_shape)."""
        return self.mean + self.apply(z)

    def apply(self, z: Array) -> Array:
        """A z."""
        return self.sigma * z

    def transpose(self, dx: Array) -> Array:
        """A^T dx: (n, *image_shape) -> (n, *shape)."""
        return self.sigma * dx

    def slope(self, x: Array) -> Array:
        """d log q/dx = -(A A^T)^-1 (x - mu), as nearly as A allows."""
        return (self.mean - x) / self.sigma**2

    def coordinates(self, x: Array) -> Array:
        """The smallest z of an image, A^T (A A^T)^-1 (x - mu): mu + A z = x."""
        return -self.transpose(self.slope(x))


class Natural(White):
    """What natural images have in common: neighbouring pixels and colours are alike.

    A = sigma crop F^-1 D F S: S mixes the channels of each pixel (the symmetric root of their
    correlation), D(f) = max(|f|, 1 / max(H, W))^-1 weighs the frequencies f (cycles a pixel), F is
    the Fourier transform. D is scaled so that F^-1 D F gives each pixel the variance 1. z is larger
    than x: a transform of the image alone would join its left border to its right.
    spectrum: a measured D instead, of the shape of rfft2 on `torus(shape)`.
    """

    def __init__(
        self,
        shape: tuple,
        sigma: float,
        mean: float | np.ndarray = 0.0,
        colour: np.ndarray | None = None,
        spectrum: np.ndarray | None = None,
    ):
        super().__init__(shape, sigma, mean)
        H, W, C = shape
        self.size = torus(shape)
        self.shape = *self.size, C
        if spectrum is None:
            f = np.hypot(np.fft.fftfreq(self.size[0])[:, None], np.fft.rfftfreq(self.size[1]))
            spectrum = np.maximum(f, 1 / max(H, W)) ** -FALL
        self.D = (sigma * spectrum / root_mean_square(spectrum, self.size))[..., None]
        self.S = symmetric_root(colour_correlation(C) if colour is None else colour)

    def filtered(self, a: Array) -> Array:
        """F^-1 D F a, its own transpose: D is real, and the same at f and -f."""
        fft = array_module(a).fft
        spectrum = self.D * fft.rfft2(a, axes=(1, 2))
        return fft.irfft2(spectrum, s=self.size, axes=(1, 2)).astype(a.dtype, copy=False)

    def apply(self, z: Array) -> Array:
        H, W, _ = self.image_shape
        return self.filtered(z)[:, :H, :W] @ self.S

    def transpose(self, dx: Array) -> Array:
        H, W, _ = self.image_shape
        pads = (0, 0), (0, self.size[0] - H), (0, self.size[1] - W), (0, 0)
        return self.filtered(array_module(dx).pad(dx @ self.S, pads))

    def slope(self, x: Array) -> Array:
        """By conjugate gradients on A A^T y = mu - x."""
        target = self.mean - x
        y, r = 0 * target, target.copy()
        p, size = r.copy(), (r * r).sum(axis=(1, 2, 3), keepdims=True)
        for _ in range(300):
            if size.max() <= 1e-12 * (target * target).sum():
                break
            Ap = self.apply(self.transpose(p))
            step = ratio(size, (p * Ap).sum(axis=(1, 2, 3), keepdims=True))
            y, r = y + step * p, r - step * Ap
            before, size = size, (r * r).sum(axis=(1, 2, 3), keepdims=True)
            p = r + ratio(size, before) * p
        return y


class Gaussian(White):
    """x = mu + A z with any mean and any symmetric A, D = H W C numbers squared."""

    def __init__(self, mean: Array, A: Array):
        super().__init__(mean.shape, 1.0, mean)
        self.A = A

    def apply(self, z: Array) -> Array:
        return (z.reshape(len(z), -1) @ self.A).reshape(z.shape)

    transpose = apply  # A is symmetric

    def slope(self, x: Array) -> Array:
        solve = array_module(x).linalg.solve
        columns = (self.mean - x).reshape(len(x), -1).T
        y = solve(self.A, solve(self.A, columns))
        return y.T.reshape(x.shape).astype(x.dtype, copy=False)


class Data(Gaussian):
    """The mean and all second moments of images: the Gaussian of maximum entropy that has them.

    A is the symmetric root of their covariance + ridge^2 I: pixels that never change, as at the
    border of digits, would leave A without an inverse. For larger images take Natural with a
    measured spectrum (`measured`).
    """

    def __init__(self, images: Array, ridge: float, sigma: float = 1.0):
        """images (N, H, W, C) as the net takes them; ridge: in their units; sigma multiplies A."""
        mean = images.mean(axis=0, dtype=np.float64)
        rows = images.reshape(len(images), -1)
        centred = rows - mean.reshape(-1).astype(rows.dtype)
        covariance = (centred.T @ centred).astype(np.float64) / len(rows)
        super().__init__(
            mean, sigma * symmetric_root(covariance + ridge**2 * np.eye(len(covariance)))
        )


def measured(images: Array, sigma: float | None = None) -> Natural:
    """Natural with the spectrum, the colours and the mean colour of images (N, H, W, C).

    The power spectrum is a mean over images and channels, each image with its own mean taken off
    and faded out towards its borders (a Hann window), so that they leave no cross in it.
    """
    N, H, W, C = images.shape
    size = torus((H, W, C))
    mean = images.mean(axis=(0, 1, 2), dtype=np.float64)
    fade = np.hanning(H + 2)[1:-1, None, None] * np.hanning(W + 2)[1:-1, None]
    power, colour = 0.0, 0.0
    for start in range(0, N, 100):
        part = images[start : start + 100] - mean
        flat = part.reshape(-1, C)
        colour = colour + flat.T @ flat
        faded = (part - part.mean(axis=(1, 2), keepdims=True)) * fade
        power = power + (np.abs(np.fft.rfft2(faded, s=size, axes=(1, 2))) ** 2).sum(axis=(0, 3))
    deviation = np.sqrt(np.diag(colour))
    if not deviation.all():
        raise ValueError("q cannot be measured: a colour of these images is the same everywhere")
    spread = float(np.sqrt(np.trace(colour) / (N * H * W * C)))
    spectrum = np.sqrt(power)
    spectrum[0, 0] = spectrum.max()  # the mean of a picture varies as much as its coarsest waves
    scaled = colour / np.outer(deviation, deviation)
    return Natural((H, W, C), sigma or spread, mean, colour=scaled, spectrum=spectrum)


def torus(shape: tuple) -> tuple:
    """(height, width) of z: a quarter more than the image, of factors 2, 3 and 5.

    Pixels a quarter of the image apart are hardly alike any more (their correlation is below 0.1).
    """
    return tuple(fast_length(n + n // 4) for n in shape[:2])


def fast_length(n: int) -> int:
    """The next even number from n on that has no prime factor above 5."""
    while True:
        rest = n
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1 and n % 2 == 0:
            return n
        n += 1


def root_mean_square(spectrum: np.ndarray, size: tuple) -> float:
    """Of D over all frequencies, of which rfft2 leaves out those that are mirror images."""
    twice = np.full(spectrum.shape[1], 2.0)
    twice[0] = twice[-1] = 1  # an even width has 0 and the highest frequency once
    return float(np.sqrt((twice * spectrum**2).sum() / math.prod(size)))


def colour_correlation(C: int) -> np.ndarray:
    """Of the channels of natural images: red, green and blue, or else none."""
    if C != 3:
        return np.eye(C)
    a, b = RED_GREEN, RED_BLUE
    return np.array([[1, a, b], [a, 1, a], [b, a, 1]])


def ratio(a: Array, b: Array) -> Array:
    """a / b, or 0 where b is 0."""
    return a / array_module(b).where(b == 0, 1, b) * (b != 0)


def symmetric_root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric A with A A = covariance."""
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
