"""The reference distribution q as arrays in a file of weights: f and q belong together.

q_kind         "white", "natural" or "data"
q_temperature  of the model exp(f / T) q^(1 / T)
q_mean         mu: a number, one for each channel, or an image
q_sigma        white, natural: the spread
q_noise        of the images that f and q are of: its standard deviation, if there is any
q_root         data: one half of the symmetric A, row by row, in float16
q_spectrum, q_colour   natural: D, and the channels' correlation

A has D (D + 1) / 2 different numbers, 0.6 MB for MNIST's 784 pixels. To keep the images instead
would take more, and to name their folder would fail elsewhere. Training takes A as it is kept, so
nothing is lost by rounding.
"""

import numpy as np

from hmc.reference import Gaussian, Natural, White

PREFIX = "q_"
NAMES = {
    "white": {"mean", "sigma"},
    "natural": {"mean", "sigma", "spectrum", "colour"},
    "data": {"mean", "root"},
}


def reference_arrays(q: White, temperature: float) -> dict[str, np.ndarray]:
    """{"q_kind": ..., ...} of a reference on the host."""
    arrays = {"mean": np.asarray(q.mean, np.float32)}
    if isinstance(q, Gaussian):
        kind = "data"
        arrays["root"] = np.float16(q.A[np.triu_indices(len(q.A))])
    else:
        kind = "natural" if isinstance(q, Natural) else "white"
        arrays["sigma"] = np.float64(q.sigma)
    if isinstance(q, Natural):
        arrays |= {"spectrum": np.float32(q.D[..., 0] / q.sigma), "colour": np.float64(q.S @ q.S)}
    if q.noise:
        arrays["noise"] = np.float64(q.noise)
    arrays |= {"kind": np.array(kind), "temperature": np.float64(temperature)}
    return {PREFIX + name: np.asarray(array) for name, array in arrays.items()}


def reference_from(arrays: dict[str, np.ndarray], shape: tuple) -> tuple[White, float]:
    """(q for images (H, W, C), T) from what reference_arrays made. ValueError if it is not that."""
    arrays = {name.removeprefix(PREFIX): np.asarray(array) for name, array in arrays.items()}
    kind = str(arrays.pop("kind", ""))
    temperature, noise = arrays.pop("temperature", None), arrays.pop("noise", np.float64(0))
    if kind not in NAMES or arrays.keys() != NAMES[kind]:
        raise ValueError(
            f"q_kind {kind!r} does not go with {', '.join(map(PREFIX.__add__, arrays))}"
        )
    for name, array in (*arrays.items(), ("temperature", temperature), ("noise", noise)):
        if array is None or array.dtype.kind != "f" or not np.isfinite(array).all():
            raise ValueError(f"q_{name} is not made of finite real numbers")
    for name in ("sigma", "temperature"):
        number = temperature if name == "temperature" else arrays.get(name, np.float64(1))
        if number.shape or not 1e-12 <= number <= 1e12:
            raise ValueError(f"q_{name} must be a number from 1e-12 to 1e12")
    if noise.shape or not 0 <= noise <= 1e12:
        raise ValueError("q_noise must be a number from 0 to 1e12")
    q = of_kind(kind, arrays, shape)
    q.noise = float(noise)
    return q, float(temperature)


def of_kind(kind: str, arrays: dict[str, np.ndarray], shape: tuple) -> White:
    """q from the arrays of its kind. ValueError if they do not fit images (H, W, C)."""
    D, mean = int(np.prod(shape)), arrays["mean"]
    if mean.shape not in ((), shape[2:], tuple(shape)):
        raise ValueError(f"q_mean is {mean.shape}, the images are {tuple(shape)}")
    if kind == "data":
        if arrays["root"].shape != (D * (D + 1) // 2,):
            raise ValueError(
                f"q_root has {arrays['root'].size} numbers, images of {D} need another"
            )
        A = np.zeros((D, D))
        A[np.triu_indices(D)] = arrays["root"]
        return Gaussian(np.broadcast_to(mean, shape), A + np.triu(A, 1).T)
    if kind == "white":
        return White(shape, float(arrays["sigma"]), mean)
    own = Natural(shape, 1.0)
    spectrum, colour = arrays["spectrum"], arrays["colour"]
    if spectrum.shape != own.D.shape[:2] or colour.shape != own.S.shape or not spectrum.any():
        raise ValueError(
            f"q_spectrum {spectrum.shape} and q_colour {colour.shape} do not fit {shape}"
        )
    sigma = float(arrays["sigma"])
    return Natural(shape, sigma, mean, colour=colour, spectrum=spectrum)
