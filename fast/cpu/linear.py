"""The fully connected layer, and its gradient as two factors that are not multiplied yet."""

import math

import numpy as np

from fast.engine import Form
from nn.linear import Linear


class Factors:
    """The gradient of a Linear's w, not multiplied yet: dw (D, F) = x^T dy, x (N, D), dy (N, F).

    Most parameters of a net are in such matrices, and their gradients are as large. The update
    (update.py) computes dw a few rows at a time, so the full matrix is never stored.
    """

    def __init__(self, x=None, dy=None):
        self.x, self.dy = x, dy

    def take(self, x, dy):
        """Take the factors of the gradient; they are valid until the next call of the engine."""
        self.x, self.dy = x, dy

    def rows(self, rows):
        return Factors(self.x[:, rows], self.dy)

    def product(self, room):
        out = room.get("dw", (self.x.shape[1], self.dy.shape[1]), np.result_type(self.x, self.dy))
        return np.matmul(self.x.T, self.dy, out=out)


class KeptLinear(Form):
    """Where grads holds Factors for w, these get x and dy; an array is filled."""

    takes = (Linear,)

    def __init__(self, names, layers, shapes, job, room):
        self.name, self.linear, self.shape = names[0], layers[0], shapes[0]
        N, D, F = shapes[0][0], math.prod(shapes[0][1:]), layers[0].units
        self.y = room.get("y", (N, F), job[0])
        self.turned = room.get("dx turned", (D, N), job[0])
        self.dx = room.get("dx", (N, D), job[0])

    def forward(self, x):
        w, b = self.linear.params["w"], self.linear.params["b"]
        self.x = x.reshape(len(x), -1)
        np.matmul(self.x, w, out=self.y)
        self.y += b
        return self.y

    def backward(self, dy, grads, input_grad):
        if grads is not None:
            dw = grads[f"{self.name}.w"]
            if isinstance(dw, Factors):
                dw.take(self.x, dy)
            else:
                np.matmul(self.x.T, dy, out=dw)
            dy.sum(axis=0, out=grads[f"{self.name}.b"])
        if not input_grad:
            return None
        # (w dy^T)^T: for small batches BLAS takes half the time of dy w^T.
        np.matmul(self.linear.params["w"], dy.T, out=self.turned)
        self.dx[...] = self.turned.T
        return self.dx.reshape(self.shape)
