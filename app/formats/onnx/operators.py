"""What each ONNX operator becomes: one of our layers, a change of the layer below, or nothing.

Each takes (net, node): the Builder of reader.py and the Node of graph.py. ValueErrors say why
something cannot be had; the caller adds which node it was.
"""

import numpy as np

from app.formats.onnx.shapes import LARGEST, flatten, is_over, reshape, squeeze, transpose
from nn.average_pool import AveragePool
from nn.conv import Conv
from nn.dropout import Dropout
from nn.fillers import zeros
from nn.global_pool import GlobalAveragePool
from nn.lrn import LRN
from nn.pool import MaxPool
from nn.relu import ReLU

LONGEST_SIDE = 1024  # of a window


def conv(net, node):
    w = node.weights(1)
    C, groups = net.image()[-1], node.get("group", 1)
    if w.ndim != 4 or w.shape[1] * groups != C or not w.size:
        raise ValueError(f"has weights of {w.shape} in {groups} groups for {C} channels")
    kernel, stride, pad, _ = windows(net, node, list(w.shape[2:]))
    layer = Conv(len(w), kernel, stride, pad, groups, filler=zeros)
    net.add(node, layer, w=w.transpose(2, 3, 1, 0), b=bias(node, len(w)))


def bias(node, F):
    """What is added to F sums: the third input, one number or F of them, or nothing."""
    if not node.has(2):
        return np.zeros(F, np.float32)
    b = node.weights(2)
    if b.shape not in ((), (1,), (F,), (1, 1), (1, F)):
        raise ValueError(f"has a bias of {b.shape}, expected ({F},)")
    return np.array(np.broadcast_to(b.ravel(), F))


def windows(net, node, kernel):
    """(kernel, stride, pad, ceil) from a node's attributes, as our layers take them."""
    H, W, C = net.image()
    if len(kernel) != 2:
        raise ValueError(f"has windows of {len(kernel)} dimensions, not 2")
    if set(node.get("dilations", [1])) != {1}:
        raise ValueError("is dilated")
    stride, pads = node.get("strides", [1, 1]), node.get("pads", [0] * 4)
    auto, ceil = node.get("auto_pad", "NOTSET"), bool(node.get("ceil_mode", 0))
    for what, numbers, count, low, high in (
        ("windows", kernel, 2, 1, LONGEST_SIDE),
        ("strides", stride, 2, 1, 2**31),
        ("pads", pads, 4, 0, LONGEST_SIDE),
    ):
        if len(numbers) != count or not all(low <= n <= high for n in numbers):
            raise ValueError(f"has {what} of {numbers}, not {count} numbers from {low} to {high}")
    top, left, bottom, right = pads
    if (H + top + bottom) * (W + left + right) * C > LARGEST:
        raise ValueError(f"has pads of {pads}, which make the image too large")
    pad = (top, bottom), (left, right)
    if auto == "VALID":
        pad = 0
    elif auto in ("SAME_UPPER", "SAME_LOWER"):
        pad, ceil = tuple(map(same_pad, (H, W), kernel, stride, [auto] * 2)), False
    elif auto != "NOTSET":
        raise ValueError(f"has the unknown auto_pad {auto!r}")
    return tuple(kernel), tuple(stride), pad, ceil


