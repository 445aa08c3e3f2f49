"""A convolution with a filter for each channel: one product of whole maps for each place in it."""

import numpy as np

from fast.cpu.windows import pad_image
from fast.engine import Form
from nn.conv import Conv
from nn.windows import cropped, places


class DepthwiseConv(Form):
    """y = b + sum over places of x w: of MobileNet, or scaling by numbers of each channel.

    Its windows would be as many matrices as there are channels, each of one column.
    """

    takes = (Conv,)

    @staticmethod
    def fits(layers, shapes, job):
        (conv,), ((_, _, _, C),) = layers, shapes
        return conv.groups == conv.filters == C > 1

    def __init__(self, names, layers, shapes, job, room):
        self.name, self.conv, self.room, (self.dtype, _) = names[0], layers[0], room, job
        N, self.H, self.W, C = shapes[0]
        (top, bottom), (left, right) = self.conv.pad
        self.y = room.get("y", (N, *self.conv.output_shape(shapes[0][1:])), self.dtype)
        self.product = room.get("product", self.y.shape, self.dtype)
        self.dx = room.get("dx", (N, self.H + top + bottom, self.W + left + right, C), self.dtype)
        OH, OW = self.y.shape[1:3]
        slices = places(self.conv.kernel, self.conv.stride, OH, OW, self.conv.dilation)
        self.places = [
            (*divmod(number, self.conv.kernel[1]), 0, (slice(None), rows, columns))
            for number, rows, columns in slices
        ]

    def forward(self, x):
        w = self.conv.params["w"]
        self.x = pad_image(x, self.conv.pad, 0, self.room, self.dtype)
        self.y[...] = self.conv.params["b"]
        for *place, pixels in self.places:
            self.y += np.multiply(self.x[pixels], w[tuple(place)], out=self.product)
        return self.y

    def backward(self, dy, grads, input_grad):
        w = self.conv.params["w"]
        if grads is not None:
            dw, db = grads[f"{self.name}.w"], grads[f"{self.name}.b"]
            for *place, pixels in self.places:
                np.einsum("nhwc,nhwc->c", self.x[pixels], dy, out=dw[tuple(place)])
            dy.sum(axis=(0, 1, 2), out=db)
        if not input_grad:
            return None
        self.dx.fill(0)
        for *place, pixels in self.places:
            self.dx[pixels] += np.multiply(dy, w[tuple(place)], out=self.product)
        return cropped(self.dx, self.conv.pad, self.H, self.W)
