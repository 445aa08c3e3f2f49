"""One number of each channel for the whole map: its mean, or its maximum."""

from nn.backend import Array, array_module
from nn.layer import Layer


class GlobalPool(Layer):
    """x (N, H, W, C) -> y (N, 1, 1, C)."""

    kernel = None

    def output_shape(self, input_shape: tuple) -> tuple:
        return 1, 1, input_shape[-1]


class GlobalAveragePool(GlobalPool):
    """The mean of each channel over all places."""

    def forward(self, x: Array, train: bool = False) -> Array:
        self.input_shape = x.shape
        return x.mean(axis=(1, 2), keepdims=True)

    def backward(self, dy: Array) -> Array:
        _, H, W, _ = self.input_shape
        return array_module(dy).broadcast_to(dy / (H * W), self.input_shape)


class GlobalMaxPool(GlobalPool):
    """The maximum of each channel over all places; dy goes to the first maximum in row order."""

    def forward(self, x: Array, train: bool = False) -> Array:
        self.input_shape = N, H, W, C = x.shape
        x = x.reshape(N, H * W, C)
        self.argmax = x.argmax(axis=1)[:, None]  # (N, 1, C)
        return x.max(axis=1).reshape(N, 1, 1, C)

    def backward(self, dy: Array) -> Array:
        N, H, W, C = self.input_shape
        place = array_module(dy).arange(H * W).reshape(-1, 1)
        return (dy.reshape(N, 1, C) * (self.argmax == place)).reshape(N, H, W, C)
