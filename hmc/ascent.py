"""Activation maximisation: uphill on exp(-U), the limit of T = 0."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hmc.sampler import State
from nn.backend import Array, array_module

MOMENTUM = 0.9


@dataclass
class Climb(State):
    """A State on its way up: its velocity (n, ...), and the steps taken (n,)."""

    velocity: np.ndarray
    taken: np.ndarray


class Ascent:
    """Steps along each chain's own normalised gradient, with momentum, ever shorter.

        velocity = 0.9 velocity - 0.1 g / rms(g),  g = dU/dz
        z = z + step_size (1 - taken / total) velocity

    step_size: how far a coordinate moves in a step once the momentum has built up, in units of q's
    spread (a tenth of that in the first step); total: how many steps will be taken. Only the
    direction of the gradient counts, so one step size suits every layer. It has the calls of HMC
    (sampler.py), accepts every step, and draws no random numbers.
    """

    temperature, steps = 1.0, 1  # as HMC has them; U is taken as it is

    def __init__(self, energy: Callable, step_size: float, total: int):
        self.energy, self.step_size, self.total = energy, step_size, total

    def start(self, z: Array) -> Climb:
        value, gradient = self.energy(z)
        none = array_module(z).zeros(len(z))
        return Climb(z.copy(), value, gradient, 0 * z, none)

    def step(self, state: Climb, rng: np.random.Generator | None = None) -> tuple[Climb, dict]:
        z, g, n = state.x, state.gradient, len(state.x)
        each = (n,) + (1,) * (z.ndim - 1)
        size = (g * g).reshape(n, -1).mean(axis=1).reshape(each) ** 0.5 + 1e-30
        velocity = MOMENTUM * state.velocity - (1 - MOMENTUM) * g / size
        left = (1 - state.taken / self.total).reshape(each).astype(z.dtype)
        z = z + self.step_size * left * velocity
        value, gradient = self.energy(z)
        info = {"probability": np.ones(n), "energy_error": np.zeros(n)}
        return Climb(z, value, gradient, velocity, state.taken + 1), info
