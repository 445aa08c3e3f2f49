"""Local max-pooling and its derivative, the arg-max un-pooling (section 4.6 of the paper)."""

import math
from functools import cache

import numpy as np

from nn import kernels
from nn.backend import array_module
from nn.buffers import Buffers
from nn.geometry import pad_sides, pair, pool_output_size
from nn.layer import Layer
from nn.windows import every, pad_image


def running_max(values, codes, buffers, name):
    """The elementwise maximum of several arrays, and the code of the first array that has it.

    values: arrays of one shape; codes: an array (uint8) for each, growing from array to array in
    every place, or None for 0, 1, 2, ...
    """
    xp = array_module(values[0])
    shape, dtype = values[0].shape, values[0].dtype
    best, code = values[0], codes[0] if codes else None
    for k, value in enumerate(values[1:], 1):
        newest = buffers.get(f"{name} code", shape, xp.uint8, xp)
        first = codes is None and k == 1  # then the comparison itself, 0 or 1, is the code
        greater = newest if first else buffers.get("greater", shape, xp.uint8, xp)
        xp.greater(value, best, out=greater.view(bool))  # strictly: a tie goes to the first
        best = xp.maximum(best, value, out=buffers.get(f"{name} best", shape, dtype, xp))
        if not first:
            xp.multiply(greater, k if codes is None else codes[k], out=greater)
            xp.maximum(code, greater, out=newest)  # codes grow: the larger of two is the later
        code = newest
    return best, code if code is not None else xp.zeros(shape, xp.uint8)


@cache
def window_geometry(kernel, stride, pad):
    """Kernel, stride and pads in full: ((KH, KW), (SH, SW), ((top, bottom), (left, right)))."""
    return pair(kernel, "kernel"), pair(stride, "stride"), pad_sides(pad)


@cache
def pool_geometry(H, W, kernel, stride, pad, ceil):
    """Kernel, stride, output size, and the border that the windows reach on each side."""
    (KH, KW), (SH, SW), sides = window_geometry(kernel, stride, pad)
    (top, _), (left, _) = sides
    OH = pool_output_size(H, KH, SH, sides[0], ceil)
    OW = pool_output_size(W, KW, SW, sides[1], ceil)
    bottom, right = (OH - 1) * SH + KH - top - H, (OW - 1) * SW + KW - left - W
    return (KH, KW), (SH, SW), (OH, OW), ((top, max(bottom, 0)), (left, max(right, 0)))


def max_pool(x, kernel, stride, pad=0, ceil=True, buffers=None):
    """Local maxima and where they are: x (N, H, W, C) -> value, argmax, each (N, OH, OW, C).

    argmax is the place in the window, i * KW + j (uint8), of the first maximum in row order.
    Windows that reach over the border see -inf there. First along the rows of each window, then
    across them: KH + KW passes instead of KH * KW.
    """
    geometry = pool_geometry(*x.shape[1:3], kernel, stride, pad, ceil)
    (KH, KW), (SH, SW), (OH, OW), sides = geometry
    buffers = buffers or Buffers()
    xp = array_module(x)
    if xp is not np:
        shape = len(x), OH, OW, x.shape[3]
        value = buffers.get("value", shape, x.dtype, xp)
        argmax = buffers.get("argmax", shape, xp.uint8, xp)
        kernels.max_pool(x, geometry, value, argmax)
        return value, argmax
    x = pad_image(x, sides, -float("inf"), buffers, x.dtype)

    covered_H = (OH - 1) * SH + KH
    along = [x[:, :covered_H, every(j, OW, SW)] for j in range(KW)]  # each (N, covered_H, OW, C)
    best, code = running_max(along, None, buffers, "along")
    across = [best[:, every(i, OH, SH)] for i in range(KH)]  # each (N, OH, OW, C)
    codes = [code[:, every(i, OH, SH)] for i in range(KH)]
    codes[1:] = [code + xp.uint8(i * KW) for i, code in enumerate(codes[1:], 1)]
    return running_max(across, codes, buffers, "across")


def argmax_unpool(dy, argmax, input_shape, kernel, stride, pad=0, buffers=None):
    """The transpose of max_pool: dy goes to where the maximum was, added up where windows overlap.

    dy, argmax (N, OH, OW, C) -> dx of input_shape (N, H, W, C).
    """
    N, H, W, C = input_shape
    _, OH, OW, _ = dy.shape
    (KH, KW), (SH, SW), ((top, _), (left, _)) = window_geometry(kernel, stride, pad)
    buffers = buffers or Buffers()
    xp = array_module(dy)
    if xp is not np:
        dx = buffers.get("dx", tuple(input_shape), dy.dtype, xp)
        kernels.argmax_unpool(dy, argmax, (KH, KW), (SH, SW), top, left, dx)
        return dx
    padded_H, padded_W = max(top + H, (OH - 1) * SH + KH), max(left + W, (OW - 1) * SW + KW)
    dx = buffers.get("dx", (N, padded_H, padded_W, C), dy.dtype, xp)
    if (KH, KW) == (SH, SW) and (OH * SH, OW * SW) == (padded_H, padded_W):
        places = np.arange(KH * KW, dtype=np.uint8).reshape(-1, 1, 1, 1, 1)
        chosen = buffers.get("chosen", (KH * KW, *dy.shape), bool)
        np.equal(argmax, places, out=chosen)
        pixels = dx.reshape(N, OH, KH, OW, KW, C).transpose(2, 4, 0, 1, 3, 5)
        np.multiply(dy, chosen.reshape(KH, KW, *dy.shape), out=pixels)  # each is in one window
    else:
        dx.fill(0)
        chosen = buffers.get("chosen", dy.shape, bool)
        share = buffers.get("share", dy.shape, dy.dtype)
        for place in range(KH * KW):
            i, j = divmod(place, KW)
            np.multiply(dy, np.equal(argmax, place, out=chosen), out=share)
            dx[:, every(i, OH, SH), every(j, OW, SW)] += share
    return dx[:, top : top + H, left : left + W]


class MaxPool(Layer):
    """The layer of max_pool and argmax_unpool. ceil: Caffe's output sizes (see geometry.py)."""

    def __init__(self, kernel, stride=1, pad=0, ceil=True):
        super().__init__()
        self.kernel, self.stride, self.pad = window_geometry(kernel, stride, pad)
        self.ceil = ceil
        if math.prod(self.kernel) > 256:  # places in a window are counted in uint8
            raise ValueError(f"windows of at most 256 pixels, got {kernel}")

    def output_shape(self, input_shape):
        H, W, C = input_shape
        return *pool_geometry(H, W, self.kernel, self.stride, self.pad, self.ceil)[2], C

    def forward(self, x, train=False):
        self.input_shape = x.shape
        y, self.argmax = max_pool(x, self.kernel, self.stride, self.pad, self.ceil, self.buffers)
        return y

    def backward(self, dy, param_grads=True, input_grad=True):
        return argmax_unpool(
            dy,
            self.argmax,
            self.input_shape,
            self.kernel,
            self.stride,
            self.pad,
            self.buffers,
        )
