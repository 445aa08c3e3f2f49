"""Constants that the file computes from constants: weights that are turned, shapes that are put
together. They are computed here once, so that what uses them finds numbers."""

import math

import numpy as np

from app.formats.onnx.node import Node
from app.formats.onnx.tensors import TYPES, decoded

MOST_NUMBERS = 1000  # of what may grow: shapes have few
MORE, FACTOR = 2**24, 4  # numbers that copies may have, or as many times those in the file


def fold(node: Node) -> bool:
    """Make a constant of what a node gives, if all that it takes are constants.

    What cannot be had is left out: who needs it will complain.
    """
    graph = node.graph
    if node.op not in FOLDED or not all(name in graph.constants for name in node.inputs if name):
        return False
    try:
        sizes = [graph.numbers_in(name) for name in node.inputs if name]
        if node.op in GROWING and sum(sizes) > MOST_NUMBERS:
            return False
        arrays = [graph.array(name) if name else None for name in node.inputs]
    except ValueError as error:
        graph.broken[node.output] = str(error)
        return False
    try:
        with np.errstate(all="ignore"):
            result = np.asarray(FOLDED[node.op](node, *arrays))
    except (ArithmeticError, ValueError, LookupError, TypeError, AttributeError):
        return False  # of numbers that do not go together
    if not (arrays and np.may_share_memory(result, arrays[0])):
        graph.copied += result.size
        if graph.copied > MORE + FACTOR * graph.size:
            return False
    graph.constants[node.output] = result
    if graph.measured.intersection(node.inputs) and (result == 0).any():
        graph.measured.add(node.output)
    if arrays:
        graph.origins[node.output] = graph.origins.get(node.inputs[0], node.inputs[0])
    return True


def reshape(node, a, target=None):
    target = node.integers(1, "shape")
    if not node.get("allowzero", 0):
        target = [a.shape[n] if size == 0 else size for n, size in enumerate(target)]
    return a.reshape(target)


def squeeze(node, a, axes=None):
    axes = node.integers(1, "axes")
    return a.squeeze(None if axes is None else tuple(axes))


def flatten(node, a):
    axis = node.get("axis", 1) % (a.ndim + 1)
    return a.reshape(math.prod(a.shape[:axis]), -1)


def cast(node, a):
    from onnx import TensorProto, helper

    kind = node.get("to", kind=int)
    if kind not in [getattr(TensorProto, name) for name in TYPES]:
        raise ValueError
    return a.astype(helper.tensor_dtype_to_np_dtype(kind), copy=False)


def dequantize(node, a, scale, zero=None):
    """(a - zero) scale, both one number or one for each place along an axis."""
    if node.get("block_size", 0):
        raise ValueError

    def along(numbers):
        shape = [1] * a.ndim
        if numbers.size > 1:
            shape[node.get("axis", 1)] = numbers.size
        return numbers.astype(np.float32).reshape(shape)

    return (a.astype(np.float32) - (0 if zero is None else along(zero))) * along(scale)


def part(node, a, *ends):
    """Slice: starts, ends, axes and steps are inputs, in older files attributes."""
    names = "starts", "ends", "axes", "steps"
    starts, ends, axes, steps = (node.integers(i + 1, name) for i, name in enumerate(names))
    slices = [slice(None)] * a.ndim
    for n, (first, end) in enumerate(zip(starts, ends, strict=True)):
        step = steps[n] if steps else 1
        # backwards, -2^63 or so stands for "to the very first"
        end = None if step < 0 and end < -a.shape[axes[n] if axes else n] else end
        slices[axes[n] if axes else n] = slice(first, end, step)
    return a[tuple(slices)]


def filled(node, shape):
    """ConstantOfShape."""
    if math.prod(shape.tolist()) > MOST_NUMBERS:
        raise ValueError
    value = node.attributes.get("value")
    value = np.float32(0) if value is None else decoded(node.graph.path, value, node.output)
    return np.full(shape, value.ravel()[0] if value.ndim else value)


def elementwise(function):
    """Of numbers of one type, no more than the most that go in, and not of the number of images:
    that is open, and 0 stands for it."""

    def result(node, *arrays):
        size = math.prod(np.broadcast_shapes(*(a.shape for a in arrays)))
        if len({a.dtype for a in arrays}) > 1 or size > max(a.size for a in arrays):
            raise ValueError
        if node.graph.measured.intersection(node.inputs):
            raise ValueError
        return function(*arrays)

    return result


GROWING = {"Concat", "Gather"}
FOLDED = {
    "Identity": lambda node, a: a,
    "Transpose": lambda node, a: a.transpose(node.get("perm", kind=list)),
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": lambda node, a, _=None: np.expand_dims(a, tuple(node.integers(1, "axes"))),
    "Cast": cast,
    "DequantizeLinear": dequantize,
    "Slice": part,
    "Gather": lambda node, a, index: np.take(a, index, node.get("axis", 0)),
    "Concat": lambda node, *parts: np.concatenate(parts, node.get("axis", 0)),
    "Shape": lambda node, a: np.array(a.shape)[
        slice(node.get("start", 0), node.get("end", kind=int))
    ],
    "ConstantOfShape": filled,
    **{
        op: elementwise(function)
        for op, function in {
            "Add": np.add,
            "Sub": np.subtract,
            "Mul": np.multiply,
            "Div": lambda a, b: a / b if a.dtype.kind == "f" else a // b,
            "Neg": np.negative,
            "Sqrt": np.sqrt,
            "Reciprocal": np.reciprocal,
            "Exp": np.exp,
        }.items()
    },
}
