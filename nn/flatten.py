"""A map as flat numbers."""

import math

from nn.layer import Layer


class Flatten(Layer):
    """x (N, H, W, C) -> y (N, H W C). Linear flattens by itself; this is for maps of scores."""

    kernel = stride = None

    def output_shape(self, input_shape):
        return (math.prod(input_shape),)

    def forward(self, x, train=False):
        self.input_shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, dy, param_grads=True, input_grad=True):
        return dy.reshape(self.input_shape)
