"""The .safetensors format: every type of number, and what is not sound."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.formats.safetensors import load_safetensors
from app.formats.weights import load_weights


def safetensors(path, header, data=b""):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


ARRAY = np.array([[1.5, -2, 0.25], [0, 3, -0.5]])


@pytest.mark.parametrize("kind", ["F64", "F32", "F16", "BF16", "I64", "U8"])
def test_safetensors_of_every_type(tmp_path, kind):
    numbers = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "U8": "u1"}
    array = ARRAY if "F" in kind else np.arange(6).reshape(2, 3)
    if kind == "BF16":
        data = (array.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    else:
        data = array.astype(numbers[kind]).tobytes()
    header = {
        "__metadata__": {"format": "pt"},
        "a.weight": {"dtype": kind, "shape": [2, 3], "data_offsets": [3, 3 + len(data)]},
        "b": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]},
        "nothing": {"dtype": "F32", "shape": [0, 2], "data_offsets": [3, 3]},
    }
    arrays = load_safetensors(safetensors(tmp_path / "a", header, b"xyz" + data))
    assert arrays["a.weight"].dtype == {"BF16": np.float32}.get(kind, numbers.get(kind))
    np.testing.assert_array_equal(arrays["a.weight"], array)
    np.testing.assert_array_equal(arrays["b"], list(b"xyz"))
    assert arrays["nothing"].shape == (0, 2)


def entry(dtype="F32", shape=(2,), offsets=(0, 8), **more):
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}}


def named(name, shape=(2,), offsets=(0, 8)):
    return {name: entry(shape=shape, offsets=offsets)["a"]}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (entry(offsets=[0, 12]), "a, F32 of .2., is said to be at .0, 12."),
        (entry(offsets=[4, 12]), "a tensor begins at byte 4, the one before ends at 0"),
        (entry(offsets=[0, 4]), "is said to be at .0, 4."),
        (entry(offsets=[8, 0]), "is said to be at .8, 0."),
        (entry(shape=[1], offsets=[0, 4]), "its tensors are 4 bytes, but there are 8"),
        ({**entry(), **named("b")}, "a tensor begins at byte 0, the one before ends at 8"),
        ({**entry(shape=[1], offsets=[0, 4]), **named("b", [1], [5, 9])}, "begins at byte 5"),
        ({**entry(), **named("b", [1], [8, 12])}, "its tensors are 12 bytes, but there are 8"),
        (b'{"a": 1, "a": 2}', "its header is not sound JSON, or has a name twice"),
        (json.dumps(entry()).replace("2", "9" * 5000).encode(), "its header is not sound JSON"),
        (json.dumps(entry()).encode("utf-16"), "its header is not sound JSON"),
        (entry(offsets=[-8, 0]), "a has the shape"),
        (entry(shape=[-2]), "a has the shape"),
        (entry(shape=[2.0]), "a has the shape"),
        (entry(shape=[True, 2]), "a has the shape"),
        (entry(shape=[2**62, 4], offsets=[0, 0]), "is said to be at .0, 0."),
        (entry(shape=5), "not a sound .safetensors file"),
        (entry(offsets=[0]), "not a sound .safetensors file"),
        (entry(dtype="F8_E4M3", shape=[8]), "a is made of F8_E4M3, not of one of F64, F32, F16"),
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


def test_weights_must_be_finite_real_numbers_but_counters_may_be_there(tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors(path, entry(), np.array([1, np.inf], "<f4").tobytes())
    with pytest.raises(ValueError, match="a.safetensors: a is not made of finite numbers"):
        load_weights(path)
    safetensors(path, entry("F64", offsets=(0, 16)), np.array([1, 1e300]).tobytes())
    with pytest.raises(ValueError, match="a.safetensors: a is not made of finite numbers"):
        load_weights(path)
    safetensors(path, entry("I64", shape=[1]), bytes(8))
    with pytest.raises(ValueError, match="a.safetensors: a is made of int64, not of real numbers"):
        load_weights(path)
    counter = {"bn1.num_batches_tracked": entry("I64", [], (8, 16))["a"]}
    safetensors(path, entry() | counter, np.array([1, 2], "<f4").tobytes() + bytes(8))
    arrays, _ = load_weights(path)
    assert list(arrays) == ["a"]
    np.testing.assert_array_equal(arrays["a"], [1, 2])


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
