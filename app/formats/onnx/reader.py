"""Nets from ONNX files: a chain of convolutions, pools and matrix products, and its weights."""

import math
from pathlib import Path

import numpy as np

from app.formats.onnx.graph import Graph, Node
from app.formats.onnx.operators import OPERATORS
from app.formats.onnx.shapes import LARGEST, compute, in_file, takes_channels_last
from app.formats.reading import one_line
from app.formats.torchvision import channels_last_rows
from nn.conv import Conv
from nn.fillers import zeros
from nn.flatten import Flatten
from nn.linear import Linear

USUAL = (224, 224, 3)
MOST_CHANNELS = 2**16  # of the images that go in
MORE, FACTOR = 2**24, 4  # numbers of weights, or as many times those that the file has


def is_onnx(path: str | Path) -> bool:
    return str(path).lower().endswith(".onnx")


def read_onnx(
    source: str | Path | Graph, input_shape: tuple | None = None
) -> tuple[list, dict[str, np.ndarray], tuple]:
    """(layers, arrays, input_shape) of the net in an ONNX file, or in its Graph.

    The file must hold a chain of layers for images (N, C, H, W), or (N, H, W, C) if it turns them
    itself. What it leaves open of their size is input_shape's, (H, W, C), where 0 stands for
    ImageNet's usual 224 x 224 x 3. A last softmax is left out: what comes out are the scores
    before it. Weights are turned to (KH, KW, C, F) and (D, F), batch normalisation becomes part of
    the layer before it. ValueError names the first operator that cannot be had, and why.
    """
    graph = source if isinstance(source, Graph) else Graph(source)
    try:
        input_shape = image_shape(graph, input_shape)
        return *chain(graph, input_shape), input_shape
    except ValueError as error:
        raise ValueError(f"{graph.path}: {one_line(error)}") from None


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
def chain(graph: Graph, input_shape: tuple) -> tuple[list, dict[str, np.ndarray]]:
    """(layers, arrays) of a graph for images of this shape."""
    net = Builder(input_shape, takes_channels_last(graph))
    here = graph.image  # the tensor that the chain has reached
    shapes = {here: net.shape_in_file()}  # of this one and those before it
    for node in graph.nodes:
        try:
            if here in node.inputs and node.op != "Shape":
                follow(net, node, here, shapes)
                here = node.output
                shapes[here] = net.shape_in_file()
            elif shapes.keys() & node.inputs and node.op != "Shape":
                raise ValueError("takes what another node has taken too: no chain, but branches")
            else:
                compute(node, shapes)
        except ValueError as error:
            raise ValueError(f"{node}: {error}") from None
        except (ArithmeticError, LookupError, TypeError, AttributeError):
            raise ValueError(f"{node}: is malformed") from None
    if here != graph.scores:
        raise ValueError(f"the chain ends with {here!r}, the net with {graph.scores!r}")
    if not net.layers:
        raise ValueError("there are no layers in it")
    if net.waiting is not None:
        raise ValueError(f"{net.waiting[0]}: no Gemm follows that it could be part of")
    if len(net.shape) == 3:
        if net.shape[:2] == (1, 1):  # scores of a global average, or of a convolution
            net.layers.append(("flatten", Flatten()))
        elif net.flat:
            raise ValueError(f"ends with flattened images of {net.shape}, not with scores")
    return net.layers, net.arrays


def follow(net: "Builder", node: Node, here: str, shapes: dict) -> None:
    """Take one node of the chain into the net."""
    others = [name for name in node.inputs if name not in (here, "")]
    if node.inputs.count(here) > 1 or any(name in shapes for name in others):
        raise ValueError("joins two tensors of images: no chain, but branches")
    if node.op not in OPERATORS:
        raise ValueError("only these can be imported: " + ", ".join(OPERATORS))
    unknown = [name for name in others if name not in node.graph.constants]
    if unknown:
        raise ValueError(f"its input {unknown[0]!r} is no constant of the file")
    if net.softmax is not None:
        raise ValueError(f"comes after {net.softmax}, which can only be left out at the end")
    if node.inputs[0] != here and node.op not in ("Add", "Sub", "Mul", "Div"):
        place = node.inputs.index(here) + 1
        raise ValueError(f"takes the images as input {place}, not as its first")
    OPERATORS[node.op](net, node)


