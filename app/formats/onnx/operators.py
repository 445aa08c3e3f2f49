"""What each ONNX operator becomes: one of our layers, a change of the layer below, or nothing.

Each takes (net, node, x): the Builder, the Node, and the Place of what it takes, one for each input
that comes from the images. It returns the Place of what it gives. ValueErrors say why something
cannot be had; the caller adds which node it was.
"""

from collections.abc import Callable

from app.formats.onnx.activations import ACTIVATIONS, FOUND
from app.formats.onnx.axes import flatten, reshape, squeeze, transpose
from app.formats.onnx.joins import concat
from app.formats.onnx.place import is_over
from app.formats.onnx.scaling import arithmetic, batch_normalization, gemm, matmul
from app.formats.onnx.sliding import POOLS, conv, pad
from nn.dropout import Dropout
from nn.lrn import LRN


def lrn(net, node, x):
    x.image()
    if node.has(1):  # as PyTorch writes it, see with_lrn
        alpha, beta, k = (node.scalar(place) for place in (1, 2, 3))
    else:
        alpha, beta, k = node.get("alpha", 1e-4), node.get("beta", 0.75), node.get("bias", 1.0)
    return net.add(node, LRN(node.get("size", 0), alpha, beta, k), x)


def dropout(net, node, x):
    return net.add(node, Dropout(node.scalar(1) if node.has(1) else node.get("ratio", 0.5)), x)


def cast(net, node, x):
    from onnx import TensorProto

    real = [getattr(TensorProto, kind) for kind in ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16")]
    if node.get("to", kind=int) not in real:
        raise ValueError("makes other numbers than real ones of the images")
    return x


JOINS = {"Add": arithmetic, "Sub": arithmetic, "Mul": arithmetic, "Div": arithmetic}
JOINS |= {"Sum": arithmetic, "Concat": concat, "Min": ACTIVATIONS["Min"], "Max": ACTIVATIONS["Max"]}
OPERATORS = {
    "Conv": conv,
    **ACTIVATIONS,
    **POOLS,
    "Pad": pad,
    "LRN": lrn,
    "Flatten": flatten,
    "Reshape": reshape,
    "Squeeze": squeeze,
    "Transpose": transpose,
    "Gemm": gemm,
    "MatMul": matmul,
    "Dropout": dropout,
    "BatchNormalization": batch_normalization,
    **JOINS,
    "Cast": cast,
    "Identity": lambda net, node, x: x,
}


def last(net, node, x):
    """Of the scores, what does not change which is the largest: it is left out."""
    if node.op in ("Softmax", "LogSoftmax"):
        axis = node.get("axis", 1 if node.graph.opset < 13 else -1)
        if not is_over([axis], [x.axis], x.rank):
            raise ValueError(f"is over the axis {axis}, which is not that of the classes")
    return x


# Left out if nothing but these, or a change of shape, comes after them.
LAST = dict.fromkeys(("Softmax", "LogSoftmax", "Sigmoid", "ArgMax", "Cast", "Identity"), last)
SHAPING = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"}

REFUSED = {  # operators that nets have: why not, and what would do
    op: why
    for ops, why in {
        "LayerNormalization GroupNormalization InstanceNormalization RMSNormalization "
        "MeanVarianceNormalization LpNormalization": "normalises each image by its own numbers, as "
        "no layer here does: a net with BatchNormalization would do",
        "ConvTranspose Resize Upsample DepthToSpace MaxUnpool": "maps cannot grow here: a net that "
        "only classifies would do",
        "QuantizeLinear DequantizeLinear QLinearConv QLinearMatMul QLinearAdd ConvInteger "
        "MatMulInteger DynamicQuantizeLinear": "works with whole numbers of few bits (int8): the "
        "net as it was before it was quantised would do",
        "Split Slice Gather": "takes a part of a tensor: a net without that would do",
        "Attention Einsum": "multiplies tensors of images: a net of convolutions would do",
        "If Loop Scan": "decides at run time what is computed: a net exported for images of one "
        "size would do",
        "LSTM GRU RNN": "goes through a sequence: a net of convolutions would do",
        "Softmax LogSoftmax ArgMax": "can only be left out after the scores, at the end",
    }.items()
    for op in ops.split()
}


def operator(op: str) -> Callable:
    """The function for an operator. ValueError says why there is none, and what would do."""
    function = OPERATORS.get(op) or FOUND.get(op)
    if function is None:
        raise ValueError(REFUSED.get(op) or "only these can be imported: " + ", ".join(OPERATORS))
    return function
