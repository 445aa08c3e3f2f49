"""The fully connected layer (Eq. 3)."""

import math
from collections.abc import Callable

import numpy as np

from nn.backend import Array
from nn.fillers import xavier, zeros
from nn.layer import Layer


class Linear(Layer):
    """y = x w + b: x (N, ...) taken as (N, D), w (D, F), b (F,) -> y (N, F).

    An image (N, H, W, C) is flattened in that order: the channels of a pixel stay together.
    """

    kernel = None

    def __init__(self, units: int, filler: Callable = xavier, bias_filler: Callable = zeros):
        super().__init__()
        self.units, self.filler, self.bias_filler = units, filler, bias_filler

    def initialize(self, input_shape: tuple, rng: np.random.Generator) -> None:
        self.params["w"] = self.filler((math.prod(input_shape), self.units), rng)
        self.params["b"] = self.bias_filler((self.units,), rng)

    def output_shape(self, input_shape: tuple) -> tuple:
        return (self.units,)

    def forward(self, x: Array, train: bool = False) -> Array:
        w, b = self.parameter("w"), self.parameter("b")
        self.input_shape, self.x = x.shape, x.reshape(len(x), -1)
        if self.x.shape[1] != len(w):
            raise ValueError(f"expected {len(w)} inputs, got {self.x.shape[1]}: {x.shape[1:]}")
        return self.x @ w + b  # (N, D) @ (D, F) -> (N, F)

    def backward(self, dy: Array) -> Array:
        return (dy @ self.params["w"].T).reshape(self.input_shape)  # (N, F) @ (F, D) -> (N, D)

    def gradients(self, dy: Array) -> dict[str, Array]:
        return {"w": self.x.T @ dy, "b": dy.sum(axis=0)}  # (D, N) @ (N, F) -> (D, F)
