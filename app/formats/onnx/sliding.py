"""Convolutions and pools: what slides a window over the images, or takes all of them in one."""

import numpy as np

from app.formats.onnx.place import LARGEST, is_over
from nn.average_pool import AveragePool
from nn.conv import Conv
from nn.fillers import zeros
from nn.global_pool import GlobalAveragePool, GlobalMaxPool
from nn.pool import MaxPool
from nn.zero_pad import ZeroPad

LONGEST_SIDE = 1024  # of a window


def conv(net, node, x):
    w = node.weights(1)
    C, groups = x.image()[-1], node.get("group", 1)
    if w.ndim != 4 or w.shape[1] * groups != C or not w.size:
        raise ValueError(f"has weights of {w.shape} in {groups} groups for {C} channels")
    dilation = node.get("dilations", [1, 1])
    check(dilation, "dilations", 2, 1, LONGEST_SIDE)
    kernel, stride, pad, _ = windows(node, x, list(w.shape[2:]), dilation)
    layer = Conv(len(w), kernel, stride, pad, groups, zeros, zeros, tuple(dilation))
    return net.add(node, layer, x, w=w.transpose(2, 3, 1, 0), b=bias(node, len(w)))


def bias(node, F):
    """What is added to F sums: the third input, one number or F of them, or nothing."""
    if not node.has(2):
        return np.zeros(F, np.float32)
    b = node.weights(2)
    if b.shape not in ((), (1,), (F,), (1, 1), (1, F)):
        raise ValueError(f"has a bias of {b.shape}, expected ({F},)")
    return np.array(np.broadcast_to(b.ravel(), F))


def check(numbers, what, count, low, high):
    if len(numbers) != count or not all(low <= n <= high for n in numbers):
        raise ValueError(f"has {what} of {numbers}, not {count} numbers from {low} to {high}")


def windows(node, x, kernel, dilation=(1, 1)):
    """(kernel, stride, pad, ceil) from a node's attributes, as our layers take them."""
    H, W, C = x.image()
    if len(kernel) != 2:
        raise ValueError(f"has windows of {len(kernel)} dimensions, not 2")
    stride, pads = node.get("strides", [1, 1]), node.get("pads", [0] * 4)
    auto, ceil = node.get("auto_pad", "NOTSET"), bool(node.get("ceil_mode", 0))
    check(kernel, "windows", 2, 1, LONGEST_SIDE)
    check(stride, "strides", 2, 1, 2**31)
    check(pads, "pads", 4, 0, LONGEST_SIDE)
    pad = border(x, pads)
    if auto == "VALID":
        pad = 0
    elif auto in ("SAME_UPPER", "SAME_LOWER"):
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
        pad, ceil = tuple(map(same_pad, (H, W), reach, stride, [auto] * 2)), False
    elif auto != "NOTSET":
        raise ValueError(f"has the unknown auto_pad {auto!r}")
    return tuple(kernel), tuple(stride), pad, ceil


def border(x, pads):
    """((top, bottom), (left, right)) of pads as ONNX has them."""
    (H, W, C), (top, left, bottom, right) = x.shape, pads
    if (H + top + bottom) * (W + left + right) * C > LARGEST:
        raise ValueError(f"has pads of {pads}, which make the image too large")
    return (top, bottom), (left, right)


def same_pad(size, kernel, stride, auto):
    """(before, after) so that there are ceil(size / stride) windows; UPPER: an odd one after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    less, more = total // 2, total - total // 2
    return (less, more) if auto == "SAME_UPPER" else (more, less)


def pool_windows(node, x):
    if set(node.get("dilations", [1])) != {1}:
        raise ValueError("is dilated: only convolutions can be")
    return windows(node, x, node.get("kernel_shape", []))


def max_pool(net, node, x):
    return net.add(node, MaxPool(*pool_windows(node, x)), x)


def average_pool(net, node, x):
    count_pad = bool(node.get("count_include_pad", 0))
    return net.add(node, AveragePool(*pool_windows(node, x), count_pad), x)


def global_pool(make):
    def operator(net, node, x):
        x.image()
        return net.add(node, make(), x)

    return operator


def reduce(make, what):
    """ReduceMean and ReduceMax over H and W."""

    def operator(net, node, x):
        axes, size = node.integers(1, "axes") or [], x.sides
        if x.rank == 2 or not is_over(axes, size):
            raise ValueError(f"takes {what} over the axes {axes}: only {size}, H and W, can be had")
        y = net.add(node, make(), x)
        return y if node.get("keepdims", 1) else net.flattened(y)

    return operator


def pad(net, node, x):
    """Zeros around the images. The file has all that is put before, then all that is put after."""
    mode = node.get("mode", "constant")
    pads = node.integers(1, "pads") or node.get("paddings", [])
    value = node.scalar(2) if node.has(2) else node.get("value", 0.0)
    axes = node.integers(3, "axes")
    if mode != "constant" or value != 0:
        raise ValueError(f"pads by {value if mode == 'constant' else mode!r}: only by zeros")
    if x.rank == 2:
        x.image()
    axes = list(range(4)) if axes is None else [n + 4 if n < 0 else n for n in axes]
    check(pads, "pads", 2 * len(axes), 0, LONGEST_SIDE)
    around = dict(zip(axes, zip(pads[: len(axes)], pads[len(axes) :], strict=True), strict=True))
    (top, bottom), (left, right) = (around.pop(n, (0, 0)) for n in x.sides)
    if any(map(any, around.values())):
        raise ValueError(f"has pads of {pads}: only H and W can have some")
    sides = border(x, (top, left, bottom, right))
    return net.add(node, ZeroPad(sides), x) if any(map(any, sides)) else x


POOLS = {
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": global_pool(GlobalAveragePool),
    "GlobalMaxPool": global_pool(GlobalMaxPool),
    "ReduceMean": reduce(GlobalAveragePool, "means"),
    "ReduceMax": reduce(GlobalMaxPool, "maxima"),
}
