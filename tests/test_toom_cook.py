"""Convolution by Toom and Cook against loops and the plain one."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn import windows
from nn.buffers import Buffers
from nn.conv import Conv
from nn.toom_cook import ToomCook
from nn.toom_cook_kernel import POINTS, Kernel, outputs_at_once, tiling, transforms
from tests import naive
from tests.cases import seeds, set_params
from tests.gradcheck import FLOAT32, adjoint_error, relative_error


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
    kernel = Kernel(w, groups, m, outputs_at_once(OW, w.shape, groups))
    numbers = (m + KH - 1) * T * OW * KW * x.shape[3]
    with mock.patch.multiple(windows, PIECE=at_once * numbers, CACHED=2 * numbers):
        fast = ToomCook(x.shape, kernel, Buffers())
    assert len(fast.pieces) == -(-N // at_once)
    assert len(fast.keep) == (min(N, 2) if at_once == 1 else N <= 2)
    expected = naive.conv(x, w, np.zeros(F), (1, 1), ((0, 0), (0, 0)), groups)
    assert relative_error(fast.forward(x, kernel), expected) < 1e-12

    plain = Conv(F, (KH, KW), groups=groups)
    plain.params = {"w": w, "b": np.zeros(F)}
    plain.forward(x)
    below = np.zeros((N, T * m - OH, OW, F))  # the rows that complete a tile have no derivative
    dx = plain.backward(np.concatenate([dy, below], axis=1))
    found = fast.backward(dy)
    assert relative_error(found[0], plain.grads["w"]) < 1e-11
    assert relative_error(found[1], dx) < 1e-11
    assert fast.backward(dy, param_grads=False)[0] is None
    assert fast.backward(dy, input_grad=False)[1] is None

    def backward(dy):
        return fast.backward(dy)[1]

    rng = np.random.default_rng(0)
    again = ToomCook(x.shape, kernel, Buffers())
    error = adjoint_error(lambda u: again.forward(u, kernel), backward, x, rng)
    assert error < 1e-12


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (Conv(50, 5), (4, 12, 12, 20)),  # LeNet's conv2
        (Conv(40, 3, pad=((1, 2), (0, 1)), groups=2), (3, 13, 9, 30)),
        (Conv(16, (6, 4), pad=2), (5, 7, 8, 8)),
    ],
)
@pytest.mark.parametrize("train", [False, True])
def test_conv_chooses_it_and_rounds_like_float32(layer, shape, train):
    rng = np.random.default_rng(0)
    set_params(layer, shape, rng)
    exact = Conv(layer.filters, layer.kernel, pad=layer.pad, groups=layer.groups)
    exact.params = dict(layer.params)
    layer.params = {name: w.astype(np.float32) for name, w in layer.params.items()}
    x = rng.standard_normal(shape)
    for _ in range(2):
        y, expected = layer.forward(x.astype(np.float32), train), exact.forward(x)
        assert layer.fast
        assert not exact.fast
        assert y.shape == expected.shape
        assert relative_error(y, expected) < FLOAT32
        dy = rng.standard_normal(y.shape)
        assert relative_error(layer.backward(dy.astype(np.float32)), exact.backward(dy)) < FLOAT32
        for name, grad in exact.grads.items():
            assert relative_error(layer.grads[name], grad) < FLOAT32
        for each in (layer, exact):  # in place, as training does: no old sums may be used
            each.params["w"] *= 1.5
    x = rng.standard_normal((2, 6, 7, 1 * shape[3]))  # other images, other tiles
    assert relative_error(layer.forward(x.astype(np.float32)), exact.forward(x)) < FLOAT32
