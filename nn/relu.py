"""The rectified linear unit: y = max(x, 0); the gradient passes where x > 0, and not at 0."""

from nn.backend import Array, array_module
from nn.layer import Layer


class ReLU(Layer):
    """y = max(x, 0), element by element; x and y of any shape."""

    def forward(self, x: Array, train: bool = False) -> Array:
        self.positive = x > 0
        return array_module(x).maximum(x, 0)

    def backward(self, dy: Array) -> Array:
        return dy * self.positive
