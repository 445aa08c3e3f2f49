"""Local max-pooling, and its transpose, the arg-max un-pooling (section 4.6 of the paper)."""

import math

from nn.backend import Array, array_module
from nn.geometry import overhang, pair, pool_size, sides
from nn.layer import Layer
from nn.windows import cropped, padded, places


def max_pool(x: Array, kernel: tuple, stride: tuple, OH: int, OW: int) -> tuple[Array, Array]:
    """x (N, H, W, C) -> value, argmax, both (N, OH, OW, C).

    argmax is the place in the window, i KW + j, of the first maximum in row order.
    """
    xp = array_module(x)
    value = xp.full((len(x), OH, OW, x.shape[3]), -math.inf, x.dtype)
    argmax = xp.zeros(value.shape, xp.uint8)
    for place, rows, columns in places(kernel, stride, OH, OW):
        pixel = x[:, rows, columns]
        argmax = xp.where(pixel > value, xp.uint8(place), argmax)  # at a tie the first one stays
        value = xp.maximum(value, pixel)
    return value, argmax


def argmax_unpool(dy: Array, argmax: Array, shape: tuple, kernel: tuple, stride: tuple) -> Array:
    """dy, argmax (N, OH, OW, C) -> dx of this shape (N, H, W, C).

    Each dy goes to the pixel that was the maximum, and is added up where windows overlap.
    """
    _, OH, OW, _ = dy.shape
    dx = array_module(dy).zeros(shape, dy.dtype)
    for place, rows, columns in places(kernel, stride, OH, OW):
        dx[:, rows, columns] += dy * (argmax == place)
    return dx


class Pool(Layer):
    """What max-pooling and average pooling have in common: their windows.

    kernel, stride, pad: as of Conv. Windows are clipped at the border. With ceil, the sizes are
    Caffe's (see pool_size in geometry.py); without, those of most other frameworks.
    """

    def __init__(
        self, kernel: int | tuple, stride: int | tuple = 1, pad: int | tuple = 0, ceil: bool = True
    ):
        super().__init__()
        self.kernel, self.stride = pair(kernel, "kernel"), pair(stride, "stride")
        self.pad, self.ceil = sides(pad), ceil

    def output_shape(self, input_shape: tuple) -> tuple:
        H, W, C = input_shape
        OH, OW = map(pool_size, (H, W), self.kernel, self.stride, self.pad, [self.ceil] * 2)
        return OH, OW, C

    def border(self, H: int, W: int) -> tuple:
        """((top, bottom), (left, right)): how far the windows reach over the border."""
        counts = self.output_shape((H, W, 1))[:2]
        return tuple(map(overhang, (H, W), self.kernel, self.stride, self.pad, counts))


class MaxPool(Pool):
    """x (N, H, W, C) -> y (N, OH, OW, C), the maximum of each window; beyond the border is -inf."""

    def __init__(
        self, kernel: int | tuple, stride: int | tuple = 1, pad: int | tuple = 0, ceil: bool = True
    ):
        super().__init__(kernel, stride, pad, ceil)
        if math.prod(self.kernel) > 256:  # places are counted in uint8
            raise ValueError(f"windows of at most 256 pixels, got {kernel}")

    def forward(self, x: Array, train: bool = False) -> Array:
        OH, OW, _ = self.output_shape(x.shape[1:])
        self.image_size = x.shape[1:3]
        x = padded(x, self.border(*self.image_size), -math.inf)
        self.padded_shape = x.shape
        y, self.argmax = max_pool(x, self.kernel, self.stride, OH, OW)
        return y

    def backward(self, dy: Array) -> Array:
        dx = argmax_unpool(dy, self.argmax, self.padded_shape, self.kernel, self.stride)
        return cropped(dx, self.border(*self.image_size), *self.image_size)
