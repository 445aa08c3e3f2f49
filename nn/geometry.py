"""Kernels, strides, paddings, and how many windows fit."""

from functools import cache

NO_PAD = ((0, 0), (0, 0))  # as pad_sides has it


def pair(value, what):
    """An int, or two of them, as (vertical, horizontal)."""
    first, second = value if isinstance(value, (tuple, list)) else (value, value)
    if first < 1 or second < 1:
        raise ValueError(f"{what} must be at least 1, got {value}")
    return first, second


def pad_sides(pad):
    """p, (vertical, horizontal) or ((top, bottom), (left, right)) as the last of these."""
    vertical, horizontal = pad if isinstance(pad, (tuple, list)) else (pad, pad)
    sides = tuple(
        tuple(p) if isinstance(p, (tuple, list)) else (p, p) for p in (vertical, horizontal)
    )
    if min(map(min, sides)) < 0:
        raise ValueError(f"padding must not be negative, got {pad}")
    return sides


@cache
def conv_output_size(size, kernel, stride=1, pad=(0, 0)):
    """floor((size + pads - kernel) / stride) + 1: only windows that lie inside the image."""
    out = (size + sum(pad) - kernel) // stride + 1
    if out < 1:
        raise ValueError(
            f"no room for a kernel of {kernel} in {size} pixels padded by {pad[0]} and {pad[1]}"
        )
    return out


@cache
def pool_output_size(size, kernel, stride=1, pad=(0, 0), ceil=True):
    """Caffe's rule: ceil((size + pads - kernel) / stride) + 1, windows clipped at the border.

    A last window that would start in the padding behind the image is dropped.
    ceil=False is the floor rule of most other frameworks.
    """
    if max(pad) >= kernel:
        raise ValueError(f"pool padding {pad} must be smaller than the kernel {kernel}")
    if not ceil:
        return conv_output_size(size, kernel, stride, pad)
    out = -(-max(size + sum(pad) - kernel, 0) // stride) + 1
    if (out - 1) * stride >= size + pad[0]:
        out -= 1
    if out < 1:
        raise ValueError(f"no room for a window of {kernel} in {size} pixels padded by {pad}")
    return out


def counts(H, W, KH, KW, stride):
    """(OH, OW): windows of KH x KW pixels in an image of H x W, down and along; no padding."""
    SH, SW = stride
    return (H - KH) // SH + 1, (W - KW) // SW + 1
