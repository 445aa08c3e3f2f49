"""Windows and fold, in the textbook and fast: copies by hand, exact transposes of each other."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fast.cpu.windows import copy_windows, fold_windows, pad_image, window_matrix
from fast.room import Room
from nn.backend import to_host
from nn.windows import cropped, fold, padded, windows
from tests.cases import seeds


@st.composite
def window_case(draw):
    """(x, kernel, stride, windows by hand, a row each, numbers of that shape)."""
    N, OH, OW, KH, KW, SH, SW, C = (draw(st.integers(1, n)) for n in (3, 4, 7, 4, 4, 5, 5, 3))
    rest, rng = draw(st.integers(0, 4)), np.random.default_rng(draw(seeds))
    H, W = (OH - 1) * SH + KH + rest % SH, (OW - 1) * SW + KW + rest % SW
    x = rng.standard_normal((N, H, W, C))
    rows = [
        x[n, oh * SH : oh * SH + KH, ow * SW : ow * SW + KW].ravel()
        for n, oh, ow in np.ndindex(N, OH, OW)
    ]
    return x, (KH, KW), (SH, SW), (OH, OW), np.array(rows), rng.standard_normal(np.shape(rows))


def adjoint(expected, v, x, out):
    left, right = expected * v, x * out
    return abs(left.sum() - right.sum()) / (np.abs(left).sum() + np.abs(right).sum())


@given(case=window_case())
def test_windows_and_fold(xp, case):
    x, kernel, stride, size, expected, v = case
    copies = windows(xp.asarray(x), kernel, stride, *size)
    assert copies.shape == (len(x), *size, kernel[0] * kernel[1], x.shape[3])
    np.testing.assert_array_equal(to_host(copies).reshape(expected.shape), expected)
    out = fold(xp.asarray(v).reshape(copies.shape), x.shape, kernel, stride)
    assert adjoint(expected, v, x, to_host(out)) < 1e-12


@given(case=window_case())
def test_fast_windows_and_fold(case):
    x, kernel, stride, size, expected, v = case
    matrix = window_matrix(len(x), *size, kernel, x.shape[3], x.dtype, Room())
    copy_windows(x, kernel, stride, matrix)
    np.testing.assert_array_equal(matrix, expected)
    matrix[...] = v
    out = np.full(x.shape, 7.0)
    fold_windows(matrix, kernel, stride, out, Room())
    assert adjoint(expected, v, x, out) < 1e-12


def test_fold_into_some_channels_of_an_image():
    """Groups fold into a slice of the channels; the others are not touched."""
    out = np.full((1, 3, 4, 5), 9.0)
    fold_windows(np.ones((2 * 3, 2 * 2 * 2)), (2, 2), (1, 1), out[..., 1:3], Room())
    expected = np.array([[1, 2, 2, 1], [2, 4, 4, 2], [1, 2, 2, 1]])
    np.testing.assert_array_equal(out[0, :, :, 1], expected)
    np.testing.assert_array_equal(out[0, :, :, 2], expected)
    assert (out[..., [0, 3, 4]] == 9).all()


def test_cropping_is_the_way_back_from_padding(xp):
    x = xp.arange(12.0).reshape(1, 3, 2, 2)
    border = (2, 1), (0, 3)
    large = padded(x, border, 5.0)
    assert large.shape == (1, 6, 5, 2)
    assert float(large.sum()) == float(x.sum()) + 5 * (60 - 12)
    assert (cropped(large, border, 3, 2) == x).all()


def test_pad_image_renews_its_border():
    room = Room()
    x = np.ones((1, 2, 2, 1))
    pad_image(x, ((2, 0), (0, 2)), 5.0, room, x.dtype)
    padded = pad_image(x, ((1, 1), (1, 1)), 0.0, room, x.dtype)
    assert padded.sum() == 4
    assert pad_image(x, ((0, 0), (0, 0)), 0.0, room, x.dtype) is x


def test_rooms_grow_shrink_and_change_type():
    room = Room()
    large = room.get("a", (4, 5), np.float32)
    assert np.shares_memory(room.get("a", (2, 3), np.float32), large)
    assert not np.shares_memory(room.get("b", (2, 3), np.float32), large)
    assert not room.grown
    assert room.get("a", (6, 5), np.float32).shape == (6, 5)
    assert room.grown
    assert not np.shares_memory(room.get("a", (2, 3), np.float32), large)
    assert room.get("a", (2,), np.float64).dtype == np.float64
