"""The forms of layers on a GPU: windows, pools and the like in one launch each (kernels.py)."""

import math

from fast.cpu.conv import WindowConv
from fast.engine import Form
from fast.gpu import kernels
from fast.gpu.products import matmul
from nn.backend import array_module
from nn.conv import Conv
from nn.linear import Linear
from nn.lrn import LRN
from nn.pool import MaxPool
from nn.relu import ReLU


class KernelConv(WindowConv):
    """A convolution by windows, all images at once; cuBLAS multiplies."""

    def at_once(self, numbers):
        return len(self.y)

    def matrix(self, N, OH, OW, D):
        KH, KW = self.conv.kernel
        return self.room.get("columns", (N * OH * OW, KH * KW * D), self.dtype)

    def forward(self, x):
        y = self.products(x)
        y += self.conv.params["b"]
        return y

    def matmul(self, a, b, out):
        return matmul(a, b, out)

    def copy_windows(self, x, columns):
        kernels.copy_windows(x, self.conv.kernel, self.conv.stride, columns)

    def fold_windows(self, dcolumns, dx):
        kernels.fold_windows(dcolumns, self.conv.kernel, self.conv.stride, dx)


class KernelLinear(Form):
    takes = (Linear,)

    def __init__(self, names, layers, shapes, job, room):
        self.name, self.linear, self.shape = names[0], layers[0], shapes[0]
        N, D, F = shapes[0][0], math.prod(shapes[0][1:]), layers[0].units
        self.y, self.dx = room.get("y", (N, F), job[0]), room.get("dx", (N, D), job[0])

    def forward(self, x):
        y = self.products(x)
        y += self.linear.params["b"]
        return y

    def products(self, x):
        """y = x w, without b."""
        self.x = x.reshape(len(x), -1)
        return matmul(self.x, self.linear.params["w"], self.y)

    def backward(self, dy, grads, input_grad):
        if grads is not None:
            matmul(self.x.T, dy, grads[f"{self.name}.w"])
            dy.sum(axis=0, out=grads[f"{self.name}.b"])
        if not input_grad:
            return None
        return matmul(dy, self.linear.params["w"].T, self.dx).reshape(self.shape)


class BiasReLU:
    """The bias of a layer and the ReLU above it in one kernel, instead of three passes."""

    def __init__(self, names, layers, shapes, job, room):
        super().__init__(names, layers, shapes, job, room)
        self.params = layers[0].params
        self.positive = room.get("positive", self.y.shape, bool)
        self.masked = room.get("masked", self.y.shape, job[0])

    def forward(self, x):
        y = self.products(x)
        kernels.bias_relu(y, self.params["b"], self.positive)
        return y

    def backward(self, dy, grads, input_grad):
        xp = array_module(dy)
        return super().backward(xp.multiply(dy, self.positive, out=self.masked), grads, input_grad)


class ConvReLU(BiasReLU, KernelConv):
    takes = (Conv, ReLU)


class LinearReLU(BiasReLU, KernelLinear):
    takes = (Linear, ReLU)


class KernelMaxPool(Form):
    takes = (MaxPool,)

    def __init__(self, names, layers, shapes, job, room):
        self.pool, (N, H, W, C) = layers[0], shapes[0]
        (self.top, _), (self.left, _) = self.pool.pad
        out = N, *self.pool.output_shape((H, W, C))
        self.y, self.dx = room.get("y", out, job[0]), room.get("dx", (N, H, W, C), job[0])
        self.argmax = room.get("argmax", out, "uint8")

    def forward(self, x):
        place = self.pool.kernel, self.pool.stride, self.top, self.left
        kernels.max_pool(x, *place, self.y, self.argmax)
        return self.y

    def backward(self, dy, grads, input_grad):
        if not input_grad:
            return None
        place = self.pool.kernel, self.pool.stride, self.top, self.left
        kernels.argmax_unpool(dy, self.argmax, *place, self.dx)
        return self.dx


class KernelLRN(Form):
    takes = (LRN,)

    def __init__(self, names, layers, shapes, job, room):
        self.lrn = layers[0]
        arrays = (room.get(name, shapes[0], job[0]) for name in ("s", "power", "y", "dx"))
        self.s, self.power, self.y, self.dx = arrays

    def forward(self, x):
        self.x = kernels.side_by_side(x)
        kernels.lrn(self.lrn, self.x, self.s, self.power, self.y)
        return self.y

    def backward(self, dy, grads, input_grad):
        if not input_grad:
            return None
        kernels.lrn_backward(self.lrn, dy, self.x, self.s, self.power, self.y, self.dx)
        return self.dx
