"""The two fast forms of a convolution against the plain one: toom_cook.py and conv_pool.py."""

import weakref
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn import conv_pool, windows
from nn.buffers import Buffers
from nn.conv import Conv
from nn.conv_pool import ConvPool
from nn.network import Network
from nn.pool import MaxPool
from nn.toom_cook import ToomCook
from nn.toom_cook_kernel import POINTS, Kernel, outputs_at_once, tiling, transforms
from tests import naive
from tests.cases import seeds, set_params
from tests.gradcheck import adjoint_error, away_from_kinks, layer_errors, relative_error

FLOAT32 = 1e-5  # of the largest number; the sums of toom_cook.py round by some 2e-6


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


@pytest.mark.parametrize("fast", [Conv(50, 5), ConvPool(Conv(3, 5), MaxPool(2, 2))])
def test_images_of_other_shapes_may_come_in_between(fast):
    """What is prepared for images of a shape must not outlive its memory."""
    rng = np.random.default_rng(0)
    pooled = isinstance(fast, ConvPool)
    layer, C = (fast.conv, 1) if pooled else (fast, 20)
    set_params(layer, (1, 12, 12, C), rng)
    layer.params = {name: w.astype(np.float32) for name, w in layer.params.items()}
    exact = Conv(layer.filters, 5)
    exact.params = {name: w.astype(np.float64) for name, w in layer.params.items()}
    pool = MaxPool(2, 2)
    used = fast if pooled else layer.replica()
    for N, side, train in [(4, 12, True), (9, 12, False), (4, 12, True), (4, 14, True),
                           (4, 12, False), (4, 12, True)]:  # fmt: skip
        for _ in range(2):
            x = rng.standard_normal((N, side, side, C)).astype(np.float32)
            y, expected = used.forward(x, train), exact.forward(x.astype(np.float64))
            expected = pool.forward(expected) if pooled else expected
            assert relative_error(y, expected) < FLOAT32
            dy = rng.standard_normal(y.shape).astype(np.float32)
            dx = exact.backward(pool.backward(dy.astype(np.float64)) if pooled else dy)
            assert relative_error(used.backward(dy), dx) < FLOAT32
            grads = layer.grads if pooled else used.grads
            for name, grad in exact.grads.items():
                assert relative_error(grads[name], grad) < FLOAT32
        if not pooled:
            assert used.fast
            layer.forward(rng.standard_normal((4, 12, 12, C)).astype(np.float32))  # its twin
            used, layer = layer, used


def test_it_is_prepared_once_and_given_up_with_the_buffers():
    rng = np.random.default_rng(0)
    layer, shape = Conv(50, 5), (4, 12, 12, 20)
    set_params(layer, shape, rng)
    layer.params = {name: w.astype(np.float32) for name, w in layer.params.items()}
    x = rng.standard_normal(shape).astype(np.float32)
    layer.forward(x, train=True)
    first = layer.toom_cook
    layer.forward(x + 1, train=True)
    assert layer.toom_cook is first
    layer.forward(x, train=False)  # other windows are kept
    assert layer.toom_cook is not first
    twin = layer.replica()
    twin.forward(x)
    assert twin.toom_cook is not layer.toom_cook
    assert not np.shares_memory(twin.toom_cook.y, layer.toom_cook.y)
    del first
    for last in (x, x.astype(np.float64)):
        layer.forward(x)
        held = weakref.ref(layer.buffers), weakref.ref(layer.toom_cook)
        layer.forward(last)
        assert (held[1]() is None) == (last is not x)  # a plain convolution needs none
        layer.release()
        assert [ref() for ref in held] == [None, None]


def test_a_dy_of_other_images_is_none_of_its():
    layer = Conv(50, 5)
    set_params(layer, (4, 12, 12, 20), np.random.default_rng(0))
    layer.params = {name: w.astype(np.float32) for name, w in layer.params.items()}
    layer.forward(np.ones((4, 12, 12, 20), np.float32), train=True)
    assert layer.fast
    both = ConvPool(Conv(3, 5), MaxPool(2, 2))
    set_params(both.conv, (4, 6, 6, 1), np.random.default_rng(0))
    both.forward(np.ones((4, 6, 6, 1)))
    for each, shape in ((layer, (1, 8, 8, 50)), (layer, (8, 8, 8, 50)), (both, (1, 1, 1, 3))):
        with pytest.raises(ValueError, match="cannot reshape"):
            each.backward(np.ones(shape, np.float32))


