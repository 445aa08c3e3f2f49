"""A convolution and the local maximum of its map in one (Eq. 1-2), where the pools tile the map.

The same as the two layers one above the other. The pixels that a pool
compares see one window between them, larger by the pool. So there are fewer windows to copy, and
one product of kernels shifted within that window gives the pool's pixels as maps of their own:
the maximum is taken of whole arrays, where the pooling of one map picks every other column of it.
"""

import math

import numpy as np

from fast.cpu.pool import running_max
from fast.cpu.toom_cook import ToomCookConv
from fast.cpu.windows import CACHED, copy_windows, counts, fold_windows, pad_image, window_matrix
from fast.engine import Form
from nn.conv import Conv
from nn.geometry import NO_PAD
from nn.pool import MaxPool
from nn.windows import cropped

MOST_ZEROS = 1.5  # times the products of the convolution: the shifted kernels are padded by zeros


class ConvPool(Form):
    """A Conv and the MaxPool above it.

    P = PH PW pixels of a pool, R = N (OH / PH) (OW / PW) pools, K numbers in a window:
    maps (P, F, R) = wide (P F, K) columns^T (K, R);  y (R, F) = (max over P of maps)^T + b.
    """

    takes = (Conv, MaxPool)

    @staticmethod
    def fits(layers, shapes, job):
        """Whether the pools tile the map, and the convolution is better done by windows."""
        (conv, pool), ((_, *image), _) = layers, shapes
        OH, OW, _ = conv.output_shape(image)
        PH, PW = pool.kernel
        tiled = pool.kernel == pool.stride and pool.pad == NO_PAD and OH % PH == OW % PW == 0
        zeros = math.prod(wide_window(conv, pool)[0]) / math.prod(conv.kernel)
        plain = conv.groups == 1 and conv.dilation == (1, 1)
        plain = plain and not ToomCookConv.fits([conv], shapes[:1], job)
        return tiled and plain and zeros <= MOST_ZEROS

    def __init__(self, names, layers, shapes, job, room):
        (self.conv, self.pool), self.room, (self.dtype, _) = layers, room, job
        self.name = names[0]
        N, self.H, self.W, C = shapes[0]
        (top, bottom), (left, right) = self.conv.pad
        padded = N, self.H + top + bottom, self.W + left + right, C
        self.kernel, self.stride = wide_window(self.conv, self.pool)
        F, P = self.conv.filters, math.prod(self.pool.kernel)
        down, along = counts(*padded[1:3], self.kernel, self.stride)  # pools
        self.y = self.get("y", N, down, along, F)
        self.dx = self.get("dx", *padded)
        self.wide, self.dwide = (np.zeros((P, F, *self.kernel, C), self.dtype) for _ in "wd")
        self.w = None  # whose shifted kernels are in `wide`
        numbers = down * along * max(math.prod(self.kernel) * C, P * F)
        at_once = max(1, CACHED // numbers)
        images = [slice(i, min(i + at_once, N)) for i in range(0, N, at_once)]
        self.pieces = [PoolPiece(self, these) for these in images]

    def forward(self, x):
        w, b = self.conv.params["w"], self.conv.params["b"]
        self.x = pad_image(x, self.conv.pad, 0, self.room, self.dtype)
        if self.w is None or not np.array_equal(w, self.w):
            self.w = w.copy()
            for shifted in self.shifted(self.wide):
                shifted[...] = w.transpose(3, 0, 1, 2)
        self.copied = None  # the piece whose windows are now in `columns`
        for piece in self.pieces:
            np.matmul(by_map(self.wide), self.columns(piece).T, out=by_map(piece.maps))
            best, argmax = running_max(piece.maps, None, self.room, "maps")
            piece.argmax = argmax if len(self.pieces) == 1 else argmax.copy()
            best += b[:, None]
            piece.y[...] = best.T
        return self.y

    def backward(self, dy, grads, input_grad):
        """dmaps has dy at the maxima; dwide = dmaps columns, dcolumns = dmaps^T wide."""
        places = np.arange(len(self.wide), dtype=np.uint8).reshape(-1, 1, 1)
        if grads is not None:
            self.dwide.fill(0)
            db = grads[f"{self.name}.b"]
            db.fill(0)
        for piece in reversed(self.pieces):
            piece.dy[...] = dy[piece.images].reshape(len(piece.y), -1).T
            np.equal(piece.argmax, places, out=piece.chosen)
            dmaps = piece.maps
            dmaps[...] = piece.chosen  # two calls, in less time than a product of two types
            dmaps *= piece.dy
            if grads is not None:  # the last windows are still there
                total = by_map(self.dwide)
                total += by_map(dmaps) @ self.columns(piece)
                db += piece.dy.sum(axis=1)
            if input_grad:
                self.copied = None  # dcolumns take the windows' place in memory
                np.matmul(by_map(dmaps).T, by_map(self.wide), out=piece.columns)
                dx = self.dx[piece.images]
                fold_windows(piece.columns, self.kernel, self.stride, dx, self.room)
        if grads is not None:
            dw = grads[f"{self.name}.w"]
            dw[...] = sum(self.shifted(self.dwide)).transpose(1, 2, 3, 0)
        return cropped(self.dx, self.conv.pad, self.H, self.W) if input_grad else None

    def get(self, name, *shape, dtype=None):
        return self.room.get(name, shape, dtype or self.dtype)

    def columns(self, piece):
        """The windows of a piece's images: (R, K)."""
        if self.copied is not piece:
            copy_windows(self.x[piece.images], self.kernel, self.stride, piece.columns)
            self.copied = piece
        return piece.columns

    def shifted(self, wide):
        """For each pixel of a pool the part of the wide kernels, (F, KH, KW, C), that it sees."""
        (KH, KW), (SH, SW), (_, PW) = self.conv.kernel, self.conv.stride, self.pool.kernel
        for place, kernels in enumerate(wide):
            top, left = place // PW * SH, place % PW * SW
            yield kernels[:, top : top + KH, left : left + KW]


class PoolPiece:
    """Some of the images: views of buffers that one piece after the other uses."""

    def __init__(self, plan, images):
        self.images = images
        N, down, along, F = plan.y[images].shape
        P, _, KH, KW, C = plan.wide.shape
        self.y = plan.y[images].reshape(-1, F)
        self.columns = window_matrix(N, down, along, (KH, KW), C, plan.dtype, plan.room)
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
