"""Every layer: by hand, against the loops of naive.py, its gradients, its transpose."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn.activations import GELU, PReLU
from nn.average_pool import AveragePool
from nn.conv import Conv
from nn.dropout import Dropout
from nn.global_pool import GlobalAveragePool, GlobalMaxPool
from nn.join import Add, Concat
from nn.linear import Linear
from nn.lrn import LRN
from nn.pool import MaxPool, argmax_unpool, max_pool
from nn.relu import ReLU
from nn.zero_pad import ZeroPad
from tests import naive
from tests.cases import axis, pool_case, seeds, set_params
from tests.gradcheck import adjoint_error, away_from_kinks, layer_errors, relative_error
from tests.on_device import OnDevice

TOLERANCE = 1e-10  # piecewise linear layers: the central difference is exact


@st.composite
def conv_case(draw):
    DH, DW = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    (H, KH, SH, ph), (W, KW, SW, pw) = draw(axis(dilation=DH)), draw(axis(dilation=DW))
    groups = draw(st.integers(1, 3))
    C, F = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 3))
    layer = Conv(F, (KH, KW), (SH, SW), (ph, pw), groups, dilation=(DH, DW))
    return layer, (draw(st.integers(1, 2)), H, W, C), np.random.default_rng(draw(seeds))


@given(case=conv_case())
def test_conv_equals_loops_and_finite_differences(xp, case):
    layer, shape, rng = case
    set_params(layer, shape, rng)
    x = rng.standard_normal(shape)
    layer = OnDevice(layer, xp)
    y = layer.forward(x)
    conv = layer.layer
    expected = naive.conv(
        x,
        layer.params["w"],
        layer.params["b"],
        conv.stride,
        conv.pad,
        conv.groups,
        conv.dilation,
    )
    assert y.shape == expected.shape == (shape[0], *conv.output_shape(shape[1:]))
    assert relative_error(y, expected) < 1e-13
    assert max(layer_errors(layer, x, rng).values()) < TOLERANCE


@given(case=conv_case())
def test_conv_backward_is_the_transpose_of_forward(xp, case):
    layer, shape, rng = case
    set_params(layer, shape, rng)
    layer.params["b"] *= 0
    layer = OnDevice(layer, xp)
    error = adjoint_error(layer.forward, layer.backward, rng.standard_normal(shape), rng)
    assert error < 1e-12


@given(case=pool_case())
def test_max_pool_equals_loops_and_finite_differences(xp, case):
    layer, shape, rng = case
    x = away_from_kinks(shape, rng)
    value, argmax = naive.max_pool(x, layer.kernel, layer.stride, layer.pad, layer.ceil)
    on = OnDevice(layer, xp)
    np.testing.assert_array_equal(on.forward(x), value)
    np.testing.assert_array_equal(np.asarray(on.layer.argmax.tolist()), argmax)
    dy = rng.standard_normal(value.shape)
    expected = naive.argmax_unpool(dy, argmax, shape, layer.kernel, layer.stride, layer.pad)
    np.testing.assert_allclose(on.backward(dy), expected, rtol=1e-14, atol=1e-14)
    assert layer_errors(on, x, rng)["x"] < TOLERANCE


@given(case=pool_case())
def test_unpool_is_the_transpose_of_taking_the_maxima(xp, case):
    layer, shape, rng = case
    x = rng.standard_normal(shape)
    _, argmax = (a for a in naive.max_pool(x, layer.kernel, layer.stride, layer.pad, layer.ceil))
    places = naive.argmax_unpool  # its transpose takes u at the arg-max places: done by matrix here
    basis = np.eye(argmax.size).reshape(argmax.size, *argmax.shape)
    A = np.stack([places(e, argmax, shape, layer.kernel, layer.stride, layer.pad) for e in basis])

    def take(u):
        return np.tensordot(A, u, u.ndim).reshape(argmax.shape)

    on = OnDevice(layer, xp)
    on.forward(x)
    assert adjoint_error(take, on.backward, x, rng) < 1e-12


@given(seed=seeds, shape=st.tuples(*[st.integers(1, 4)] * 4))
def test_global_max_pool(xp, seed, shape):
    rng = np.random.default_rng(seed)
    x = away_from_kinks(shape, rng)
    layer = OnDevice(GlobalMaxPool(), xp)
    N, _, _, C = shape
    y = layer.forward(x)
    assert y.shape[1:] == layer.layer.output_shape(shape[1:])
    for n, c in np.ndindex(N, C):
        assert y[n, 0, 0, c] == max(x[n, i, j, c] for i, j in np.ndindex(*shape[1:3]))
    assert layer_errors(layer, x, rng)["x"] < TOLERANCE
    ties = layer.forward(np.ones(shape))  # the first pixel gets it all
    dx = layer.backward(ties)
    assert (dx[:, 0, 0] == 1).all()
    assert dx.sum() == N * C


@given(
    seed=seeds, shape=st.tuples(*[st.integers(1, 3)] * 4), pads=st.tuples(*[st.integers(0, 2)] * 4)
)
def test_zero_pad(xp, seed, shape, pads):
    top, bottom, left, right = pads
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    layer = OnDevice(ZeroPad(((top, bottom), (left, right))), xp)
    y = layer.forward(x)
    assert y.shape[1:] == layer.layer.output_shape(shape[1:])
    assert y.sum() == pytest.approx(x.sum())
    _, H, W, _ = shape
    np.testing.assert_array_equal(y[:, top : top + H, left : left + W], x)
    assert layer_errors(layer, x, rng)["x"] < TOLERANCE


@given(seed=seeds, shape=st.tuples(*[st.integers(1, 4)] * 4))
def test_relu(xp, seed, shape):
    rng = np.random.default_rng(seed)
    x = away_from_kinks(shape, rng)
    layer = OnDevice(ReLU(), xp)
    np.testing.assert_array_equal(layer.forward(x), naive.relu(x))
    assert layer_errors(layer, x, rng)["x"] < TOLERANCE


@given(
    seed=seeds,
    N=st.integers(1, 3),
    H=st.integers(1, 3),
    W=st.integers(1, 3),
    C=st.integers(1, 3),
    F=st.integers(1, 4),
)
def test_linear(xp, seed, N, H, W, C, F):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((N, H, W, C))
    layer = Linear(F)
    set_params(layer, x.shape, rng)
    layer = OnDevice(layer, xp)
    expected = naive.linear(x, layer.params["w"], layer.params["b"])
    assert relative_error(layer.forward(x), expected) < 1e-13
    assert layer.layer.output_shape(x.shape[1:]) == (F,)
    assert max(layer_errors(layer, x, rng).values()) < TOLERANCE


def test_dropout(xp):
    x = np.ones((50, 40))
    layer = OnDevice(Dropout(0.3, np.random.default_rng(1)), xp)
    np.testing.assert_array_equal(layer.forward(x), x)
    np.testing.assert_array_equal(layer.backward(x), x)
    y = layer.forward(x, train=True)
    assert set(np.unique(y)) == {0.0, 1 / 0.7}
    assert abs(y.mean() - 1) < 4 * np.sqrt(0.3 / 0.7 / y.size)
    np.testing.assert_array_equal(layer.backward(x), y)  # the same elements, the same scale
    with pytest.raises(ValueError, match="dropout probability"):
        Dropout(1.0)


def test_conv_by_hand(xp):
    layer = Conv(1, 2)
    layer.params = {
        "w": np.array([[1.0, 2], [3, 4]]).reshape(2, 2, 1, 1),
        "b": np.array([10.0]),
    }
    layer = OnDevice(layer, xp)
    x = np.arange(9.0).reshape(1, 3, 3, 1)
    # 0*1 + 1*2 + 3*3 + 4*4 + 10 = 37: a correlation, the kernel is not flipped
    np.testing.assert_array_equal(layer.forward(x)[0, :, :, 0], [[37, 47], [67, 77]])
    dy = np.array([1.0, 0, 0, 2]).reshape(1, 2, 2, 1)
    dx, grads = layer.backward(dy), layer.gradients(dy)
    np.testing.assert_array_equal(dx[0, :, :, 0], [[1, 2, 0], [3, 6, 4], [0, 6, 8]])
    np.testing.assert_array_equal(grads["w"][:, :, 0, 0], [[8, 11], [17, 20]])
    np.testing.assert_array_equal(grads["b"], [3])


def test_pool_ties_go_to_the_first_in_row_order(xp):
    x = np.array([[1.0, 7, 7], [7, 0, 7], [2, 7, 7]]).reshape(1, 3, 3, 1)
    value, argmax = max_pool(xp.asarray(x), (3, 3), (3, 3), 1, 1)
    assert (value.item(), argmax.item()) == (7, 1)
    value, argmax = max_pool(xp.asarray(x), (2, 2), (1, 1), 2, 2)
    np.testing.assert_array_equal(np.array(argmax.tolist())[0, :, :, 0], [[1, 0], [0, 1]])
    dx = argmax_unpool(xp.ones((1, 2, 2, 1)), argmax, x.shape, (2, 2), (1, 1))
    np.testing.assert_array_equal(
        np.array(dx.tolist())[0, :, :, 0], [[0, 2, 0], [1, 0, 1], [0, 0, 0]]
    )


@given(seed=seeds, case=pool_case())
def test_pool_with_many_ties(xp, seed, case):
    """MNIST's background is constant: most windows tie."""
    layer, shape, _ = case
    x = np.random.default_rng(seed).integers(0, 3, shape).astype(float)
    value, argmax = naive.max_pool(x, layer.kernel, layer.stride, layer.pad, layer.ceil)
    on = OnDevice(layer, xp)
    np.testing.assert_array_equal(on.forward(x), value)
    np.testing.assert_array_equal(np.asarray(on.layer.argmax.tolist()), argmax)


