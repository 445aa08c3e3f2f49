"""Dropout: while training, each element is dropped with probability p, the others scaled up."""

import numpy as np

from nn.backend import array_module, to_device
from nn.layer import Layer


class Dropout(Layer):
    """y = x m / (1 - p) with m = 1 where a uniform number is at least p; y = x when not training.

    The numbers are drawn on the host, so that a run is the same on both devices. Network.seed
    renews the generator before each training step, so that a resumed run draws the same ones.
    """

    def __init__(self, p=0.5, rng=None):
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"the dropout probability must be in [0, 1), got {p}")
        self.p = p
        self.rng = rng or np.random.default_rng(0)

    def forward(self, x, train=False):
        self.mask = None
        if not train or self.p == 0:
            return x
        xp = array_module(x)
        keep = self.rng.random(x.shape, dtype=np.float32) >= self.p
        self.mask = to_device((keep / (1 - self.p)).astype(x.dtype), xp)
        return xp.multiply(x, self.mask, out=self.buffers.get("y", x.shape, x.dtype, xp))

    def backward(self, dy, param_grads=True, input_grad=True):
        if self.mask is None:
            return dy
        xp = array_module(dy)
        return xp.multiply(dy, self.mask, out=self.buffers.get("dx", dy.shape, dy.dtype, xp))
