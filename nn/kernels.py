"""Windows, fold, max_pool, argmax_unpool, LRN, bias and ReLU, SGD, each in one launch on a GPU.

The array versions take a dozen launches each, and on a GPU a launch costs more than the arithmetic
of a LeNet. They remain the specification: tests/test_kernels.py compares the kernels of kernels.cu
with them, on a GPU, or compiled for the CPU where there is none.
"""

from functools import cache
from pathlib import Path

import numpy as np

from nn.backend import array_module
from nn.geometry import counts

SOURCE = Path(__file__).with_name("kernels.cu")
THREADS = 256  # of a block
CTYPES = {"float32": "float", "float64": "double", "int32": "int", "int64": "long long"}
NARROW = 2**31 - THREADS  # places: fewer are counted in 32 bits, in which a GPU divides much faster


def source(dtype, index):
    return f"typedef {CTYPES[dtype]} T;\ntypedef {CTYPES[index]} I;\n{SOURCE.read_text()}"


@cache
def kernel(xp, dtype, index, name):
    """A kernel of kernels.cu, which is compiled for these types at its first use in a process."""
    return module(xp, dtype, index).get_function(name)


@cache
def module(xp, dtype, index):
    return xp.RawModule(code=source(dtype, index))


def prepared(result, arguments):
    """(dtype, index, arguments): the types T and I by name, and every argument of its C type.

    CuPy hands over the bytes of what it gets: a float32 array where doubles are expected, or the
    integer 1 for 1.0, would be read as other numbers. TypeError for arrays of mixed types.
    """
    arrays = [a for a in arguments if hasattr(a, "shape")]
    mixed = {str(a.dtype) for a in arrays if a.ndim and a.dtype.kind == "f"} - {str(result.dtype)}
    if mixed:
        raise TypeError(f"a kernel for {result.dtype} got {', '.join(mixed)}")
    index = np.int32 if max(map(extent, arrays)) < NARROW else np.int64
    arguments = [index(a) if isinstance(a, (int, np.integer)) else a for a in arguments]
    return str(result.dtype), np.dtype(index).name, arguments


def extent(a):
    """How many elements apart the first and the last of an array are."""
    steps = zip(a.shape, a.strides, strict=True)
    return sum((n - 1) * abs(step) for n, step in steps) // a.itemsize


def launch(name, result, *arguments):
    """Run the kernel of this name with a thread for each element of the array `result`."""
    dtype, index, arguments = prepared(result, arguments)
    run = kernel(array_module(result), dtype, index, name)
    run((-(-result.size // THREADS),), (THREADS,), tuple(arguments))


def side_by_side(x):
    """x, or a copy of it, with the channels of a pixel next to each other in memory."""
    return x if x.strides[3] == x.itemsize else array_module(x).ascontiguousarray(x)


def offsets(x):
    """How many elements apart neighbours along N, H and W are."""
    return [step // x.itemsize for step in x.strides[:3]]


def windows(x, KH, KW, stride, matrix):
    """See nn/windows.py; matrix (N*OH*OW, KH*KW*C) in order of its rows."""
    N, H, W, C = x.shape
    SH, SW = stride
    OH, OW = counts(H, W, KH, KW, stride)
    x = side_by_side(x.astype(matrix.dtype, copy=False))
    launch("windows", matrix, x, matrix, matrix.size, OH, OW, KH, KW, C, SH, SW, *offsets(x))


def fold(matrix, KH, KW, stride, out):
    """See nn/windows.py; the channels of out are side by side."""
    N, H, W, C = out.shape
    SH, SW = stride
    OH, OW = counts(H, W, KH, KW, stride)
    launch("fold", out, matrix, out, out.size, H, W, OH, OW, KH, KW, C, SH, SW, *offsets(out))


def max_pool(x, geometry, value, argmax):
    """See nn/pool.py; geometry is what pool_geometry returns for x."""
    (KH, KW), (SH, SW), (OH, OW), ((top, _), (left, _)) = geometry
    _, H, W, C = x.shape
    x = side_by_side(x)
    launch(
        "max_pool",
        value,
        x,
        value,
        argmax,
        value.size,
        H,
        W,
        C,
        OH,
        OW,
        KH,
        KW,
        SH,
        SW,
        top,
        left,
        *offsets(x),
    )


def argmax_unpool(dy, argmax, kernel, stride, top, left, dx):
    """See nn/pool.py; dx (N, H, W, C) is the result."""
    _, H, W, C = dx.shape
    _, OH, OW, _ = dy.shape
    dy = side_by_side(dy)
    launch(
        "argmax_unpool",
        dx,
        dy,
        argmax,
        dx,
        dx.size,
        H,
        W,
        C,
        OH,
        OW,
        *kernel,
        *stride,
        top,
        left,
        *offsets(dy),
    )


def reach(size, across):
    """How far neighbours are along H, W and C."""
    return (0, 0, size // 2) if across else (size // 2, size // 2, 0)


def lrn(x, scale, power, y, size, across, share, beta, k):
    """See nn/lrn.py; share = alpha / M."""
    _, H, W, C = x.shape
    launch(
        "lrn",
        y,
        x,
        scale,
        power,
        y,
        y.size,
        H,
        W,
        C,
        *reach(size, across),
        float(share),
        float(beta),
        float(k),
    )


def lrn_backward(dy, x, scale, power, y, dx, size, across, share):
    """See nn/lrn.py; share = 2 alpha beta / M."""
    _, H, W, C = x.shape
    arrays = (a.astype(dx.dtype, copy=False) for a in (dy, x, scale, power, y))
    launch("lrn_backward", dx, *arrays, dx, dx.size, H, W, C, *reach(size, across), float(share))


def bias_relu(y, b, positive):
    """See nn/bias_relu.py; y (..., F) is changed in place, positive is bool."""
    b = b.astype(y.dtype, copy=False)
    launch("bias_relu", y, y, b, positive.view("uint8"), y.size, len(b))


def sgd(w, V, g, lr, lr_mult, momentum, decay):
    """See nn/sgd.py; lr is a number or a float64 array of shape ()."""
    xp = array_module(w)
    lr, g = xp.asarray(lr, xp.float64), xp.ascontiguousarray(g, w.dtype)
    launch("sgd", w, w, V, g, lr, w.size, float(lr_mult), float(momentum), float(decay))
