"""The energy of a node of a ConvNet: what the chains walk on (section 4.6)."""

import numpy as np

from nn.backend import array_module, to_device, to_host
from nn.buffers import Buffers


class NodeEnergy:
    """U(x) = (-f(x) + |x|^2 / (2 sigma^2)) / T, whose exp(-U) is exp(f) q at temperature T.

    f(x) is the score of one unit (a channel) of `layer`, at `position` (row, column) of its map,
    by default the centre; q is white noise N(0, sigma^2 I) in the net's own input units. `unit` is
    an int, or an int for each chain. Name a convolution, not the ReLU above it: where a unit is
    below 0, its ReLU has no gradient to follow. ValueError if there is no such node.
    """

    def __init__(self, network, layer, unit, position=None, sigma=1.0, temperature=1.0):
        self.network, self.layer = network, layer
        self.unit = np.atleast_1d(unit)
        self.nodes = {}  # {(shape of the layer's map, dtype, library): what `node` returns}
        self.position = check_node(network, layer, self.unit, position)
        self.sigma, self.temperature = sigma, temperature
        self.buffers = Buffers()

    def __call__(self, x):
        """x (n, H, W, C) -> U (n,) float64, dU/dx like x, in a buffer that the next call reuses.

        One bottom-up and one top-down pass. Sums are in float64: at T = 0.001 the rounding of a
        float32 sum would change the acceptance.
        """
        xp = array_module(x)
        f, dfdx = self.score_and_slope(x)
        gradient = self.buffers.get("gradient", x.shape, x.dtype, xp)
        xp.multiply(x, 1 / self.sigma**2, out=gradient)
        gradient -= dfdx
        gradient /= self.temperature
        flat = x.reshape(len(x), -1)
        squares = xp.multiply(flat, flat, out=self.buffers.get("squares", flat.shape, x.dtype, xp))
        square = squares.sum(axis=1, dtype=xp.float64)
        return (square / (2 * self.sigma**2) - f) / self.temperature, gradient

    def score_and_slope(self, x):
        """f (n,) float64 and df/dx like x, in a buffer that the next call reuses."""
        xp = array_module(x)
        y = self.network.forward(x, self.layer)
        place, dy = self.node(y)
        f = y.reshape(-1)[place].astype(xp.float64)
        return f, self.network.backward(dy, param_grads=False)

    def node(self, y):
        """For maps y: the places of the nodes in their numbers, and df/dy, 1 there and else 0."""
        xp = array_module(y)
        key = y.shape, y.dtype, xp
        if key not in self.nodes:
            dy = np.zeros(y.shape, y.dtype)
            dy[(np.arange(len(y)), *self.position, np.broadcast_to(self.unit, len(y)))] = 1
            self.nodes[key] = to_device(np.flatnonzero(dy), xp), to_device(dy, xp)
        return self.nodes[key]

    def is_flat(self, x):
        """Whether df/dx is 0 everywhere in each chain's image, as above a dead ReLU: (n,) bool."""
        _, dfdx = self.score_and_slope(x)
        return ~to_host(dfdx.reshape(len(x), -1).any(axis=1))


def check_node(network, layer, units, position):
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


def rounding_error(energy, energy64, x):
    """max |U - U in float64 on the host| over the chains at x: the noise in each H.

    Beside it, energy differences of an accepted step are of the order of 1.
    """
    value, _ = energy(x)
    exact, _ = energy64(to_host(x).astype(np.float64))
    return float(np.abs(to_host(value) - exact).max())
