"""Convolution in fewer multiplications (Toom and Cook; for images Winograd, Lavin & Gray 2016).

m outputs above each other are sums of m KH products of KH rows of the kernel with the pixels there.
The transpose of these sums multiplies two polynomials, and their product is known from its values
at n = m + KH - 1 points, which take one multiplication each. Turned round (docs/derivations.md):

    y = A^T [ (G w) * (B^T x) ]        for 5 x 5 kernels and m = 4: 8 products instead of 20

G w, B^T x and A^T M take sums of a few rows. In a row of the kernel nothing changes: windows and a
matrix product, as in conv.py, which computes the same and is the specification of this file. The
backward pass is the transpose of the same three sums; for dx it may take two windows at once. The
points 0, +-1, +-1/2, +-2 and infinity keep the rounding small: in float32 about five times that of
conv.py (docs/performance.md).
"""

import numpy as np

from nn.toom_cook_kernel import tiling, transforms
from nn.windows import last_cached, pad_image, pieces, window_view


class ToomCook:
    """x * w, then dw and dx from dy, for a convolution of stride 1 on a CPU.

    x (N, T m + KH - 1, W, C), w (KH, KW, D, F) with D = C / groups, y (N, T m, OW, F); T and m are
    those of `tiling`. What is returned is in kept buffers. train: dw will be wanted.
    """

    def __init__(self, x, kernel, buffers, train=True):
        self.x, self.kernel, self.groups, self.buffers = x, kernel, kernel.groups, buffers
        KH, KW, D, _ = self.kernel_shape = kernel.w.shape
        self.dtype = np.result_type(x, kernel.w)
        N, H, W, C = x.shape
        self.OW = W - KW + 1
        self.m, self.T = tiling(H - KH + 1, KH)
        self.n = self.m + KH - 1
        self.A_T, self.G, self.B_T = transforms(self.m, KH, self.dtype)
        numbers = self.n * self.T * self.OW * KW * C  # in the windows of an image
        self.pieces = pieces(N, numbers)
        self.keep = last_cached(self.pieces, numbers) if train else ()
        self.kept = {}  # the windows of these pieces, by the first of their images

    def get(self, name, *shape):
        return self.buffers.get(name, shape, self.dtype)

    def by_group(self, a):
        """(n, rows, channels) -> (groups, n, rows, channels of the group)."""
        return a.reshape(*a.shape[:2], self.groups, -1).transpose(2, 0, 1, 3)

    def by_tile(self, a, numbers):
        """An array (n, images, T, rows of so many numbers) -> (images, T, n, numbers)."""
        return a.reshape(self.n, -1, self.T, numbers).transpose(1, 2, 0, 3)

    def forward(self):
        """y = A^T [U * (B^T x)]."""
        N, F = len(self.x), self.kernel_shape[3]
        y = self.get("y", N, self.T, self.m, self.OW * F)
        for images in self.pieces:
            columns = self.columns(images)
            M = self.get("M", self.n, columns.shape[2], F)
            np.matmul(columns, self.by_group(self.kernel.U), out=self.by_group(M))
            np.matmul(self.A_T, self.by_tile(M, self.OW * F), out=y[images])
        return y.reshape(N, self.T * self.m, self.OW, F)

    def columns(self, images):
        """The windows of B^T x: (groups, n, images T OW, KW D)."""
        if images.start in self.kept:
            return self.kept[images.start]
        _, W, C = self.x.shape[1:]
        tiles = window_view(self.x[images], self.n, W, (self.m, 1))[:, :, 0]
        V = self.get("V", self.n, len(tiles), self.T, W * C)
        tiles = tiles.reshape(len(tiles), self.T, self.n, W * C)
        np.matmul(self.B_T, tiles, out=self.by_tile(V, W * C))
        view = self.by_window(V)
        keep = images in self.keep
        name = f"columns {self.keep.index(images)}" if keep else "columns"
        columns = self.get(name, *view.shape)
        np.copyto(columns, view)
        _, KW, D, _ = self.kernel_shape
        columns = columns.reshape(self.groups, self.n, -1, KW * D)
        if keep:
            self.kept[images.start] = columns
        return columns

    def by_window(self, V, at_once=1):
        """The windows that so many outputs beside each other see, in the rows of V.

        V (n, images, T, W C) -> (groups, n images T, windows, KW + at_once - 1, D): no copy.
        """
        _, KW, D, _ = self.kernel_shape
        _, W, C = self.x.shape[1:]
        view = window_view(V.reshape(-1, 1, W, C), 1, KW + at_once - 1, (1, at_once))[:, 0, :, 0]
        return view.reshape(*view.shape[:3], self.groups, D).transpose(3, 0, 1, 2, 4)

    def backward(self, dy, param_grads=True, input_grad=True):
        """dw = G^T [(B^T x)^T * (A dy)], dx = B [(A dy) * U^T]; None for what is not wanted."""
        N, F = len(self.x), self.kernel_shape[3]
        _, H, W, C = self.x.shape
        below = self.T * self.m - dy.shape[1]
        dy = pad_image(dy, ((0, below), (0, 0)), 0, self.buffers, self.dtype, "padded dy")
        dy = dy.reshape(N, self.T, self.m, self.OW * F)
        dw = dx = None
        dU = None
        if input_grad:
            overlap = -(-self.n // self.m)  # tiles of dx that reach into a block of m rows
            dx = self.get("dx", N, self.T + overlap - 1, self.m, W * C)
            dx[:, self.T :] = 0
        for images in reversed(self.pieces):
            dM = self.get("M", self.n, len(dy[images]) * self.T * self.OW, F)
            np.matmul(self.A_T.T, dy[images], out=self.by_tile(dM, self.OW * F))
            if param_grads:
                part = self.get("dU" if dU is None else "part of dU", *self.kernel.U.shape)
                columns = self.columns(images).swapaxes(2, 3)
                np.matmul(columns, self.by_group(dM), out=self.by_group(part))
                dU = part if dU is None else np.add(dU, part, out=dU)
            if input_grad:
                self.add_tiles(self.by_tile(self.fold(dM), W * C), dx[images])
        if param_grads:
            dw = self.get("dw", *self.kernel_shape)
            np.matmul(self.G.T, dU.reshape(self.n, -1), out=dw.reshape(len(dw), -1))
        if input_grad:
            dx = dx.reshape(N, -1, W, C)[:, :H]
        return dw, dx

    def fold(self, dM):
        """dV, the derivative at B^T x, from dM: (n, images, T, W C)."""
        _, W, C = self.x.shape[1:]
        turned, at_once = self.kernel.turned, self.kernel.at_once
        rows = dM.shape[1] // at_once
        products = self.get("products", self.groups, self.n, rows, turned.shape[3])
        dM = self.by_group(dM).reshape(self.groups, self.n, rows, -1)
        np.matmul(dM, turned, out=products)
        dV = self.get("V", self.n, rows * at_once // (self.T * self.OW), self.T, W * C)
        view = self.by_window(dV, at_once)
        products = products.reshape(view.shape)
        apart = view.shape[3] // at_once  # such windows do not overlap: are added in one go
        view[:, :, ::apart] = products[:, :, ::apart]
        dV[..., -(-view.shape[2] // apart) * view.shape[3] * C :] = 0
        for first in range(1, min(apart, view.shape[2])):
            view[:, :, first::apart] += products[:, :, first::apart]
        return dV

    def add_tiles(self, dV, dx):
        """dx (images, blocks of m rows, m, W C) from B dV, whose tiles of n rows overlap."""
        np.matmul(self.B_T.T[: self.m], dV, out=dx[:, : self.T])
        for first in range(self.m, self.n, self.m):
            part = self.B_T.T[first : first + self.m] @ dV
            block = first // self.m
            dx[:, block : block + self.T, : part.shape[2]] += part
