"""What multiplies and adds: matrices, and numbers of each channel that become part of a layer."""

import numpy as np

from app.formats.onnx.joins import add_up
from app.formats.onnx.sliding import bias


def gemm(net, node, x):
    if node.get("transA", 0):
        raise ValueError("has transA, which takes the images for the columns")
    w = node.weights(1)
    w = w.T if node.get("transB", 0) else w
    F = w.shape[-1] if w.ndim else 0
    alpha, beta = np.float32(node.get("alpha", 1.0)), np.float32(node.get("beta", 1.0))
    return net.linear(node, x, w if alpha == 1 else alpha * w, beta * bias(node, F))


def matmul(net, node, x):
    w = node.weights(1)
    return net.linear(node, x, w, np.zeros(w.shape[-1:], np.float32))


def batch_normalization(net, node, x):
    """y = gamma (x - mean) / sqrt(var + epsilon) + beta."""
    if trains(node):
        raise ValueError("is in training mode: export the net in evaluation mode")
    if not node.get("spatial", 1):
        raise ValueError("has numbers of each pixel: only of each channel can be had")
    if x.axis != 1:
        raise ValueError("takes the channels from axis 1, but here they are last")
    gamma, beta, mean, var = (node.weights(i).astype(np.float64) for i in range(1, 5))
    for numbers in (gamma, beta, mean, var):
        if numbers.shape != (x.channels,):
            raise ValueError(f"has {numbers.shape} numbers for {x.channels} channels")
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = gamma / np.sqrt(var + node.get("epsilon", 1e-5))
        return net.scale(node, x, scale, beta - mean * scale)


def trains(node):
    """Whether it normalises by the batch: each version of the operator says it in its own way."""
    if node.graph.opset >= 14:
        return bool(node.get("training_mode", 0))
    if node.graph.opset < 7 and not node.get("is_test", 0):
        return True
    return any(node.outputs[1:])


def per_channel(x, c):
    """A constant that is one number, or one for each channel: as (1,) or (C,)."""
    shape = (1,) * (x.rank - c.ndim) + c.shape
    if len(shape) > x.rank or (c.size != 1 and not c.size == x.channels == shape[x.axis]):
        raise ValueError(f"has numbers of {c.shape}: only one for each channel can be had")
    return c.ravel()


def arithmetic(net, node, *places):
    """Add (or Sum), Sub, Mul or Div of the images and a constant, or the sum of images."""
    if node.op == "Sum" and len(node.inputs) == 1:
        return places[0]
    if len(places) > 1:
        if len(places) < len(node.inputs):
            raise ValueError("adds a constant to several tensors: only to one")
        if node.op not in ("Add", "Sum"):
            what = {"Sub": "subtracts", "Mul": "multiplies", "Div": "divides"}[node.op]
            raise ValueError(f"{what} two tensors of images, which can only be added")
        return add_up(net, node, *places)
    (x,) = places
    if len(node.inputs) != 2:
        raise ValueError(f"has {len(node.inputs)} inputs: only two can be had")
    place = 0 if node.inputs[0] in node.graph.constants else 1
    c = per_channel(x, node.weights(place))
    if node.op == "Div" and place == 0:
        raise ValueError("divides by the images")
    if not x.flat:
        c = np.broadcast_to(c, x.channels)
    one, zero = np.ones_like(c), np.zeros_like(c)
    with np.errstate(divide="ignore", over="ignore"):
        scale, shift = {
            "Add": lambda: (one, c),
            "Sum": lambda: (one, c),
            "Sub": lambda: (one, -c) if place else (-one, c),
            "Mul": lambda: (c, zero),
            "Div": lambda: (1 / c, zero),
        }[node.op]()
    return net.scale(node, x, scale, shift)
