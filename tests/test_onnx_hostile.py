"""ONNX files that are broken, old, or meant to do harm: what is read, what is refused, how soon."""

import os
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.formats.net import open_network
from app.formats.onnx import graph
from app.formats.onnx.reader import read_onnx
from tests.gradcheck import relative_error
from tests.onnx_models import CONSTANTS, CONV, EXPORTED, F32, GEMM, images, imported, model, save

FLATTEN, RELU = ("Flatten", [""], {}), ("Relu", [""], {})
OTHERS = {
    "f": np.ones((5, 4), F32),
    "wide": np.ones((4, 1, 1), F32),
    "two": np.ones(2, F32),
    "deep": np.ones((1, 1, 1, 1, 3), F32),
    "none": np.ones((0, 3, 3, 3), F32),
    "real": np.ones(2, F32),
    "many": np.arange(99),
}
WORDS_OF_PYTHON = ("Error", "NoneType", "index", "iterable", "axis 0", "broadcast", "cannot", "{")
REFUSED = {
    "weights first": ([FLATTEN, ("MatMul", ["f", ""], {})], "takes the images as input 2, not as"),
    "bias": ([("Conv", ["", "w", "wide"], {})], r"has a bias of \(4, 1, 1\), expected \(4,\)"),
    "bias of a Gemm": ([CONV, FLATTEN, ("Gemm", ["", "g", "w"], {})], "has a bias of .4, 3, 3, 3."),
    "short bias": ([("Conv", ["", "w", "two"], {})], r"has a bias of \(2,\), expected \(4,\)"),
    "no weights": ([("Conv", [""], {})], "has no input at place 2"),
    "no filters": ([("Conv", ["", "none"], {})], "has weights of .0, 3, 3, 3. in 1 groups for 3"),
    "no numbers": ([("Gemm", ["", "scalar"], {})], "needs flat numbers"),
    "flat scalar": (
        [FLATTEN, ("Gemm", ["", "scalar"], {})],
        r"has weights of \(\) for what should",
    ),
    "row of weights": (
        [FLATTEN, ("MatMul", ["", "two"], {})],
        r"has weights of \(2,\) for what sh",
    ),
    "one stride": ([("Conv", ["", "w"], {"strides": [1]})], r"has strides of \[1\], not 2 numbers"),
    "three pads": (
        [("Conv", ["", "w"], {"pads": [1] * 3})],
        "has pads of .*, not 4 numbers from 0",
    ),
    "less than no pads": ([("Conv", ["", "w"], {"pads": [-1] * 4})], "not 4 numbers from 0 to"),
    "huge pads": ([("Conv", ["", "w"], {"pads": [2**40] * 4})], "not 4 numbers from 0 to 1024"),
    "huge window": (
        [("MaxPool", [""], {"kernel_shape": [2**40, 2]})],
        "not 2 numbers from 1 to 10",
    ),
    "real strides": (
        [("Conv", ["", "w"], {"strides": [1.0, 1.0]})],
        "strides that is not whole nu",
    ),
    "stride": ([("Conv", ["", "w"], {"strides": 1})], "an attribute strides that is not whole num"),
    "group": ([("Conv", ["", "w"], {"group": "1"})], "an attribute group that is not a whole num"),
    "alpha": ([CONV, ("LRN", [""], {"size": 3, "alpha": np.nan})], "alpha that is not a finite nu"),
    "LRN of any size": ([CONV, ("LRN", [""], {})], "the neighbourhood must be of odd size, got 0"),
    "auto_pad": ([("Conv", ["", "w"], {"auto_pad": 3})], "an attribute auto_pad that is not text"),
    "axis": ([CONV, ("Softmax", [""], {"axis": 5})], "is over the axis 5, which is not that of"),
    "far axis": ([CONV, ("Softmax", [""], {"axis": -7})], "is over the axis -7, which is not"),
    "axes": ([CONV, ("ReduceMean", [""], {"axes": [2, 7]})], "means over the axes .2, 7.: only"),
    "real axes": ([("Squeeze", ["", "real"], {})], "'real' is not made of a few whole numbers"),
    "many axes": ([("Squeeze", ["", "many"], {})], "'many' is not made of a few whole numbers"),
    "ratio": ([("Dropout", ["", "two"], {})], r"'two' is \(2,\), expected one number"),
    "five axes": ([("Add", ["", "deep"], {})], "has numbers of .1, 1, 1, 1, 3.: only one for each"),
    "norms": (
        [("BatchNormalization", ["", "three", "three", "two", "three"], {})],
        r"has \(2,\) numbers for 3 channels",
    ),
    "no target": ([CONV, ("Reshape", [""], {})], r"reshapes to \[\]: only \(N, D\) can be had"),
    "allowzero": (
        [CONV, ("Reshape", ["", "whole"], {"allowzero": 1})],
        r"reshapes to \[0, 79\], no numbers at all",
    ),
    "no order": ([("Transpose", [""], {})], "has the order None: only to put the channels last"),
    "no value": (
        [("Constant", [], {}), ("Add", ["x", "constant0"], {})],
        "Add 'add1': the constant 'constant0' has no numbers",
    ),
    "words": (
        [("Constant", [], {"value_string": "one"}), ("Add", ["x", "constant0"], {})],
        "the constant 'constant0' has no numbers",
    ),
    "no inputs": ([("Identity", [], {}), CONV], "what comes out, 'conv1', is not computed"),
    "shape of nothing": (
        [("Shape", [], {}), CONV],
        "what comes out, 'conv1', is not computed",
    ),
    "arithmetic": (
        [("Shape", [""], {}), ("Gather", ["", "many"], {}), ("Reshape", ["x", ""], {})],
        "Reshape 'reshape2': its input 'gather1' is no constant of the file",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_wrong_is_said_in_our_words(tmp_path, what):
    steps, message = REFUSED[what]
    constants = CONSTANTS | OTHERS | {"scalar": np.array(1.0, F32)}
    path = save(tmp_path / "net.onnx", steps, opset=13, **constants)
    with pytest.raises(ValueError, match=message) as caught:
        read_onnx(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert not [word for word in WORDS_OF_PYTHON if word in str(caught.value)]
    assert "\n" not in str(caught.value)


def changed(path, steps, change, **constants):
    net = model(steps, **{**CONSTANTS, **constants})
    change(net.graph)
    onnx.save(net, path)
    return path


def test_an_old_reshape_has_its_shape_as_an_attribute(tmp_path):
    """Operator set 1; as the first node, too, where it could turn the axes of the images."""
    steps = [CONV, ("Reshape", [""], {"shape": [0, 80]}), GEMM]
    old = imported(save(tmp_path / "old.onnx", steps, opset=1, **CONSTANTS))
    new = imported(save(tmp_path / "new.onnx", [CONV, FLATTEN, GEMM], **CONSTANTS))
    x = images(2, (6, 7, 3))
    np.testing.assert_array_equal(old.bottom_up(x), new.bottom_up(x))
    first = [("Reshape", [""], {"shape": [-1, 3, 6, 7]}), CONV]
    assert list(imported(save(tmp_path / "first.onnx", first, opset=1, **CONSTANTS)).layers)
    path = save(tmp_path / "none.onnx", [("Reshape", [""], {}), CONV], opset=1, **CONSTANTS)
    with pytest.raises(ValueError, match=r"Reshape 'reshape0': reshapes to \[\]"):
        read_onnx(path)


def test_nodes_and_tensors_that_are_not_sound(tmp_path):
    path = tmp_path / "net.onnx"

    def refused(change, message, steps=(CONV, RELU)):
        with pytest.raises(ValueError, match=message) as caught:
            read_onnx(changed(path, list(steps), change))
        assert not [word for word in WORDS_OF_PYTHON if word in str(caught.value)]

    def weights(graph):
        return next(tensor for tensor in graph.initializer if tensor.name == "w")

    refused(
        lambda g: g.node[1].output.pop(), "net.onnx is not a sound ONNX file: a node 'Relu' has"
    )
    refused(lambda g: g.node[1].output.__setitem__(0, "w"), "Relu 'relu1' gives what is there alre")
    refused(
        lambda g: weights(g).dims.__setitem__(0, -1), r"'w' is not sound: .*shape \(-1, 3, 3, 3"
    )
    refused(lambda g: weights(g).dims.__setitem__(0, 2**60), "'w' is not sound: its numbers do not")
    refused(lambda g: weights(g).dims.extend([1] * 99), "'w' is not sound: it has the shape")
    refused(
        lambda g: setattr(weights(g), "data_type", 8), "'w' is not sound: it has the type 8, no"
    )
    refused(lambda g: setattr(weights(g), "data_type", 99), "'w' is not sound: it has the type 99,")
    refused(
        lambda g: setattr(weights(g), "raw_data", b"abc"), "'w' is not sound: its numbers do no"
    )


def test_numbers_that_overflow_on_the_way_are_found(tmp_path):
    """Each number of the file is finite, but not what batch normalisation or alpha make of it."""
    huge = {"huge": np.full((3, 1, 1), 1e38, F32), "v": np.full((4, 3, 3, 3), 1e30, F32)}
    steps = [("Conv", ["", "v", "b"], {}), ("Mul", ["", "huge"], {})]
    four = np.full((4, 1, 1), 1e38, F32)
    path = save(tmp_path / "net.onnx", steps, **{**CONSTANTS, **huge, "huge": four})
    with pytest.raises(ValueError, match="net.onnx: conv0.w is not made of finite numbers"):
        open_network(path)
    steps = [CONV, FLATTEN, ("Gemm", ["", "g"], {"alpha": 3e38})]
    path = save(path, steps, **CONSTANTS | {"g": np.full((80, 2), 1e3, F32)})
    with pytest.raises(ValueError, match="net.onnx: gemm2.w is not made of finite numbers"):
        open_network(path)


def elsewhere(path, location, **more):
    """A net whose weights w are said to be in another file."""

    def move(graph):
        w = next(tensor for tensor in graph.initializer if tensor.name == "w")
        w.ClearField("raw_data")
        w.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **more}.items():
            w.external_data.add(key=key, value=str(value))

    return changed(path, [CONV], move)


DATA = np.random.default_rng(0).random((4, 3, 3, 3)).astype(F32)


def test_weights_beside_the_file(tmp_path):
    """Also in a folder of its folder, from some byte on, and where both are links to one store."""
    folder, store = tmp_path / "model", tmp_path / "store"
    (folder / "data").mkdir(parents=True)
    store.mkdir()
    (folder / "data" / "w.bin").write_bytes(b"12345678" + DATA.tobytes() + b"more")
    path = elsewhere(folder / "net.onnx", "data/w.bin", offset=8, length=DATA.nbytes)
    expected = DATA.transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(read_onnx(path)[1]["conv0.w"], expected)
    elsewhere(store / "first", "w.bin")
    (store / "second").write_bytes(DATA.tobytes())
    for name, stored in (("linked.onnx", "first"), ("w.bin", "second")):
        (folder / name).symlink_to(os.path.join("..", "store", stored))
    np.testing.assert_array_equal(read_onnx(folder / "linked.onnx")[1]["conv0.w"], expected)


@pytest.mark.parametrize(
    ("location", "more", "message"),
    [
        ("../secret", {}, "'../secret' is outside the folder of"),
        ("{}/secret", {}, "is outside the folder of"),
        ("link", {}, "'link' is outside the folder of"),
        ("linked/secret", {}, "'linked/secret' is outside the folder of"),
        ("a" * 5000, {}, "File name too long: 'a"),
        ("", {}, "'' is outside the folder of"),
        ("w\0", {}, "bytes are needed"),
        ("w", {"offset": 1}, "'w' has 432 bytes, not 1 [+] 432"),
        ("w", {"offset": -1}, "432 bytes are needed"),
        ("w", {"offset": "9" * 5000}, "432 bytes are needed"),
        ("w", {"length": 431}, "432 bytes are needed, '431' are said to be there"),
        ("w", {"length": "many"}, "432 bytes are needed, 'many' are said to be there"),
        ("device", {}, "'device' is outside the folder of"),
        ("pipe", {}, "is no regular file, but a pipe or a device"),
    ],
)
def test_weights_of_another_folder_are_not_read(tmp_path, location, more, message):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(DATA.tobytes())
    (folder / "w").write_bytes(DATA.tobytes())
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "linked").symlink_to(tmp_path)
    (folder / "device").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe")
    path = elsewhere(folder / "net.onnx", location.format(tmp_path), **more)
    with pytest.raises(ValueError, match=message) as caught:
        read_onnx(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: Conv 'conv0': the tensor 'w' is kept in another file: ")
    assert len(text) < 700
    assert "\n" not in text


def test_shape_arithmetic_that_doubles_and_doubles(tmp_path):
    """2.6 KB of 40 nodes would make 4 * 2^40 numbers."""
    doubling = [("Concat", ["", ""], {"axis": 0})] * 40
    steps = [("Shape", [""], {}), *doubling, ("Reshape", ["x", ""], {}), CONV]
    path = save(tmp_path / "net.onnx", steps, **CONSTANTS)
    began = time.perf_counter()
    with pytest.raises(
        ValueError, match="Reshape 'reshape41': its input 'concat40' is no constant"
    ):
        read_onnx(path)
    assert time.perf_counter() - began < 5


def test_many_nodes_of_one_name(tmp_path):
    def same_name(graph):
        for node in graph.node:
            node.name = "again"

    path = changed(tmp_path / "net.onnx", [CONV, *[RELU] * 1500], same_name)
    began = time.perf_counter()
    layers, _, _ = read_onnx(path)
    assert time.perf_counter() - began < 5
    assert [name for name, _ in layers] == ["again", *(f"again_{n}" for n in range(2, 1502))]


def test_nodes_in_a_circle(tmp_path):
    steps = [("Identity", ["identity1"], {}), ("Identity", ["identity0"], {})]
    path = save(tmp_path / "net.onnx", steps, **CONSTANTS)
    with pytest.raises(ValueError, match="'identity1', is not computed from what goes in"):
        read_onnx(path)
    steps = [("Add", ["x", "sigmoid2"], {}), ("Mul", ["", "x"], {}), ("Sigmoid", [""], {})]
    path = save(tmp_path / "net.onnx", steps, **CONSTANTS)
    with pytest.raises(ValueError, match="'sigmoid2' is no constant of the file"):
        read_onnx(path)


def test_weights_that_are_copied_again_and_again(tmp_path):
    """10 MB of weights, and 2,000 nodes that each would make 20 or 40 MB of them."""
    w = numpy_helper.from_array(np.ones((2500, 1000), F32), "large")
    casts = [("Cast", ["" if n else "large"], {"to": 11 - 10 * (n % 2)}) for n in range(2000)]
    path = save(tmp_path / "net.onnx", [*casts, ("Conv", ["x", ""], {})], large=w)
    began = time.perf_counter()
    with pytest.raises(ValueError, match="Conv 'conv2000': its input 'cast1999' is no constant"):
        read_onnx(path)
    assert time.perf_counter() - began < 5
    outer = [("Mul", ["", "column"], {}) for _ in range(3)]  # numbers that would grow
    constants = {"column": np.ones((1000, 1), F32), "row": np.ones((1, 1000), F32)}
    steps = [("Mul", ["row", "column"], {}), *outer, ("Conv", ["x", ""], {})]
    path = save(tmp_path / "net.onnx", steps, **constants)
    with pytest.raises(ValueError, match="Conv 'conv4': its input 'mul3' is no constant"):
        read_onnx(path)


def test_more_nodes_than_any_net_has(tmp_path, monkeypatch):
    monkeypatch.setattr(graph, "MOST_NODES", 50)
    path = save(tmp_path / "net.onnx", [CONV, *[RELU] * 50], **CONSTANTS)
    with pytest.raises(ValueError, match="there are 51 nodes in it, not 1 to 50"):
        read_onnx(path)


def test_weights_that_many_nodes_share(tmp_path):
    """A file of 4 MB would make 4 GB of weights."""
    shared = numpy_helper.from_array(np.ones((1000, 1000, 1, 1), F32), "shared")
    steps = [("Conv", ["", "shared"], {})] * 1000
    path = save(tmp_path / "net.onnx", steps, ("N", 1000, 1, 1), shared=shared)
    began = time.perf_counter()
    with pytest.raises(
        ValueError, match="Conv 'conv20': gives images of .*, or the weights, are too"
    ):
        read_onnx(path)
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize(
    ("shape", "steps", "message"),
    [
        ((1, 3, 2**40, 2**40), [CONV], "which are too large"),
        ((1, 2**40, 1, 1), [("Mul", ["", "scalar"], {}), CONV], "which are too large"),
        ((1, 2**20, 1, 1), [("Mul", ["", "scalar"], {}), CONV], "which are too large"),
        (
            (1, 3, 9000, 9000),
            [("Conv", ["", "w"], {"pads": [1000] * 4})],
            "make the image too large",
        ),
        ((1, 3, 9000, 9000), [CONV], "gives images of .8998, 8998, 4.: these, or the weights, are"),
        (
            (1, 3, 9000, 9000),
            [("Mul", ["", "scalar"], {}), FLATTEN, GEMM],
            "should be 243000000 num",
        ),
    ],
)
def test_sizes_that_a_file_claims(tmp_path, shape, steps, message):
    constants = CONSTANTS | {"scalar": np.array(2.0, F32)}
    path = save(tmp_path / "net.onnx", steps, shape, **constants)
    with pytest.raises(ValueError, match=message):
        read_onnx(path)


def test_a_file_is_not_changed_by_scalars_on_flat_numbers(tmp_path):
    """They are kept as one number until the size of what they scale is known from the weights."""
    constants = CONSTANTS | {"scalar": np.array(2.0, F32)}
    steps = [CONV, FLATTEN, ("Mul", ["", "scalar"], {}), ("Add", ["", "scalar"], {}), GEMM]
    net = imported(save(tmp_path / "net.onnx", steps, **constants))
    plain = imported(save(tmp_path / "plain.onnx", [CONV, FLATTEN, GEMM], **CONSTANTS))
    x = images(2, (6, 7, 3))
    expected = 2 * plain.bottom_up(x) + 2 * 80  # weights of ones
    assert relative_error(net.bottom_up(x), expected) < 1e-6


def test_text_that_is_not_utf8(tmp_path):
    whole = (EXPORTED / "two_layers.onnx").read_bytes()
    path = tmp_path / "net.onnx"
    path.write_bytes(whole.replace(b"Relu", b"Re\xffu"))
    with pytest.raises(ValueError, match="net.onnx") as caught:
        read_onnx(path)
    assert not [word for word in WORDS_OF_PYTHON if word in str(caught.value)]


def test_a_name_of_any_length_makes_a_short_message(tmp_path):
    node = helper.make_node("Selu", ["x"], ["conv0"], "a" * 60_000)
    net = model([CONV], **CONSTANTS)
    del net.graph.node[:]
    net.graph.node.append(node)
    onnx.save(net, tmp_path / "net.onnx")
    with pytest.raises(ValueError, match="Selu 'aaa") as caught:
        read_onnx(tmp_path / "net.onnx")
    assert len(str(caught.value)) < 800
