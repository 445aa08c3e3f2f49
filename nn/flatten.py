"""A map as flat numbers."""

import math

from nn.backend import Array
from nn.layer import Layer


class Flatten(Layer):
    """x (N, H, W, C) -> y (N, H W C). Linear flattens by itself; this is for maps of scores."""

    kernel = None

    def output_shape(self, input_shape: tuple) -> tuple:
        return (math.prod(input_shape),)

    def forward(self, x: Array, train: bool = False) -> Array:
        self.input_shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, dy: Array) -> Array:
        return dy.reshape(self.input_shape)
