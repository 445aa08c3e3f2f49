"""PReLU as Keras's exporters write it: relu(x) + c relu(-x), where -c are the slopes."""

from app.formats.onnx.node import Node


def with_prelu(nodes: list[Node], graph) -> list[Node]:
    """The nodes, with one PRelu in place of each group that computes it."""
    makers = {node.output: node for node in nodes}
    takers = graph.counted(nodes)
    spent: set[str] = set()

    def made_by(name, op):
        """The node of this kind that gives a tensor, if nobody else takes that."""
        node = makers.get(name)
        return node if node is not None and node.op == op and takers[name] == 1 else None

    for add in nodes:
        if add.op != "Add" or len(add.inputs) != 2:
            continue
        for one, other in (add.inputs, add.inputs[::-1]):
            positive, product = made_by(one, "Relu"), made_by(other, "Mul")
            if positive is None or product is None:
                continue
            slopes = [name for name in product.inputs if name in graph.constants]
            negative = [name for name in product.inputs if name not in graph.constants]
            relu = made_by(negative[0], "Relu") if len(slopes) == len(negative) == 1 else None
            turned = made_by(relu.inputs[0], "Neg") if relu is not None and relu.has(0) else None
            if turned is None or turned.inputs[:1] != positive.inputs[:1]:
                continue
            slope = f"{add.output} slope"
            graph.constants[slope] = -graph.array(slopes[0])
            add.op, add.inputs, add.attributes = "PRelu", [positive.inputs[0], slope], {}
            spent.update(node.output for node in (positive, product, relu, turned))
            break
    return [node for node in nodes if node.output not in spent]
