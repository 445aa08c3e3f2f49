"""A convolution and its local maximum in one against the two layers."""

from unittest import mock

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nn import conv_pool
from nn.conv import Conv
from nn.conv_pool import ConvPool
from nn.network import Network
from nn.pool import MaxPool
from tests.cases import seeds, set_params
from tests.gradcheck import away_from_kinks, layer_errors, relative_error


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
