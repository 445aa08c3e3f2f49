"""Average pooling: each output is the mean of its window."""

from functools import cache

import numpy as np

from nn.backend import array_module, to_device
from nn.layer import Layer
from nn.pool import pool_geometry, window_geometry
from nn.windows import every, pad_image


class AveragePool(Layer):
    """Means over windows: x (N, H, W, C) -> y (N, OH, OW, C); its transpose spreads dy evenly.

    A window is clipped at the border. Padding counts as zeros (Caffe); with count_pad=False the
    mean is over the pixels of the image alone. ceil: Caffe's output sizes (see geometry.py).
    """

    def __init__(self, kernel, stride=1, pad=0, ceil=True, count_pad=True):
        super().__init__()
        self.kernel, self.stride, self.pad = window_geometry(kernel, stride, pad)
        self.ceil, self.count_pad = ceil, count_pad

    def output_shape(self, input_shape):
        H, W, C = input_shape
        return *pool_geometry(H, W, self.kernel, self.stride, self.pad, self.ceil)[2], C

    def forward(self, x, train=False):
        xp = array_module(x)
        N, H, W, C = self.input_shape = x.shape
        (KH, KW), (SH, SW), (OH, OW), sides = pool_geometry(
            H, W, self.kernel, self.stride, self.pad, self.ceil
        )
        x = pad_image(x, sides, 0, self.buffers, x.dtype)
        self.padded_shape = x.shape
        axes = zip((H, W), (OH, OW), self.kernel, self.stride, self.pad, strict=True)
        self.shares = window_shares(tuple(axes), self.count_pad, x.dtype, xp)
        covered_H = (OH - 1) * SH + KH
        along = self.buffers.get("along", (N, covered_H, OW, C), x.dtype, xp)
        along[...] = x[:, :covered_H, every(0, OW, SW)]
        for j in range(1, KW):
            along += x[:, :covered_H, every(j, OW, SW)]
        y = self.buffers.get("y", (N, OH, OW, C), x.dtype, xp)
        y[...] = along[:, every(0, OH, SH)]
        for i in range(1, KH):
            y += along[:, every(i, OH, SH)]
        y *= self.shares
        return y

    def backward(self, dy, param_grads=True, input_grad=True):
        xp = array_module(dy)
        (KH, KW), (SH, SW) = self.kernel, self.stride
        _, OH, OW, _ = dy.shape
        share = xp.multiply(dy, self.shares, out=self.buffers.get("dy", dy.shape, dy.dtype, xp))
        N, padded_H, padded_W, C = self.padded_shape
        rows = self.buffers.get("rows", (N, padded_H, OW, C), dy.dtype, xp)
        rows.fill(0)
        for i in range(KH):
            rows[:, every(i, OH, SH)] += share
        dx = self.buffers.get("dx", self.padded_shape, dy.dtype, xp)
        dx.fill(0)
        for j in range(KW):
            dx[:, :, every(j, OW, SW)] += rows
        _, H, W, _ = self.input_shape
        (top, _), (left, _) = self.pad
        return dx[:, top : top + H, left : left + W]


@cache
def window_shares(axes, count_pad, dtype, xp):
    """1 / (pixels that count) for each window: (OH, OW, 1); axes: count_pixels' first arguments."""
    counts = [count_pixels(*axis, count_pad) for axis in axes]
    return to_device((1 / np.outer(*counts)).astype(dtype)[..., None], xp)


def count_pixels(size, out, kernel, stride, pad, count_pad):
    """How many pixels of each of `out` windows along an axis lie in the image (and its padding)."""
    starts = np.arange(out) * stride - pad[0]
    low, high = (-pad[0], size + pad[1]) if count_pad else (0, size)
    return np.minimum(starts + kernel, high) - np.maximum(starts, low)


class GlobalAveragePool(Layer):
    """The mean of each channel over all places: x (N, H, W, C) -> y (N, 1, 1, C)."""

    kernel = stride = None

    def output_shape(self, input_shape):
        return 1, 1, input_shape[-1]

    def forward(self, x, train=False):
        self.input_shape = x.shape
        return x.mean(axis=(1, 2), keepdims=True)

    def backward(self, dy, param_grads=True, input_grad=True):
        _, H, W, _ = self.input_shape
        return array_module(dy).broadcast_to(dy / (H * W), self.input_shape)
