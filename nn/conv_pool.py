"""A convolution and the local maximum of its map in one (Eq. 1-2), where the pools tile the map.

The same as the two layers one above the other, which are its specification. The pixels that a pool
compares see one window between them, larger by the pool. So there are fewer windows to copy, and
one product of kernels shifted within that window gives the pool's pixels as maps of their own:
the maximum is taken of whole arrays, where the pooling of one map picks every other column of it.
"""

import math

import numpy as np

from nn.backend import array_module
from nn.conv import Conv
from nn.pool import MaxPool, running_max
from nn.windows import CACHED, NO_PAD, fold, window_matrix, windows

MOST_ZEROS = 1.5  # times the products of the convolution: the shifted kernels are padded by zeros


class ConvPool:
    """The calls of a layer, for a Conv and the MaxPool above it, on a CPU.

    P = PH PW pixels of a pool, R = N (OH / PH) (OW / PW) pools, K numbers in a window:
    maps (P, F, R) = wide (P F, K) columns^T (K, R);  y (R, F) = (max over P of maps)^T + b.
    """

    def __init__(self, conv, pool):
        self.conv, self.pool, self.buffers = conv, pool, pool.buffers
        self.kernel, self.stride = wide_window(conv, pool)
        self.w = None  # whose shifted kernels are in `wide`

    @staticmethod
    def fits(lower, upper, x, train):
        """Whether these layers are a Conv by windows and a MaxPool whose pools tile its map."""
        if (
            not (isinstance(lower, Conv) and isinstance(upper, MaxPool))
            or array_module(x) is not np
        ):
            return False
        OH, OW, _ = lower.output_shape(x.shape[1:])
        PH, PW = upper.kernel
        tiled = upper.kernel == upper.stride and upper.pad == NO_PAD and OH % PH == OW % PW == 0
        zeros = math.prod(wide_window(lower, upper)[0]) / math.prod(lower.kernel)
        plain = lower.groups == 1 and not lower.is_fast(x, train)
        return tiled and plain and zeros <= MOST_ZEROS

    def forward(self, x, train=False):
        conv = self.conv
        OH, OW, F = conv.start(x)
        w, b = conv.params["w"], conv.params["b"]
        N, C, (PH, PW) = len(x), x.shape[3], self.pool.kernel
        self.dtype = np.result_type(x, w)
        if self.w is None or self.wide.dtype != self.dtype or not np.array_equal(w, self.w):
            self.w, self.wide = w.copy(), np.zeros((PH * PW, F, *self.kernel, C), self.dtype)
            for shifted in self.shifted(self.wide):
                shifted[...] = w.transpose(3, 0, 1, 2)
        y = self.get("value", N, OH // PH, OW // PW, F)
        self.argmax, self.at_hand = [], None  # which images' windows were copied last
        numbers = math.prod(y.shape[1:3]) * max(self.wide[0, 0].size, PH * PW * F)
        at_once = max(1, CACHED // numbers)
        self.pieces = [slice(i, min(i + at_once, N)) for i in range(0, N, at_once)]
        for images in self.pieces:
            columns = self.columns(images)
            maps = self.get("maps", PH * PW, F, len(columns))
            np.matmul(self.by_map(self.wide), columns.T, out=maps.reshape(-1, len(columns)))
            best, argmax = running_max(list(maps), None, self.buffers, "maps")
            best += b[:, None]
            y[images].reshape(-1, F)[...] = best.T
            self.argmax.append(argmax if len(self.pieces) == 1 else argmax.copy())
        return y

    def backward(self, dy, param_grads=True, input_grad=True):
        """dmaps has dy at the maxima; dwide = dmaps columns, dcolumns = dmaps^T wide."""
        conv, (PH, PW), F = self.conv, self.pool.kernel, dy.shape[3]
        dwide = np.zeros_like(self.wide) if param_grads else None
        dx = self.get("dx", *conv.x.shape) if input_grad else None
        places = np.arange(PH * PW, dtype=np.uint8).reshape(-1, 1, 1)
        db = np.zeros(F, self.dtype)
        for images, argmax in reversed(list(zip(self.pieces, self.argmax, strict=True))):
            R = argmax.shape[1]
            turned = self.get("dy", F, R)
            turned[...] = dy[images].reshape(R, F).T
            chosen = np.equal(argmax, places, out=self.buffers.get("chosen", (PH * PW, F, R), bool))
            dmaps = self.get("maps", PH * PW, F, R)
            dmaps[...] = chosen  # two calls, in less time than a product of two types
            dmaps *= turned
            dmaps = dmaps.reshape(-1, R)
            if param_grads:  # the last windows are still at hand
                total = self.by_map(dwide)
                total += dmaps @ self.columns(images)
                db += turned.sum(axis=1)
            if input_grad:
                dcolumns = self.matrix(images)
                self.at_hand = None  # they take the windows' place in memory
                np.matmul(dmaps.T, self.by_map(self.wide), out=dcolumns)
                fold(dcolumns, *self.kernel, self.stride, dx[images], self.buffers)
        if param_grads:
            dw = conv.buffers.get("dw", conv.params["w"].shape, self.dtype)
            dw[...] = sum(self.shifted(dwide)).transpose(1, 2, 3, 0)
            conv.grads = {"w": dw, "b": db}
        return conv.inside(dx) if input_grad else None

    def get(self, name, *shape):
        return self.buffers.get(name, shape, self.dtype)

    def by_map(self, wide):
        """(P, F, KH, KW, C) -> (P F, K)."""
        return wide.reshape(wide.shape[0] * wide.shape[1], -1)

    def shifted(self, wide):
        """For each pixel of a pool the part of the wide kernels, (F, KH, KW, C), that it sees."""
        (KH, KW), (SH, SW), (_, PW) = self.conv.kernel, self.conv.stride, self.pool.kernel
        for place, kernels in enumerate(wide):
            top, left = place // PW * SH, place % PW * SW
            yield kernels[:, top : top + KH, left : left + KW]

    def matrix(self, images):
        """Room for the windows of some images: (R, K)."""
        x, (KH, KW), (SH, SW) = self.conv.x[images], self.kernel, self.stride
        (N, H, W, C), dtype = x.shape, np.dtype(self.dtype)
        OH, OW = (H - KH) // SH + 1, (W - KW) // SW + 1
        return window_matrix(N, OH, OW, KH, KW, C, dtype, self.buffers, np)

    def columns(self, images):
        """The windows of some images: (R, K)."""
        matrix = self.matrix(images)
        if self.at_hand != images:
            windows(self.conv.x[images], *self.kernel, self.stride, matrix)
            self.at_hand = images
        return matrix


def wide_window(conv, pool):
    """The window that the pixels of a pool see between them, and its stride."""
    pairs = zip(conv.kernel, conv.stride, pool.kernel, strict=True)
    return tuple(zip(*((K + (P - 1) * S, P * S) for K, S, P in pairs), strict=True))
