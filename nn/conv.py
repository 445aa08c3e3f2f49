"""Convolution (Eq. 1-2): windows, one matrix product, bias; backward is two products and a fold.

On a CPU, float32 convolutions of stride 1 that are large enough are done by toom_cook.py: the same
in fewer multiplications.
"""

import numpy as np

from nn.backend import array_module
from nn.fillers import xavier, zeros
from nn.geometry import conv_output_size, pad_sides, pair
from nn.layer import Layer
from nn.products import matmul
from nn.toom_cook import ToomCook
from nn.toom_cook_kernel import Kernel, outputs_at_once, pays, rows_to_add, tiling
from nn.windows import CACHED, fold, pad_image, window_matrix, windows


class Conv(Layer):
    """y[n,oh,ow,f] = b[f] + sum_{i,j,c} x[n, oh*SH + i - top, ow*SW + j - left, c] w[i,j,c,f]

    x (N, H, W, C), w (KH, KW, C/groups, F), b (F,), y (N, OH, OW, F). With groups, filter f sees
    only the C/groups channels of its own group. kernel and stride: int or (vertical, horizontal);
    pad: int, (vertical, horizontal) or ((top, bottom), (left, right)), filled with zeros.
    """

    def __init__(
        self, filters, kernel, stride=1, pad=0, groups=1, filler=xavier, bias_filler=zeros
    ):
        super().__init__()
        if groups < 1 or filters % groups:
            raise ValueError(f"{filters} filters cannot be split into {groups} groups")
        self.filters, self.groups = filters, groups
        self.kernel, self.stride = pair(kernel, "kernel"), pair(stride, "stride")
        self.pad = pad_sides(pad)
        self.at_hand = None  # the key of the windows that are now in the buffer "columns"
        self.fast = False  # whether toom_cook.py did the last forward
        self.kept = None  # the Kernel for that, made of w
        self.toom_cook = self.ready_for = None  # what does it, and what that was made for
        self.filler, self.bias_filler = filler, bias_filler

    def initialize(self, input_shape, rng):
        C = input_shape[-1]
        if C % self.groups:
            raise ValueError(f"{C} channels cannot be split into {self.groups} groups")
        self.params["w"] = self.filler((*self.kernel, C // self.groups, self.filters), rng)
        self.params["b"] = self.bias_filler((self.filters,), rng)

    def output_shape(self, input_shape):
        H, W, _ = input_shape
        OH = conv_output_size(H, self.kernel[0], self.stride[0], self.pad[0])
        OW = conv_output_size(W, self.kernel[1], self.stride[1], self.pad[1])
        return OH, OW, self.filters

    def forget_buffers(self):
        """Keep no key and no view of the buffers."""
        self.fast, self.at_hand, self.toom_cook, self.ready_for = False, None, None, None

    def release(self):
        super().release()
        self.forget_buffers()
        self.kept = None

    def replica(self):
        twin = super().replica()
        twin.forget_buffers()
        return twin

    def forward(self, x, train=False, bias=True):
        b = self.params["b"]
        if self.is_fast(x, train):
            OH, OW, F = self.start(x, whole_tiles=True)
            y = self._forward_fast(OH, OW, train)
            self.fast = True
        else:
            self.forget_buffers()
            OH, OW, F = self.start(x)
            y = self._forward(OH, OW)
        if bias and array_module(y) is np:
            repeated = self.buffers.get("b", (OW, F), y.dtype)
            repeated[...] = b  # in longer rows it is added three times as fast
            y += repeated
        elif bias:
            y += b
        return y[:, :OH]

    def is_fast(self, x, train):
        """Whether forward is done by toom_cook.py."""
        w = self.params["w"]
        fast = array_module(x) is np and self.stride == (1, 1)
        if not fast or not x.dtype == w.dtype == np.float32:
            return False
        OH, OW, _ = self.output_shape(x.shape[1:])
        return pays(len(x), OH, OW, w.shape, train)

    def start(self, x, whole_tiles=False):
        """Pad x and keep it; returns (OH, OW, F)."""
        D, C = self.params["w"].shape[2], x.shape[3]
        if C != D * self.groups:
            raise ValueError(f"expected images of {D * self.groups} channels, got {C}: {x.shape}")
        OH, OW, F = self.output_shape(x.shape[1:])
        (top, bottom), sides = self.pad
        bottom += rows_to_add(OH, self.kernel[0]) if whole_tiles else 0
        dtype = array_module(x).result_type(x, self.params["w"])
        self.input_shape = x.shape
        self.x = pad_image(x, ((top, bottom), sides), 0, self.buffers, dtype)
        self.at_hand = None
        return OH, OW, F

    def _forward_fast(self, OH, OW, train):
        """y = columns w by toom_cook.py, without b.

        A ToomCook is made once for images of a shape, and a Kernel once for w, unless w is trained.
        """
        w = self.params["w"]
        form = tiling(OH, len(w))[0], outputs_at_once(OW, w.shape, self.groups)
        if train or self.kept is None or not self.kept.is_of(w, form):
            self.kept = Kernel(w, self.groups, *form)
        ready_for = self.x.shape, w.shape, train, self.buffers
        if self.ready_for != ready_for:
            self.toom_cook = ToomCook(self.x.shape, self.kept, self.buffers, train)
            self.ready_for = ready_for
        return self.toom_cook.forward(self.x, self.kept)

    def _forward(self, OH, OW):
        """y = columns w, without b."""
        w = self.params["w"]
        KH, KW, D, F = w.shape
        xp = array_module(self.x)
        N, dtype = len(self.x), xp.result_type(self.x, w)
        y = self.buffers.get("y", (N, OH, OW, F), dtype, xp)
        rows = y.reshape(N, OH * OW, F)
        for images, channels, filters in self._pieces(N, OH * OW * KH * KW * D, xp):
            columns = self._columns(images, channels, OH, OW, dtype)  # (n*OH*OW, KH*KW*D)
            product = rows[images, :, filters].reshape(len(columns), -1)  # a view: rows F apart
            matmul(columns, w[..., filters].reshape(KH * KW * D, -1), product)
        return y

    def backward(self, dy, param_grads=True, input_grad=True):
        if self.fast:
            dw, dx = self.toom_cook.backward(dy, param_grads, input_grad)
        else:
            dw = self._backward_w(dy) if param_grads else None
            dx = self._backward_x(dy) if input_grad else None
        if param_grads:
            # A product with ones is much faster than dy.sum(axis=(0, 1, 2)).
            rows = dy.reshape(-1, dy.shape[3])
            ones = array_module(dy).ones((1, len(rows)), dw.dtype)
            self.grads = {"w": dw, "b": matmul(ones, rows)[0]}
        return self.inside(dx) if input_grad else None

    def inside(self, dx):
        """dx without the padding."""
        _, H, W, _ = self.input_shape
        (top, _), (left, _) = self.pad
        return dx[:, top : top + H, left : left + W]

    def _backward_w(self, dy):
        """dw = columns^T dy."""
        w = self.params["w"]
        KH, KW, D, F = w.shape
        N, OH, OW, _ = dy.shape
        xp = array_module(dy)
        dtype = xp.result_type(dy, w)
        dw = self.buffers.get("dw", w.shape, dtype, xp)
        pieces = list(self._pieces(N, OH * OW * KH * KW * D, xp))
        for images, channels, filters in reversed(pieces):  # the last windows are still at hand
            columns = self._columns(images, channels, OH, OW, dtype)
            product = matmul(columns.T, dy[images, :, :, filters].reshape(len(columns), -1))
            if images.stop == N:  # the first, as they are reversed
                dw[..., filters] = product.reshape(KH, KW, D, -1)
            else:
                dw[..., filters] += product.reshape(KH, KW, D, -1)
        return dw

    def _backward_x(self, dy):
        """The deconvolution: dx = fold(dy w^T)."""
        w = self.params["w"]
        KH, KW, D, F = w.shape
        N, OH, OW, _ = dy.shape
        xp = array_module(dy)
        dtype = xp.result_type(dy, w)
        dx = self.buffers.get("dx", self.x.shape, dtype, xp)
        self.at_hand = None  # dcolumns take the windows' place in memory
        for images, channels, filters in self._pieces(N, OH * OW * KH * KW * D, xp):
            piece = dx[images, :, :, channels]
            dcolumns = window_matrix(len(piece), OH, OW, KH, KW, D, dtype, self.buffers, xp)
            kernels = w[..., filters].reshape(KH * KW * D, -1)
            dproduct = dy[images, :, :, filters].reshape(len(dcolumns), -1)
            matmul(dproduct, kernels.T, dcolumns)
            fold(dcolumns, KH, KW, self.stride, piece, self.buffers)
        return dx

    def _pieces(self, N, numbers, xp):
        """(slice of the images, of the channels, of the filters) of each matrix product.

        A product for each group, and on a CPU for as many images at a time as have their windows,
        `numbers` an image, in 2 MiB: these stay in the cache from the copy to the product, and it
        is cheaper to copy them again for the backward pass than to keep them all.
        """
        _, _, D, F = self.params["w"].shape
        at_once = max(1, CACHED // numbers) if xp is np else N
        size = F // self.groups
        for n in range(0, N, at_once):
            for g in range(self.groups):
                channels, filters = slice(g * D, (g + 1) * D), slice(g * size, (g + 1) * size)
                yield slice(n, min(n + at_once, N)), channels, filters

    def _columns(self, images, channels, OH, OW, dtype):
        """The windows of some images and channels: (n*OH*OW, KH*KW*D)."""
        x = self.x[images, :, :, channels]
        xp = array_module(x)
        matrix = window_matrix(len(x), OH, OW, *self.kernel, x.shape[-1], dtype, self.buffers, xp)
        wanted = images.start, channels.start, dtype, self.buffers
        if self.at_hand != wanted:
            windows(x, *self.kernel, self.stride, matrix)
            self.at_hand = wanted
        return matrix
