"""What the fast forms of a convolution prepare once: for which images, and for how long."""

import weakref
from unittest import mock

import numpy as np
import pytest

from nn.buffers import Buffers
from nn.conv import Conv
from nn.conv_pool import ConvPool
from nn.network import Network
from nn.pool import MaxPool
from tests.cases import set_params
from tests.gradcheck import FLOAT32, relative_error


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
    for N, side, train in [
        (4, 12, True),
        (9, 12, False),
        (4, 12, True),
        (4, 14, True),
        (4, 12, False),
        (4, 12, True),
    ]:
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
