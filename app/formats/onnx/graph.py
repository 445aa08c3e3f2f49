"""An ONNX file as a list of nodes and their constants. Nothing in the file is run."""

import math
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

from app.files import open_regular
from app.formats.reading import reading

LARGEST = 2**31  # bytes: a limit of the format
MOST_NODES = 10_000
MOST_AXES = 32
NAMED = 60  # letters of a name that a message repeats
TYPES = ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "BOOL", "INT64", "INT32", "INT16", "INT8")
TYPES += ("UINT64", "UINT32", "UINT16", "UINT8")
VALUES = ("value", "value_float", "value_floats", "value_int", "value_ints")  # of a Constant
KINDS = {int: "a whole number", float: "a finite number", str: "text", list: "whole numbers"}


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
    """The nodes of the file at `path` in the order of computation, apart from the constants.

    constants: {name of a tensor: its TensorProto, or an array}; image and scores: the names of the
    one tensor that goes in and the one that comes out; opset: the version of the operators; size:
    how many numbers there are in the constants that were asked for.
    """

    def __init__(self, path: str | Path):
        self.path, self.size = path, 0
        model = load(path)
        graph = model.graph
        self.opset = max((o.version for o in model.opset_import if is_standard(o)), default=1)
        self.constants = {tensor.name: tensor for tensor in graph.initializer}
        inputs = [i for i in graph.input if i.name not in self.constants]
        if len(inputs) != 1 or len(graph.output) != 1:
            raise ValueError(
                f"{path}: a net of one input and one output is expected, "
                f"got {len(inputs)} and {len(graph.output)}"
            )
        self.image, self.scores = text(inputs[0].name), text(graph.output[0].name)
        dims = inputs[0].type.tensor_type.shape.dim
        self.dims = [max(d.dim_value, 0) for d in dims]  # 0: left open
        self.nodes = []
        with reading(path, "ONNX"):
            made = {self.image, *self.constants}
            for proto in graph.node:
                node = Node(proto, self)
                if made.intersection(map(text, proto.output)):
                    raise ValueError(f"{node} gives what is there already, {node.output!r}")
                made.update(text(name) for name in proto.output if name)
                self.take(node)
            self.nodes = with_lrn(self.nodes)

    def take(self, node: "Node") -> None:
        """Among the nodes, or among the constants."""
        if node.op == "Constant":
            values = [node.attributes[name] for name in VALUES if name in node.attributes]
            self.constants[node.output] = values[0] if values else None
        elif node.op == "Identity" and node.has(0) and node.inputs[0] in self.constants:
            self.constants[node.output] = self.constants[node.inputs[0]]
        else:
            self.nodes.append(node)

    def numbers_in(self, name: str) -> int:
        """How many numbers a constant says that it has."""
        constant = self.constants[name]
        return math.prod(constant.dims) if hasattr(constant, "dims") else np.size(constant)

    def array(self, name: str) -> np.ndarray:
        """A constant as an array, of the type that it has in the file; decoded only once."""
        constant = self.constants[name]
        if not isinstance(constant, np.ndarray):
            if hasattr(constant, "data_type"):
                constant = decoded(self.path, constant, name)
            elif np.asarray(constant).dtype.kind not in "if":
                raise ValueError(f"the constant {name!r} has no numbers")
            self.constants[name] = np.asarray(constant)
            self.size += self.constants[name].size
        return self.constants[name]


def decoded(path: str | Path, tensor: Any, name: str) -> np.ndarray:
    """A TensorProto's numbers. ValueError if they are not as many as its shape says."""
    from onnx import TensorProto, helper, numpy_helper

    def broken(why):
        return ValueError(f"the tensor {name!r} is not sound: {why}")

    shape = tuple(tensor.dims)
    if tensor.data_type not in [getattr(TensorProto, kind) for kind in TYPES]:
        raise broken(f"it has the type {tensor.data_type}, not one of {', '.join(TYPES)}")
    if len(shape) > MOST_AXES or min(shape, default=0) < 0:
        raise broken(f"it has the shape {shape}")
    if tensor.data_location == TensorProto.EXTERNAL:
        size = math.prod(shape) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        try:
            data = bytes_beside(path, tensor, size)
        except (OSError, ValueError) as error:
            why = error
            if isinstance(error, OSError):
                why = f"{error.strerror}: {str(error.filename)[-NAMED:]!r}"
            raise ValueError(f"the tensor {name!r} is kept in another file: {why}") from None
        tensor = TensorProto(data_type=tensor.data_type, dims=shape, raw_data=data)
    try:
        return numpy_helper.to_array(tensor)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001  a library's text would not say more
        raise broken(f"its numbers do not fill {shape}") from None


