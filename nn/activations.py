"""Activations besides ReLU: y = f(x) for each number alone, so dx = dy f'(x).

In each class `value` is f(x), and below it `down` is dy f'(x). At a corner of f, the derivative is
that of the flatter side, as in ReLU. x and y are of any shape.
"""

import math
from collections.abc import Callable

import numpy as np

from nn.backend import Array, array_module, erf
from nn.fillers import constant
from nn.layer import Layer

quarter = constant(0.25)


class Activation(Layer):
    """What they have in common. xp is the library of x."""

    def forward(self, x: Array, train: bool = False) -> Array:
        self.x = x
        return self.value(x, array_module(x))

    def backward(self, dy: Array) -> Array:
        return self.down(dy, self.x, array_module(dy))


class LeakyReLU(Activation):
    """y = x where x > 0, else a x (Maas et al., 2013)."""

    def __init__(self, slope: float = 0.01):
        super().__init__()
        self.slope = slope

    def value(self, x, xp):
        return xp.where(x > 0, x, self.slope * x)

    def down(self, dy, x, xp):
        return xp.where(x > 0, dy, self.slope * dy)


class PReLU(Activation):
    """y = x where x > 0, else a x, with a learned slope a for each channel (He et al., 2015).

    shared: one slope for all channels. As its authors do, the slope does not decay.
    """

    rates = {"a": (1.0, 0.0)}

    def __init__(self, shared: bool = False, filler: Callable = quarter):
        super().__init__()
        self.shared, self.filler = shared, filler

    def initialize(self, input_shape: tuple, rng: np.random.Generator) -> None:
        self.params["a"] = self.filler((1 if self.shared else input_shape[-1],), rng)

    def value(self, x, xp):
        return xp.where(x > 0, x, self.parameter("a") * x)

    def down(self, dy, x, xp):
        return xp.where(x > 0, dy, self.params["a"] * dy)

    def gradients(self, dy: Array) -> dict[str, Array]:
        da = dy * array_module(dy).minimum(self.x, 0)  # dy/da = x where x < 0
        return {"a": da.sum(axis=None if self.shared else tuple(range(da.ndim - 1))).reshape(-1)}


class ELU(Activation):
    """y = x where x > 0, else a (exp(x) - 1) (Clevert et al., 2015)."""

    def __init__(self, a: float = 1.0):
        super().__init__()
        self.a = a

    def value(self, x, xp):
        return xp.where(x > 0, x, self.a * xp.expm1(xp.minimum(x, 0)))

    def down(self, dy, x, xp):
        return xp.where(x > 0, dy, self.a * xp.exp(xp.minimum(x, 0)) * dy)


class Clip(Activation):
    """y = x, but at least `low` and at most `high`. Clip(0, 6) is called ReLU6."""

    def __init__(self, low: float = -math.inf, high: float = math.inf):
        super().__init__()
        if not low <= high:
            raise ValueError(f"numbers cannot be at least {low} and at most {high}")
        self.low, self.high = low, high

    def value(self, x, xp):
        return xp.clip(x, self.low, self.high)

    def down(self, dy, x, xp):
        return dy * ((x > self.low) & (x < self.high))


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), written so that no exponential can overflow."""
    return (1 + array_module(x).tanh(x / 2)) / 2


class Sigmoid(Activation):
    """y = s(x) = 1 / (1 + exp(-x)), with s' = s (1 - s)."""

    def value(self, x, xp):
        return sigmoid(x)

    def down(self, dy, x, xp):
        s = sigmoid(x)
        return dy * s * (1 - s)


class Tanh(Activation):
    """y = tanh(x), with tanh' = 1 - tanh^2."""

    def value(self, x, xp):
        return xp.tanh(x)

    def down(self, dy, x, xp):
        return dy * (1 - xp.tanh(x) ** 2)


class Softplus(Activation):
    """y = log(1 + exp(x)); its derivative is the sigmoid."""

    def value(self, x, xp):
        return xp.logaddexp(x, 0)

    def down(self, dy, x, xp):
        return dy * sigmoid(x)


class SiLU(Activation):
    """y = x s(x), s the sigmoid; also called swish (Ramachandran et al., 2017)."""

    def value(self, x, xp):
        return x * sigmoid(x)

    def down(self, dy, x, xp):
        s = sigmoid(x)
        return dy * (s + x * s * (1 - s))


class HardSwish(Activation):
    """y = x min(max(x + 3, 0), 6) / 6: SiLU in straight pieces (Howard et al., 2019)."""

    def value(self, x, xp):
        return x * xp.clip(x + 3, 0, 6) / 6

    def down(self, dy, x, xp):
        inside = (x > -3) & (x < 3)
        return dy * (xp.clip(x + 3, 0, 6) + x * inside) / 6


class GELU(Activation):
    """y = x P(x), with P(x) = (1 + erf(x / sqrt 2)) / 2 the share of N(0, 1) below x.

    P' = exp(-x^2 / 2) / sqrt(2 pi), the density of N(0, 1) (Hendrycks and Gimpel, 2016).
    """

    def value(self, x, xp):
        return x * (1 + erf(x / math.sqrt(2))) / 2

    def down(self, dy, x, xp):
        density = xp.exp(-x * x / 2) / math.sqrt(2 * math.pi)
        return dy * ((1 + erf(x / math.sqrt(2))) / 2 + x * density)


class TanhGELU(Activation):
    """GELU as its authors approximate it: y = x s(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3)."""

    def value(self, x, xp):
        return x * self.share(x)

    def down(self, dy, x, xp):
        s = self.share(x)
        du = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
        return dy * (s + x * 2 * du * s * (1 - s))

    def share(self, x):
        return sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))
