"""What the nodes of an ONNX file do to the order of the axes, and to shapes alone.

Each takes (net, node, x), x the Place of its images, and returns the Place of what it gives.
"""

import math

from app.formats.onnx.graph import Graph
from app.formats.onnx.place import in_file, is_over

NCHW_TO_NHWC, NHWC_TO_NCHW, AS_IT_IS = [0, 2, 3, 1], [0, 3, 1, 2], [0, 1, 2, 3]


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
        if node.op not in ("Mul", "Add", "Sub", "Div", "Identity", "Cast", "Pad", "Transpose"):
            break
        here = node.output
    return False


def transpose(net, node, x):
    perm = node.get("perm", kind=list)
    turn = NHWC_TO_NCHW if x.channels_last else NCHW_TO_NHWC
    if x.flat or perm not in (turn, AS_IT_IS):
        raise ValueError(f"has the order {perm}: only to put the channels last, and back")
    return x._replace(channels_last=x.channels_last != (perm == turn))


def flat(x):
    return x._replace(flat=True, open=False)


def flatten(net, node, x):
    if node.get("axis", 1) not in (1, 1 - x.rank):
        raise ValueError("flattens the images of a batch together")
    return flat(x)


def reshape(net, node, x):
    D, target = math.prod(x.shape), node.integers(1, "shape") or []
    if node.get("allowzero", 0) and 0 in target:
        raise ValueError(f"reshapes to {target}, no numbers at all")
    images = (0, -1, *node.graph.dims[:1])  # 0: as many as there are
    if len(target) == 4 and x.rank == 4 and target[0] in images:
        *size, C = x.shape
        for last in (x.channels_last, not x.channels_last):
            same_order = last == x.channels_last or C == 1 or size == [1, 1]
            if same_order and tuple(target[1:]) == in_file(x.shape, False, last)[1:]:
                return x._replace(channels_last=last)
    if len(target) != 2 or target[0] not in images or target == [-1, -1]:
        raise ValueError(f"reshapes to {target}: only (N, D) can be had")
    if target[1] not in (-1, D):
        raise ValueError(
            f"flattens to {target[1]} numbers, but images of {x.shape} have {D}: "
            "is the input shape right?"
        )
    return flat(x)


def squeeze(net, node, x):
    if x.rank == 2:
        x.image()
    H, W, _ = x.shape
    axes = node.integers(1, "axes")
    if (H, W) != (1, 1) or not is_over(x.sides if axes is None else axes, x.sides):
        raise ValueError(f"takes the axes {axes} from images of {x.shape}: only H and W of 1 x 1")
    return flat(x)
