"""The order of the axes in an ONNX file, and what its nodes do to shapes alone.

Most files have images (N, C, H, W); those made by Keras take (N, H, W, C), turn them once before
the first convolution, and turn them back to flatten them. Our own layers always have (N, H, W, C):
only which order the file has at a place matters, `channels_last` of the Builder.
"""

import math

import numpy as np

from app.formats.onnx.graph import Graph, Node

# Shape arithmetic: `x.view(x.size(0), -1)` is in the file as these, of small whole numbers.
# They stay flat arrays here, so what changes only the rank changes nothing.
ARITHMETIC = {
    "Gather": lambda numbers, index: numbers[index],
    "Concat": lambda *parts: np.concatenate([np.ravel(part) for part in parts]),
    "Slice": lambda numbers, first, end, axes=None, step=(1,): np.ravel(numbers)[
        first[0] : end[0] : step[0]
    ],
    **dict.fromkeys(
        ("Cast", "Reshape", "Squeeze", "Unsqueeze"), lambda numbers, *_: np.ravel(numbers)
    ),
}
MOST_NUMBERS = 1000  # in shape arithmetic: a shape has few
LARGEST = 2**28  # numbers of an image, or of a layer's output for one
NCHW_TO_NHWC, NHWC_TO_NCHW, AS_IT_IS = [0, 2, 3, 1], [0, 3, 1, 2], [0, 1, 2, 3]


def in_file(shape: tuple, flat: bool, channels_last: bool) -> tuple:
    """Our shape of an image or of flat numbers as the file has it; 0 is the number of images."""
    if flat or len(shape) == 1:
        return 0, math.prod(shape)
    *size, C = shape
    return (0, *size, C) if channels_last else (0, C, *size)


def is_over(axes: list[int], expected: list[int], count: int = 4) -> bool:
    """Whether these axes of `count`, which may be counted from the end, are the expected ones."""
    return sorted(n + count if n < 0 else n for n in axes) == expected


def compute(node: Node, shapes: dict) -> None:
    """Shape arithmetic, beside the chain. Anything else is left out; who needs it will complain.

    shapes: {name of a tensor of the chain: its shape in the file}.
    """
    graph = node.graph
    if node.op == "Shape" and node.has(0) and node.inputs[0] in shapes:
        ends = node.get("start", 0), node.get("end", kind=int)
        graph.constants[node.output] = np.array(shapes[node.inputs[0]][slice(*ends)])
    elif node.op in ARITHMETIC and all(name in graph.constants for name in node.inputs):
        if sum(map(graph.numbers_in, node.inputs)) > MOST_NUMBERS:
            return
        try:
            numbers = [graph.array(name) for name in node.inputs]
            if all(part.dtype.kind == "i" for part in numbers):
                graph.constants[node.output] = np.asarray(ARITHMETIC[node.op](*numbers))
        except (ValueError, LookupError, TypeError):  # of numbers that do not go together
            return


def takes_channels_last(graph: Graph) -> bool:
    """Whether the images that go in are (N, H, W, C): they are turned before the first layer."""
    here, dims = graph.image, graph.dims
    for node in graph.nodes:
        if here not in node.inputs:
            continue
        if node.op == "Transpose" and node.get("perm", kind=list) != AS_IT_IS:
            return node.get("perm", kind=list) == NHWC_TO_NCHW
        if node.op == "Reshape" and len(dims) == 4:  # enough for one channel
            if node.has(1) and node.inputs[1] not in graph.constants:
                return False
            target = node.integers(1, "shape") or []
            return dims[3] == 1 != dims[1] and target[1:] == [1, *dims[1:3]]
        if node.op not in ("Mul", "Add", "Sub", "Div", "Identity", "Transpose"):
            break
        here = node.output
    return False


def transpose(net, node):
    perm = node.get("perm", kind=list)
    turn = NHWC_TO_NCHW if net.channels_last else NCHW_TO_NHWC
    if net.flat or perm not in (turn, AS_IT_IS):
        raise ValueError(f"has the order {perm}: only to put the channels last, and back")
    if perm == turn:
        net.channels_last = not net.channels_last


def flatten(net, node):
    if node.get("axis", 1) not in (1, -1 if net.flat else -3):
        raise ValueError("flattens the images of a batch together")
    net.flatten()


def reshape(net, node):
    D, target = math.prod(net.shape), node.integers(1, "shape") or []
    if node.get("allowzero", 0) and 0 in target:
        raise ValueError(f"reshapes to {target}, no numbers at all")
    images = (0, -1, *node.graph.dims[:1])  # 0: as many as there are
    if len(target) == 4 and not net.flat and target[0] in images:
        *size, C = net.shape
        for last in (net.channels_last, not net.channels_last):
            same_order = last == net.channels_last or C == 1 or size == [1, 1]
            if same_order and tuple(target[1:]) == in_file(net.shape, False, last)[1:]:
                net.channels_last = last
                return
    if len(target) != 2 or target[0] not in images or target == [-1, -1]:
        raise ValueError(f"reshapes to {target}: only (N, D) can be had")
    if target[1] not in (-1, D):
        raise ValueError(
            f"flattens to {target[1]} numbers, but images of {net.shape} have {D}: "
            "is the input shape right?"
        )
    net.flatten()


def squeeze(net, node):
    if net.flat:
        net.image()
    H, W, _ = net.shape
    size = [1, 2] if net.channels_last else [2, 3]
    axes = node.integers(1, "axes")
    if (H, W) != (1, 1) or not is_over(size if axes is None else axes, size):
        raise ValueError(f"takes the axes {axes} from images of {net.shape}: only H and W of 1 x 1")
    net.flatten()
