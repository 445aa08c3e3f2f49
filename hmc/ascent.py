"""Activation maximisation: uphill on exp(-U), the limit of T = 0."""

from collections.abc import Callable

import numpy as np

from nn.backend import Array

MOMENTUM = 0.9


def ascend(energy: Callable, z: Array, velocity: Array, step_size: float) -> tuple[Array, Array]:
    """One step of every chain by its own normalised gradient, with momentum: (z, velocity).

        velocity = 0.9 velocity - 0.1 g / rms(g),  g = dU/dz;    z = z + step_size velocity

    z (n, ...); step_size: how far a coordinate moves in a step, in units of q's spread. The size of
    f does not matter, only its direction, so one step size suits all layers.
    """
    _, g = energy(z)
    axes = tuple(range(1, z.ndim))
    size = np.sqrt((g * g).mean(axis=axes, keepdims=True)) + 1e-30
    velocity = MOMENTUM * velocity - (1 - MOMENTUM) * g / size
    return z + step_size * velocity, velocity
