"""Nodes that are folded, left out or joined: constants, normalisation, what comes after scores."""

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from app.formats.onnx.reader import read_onnx, read_part
from nn.activations import Clip, PReLU, SiLU
from nn.conv import Conv
from tests.cases import seeds
from tests.gradcheck import relative_error
from tests.onnx_models import CONSTANTS, CONV, F32, GEMM, images, imported, model, save, theirs

RELU, FLATTEN = ("Relu", [""], {}), ("Flatten", [""], {})
RNG = np.random.default_rng(0)
RANDOM = CONSTANTS | {
    name: RNG.standard_normal(CONSTANTS[name].shape).astype(F32) for name in ("w", "b", "g")
}


def same(path, **how):
    """The net, if its scores are onnxruntime's."""
    net = imported(path, **how)
    x = images(2, net.input_shape)
    expected = theirs(path, x)
    expected = expected.reshape(expected.shape[:1] + net.shapes[net.last])
    assert expected.std() > 1e-3
    assert relative_error(net.bottom_up(x), expected) < 1e-5
    return net


FOLDED = {
    "transposed": (("Transpose", ["c"], {"perm": [3, 2, 0, 1]}), (3, 3, 3, 4), F32),
    "reshaped": (("Reshape", ["c", "target"], {}), (4, 27), F32),
    "half": (("Cast", ["c"], {"to": 1}), (4, 3, 3, 3), np.float16),
    "double": (("Cast", ["c"], {"to": 1}), (4, 3, 3, 3), np.float64),
    "squeezed": (("Squeeze", ["c", "axis"], {}), (1, 4, 3, 3, 3), F32),
    "one more axis": (("Unsqueeze", ["c", "last"], {}), (4, 3, 3), F32),
    "scaled": (("Mul", ["c", "per_filter"], {}), (4, 3, 3, 3), F32),
    "side by side": (("Identity", ["c"], {}), (4, 3, 3, 3), F32),
}


@pytest.mark.parametrize("name", FOLDED)
def test_weights_go_through_nodes(tmp_path, name):
    node, shape, dtype = FOLDED[name]
    constants = {"c": RNG.standard_normal(shape).astype(dtype), "axis": np.array([0])}
    constants |= {"last": np.array([-1]), "target": np.array([4, 3, 3, -1])}
    constants["per_filter"] = RNG.standard_normal((4, 1, 1, 1)).astype(F32)
    steps = [node, ("Conv", ["x", ""], {"kernel_shape": [3, 3]})]
    if name == "one more axis":
        steps[1] = ("Conv", ["x", ""], {"kernel_shape": [3, 1]})
    same(save(tmp_path / "net.onnx", steps, **constants))


@pytest.mark.parametrize(("axis", "scales"), [(0, 4), (None, 1)])
@pytest.mark.parametrize("zeros", [True, False])
def test_weights_of_eight_bits(tmp_path, axis, scales, zeros):
    constants = {"q": RNG.integers(-128, 128, (4, 3, 3, 3), np.int8)}
    constants["scale"] = RNG.uniform(0.01, 0.1, scales if axis == 0 else ()).astype(F32)
    constants["zero"] = RNG.integers(-9, 9, constants["scale"].shape).astype(np.int8)
    inputs = ["q", "scale", "zero"] if zeros else ["q", "scale"]
    node = ("DequantizeLinear", inputs, {} if axis is None else {"axis": axis})
    same(save(tmp_path / "net.onnx", [node, ("Conv", ["x", "", "b"], {})], **RANDOM | constants))


def test_a_matrix_behind_a_reshape_as_in_mnist_8(tmp_path):
    cube = numpy_helper.from_array(RNG.standard_normal((4, 5, 4, 2)).astype(F32), "cube")
    shapes = {"flat_shape": np.array([-1, 80]), "matrix": np.array([80, 2])}
    steps = [CONV, ("Reshape", ["", "flat_shape"], {}), ("Reshape", ["cube", "matrix"], {})]
    steps += [("MatMul", ["reshape1", "reshape2"], {}), ("Add", ["", "two"], {})]
    constants = shapes | {"cube": cube, "two": np.array([[1, 2]], F32)}
    net = same(save(tmp_path / "net.onnx", steps, **RANDOM | constants))
    assert list(net.layers) == ["conv0", "matmul3"]


