"""An ONNX file as a list of nodes and their constants. Nothing in the file is run."""

import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from app.files import open_regular
from app.formats.onnx.folding import fold
from app.formats.onnx.functions import with_functions
from app.formats.onnx.lrn import with_lrn
from app.formats.onnx.node import Node, is_standard
from app.formats.onnx.prelu import with_prelu
from app.formats.onnx.tensors import NAMED, decoded, text
from app.formats.reading import reading

LARGEST = 2**31  # bytes: a limit of the format
MOST_NODES = 10_000
VALUES = ("value", "value_float", "value_floats", "value_int", "value_ints")  # of a Constant


def load(path: str | Path) -> Any:
    """The ONNX model in a file, without the weights that it keeps in other files.

    ValueError if it is no sound ONNX file or onnx is not installed; OSError as open() raises it.
    """
    try:
        import onnx
    except ImportError:
        raise ValueError(f"reading {path} needs the package onnx: pip install '.[onnx]'") from None
    with open_regular(path) as file, reading(path, "ONNX"):
        if os.fstat(file.fileno()).st_size > LARGEST:
            raise ValueError("it is larger than 2 GiB")
        model = onnx.load_model_from_string(file.read())
        if not 0 < len(model.graph.node) <= MOST_NODES:
            raise ValueError(
                f"there are {len(model.graph.node):,} nodes in it, not 1 to {MOST_NODES:,}"
            )
    return model


class Graph:
    """The nodes of the file at `path` that its scores need, in the order of computation.

    constants: {name of a tensor: its TensorProto, or an array}; origins: {name of a constant that
    nodes made of another one: the other's name}; image and scores: the names of the tensor that
    goes in and of the first that comes out, as other outputs are those of auxiliary heads; inputs:
    of all that go in; opset: the version of the operators; size: how many numbers there are in the
    constants that were asked for; copied: how many more of them nodes made; takers: how many nodes
    take a tensor; above: the last that does.
    """

    def __init__(self, path: str | Path):
        self.path, self.size, self.copied = path, 0, 0
        model = load(path)
        graph = model.graph
        self.opset = max((o.version for o in model.opset_import if is_standard(o)), default=1)
        self.constants = {text(tensor.name): tensor for tensor in graph.initializer}
        self.origins: dict[str, str] = {}
        self.measured: set[str] = set()  # constants with the number of images
        self.broken: dict[str, str] = {}  # {name of a constant: why it cannot be had}
        if not graph.output:
            raise ValueError(f"{path}: the net has no output")
        self.scores = text(graph.output[0].name)
        self.inputs = {text(i.name) for i in graph.input}
        self.nodes: list[Node] = []
        with reading(path, "ONNX"):
            made = self.inputs | self.constants.keys()
            for proto in graph.node:
                node = Node(proto, self)
                for name in made.intersection(node.outputs):
                    raise ValueError(f"{node} gives what is there already, {name!r}")
                made.update(name for name in node.outputs if name)
                self.take(node)
        self.nodes = with_functions(with_prelu(with_lrn(self.needed()), self), self)
        self.image, self.dims = self.one_input(graph)
        self.takers = self.counted(self.nodes)
        self.above = {name: node for node in self.nodes for name in node.inputs}

    def take(self, node: Node) -> None:
        """Among the nodes, or among the constants."""
        if node.op == "Constant":
            values = [node.attributes[name] for name in VALUES if name in node.attributes]
            self.constants[node.output] = values[0] if values else None
        elif not fold(node):
            self.nodes.append(node)

    def needed(self) -> list[Node]:
        """The nodes that the scores need."""
        needed, found = {self.scores}, []
        for node in reversed(self.nodes):
            if needed.intersection(node.outputs):
                needed.update(node.inputs)
                found.append(node)
        return found[::-1]

    def counted(self, nodes: list[Node]) -> Counter:
        """How many nodes take each tensor; to be the scores counts, too."""
        return Counter([self.scores, *(name for node in nodes for name in node.inputs)])

    def one_input(self, graph: Any) -> tuple[str, list[int]]:
        """(name, dimensions) of the images, where 0 is open."""
        taken = {name for node in self.nodes for name in node.inputs} | {self.scores}
        inputs = [i for i in graph.input if text(i.name) in taken - self.constants.keys()]
        sizes = {
            text(i.name): [max(d.dim_value, 0) for d in i.type.tensor_type.shape.dim]
            for i in inputs
        }
        found = [name for name in sizes if len(sizes[name]) in (0, 4)]
        if not inputs:
            why = f"what comes out, {self.scores[:NAMED]!r}, is not computed from what goes in"
            raise ValueError(f"{self.path}: {why}")
        if len(inputs) == 1:
            found = list(sizes)
        if len(found) != 1:
            names = ", ".join(f"{name[:NAMED]!r}" for name in list(sizes)[:5])
            raise ValueError(
                f"{self.path}: a net of one input, the images, is expected, got {names}: a part of "
                "it that takes images alone would do"
            )
        return found[0], sizes[found[0]]

    def numbers_in(self, name: str) -> int:
        """How many numbers a constant says that it has."""
        constant = self.constants[name]
        return math.prod(constant.dims) if hasattr(constant, "dims") else np.size(constant)

    def array(self, name: str) -> np.ndarray:
        """A constant as an array, of the type that it has in the file; decoded only once."""
        if name not in self.constants:
            raise ValueError(
                self.broken.get(name, f"its input {name!r} is no constant of the file")
            )
        constant = self.constants[name]
        if not isinstance(constant, np.ndarray):
            if hasattr(constant, "data_type"):
                constant = decoded(self.path, constant, name)
            elif np.asarray(constant).dtype.kind not in "if":
                raise ValueError(f"the constant {name!r} has no numbers")
            self.constants[name] = np.asarray(constant)
            self.size += self.constants[name].size
        return self.constants[name]
