"""The windows of an image, and the way back.

`windows` copies each pixel into every window that sees it. `fold`, its transpose, adds up what
comes back from those windows. Both are the same loop over the places (i, j) in a window: place
(i, j) of all windows together is one strided slice of the image.
"""

from collections.abc import Iterator

import numpy as np

from nn.backend import Array, array_module


def every(first: int, count: int, step: int) -> slice:
    """The slice that takes `count` elements, `step` apart, from `first` on."""
    return slice(first, first + step * (count - 1) + 1, step)


def places(kernel: tuple, stride: tuple, OH: int, OW: int, dilation: tuple = (1, 1)) -> Iterator:
    """For each place in a window: its number, and the rows and columns of the image it falls on."""
    (KH, KW), (SH, SW), (DH, DW) = kernel, stride, dilation
    for number, (i, j) in enumerate(np.ndindex(KH, KW)):
        yield number, every(i * DH, OH, SH), every(j * DW, OW, SW)


def windows(
    x: Array, kernel: tuple, stride: tuple, OH: int, OW: int, dilation: tuple = (1, 1)
) -> Array:
    """x (N, H, W, C) -> (N, OH, OW, KH KW, C)."""
    N, _, _, C = x.shape
    copies = array_module(x).empty((N, OH, OW, kernel[0] * kernel[1], C), x.dtype)
    for k, rows, columns in places(kernel, stride, OH, OW, dilation):
        copies[:, :, :, k] = x[:, rows, columns]
    return copies


def fold(
    dcopies: Array, shape: tuple, kernel: tuple, stride: tuple, dilation: tuple = (1, 1)
) -> Array:
    """dcopies (N, OH, OW, KH KW, C) -> dx of this shape (N, H, W, C)."""
    _, OH, OW, _, _ = dcopies.shape
    dx = array_module(dcopies).zeros(shape, dcopies.dtype)
    for k, rows, columns in places(kernel, stride, OH, OW, dilation):
        dx[:, rows, columns] += dcopies[:, :, :, k]
    return dx


def padded(x: Array, border: tuple, value: float = 0) -> Array:
    """x (N, H, W, C) inside a border ((top, bottom), (left, right)) of one value."""
    if not any(map(any, border)):
        return x
    return array_module(x).pad(x, ((0, 0), *border, (0, 0)), constant_values=value)


def cropped(dx: Array, border: tuple, H: int, W: int) -> Array:
    """The transpose of `padded`: the (H, W) pixels inside the border."""
    (top, _), (left, _) = border
    return dx[:, top : top + H, left : left + W]
