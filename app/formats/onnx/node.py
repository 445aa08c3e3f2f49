"""One operator of an ONNX file, and what is asked of it."""

import math
import re
from typing import Any

import numpy as np

from app.formats.onnx.tensors import MOST_AXES, NAMED, text

KINDS = {int: "a whole number", float: "a finite number", str: "text", list: "whole numbers"}


def is_standard(thing: Any) -> bool:
    return thing.domain in ("", "ai.onnx")


class Node:
    """One operator: op, name, inputs, output, attributes, and the constants among its inputs.

    What is asked for and is not there, or of another type, is a ValueError.
    """

    def __init__(self, proto: Any, graph: Any):
        domain = "" if is_standard(proto) else f"{text(proto.domain)}."
        self.op = domain + text(proto.op_type)
        if not proto.output:
            raise ValueError(f"a node {self.op[:NAMED]!r} has no output")
        self.inputs, self.outputs = list(map(text, proto.input)), list(map(text, proto.output))
        self.output = self.outputs[0]
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
        for name in (self.graph.origins.get(name, name) for name in self.inputs[1:]):
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


def value_of(attribute: Any) -> Any:
    """An attribute's value, or None if it has none."""
    from onnx.helper import get_attribute_value

    try:
        return get_attribute_value(attribute)
    except ValueError:  # of a type that is not known
        return None


def clean(name: str) -> str:
    return re.sub(r"[^\w.-]+", ".", name[:200]).strip(".")
