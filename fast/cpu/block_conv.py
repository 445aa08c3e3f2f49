"""A convolution of few channels in strides, as one of stride 1 over blocks of pixels.

With stride S the windows begin at every S-th pixel. A block of S x S pixels becomes one pixel of
S S C channels; a kernel of K rows covers ceil(K / S) blocks, and is filled up with zeros to whole
ones. AlexNet's conv1, 11 x 11 pixels of 3 colours in strides of 4, becomes 3 x 3 blocks of 48
channels. That is a fifth more products, but the windows are copied in runs of 144 numbers, not 33,
and folded by 3 + 3 additions, not 11 + 11; and Toom-Cook may save half of the products.
"""

from functools import cached_property

import numpy as np

from fast.cpu.conv import WindowConv
from fast.cpu.toom_cook import ToomCookConv
from fast.engine import Form
from fast.room import Room
from nn.conv import Conv

FEW = 4  # channels: with more, the runs are long enough without blocks


class BlockConv(Form):
    """y = X w + b, X the windows of blocks; ToomCookConv or WindowConv does the work."""

    takes = (Conv,)

    @staticmethod
    def fits(layers, shapes, job):
        (conv,), ((*_, C),) = layers, shapes
        overlap = all(K > S for K, S in zip(conv.kernel, conv.stride, strict=True))
        return (
            1 < C <= FEW and conv.groups == 1 and conv.stride != (1, 1) == conv.dilation and overlap
        )

    def __init__(self, names, layers, shapes, job, room):
        self.name, self.conv, self.shape = names[0], layers[0], shapes[0]
        self.dtype, _ = job
        *size, F = self.conv.output_shape(self.shape[1:])
        stride, w = self.conv.stride, self.conv.params["w"]
        kernel = [-(-K // S) for K, S in zip(self.conv.kernel, stride, strict=True)]
        self.counts = [n - 1 + k for n, k in zip(size, kernel, strict=True)]
        self.x = Blocks(self.shape, self.conv.pad, self.counts, stride, self.dtype)
        self.w, self.dw = (
            Blocks((1, *w.shape[:2], w[0, 0].size), ((0, 0),) * 2, kernel, stride, self.dtype)
            for _ in "wd"
        )
        self.over_blocks = Conv(F, tuple(kernel))
        channels = self.x.blocks[0, 0, 0].size
        self.over_blocks.params["w"] = self.w.blocks.reshape(*kernel, channels, F)
        self.kernel_to_blocks()
        inner = ["blocks"], [self.over_blocks], [(*self.x.blocks.shape[:3], channels)], job
        form = ToomCookConv if ToomCookConv.fits(*inner[1:]) else WindowConv
        self.form = form(*inner, room.shared.setdefault("blocks", Room(crew=room.crew)))

    @cached_property
    def dx(self):
        return Blocks(self.shape, self.conv.pad, self.counts, self.conv.stride, self.dtype)

    def kernel_to_blocks(self):
        self.over_blocks.params["b"] = self.conv.params["b"]
        w = self.conv.params["w"]
        self.w.split(w.reshape(1, *w.shape[:2], -1))

    def forward(self, x):
        self.kernel_to_blocks()
        return self.form.forward(self.x.split(x))

    def backward(self, dy, grads, input_grad):
        inner = None
        if grads is not None:
            dw = self.dw.blocks.reshape(self.over_blocks.params["w"].shape)
            inner = {"blocks.w": dw, "blocks.b": grads[f"{self.name}.b"]}
        dblocks = self.form.backward(dy, inner, input_grad)
        if grads is not None:
            dw = grads[f"{self.name}.w"]
            dw[...] = self.dw.join(self.dw.blocks).reshape(dw.shape)
        return self.dx.join(dblocks) if input_grad else None


class Blocks:
    """Images (N, H, W, C), padded and cut to so many blocks, as (N, BH, BW, SH SW C), and back."""

    def __init__(self, shape, pad, counts, stride, dtype):
        (N, H, W, C), (BH, BW), (SH, SW) = shape, counts, stride
        (top, _), (left, _) = pad
        whole = np.zeros((N, max(BH * SH, top + H), max(BW * SW, left + W), C), dtype)
        self.image = whole[:, top : top + H, left : left + W]
        covered = whole[:, : BH * SH, : BW * SW].reshape(N, BH, SH, BW, SW, C)
        self.pixels = covered.transpose(0, 1, 3, 2, 4, 5)
        self.blocks = np.empty(self.pixels.shape, dtype)

    def split(self, image):
        self.image[...] = image
        self.blocks[...] = self.pixels
        return self.blocks.reshape(*self.blocks.shape[:3], -1)

    def join(self, blocks):
        self.pixels[...] = blocks.reshape(self.pixels.shape)
        return self.image
