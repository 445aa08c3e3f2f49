"""Local response normalisation, which PyTorch writes as a dozen nodes."""

from app.formats.onnx.node import Node

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
