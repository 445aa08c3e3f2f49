"""Convolution (Eq. 1-2): copy the windows, one matrix product, add the bias.

With X the windows, a row each, and w the filters, a column each: y = X w + b. So

    dw = X^T dy        db = the sum of dy's rows        dX = dy w^T

and a pixel's dx is the sum of dX over the windows that see it: the paper's deconvolution.
"""

from collections.abc import Callable

import numpy as np

from nn.backend import Array
from nn.fillers import xavier, zeros
from nn.geometry import conv_size, extent, pair, sides
from nn.layer import Layer
from nn.windows import cropped, fold, padded, windows


class Conv(Layer):
    """y[n,oh,ow,f] = b[f] + sum_{i,j,c} x[n, oh SH + i DH - top, ow SW + j DW - left, c] w[i,j,c,f]

    x (N, H, W, C), w (KH, KW, Cg, F), b (F,) -> y (N, OH, OW, F). Kernels are not flipped.
    kernel (KH, KW), stride (SH, SW): int or (vertical, horizontal); pad: these or ((top, bottom),
    (left, right)); dilation (DH, DW): how far the pixels of a window are apart. In comments below,
    R = N OH OW is the number of windows and P = KH KW C their size. With G groups, the filters of
    a group see only its channels: a product for each, with Cg = C / G, Fg = F / G, P = KH KW Cg.
    """

    def __init__(
        self,
        filters: int,
        kernel: int | tuple,
        stride: int | tuple = 1,
        pad: int | tuple = 0,
        groups: int = 1,
        filler: Callable = xavier,
        bias_filler: Callable = zeros,
        dilation: int | tuple = 1,
    ):
        super().__init__()
        if groups < 1 or filters % groups:
            raise ValueError(f"{filters} filters cannot be split into {groups} groups")
        self.filters, self.groups = filters, groups
        self.kernel, self.stride = pair(kernel, "kernel"), pair(stride, "stride")
        self.pad, self.dilation = sides(pad), pair(dilation, "dilation")
        self.filler, self.bias_filler = filler, bias_filler

    def initialize(self, input_shape: tuple, rng: np.random.Generator) -> None:
        C = input_shape[-1]
        if C % self.groups:
            raise ValueError(f"{C} channels cannot be split into {self.groups} groups")
        self.params["w"] = self.filler((*self.kernel, C // self.groups, self.filters), rng)
        self.params["b"] = self.bias_filler((self.filters,), rng)

    def output_shape(self, input_shape: tuple) -> tuple:
        H, W, _ = input_shape
        reach = extent(self.kernel, self.dilation)
        OH, OW = map(conv_size, (H, W), reach, self.stride, self.pad)
        return OH, OW, self.filters

    def forward(self, x: Array, train: bool = False) -> Array:
        C = self.parameter("w").shape[2] * self.groups
        if x.shape[3] != C:
            raise ValueError(f"expected images of {C} channels, got {x.shape[3]}: {x.shape}")
        OH, OW, F = self.output_shape(x.shape[1:])
        self.image_size, x = x.shape[1:3], padded(x, self.pad)
        self.padded_shape = x.shape
        X = windows(x, self.kernel, self.stride, OH, OW, self.dilation)
        self.X = by_group(X, self.groups)  # (G, R, P)
        y = self.X @ self.kernels()  # (G, R, P) @ (G, P, Fg) -> (G, R, Fg)
        return y.swapaxes(0, 1).reshape(len(x), OH, OW, F) + self.params["b"]

    def backward(self, dy: Array) -> Array:
        KH, KW, Cg, _ = self.params["w"].shape
        # (G, R, Fg) @ (G, Fg, P) -> (G, R, P)
        dX = by_group(dy, self.groups) @ self.kernels().swapaxes(1, 2)
        dX = dX.reshape(self.groups, *dy.shape[:3], KH * KW, Cg)  # (G, N, OH, OW, KH KW, Cg)
        dX = dX.transpose(1, 2, 3, 4, 0, 5).reshape(*dX.shape[1:5], -1)  # (N, OH, OW, KH KW, C)
        dx = fold(dX, self.padded_shape, self.kernel, self.stride, self.dilation)
        return cropped(dx, self.pad, *self.image_size)

    def gradients(self, dy: Array) -> dict[str, Array]:
        dw = self.X.swapaxes(1, 2) @ by_group(dy, self.groups)  # (G, P, R) @ (G, R, Fg)
        dw = dw.swapaxes(0, 1).reshape(self.params["w"].shape)
        return {"w": dw, "b": dy.sum(axis=(0, 1, 2))}

    def kernels(self) -> Array:
        """w (KH, KW, Cg, F) -> (G, P, Fg)."""
        w = self.params["w"]
        return w.reshape(-1, self.groups, w.shape[3] // self.groups).swapaxes(0, 1)


def by_group(a: Array, groups: int) -> Array:
    """(N, OH, OW, ..., C) -> (G, R, the rest): a matrix for each group of channels."""
    N, OH, OW, *_, C = a.shape
    a = a.reshape(N * OH * OW, -1, groups, C // groups)
    return a.transpose(2, 0, 1, 3).reshape(groups, N * OH * OW, -1)
