"""The energy of a node of a ConvNet: what the chains walk on (section 4.6)."""

from types import ModuleType

import numpy as np

from hmc.reference import White
from nn.backend import Array, array_module, to_device, to_host


class NodeEnergy:
    """U(z) = -f(mu + A z) + |z|^2 / 2, whose exp(-U) is exp(f) q up to a factor (Eq. 5).

    f(x) is the score of one unit (a channel) of `layer`, at `position` (row, column) of its map,
    by default the centre; q is `reference`, the Gaussian of x = mu + A z, by default white noise
    N(0, I) in the net's own input units. `unit` is an int, or an int for each chain. Name a
    convolution, not the ReLU above it: where a unit is below 0, its ReLU has no gradient to follow.
    network: a Network, or what runs one (fast/). ValueError if there is no such node.
    """

    def __init__(
        self,
        network,
        layer: str,
        unit: int | list[int],
        position: tuple | None = None,
        reference: White | None = None,
    ):
        self.network, self.layer = network, layer
        self.reference = reference or White(network.input_shape, 1.0)
        self.unit = np.atleast_1d(unit)
        self.position = check_node(network, layer, self.unit, position)
        self.nodes: dict = {}  # {(shape of the layer's map, dtype, library): what `node` returns}

    def __call__(self, z: Array) -> tuple[Array, Array]:
        """z (n, *reference.shape) -> U (n,) float64, dU/dz like z.

        One bottom-up and one top-down pass. Sums are in float64: at T = 0.001 the rounding of a
        float32 sum would change the acceptance.
        """
        f, dfdx = self.score_and_slope(self.reference.image(z))
        return half_square(z) - f, z - self.reference.transpose(dfdx)

    def take_units(self, unit: np.ndarray) -> None:
        """Take other units of the layer, one for each chain of the next call."""
        self.unit, self.nodes = np.atleast_1d(unit), {}

    def score(self, z: Array, value: Array) -> Array:
        """f at z, where U is known, without another pass through the net: (n,) float64."""
        return half_square(z) - value

    def score_and_slope(self, x: Array) -> tuple[Array, Array]:
        """f (n,) float64 and df/dx of images x, which is valid until the network's next call."""
        y = self.network.bottom_up(x, self.layer)
        place, dy = self.node(y.shape, y.dtype, array_module(y))
        f = y.reshape(-1)[place].astype(np.float64)
        return f, self.network.top_down(dy)

    def without_noise(self, z: Array) -> Array:
        """The mean of the images that x = mu + A z may be with noise: x + s^2 d log p(x)/dx.

        This is exact for p = exp(f) q (T = 1) if p is the distribution of images with noise from
        N(0, s^2 I), s = reference.noise (Robbins, 1956; Miyasawa, 1961).
        """
        q, x = self.reference, self.reference.image(z)
        if not q.noise:
            return x
        _, dfdx = self.score_and_slope(x)
        return (x + q.noise**2 * (dfdx + q.slope(x))).astype(x.dtype, copy=False)

    def node(self, shape: tuple, dtype: type, xp: ModuleType) -> tuple[Array, Array]:
        """For maps y of this shape: where the nodes are in y.reshape(-1), and df/dy, 1 there."""
        key = shape, dtype, xp
        if key not in self.nodes:
            dy = np.zeros(shape, dtype)
            dy[(np.arange(len(dy)), *self.position, np.broadcast_to(self.unit, len(dy)))] = 1
            self.nodes[key] = to_device(np.flatnonzero(dy), xp), to_device(dy, xp)
        return self.nodes[key]

    def is_flat(self, z: Array) -> np.ndarray:
        """Whether df/dx is 0 everywhere in each chain's image, as above a dead ReLU: (n,) bool."""
        _, dfdx = self.score_and_slope(self.reference.image(z))
        return ~to_host(dfdx.reshape(len(z), -1).any(axis=1))


def half_square(z: Array) -> Array:
    """|z|^2 / 2 of each chain, -log q up to a constant: (n,), summed in float64."""
    flat = z.reshape(len(z), -1)
    return (flat * flat).sum(axis=1, dtype=np.float64) / 2


def check_node(network, layer: str, units: np.ndarray, position: tuple | None) -> tuple:
    """The position as a tuple: () for a layer without a map, else (row, column)."""
    if layer not in network.shapes:
        raise ValueError(f"no layer {layer!r}; this net has {', '.join(network.shapes)}")
    *size, channels = network.shapes[layer]
    if np.min(units) < 0 or np.max(units) >= channels:
        bad = np.min(units) if np.min(units) < 0 else np.max(units)
        raise ValueError(f"layer {layer} has units 0 .. {channels - 1}, not {bad}")
    if not size:
        if position is not None:
            raise ValueError(f"layer {layer} is not a map: it has no positions")
        return ()
    position = tuple(s // 2 for s in size) if position is None else tuple(position)
    if not all(0 <= p < s for p, s in zip(position, size, strict=True)):
        raise ValueError(
            f"position {position[0]},{position[1]} is outside the map of {layer}, whose rows are "
            f"0 .. {size[0] - 1} and columns 0 .. {size[1] - 1}"
        )
    return position


def rounding_error(value: Array, energy64: NodeEnergy, z: Array) -> float:
    """max |U - U in float64 on the host| of chains at z, whose U is `value` (n,).

    Divided by T it is the error in H. A trajectory changes H by about 1, so an error as large as
    that disturbs which are accepted.
    """
    exact, _ = energy64(to_host(z).astype(np.float64))
    return float(np.abs(to_host(value) - exact).max())
