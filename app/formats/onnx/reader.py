"""Nets from ONNX files: convolutions, pools, activations and matrix products, and their weights."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from app.formats.onnx.axes import takes_channels_last
from app.formats.onnx.builder import Builder
from app.formats.onnx.folding import fold
from app.formats.onnx.graph import Graph
from app.formats.onnx.node import Node
from app.formats.onnx.operators import JOINS, LAST, REFUSED, SHAPING, operator
from app.formats.onnx.place import LARGEST, Place
from app.formats.reading import one_line
from nn.network import IMAGE

USUAL = (224, 224, 3)
MOST_CHANNELS = 2**16  # of the images that go in


def is_onnx(path: str | Path) -> bool:
    return str(path).lower().endswith(".onnx")


class Part(NamedTuple):
    """The layers of a net, as far as they can be had.

    layers: as Network takes them; arrays: {"conv1.w": array, ...}; input_shape: (H, W, C) of the
    images; stopped: the first operator that cannot be had, and why; None if the net is whole.
    """

    layers: list
    arrays: dict[str, np.ndarray]
    input_shape: tuple
    stopped: str | None


def read_onnx(
    source: str | Path | Graph, input_shape: tuple | None = None
) -> tuple[list, dict[str, np.ndarray], tuple]:
    """(layers, arrays, input_shape) of a net that is whole: see read_part."""
    part = read_part(source, input_shape)
    if part.stopped:
        raise ValueError(part.stopped)
    return part[:3]


def read_part(source: str | Path | Graph, input_shape: tuple | None = None) -> Part:
    """The net in an ONNX file, or in its Graph, up to where it cannot be had.

    It is for images (N, C, H, W), or (N, H, W, C) if it turns them itself. What the file leaves
    open of their size is input_shape's, (H, W, C), where 0 stands for ImageNet's usual 224 x 224 x
    3. What comes after the scores (a softmax, say) is left out. Weights are turned to (KH, KW, C,
    F) and (D, F), batch normalisation becomes part of the layer before it, where nothing else
    takes what that layer gives. ValueError if there is not one layer to be had.
    """
    graph = source if isinstance(source, Graph) else Graph(source)
    try:
        input_shape = image_shape(graph, input_shape)
        net, stopped = walk(graph, input_shape)
        if not net.layers:
            raise ValueError(stopped)
    except ValueError as error:
        raise ValueError(f"{graph.path}: {one_line(error)}") from None
    stopped = stopped and f"{graph.path}: {one_line(stopped)}"
    return Part(net.layers, net.arrays, input_shape, stopped)


def onnx_input_shape(source: str | Path | Graph) -> tuple:
    """(H, W, C) of the images that the net in an ONNX file takes, the usual where it is open."""
    graph = source if isinstance(source, Graph) else Graph(source)
    try:
        return image_shape(graph, None)
    except ValueError as error:
        raise ValueError(f"{graph.path}: {one_line(error)}") from None


def image_shape(graph: Graph, input_shape: tuple | None) -> tuple:
    """(H, W, C) of the images: what is given, what the file says, the usual; 0 is open."""
    dims = graph.dims
    if len(dims) not in (0, 4):
        raise ValueError(f"a net for images (N, C, H, W) is expected, got {dims}")
    C, H, W = dims[1:] or (0, 0, 0)
    if takes_channels_last(graph):
        H, W, C = C, H, W
    places = list(zip(input_shape or (0, 0, 0), (H, W, C), USUAL, strict=True))
    if any(ours and theirs and ours != theirs for ours, theirs, _ in places):
        raise ValueError(
            f"it is for images of (H, W, C) = {(H, W, C)}, not {tuple(input_shape)}; 0 is open"
        )
    shape = tuple(ours or theirs or usual for ours, theirs, usual in places)
    if math.prod(shape) > LARGEST or shape[2] > MOST_CHANNELS:
        raise ValueError(f"it is for images of (H, W, C) = {shape}, which are too large")
    return shape


@np.errstate(over="ignore", invalid="ignore")  # whoever takes the weights looks for such numbers
def walk(graph: Graph, input_shape: tuple) -> tuple[Builder, str | None]:
    """The net of a graph for images of this shape, and what stops the rest of it.

    A node above one that cannot be had is left out, too; branches beside it are not.
    """
    net, tail, stopped = Builder(), after_the_scores(graph), None
    image = Place(IMAGE, input_shape, channels_last=takes_channels_last(graph))
    places: dict[str, Place | None] = {graph.image: image}  # None: cannot be had
    for node in graph.nodes:
        problem = None
        try:
            if any(places.get(name, image) is None for name in node.inputs):
                places[node.output] = None
            elif not places.keys() & node.inputs:
                fold(node)  # or leave it out: who needs it will complain
            elif node.op == "Shape":
                ends = node.get("start", 0), node.get("end", kind=int)
                shape = places[node.inputs[0]].in_file()
                graph.constants[node.output] = np.array(shape[slice(*ends)])
                graph.measured.add(node.output)
            else:
                place = follow(net, node, places, tail)
                taken_once = graph.takers[node.output] == 1
                places[node.output] = place._replace(open=place.open and taken_once)
        except ValueError as error:
            problem = str(error)
        except (ArithmeticError, LookupError, TypeError, AttributeError):
            problem = "is malformed"
        if problem:
            places[node.output] = None
            stopped = stopped or f"{node}: {problem}"
    if stopped:
        return net, stopped
    try:
        if graph.scores not in places:
            raise ValueError(f"what comes out, {graph.scores!r}, is not computed from the images")
        net.end(places[graph.scores])
    except ValueError as error:
        stopped = str(error)
    return net, stopped


def after_the_scores(graph: Graph) -> set[str]:
    """What the nodes at the end give that may be left out: softmax, a change of shape."""
    makers = {node.output: node for node in graph.nodes}
    found: set[str] = set()
    node = makers.get(graph.scores)
    while node is not None and node.op in LAST.keys() | SHAPING and node.has(0):
        if node.output in found:  # a circle: no sound file has one
            break
        found.add(node.output)
        node = makers.get(node.inputs[0])
    return found


def follow(net: Builder, node: Node, places: dict, tail: set) -> Place:
    """Take one node into the net: the Place of what it gives."""
    graph = node.graph
    found = [places[name] for name in node.inputs if name in places]
    if node.output in tail and node.op in LAST and node.inputs[0] in places:
        return LAST[node.op](net, node, found[0])
    function = operator(node.op)
    if len(found) > 1 and node.op not in JOINS:
        raise ValueError("joins two tensors of images")
    for name in node.inputs:
        if name and name not in places and name not in graph.constants:
            why = f"its input {name!r} is no constant of the file"
            if name in graph.inputs:
                why = f"takes {name!r}, a second input of the net: only images can go in"
            raise ValueError(graph.broken.get(name, why))
    if node.inputs[0] not in places and node.op not in JOINS:
        place = next(n for n, name in enumerate(node.inputs) if name in places)
        raise ValueError(f"takes the images as input {place + 1}, not as its first")
    try:
        return function(net, node, *found)
    except ValueError:
        if node.output in tail and node.op in SHAPING and found[0].single:
            return found[0]  # the scores in another shape
        above = graph.above.get(node.output)
        if node.op in SHAPING and above is not None and above.op in REFUSED:
            raise ValueError(f"leads to {above}, which {REFUSED[above.op]}") from None
        raise
