"""Average pooling: each output is the mean of its window; backward gives each pixel its share."""

from nn.backend import Array, array_module
from nn.pool import Pool
from nn.windows import cropped, padded, places


class AveragePool(Pool):
    """x (N, H, W, C) -> y (N, OH, OW, C), the mean of each window.

    Padding counts as zeros (Caffe); with count_pad=False the mean is over the pixels of the image
    alone. What a window has beyond the padding never counts.
    """

    def __init__(
        self,
        kernel: int | tuple,
        stride: int | tuple = 1,
        pad: int | tuple = 0,
        ceil: bool = True,
        count_pad: bool = True,
    ):
        super().__init__(kernel, stride, pad, ceil)
        self.count_pad = count_pad

    def forward(self, x: Array, train: bool = False) -> Array:
        self.image_size = H, W = x.shape[1:3]
        (_, below), (_, right) = self.border(H, W)
        (_, pad_below), (_, pad_right) = self.pad
        more = (0, max(below - pad_below, 0)), (0, max(right - pad_right, 0))  # beyond the padding
        pixels = array_module(x).ones((1, H, W, 1), x.dtype)
        self.counts = self.window_sum(padded(padded(pixels, self.pad, float(self.count_pad)), more))
        x = padded(padded(x, self.pad), more)
        self.padded_shape = x.shape
        return self.window_sum(x) / self.counts

    def backward(self, dy: Array) -> Array:
        share = dy / self.counts  # (N, OH, OW, C) / (1, OH, OW, 1)
        dx = array_module(dy).zeros(self.padded_shape, dy.dtype)
        for _, rows, columns in places(self.kernel, self.stride, *dy.shape[1:3]):
            dx[:, rows, columns] += share
        return cropped(dx, self.pad, *self.image_size)

    def window_sum(self, x: Array) -> Array:
        """(N, padded H, padded W, C) -> (N, OH, OW, C)."""
        OH, OW, _ = self.output_shape((*self.image_size, 1))
        slices = places(self.kernel, self.stride, OH, OW)
        return sum(x[:, rows, columns] for _, rows, columns in slices)