class Builder:
    """A net as it grows. layers: pairs (name, layer); arrays: {"conv1.w": array, ...}.

    shape: what our last layer gives; flat: whether that is (N, D) in the file where shape is still
    (H, W, C): our Linear flattens by itself. channels_last: whether the file's images, or those
    that it has flattened, are (N, H, W, C) at this place and not (N, C, H, W).
    """

    def __init__(self, input_shape, channels_last):
        self.layers, self.arrays, self.size = [], {}, 0  # size: of all arrays together
        self.names = {"image": 1}  # {name: how many have it}; "image" is what goes in
        self.shape, self.flat, self.channels_last = input_shape, False, channels_last
        self.open = None  # the name of a Conv or Linear, while nothing has come after it
        self.waiting = None  # (node, scale, shift) of flat numbers, for the Linear that follows
        self.softmax = None  # the node at the end that is left out

    def add(self, node, layer, **params):
        if self.waiting is not None:
            raise ValueError(f"comes after {self.waiting[0]}, which could only be part of a Gemm")
        self.shape = layer.output_shape(self.shape)
        self.size += sum(array.size for array in params.values())
        if math.prod(self.shape) > LARGEST or self.size > MORE + FACTOR * node.graph.size:
            raise ValueError(f"gives images of {self.shape}: these, or the weights, are too large")
        label = name = node.label()
        while name in self.names:
            self.names[label] += 1
            name = f"{label}_{self.names[label]}"
        self.names[name] = 1
        self.layers.append((name, layer))
        self.arrays.update({f"{name}.{key}": array for key, array in params.items()})
        self.open = name if params else None

    @property
    def channels(self):
        """How many numbers a pixel has, or how many flat numbers there are."""
        return math.prod(self.shape) if self.flat else self.shape[-1]

    @property
    def axis(self):
        """Which axis of the file's tensor has the channels, or the flat numbers."""
        return 3 if self.channels_last and not self.flat else 1

    def shape_in_file(self):
        """Of the tensor that the chain has reached."""
        return in_file(self.shape, self.flat, self.channels_last)

    def image(self):
        """(H, W, C) of what comes in. ValueError if that is flat, or not (N, C, H, W)."""
        if self.flat:
            raise ValueError("needs images, but they were flattened before")
        if self.channels_last:
            raise ValueError("needs images (N, C, H, W), but here they are (N, H, W, C)")
        return self.shape

    def flatten(self):
        self.flat, self.open = True, None

    def scale(self, node, scale, shift):
        """y = scale x + shift for each channel (or each flat number), folded in where it can be.

        Into the Conv or Linear just before; or else it is a convolution of its own of 1 x 1 pixel
        for each channel, as zero padding may follow, or for flat numbers part of the next Linear.
        """
        scale, shift = (np.asarray(a, np.float32) for a in (scale, shift))
        if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
            raise ValueError("scales by numbers that are not finite")
        if self.open:
            w, b = f"{self.open}.w", f"{self.open}.b"
            if (scale != 1).any():
                self.arrays[w] = self.arrays[w] * scale
            self.arrays[b] = self.arrays[b] * scale + shift
        elif self.flat:
            _, before, offset = self.waiting or (node, np.float32(1), np.float32(0))
            self.waiting = node, before * scale, offset * scale + shift
        else:
            C = len(scale)
            layer = Conv(C, 1, groups=C, filler=zeros)
            self.add(node, layer, w=scale.reshape(1, 1, 1, C), b=shift)

    def linear(self, node, w, b):
        """w (D, F) with rows in the order of the file, b (F,)."""
        D = math.prod(self.shape)
        if not self.flat:
            raise ValueError(f"needs flat numbers, but here are images of {self.shape}")
        if w.ndim != 2 or len(w) != D:
            raise ValueError(
                f"has weights of {w.shape} for what should be {D} numbers, images of {self.shape} "
                "flattened: is the input shape right?"
            )
        if self.waiting is not None:
            _, scale, shift = self.waiting
            w, b = np.broadcast_to(scale, D)[:, None] * w, b + np.broadcast_to(shift, D) @ w
            self.waiting = None
        if len(self.shape) == 3 and not self.channels_last:
            w = channels_last_rows(w, self.shape)
        self.add(node, Linear(w.shape[1], filler=zeros), w=w, b=b)
