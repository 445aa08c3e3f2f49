"""What a tensor of the file is in our net: the output of one of our layers, in the file's order.

Most files have images (N, C, H, W); those made by Keras take (N, H, W, C), turn them once before
the first convolution, and turn them back to flatten them. Our own layers always have (N, H, W, C):
only which order the file has at a place matters.
"""

import math
from typing import Any, NamedTuple

LARGEST = 2**28  # numbers of an image, or of a layer's output for one


class Place(NamedTuple):
    """layer: the name of our layer that gives the tensor; shape: of its output for one image.

    flat: whether that is (N, D) in the file where shape is still (H, W, C): our Linear flattens by
    itself. channels_last: whether the file's images, or those that it has flattened, are
    (N, H, W, C) and not (N, C, H, W). open: whether the layer is a Conv or Linear, and no other
    node takes what it gives, so that scaling can become part of it. waiting: (node, scale, shift)
    of flat numbers, for the Linear that follows.
    """

    layer: str
    shape: tuple
    flat: bool = False
    channels_last: bool = False
    open: bool = False
    waiting: tuple[Any, Any, Any] | None = None

    @property
    def channels(self) -> int:
        """How many numbers a pixel has, or how many flat numbers there are."""
        return math.prod(self.shape) if self.flat else self.shape[-1]

    @property
    def axis(self) -> int:
        """Which axis of the file's tensor has the channels, or the flat numbers."""
        return 3 if self.channels_last and self.rank != 2 else 1

    @property
    def rank(self) -> int:
        """How many axes the file's tensor has."""
        return 2 if self.flat or len(self.shape) == 1 else 4

    @property
    def sides(self) -> list[int]:
        """Which axes of a file's image are H and W."""
        return [1, 2] if self.channels_last else [2, 3]

    @property
    def single(self) -> bool:
        """Whether there is one number of each channel: nothing but channels to be flattened."""
        return len(self.shape) == 1 or self.shape[:2] == (1, 1)

    def in_file(self) -> tuple:
        """The shape of the file's tensor."""
        return in_file(self.shape, self.flat, self.channels_last)

    def image(self) -> tuple:
        """(H, W, C). ValueError if that is flat, or not (N, C, H, W)."""
        if self.rank == 2:
            raise ValueError("needs images, but they were flattened before")
        if self.channels_last:
            raise ValueError("needs images (N, C, H, W), but here they are (N, H, W, C)")
        return self.shape


def in_file(shape: tuple, flat: bool, channels_last: bool) -> tuple:
    """Our shape of an image or of flat numbers as the file has it; 0 is the number of images."""
    if flat or len(shape) == 1:
        return 0, math.prod(shape)
    *size, C = shape
    return (0, *size, C) if channels_last else (0, C, *size)


def is_over(axes: list[int], expected: list[int], count: int = 4) -> bool:
    """Whether these axes of `count`, which may be counted from the end, are the expected ones."""
    return sorted(n + count if n < 0 else n for n in axes) == expected