def test_relu_passes_nothing_at_zero(xp):
    layer = OnDevice(ReLU(), xp)
    np.testing.assert_array_equal(layer.forward(np.array([-1.0, 0, 2])), [0, 0, 2])
    np.testing.assert_array_equal(layer.backward(np.ones(3)), [0, 0, 1])


LAYERS = {
    "conv": lambda: Conv(3, (2, 3), (2, 1), (1, 2)),
    "conv in groups": lambda: Conv(4, 3, 1, 1, groups=2),
    "dilated conv": lambda: Conv(3, 2, 1, 1, dilation=(2, 3)),
    "zero pad": lambda: ZeroPad((1, 2)),
    "prelu": PReLU,
    "gelu": GELU,
    "global max-pool": GlobalMaxPool,
    "max-pool": lambda: MaxPool((3, 2), 2, (1, 0)),
    "average pool": lambda: AveragePool((3, 2), 2, (1, 0)),
    "global average pool": GlobalAveragePool,
    "lrn": lambda: LRN(3),
    "lrn within a channel": lambda: LRN(3, across=False),
    "relu": ReLU,
    "linear": lambda: Linear(5),
}


@pytest.mark.parametrize("name", LAYERS)
def test_inputs_are_left_alone_and_may_be_strided(xp, name):
    rng = np.random.default_rng(3)
    layer = LAYERS[name]()
    set_params(layer, (2, 6, 7, 2), rng)
    layer = OnDevice(layer, xp)
    x = rng.standard_normal((2, 7, 6, 2)).transpose(0, 2, 1, 3)[:, ::-1]
    kept = x.copy()
    y = layer.forward(x).copy()
    np.testing.assert_array_equal(x, kept)
    dy = np.asfortranarray(rng.standard_normal(y.shape))
    kept_dy = dy.copy()
    dx = layer.backward(dy).copy()
    np.testing.assert_array_equal(dy, kept_dy)
    np.testing.assert_allclose(layer.forward(np.ascontiguousarray(x)), y, rtol=1e-12)
    np.testing.assert_allclose(layer.backward(np.ascontiguousarray(dy)), dx, rtol=1e-12)