def test_memory_that_ran_out_leaves_nothing_half_prepared():
    rng = np.random.default_rng(0)
    layers = [("conv", Conv(3, 5)), ("pool", MaxPool(2, 2)), ("conv2", Conv(20, 3))]
    net, other = (Network(layers, (12, 12, 1), np.random.default_rng(0)) for _ in "ab")
    few, more = rng.standard_normal((2, 12, 12, 1)), rng.standard_normal((5, 12, 12, 1))
    for failing in ("value", "maps", "chosen"):
        net.forward(few)
        real = Buffers.get

        def get(self, name, *arguments, failing=failing, real=real):
            if name == failing:
                raise MemoryError
            return real(self, name, *arguments)

        with mock.patch.object(Buffers, "get", get), pytest.raises(MemoryError):
            net.forward(more)
        np.testing.assert_array_equal(net.forward(more), other.forward(more))


@st.composite
def pooled_case(draw):
    """(Conv, MaxPool that tiles its map, shape of x)."""
    PH, PW, KH, KW, SH, SW = (draw(st.integers(1, n)) for n in (3, 3, 4, 4, 2, 2))
    pads = [(draw(st.integers(0, 2)), draw(st.integers(0, 2))) for _ in "HW"]
    sizes = []
    for P, K, S, pad in zip((PH, PW), (KH, KW), (SH, SW), pads, strict=True):
        size = (P * draw(st.integers(1, 3)) - 1) * S + K - sum(pad)
        while size < 1:
            size += P * S
        sizes.append(size + draw(st.integers(0, S - 1)))
    conv = Conv(draw(st.integers(1, 3)), (KH, KW), (SH, SW), tuple(pads))
    shape = draw(st.integers(1, 3)), *sizes, draw(st.integers(1, 2))
    return conv, MaxPool((PH, PW), (PH, PW)), shape


@given(case=pooled_case(), seed=seeds, cached=st.sampled_from([1, 2**19]))
def test_conv_pool_equals_its_two_layers(case, seed, cached):
    conv, pool, shape = case
    rng = np.random.default_rng(seed)
    set_params(conv, shape, rng)
    x = rng.standard_normal(shape)
    y = pool.forward(conv.forward(x)).copy()
    dy = rng.standard_normal(y.shape)
    dx = conv.backward(pool.backward(dy)).copy()
    grads = {name: grad.copy() for name, grad in conv.grads.items()}
    with mock.patch.multiple(conv_pool, CACHED=cached, MOST_ZEROS=1000):
        assert ConvPool.fits(conv, pool, x, train=True)
        both = ConvPool(conv, pool)
        for _ in range(2):
            assert relative_error(both.forward(x, train=True), y) < 1e-12
            assert relative_error(both.backward(dy), dx) < 1e-11
            for name, grad in grads.items():
                assert relative_error(conv.grads[name], grad) < 1e-11
        assert both.backward(dy, param_grads=False, input_grad=False) is None
        conv.params["w"] *= 2  # in place: noticed
        assert relative_error(both.forward(x), pool.forward(conv.forward(x))) < 1e-12


def test_ties_in_a_pool_go_to_the_first_pixel_and_gradients_are_right():
    rng = np.random.default_rng(0)
    conv, pool = Conv(2, 2), MaxPool(2, 2)
    set_params(conv, (1, 5, 5, 1), rng)
    both = ConvPool(conv, pool)
    both.params, both.grads = conv.params, conv.grads
    both.forward(np.ones((1, 5, 5, 1)))  # like MNIST's background
    dx = both.backward(np.ones((1, 2, 2, 2)))
    y = pool.forward(conv.forward(np.ones((1, 5, 5, 1))))
    np.testing.assert_allclose(dx, conv.backward(pool.backward(np.ones(y.shape))))
    assert not pool.argmax.any()

    class Layer:  # whose gradients are the convolution's
        params = conv.params
        forward, backward = both.forward, both.backward
        grads = property(lambda self: conv.grads)

    x = away_from_kinks((2, 5, 5, 1), rng)
    assert max(layer_errors(Layer(), x, rng).values()) < 1e-10


def test_a_network_joins_what_fits_and_only_then():
    rng = np.random.default_rng(0)
    layers = [("conv1", Conv(3, 5)), ("pool1", MaxPool(2, 2)), ("conv2", Conv(4, 3))]
    net = Network(layers, (12, 14, 1), rng)
    x = rng.standard_normal((2, 12, 14, 1)).astype(np.float32)

    def ran(to=None):
        net.bottom_up(x, to)
        return [type(layer) for layer in net.path]

    assert ran() == ran("pool1") + [Conv] == [ConvPool, Conv]
    assert ran("conv1") == [Conv]
    map1 = net.bottom_up(x, "conv1").reshape(2, 4, 2, 5, 2, 3)
    np.testing.assert_allclose(net.bottom_up(x, "pool1"), map1.max(axis=(2, 4)), 1e-5, 1e-5)
    for other in (MaxPool(3, 2), MaxPool(2, 2, pad=1), MaxPool(3, 3)):
        assert not ConvPool.fits(net.layers["conv1"], other, x, train=False)
    small = Conv(4, 1)  # whose kernels would be mostly zeros
    set_params(small, x.shape, rng)
    assert not ConvPool.fits(small, MaxPool(2, 2), x, train=False)
