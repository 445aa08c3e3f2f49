"""Average pooling first along the rows of windows, then across them."""

import numpy as np

from fast.cpu.windows import pad_image
from fast.engine import Form
from nn.average_pool import AveragePool
from nn.windows import cropped, every


class SeparableAveragePool(Form):
    takes = (AveragePool,)

    def __init__(self, names, layers, shapes, job, room):
        self.pool, self.room, self.dtype = layers[0], room, job[0]
        N, self.H, self.W, C = shapes[0]
        self.border = self.pool.border(self.H, self.W)
        (top, bottom), (left, right) = self.border
        self.OH, self.OW, _ = self.pool.output_shape((self.H, self.W, C))
        self.covered = (self.OH - 1) * self.pool.stride[0] + self.pool.kernel[0]
        padded = N, self.H + top + bottom, self.W + left + right, C
        self.along = room.get("along", (N, self.covered, self.OW, C), self.dtype)
        self.y = room.get("y", (N, self.OH, self.OW, C), self.dtype)
        self.share = room.get("share", self.y.shape, self.dtype)
        self.rows = room.get("rows", (N, padded[1], self.OW, C), self.dtype)
        self.dx = room.get("dx", padded, self.dtype)
        self.pool.forward(np.zeros((1, self.H, self.W, 1), self.dtype))
        self.shares = (1 / self.pool.counts)[0]  # (OH, OW, 1)

    def forward(self, x):
        (KH, KW), (SH, SW) = self.pool.kernel, self.pool.stride
        x = pad_image(x, self.border, 0, self.room, self.dtype)
        self.along[...] = x[:, : self.covered, every(0, self.OW, SW)]
        for j in range(1, KW):
            self.along += x[:, : self.covered, every(j, self.OW, SW)]
        self.y[...] = self.along[:, every(0, self.OH, SH)]
        for i in range(1, KH):
            self.y += self.along[:, every(i, self.OH, SH)]
        self.y *= self.shares
        return self.y

    def backward(self, dy, grads, input_grad):
        if not input_grad:
            return None
        (KH, KW), (SH, SW) = self.pool.kernel, self.pool.stride
        np.multiply(dy, self.shares, out=self.share)
        self.rows.fill(0)
        for i in range(KH):
            self.rows[:, every(i, self.OH, SH)] += self.share
        self.dx.fill(0)
        for j in range(KW):
            self.dx[:, :, every(j, self.OW, SW)] += self.rows
        return cropped(self.dx, self.border, self.H, self.W)
