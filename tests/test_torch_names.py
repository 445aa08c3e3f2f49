"""PyTorch's weights: torchvision's AlexNet under our names, and .safetensors files."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.formats.torchvision import NAMES, from_torchvision, is_torchvision, load_safetensors
from nn.nets import build
from tests.gradcheck import relative_error

SHAPES = {
    "features.0": (64, 3, 11, 11),
    "features.3": (192, 64, 5, 5),
    "features.6": (384, 192, 3, 3),
    "features.8": (256, 384, 3, 3),
    "features.10": (256, 256, 3, 3),
    "classifier.1": (4096, 9216),
    "classifier.4": (4096, 4096),
    "classifier.6": (1000, 4096),
}


def state_dict(layers):
    rng = np.random.default_rng(0)
    arrays = {}
    for layer in layers:
        shape = SHAPES[layer]
        arrays[f"{layer}.weight"] = rng.standard_normal(shape, np.float32) * 0.02
        arrays[f"{layer}.bias"] = rng.standard_normal(shape[0], np.float32)
    return arrays


def test_all_of_alexnet_has_our_names_and_shapes():
    arrays = {
        name: np.broadcast_to(
            np.float32(0), SHAPES[name.rpartition(".")[0]][: None if name.endswith("weight") else 1]
        )
        for name in NAMES
    }
    net = build("alexnet-torchvision")
    ours = from_torchvision(arrays)
    assert {n: a.shape for n, a in ours.items()} == {n: a.shape for n, a in net.params().items()}
    net.set_params(ours)


def test_a_part_convolves_as_pytorch_does():
    """One window of conv1 by hand: sum over c, i, j of w[f, c, i, j] x[c, i, j]."""
    arrays = state_dict(["features.0"])
    net = build("alexnet-torchvision", up_to="conv1")
    net.set_params(from_torchvision(arrays))
    x = np.random.default_rng(1).standard_normal((1, 224, 224, 3)).astype(np.float32)
    window = x[0, 4 * 7 - 2 : 4 * 7 + 9, 4 * 5 - 2 : 4 * 5 + 9]
    expected = np.einsum("fcij,ijc->f", arrays["features.0.weight"], window)
    expected += arrays["features.0.bias"]
    assert relative_error(net.bottom_up(x)[0, 7, 5], expected) < 1e-5


def test_fc6_counts_its_inputs_in_our_order():
    rng = np.random.default_rng(2)
    w, maps = rng.standard_normal((5, 9216)), rng.standard_normal((256, 6, 6))
    ours = from_torchvision({"classifier.1.weight": w})["fc6.w"]
    np.testing.assert_allclose(maps.transpose(1, 2, 0).ravel() @ ours, w @ maps.ravel(), rtol=1e-9)


def test_names_are_recognised_and_others_left_for_set_params():
    assert is_torchvision({"features.0.weight": 0, "other": 1})
    assert not is_torchvision({"conv1.w": 0, "features.0.w": 1})
    assert list(from_torchvision({"features.0.bias": 0, "features.2.weight": 1})) == [
        "conv1.b",
        "features.2.weight",
    ]


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("features.3.weight", (4, 3), r"features.3.weight is .4, 3., expected .F, C, KH, KW."),
        ("classifier.4.weight", (4,), r"classifier.4.weight is .4,., expected .F, D."),
        ("classifier.1.weight", (4, 99), r"classifier.1.weight is .4, 99., expected .F, C . 6"),
    ],
)
def test_shapes_that_cannot_be_turned(name, shape, message):
    with pytest.raises(ValueError, match=message):
        from_torchvision({name: np.zeros(shape)})


def safetensors(path, header, data=b""):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


ARRAY = np.array([[1.5, -2, 0.25], [0, 3, -0.5]])


@pytest.mark.parametrize("kind", ["F64", "F32", "F16", "BF16"])
def test_safetensors_of_every_real_type(tmp_path, kind):
    numbers = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
    if kind == "BF16":
        data = (ARRAY.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    else:
        data = ARRAY.astype(numbers[kind]).tobytes()
    entry = {"dtype": kind, "shape": [2, 3], "data_offsets": [3, 3 + len(data)]}
    header = {"__metadata__": {"format": "pt"}, "a.weight": entry}
    arrays = load_safetensors(safetensors(tmp_path / "a", header, b"xyz" + data))
    assert list(arrays) == ["a.weight"]
    assert arrays["a.weight"].dtype == np.float32
    np.testing.assert_array_equal(arrays["a.weight"], ARRAY)


def entry(dtype="F32", shape=(2,), offsets=(0, 8), **more):
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (entry(offsets=[0, 12]), "F32 of .2., is said to be at .0, 12. of 8 bytes"),
        (entry(offsets=[4, 12]), "of 8 bytes"),
        (entry(offsets=[0, 4]), "of 8 bytes"),
        (entry(offsets=[8, 0]), "of 8 bytes"),
        (entry(offsets=[-8, 0]), "a has the shape"),
        (entry(shape=[-2]), "a has the shape"),
        (entry(shape=[2.0]), "a has the shape"),
        (entry(shape=[True, 2]), "a has the shape"),
        (entry(shape=[2**62, 4], offsets=[0, 0]), "of 8 bytes"),
        (entry(shape=5), "not a sound .safetensors file"),
        (entry(offsets=[0]), "not a sound .safetensors file"),
        (entry(dtype="I64", shape=[1]), "a is made of I64, not of one of F64, F32, F16, BF16"),
        (entry(dtype=[]), "not a sound .safetensors file"),
        (entry(more=1), "not a sound .safetensors file"),
        ({"a": {}}, "not a sound .safetensors file"),
        ({"a": 3}, "not a sound .safetensors file"),
        ([1], "not a sound .safetensors file"),
        (b"[" * 100_000, "not a sound .safetensors file"),
        (b"\xff{}", "not a sound .safetensors file"),
        (b"", "not a sound .safetensors file"),
    ],
)
def test_safetensors_that_are_not_sound(tmp_path, header, message):
    path = safetensors(tmp_path / "a", header, np.array([1, 2], "<f4").tobytes())
    with pytest.raises(ValueError, match=message) as caught:
        load_safetensors(path)
    assert str(caught.value).startswith(f"{path} is not a sound .safetensors file: ")
    assert "\n" not in str(caught.value)


def test_numbers_that_are_not_finite(tmp_path):
    path = safetensors(tmp_path / "a", entry(), np.array([1, np.inf], "<f4").tobytes())
    with pytest.raises(ValueError, match="a is not made of finite numbers"):
        load_safetensors(path)
    wide = entry("F64", offsets=(0, 16))
    safetensors(path, wide, np.array([1, 1e300]).tobytes())
    with pytest.raises(ValueError, match="a is not made of finite numbers"):
        load_safetensors(path)


@given(cut=st.integers(0, 79))
def test_truncated_safetensors(tmp_path_factory, cut):
    path = safetensors(tmp_path_factory.getbasetemp() / "cut", entry(), bytes(8))
    whole = path.read_bytes()
    path.write_bytes(whole[: min(cut, len(whole) - 1)])
    with pytest.raises(ValueError, match="not a sound .safetensors file"):
        load_safetensors(path)


def test_a_header_longer_than_the_file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(struct.pack("<Q", 2**63) + b"{}")
    with pytest.raises(ValueError, match="says that its header has 9223372036854775808 bytes"):
        load_safetensors(path)
