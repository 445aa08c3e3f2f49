"""The CUDA kernels against the textbook: on a GPU, or as C++ where there is none."""

import ctypes
import re
import shutil
import subprocess
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fast.cpu import windows
from fast.gpu import kernels
from fast.room import Room
from nn.linear import Linear
from nn.lrn import LRN
from nn.network import Network
from nn.pool import MaxPool
from nn.relu import ReLU
from nn.sgd import SGD
from tests.cases import seeds

# What CUDA brings, for one thread after the other.
PRELUDE = """
#include <cmath>
#define __global__
struct { long long x; } blockIdx, blockDim = {1}, threadIdx = {0};
"""
POINTED = {"unsigned char": np.uint8, "const unsigned char": np.uint8, "const double": np.float64}


def as_loops(source):
    """Beside each kernel a function that runs it for every element: (C++, {name: parameters})."""
    found = re.findall(r'extern "C" __global__ void (\w+)\(([^)]*)\)', source)
    parameters = {name: [" ".join(p.split()) for p in text.split(",")] for name, text in found}
    loops = [
        f'extern "C" void all_{name}({", ".join(each)}) {{ for (long long i = 0; i < size; i++) '
        f"{{ blockIdx.x = i; {name}({', '.join(re.split(r'[ *]', p)[-1] for p in each)}); }} }}"
        for name, each in parameters.items()
    ]
    return "\n".join([PRELUDE, source, *loops]), parameters


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """{(dtype, index): (library, parameters)} of kernels.cu, compiled for the CPU."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler to try the CUDA kernels on the CPU")
    made = {}
    for types in product(("float32", "float64"), ("int32", "int64")):
        code, parameters = as_loops(kernels.source(*types))
        place = tmp_path_factory.mktemp("-".join(types))
        (place / "kernels.cpp").write_text(code)
        command = [
            compiler,
            "-O1",
            "-shared",
            "-fPIC",
            "-ffp-contract=off",
            "-o",
            place / "kernels.so",
            place / "kernels.cpp",
        ]
        subprocess.run(command, check=True)
        made[types] = ctypes.CDLL(str(place / "kernels.so")), parameters
    return made


@pytest.fixture(scope="module", params=[kernels.NARROW, 0], ids=["int32", "int64"])
def on_cpu(compiled, request):
    """kernels.launch for NumPy arrays, counting in either type."""

    def launch(name, result, *arguments):
        dtype, index, arguments = kernels.prepared(result, arguments)
        assert index == ("int32" if request.param else "int64")
        library, parameters = compiled[dtype, index]
        passed = []
        for argument, parameter in zip(arguments, parameters[name], strict=True):
            if "*" in parameter:
                kind = POINTED.get(parameter.rpartition("*")[0], dtype)
                assert argument.dtype == kind
                passed.append(ctypes.c_void_p(argument.ctypes.data))
            elif parameter.startswith("double "):
                assert type(argument) is float  # 8 bytes as CuPy passes it
                passed.append(ctypes.c_double(argument))
            else:
                assert argument.dtype == index
                passed.append(np.ctypeslib.as_ctypes_type(index)(argument))
        getattr(library, f"all_{name}")(*passed)

    before = kernels.launch, kernels.NARROW
    kernels.launch, kernels.NARROW = launch, request.param
    yield
    kernels.launch, kernels.NARROW = before


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("index", ["int32", "int64"])
def test_nvcc_compiles_them(tmp_path, dtype, index):
    compiler = shutil.which("nvcc")
    if compiler is None:
        pytest.skip("no nvcc to compile the CUDA kernels")
    (tmp_path / "kernels.cu").write_text(kernels.source(dtype, index))
    command = [compiler, "-arch=sm_90", "-cubin", "-o", tmp_path / "kernels.cubin"]
    subprocess.run([*command, tmp_path / "kernels.cu"], check=True)


@st.composite
def geometries(draw, pooling=False):
    """(kernel, stride, pad, shape of the images, rng)."""
    kernel = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    stride = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    top = [draw(st.integers(0, k - 1)) if pooling else 0 for k in kernel]
    H, W = (k + draw(st.integers(0, 7)) for k in kernel)
    shape = draw(st.integers(1, 3)), H, W, draw(st.integers(1, 3))
    return kernel, stride, tuple((p, p) for p in top), shape, np.random.default_rng(draw(seeds))


@given(case=geometries(), dtype=st.sampled_from(["float32", "float64"]))
def test_windows_and_fold(on_cpu, case, dtype):
    (KH, KW), stride, _, (N, H, W, C), rng = case
    whole = rng.standard_normal((N, H, W, C + 2)).astype(dtype)
    x = whole[..., 1 : 1 + C]  # some of the channels, as with groups
    OH, OW = ((n - k) // s + 1 for n, k, s in zip((H, W), (KH, KW), stride, strict=True))
    matrix = np.full((N * OH * OW, KH * KW * C), np.nan, dtype)
    kernels.copy_windows(x, (KH, KW), stride, matrix)
    expected = windows.window_matrix(N, OH, OW, (KH, KW), C, dtype, Room())
    windows.copy_windows(x, (KH, KW), stride, expected)
    np.testing.assert_array_equal(matrix, expected)
    matrix[...] = expected[...] = rng.integers(-9, 9, matrix.shape)  # sums are exact
    out, plain = whole.copy(), whole.copy()
    kernels.fold_windows(matrix, (KH, KW), stride, out[..., 1 : 1 + C])
    windows.fold_windows(expected, (KH, KW), stride, plain[..., 1 : 1 + C], Room())
    np.testing.assert_array_equal(out, plain)


@given(case=geometries(pooling=True), ceil=st.booleans(), values=st.sampled_from([3, 1000]))
def test_max_pool_and_unpool(on_cpu, case, ceil, values):
    kernel, stride, pad, shape, rng = case
    x = rng.integers(0, values, shape).astype(np.float32)  # with ties, or nearly without
    layer = MaxPool(kernel, stride, pad, ceil)
    expected, expected_argmax = layer.forward(x), layer.argmax
    (top, _), (left, _) = pad
    value, argmax = np.empty(expected.shape, np.float32), np.empty(expected.shape, np.uint8)
    kernels.max_pool(x, kernel, stride, top, left, value, argmax)
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(argmax, expected_argmax)
    dy = rng.integers(-9, 9, (*value.shape[:3], value.shape[3] + 1)).astype(np.float32)[..., 1:]
    dx = np.empty(shape, np.float32)
    kernels.argmax_unpool(dy, argmax, kernel, stride, top, left, dx)
    np.testing.assert_array_equal(dx, layer.backward(dy))


def test_a_nan_is_the_maximum(on_cpu):
    x = np.array([1, np.nan, 3, 2], np.float32).reshape(1, 2, 2, 1)
    value, argmax = np.empty((1, 1, 1, 1), np.float32), np.empty((1, 1, 1, 1), np.uint8)
    kernels.max_pool(x, (2, 2), (2, 2), 0, 0, value, argmax)
    assert np.isnan(value).all()
    assert np.isnan(MaxPool(2, 2).forward(x)).all()


@given(across=st.booleans(), size=st.sampled_from([1, 3, 5]), seed=seeds)
def test_lrn(on_cpu, across, size, seed):
    rng = np.random.default_rng(seed)
    layer = LRN(size, alpha=0.3, beta=0.6, k=1.5, across=across)
    x = rng.standard_normal((2, *rng.integers(1, 6, 3)))
    dy = rng.standard_normal(x.shape)
    y, dx = layer.forward(x), layer.backward(dy)
    s, power, found_y, found_dx = (np.empty_like(x) for _ in range(4))
    kernels.lrn(layer, x, s, power, found_y)
    np.testing.assert_allclose(found_y, y, rtol=1e-12)
    kernels.lrn_backward(layer, dy, x, s, power, found_y, found_dx)
    np.testing.assert_allclose(found_dx, dx, rtol=1e-9, atol=1e-12)


@given(dtype=st.sampled_from([np.float32, np.float64]), seed=seeds)
def test_bias_and_relu(on_cpu, dtype, seed):
    rng = np.random.default_rng(seed)
    x, b = rng.integers(-3, 4, (3, 4, 5)).astype(dtype), rng.integers(-3, 4, 5).astype(dtype)
    x[0, 0, 0] = np.nan
    relu, y, positive = ReLU(), x.copy(), np.empty(x.shape, bool)
    kernels.bias_relu(y, b, positive)
    np.testing.assert_array_equal(y, relu.forward(x + b))
    np.testing.assert_array_equal(positive, relu.positive)


@given(dtype=st.sampled_from([np.float32, np.float64]), seed=seeds)
def test_sgd(on_cpu, dtype, seed):
    rng = np.random.default_rng(seed)
    layer = Linear(3)
    layer.rates = {"w": (2.0, 3.0), "b": (1.0, 1.0)}
    net = Network([("fc", layer)], (2, 2, 1), rng).to(np, dtype)
    sgd = SGD(net, momentum=0.9, weight_decay=0.3)
    w, g = layer.params["w"], rng.standard_normal((4, 3)).astype(dtype)
    V = sgd.velocity["fc.w"]
    V[...] = rng.standard_normal(V.shape)
    found = SimpleNamespace(w=w.copy(), V=V.copy())
    kernels.sgd(found.w, found.V, g, 0.1, 2, 0.9, 3 * 0.3)  # 2: an integer will do
    sgd.step({"fc.w": g}, 0.1)
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    np.testing.assert_allclose(found.V, V, tolerance, tolerance)
    np.testing.assert_allclose(found.w, w, tolerance, tolerance)


def test_channels_that_are_apart_are_brought_together():
    x = np.arange(8.0, dtype=np.float32).reshape(1, 1, 1, 8)[..., ::2]
    together = kernels.side_by_side(x)
    np.testing.assert_array_equal(together, x)
    assert together.flags.c_contiguous


def test_arrays_of_mixed_types_are_no_arguments():
    y, b = np.ones((2, 3)), np.ones(3, np.float32)
    with pytest.raises(TypeError, match="a kernel for float64 got float32"):
        kernels.prepared(y, (y, b, 6))


def test_places_are_counted_in_32_bits_only_if_these_reach_the_last(monkeypatch):
    monkeypatch.setattr(kernels, "NARROW", 1000)
    row = np.zeros(1000, np.float32)
    assert kernels.prepared(row, (row, 1))[1] == "int32"
    assert kernels.prepared(row, (row, np.zeros(1001, np.float32), 1))[1] == "int64"
    far = np.zeros((2, 3000), np.float32)[:, 500:502]
    assert kernels.prepared(row, (far, 1))[1] == "int64"
