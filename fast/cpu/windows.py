"""Windows of images as a matrix, and their fold, in few and long runs of memory.

The same as `windows` and `fold` of nn/windows.py, a row for each window: (N OH OW, KH KW C).
"""

from functools import cache
from itertools import pairwise

import numpy as np

from nn.windows import every

PIECE = 2**17  # numbers, 512 KiB: stay in the cache from one array call to the next
CACHED = 2**19  # numbers, 2 MiB: the cache of a core


def slices(N, count):
    """N things as `count` slices of about equal size."""
    return [slice(*ends) for ends in pairwise(N * i // count for i in range(count + 1))]


def pieces(N, numbers):
    """N images of so many numbers each, as about equal slices of at most PIECE numbers."""
    if N * numbers <= PIECE:
        return [slice(0, N)]
    return slices(N, -(-N // max(1, PIECE // numbers)))


def last_cached(pieces, numbers):
    """Those of the pieces, from the last one backwards, whose windows are worth keeping.

    numbers: in the windows of an image. While training, windows are wanted for y and again for dw,
    which goes through the pieces in reverse: the last few are then still in the cache. What the
    cache does not hold is cheaper to copy again.
    """
    size = numbers * (pieces[0].stop - pieces[0].start)
    return pieces[max(0, len(pieces) - CACHED // size) :]


@cache
def counts(H, W, kernel, stride):
    """(OH, OW): windows in an image of H x W, down and along; no padding."""
    return tuple((n - k) // s + 1 for n, k, s in zip((H, W), kernel, stride, strict=True))


def pad_image(x, border, value, room, dtype, name="padded"):
    """x (N, H, W, C) inside a border of `value`, in kept memory; x itself if there is no border."""
    (top, bottom), (left, right) = border
    if top == bottom == left == right == 0:
        return x
    N, H, W, C = x.shape
    padded = room.get(name, (N, H + top + bottom, W + left + right, C), dtype)
    padded[:, :top] = value
    padded[:, top + H :] = value
    padded[:, top : top + H, :left] = value
    padded[:, top : top + H, left + W :] = value
    padded[:, top : top + H, left : left + W] = x
    return padded


def window_matrix(N, OH, OW, kernel, C, dtype, room):
    """An uninitialised matrix for windows or fold, in the memory order that suits C.

    A copy runs as fast as its contiguous runs are long. With several channels a run is a row of
    the window, KW*C numbers, so each window is stored as a row. With one channel it is a row of
    outputs, OW numbers, so the matrix is stored column by column: (KH, KW, N, OH, OW).
    """
    KH, KW = kernel
    if C == 1:
        return room.get("columns", (KH * KW, N * OH * OW), dtype).T
    return room.get("columns", (N * OH * OW, KH * KW * C), dtype)


def window_view(x, kernel, stride):
    """The windows of x (N, H, W, C) without a copy: (N, OH, OW, KH, KW, C), pixels shared."""
    N, H, W, C = x.shape
    (KH, KW), (SH, SW) = kernel, stride
    OH, OW = counts(H, W, kernel, stride)
    n, h, w, c = x.strides
    shape, strides = (N, OH, OW, KH, KW, C), (n, h * SH, w * SW, h, w, c)
    if x.flags.c_contiguous:  # as_strided does the same in 3 us more
        return np.ndarray(shape, x.dtype, x, 0, strides)
    return np.lib.stride_tricks.as_strided(x, shape, strides)


def copy_windows(x, kernel, stride, matrix):
    """Copy the windows of x (N, H, W, C) into matrix (N*OH*OW, KH*KW*C) of window_matrix."""
    view = window_view(x, kernel, stride)
    if x.shape[-1] == 1:
        view = view[..., 0].transpose(3, 4, 0, 1, 2)  # (KH, KW, N, OH, OW)
        matrix = matrix.T
    np.copyto(matrix.reshape(view.shape), view)


def fold_windows(matrix, kernel, stride, out, room):
    """Add each element of matrix (N*OH*OW, KH*KW*C) to the pixel of out (N, H, W, C) it is of.

    The exact transpose of `copy_windows`; out is overwritten. First down the columns of the
    windows, then along their rows: KH + KW additions instead of KH * KW.
    """
    N, H, W, C = out.shape
    (KH, KW), (SH, SW) = kernel, stride
    OH, OW = counts(H, W, kernel, stride)
    if C == 1:
        columns = matrix.T.reshape(KH, KW, N, OH, OW).transpose(0, 2, 3, 1, 4)
        rows = room.get("fold", (KW, N, H, OW), out.dtype).transpose(1, 2, 0, 3)
    else:
        columns = matrix.reshape(N, OH, OW, KH, KW * C).transpose(3, 0, 1, 2, 4)
        rows = room.get("fold", (N, H, OW, KW * C), out.dtype)  # of windows one row high
    rows[:, OH * SH if KH >= SH else 0 :] = 0  # else every row is in the first windows' strides
    for i in range(KH):
        part = rows[:, every(i, OH, SH)]
        if i < SH:
            part[...] = columns[i]
        else:
            part += columns[i]
    out.fill(0)
    if C == 1:
        for j in range(KW):
            out[:, :, every(j, OW, SW), 0] += rows[:, :, j]
        return
    # Every `spacing`-th window does not overlap the one before: whole rows of KW*C numbers can be
    # added in one go, a longer run than the C numbers of one pixel.
    view = window_view(out, (1, KW), (1, SW))[:, :, :, 0]  # (N, H, OW, KW, C), pixels shared
    rows = rows.reshape(view.shape)
    spacing = -(-KW // SW)
    for first in range(min(spacing, OW)):
        view[:, :, first::spacing] += rows[:, :, first::spacing]
