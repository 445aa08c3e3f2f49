"""Max-pooling first along the rows of windows, then across them: KH + KW passes, not KH * KW.

A few images at a time go through all passes, so that they stay in the cache.
"""

import math

import numpy as np

from fast.cpu.windows import pad_image, pieces
from fast.engine import Form
from nn.pool import MaxPool
from nn.windows import cropped, every, places


def running_max(values, codes, room, name):
    """The elementwise maximum of several arrays, and the code of the first array that has it.

    values: arrays of one shape; codes: an array (uint8) for each, growing from array to array in
    every place, or None for 0, 1, 2, ...
    """
    shape, dtype = values[0].shape, values[0].dtype
    best, code = values[0], codes[0] if codes else None
    for k, value in enumerate(values[1:], 1):
        newest = room.get(f"{name} code", shape, np.uint8)
        first = codes is None and k == 1  # then the comparison itself, 0 or 1, is the code
        greater = newest if first else room.get("greater", shape, np.uint8)
        np.greater(value, best, out=greater.view(bool))  # strictly: a tie goes to the first
        best = np.maximum(best, value, out=room.get(f"{name} best", shape, dtype))
        if not first:
            np.multiply(greater, k if codes is None else codes[k], out=greater)
            np.maximum(code, greater, out=newest)  # codes grow: the larger of two is the later
        code = newest
    return best, code if code is not None else np.zeros(shape, np.uint8)


class SeparableMaxPool(Form):
    """max_pool and argmax_unpool of nn/pool.py."""

    takes = (MaxPool,)

    def __init__(self, names, layers, shapes, job, room):
        self.pool, self.room, self.dtype = layers[0], room, job[0]
        (N, self.H, self.W, C) = shapes[0]
        self.border = self.pool.border(self.H, self.W)
        (top, bottom), (left, right) = self.border
        self.OH, self.OW, _ = self.pool.output_shape((self.H, self.W, C))
        (KH, KW), (SH, SW) = self.pool.kernel, self.pool.stride
        padded = N, self.H + top + bottom, self.W + left + right, C
        self.dx = room.get("dx", padded, self.dtype)
        out = N, self.OH, self.OW, C
        self.y, self.argmax = room.get("y", out, self.dtype), room.get("argmax", out, np.uint8)
        # Where windows tile the image, each pixel is in one window.
        self.tiled = (KH, KW) == (SH, SW) and (self.OH * SH, self.OW * SW) == padded[1:3]
        self.pieces = pieces(N, math.prod(padded[1:]))

    def forward(self, x):
        x = pad_image(x, self.border, -np.inf, self.room, self.dtype)
        for these in self.pieces:
            self.maxima(x[these], self.y[these], self.argmax[these])
        return self.y

    def maxima(self, x, y, argmax):
        (KH, KW), (SH, SW) = self.pool.kernel, self.pool.stride
        covered = (self.OH - 1) * SH + KH
        along = [x[:, :covered, every(j, self.OW, SW)] for j in range(KW)]  # (n, covered, OW, C)
        best, code = running_max(along, None, self.room, "along")
        across = [best[:, every(i, self.OH, SH)] for i in range(KH)]  # (n, OH, OW, C)
        codes = [code[:, every(i, self.OH, SH)] for i in range(KH)]
        codes[1:] = [code + np.uint8(i * KW) for i, code in enumerate(codes[1:], 1)]
        y[...], argmax[...] = running_max(across, codes, self.room, "across")

    def backward(self, dy, grads, input_grad):
        if not input_grad:
            return None
        for these in self.pieces:
            unpool = self.unpool_tiles if self.tiled else self.unpool
            unpool(dy[these], self.argmax[these], self.dx[these])
        return cropped(self.dx, self.border, self.H, self.W)

    def unpool_tiles(self, dy, argmax, dx):
        (KH, KW), (n, OH, OW, C) = self.pool.kernel, dy.shape
        pixels = dx.reshape(n, OH, KH, OW, KW, C).transpose(2, 4, 0, 1, 3, 5)  # (KH, KW, *dy)
        chosen = self.room.get("chosen", (KH * KW, *dy.shape), bool)
        numbers = np.arange(KH * KW, dtype=np.uint8).reshape(-1, 1, 1, 1, 1)
        np.equal(argmax, numbers, out=chosen)
        np.multiply(dy, chosen.reshape(KH, KW, *dy.shape), out=pixels)

    def unpool(self, dy, argmax, dx):
        chosen = self.room.get("chosen", dy.shape, bool)
        share = self.room.get("share", dy.shape, self.dtype)
        dx.fill(0)
        for place, rows, columns in places(self.pool.kernel, self.pool.stride, self.OH, self.OW):
            np.equal(argmax, place, out=chosen)
            dx[:, rows, columns] += np.multiply(dy, chosen, out=share)
