"""On a GPU: the bias of a layer and the ReLU above it in one kernel, instead of three passes."""

import numpy as np

from nn import kernels
from nn.backend import array_module
from nn.conv import Conv
from nn.linear import Linear
from nn.relu import ReLU


class BiasReLU:
    """The calls of a layer for a Conv or Linear and the ReLU above it, which specify it."""

    def __init__(self, layer, relu):
        self.layer, self.relu = layer, relu

    @staticmethod
    def fits(lower, upper, x, train):
        """Whether these layers are a Conv or a Linear below a ReLU, on a GPU."""
        linear = isinstance(lower, (Conv, Linear)) and isinstance(upper, ReLU)
        return linear and array_module(x) is not np

    def forward(self, x, train=False):
        y = self.layer.forward(x, train, bias=False)
        positive = self.relu.buffers.get("positive", y.shape, bool, array_module(y))
        kernels.bias_relu(y, self.layer.params["b"], positive)
        self.relu.positive = positive
        return y

    def backward(self, dy, param_grads=True, input_grad=True):
        return self.layer.backward(self.relu.backward(dy), param_grads, input_grad)
