"""Windows, fold, max_pool, argmax_unpool, LRN, bias and ReLU, SGD, each in one launch on a GPU.

The textbook takes a dozen launches for each, and on a GPU a launch costs more than the arithmetic
of a LeNet. tests/test_kernels.py compares the kernels of kernels.cu with it, on a GPU, or compiled
for the CPU where there is none.
"""

from functools import cache
from pathlib import Path

import numpy as np

from fast.cpu.windows import counts
from nn.backend import array_module

SOURCE = Path(__file__).with_name("kernels.cu")
THREADS = 256  # of a block
CTYPES = {"float32": "float", "float64": "double", "int32": "int", "int64": "long long"}
NARROW = 2**31 - THREADS  # places: fewer are counted in 32 bits, in which a GPU divides much faster


def source(dtype, index):
    return f"typedef {CTYPES[dtype]} T;\ntypedef {CTYPES[index]} I;\n{SOURCE.read_text()}"


@cache
def compiled(xp, dtype, index, name):
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
    run = compiled(array_module(result), dtype, index, name)
    run((-(-result.size // THREADS),), (THREADS,), tuple(arguments))


def side_by_side(x):
    """x, or a copy of it, with the channels of a pixel next to each other in memory."""
    return x if x.strides[3] == x.itemsize else array_module(x).ascontiguousarray(x)


def offsets(x):
    """How many elements apart neighbours along N, H and W are."""
    return [step // x.itemsize for step in x.strides[:3]]


def copy_windows(x, kernel, stride, matrix):
    """See fast/cpu/windows.py; matrix (N*OH*OW, KH*KW*C) in order of its rows."""
    N, H, W, C = x.shape
    OH, OW = counts(H, W, kernel, stride)
    x = side_by_side(x.astype(matrix.dtype, copy=False))
    launch("windows", matrix, x, matrix, matrix.size, OH, OW, *kernel, C, *stride, *offsets(x))


def fold_windows(matrix, kernel, stride, out):
    """See fast/cpu/windows.py; the channels of out are side by side."""
    N, H, W, C = out.shape
    OH, OW = counts(H, W, kernel, stride)
    launch("fold", out, matrix, out, out.size, H, W, OH, OW, *kernel, C, *stride, *offsets(out))


def max_pool(x, kernel, stride, top, left, value, argmax):
    """See nn/pool.py; value and argmax (N, OH, OW, C) are the results."""
    _, H, W, C = x.shape
    _, OH, OW, _ = value.shape
    x = side_by_side(x)
    sizes = H, W, C, OH, OW, *kernel, *stride, top, left
    launch("max_pool", value, x, value, argmax, value.size, *sizes, *offsets(x))


def argmax_unpool(dy, argmax, kernel, stride, top, left, dx):
    """See nn/pool.py; dx (N, H, W, C) is the result."""
    _, H, W, C = dx.shape
    _, OH, OW, _ = dy.shape
    dy = side_by_side(dy)
    sizes = H, W, C, OH, OW, *kernel, *stride, top, left
    launch("argmax_unpool", dx, dy, argmax, dx, dx.size, *sizes, *offsets(dy))


def reach(layer):
    """How far the neighbours of an LRN layer are along H, W and C."""
    half = layer.size // 2
    return (0, 0, half) if layer.across else (half, half, 0)


def lrn(layer, x, s, power, y):
    """See nn/lrn.py; s, power = s^-beta and y are the results."""
    _, H, W, C = x.shape
    numbers = layer.alpha / layer.neighbours, layer.beta, layer.k
    launch("lrn", y, x, s, power, y, y.size, H, W, C, *reach(layer), *map(float, numbers))


def lrn_backward(layer, dy, x, s, power, y, dx):
    """See nn/lrn.py; dx is the result."""
    _, H, W, C = x.shape
    share = 2 * layer.alpha * layer.beta / layer.neighbours
    dy = array_module(dy).ascontiguousarray(dy, dx.dtype)
    arrays = dy, x, s, power, y, dx
    launch("lrn_backward", dx, *arrays, dx.size, H, W, C, *reach(layer), float(share))


def bias_relu(y, b, positive):
    """See fast/gpu/forms.py; y (..., F) is changed in place, positive is bool."""
    b = b.astype(y.dtype, copy=False)
    launch("bias_relu", y, y, b, positive.view("uint8"), y.size, len(b))


def sgd(w, V, g, lr, lr_mult, momentum, decay):
    """See nn/sgd.py; lr is a number or a float64 array of shape ()."""
    xp = array_module(w)
    lr, g = xp.asarray(lr, xp.float64), xp.ascontiguousarray(g, w.dtype)
    launch("sgd", w, w, V, g, lr, w.size, float(lr_mult), float(momentum), float(decay))
