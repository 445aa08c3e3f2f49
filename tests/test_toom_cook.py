"""Convolution by Toom and Cook against loops and the plain one."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fast.cpu import windows
from fast.cpu.toom_cook import ToomCook
from fast.cpu.toom_cook_kernel import (
    POINTS,
    TransformedKernel,
    outputs_at_once,
    tiling,
    transforms,
)
from fast.room import Room
from nn.conv import Conv
from tests import naive
from tests.cases import seeds
from tests.gradcheck import adjoint_error, relative_error


@pytest.mark.parametrize("r", range(2, len(POINTS)))
def test_transforms_give_the_sums_of_products(r):
    rng = np.random.default_rng(r)
    for m in range(1, len(POINTS) + 3 - r):
        A_T, G, B_T = transforms(m, r, np.float64)
        kernel, pixels = rng.standard_normal(r), rng.standard_normal(m + r - 1)
        found = A_T @ ((G @ kernel) * (B_T @ pixels))
        assert relative_error(found, np.correlate(pixels, kernel, "valid")) < 1e-12


def test_tiles_are_the_cheapest():
    assert tiling(8, 5) == (4, 2)  # LeNet's conv2: 16 products of rows instead of 40
    assert tiling(13, 3) == (5, 3)  # AlexNet's conv3: 21 instead of 39
    assert tiling(1, 3) == (1, 1)


@st.composite
def toom_case(draw):
    """(x, w, dy, groups, images at a time) for whole tiles."""
    OH, OW, KH, KW = (draw(st.integers(*ends)) for ends in ((1, 9), (1, 4), (2, 6), (1, 3)))
    groups, D, f, N = (draw(st.integers(1, n)) for n in (2, 3, 3, 3))
    m, T = tiling(OH, KH)
    rng = np.random.default_rng(draw(seeds))
    x = rng.standard_normal((N, T * m + KH - 1, OW + KW - 1, groups * D))
    w = rng.standard_normal((KH, KW, D, groups * f))
    return x, w, rng.standard_normal((N, OH, OW, groups * f)), groups, draw(st.sampled_from((1, 9)))


@given(case=toom_case())
def test_toom_cook_equals_loops_and_the_plain_backward_pass(case):
    x, w, dy, groups, at_once = case
    KH, KW, D, F = w.shape
    N, OH, OW, _ = dy.shape
    m, T = tiling(OH, KH)
    kernel = TransformedKernel(w, groups, m, outputs_at_once(OW, w.shape, groups))
    numbers = (m + KH - 1) * T * OW * KW * x.shape[3]
    with mock.patch.multiple(windows, PIECE=at_once * numbers, CACHED=2 * numbers):
        fast = ToomCook(x.shape, kernel, Room())
    assert len(fast.pieces) == -(-N // at_once)
    assert len(fast.keep) == (min(N, 2) if at_once == 1 else N <= 2)
    expected = naive.conv(x, w, np.zeros(F), (1, 1), ((0, 0), (0, 0)), groups)
    assert relative_error(fast.forward(x, kernel), expected) < 1e-12

    plain = Conv(F, (KH, KW), groups=groups)
    plain.params = {"w": w, "b": np.zeros(F)}
    plain.forward(x)
    below = np.zeros((N, T * m - OH, OW, F))  # the rows that complete a tile have no derivative
    dx = plain.backward(np.concatenate([dy, below], axis=1))
    dw = np.full_like(w, np.nan)
    assert relative_error(fast.backward(dy, dw), dx) < 1e-11
    expected = plain.gradients(np.concatenate([dy, below], axis=1))["w"]
    assert relative_error(dw, expected) < 1e-11
    assert fast.backward(dy, dw, input_grad=False) is None

    rng = np.random.default_rng(0)
    again = ToomCook(x.shape, kernel, Room())
    error = adjoint_error(lambda u: again.forward(u, kernel), again.backward, x, rng)
    assert error < 1e-12
