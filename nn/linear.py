"""The fully connected layer (Eq. 3)."""

import math

import numpy as np

from nn.backend import array_module
from nn.fillers import xavier, zeros
from nn.layer import Layer
from nn.products import matmul

FACTORS = "factors"  # as param_grads: on a CPU, the gradient of a Linear's w comes as Factors


class Factors:
    """The gradient of a Linear's w, not yet multiplied: dw (D, F) = x^T dy, x (N, D), dy (N, F).

    Most parameters of a net are in such matrices, and their gradients are as large. SGD goes
    through w a few rows at a time and multiplies out just these of dw, which so never leave the
    cache, nor exist as a whole.
    """

    def __init__(self, x, dy):
        self.x, self.dy = x, dy
        self.size = x.shape[1] * dy.shape[1]

    def __len__(self):
        return self.x.shape[1]

    def __getitem__(self, rows):
        return Factors(self.x[:, rows], self.dy)

    def product(self, buffers):
        dtype = np.result_type(self.x, self.dy)
        out = buffers.get("dw", (len(self), self.dy.shape[1]), dtype)
        return np.matmul(self.x.T, self.dy, out=out)


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
        if param_grads == FACTORS and xp is np:
            self.grads = {"w": Factors(self.x, dy), "b": dy.sum(axis=0)}
        elif param_grads:
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
