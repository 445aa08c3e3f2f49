"""ONNX files for the tests, and what onnxruntime computes from them."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from app.formats.onnx.reader import read_onnx
from nn.network import Network

EXPORTED = Path(__file__).parent / "exported"
F32 = np.float32


def imported(path, input_shape=None):
    layers, arrays, input_shape = read_onnx(path, input_shape)
    net = Network(layers, input_shape, np.random.default_rng(0))
    net.set_params(arrays)
    return net


def theirs(net, x, channels_last=False, turned=False):
    """What onnxruntime computes from images (N, H, W, C), maps turned to our order.

    net: a file or a model's bytes, which takes images as they are if channels_last, and gives maps
    that need no turning if turned.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    # As written in the file: older ones join Pad and AveragePool into something else.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    net = net if isinstance(net, bytes) else str(net)
    session = onnxruntime.InferenceSession(net, options, providers=["CPUExecutionProvider"])
    x = x if channels_last else x.transpose(0, 3, 1, 2)
    y = session.run(None, {session.get_inputs()[0].name: x})[0]
    return y.transpose(0, 2, 3, 1) if y.ndim == 4 and not turned else y


def images(N, shape, seed=0):
    return np.random.default_rng(seed).standard_normal((N, *shape)).astype(np.float32)


def model(steps, shape=("N", 3, 6, 7), opset=17, output=None, **constants):
    """A chain of steps (operator, inputs, attributes) in ONNX; "" stands for the step before, None
    for an input that is left out.

    A step's name and output are its operator and place: conv0, relu1.
    """
    nodes, before = [], "x"
    for place, (op, inputs, attributes) in enumerate(steps):
        after = f"{op.lower()}{place}"
        names = [{"": before, None: ""}.get(name, name) for name in inputs]
        nodes.append(helper.make_node(op, names, [after], after, **attributes))
        before = after
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info(output or before, TensorProto.FLOAT, None)
    tensors = [
        value if isinstance(value, TensorProto) else numpy_helper.from_array(value, name)
        for name, value in constants.items()
    ]
    graph = helper.make_graph(nodes, "net", [x], [y], tensors)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.example", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def save(path, *args, **kwargs):
    onnx.save(model(*args, **kwargs), path)
    return path


CONV = ("Conv", ["", "w", "b"], {"kernel_shape": [3, 3]})
GEMM = ("Gemm", ["", "g"], {})
CONSTANTS = {
    "w": np.ones((4, 3, 3, 3), F32),
    "b": np.zeros(4, F32),
    "g": np.ones((80, 2), F32),
    "three": np.ones(3, F32),
    "mean": np.ones((3, 1, 1), F32),
    "row": np.ones(7, F32),
    "column": np.ones((4, 1), F32),
    "flat": np.ones(80, F32),
    "target": np.array([1, 80]),
    "whole": np.array([0, 79]),
    "axes": np.array([1, 2]),
    "nan": np.full((4, 3, 3, 3), np.nan, F32),
    "integers": np.ones((4, 3, 3, 3), np.int64),
    "narrow": np.ones((4, 2, 3, 3), F32),
    "line": np.ones((4, 3, 3), F32),
}
