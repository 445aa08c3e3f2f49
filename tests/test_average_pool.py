"""Average pooling against loops, finite differences and its transpose."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nn.average_pool import AveragePool
from nn.global_pool import GlobalAveragePool
from tests import naive
from tests.cases import pool_case, seeds
from tests.gradcheck import adjoint_error, layer_errors, relative_error
from tests.on_device import OnDevice


@given(case=pool_case(AveragePool), count_pad=st.booleans())
def test_average_pool_equals_loops_and_finite_differences(xp, case, count_pad):
    layer, shape, rng = case
    layer.count_pad = count_pad
    x = rng.standard_normal(shape)
    expected = naive.average_pool(
        x, layer.kernel, layer.stride, layer.pad, layer.ceil, layer.count_pad
    )
    on = OnDevice(layer, xp)
    assert on.forward(x).shape[1:] == layer.output_shape(shape[1:])
    assert relative_error(on.forward(x), expected) < 1e-13
    assert layer_errors(on, x, rng)["x"] < 1e-10
    assert adjoint_error(on.forward, on.backward, x, rng) < 1e-12


def test_average_pool_counts_padding_as_caffe_does(xp):
    x = np.arange(1.0, 5).reshape(1, 2, 2, 1)
    layer = OnDevice(AveragePool(3, 2, 1), xp)  # windows of rows -1..1: clipped at -1 .. 2
    np.testing.assert_allclose(layer.forward(x)[0, :, :, 0], [[10 / 9, 6 / 6], [7 / 6, 4 / 4]])
    layer = OnDevice(AveragePool(3, 2, 1, count_pad=False), xp)
    np.testing.assert_allclose(layer.forward(x)[0, :, :, 0], [[2.5, 3], [3.5, 4]])


@given(seed=seeds, shape=st.tuples(*[st.integers(1, 4)] * 4))
def test_global_average_pool(xp, seed, shape):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    layer = OnDevice(GlobalAveragePool(), xp)
    y = layer.forward(x)
    assert y.shape == (shape[0], 1, 1, shape[3])
    np.testing.assert_allclose(y[:, 0, 0], x.reshape(shape[0], -1, shape[3]).mean(1), atol=1e-14)
    assert layer_errors(layer, x, rng)["x"] < 1e-10
