"""Convolution in fewer multiplications (Toom and Cook; for images Winograd, Lavin & Gray 2016).

m outputs above each other are sums of m KH products of KH rows of the kernel with the pixels there.
The transpose of these sums multiplies two polynomials, and their product is known from its values
at n = m + KH - 1 points, which take one multiplication each. Turned round (docs/derivations.md):

    y = A^T [ (G w) * (B^T x) ]        for 5 x 5 kernels and m = 4: 8 products instead of 20

G w, B^T x and A^T M take sums of a few rows. In a row of the kernel nothing changes: windows and a
matrix product, as in nn/conv.py, which says what is computed. The backward pass is the transpose of
the same three sums; for dx it may take two windows at once. The points 0, +-1, +-1/2, +-2 and
infinity keep the rounding small: in float32 about five times that of nn/conv.py.
"""

import math

import numpy as np

from fast.cpu.toom_cook_kernel import (
    TransformedKernel,
    outputs_at_once,
    pays,
    rows_to_add,
    tiling,
    transforms,
)
from fast.cpu.windows import last_cached, pad_image, pieces, window_view
from fast.engine import Form
from nn.conv import Conv
from nn.windows import cropped


class ToomCookConv(Form):
    """A float32 convolution of stride 1, where the saved products are worth the sums."""

    takes = (Conv,)

    @staticmethod
    def fits(layers, shapes, job):
        (conv,), ((N, H, W, C),), (dtype, train) = layers, shapes, job
        OH, OW, _ = conv.output_shape((H, W, C))
        w = conv.params["w"]
        plain = conv.stride == conv.dilation == (1, 1) and dtype == w.dtype == np.float32
        return plain and pays(N, OH, OW, w.shape, train)

    def __init__(self, names, layers, shapes, job, room):
        self.name, self.conv, self.room, (self.dtype, self.train) = names[0], layers[0], room, job
        N, self.H, W, C = shapes[0]
        self.W = W
        w = self.conv.params["w"]
        self.OH, OW, _ = self.conv.output_shape((self.H, W, C))
        self.tiles = tiling(self.OH, len(w))[0], outputs_at_once(OW, w.shape, self.conv.groups)
        (top, bottom), (left, right) = self.conv.pad
        self.border = (top, bottom + rows_to_add(self.OH, len(w))), (left, right)
        shape = N, self.H + sum(self.border[0]), W + left + right, C
        self.toom_cook = ToomCook(shape, self.kernel(), room, self.train)
        self.ones = np.ones((1, N * self.OH * OW), self.dtype)
        self.b = room.get("b", (OW, self.conv.filters), self.dtype)

    def kernel(self):
        """G w. While nobody trains, it is made again only when w has changed."""
        w = self.conv.params["w"]
        kernel = None if self.train else self.room.shared.get("kernel")
        if kernel is None or not kernel.is_of(w, self.tiles):
            kernel = TransformedKernel(w, self.conv.groups, *self.tiles)
            self.room.shared["kernel"] = kernel
        return kernel

    def forward(self, x):
        y = self.toom_cook.forward(
            pad_image(x, self.border, 0, self.room, self.dtype), self.kernel()
        )
        self.b[...] = self.conv.params["b"]  # in longer rows it is added three times as fast
        y += self.b
        return y[:, : self.OH]

    def backward(self, dy, grads, input_grad):
        dw = None if grads is None else grads[f"{self.name}.w"]
        dx = self.toom_cook.backward(dy, dw, input_grad)
        if grads is not None:  # a product with ones is much faster than dy.sum
            db = grads[f"{self.name}.b"].reshape(1, -1)
            np.matmul(self.ones, dy.reshape(-1, dy.shape[3]), out=db)
        return cropped(dx, self.conv.pad, self.H, self.W) if input_grad else None


