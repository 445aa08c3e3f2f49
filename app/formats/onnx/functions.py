"""Activations that are written as several nodes, recognised by their values.

GELU, say, is five nodes of one exporter and nine of another. So a group of nodes that leads from
one tensor, number by number, to another is computed at some points, and compared with what we have.
"""

from collections import Counter

import numpy as np

from app.formats.onnx.node import Node
from nn.activations import ELU, GELU, Clip, HardSwish, LeakyReLU, SiLU, Softplus, TanhGELU
from nn.backend import erf
from nn.relu import ReLU

POINTS = np.concatenate([np.linspace(-10, 10, 161), [-60, -20, 20, 60]])
POINTS = POINTS.reshape(1, 3, 5, 11)  # an image, as its axes may be turned on the way
MOST_NODES = 16
ACTIVATIONS = {
    "Silu": SiLU,
    "HardSwish": HardSwish,
    "Gelu": GELU,
    "TanhGelu": TanhGELU,
    "Softplus": Softplus,
    "Relu6": lambda: Clip(0, 6),
    "Relu": ReLU,
}
VALUES = {op: make().forward(POINTS) for op, make in ACTIVATIONS.items()}


def sigmoid(node, x):
    return 1 / (1 + np.exp(-x))


def hard_sigmoid(node, x):
    return np.clip(node.get("alpha", 0.2) * x + node.get("beta", 0.5), 0, 1)


def clip(node, x, low=None, high=None):
    low = node.get("min", -np.inf, float) if low is None else low
    high = node.get("max", np.inf, float) if high is None else high
    return np.minimum(np.maximum(x, low), high)


def cast(node, x):
    if node.get("to", kind=int) != 1:  # FLOAT
        raise ValueError
    return np.asarray(x, float)


FUNCTIONS = {
    "Add": lambda node, a, b: a + b,
    "Sub": lambda node, a, b: a - b,
    "Mul": lambda node, a, b: a * b,
    "Div": lambda node, a, b: a / b,
    "Pow": lambda node, a, b: a**b,
    "Min": lambda node, a, b: np.minimum(a, b),
    "Max": lambda node, a, b: np.maximum(a, b),
    "Neg": lambda node, x: -x,
    "Exp": lambda node, x: np.exp(x),
    "Log": lambda node, x: np.log(x),
    "Tanh": lambda node, x: np.tanh(x),
    "Erf": lambda node, x: erf(np.asarray(x)),
    "Erfc": lambda node, x: 1 - erf(np.asarray(x)),
    "Relu": lambda node, x: np.maximum(x, 0),
    "LeakyRelu": lambda node, x: LeakyReLU(node.get("alpha", 0.01)).forward(x),
    "Elu": lambda node, x: ELU(node.get("alpha", 1.0)).forward(x),
    "Softplus": lambda node, x: np.logaddexp(x, 0),
    "Greater": lambda node, a, b: a > b,
    "Not": lambda node, x: ~x,
    "Cast": cast,
    "Where": lambda node, which, a, b: np.where(which, a, b),
    "Identity": lambda node, x: x,
    "Transpose": lambda node, x: x.transpose(node.get("perm", kind=list)),
    "Sigmoid": sigmoid,
    "HardSigmoid": hard_sigmoid,
    "Clip": clip,
}
# With which such a group can end.
ENDS = {"Mul", "Div", "Log", "Min", "Max", "Clip", "Where", "Transpose"}


def with_functions(nodes: list[Node], graph) -> list[Node]:
    """The nodes, with one in place of each group that is an activation of ACTIVATIONS."""
    makers = {node.output: (place, node) for place, node in enumerate(nodes)}
    takers = graph.counted(nodes)
    spent: set[str] = set()
    for end in nodes:
        if end.op not in ENDS:
            continue
        found = activation(end, makers, takers, graph)
        if found:
            op, attributes, source, group = found
            spent.update(node.output for node in group[1:])
            end.op, end.inputs, end.attributes = op, [source], attributes
    return [node for node in nodes if node.output not in spent]


def activation(end: Node, makers: dict, takers: Counter, graph) -> tuple | None:
    """(operator, attributes, name of the tensor it takes, its nodes, the last first), or None.

    The group grows downwards, always by the node that comes last in the file.
    """
    group: list[Node] = []
    frontier = {end.output}
    while len(group) < MOST_NODES:
        places = [makers.get(name, (-1, None)) for name in frontier]
        _, node = max(places, key=lambda found: found[0])
        if node is None or node.op not in FUNCTIONS:
            return None
        inner = Counter(name for inside in group for name in inside.inputs)
        if group and inner[node.output] != takers[node.output]:
            return None  # others need what is in the middle
        group.append(node)
        frontier.remove(node.output)
        frontier.update(name for name in node.inputs if name and not is_number(graph, name))
        if len(frontier) == 1 and len(group) > 1:
            (source,) = frontier
            recognised = named(values(group, source, graph))
            if recognised:
                return *recognised, source, group
        if not frontier:
            return None
    return None


def named(y: np.ndarray | None) -> tuple | None:
    """(operator, attributes) of the activation that gives y at the points, or None."""

    def is_like(expected):
        return np.allclose(y, expected, 1e-5, 1e-6)

    if y is None or is_like(POINTS):
        return None
    for op, expected in VALUES.items():
        if is_like(expected):
            return op, {}
    a = float(-y.flat[POINTS.argmin()])  # where x is least: of ELU that is a, of leaky ReLU a x
    if not np.isfinite(a):
        return None
    if is_like(ELU(a).forward(POINTS)):
        return "Elu", {"alpha": a}
    a /= float(-POINTS.min())
    return ("LeakyRelu", {"alpha": a}) if is_like(LeakyReLU(a).forward(POINTS)) else None


def is_number(graph, name: str) -> bool:
    return name in graph.constants and graph.numbers_in(name) == 1


def values(group: list[Node], source: str, graph) -> np.ndarray | None:
    """What the group gives where the points go in, or None."""
    known = {source: POINTS}
    try:
        with np.errstate(all="ignore"):
            for node in reversed(group):
                inputs = [
                    None if not name else known[name] if name in known else number(graph, name)
                    for name in node.inputs
                ]
                known[node.output] = FUNCTIONS[node.op](node, *inputs)
    except (ValueError, TypeError, LookupError, AttributeError):
        return None
    y = known[group[0].output]
    return y if np.shape(y) == POINTS.shape else None


def number(graph, name: str) -> float:
    return float(graph.array(name).ravel()[0])