@pytest.mark.parametrize("name", LAYERS)
def test_nothing_accumulates_and_batches_may_shrink(xp, name):
    rng = np.random.default_rng(4)
    layer = LAYERS[name]()
    set_params(layer, (5, 6, 7, 2), rng)
    layer = OnDevice(layer, xp)
    x = rng.standard_normal((5, 6, 7, 2))

    def run(x):
        y = layer.forward(x).copy()
        dx = layer.backward(np.sin(y)).copy()
        return [y, dx, *layer.gradients(np.sin(y)).values()]

    first = run(x)
    run(x[:2])
    run(-x)
    for a, b in zip(first, run(x), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", LAYERS)
def test_float32_stays_float32(xp, name):
    layer = LAYERS[name]()
    layer.initialize((6, 7, 2), np.random.default_rng(0))
    x = xp.ones((2, 6, 7, 2), xp.float32)
    layer.params = {key: xp.asarray(w) for key, w in layer.params.items()}
    y = layer.forward(x)
    arrays = y, layer.backward(y), *layer.params.values(), *layer.gradients(y).values()
    assert {a.dtype for a in arrays} == {np.dtype("float32")}


def test_layers_without_parameters_say_so():
    for layer in (Conv(2, 3), Linear(2)):
        with pytest.raises(ValueError, match="no parameters yet: call initialize first"):
            layer.forward(np.zeros((1, 5, 5, 1)))


def test_joins(xp):
    rng = np.random.default_rng(0)
    a, b = (xp.asarray(rng.standard_normal((2, 3, 4, C))) for C in (1, 2))
    both = Concat()
    assert both.output_shape([a.shape[1:], b.shape[1:]]) == (3, 4, 3)
    y = both.forward([a, b])
    assert (y[..., :1] == a).all()
    assert (y[..., 1:] == b).all()
    da, db = both.backward(y)
    assert (da == a).all()
    assert (db == b).all()
    add = Add()
    assert (add.forward([a, a, a]) == 3 * a).all()
    assert [d is a for d in add.backward(a)] == [True] * 3
    with pytest.raises(ValueError, match="only maps of one shape can be added"):
        add.output_shape([(3, 4, 1), (3, 4, 2)])
    with pytest.raises(ValueError, match="must be of one size"):
        both.output_shape([(3, 4, 1), (3, 5, 1)])


@pytest.mark.parametrize(
    ("make", "shape", "message"),
    [
        (lambda: Conv(2, 5), (4, 9, 1), "no room for a kernel of 5 in 4"),
        (lambda: Conv(4, 3, groups=3), (9, 9, 3), "4 filters cannot be split into 3"),
        (lambda: Conv(4, 3, groups=2), (9, 9, 3), "3 channels cannot be split into 2"),
        (lambda: Conv(2, 3, stride=0), (9, 9, 1), "stride must be at least 1"),
        (lambda: Conv(2, 0), (9, 9, 1), "kernel must be at least 1"),
        (lambda: Conv(2, 3, pad=-1), (9, 9, 1), "padding must not be negative"),
        (lambda: MaxPool(2, 2, pad=2), (9, 9, 1), "must be smaller than the kernel"),
        (lambda: MaxPool(5, ceil=False), (4, 4, 1), "no room for a kernel of 5"),
    ],
)
def test_impossible_geometry_is_refused(make, shape, message):
    with pytest.raises(ValueError, match=message):
        layer = make()
        layer.initialize(shape, np.random.default_rng(0))
        layer.output_shape(shape)


def test_wrong_channels_and_widths_are_refused():
    conv, linear = Conv(2, 3), Linear(4)
    conv.initialize((9, 9, 3), np.random.default_rng(0))
    linear.initialize((5,), np.random.default_rng(0))
    with pytest.raises(ValueError, match="expected images of 3 channels, got 2"):
        conv.forward(np.zeros((1, 9, 9, 2)))
    with pytest.raises(ValueError, match="expected 5 inputs, got 6"):
        linear.forward(np.zeros((1, 6)))


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pad", "conv", "pool"),
    [
        (28, 5, 1, 0, 24, 24),
        (227, 11, 4, 0, 55, 55),  # AlexNet's conv1
        (224, 7, 2, 1, 110, 111),  # ZeilerFergusNet's conv1: floor
        (55, 3, 2, 0, 27, 27),
        (110, 3, 2, 0, 54, 55),  # its pool1: ceil
        (26, 3, 2, 0, 12, 13),
        (
            5,
            2,
            3,
            1,
            2,
            2,
        ),  # a third window would start in the padding behind the image
    ],
)
def test_output_sizes_are_caffes(size, kernel, stride, pad, conv, pool):
    assert Conv(1, kernel, stride, pad).output_shape((size, size, 1))[0] == conv
    if pad < kernel:
        assert MaxPool(kernel, stride, pad).output_shape((size, size, 1))[0] == pool