def bytes_beside(path: str | Path, tensor: Any, size: int) -> bytes:
    """The bytes of a tensor that are not in the model's file, but in another of its folder.

    ValueError if that file, symbolic links followed, is elsewhere, or too short.
    """
    place = {entry.key: text(entry.value) for entry in tensor.external_data}
    name, offset, length = (place.get(key, "") for key in ("location", "offset", "length"))
    if not re.fullmatch(r"\d{0,18}", offset) or length not in ("", str(size)) or "\0" in name:
        raise ValueError(f"{size} bytes are needed, {length[:NAMED]!r} are said to be there")
    folder = os.path.dirname(os.path.abspath(path))
    file_name = os.path.realpath(os.path.join(folder, name))
    homes = os.path.realpath(folder), os.path.dirname(os.path.realpath(path))
    if not file_name.startswith(tuple(os.path.join(home, "") for home in homes)):
        raise ValueError(f"{name[:NAMED]!r} is outside the folder of {path}")
    with open_regular(file_name) as file:
        begin, present = int(offset or 0), os.fstat(file.fileno()).st_size
        if begin + size > present:
            raise ValueError(f"{name[:NAMED]!r} has {present} bytes, not {begin} + {size}")
        file.seek(begin)
        return file.read(size)


def is_standard(thing: Any) -> bool:
    return thing.domain in ("", "ai.onnx")


class Node:
    """One operator: op, name, inputs, output, attributes, and the constants among its inputs.

    What is asked for and is not there, or of another type, is a ValueError.
    """

    def __init__(self, proto: Any, graph: Graph):
        domain = "" if is_standard(proto) else f"{text(proto.domain)}."
        self.op = domain + text(proto.op_type)
        if not proto.output:
            raise ValueError(f"a node {self.op[:NAMED]!r} has no output")
        self.inputs, self.output = list(map(text, proto.input)), text(proto.output[0])
        self.name = text(proto.name) or self.output
        self.scopes = {p.key: text(p.value) for p in proto.metadata_props}
        self.attributes = {a.name: value_of(a) for a in proto.attribute}
        self.graph = graph

    def __str__(self) -> str:
        return f"{self.op[:NAMED]} {self.name[:NAMED]!r}"

    def get(self, attribute: str, default: Any = None, kind: type | None = None) -> Any:
        """An attribute, of the default's type or of `kind`; without it the default."""
        if attribute not in self.attributes:
            return default
        value, kind = self.attributes[attribute], kind or type(default)
        value = text(value)
        fits = {
            int: type(value) is int,
            float: isinstance(value, int | float) and math.isfinite(value),
            str: isinstance(value, str),
            list: isinstance(value, list) and all(type(part) is int for part in value),
        }
        if not fits[kind]:
            raise ValueError(f"has an attribute {attribute} that is not {KINDS[kind]}")
        return value

    def has(self, place: int) -> bool:
        """Whether there is an input at this place: optional ones may be left out or empty."""
        return len(self.inputs) > place and self.inputs[place] != ""

    def constant(self, place: int) -> np.ndarray:
        """The constant at this place."""
        if not self.has(place):
            raise ValueError(f"has no input at place {place + 1}")
        if self.inputs[place] not in self.graph.constants:
            raise ValueError(f"its input {self.inputs[place]!r} is no constant of the file")
        return self.graph.array(self.inputs[place])

    def integers(self, place: int, attribute: str) -> list[int] | None:
        """Axes or a shape: an input in newer files, an attribute in older ones; or None."""
        if not self.has(place):
            return self.get(attribute, kind=list)
        array = self.constant(place)
        if array.dtype.kind not in "iu" or array.size > MOST_AXES:
            raise ValueError(f"its input {self.inputs[place]!r} is not made of a few whole numbers")
        return [int(n) for n in np.ravel(array)]

    def weights(self, place: int) -> np.ndarray:
        """The constant at this place in float32, if it is made of finite real numbers."""
        array, name = self.constant(place), self.inputs[place]
        if array.dtype.kind in "iub":
            raise ValueError(f"{name!r} is made of whole numbers, not of real ones")
        with np.errstate(over="ignore"):
            array = array.astype(np.float32, copy=False)  # bfloat16's kind is not "f"
        if not np.isfinite(array).all():
            raise ValueError(f"{name!r} is not made of finite numbers")
        return array

    def scalar(self, place: int) -> float:
        """The one number at this place."""
        array = self.weights(place)
        if array.size != 1:
            raise ValueError(f"{self.inputs[place]!r} is {array.shape}, expected one number")
        return array.item()

    def label(self) -> str:
        """What a user would call it: the path of the module, or else the node's own name.

        'features.0' by the weight 'features.0.weight' or by the scope '/features/features.0/Conv'.
        """
        for name in self.inputs[1:]:
            if name in self.graph.constants and name.endswith(".weight"):
                return clean(name.removesuffix(".weight"))
        modules = re.findall("'([^']*)'", self.scopes.get("pkg.torch.onnx.name_scopes", ""))
        if len(modules) > 1 and modules[-2]:  # the last is the operator
            return clean(modules[-2])
        *scopes, last = self.name.removeprefix("node_").strip("/").split("/")
        path = []
        for scope in scopes:
            if path and scope.startswith(f"{path[-1]}."):
                path.pop()  # 'features.0' says it again
            path.append(scope)
        if not path or not re.fullmatch(r"[A-Z]\w*", last):
            path.append(last)
        return clean(".".join(path)) or self.op