class ToomCook:
    """x * w, then dw and dx from dy, for a convolution of stride 1, again and again.

    shape: of x (N, T m + KH - 1, W, C); T and m are those of `tiling`. kernel: one like those that
    `forward` will get, of w (KH, KW, D, F) with D = C / groups. y (N, T m, OW, F). What is
    returned is in kept memory. train: dw will be wanted.
    """

    def __init__(self, shape, kernel, room, train=True):
        self.x_shape = N, H, self.W, self.C = shape
        KH, KW, _, self.F = self.kernel_shape = kernel.w.shape
        self.dtype, self.groups, self.at_once = kernel.w.dtype, kernel.groups, kernel.at_once
        self.room = room
        self.OW = self.W - KW + 1
        self.m, self.T = tiling(H - KH + 1, KH)
        self.n = self.m + KH - 1
        self.A_T, self.G, self.B_T = transforms(self.m, KH, self.dtype)
        self.y = self.get("y", N, self.T, self.m, self.OW * self.F)
        overlap = -(-self.n // self.m)  # tiles that reach into a block
        self.dx = self.get("dx", N, self.T + overlap - 1, self.m, self.W * self.C)
        self.dU, self.part_of_dU = (
            self.get(name, *kernel.U.shape) for name in ("dU", "part of dU")
        )
        numbers = self.n * self.T * self.OW * KW * self.C  # in the windows of an image
        images = pieces(N, numbers)
        self.keep = last_cached(images, numbers) if train else []
        self.pieces = [TilePiece(self, part) for part in reversed(images)][::-1]  # largest first

    def get(self, name, *shape):
        return self.room.get(name, shape, self.dtype)

    def by_group(self, a):
        """(n, rows, channels) -> (groups, n, rows, channels of the group)."""
        return a.reshape(*a.shape[:2], self.groups, -1).transpose(2, 0, 1, 3)

    def by_tile(self, a, numbers):
        """An array (n, images, T, rows of so many numbers) -> (images, T, n, numbers)."""
        return a.reshape(self.n, -1, self.T, numbers).transpose(1, 2, 0, 3)

    def by_window(self, V, at_once=1):
        """The windows that so many outputs beside each other see, in the rows of V.

        V (n, images, T, W C) -> (groups, n, images T, windows, KW + at_once - 1, D), not a copy.
        """
        _, KW, D, _ = self.kernel_shape
        rows = V.reshape(-1, 1, self.W, self.C)
        view = window_view(rows, (1, KW + at_once - 1), (1, at_once))[:, 0, :, 0]
        view = view.reshape(self.n, -1, *view.shape[1:3], self.groups, D)
        return view.transpose(4, 0, 1, 2, 3, 5)

    def forward(self, x, kernel):
        """y = A^T [U * (B^T x)]."""
        self.x, self.kernel = x, kernel
        self.copied = set()  # pieces whose windows of B^T x are in memory of their own
        U = self.by_group(kernel.U)
        for piece in self.pieces:
            np.matmul(self.columns(piece), U, out=piece.M_by_group)
            np.matmul(self.A_T, piece.M_by_tile, out=self.y[piece.images])
        return self.y.reshape(len(x), -1, self.OW, self.F)

    def columns(self, piece):
        """The windows of B^T x: (groups, n, images T OW, KW D)."""
        if piece not in self.copied:
            tiles = window_view(self.x[piece.images], (self.n, self.W), (self.m, 1))
            np.matmul(self.B_T, tiles.reshape(piece.V_by_tile.shape), out=piece.V_by_tile)
            np.copyto(piece.columns, piece.windows)
            if piece.images in self.keep:
                self.copied.add(piece)
        return piece.columns_by_row

    def backward(self, dy, dw=None, input_grad=True):
        """dw = G^T [(B^T x)^T * (A dy)] into dw unless that is None; dx = B [(A dy) * U^T]."""
        below = self.T * self.m - dy.shape[1]
        dy = pad_image(dy, ((0, below), (0, 0)), 0, self.room, self.dtype, "padded dy")
        dy = dy.reshape(self.y.shape)
        dU = None
        if input_grad:
            self.dx[:, self.T :] = 0
        for piece in reversed(self.pieces):
            np.matmul(self.A_T.T, dy[piece.images], out=piece.M_by_tile)
            if dw is not None:
                part = self.dU if dU is None else self.part_of_dU
                columns = self.columns(piece).swapaxes(2, 3)
                np.matmul(columns, piece.M_by_group, out=self.by_group(part))
                dU = part if dU is None else np.add(dU, part, out=dU)
            if input_grad:
                self.fold(piece)
                self.add_tiles(piece.V_by_tile, self.dx[piece.images])
        if dw is not None:
            np.matmul(self.G.T, dU.reshape(self.n, -1), out=dw.reshape(len(dw), -1))
        if not input_grad:
            return None
        return self.dx.reshape(len(dy), -1, self.W, self.C)[:, : self.x_shape[1]]

    def fold(self, piece):
        """dV, the derivative at B^T x, from dM: it takes the place of V."""
        np.matmul(piece.dM, self.kernel.turned, out=piece.products)
        (windows, products), *others = piece.sums
        windows[...] = products
        piece.V[..., math.prod(windows.shape[3:5]) * self.C :] = 0
        for windows, products in others:
            windows += products

    def add_tiles(self, dV, dx):
        """dx (images, blocks of m rows, m, W C) from B dV, whose tiles of n rows overlap."""
        np.matmul(self.B_T.T[: self.m], dV, out=dx[:, : self.T])
        for first in range(self.m, self.n, self.m):
            part = self.B_T.T[first : first + self.m] @ dV
            block = first // self.m
            dx[:, block : block + self.T, : part.shape[2]] += part


class TilePiece:
    """Some of the images, so few that their arrays stay in the cache while they are worked on.

    All are views of buffers that one piece after the other uses, except for windows that are kept.
    """

    def __init__(self, plan, images):
        self.images = images
        N = images.stop - images.start
        _, KW, D, F = plan.kernel_shape
        self.V = plan.get("V", plan.n, N, plan.T, plan.W * plan.C)
        self.V_by_tile = plan.by_tile(self.V, plan.W * plan.C)

        self.windows = plan.by_window(self.V)  # (groups, n, images T, OW, KW, D)
        kept = f" {plan.keep.index(images)}" if images in plan.keep else ""
        self.columns = plan.get(f"columns{kept}", *self.windows.shape)
        self.columns_by_row = self.columns.reshape(plan.groups, plan.n, -1, KW * D)

        M = plan.get("M", plan.n, N * plan.T * plan.OW, F)
        self.M_by_tile = plan.by_tile(M, plan.OW * F)
        self.M_by_group = plan.by_group(M)
        together = M.shape[1] // plan.at_once, plan.at_once * F // plan.groups
        self.dM = self.M_by_group.reshape(plan.groups, plan.n, *together)

        windows = plan.by_window(self.V, plan.at_once)
        width = windows.shape[4]
        self.products = plan.get("products", *self.dM.shape[:3], width * D)
        products = self.products.reshape(windows.shape)
        spacing = width // plan.at_once  # such windows of dV adjoin each other, and fill its rows
        firsts = range(min(spacing, windows.shape[3]))
        self.sums = [(windows[:, :, :, k::spacing], products[:, :, :, k::spacing]) for k in firsts]
