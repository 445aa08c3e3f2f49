"""The gradient checker must catch what people get wrong: faults are planted in a right layer."""

import numpy as np
import pytest

from nn.conv import Conv
from nn.linear import Linear
from nn.pool import MaxPool
from tests.gradcheck import away_from_kinks, layer_errors, relative_error

TOLERANCE = 1e-10


def wrong_sign(layer):
    right = layer.backward
    layer.backward = lambda dy: -right(dy)


def missing_upstream(layer):
    right = layer.backward
    layer.backward = lambda dy: right(np.ones_like(dy))


def swapped_strides(layer):
    right = layer.backward

    def backward(dy):
        layer.stride = layer.stride[::-1]
        dx = right(dy)
        layer.stride = layer.stride[::-1]
        return dx

    layer.backward = backward


def assigned_instead_of_added(layer):
    """Overlapping windows: the last one wins."""

    def backward(dy):
        KH, KW, C, F = layer.params["w"].shape
        dx = np.zeros(layer.padded_shape)
        for n, oh, ow, f in np.ndindex(dy.shape):
            patch = dx[n, oh : oh + KH, ow : ow + KW]
            patch[...] = dy[n, oh, ow, f] * layer.params["w"][..., f]
        return dx

    layer.backward = backward


def mask_instead_of_argmax(layer):
    """x == max passes a tie's gradient to every maximum."""
    right = layer.forward

    def forward(x):
        layer.x = x
        layer.y = right(x)
        return layer.y

    def backward(dy):
        large = layer.y.repeat(2, axis=1).repeat(2, axis=2)
        return (layer.x == large) * dy.repeat(2, axis=1).repeat(2, axis=2)

    layer.forward, layer.backward = forward, backward


def forgotten_bias(layer):
    right = layer.gradients
    layer.gradients = lambda dy: right(dy) | {"b": 0 * layer.params["b"]}


@pytest.mark.parametrize(
    "fault",
    [
        None,
        wrong_sign,
        missing_upstream,
        swapped_strides,
        assigned_instead_of_added,
        forgotten_bias,
    ],
)
def test_planted_faults_in_conv_are_caught(fault):
    rng = np.random.default_rng(0)
    layer = Conv(2, 2, stride=1 if fault is assigned_instead_of_added else (1, 2))
    layer.initialize((5, 5, 1), rng)
    layer.params = {name: rng.standard_normal(w.shape) for name, w in layer.params.items()}
    if fault:
        fault(layer)
    try:
        worst = max(layer_errors(layer, rng.standard_normal((2, 5, 5, 1)), rng).values())
    except ValueError:  # shapes that do not fit are a catch, too
        worst = np.inf
    assert (worst < TOLERANCE) == (fault is None)


def test_a_tie_mask_is_caught_by_ties_only():
    """Distinct values hide this fault: hence the tests with ties in test_layers.py."""
    rng = np.random.default_rng(0)
    layer = MaxPool(2, 2)
    mask_instead_of_argmax(layer)
    x = away_from_kinks((1, 4, 4, 1), rng)
    assert layer_errors(layer, x, rng)["x"] < TOLERANCE
    layer.forward(np.zeros((1, 4, 4, 1)))
    assert layer.backward(np.ones((1, 2, 2, 1))).sum() == 16  # the right layer gives 4


def test_a_float32_layer_would_fail():
    """The tolerance is far below what single precision could reach."""
    rng = np.random.default_rng(0)
    layer = Linear(3)
    layer.initialize((4,), rng)
    errors = layer_errors(layer, rng.standard_normal((2, 4)).astype(np.float32), rng)
    assert max(errors.values()) > TOLERANCE


def test_inputs_keep_away_from_kinks():
    x = away_from_kinks((3, 4, 5), np.random.default_rng(0))
    assert len(np.unique(x)) == x.size
    assert relative_error(np.ones(3), np.ones(3)) == 0
    assert relative_error(np.ones(3), np.array([1, 1, 2.0])) == 0.5
