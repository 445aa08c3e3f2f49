"""Finite differences, inputs without kinks near them, and the adjoint identity."""

import numpy as np

FLOAT32 = 1e-5  # of the largest number; the sums of toom_cook.py round by some 2e-6
PIECEWISE_LINEAR = 2.0**-10  # exact for the central difference unless a kink is crossed
SMOOTH = 1e-5


def numerical_gradient(f, x, eps):
    """Central differences of the scalar f() in each number of x, changed in place."""
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        before = x[index]
        x[index] = before + eps
        above = f()
        x[index] = before - eps
        below = f()
        x[index] = before
        gradient[index] = (above - below) / (2 * eps)
    return gradient


def relative_error(analytic, numeric, summed=1e-300):
    """max |a - n| / max(|a|, |n|) over all numbers. summed: the size of what was summed up to these
    numbers, where it may cancel."""
    scale = max(np.abs(analytic).max(), np.abs(numeric).max(), summed)
    return np.abs(analytic - numeric).max() / scale


def away_from_kinks(shape, rng):
    """Distinct multiples of 1/8, none 0, in random places: no maximum and no sign can change
    within a step of 2^-10."""
    n = int(np.prod(shape))
    grid = (rng.permutation(n) - n // 2 + 0.5) / 8
    gaps = np.diff(np.sort(grid))
    assert len(gaps) == 0 or gaps.min() >= 1 / 8
    assert np.abs(grid).min() >= 1 / 16
    return grid.reshape(shape)


def layer_errors(layer, x, rng, eps=PIECEWISE_LINEAR, **forward):
    """{name: error} of dx and of each parameter's gradient, for a random upstream gradient."""
    y = layer.forward(x, **forward)
    upstream = rng.standard_normal(y.shape)

    def loss():
        return float((layer.forward(x, **forward) * upstream).sum())

    layer.forward(x, **forward)
    dx, grads = layer.backward(upstream), layer.gradients(upstream)
    assert set(grads) == set(layer.params)
    errors = {"x": relative_error(dx, numerical_gradient(loss, x, eps))}
    for name, parameter in layer.params.items():
        numeric = numerical_gradient(loss, parameter, eps)
        errors[name] = relative_error(grads[name], numeric, np.abs(upstream).max())
    return errors


def adjoint_error(forward, backward, u, rng):
    """|<A u, v> - <u, A' v>| over the sum of the products' sizes."""
    Au = forward(u)
    v = rng.standard_normal(Au.shape)
    left, right = (Au * v), (u * backward(v))
    return abs(left.sum() - right.sum()) / (np.abs(left).sum() + np.abs(right).sum() + 1e-300)
