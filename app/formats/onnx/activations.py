"""ReLU and all other activations; see functions.py for those that are several nodes."""

from app.formats.onnx.scaling import per_channel
from nn.activations import (
    ELU,
    GELU,
    Clip,
    HardSwish,
    LeakyReLU,
    PReLU,
    Sigmoid,
    SiLU,
    Softplus,
    Tanh,
    TanhGELU,
)
from nn.fillers import zeros
from nn.relu import ReLU


def without_settings(make):
    return lambda net, node, x: net.add(node, make(), x)


def leaky_relu(net, node, x):
    return net.add(node, LeakyReLU(node.get("alpha", 0.01)), x)


def elu(net, node, x):
    return net.add(node, ELU(node.get("alpha", 1.0)), x)


def prelu(net, node, x):
    a = per_channel(x, node.weights(1))
    if x.flat and not x.single and a.size > 1:
        raise ValueError("has slopes of flattened images: only one for each channel can be had")
    return net.add(node, PReLU(a.size == 1, zeros), x, a=a)


def clip(net, node, x):
    """Its ends are inputs, in older files attributes."""
    low = node.scalar(1) if node.has(1) else node.get("min", -float("inf"), float)
    high = node.scalar(2) if node.has(2) else node.get("max", float("inf"), float)
    return net.add(node, Clip(low, high), x)


def minimum(net, node, *places):
    return net.add(node, Clip(high=other_number(node, places)), *places)


def maximum(net, node, *places):
    return net.add(node, Clip(low=other_number(node, places)), *places)


def other_number(node, places):
    """The constant that Min and Max compare the images with."""
    if len(places) > 1 or len(node.inputs) != 2:
        raise ValueError("compares tensors of images: only one with a number can be had")
    return node.scalar(0 if node.inputs[0] in node.graph.constants else 1)


def gelu(net, node, x):
    approximate = node.get("approximate", "none")
    if approximate not in ("none", "tanh"):
        raise ValueError(f"is approximated by {approximate!r}: only by 'tanh' or 'none'")
    return net.add(node, TanhGELU() if approximate == "tanh" else GELU(), x)


def swish(net, node, x):
    if node.get("alpha", 1.0) != 1:
        raise ValueError(f"has the alpha {node.get('alpha', 1.0)}: only 1 can be had")
    return net.add(node, SiLU(), x)


ACTIVATIONS = {
    "Relu": without_settings(ReLU),
    "LeakyRelu": leaky_relu,
    "PRelu": prelu,
    "Elu": elu,
    "Clip": clip,
    "Min": minimum,
    "Max": maximum,
    "Sigmoid": without_settings(Sigmoid),
    "Tanh": without_settings(Tanh),
    "Softplus": without_settings(Softplus),
    "HardSwish": without_settings(HardSwish),
    "Gelu": gelu,
    "Swish": swish,
}
# What functions.py has found, under names that are no operators of ONNX.
FOUND = {
    "Silu": without_settings(SiLU),
    "TanhGelu": without_settings(TanhGELU),
    "Relu6": without_settings(lambda: Clip(0, 6)),
}
