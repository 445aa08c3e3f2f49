"""ONNX files with images (N, H, W, C), as Keras writes them, and what becomes of their axes."""

import numpy as np
import pytest
from onnx import numpy_helper

from app.formats.onnx.reader import read_onnx
from tests.gradcheck import relative_error
from tests.onnx_models import CONSTANTS, CONV, EXPORTED, F32, GEMM, images, imported, save, theirs
from tests.test_onnx_import import softmax

TO_NCHW, TO_NHWC = (("Transpose", [""], {"perm": p}) for p in ([0, 3, 1, 2], [0, 2, 3, 1]))
LAST = ("N", 6, 7, 3)  # images of 6 x 7 pixels and 3 channels


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("grey", ["conv", "relu", "pool", "conv", "relu", "fc", "relu", "fc"]),
        ("colour", ["rescaling", "conv", "relu", "conv", "relu", "pool", "fc"]),
        ("average", ["conv", "relu", "pool", "conv", "relu", "average", "fc"]),
        (
            "resnet",
            [
                *["conv", "relu", "pool", "conv", "relu", "conv", "add", "relu", "conv", "relu"],
                *["conv", "conv", "add", "relu", "average", "fc"],
            ],
        ),
        ("mobile", [*["conv", "relu6"] * 3, "conv", "add", "maximum", "fc"]),
        (
            "squeeze",
            [
                *["conv", "relu", "conv", "silu", "conv", "tanh", "conv", "gelu", "concat", "norm"],
                *["conv", "average", "flatten"],
            ],
        ),
        (
            "acts",
            [
                *["conv", "leaky", "conv", "prelu", "conv", "elu", "conv", "softplus", "conv"],
                *["hard swish", "conv", "sigmoid", "conv", "fc"],
            ],
        ),
    ],
)
def test_keras_files_give_the_scores_that_onnxruntime_gives(name, layers):
    path = EXPORTED / f"keras_{name}.onnx"
    net = imported(path)
    assert len(net.layers) == len(layers)
    for N in (1, 4):
        x = images(N, net.input_shape)
        scores, expected = net.bottom_up(x), theirs(path, x, channels_last=True)
        assert expected.std() > 1e-3
        ours = scores if name in ("colour", "resnet", "acts") else softmax(scores)
        assert relative_error(ours, expected) < 1e-5


CHAINS = {
    "turned": [TO_NCHW, CONV],
    "normalised": [("Sub", ["", "three"], {}), ("Mul", ["", "three"], {}), TO_NCHW, CONV],
    "turned back": [TO_NCHW, CONV, TO_NHWC, ("Flatten", [""], {}), GEMM],
    "flat norm": [TO_NCHW, CONV, TO_NHWC, ("Flatten", [""], {}), ("Mul", ["", "flat"], {}), GEMM],
    "twice": [TO_NCHW, CONV, TO_NHWC, ("Relu", [""], {}), TO_NCHW, ("Flatten", [""], {}), GEMM],
    "mean": [TO_NCHW, CONV, TO_NHWC, ("ReduceMean", [""], {"axes": [1, 2], "keepdims": 0})],
    "only back": [("Transpose", [""], {"perm": [0, 1, 2, 3]}), TO_NCHW, CONV, TO_NHWC],
}


@pytest.mark.parametrize("name", CHAINS)
def test_channels_last(tmp_path, name):
    rng = np.random.default_rng(1)
    constants = CONSTANTS | {
        key: rng.standard_normal(CONSTANTS[key].shape, F32)
        for key in ("w", "b", "g", "three", "flat")
    }
    path = save(tmp_path / "net.onnx", CHAINS[name], LAST, opset=13, **constants)
    net = imported(path)
    assert net.input_shape == (6, 7, 3)
    x = images(2, (6, 7, 3))
    expected = theirs(path, x, channels_last=True, turned=name == "only back")
    assert relative_error(net.bottom_up(x), expected) < 1e-5


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([("Transpose", [""], {"perm": [0, 2, 1, 3]})], r"has the order \[0, 2, 1, 3\]: only to"),
        ([("Transpose", [""], {})], "Transpose 'transpose0': has the order None"),
        ([TO_NCHW, TO_NHWC, CONV], "'conv2': needs images .N, C, H, W., but here they are .N, H"),
        (
            [TO_NCHW, TO_NHWC, ("BatchNormalization", ["", *["three"] * 4], {})],
            "takes the channels from axis 1, but here they are last",
        ),
        ([TO_NCHW, TO_NHWC, ("Add", ["", "mean"], {})], "Add 'add2': has numbers of .3, 1, 1."),
        ([TO_NCHW, CONV, ("Reshape", ["", "turned"], {})], r"reshapes to \[1, 4, 5, 4\]: only"),
    ],
)
def test_other_orders_are_refused(tmp_path, steps, message):
    constants = CONSTANTS | {"turned": np.array([1, 4, 5, 4])}
    path = save(tmp_path / "net.onnx", steps, LAST, opset=13, **constants)
    with pytest.raises(ValueError, match=message):
        read_onnx(path)


def test_one_channel_is_turned_by_a_reshape(tmp_path):
    """A matrix of pixels is the same in both orders."""
    w = numpy_helper.from_array(np.arange(18, dtype=F32).reshape(2, 1, 3, 3), "w1")
    there, back = np.array([-1, 1, 6, 7]), np.array([-1, 6, 7, 1])
    steps = [("Reshape", ["", "there"], {}), ("Conv", ["", "w1"], {"kernel_shape": [3, 3]})]
    path = save(tmp_path / "net.onnx", steps, ("N", 6, 7, 1), there=there, w1=w)
    net, x = imported(path), images(2, (6, 7, 1))
    expected = theirs(path, x, channels_last=True)
    assert relative_error(net.bottom_up(x), expected) < 1e-5
    steps = [("Reshape", ["", "back"], {}), ("Reshape", ["", "there"], {}), *steps[1:]]
    path = save(tmp_path / "again.onnx", steps, ("N", 1, 6, 7), there=there, back=back, w1=w)
    assert relative_error(imported(path).bottom_up(x), theirs(path, x)) < 1e-5