def test_weights_are_named_by_what_they_are_made_of(tmp_path):
    weights = numpy_helper.from_array(RANDOM["w"].transpose(1, 0, 2, 3).copy(), "a.0.weight")
    steps = [("Transpose", ["a.0.weight"], {"perm": [1, 0, 2, 3]}), ("Conv", ["x", ""], {})]
    path = tmp_path / "net.onnx"
    net = model(steps)
    net.graph.initializer.append(weights)
    onnx.save(net, path)
    assert list(imported(path).layers) == ["a.0"]


ENDINGS = {
    "softmax": [("Softmax", [""], {"axis": 1})],
    "sigmoid": [("Sigmoid", [""], {})],
    "log": [("LogSoftmax", [""], {"axis": 1})],
    "a shape": [("Reshape", ["", "open"], {})],
    "all": [
        ("Identity", [""], {}),
        ("Cast", [""], {"to": 1}),
        ("Softmax", [""], {"axis": 1}),
        ("Reshape", ["", "open"], {}),
        ("ArgMax", [""], {"axis": 0}),
        ("Cast", [""], {"to": 7}),
    ],
}


@pytest.mark.parametrize("name", ENDINGS)
def test_what_comes_after_the_scores_is_left_out(tmp_path, name):
    open_shape = np.array([1, 1, -1])
    plain = imported(save(tmp_path / "plain.onnx", [CONV, FLATTEN, GEMM], **RANDOM))
    for steps in ([CONV, FLATTEN, GEMM], [CONV, ("GlobalMaxPool", [""], {})]):
        path = save(tmp_path / "net.onnx", [*steps, *ENDINGS[name]], open=open_shape, **RANDOM)
        net = imported(path)
        assert net.shapes[net.last] == ((2,) if len(steps) == 3 else (4,))
        if len(steps) == 3:
            x = images(2, net.input_shape)
            np.testing.assert_array_equal(net.bottom_up(x), plain.bottom_up(x))


NORM = ("BatchNormalization", ["", *["four"] * 4], {})
FOUR = {"four": np.array([0.5, 1, 1.5, 2], F32)}


def test_normalisation_is_folded_only_where_nobody_else_takes_the_map(tmp_path):
    """Also through a node that changes nothing, and where the map is the output itself."""
    alone = same(save(tmp_path / "a.onnx", [CONV, NORM, RELU], **RANDOM, **FOUR))
    assert list(alone.layers) == ["conv0", "relu2"]
    steps = [CONV, NORM, RELU, ("Add", ["", "conv0"], {})]
    taken = same(save(tmp_path / "b.onnx", steps, **RANDOM, **FOUR))
    assert list(taken.layers) == ["conv0", "batchnormalization1", "relu2", "add3"]
    assert taken.layers["batchnormalization1"].groups == 4
    steps = [CONV, ("Identity", [""], {}), NORM, ("Add", ["", "identity1"], {})]
    assert "batchnormalization2" in same(save(tmp_path / "c", steps, **RANDOM, **FOUR)).layers
    steps = [CONV, NORM, ("Identity", ["conv0"], {}), ("Add", ["", "batchnormalization1"], {})]
    assert "batchnormalization1" in same(save(tmp_path / "d", steps, **RANDOM, **FOUR)).layers


@pytest.mark.parametrize("op", ["Add", "Concat"])
def test_normalisation_after_a_join_is_a_layer(tmp_path, op):
    attributes = {"axis": 1} if op == "Concat" else {}
    norm = ("BatchNormalization", ["", *["norm"] * 4], {})
    steps = [CONV, RELU, (op, ["", "conv0"], attributes), norm, RELU]
    numbers = np.linspace(0.5, 2, 8 if op == "Concat" else 4, dtype=F32)
    net = same(save(tmp_path / "net.onnx", steps, **RANDOM, norm=numbers))
    assert isinstance(net.layers["batchnormalization3"], Conv)


