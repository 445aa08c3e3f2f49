"""The fully connected layer (Eq. 3)."""

import math

from nn.backend import array_module
from nn.fillers import xavier, zeros
from nn.layer import Layer
from nn.products import matmul


class Linear(Layer):
    """y = x w + b: x (N, ...) taken as (N, D), w (D, F), b (F,), y (N, F).

    An image (N, H, W, C) is flattened in that order: channels run fastest.
    """

    kernel = stride = None

    def __init__(self, units, filler=xavier, bias_filler=zeros):
        super().__init__()
        self.units = units
        self.filler, self.bias_filler = filler, bias_filler

    def initialize(self, input_shape, rng):
        self.params["w"] = self.filler((math.prod(input_shape), self.units), rng)
        self.params["b"] = self.bias_filler((self.units,), rng)

    def output_shape(self, input_shape):
        return (self.units,)

    def forward(self, x, train=False, bias=True):
        w, b = self.params["w"], self.params["b"]
        xp = array_module(x)
        self.input_shape = x.shape
        self.x = x.reshape(len(x), -1)
        if self.x.shape[1] != len(w):
            raise ValueError(f"expected {len(w)} inputs, got {self.x.shape[1]}: {x.shape[1:]}")
        y = self.buffers.get("y", (len(x), w.shape[1]), xp.result_type(x, w), xp)
        matmul(self.x, w, y)
        if bias:
            y += b
        return y

    def backward(self, dy, param_grads=True, input_grad=True):
        w = self.params["w"]
        xp = array_module(dy)
        dtype = xp.result_type(dy, w)
        if param_grads:
            dw = self.buffers.get("dw", w.shape, dtype, xp)
            self.grads["w"] = matmul(self.x.T, dy, dw)
            self.grads["b"] = dy.sum(axis=0)
        if not input_grad:
            return None
        # (w dy^T)^T: for small batches BLAS takes half the time of dy w^T.
        D, n = len(w), len(dy)
        turned = matmul(w, dy.T, self.buffers.get("dx turned", (D, n), dtype, xp))
        dx = self.buffers.get("dx", (n, D), dtype, xp)
        dx[...] = turned.T
        return dx.reshape(self.input_shape)
