"""Dropout: while training, each element is dropped with probability p, the others scaled up."""

import numpy as np

from nn.backend import Array, array_module, to_device
from nn.layer import Layer


class Dropout(Layer):
    """y = x m / (1 - p) with m = 1 where a uniform number is at least p; y = x when not training.

    The numbers are drawn on the host, so that a run is the same on both devices. Network.seed
    renews the generator before each training step, so that a resumed run draws the same ones.
    """

    def __init__(self, p: float = 0.5, rng: np.random.Generator | None = None):
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"the dropout probability must be in [0, 1), got {p}")
        self.p = p
        self.rng = rng or np.random.default_rng(0)

    def forward(self, x: Array, train: bool = False) -> Array:
        self.mask = None
        if not train or self.p == 0:
            return x
        m = self.rng.random(x.shape, dtype=np.float32) >= self.p
        self.mask = to_device((m / (1 - self.p)).astype(x.dtype), array_module(x))
        return x * self.mask

    def backward(self, dy: Array) -> Array:
        return dy if self.mask is None else dy * self.mask
