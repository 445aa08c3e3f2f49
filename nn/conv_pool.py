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
from nn.geometry import NO_PAD, counts
from nn.pool import MaxPool, running_max
from nn.windows import CACHED, fold, window_matrix, windows

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
        self.ready_for = None  # what `prepare` was called with last: (shape, dtype)

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

    def prepare(self, shape, dtype):
        """Make the views for images of this padded shape, in pieces that stay in the cache."""
        self.ready_for = self.w = None
        self.dtype = dtype
        N, H, W, C = shape
        (KH, KW), F = self.kernel, self.conv.filters
        down, along = counts(H, W, KH, KW, self.stride)  # pools
        P = math.prod(self.pool.kernel)
        self.y = self.get("value", N, down, along, F)
        self.wide = np.zeros((P, F, KH, KW, C), dtype)
        at_once = max(1, CACHED // (down * along * max(KH * KW * C, P * F)))
        images = [slice(i, min(i + at_once, N)) for i in range(0, N, at_once)]
        self.pieces = [Piece(self, these) for these in images]
        self.ready_for = shape, dtype

    def forward(self, x, train=False):
        conv = self.conv
        conv.start(x)
        w, b = conv.params["w"], conv.params["b"]
        form = conv.x.shape, np.result_type(conv.x, w)
        if self.ready_for != form:
            self.prepare(*form)
        if self.w is None or not np.array_equal(w, self.w):
            self.w = w.copy()
            for shifted in self.shifted(self.wide):
                shifted[...] = w.transpose(3, 0, 1, 2)
        self.at_hand = None  # the piece whose windows are now in `columns`
        for piece in self.pieces:
            np.matmul(by_map(self.wide), self.columns(piece).T, out=by_map(piece.maps))
            best, argmax = running_max(piece.maps, None, self.buffers, "maps")
            piece.argmax = argmax if len(self.pieces) == 1 else argmax.copy()
            best += b[:, None]
            piece.y[...] = best.T
        return self.y

    def backward(self, dy, param_grads=True, input_grad=True):
        """dmaps has dy at the maxima; dwide = dmaps columns, dcolumns = dmaps^T wide."""
        conv, F = self.conv, dy.shape[3]
        dwide = np.zeros_like(self.wide) if param_grads else None
        dx = self.get("dx", *conv.x.shape) if input_grad else None
        places = np.arange(len(self.wide), dtype=np.uint8).reshape(-1, 1, 1)
        db = np.zeros(F, self.dtype)
        for piece in reversed(self.pieces):
            piece.dy[...] = dy[piece.images].reshape(len(piece.y), F).T
            np.equal(piece.argmax, places, out=piece.chosen)
            dmaps = piece.maps
            dmaps[...] = piece.chosen  # two calls, in less time than a product of two types
            dmaps *= piece.dy
            if param_grads:  # the last windows are still at hand
                total = by_map(dwide)
                total += by_map(dmaps) @ self.columns(piece)
                db += piece.dy.sum(axis=1)
            if input_grad:
                self.at_hand = None  # dcolumns take the windows' place in memory
                np.matmul(by_map(dmaps).T, by_map(self.wide), out=piece.columns)
                fold(piece.columns, *self.kernel, self.stride, dx[piece.images], self.buffers)
        if param_grads:
            dw = conv.buffers.get("dw", conv.params["w"].shape, self.dtype)
            dw[...] = sum(self.shifted(dwide)).transpose(1, 2, 3, 0)
            conv.grads = {"w": dw, "b": db}
        return conv.inside(dx) if input_grad else None

    def get(self, name, *shape, dtype=None):
        return self.buffers.get(name, shape, dtype or self.dtype)

    def columns(self, piece):
        """The windows of a piece's images: (R, K)."""
        if self.at_hand is not piece:
            windows(self.conv.x[piece.images], *self.kernel, self.stride, piece.columns)
            self.at_hand = piece
        return piece.columns

    def shifted(self, wide):
        """For each pixel of a pool the part of the wide kernels, (F, KH, KW, C), that it sees."""
        (KH, KW), (SH, SW), (_, PW) = self.conv.kernel, self.conv.stride, self.pool.kernel
        for place, kernels in enumerate(wide):
            top, left = place // PW * SH, place % PW * SW
            yield kernels[:, top : top + KH, left : left + KW]


class Piece:
    """Some of the images: views of buffers that one piece after the other uses."""

    def __init__(self, plan, images):
        self.images = images
        N, down, along, F = plan.y[images].shape
        P, _, KH, KW, C = plan.wide.shape
        self.y = plan.y[images].reshape(-1, F)
        self.columns = window_matrix(N, down, along, KH, KW, C, plan.dtype, plan.buffers, np)
        self.maps = plan.get("maps", P, F, len(self.y))  # or dmaps
        self.dy = plan.get("dy", F, len(self.y))
        self.chosen = plan.get("chosen", P, F, len(self.y), dtype=bool)


def by_map(wide):
    """(P, F, ...) -> (P F, ...), a matrix."""
    return wide.reshape(wide.shape[0] * wide.shape[1], -1)


def wide_window(conv, pool):
    """The window that the pixels of a pool see between them, and its stride."""
    pairs = zip(conv.kernel, conv.stride, pool.kernel, strict=True)
    return tuple(zip(*((K + (P - 1) * S, P * S) for K, S, P in pairs), strict=True))