def same_pad(size, kernel, stride, auto):
    """(before, after) so that there are ceil(size / stride) windows; UPPER: an odd one after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    less, more = total // 2, total - total // 2
    return (less, more) if auto == "SAME_UPPER" else (more, less)


def max_pool(net, node):
    net.add(node, MaxPool(*windows(net, node, node.get("kernel_shape", []))))


def average_pool(net, node):
    geometry = windows(net, node, node.get("kernel_shape", []))
    net.add(node, AveragePool(*geometry, bool(node.get("count_include_pad", 0))))


def global_average_pool(net, node):
    net.image()
    net.add(node, GlobalAveragePool())


def reduce_mean(net, node):
    axes, size = node.integers(1, "axes") or [], [1, 2] if net.channels_last else [2, 3]
    if net.flat or not is_over(axes, size):
        raise ValueError(f"takes means over the axes {axes}: only {size}, H and W, can be had")
    net.add(node, GlobalAveragePool())
    if not node.get("keepdims", 1):
        net.flatten()


def lrn(net, node):
    net.image()
    if node.has(1):  # as PyTorch writes it, see with_lrn
        alpha, beta, k = (node.scalar(place) for place in (1, 2, 3))
    else:
        alpha, beta, k = node.get("alpha", 1e-4), node.get("beta", 0.75), node.get("bias", 1.0)
    net.add(node, LRN(node.get("size", 0), alpha, beta, k))


def dropout(net, node):
    net.add(node, Dropout(node.scalar(1) if node.has(1) else node.get("ratio", 0.5)))


def gemm(net, node):
    if node.get("transA", 0):
        raise ValueError("has transA, which takes the images for the columns")
    w = node.weights(1)
    w = w.T if node.get("transB", 0) else w
    F = w.shape[-1] if w.ndim else 0
    alpha, beta = np.float32(node.get("alpha", 1.0)), np.float32(node.get("beta", 1.0))
    net.linear(node, w if alpha == 1 else alpha * w, beta * bias(node, F))


def matmul(net, node):
    w = node.weights(1)
    net.linear(node, w, np.zeros(w.shape[-1:], np.float32))


def batch_normalization(net, node):
    """y = gamma (x - mean) / sqrt(var + epsilon) + beta."""
    if node.get("training_mode", 0):
        raise ValueError("is in training mode: export the net in evaluation mode")
    if net.axis != 1:
        raise ValueError("takes the channels from axis 1, but here they are last")
    gamma, beta, mean, var = (node.weights(i).astype(np.float64) for i in range(1, 5))
    for numbers in (gamma, beta, mean, var):
        if numbers.shape != (net.channels,):
            raise ValueError(f"has {numbers.shape} numbers for {net.channels} channels")
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = gamma / np.sqrt(var + node.get("epsilon", 1e-5))
        net.scale(node, scale, beta - mean * scale)


def arithmetic(net, node):
    """Add, Sub, Mul or Div of the images and a constant: one number, or one for each channel."""
    place = 0 if node.inputs[0] in node.graph.constants else 1
    c, axes = node.weights(place), 2 if net.flat else 4
    shape = (1,) * (axes - c.ndim) + c.shape
    if len(shape) > axes or (c.size != 1 and not c.size == net.channels == shape[net.axis]):
        raise ValueError(f"has numbers of {c.shape}: only one for each channel can be had")
    if node.op == "Div" and place == 0:
        raise ValueError("divides by the images")
    c = c.ravel()
    if not net.flat:
        c = np.broadcast_to(c, net.channels)
    one, zero = np.ones_like(c), np.zeros_like(c)
    with np.errstate(divide="ignore", over="ignore"):
        scale, shift = {
            "Add": lambda: (one, c),
            "Sub": lambda: (one, -c) if place else (-one, c),
            "Mul": lambda: (c, zero),
            "Div": lambda: (1 / c, zero),
        }[node.op]()
    net.scale(node, scale, shift)


def softmax(net, node):
    axis = node.get("axis", 1 if node.graph.opset < 13 else -1)
    if not is_over([axis], [net.axis], 2 if net.flat else 4):
        raise ValueError(f"is over the axis {axis}, which is not that of the classes")
    net.softmax = node


OPERATORS = {
    "Conv": conv,
    "Relu": lambda net, node: net.add(node, ReLU()),
    "MaxPool": max_pool,
    "AveragePool": average_pool,
    "GlobalAveragePool": global_average_pool,
    "ReduceMean": reduce_mean,
    "LRN": lrn,
    "Flatten": flatten,
    "Reshape": reshape,
    "Squeeze": squeeze,
    "Transpose": transpose,
    "Gemm": gemm,
    "MatMul": matmul,
    "Dropout": dropout,
    "BatchNormalization": batch_normalization,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), arithmetic),
    **dict.fromkeys(("Softmax", "LogSoftmax"), softmax),
    "Identity": lambda net, node: None,
}
