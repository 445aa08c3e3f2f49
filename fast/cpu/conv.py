"""Convolution by windows, a few images at a time, so that their windows stay in the cache."""

import numpy as np

from fast.cpu.windows import CACHED, copy_windows, counts, fold_windows, pad_image, window_matrix
from fast.engine import Form
from nn.conv import Conv
from nn.windows import cropped


class WindowConv(Form):
    """y = X w + b;  dw = X^T dy;  dx = fold(dy w^T), X the windows."""

    takes = (Conv,)

    @staticmethod
    def fits(layers, shapes, job):
        return layers[0].dilation == (1, 1)

    def __init__(self, names, layers, shapes, job, room):
        self.name, self.conv, self.room, (self.dtype, _) = names[0], layers[0], room, job
        self.image_shape = N, H, W, C = shapes[0]
        (top, bottom), (left, right) = self.conv.pad
        self.padded_shape = N, H + top + bottom, W + left + right, C
        size = counts(*self.padded_shape[1:3], self.conv.kernel, self.conv.stride)
        self.y = room.get("y", (N, *size, self.conv.filters), self.dtype)
        self.dx = room.get("dx", self.padded_shape, self.dtype)
        self.ones = room.xp.ones((1, self.y[..., 0].size), self.dtype)
        self.pieces = list(self.split())

    def split(self):
        """A Piece for each matrix product: a product for each group of filters, and for as many
        images as have their windows in CACHED numbers.

        It is cheaper to copy the windows again for the backward pass than to keep them all.
        """
        N, OH, OW, F = self.y.shape
        KH, KW, D, _ = self.conv.params["w"].shape
        at_once = self.at_once(OH * OW * KH * KW * D)
        size = F // self.conv.groups
        for n in range(0, N, at_once):
            images = slice(n, min(n + at_once, N))
            columns = self.matrix(images.stop - n, OH, OW, D)
            for g in range(self.conv.groups):
                channels, filters = slice(g * D, (g + 1) * D), slice(g * size, (g + 1) * size)
                yield images, channels, filters, columns

    def at_once(self, numbers):
        """How many images have their windows, so many numbers each, in the cache."""
        return max(1, CACHED // numbers)

    def matrix(self, N, OH, OW, D):
        return window_matrix(N, OH, OW, self.conv.kernel, D, self.dtype, self.room)

    def forward(self, x):
        y = self.products(x)
        N, OH, OW, F = y.shape
        repeated = self.room.get("b", (OW, F), self.dtype)
        repeated[...] = self.conv.params["b"]  # in longer rows it is added three times as fast
        y += repeated
        return y

    def products(self, x):
        """y = X w, without b."""
        self.x = pad_image(x, self.conv.pad, 0, self.room, self.dtype)
        self.copied = None  # the piece whose windows are now in its columns
        w = self.conv.params["w"]
        rows = self.y.reshape(len(x), -1, w.shape[3])
        for piece in self.pieces:
            images, _, filters, _ = piece
            columns = self.windows_of(piece)  # (n OH OW, KH KW D)
            product = rows[images, :, filters].reshape(len(columns), -1)  # a view: rows F apart
            self.matmul(columns, w[..., filters].reshape(columns.shape[1], -1), product)
        return self.y

    def windows_of(self, piece):
        images, channels, _, columns = piece
        if self.copied is not piece:
            self.copy_windows(self.x[images, :, :, channels], columns)
            self.copied = piece
        return columns

    def backward(self, dy, grads, input_grad):
        if grads is not None:
            self.weight_gradients(dy, grads[f"{self.name}.w"], grads[f"{self.name}.b"])
        return self.image_gradient(dy) if input_grad else None

    def weight_gradients(self, dy, dw, db):
        """dw = X^T dy. db = ones dy: a product with ones is much faster than dy.sum."""
        self.matmul(self.ones, dy.reshape(-1, dy.shape[3]), db.reshape(1, -1))
        for piece in reversed(self.pieces):  # the last windows are still there
            images, _, filters, _ = piece
            columns = self.windows_of(piece)
            product = self.matmul(
                columns.T, dy[images, :, :, filters].reshape(len(columns), -1), None
            )
            part = dw[..., filters]
            if images.stop == len(dy):  # the first, as they are reversed
                part[...] = product.reshape(part.shape)
            else:
                part += product.reshape(part.shape)

    def image_gradient(self, dy):
        """The deconvolution: dx = fold(dy w^T)."""
        w = self.conv.params["w"]
        self.copied = None  # dcolumns take the windows' place in memory
        for images, channels, filters, dcolumns in self.pieces:
            kernels = w[..., filters].reshape(dcolumns.shape[1], -1)
            part = dy[images, :, :, filters].reshape(len(dcolumns), -1)
            self.matmul(part, kernels.T, dcolumns)
            self.fold_windows(dcolumns, self.dx[images, :, :, channels])
        _, H, W, _ = self.image_shape
        return cropped(self.dx, self.conv.pad, H, W)

    def matmul(self, a, b, out):
        return np.matmul(a, b, out=out)

    def copy_windows(self, x, columns):
        copy_windows(x, self.conv.kernel, self.conv.stride, columns)

    def fold_windows(self, dcolumns, dx):
        fold_windows(dcolumns, self.conv.kernel, self.conv.stride, dx, self.room)
