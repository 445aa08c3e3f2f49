"""A border of zeros around an image."""

from nn.backend import Array
from nn.geometry import sides
from nn.layer import Layer
from nn.windows import cropped, padded


class ZeroPad(Layer):
    """x (N, H, W, C) inside `pad`, which is as of Conv; dx is dy without its border."""

    def __init__(self, pad: int | tuple):
        super().__init__()
        self.pad = sides(pad)

    def output_shape(self, input_shape: tuple) -> tuple:
        H, W, C = input_shape
        return H + sum(self.pad[0]), W + sum(self.pad[1]), C

    def forward(self, x: Array, train: bool = False) -> Array:
        self.image_size = x.shape[1:3]
        return padded(x, self.pad)

    def backward(self, dy: Array) -> Array:
        return cropped(dy, self.pad, *self.image_size)
