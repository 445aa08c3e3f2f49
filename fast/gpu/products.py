"""Matrix products, also while a CUDA graph is recorded.

CuPy refuses products then (cupy issue 6290), though cuBLAS, which it calls, does not. So a
recording calls the cuBLAS that CuPy has loaded, through ctypes.
"""

import ctypes
import os
from contextlib import contextmanager
from functools import cache

from nn.backend import array_module

GEMM = {
    "float32": ("cublasSgemm_v2", ctypes.c_float),
    "float64": ("cublasDgemm_v2", ctypes.c_double),
}
WORKSPACE = 2**25  # bytes, as NVIDIA recommends for Hopper
LARGEST = 2**31 - 1  # size and step that cuBLAS takes
TF32 = 3  # CUBLAS_TF32_TENSOR_OP_MATH

direct = None  # the CuBLAS to call instead of CuPy's products


def matmul(a, b, out=None):
    """a b for matrices (m, k) and (k, n), in `out` (m, n) if given, whose rows are contiguous."""
    xp = array_module(a)
    if direct is None:
        return xp.matmul(a, b, out=out)
    if out is None:
        out = xp.empty((a.shape[0], b.shape[1]), xp.result_type(a, b))
    direct.matmul(a, b, out)
    return out


@contextmanager
def on(stream, xp):
    """In this block matmul calls cuBLAS directly, on this stream."""
    global direct
    opened = open_cublas(xp)
    opened.use(stream)
    direct = opened
    try:
        yield
    finally:
        direct = None


def cublas():
    """CuPy's own binding to cuBLAS."""
    from cupy_backends.cuda.libs import cublas

    return cublas


@cache
def open_cublas(xp):
    return CuBLAS(xp)


class CuBLAS:
    """A cuBLAS handle beside CuPy's own, with a workspace that stays where it is."""

    def __init__(self, xp):
        # The functions are found in libcublas, on which CuPy's module depends.
        self.library = ctypes.CDLL(cublas().__file__)
        self.handle = ctypes.c_void_p(cublas().create())
        self.workspace = xp.empty(WORKSPACE, xp.uint8)
        if os.environ.get("CUPY_TF32") == "1":
            self.call("cublasSetMathMode", TF32)

    def call(self, name, *arguments):
        status = getattr(self.library, name)(self.handle, *arguments)
        if status:
            raise RuntimeError(f"{name} ended with status {status}")

    def use(self, stream):
        self.call("cublasSetStream_v2", ctypes.c_void_p(stream.ptr))
        self.call("cublasSetWorkspace_v2", pointer(self.workspace), ctypes.c_size_t(WORKSPACE))

    def matmul(self, a, b, out):
        """cuBLAS stores matrices by columns, so it is asked for out^T = b^T a^T."""
        gemm, number = GEMM[str(out.dtype)]
        (a, a_turned, a_step), (b, b_turned, b_step) = (by_rows(m, out.dtype) for m in (a, b))
        (m, k), n = a.shape, b.shape[1]
        _, _, out_step = by_rows(out, out.dtype)
        one, zero = number(1), number(0)
        if max(m, n, k, a_step, b_step, out_step) > LARGEST:
            raise ValueError(f"cuBLAS counts up to {LARGEST}: {a.shape} times {b.shape}")
        self.call(
            gemm,
            b_turned,
            a_turned,
            n,
            m,
            k,
            ctypes.byref(one),
            pointer(b),
            b_step,
            pointer(a),
            a_step,
            ctypes.byref(zero),
            pointer(out),
            out_step,
        )


def by_rows(matrix, dtype):
    """(matrix or a copy, 0 if its rows are contiguous or 1 if its columns are, numbers from one of
    these to the next)."""
    matrix = matrix.astype(dtype, copy=False)
    down, along = (step // matrix.itemsize for step in matrix.strides)
    rows, columns = matrix.shape
    if matrix.size == 0:
        return matrix, 0, max(1, columns)
    if (along == 1 or columns == 1) and (down >= columns or rows == 1):
        return matrix, 0, max(down, columns)
    if (down == 1 or rows == 1) and (along >= rows or columns == 1):
        return matrix, 1, max(along, rows)
    return by_rows(array_module(matrix).ascontiguousarray(matrix), dtype)


def pointer(array):
    return ctypes.c_void_p(array.data.ptr)