@pytest.mark.parametrize("opset", [1, 6, 7, 9, 13, 14, 15, 17])
def test_training_mode_is_refused_in_every_version(tmp_path, opset):
    evaluates = {1: {"is_test": 1}, 6: {"is_test": 1}}.get(opset, {})
    norm = ("BatchNormalization", ["", *["four"] * 4], evaluates)
    path = tmp_path / "net.onnx"
    net = model([CONV, norm], opset=opset, **RANDOM, **FOUR)
    onnx.save(net, path)
    assert len(read_onnx(path)[0]) == 1
    if opset >= 14:
        net.graph.node[1].attribute.add(name="training_mode", type=2, i=1)
    elif opset >= 7:
        net.graph.node[1].output.extend(["mean_1", "var_1"])
    else:
        del net.graph.node[1].attribute[:]
    onnx.save(net, path)
    with pytest.raises(ValueError, match="'batchnormalization1': is in training mode: export the"):
        read_onnx(path)


def test_scaling_of_flat_numbers_that_no_matrix_follows(tmp_path):
    """Of one pixel: a layer of its own. Of several it is refused, see test_onnx_files.py."""
    norm = ("BatchNormalization", ["", *["four"] * 4], {})
    steps = [CONV, RELU, ("GlobalAveragePool", [""], {}), FLATTEN, norm]
    for more in ([], [RELU], [RELU, ("Gemm", ["", "small"], {})]):
        small = RNG.standard_normal((4, 3)).astype(F32)
        same(save(tmp_path / "net.onnx", [*steps, *more], **RANDOM, **FOUR, small=small))


@given(seed=seeds, which=st.sampled_from(["Silu", "gelu", "tanh", "hard", "relu6", "softplus"]))
def test_activations_that_are_several_nodes(tmp_path_factory, seed, which):
    """Their factors in any order, as exporters may write them."""
    rng = np.random.default_rng(seed)

    def mixed(*names):
        return list(rng.permutation(names))

    steps = {
        "Silu": [("Sigmoid", ["x"], {}), ("Mul", mixed("", "x"), {})],
        "gelu": [
            ("Div", ["x", "root2"], {}),
            ("Erf", [""], {}),
            ("Add", mixed("", "one"), {}),
            *(
                [("Mul", mixed("", "x"), {}), ("Mul", mixed("", "half"), {})]
                if seed % 2
                else [("Mul", mixed("", "half"), {}), ("Mul", mixed("", "x"), {})]
            ),
        ],
        "tanh": [
            ("Mul", ["x", "x"], {}),
            ("Mul", mixed("", "x"), {}),
            ("Mul", mixed("", "c"), {}),
            ("Add", mixed("", "x"), {}),
            ("Mul", mixed("", "root"), {}),
            ("Tanh", [""], {}),
            ("Add", mixed("", "one"), {}),
            ("Mul", mixed("", "x"), {}),
            ("Mul", mixed("", "half"), {}),
        ],
        "hard": [
            ("HardSigmoid", ["x"], {"alpha": 1 / 6, "beta": 0.5}),
            ("Mul", mixed("", "x"), {}),
        ],
        "relu6": [("Min", mixed("x", "six"), {}), ("Max", mixed("", "zero"), {})],
        "softplus": [("Exp", ["x"], {}), ("Add", mixed("", "one"), {}), ("Log", [""], {})],
    }[which]
    numbers = {"root2": np.sqrt(2), "one": 1, "half": 0.5, "c": 0.044715, "six": 6, "zero": 0}
    numbers["root"] = np.sqrt(2 / np.pi)
    constants = {name: np.array(value, F32) for name, value in numbers.items()}
    path = save(tmp_path_factory.getbasetemp() / "several.onnx", steps, **constants)
    assert len(same(path).layers) == 1


def test_a_group_that_others_take_from_is_no_activation(tmp_path):
    steps = [("Sigmoid", ["x"], {}), ("Mul", ["", "x"], {}), ("Add", ["", "sigmoid0"], {})]
    part = read_part(save(tmp_path / "net.onnx", steps))
    assert [name for name, *_ in part.layers] == ["sigmoid0"]
    assert "Mul 'mul1': multiplies two tensors" in part.stopped
    steps = [("Sigmoid", ["x"], {}), ("Mul", ["", "x"], {}), ("Mul", ["", ""], {})]
    part = read_part(save(tmp_path / "net.onnx", steps))
    assert [type(layer) for _, layer in part.layers] == [SiLU]
    mish = [("Softplus", ["x"], {}), ("Tanh", [""], {}), ("Mul", ["", "x"], {})]
    with pytest.raises(ValueError, match="Mul 'mul2': multiplies two tensors of images"):
        read_onnx(save(tmp_path / "net.onnx", mish))


