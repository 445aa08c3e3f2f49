"""Products by cuBLAS as a CUDA graph needs them, tried on the CPU with a cuBLAS of a few loops."""

import ctypes
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fast.gpu import products
from tests.cases import seeds

# gemm as BLAS defines it: matrices column by column, C = alpha op(A) op(B) + beta C; op = 1: A^T.
SOURCE = """
#define GEMM(name, T)                                                                     \\
int name(void *handle, int turn_a, int turn_b, int m, int n, int k, const T *alpha,       \\
         const T *A, int lda, const T *B, int ldb, const T *beta, T *C, int ldc) {        \\
    if (lda < (turn_a ? k : m) || ldb < (turn_b ? n : k) || ldc < m) return 7;            \\
    for (int i = 0; i < m; i++) for (int j = 0; j < n; j++) {                             \\
        T sum = 0;                                                                        \\
        for (int l = 0; l < k; l++)                                                       \\
            sum += (turn_a ? A[i * lda + l] : A[l * lda + i])                             \\
                 * (turn_b ? B[l * ldb + j] : B[j * ldb + l]);                            \\
        C[j * ldc + i] = *alpha * sum + (*beta ? *beta * C[j * ldc + i] : 0);             \\
    }                                                                                     \\
    return 0;                                                                             \\
}
GEMM(cublasSgemm_v2, float)
GEMM(cublasDgemm_v2, double)
int mode = 0;
int cublasSetMathMode(void *handle, int m) { mode = m; return 0; }
int cublasSetStream_v2(void *handle, void *stream) { return stream ? 0 : 1; }
int cublasSetWorkspace_v2(void *handle, void *workspace, unsigned long size) { return 0; }
"""


@pytest.fixture
def cublas(tmp_path, monkeypatch):
    """Lets `products` find this cuBLAS, and arrays where NumPy has them."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler to make a cuBLAS for the CPU")
    (tmp_path / "cublas.c").write_text(SOURCE)
    library = tmp_path / "cublas.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, tmp_path / "cublas.c"], check=True)
    found = SimpleNamespace(__file__=str(library), create=lambda: 1)
    monkeypatch.setattr(products, "cublas", lambda: found)
    monkeypatch.setattr(products, "pointer", lambda a: ctypes.c_void_p(a.ctypes.data))
    monkeypatch.delenv("CUPY_TF32", raising=False)
    products.open_cublas.cache_clear()
    yield library
    products.open_cublas.cache_clear()


def laid_out(matrix, kind):
    """The same matrix: by rows, by columns, with room between rows, with gaps everywhere, or
    backwards in memory."""
    rows, columns = matrix.shape
    whole = np.zeros((2 * rows, 2 * columns + 3), matrix.dtype)
    place = {
        "rows": np.ascontiguousarray(matrix),
        "columns": np.asfortranarray(matrix),
        "apart": whole[:rows, 1 : 1 + columns],
        "gaps": whole[::2, 1 : 1 + 2 * columns : 2],
        "up": whole[rows - 1 :: -1, :columns] if rows > 1 else whole[:1, :columns],
        "left": whole[:rows, columns - 1 :: -1] if columns > 1 else whole[:rows, :1],
    }[kind]
    place[...] = matrix
    return place


KINDS = "rows", "columns", "apart", "gaps", "up", "left"
STREAM = SimpleNamespace(ptr=1)


def test_products_of_all_layouts(cublas):
    @given(
        shape=st.tuples(*[st.integers(1, 4)] * 3),
        kinds=st.tuples(st.sampled_from(KINDS), st.sampled_from(KINDS)),
        out=st.sampled_from([None, "rows", "apart"]),
        dtype=st.sampled_from(["float32", "float64"]),
        seed=seeds,
    )
    def check(shape, kinds, out, dtype, seed):
        (m, k, n), rng = shape, np.random.default_rng(seed)
        a, b = rng.integers(-9, 9, (m, k)), rng.integers(-9, 9, (k, n))
        x, y = (
            laid_out(each.astype(dtype), kind) for each, kind in zip((a, b), kinds, strict=True)
        )
        if out is not None:
            out = laid_out(np.full((m, n), np.nan, dtype), out)
        with products.on(STREAM, np):
            found = products.matmul(x, y, out)
        assert out is None or found is out
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, a @ b)

    check()
    assert products.direct is None


@pytest.mark.parametrize("shape", [(1, 4), (3, 1), (3, 4)])
def test_one_number_or_row_or_column_may_stand_for_many(cublas, shape):
    rng = np.random.default_rng(0)
    for of in ((1, 1), (1, shape[1]), (shape[0], 1)):
        x = np.broadcast_to(rng.integers(-9, 9, of).astype(np.float32), shape)
        y = rng.integers(-9, 9, (shape[1], 2)).astype(np.float32)
        with products.on(STREAM, np):
            np.testing.assert_array_equal(products.matmul(x, y), x @ y)
            np.testing.assert_array_equal(products.matmul(y.T, x.T), y.T @ x.T)


def test_a_status_is_an_error_and_tf32_is_asked_for(cublas, monkeypatch):
    with pytest.raises(RuntimeError, match="cublasSetStream_v2 ended with status 1"):  # noqa: SIM117
        with products.on(SimpleNamespace(ptr=0), np):
            pass
    assert products.direct is None
    mode = ctypes.c_int.in_dll(ctypes.CDLL(str(cublas)), "mode")
    assert mode.value == 0
    monkeypatch.setenv("CUPY_TF32", "1")
    products.open_cublas.cache_clear()
    with products.on(STREAM, np):
        assert mode.value == products.TF32
