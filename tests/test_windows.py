"""windows and fold: copies by hand, and the exact transpose of each other."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nn.backend import to_host
from nn.buffers import Buffers
from nn.windows import fold, pad_image, window_matrix, windows


@given(
    N=st.integers(1, 3),
    OH=st.integers(1, 4),
    OW=st.integers(1, 7),
    KH=st.integers(1, 4),
    KW=st.integers(1, 4),
    SH=st.integers(1, 5),
    SW=st.integers(1, 5),
    C=st.integers(1, 3),
    rest=st.integers(0, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_windows_and_fold(xp, N, OH, OW, KH, KW, SH, SW, C, rest, seed):
    rng = np.random.default_rng(seed)
    H, W = (OH - 1) * SH + KH + rest % SH, (OW - 1) * SW + KW + rest % SW
    x, v = (
        rng.standard_normal((N, H, W, C)),
        rng.standard_normal((N * OH * OW, KH * KW * C)),
    )

    matrix = window_matrix(N, OH, OW, KH, KW, C, x.dtype, Buffers(), xp)
    windows(xp.asarray(x), KH, KW, (SH, SW), matrix)
    expected = [
        x[n, oh * SH : oh * SH + KH, ow * SW : ow * SW + KW].ravel()
        for n, oh, ow in np.ndindex(N, OH, OW)
    ]
    np.testing.assert_array_equal(to_host(matrix), expected)

    columns = window_matrix(N, OH, OW, KH, KW, C, x.dtype, Buffers(), xp)
    columns[...] = xp.asarray(v)
    out = xp.full(x.shape, 7.0)
    fold(columns, KH, KW, (SH, SW), out, Buffers())
    left, right = np.array(expected) * v, x * to_host(out)
    error = abs(left.sum() - right.sum()) / (np.abs(left).sum() + np.abs(right).sum())
    assert error < 1e-12


def test_fold_into_some_channels_of_an_image():
    """Groups fold into a slice of the channels; the others are not touched."""
    out = np.full((1, 3, 4, 5), 9.0)
    fold(np.ones((2 * 3, 2 * 2 * 2)), 2, 2, (1, 1), out[..., 1:3], Buffers())
    expected = np.array([[1, 2, 2, 1], [2, 4, 4, 2], [1, 2, 2, 1]])
    np.testing.assert_array_equal(out[0, :, :, 1], expected)
    np.testing.assert_array_equal(out[0, :, :, 2], expected)
    assert (out[..., [0, 3, 4]] == 9).all()


def test_pad_image_renews_its_border():
    buffers = Buffers()
    x = np.ones((1, 2, 2, 1))
    pad_image(x, ((2, 0), (0, 2)), 5.0, buffers, x.dtype)
    padded = pad_image(x, ((1, 1), (1, 1)), 0.0, buffers, x.dtype)
    assert padded.sum() == 4
    assert pad_image(x, ((0, 0), (0, 0)), 0.0, buffers, x.dtype) is x


def test_buffers_grow_shrink_and_change_type():
    buffers = Buffers()
    large = buffers.get("a", (4, 5), np.float32)
    assert np.shares_memory(buffers.get("a", (2, 3), np.float32), large)
    assert not np.shares_memory(buffers.get("b", (2, 3), np.float32), large)
    assert buffers.get("a", (6, 5), np.float32).shape == (6, 5)
    assert buffers.get("a", (2,), np.float64).dtype == np.float64
