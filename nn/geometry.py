"""Kernels, strides and paddings, and how many windows fit into an image."""

NO_PAD = ((0, 0), (0, 0))  # ((top, bottom), (left, right))


def pair(value: int | tuple, name: str) -> tuple:
    """An int, or two of them, as (vertical, horizontal)."""
    vertical, horizontal = value if isinstance(value, (tuple, list)) else (value, value)
    if vertical < 1 or horizontal < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return vertical, horizontal


def sides(pad: int | tuple) -> tuple:
    """p, (vertical, horizontal) or ((top, bottom), (left, right)), written as the last."""
    vertical, horizontal = pad if isinstance(pad, (tuple, list)) else (pad, pad)
    both = [p if isinstance(p, (tuple, list)) else (p, p) for p in (vertical, horizontal)]
    if min(map(min, both)) < 0:
        raise ValueError(f"padding must not be negative, got {pad}")
    return tuple(map(tuple, both))


def conv_size(size: int, kernel: int, stride: int, pad: tuple) -> int:
    """How many windows fit along an axis: floor((size + pads - kernel) / stride) + 1."""
    count = (size + sum(pad) - kernel) // stride + 1
    if count < 1:
        raise ValueError(
            f"no room for a kernel of {kernel} in {size} pixels padded by {pad[0]} and {pad[1]}"
        )
    return count


def pool_size(size: int, kernel: int, stride: int, pad: tuple, ceil: bool) -> int:
    """As conv_size; or with ceil Caffe's rule, where a last window may hang over the border.

    That window must still start inside the image, or inside the padding before it.
    """
    if max(pad) >= kernel:
        raise ValueError(f"pool padding {pad} must be smaller than the kernel {kernel}")
    if not ceil:
        return conv_size(size, kernel, stride, pad)
    count = -(-max(size + sum(pad) - kernel, 0) // stride) + 1
    if (count - 1) * stride >= size + pad[0]:
        count -= 1
    if count < 1:
        raise ValueError(f"no room for a window of {kernel} in {size} pixels padded by {pad}")
    return count


def extent(kernel: tuple, dilation: tuple) -> tuple:
    """How many pixels a window reaches over: its places are `dilation` pixels apart."""
    return tuple((K - 1) * D + 1 for K, D in zip(kernel, dilation, strict=True))


def overhang(size: int, kernel: int, stride: int, pad: tuple, count: int) -> tuple:
    """(before, after): the border that `count` windows need around `size` pixels."""
    return pad[0], max((count - 1) * stride + kernel - pad[0] - size, 0)
