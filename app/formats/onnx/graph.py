"""An ONNX file as a list of nodes and their constants. Nothing in the file is run."""

import os
import re

import numpy as np


def load(path):
    """The ONNX model in a file, with the weights of a data file beside it.

    ValueError if it is no sound ONNX file or onnx is not installed; OSError as open() raises it.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise ValueError(f"reading {path} needs the package onnx: pip install '.[onnx]'") from None
    try:
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except DecodeError as error:
        raise ValueError(f"{path} is not a sound ONNX file: {one_line(error)}") from None
    if not model.graph.node:
        raise ValueError(f"{path} is not a sound ONNX file: there is no graph in it")
    folder = os.path.dirname(os.path.abspath(path))
    try:
        onnx.external_data_helper.load_external_data_for_model(model, folder)
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ValueError(
            f"{path} keeps its weights in another file, which cannot be read: {one_line(error)}"
        ) from None
    return model


def one_line(error):
    return " ".join(str(error).split())


class Graph:
    """The nodes of the file at `path` in the order of computation, apart from the constants.

    constants: {name of a tensor: its TensorProto, or an array}; image and scores: the names of the
    one tensor that goes in and the one that comes out; opset: the version of the operators.
    """

    def __init__(self, path):
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
        self.image, self.scores = inputs[0].name, graph.output[0].name
        dims = inputs[0].type.tensor_type.shape.dim
        self.dims = [max(d.dim_value, 0) for d in dims]  # 0: left open
        self.nodes = []
        for proto in graph.node:
            try:
                self.take(Node(proto, self))
            except (ValueError, IndexError) as error:
                raise ValueError(f"{path} is not a sound ONNX file: {one_line(error)}") from None
        self.nodes = with_lrn(self.nodes)

    def take(self, node):
        """Among the nodes, or among the constants."""
        if node.op == "Constant":
            self.constants[node.output] = next(iter(node.attributes.values()), None)
        elif node.op == "Identity" and node.inputs[0] in self.constants:
            self.constants[node.output] = self.constants[node.inputs[0]]
        else:
            self.nodes.append(node)

    def array(self, name):
        """A constant as an array, of the type that it has in the file."""
        from onnx import TensorProto, numpy_helper

        constant = self.constants[name]
        if not isinstance(constant, TensorProto):
            return np.asarray(constant)
        try:
            return numpy_helper.to_array(constant)
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"the tensor {name!r} is not sound: {one_line(error)}") from None


def is_standard(thing):
    return thing.domain in ("", "ai.onnx")


class Node:
    """One operator: op, name, inputs, output, attributes, and the constants among its inputs."""

    def __init__(self, proto, graph):
        from onnx.helper import get_attribute_value

        self.op = proto.op_type if is_standard(proto) else f"{proto.domain}.{proto.op_type}"
        self.inputs, self.output = list(proto.input), proto.output[0]
        self.name = proto.name or self.output
        self.scopes = {p.key: p.value for p in proto.metadata_props}
        self.attributes = {a.name: get_attribute_value(a) for a in proto.attribute}
        self.graph = graph

    def __str__(self):
        return f"{self.op} {self.name!r}"

    def get(self, attribute, default=None):
        value = self.attributes.get(attribute, default)
        return value.decode() if isinstance(value, bytes) else value

    def has(self, place):
        """Whether there is an input at this place: optional ones may be left out or empty."""
        return len(self.inputs) > place and self.inputs[place] != ""

    def integers(self, place, attribute):
        """Axes or a shape: an input in newer files, an attribute in older ones; or None."""
        if not self.has(place):
            return self.get(attribute)
        return [int(n) for n in np.ravel(self.graph.array(self.inputs[place]))]

    def weights(self, place):
        """The constant at this place as a float32 array. ValueError if it is not finite."""
        name = self.inputs[place]
        array = self.graph.array(name)
        if array.dtype.kind in "iub":
            raise ValueError(f"{name!r} is made of whole numbers, not of real ones")
        with np.errstate(over="ignore"):
            array = array.astype(np.float32, copy=False)  # bfloat16's kind is not "f"
        if not np.isfinite(array).all():
            raise ValueError(f"{name!r} is not made of finite numbers")
        return array

    def label(self):
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


def clean(name):
    return re.sub(r"[^\w.-]+", ".", name).strip(".")


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


def with_lrn(nodes):
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
        kernel = next(n for n in tail if n.op == "AveragePool").get("kernel_shape")
        if not isinstance(kernel, list) or kernel[1:] != [1, 1]:
            continue
        numbers = (tail[place].inputs[-1] for place in (3, 1, 2))  # alpha, beta, k
        div.op, div.inputs = "LRN", [div.inputs[0], *numbers]
        div.attributes = {"size": kernel[0]}
        spent.update(n.output for n in tail[1:])
    return [node for node in nodes if node.output not in spent]