def text(value: Any) -> Any:
    """Bytes as text, anything else as it is: protobuf gives text that is not UTF-8 as bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def value_of(attribute: Any) -> Any:
    """An attribute's value, or None if it has none."""
    from onnx.helper import get_attribute_value

    try:
        return get_attribute_value(attribute)
    except ValueError:  # of a type that is not known
        return None


def clean(name: str) -> str:
    return re.sub(r"[^\w.-]+", ".", name[:200]).strip(".")


# PyTorch writes x / (k + alpha * mean of x^2 over channels)^beta instead of LRN. This is the way
# back from the division to x * x, by the first input of each node, as its two exporters write it.
LRN_TAILS = (
    ["Div", "Pow", "Add", "Mul", "Squeeze", "AveragePool", "Pad", "Reshape", "Mul"],
    [
        "Div",
        "Pow",
        "Add",
        "Mul",
        "Reshape",
        "If",
        "Equal",
        "Gather",
        "Shape",
        "AveragePool",
        "Pad",
        "Reshape",
        "Mul",
    ],
)


def with_lrn(nodes: list[Node]) -> list[Node]:
    """The nodes, with one LRN in place of each group that computes it."""
    makers = {node.output: node for node in nodes}
    spent = set()
    for div in [node for node in nodes if node.op == "Div"]:
        tail = [div]
        while len(tail) < len(LRN_TAILS[-1]) and [n.op for n in tail] not in LRN_TAILS:
            before = div.inputs[-1:] if tail[-1] is div else tail[-1].inputs[:1]
            if not before or before[0] not in makers:
                break
            tail.append(makers[before[0]])
        if [n.op for n in tail] not in LRN_TAILS or tail[-1].inputs != 2 * div.inputs[:1]:
            continue
        kernel = next(n for n in tail if n.op == "AveragePool").get("kernel_shape", [])
        if kernel[1:] != [1, 1]:
            continue
        numbers = (tail[place].inputs[-1] for place in (3, 1, 2))  # alpha, beta, k
        div.op, div.inputs = "LRN", [div.inputs[0], *numbers]
        div.attributes = {"size": kernel[0]}
        spent.update(n.output for n in tail[1:])
    return [node for node in nodes if node.output not in spent]
