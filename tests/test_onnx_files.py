"""Nets from ONNX files: the right names, sizes and weights, and what is refused."""

import contextlib
import sys

import numpy as np
import onnx
import pytest
from hypothesis import given
from onnx import TensorProto, helper, numpy_helper

from app.formats.onnx.reader import read_onnx, read_part
from nn.canvas import receptive_field
from nn.conv import Conv
from nn.dropout import Dropout
from tests.cases import seeds
from tests.onnx_models import (
    CONSTANTS,
    CONV,
    EXPORTED,
    F32,
    GEMM,
    images,
    imported,
    save,
    theirs,
)

RELU, FLATTEN, SOFTMAX = (("Relu", [""], {}), ("Flatten", [""], {}), ("Softmax", [""], {"axis": 1}))
PADS = {"kernel_shape": [2, 2]}
REFUSED = {
    "square": ([("Mul", ["", ""], {})], "Mul 'mul0': multiplies two tensors of images, which can"),
    "gated": (
        [RELU, ("Tanh", ["x"], {}), ("Div", ["", "relu0"], {})],
        "Div 'div2': divides two te",
    ),
    "difference": ([CONV, RELU, ("Sub", ["", "conv0"], {})], "Sub 'sub2': subtracts two tensors"),
    "larger": (
        [RELU, CONV, ("Add", ["", "x"], {})],
        r"'add2': adds .0, 4, 4, 5., .0, 3, 6, 7.: only",
    ),
    "beside": (
        [RELU, CONV, ("Concat", ["", "x"], {"axis": 1})],
        "'concat2': maps side by side must",
    ),
    "above": ([RELU, ("Concat", ["", "x"], {"axis": 2})], "joins along the axis 2: only channels"),
    "compared": (
        [("Tanh", [""], {}), ("Max", ["", "x"], {})],
        "Max 'max1': compares tensors of images",
    ),
    "flat and not": (
        [FLATTEN, ("Concat", ["", "x"], {"axis": 1})],
        "joins images with flat numbers",
    ),
    "flat beside flat": (
        [FLATTEN, RELU, ("Concat", ["", ""], {"axis": 1})],
        "joins flattened images of more",
    ),
    "scores twice": (
        [CONV, ("MatMul", ["", "x"], {})],
        "MatMul 'matmul1': joins two tensors of im",
    ),
    "constant beside": (
        [CONV, ("Concat", ["", "b4"], {"axis": 1})],
        "puts a constant beside the",
    ),
    "two and one": ([CONV, ("Sum", ["", "conv0", "b4"], {})], "adds a constant to several tensors"),
    "one and two": ([CONV, ("Sum", ["", "b4", "b4"], {})], "has 3 inputs: only two can be had"),
    "unknown": ([("Selu", [""], {})], "Selu 'selu0': only these can be imported: Conv,"),
    "transposed": (
        [("ConvTranspose", ["", "w"], {})],
        "ConvTranspose 'convtranspose0': maps cannot grow here: a net that only",
    ),
    "resized": ([("Resize", ["", "", "", "two"], {})], "Resize 'resize0': maps cannot grow here"),
    "quantised": ([("QLinearConv", [""], {})], "'qlinearconv0': works with whole numbers of few"),
    "rounded": ([("QuantizeLinear", ["", "one"], {})], "the net as it was before it was quantised"),
    "layer norm": (
        [("LayerNormalization", ["", "row"], {})],
        "LayerNormalization 'layernormalization0': normalises each image by its own "
        "numbers, as no layer here does: a net with BatchNormalization would do",
    ),
    "group norm": (
        [CONV, ("Reshape", ["", "groups"], {}), ("InstanceNormalization", [""] + 2 * ["two"], {})],
        "Reshape 'reshape1': leads to InstanceNormalization 'instancenormalization2', which normal",
    ),
    "slice": ([("Slice", ["", "axes", "axes"], {})], "Slice 'slice0': takes a part of a tensor"),
    "whole": (
        [("Cast", [""], {"to": 7}), RELU],
        "Cast 'cast0': makes other numbers than real ones",
    ),
    "pad of ones": ([("Pad", ["", "pads", "one"], {}), RELU], "pads by 1.0: only by zeros"),
    "reflection": (
        [("Pad", ["", "pads"], {"mode": "reflect"})],
        "pads by 'reflect': only by zeros",
    ),
    "pad of N": ([("Pad", ["", "pads_of_N"], {})], "only H and W can have some"),
    "cropped": ([("Pad", ["", "crop"], {})], "has pads of .0, 0, -1, .* not 8 numbers from 0 to"),
    "slopes": ([("PRelu", ["", "row"], {})], "PRelu 'prelu0': has numbers of .7,.: only one for"),
    "gelu": ([("Gelu", [""], {"approximate": "erf"})], "is approximated by 'erf': only by 'tanh'"),
    "clip": ([("Clip", ["", "one", "zero"], {})], "numbers cannot be at least 1.0 and at most 0.0"),
    "maxima": (
        [("ReduceMax", ["", "axes"], {})],
        r"takes maxima over the axes \[1, 2\]: only .2, 3.",
    ),
    "function": ([("Own", [""], {"domain": "com.example"})], "com.example.Own 'own0': only"),
    "no dilation": (
        [("Conv", ["", "w"], {"dilations": [0, 2]})],
        "'conv0': has dilations of .0, 2",
    ),
    "dilated": ([("Conv", ["", "w"], {"dilations": [3, 2]})], "'conv0': no room for a kernel of 7"),
    "dilated pool": ([("MaxPool", [""], {**PADS, "dilations": [1, 2]})], "is dilated: only convol"),
    "auto_pad": ([("MaxPool", [""], {**PADS, "auto_pad": "ALL"})], "the unknown auto_pad 'ALL'"),
    "no kernel": ([("MaxPool", [""], {})], "MaxPool 'maxpool0': has windows of 0 dimensions"),
    "no step": (
        [("MaxPool", [""], {**PADS, "strides": [0, 1], "auto_pad": "SAME_LOWER"})],
        r"MaxPool 'maxpool0': has strides of \[0, 1\], not 2 numbers from 1 to",
    ),
    "no inputs": ([("Relu", [""], {}), ("Div", [], {})], "'div1', is not computed from what goes"),
    "kernel of 3": ([("MaxPool", [""], {"kernel_shape": [2, 2, 2]})], "windows of 3 dimensions"),
    "wide pads": ([("MaxPool", [""], {**PADS, "pads": [2] * 4})], "must be smaller than the ker"),
    "too large": ([("Conv", ["", "w"], {}), CONV], "Conv 'conv1': has weights of .* for 4 chann"),
    "no room": ([("MaxPool", [""], {"kernel_shape": [9, 2]})], "'maxpool0': no room for a kernel"),
    "channels": ([("Conv", ["", "narrow"], {})], "weights of .4, 2, 3, 3. in 1 groups for 3"),
    "1-D": ([("Conv", ["", "line"], {})], "Conv 'conv0': has weights of .4, 3, 3. in 1 groups"),
    "groups": ([("Conv", ["", "narrow"], {"group": 0})], "in 0 groups"),
    "dynamic": ([("Sin", ["w"], {}), ("Conv", ["x", "sin0"], {})], "'sin0' is no constant"),
    "not finite": ([("Conv", ["", "nan"], {})], "Conv 'conv0': 'nan' is not made of finite"),
    "integers": ([("Conv", ["", "integers"], {})], "'integers' is made of whole numbers"),
    "transA": ([CONV, FLATTEN, ("Gemm", ["", "g"], {"transA": 1})], "Gemm 'gemm2': has transA"),
    "weights first": (
        [FLATTEN, ("MatMul", ["g", ""], {})],
        "takes the images as input 2, not as its first",
    ),
    "not flat": ([("MatMul", ["", "g"], {})], "needs flat numbers, but here are images of .6, 7"),
    "flat": ([FLATTEN, CONV], "Conv 'conv1': needs images, but they were flattened before"),
    "row": ([("Add", ["", "row"], {})], "Add 'add0': has numbers of .7,.: only one for each"),
    "column": (
        [CONV, ("Add", ["", "column"], {})],
        "Add 'add1': has numbers of .4, 1.: only one for each",
    ),
    "divides": ([("Div", ["mean", ""], {})], "Div 'div0': divides by the images"),
    "softmax": ([SOFTMAX, RELU], "Softmax 'softmax0': can only be left out after the scores"),
    "softmax of W": ([("Softmax", [""], {})], "is over the axis -1, which is not that of the cl"),
    "only softmax": ([SOFTMAX], "there are no layers in it"),
    "training": (
        [("BatchNormalization", ["", *["three"] * 4], {"training_mode": 1})],
        "'batchnormalization0': is in training mode: export the net in evaluation mode",
    ),
    "norm": ([("BatchNormalization", ["", *["row"] * 4], {})], "has .7,. numbers for 3 channels"),
    "norm of flat": (
        [CONV, FLATTEN, ("Mul", ["", "flat"], {}), RELU],
        "Relu 'relu3': comes after Mul 'mul2', which could only be part of a Gemm",
    ),
    "norm at the end": ([CONV, FLATTEN, ("Mul", ["", "flat"], {})], "Mul 'mul2': no Gemm follows"),
    "batch": ([CONV, ("Reshape", ["", "target"], {})], r"reshapes to \[1, 80\]"),
    "flatten": ([("Flatten", [""], {"axis": 2})], "flattens the images of a batch together"),
    "size": ([CONV, ("Reshape", ["", "whole"], {})], "to 79 numbers, but images of .4, 5, 4. ha"),
    "gemm": ([FLATTEN, GEMM], "Gemm 'gemm1': has weights of .80, 2. for what should be 126 numb"),
    "squeeze": ([("Squeeze", [""], {})], "'squeeze0': takes the axes None from images of .6, 7, 3"),
    "mean": ([("ReduceMean", [""], {"axes": [1, 2]})], r"takes means over the axes \[1, 2\]"),
    "even LRN": ([("LRN", [""], {"size": 4})], "LRN 'lrn0': the neighbourhood must be of odd siz"),
    "dropout": ([("Dropout", ["", "one"], {})], "Dropout 'dropout0': the dropout probability mus"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_chain_of_our_layers_is_refused_by_name(tmp_path, what):
    steps, message = REFUSED[what]
    numbers = {"one": np.array(1.0, F32), "zero": np.array(0.0, F32), "two": np.full(4, 2, F32)}
    numbers["b4"] = np.ones((1, 4, 5, 4), F32)
    numbers["groups"] = np.array([0, 2, -1])
    pads = {"pads": [0, 0, 1, 1] * 2, "pads_of_N": [1, 0, 1, 1] * 2, "crop": [0, 0, -1, -1] * 2}
    numbers |= {name: np.array(pad) for name, pad in pads.items()}
    path = save(tmp_path / "net.onnx", steps, opset=20, **CONSTANTS, **numbers)
    with pytest.raises(ValueError, match=message) as caught:
        read_onnx(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_sizes_that_are_left_open(tmp_path):
    steps, free = [CONV, FLATTEN, GEMM], ("N", 3, "H", "W")
    path = save(tmp_path / "net.onnx", steps, free, **CONSTANTS)
    with pytest.raises(ValueError, match=r"should be 197136 numbers, images of .222, 222, 4."):
        read_onnx(path)
    assert read_onnx(path, (6, 7, 3))[2] == (6, 7, 3)
    with pytest.raises(ValueError, match="Gemm 'gemm2': has weights .* is the input shape right"):
        read_onnx(path, (6, 8, 3))
    with pytest.raises(ValueError, match=r"is for images of .H, W, C. = .0, 0, 3., not .6, 7, 1."):
        read_onnx(path, (6, 7, 1))
    save(path, [RELU], (5, 3))
    with pytest.raises(ValueError, match="images .N, C, H, W. is expected"):
        read_onnx(path)


@pytest.mark.parametrize("expression", ["x+k", "k+x", "x-k", "k-x", "x*k", "k*x", "x/k"])
def test_arithmetic_with_a_constant_on_either_side(tmp_path, expression):
    op = {"+": "Add", "-": "Sub", "*": "Mul", "/": "Div"}[expression[1]]
    inputs = [expression[0], expression[2]]
    k = np.array([0.5, 2, 3], F32).reshape(3, 1, 1)
    path = save(tmp_path / "net.onnx", [(op, inputs, {}), CONV], k=k, **CONSTANTS)
    net = imported(path)
    x = images(2, net.input_shape)
    np.testing.assert_allclose(net.bottom_up(x), theirs(path, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("change", ["window", "divided"])
def test_what_only_looks_like_pytorchs_lrn_is_refused(tmp_path, change):
    net = onnx.load(EXPORTED / "alexnet.onnx")
    nodes = {node.name: node for node in net.graph.node}
    if change == "window":
        (kernel,) = [a for a in nodes["node_avg_pool3d"].attribute if a.name == "kernel_shape"]
        kernel.ints[:] = [5, 3, 1]
    else:
        nodes["node_div"].input[0] = "conv2d"
    onnx.save(net, tmp_path / "net.onnx")
    with pytest.raises(ValueError, match="Mul 'node_mul_4': multiplies two tensors"):
        read_onnx(tmp_path / "net.onnx")


def test_shape_arithmetic(tmp_path):
    """x.view(x.size(0), x.size(1)) and x.view(x.size(0), -1), as they are written for any N."""
    steps = [
        ("GlobalAveragePool", [""], {}),
        ("Shape", [""], {}),
        ("Gather", ["", "places"], {}),
        ("Reshape", ["globalaveragepool0", ""], {}),
        ("Shape", [""], {"start": 1}),
        ("Unsqueeze", ["number", "axis"], {}),
        ("Concat", ["", "shape4"], {"axis": 0}),
        ("Reshape", ["reshape3", ""], {}),
        ("MatMul", ["", "w"], {}),
    ]
    numbers = {"places": np.array([0, 1]), "number": np.array(-1), "axis": np.array([0])}
    path = save(tmp_path / "net.onnx", steps, **numbers, w=np.arange(6, dtype=F32).reshape(3, 2))
    net = imported(path)
    x = images(4, net.input_shape)
    np.testing.assert_allclose(net.bottom_up(x), theirs(path, x), rtol=1e-5, atol=1e-6)


def test_what_the_first_output_does_not_need_is_cut_off(tmp_path):
    """Auxiliary heads, and what no output needs."""
    path = save(
        tmp_path / "net.onnx", [CONV, RELU, ("Selu", [""], {})], output="relu1", **CONSTANTS
    )
    net = onnx.load(path)
    net.graph.output.add(name="selu2")
    onnx.save(net, path)
    assert [name for name, _ in read_onnx(path)[0]] == ["conv0", "relu1"]
    net.graph.output.pop(0)
    onnx.save(net, path)
    with pytest.raises(ValueError, match="Selu 'selu2': only these"):
        read_onnx(path)
    net.graph.output.pop(0)
    onnx.save(net, path)
    with pytest.raises(ValueError, match=r"net.onnx: the net has no output"):
        read_onnx(path)


def test_two_inputs(tmp_path):
    """The images are the one that has four axes; another is named where a layer takes it."""
    steps = [CONV, RELU, ("Add", ["", "noise"], {})]
    path = save(tmp_path / "net.onnx", steps, **CONSTANTS)
    net = onnx.load(path)
    net.graph.input.append(helper.make_tensor_value_info("noise", TensorProto.FLOAT, [4]))
    onnx.save(net, path)
    with pytest.raises(ValueError, match="Add 'add2': takes 'noise', a second input of the net"):
        read_onnx(path)
    part = read_part(path)
    assert [name for name, _ in part.layers] == ["conv0", "relu1"]
    assert "'noise'" in part.stopped
    del net.graph.input[:]
    for name in ("x", "noise"):
        shape = [1, 3, 6, 7]
        net.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    onnx.save(net, path)
    with pytest.raises(ValueError, match="of one input, the images, is expected, got 'x', 'noise'"):
        read_onnx(path)


def test_a_net_up_to_where_it_cannot_be_had(tmp_path):
    """What is beside that, or below, is there; the message names the first that is not."""
    one = ("Tanh", ["conv0"], {})
    steps = [CONV, RELU, ("Selu", [""], {}), one, ("Add", ["", "selu2"], {}), ("Own", [""], {})]
    path = save(tmp_path / "net.onnx", steps, **CONSTANTS)
    part = read_part(path)
    assert [(name, *sources) for name, _, *sources in part.layers] == [
        ("conv0",),
        ("relu1",),
        ("tanh3", "conv0"),
    ]
    assert part.stopped.startswith(f"{path}: Selu 'selu2': only these can be imported")
    with pytest.raises(ValueError, match="Selu 'selu2'"):
        read_onnx(path)
    path = save(tmp_path / "net.onnx", [("Selu", [""], {}), CONV], **CONSTANTS)
    with pytest.raises(ValueError, match="Selu 'selu0'"):
        read_part(path)


def test_names(tmp_path):
    """The module's path, by the weight or the scope; no slash, no space, never twice."""
    steps = [CONV, CONV, *[("Relu", [""], {})] * 5]
    path = save(tmp_path / "net.onnx", steps, **{**CONSTANTS, "b": np.zeros(4, F32)})
    model = onnx.load(path)
    names = ["", "/a/a.1/conv/Conv", "/a/a.1/Relu", "Relu/", "(my) relu:0", "//", "node_relu_5"]
    for node, name in zip(model.graph.node, names, strict=True):
        node.name = name
    model.graph.node[0].input[1] = "a.0.weight"
    model.graph.node[1].input[1] = "x2"
    weights = numpy_helper.from_array(CONSTANTS["w"], "a.0.weight")
    second = numpy_helper.from_array(np.ones((4, 4, 3, 3), F32), "x2")
    model.graph.initializer.extend([weights, second])
    onnx.save(model, path)
    layers, arrays, _ = read_onnx(path)
    expected = ["a.0", "a.1.conv", "a.1", "Relu", "my.relu.0", "Relu_2", "relu_5"]
    assert [name for name, _ in layers] == expected
    assert list(arrays) == ["a.0.w", "a.0.b", "a.1.conv.w", "a.1.conv.b"]


@pytest.mark.parametrize("kind", ["FLOAT16", "BFLOAT16", "DOUBLE"])
def test_weights_of_other_types(tmp_path, kind):
    w = np.random.default_rng(0).integers(-8, 8, (4, 3, 3, 3)) / 8
    tensor = helper.make_tensor("w", getattr(TensorProto, kind), w.shape, w.ravel())
    path = save(tmp_path / "net.onnx", [("Conv", ["", "w"], {})], w=tensor)
    arrays = read_onnx(path)[1]
    assert arrays["conv0.w"].dtype == np.float32
    np.testing.assert_array_equal(arrays["conv0.w"], w.transpose(2, 3, 1, 0))


def test_dropout_is_kept_and_receptive_fields_are_ours(tmp_path):
    steps = [("Dropout", ["", "ratio"], {}), ("Dropout", [""], {})]
    (_, first), (_, second) = read_onnx(save(tmp_path / "a", steps, ratio=np.array(0.2, F32)))[0]
    assert isinstance(first, Dropout)
    assert (first.p, second.p) == (np.float32(0.2), 0.5)
    ratio = [("Dropout", [""], {"ratio": 0.25})]
    assert read_onnx(save(tmp_path / "b", ratio, opset=11))[0][0][1].p == 0.25
    net = imported(EXPORTED / "alexnet.onnx")
    assert receptive_field(net, "features.4") == (7 + 2 * (2 + 2 * 2),) * 2


def test_padding_below_a_normalised_image_is_of_zeros(tmp_path):
    """A shift before a padded convolution cannot be part of its bias: it is a layer of its own."""
    padded = ("Conv", ["", "w"], {"pads": [1] * 4})
    path = save(tmp_path / "net.onnx", [("Sub", ["", "mean"], {}), padded], **CONSTANTS)
    net = imported(path)
    assert isinstance(net.layers["sub0"], Conv)
    x = np.ones((1, 6, 7, 3), F32)
    np.testing.assert_array_equal(net.bottom_up(x), np.zeros((1, 6, 7, 4)))


def test_weights_in_another_file(tmp_path):
    path = save(tmp_path / "net.onnx", [CONV], **CONSTANTS)
    save_all = {"save_as_external_data": True, "location": "net.data", "size_threshold": 0}
    onnx.save(onnx.load(path), path, **save_all)
    np.testing.assert_array_equal(read_onnx(path)[1]["conv0.w"], np.ones((3, 3, 3, 4)))
    (tmp_path / "net.data").unlink()
    with pytest.raises(
        ValueError, match="net.onnx: .*'w' is kept in another file: No such file.*net.data"
    ):
        read_onnx(path)


def test_files_that_are_not_sound(tmp_path):
    whole = (EXPORTED / "lenet.onnx").read_bytes()
    path = tmp_path / "net.onnx"
    for part in [b"", b"not a net", whole[:99], whole[:-5000], b"\x00" * 50, whole[7:]]:
        path.write_bytes(part)
        with pytest.raises(ValueError, match="net.onnx is not a sound ONNX file: ") as caught:
            read_onnx(path)
        assert "\n" not in str(caught.value)
    short = numpy_helper.from_array(CONSTANTS["w"])
    short.raw_data = short.raw_data[:99]
    short.name = "w"
    save(path, [("Conv", ["", "w"], {})], w=short)
    with pytest.raises(ValueError, match="Conv 'conv0': the tensor 'w' is not sound: "):
        read_onnx(path)
    with pytest.raises(FileNotFoundError):
        read_onnx(tmp_path / "none.onnx")


@given(seed=seeds)
def test_damaged_files_end_in_a_value_error_or_a_net(tmp_path_factory, seed):
    rng = np.random.default_rng(seed)
    damaged = bytearray((EXPORTED / "vgg.onnx").read_bytes())
    for place in rng.integers(0, len(damaged), 20):
        damaged[place] = rng.integers(256)
    path = tmp_path_factory.getbasetemp() / "damaged.onnx"
    path.write_bytes(damaged)
    with contextlib.suppress(ValueError):
        read_onnx(path, (16, 16, 3))


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ValueError, match=r"reading a.onnx needs the package onnx: pip install '\."):
        read_onnx("a.onnx")