def test_clip_of_old_and_of_one_side(tmp_path):
    sides = {"low": np.array(-0.5, F32), "high": np.array(0.7, F32)}
    for ends in (["low"], ["low", "high"], [None, "high"]):
        same(save(tmp_path / "net.onnx", [CONV, ("Clip", ["", *ends], {})], **RANDOM, **sides))
    path = save(tmp_path / "old.onnx", [("Clip", [""], {"min": 0.0, "max": 6.0})], opset=6)
    (layer,) = imported(path).layers.values()
    assert isinstance(layer, Clip)
    assert (layer.low, layer.high) == (0, 6)


def test_slopes(tmp_path):
    """One for each channel, one for all; also of flat numbers and of channels that are last."""
    slopes = {"each": np.array([-1, 0.5, 2], F32).reshape(3, 1, 1), "all": np.array([0.3], F32)}
    for name, shape in (("each", (3,)), ("all", (1,))):
        net = same(save(tmp_path / "net.onnx", [("PRelu", ["", name], {})], **slopes))
        (layer,) = net.layers.values()
        assert isinstance(layer, PReLU)
        assert layer.params["a"].shape == shape
    constants = RANDOM | {"two": np.array([-1, 0.5], F32), "eighty": np.ones(80, F32)}
    steps = [CONV, FLATTEN, GEMM, ("PRelu", ["", "two"], {})]
    same(save(tmp_path / "net.onnx", steps, **constants))
    path = save(tmp_path / "net.onnx", [*steps[:2], ("PRelu", ["", "eighty"], {})], **constants)
    with pytest.raises(ValueError, match="has slopes of flattened images"):
        read_onnx(path)


def test_tensors_of_flat_numbers_are_joined(tmp_path):
    """(N, 1, 1, C) that were flattened, and rows of a matrix."""
    steps = [
        CONV,
        ("GlobalAveragePool", [""], {}),
        FLATTEN,
        ("Flatten", ["conv0"], {}),
        ("Gemm", ["", "g"], {}),
        ("Concat", ["", "flatten2"], {"axis": -1}),
        ("Gemm", ["", "last"], {}),
    ]
    last = RNG.standard_normal((6, 3)).astype(F32)
    same(save(tmp_path / "net.onnx", steps, **RANDOM, last=last))


def test_sums(tmp_path):
    """Of one tensor, of a tensor and a constant, of three tensors."""
    four = {"four": np.array([0.5, 1, 1.5, 2], F32).reshape(4, 1, 1)}
    for inputs in ([""], ["", "four"], ["four", ""], ["", "conv0", "relu1"]):
        path = save(tmp_path / "net.onnx", [CONV, RELU, ("Sum", inputs, {})], **RANDOM, **four)
        assert len(same(path).layers) == (2 if len(inputs) == 1 else 3)


def test_a_pad_of_some_axes(tmp_path):
    """Operator set 18 names the axes; older ones have all four."""
    constants = RANDOM | {"some": np.array([2, 0, 0, 1]), "axes_used": np.array([-1, 2])}
    constants["all"] = np.array([0, 0, 1, 2, 0, 0, 0, 3])
    some = ("Pad", ["", "some", None, "axes_used"], {})
    same(save(tmp_path / "a", [some, CONV], opset=18, **constants))
    same(save(tmp_path / "b", [("Pad", ["", "all"], {}), CONV], opset=13, **constants))
    old = ("Pad", [""], {"pads": [0, 0, 1, 2, 0, 0, 0, 3]})
    same(save(tmp_path / "c", [old, CONV], opset=9, **constants))


def test_dilations_with_auto_pad(tmp_path):
    """onnxruntime computes only VALID; the others keep the size of the images."""
    small = {"small": RNG.standard_normal((4, 3, 2, 2)).astype(F32)}
    for auto in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        dilated = {"dilations": [2, 3], "auto_pad": auto, "kernel_shape": [2, 2]}
        path = save(tmp_path / "net.onnx", [("Conv", ["", "small"], dilated)], **small)
        if auto == "VALID":
            same(path)
        else:
            assert imported(path).shapes["conv0"] == (6, 7, 4)
