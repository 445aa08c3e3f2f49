"""Hamiltonian Monte Carlo for a batch of chains, each accepted or rejected for itself."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hmc.leapfrog import leapfrog
from nn.backend import Array, array_module, to_device, to_host

DIVERGENT = 1000  # an energy error this large no longer comes from the length of the steps
# Numbers that overflow in a chain that diverges are seen to by rejecting it.
QUIET = np.errstate(over="ignore", invalid="ignore")


@dataclass
class State:
    """Chains at x (n, ...), with U / T (n,) and its gradient (n, ...) there."""

    x: np.ndarray
    value: np.ndarray
    gradient: np.ndarray


class HMC:
    """Samples from exp(-U(x) / T) by trajectories of leapfrog steps, T = temperature.

    energy(x) -> U (n,), dU/dx (n, ...) for x (n, ...) of any shape behind the chain axis; for a
    node of a net, x is the z of energy.py. The U of section 4.6, which has 1 / T in it, is our
    U / T. Steps of finite length change H = U / T + K a little. So the end of a trajectory is
    accepted with probability min(1, exp(H_start - H_end)) only (Metropolis), which keeps
    exp(-U / T) exactly.
    step_size: a number, or (n,), one for each chain. mass: of every coordinate,
    K = |phi|^2 / (2 mass). jitter: the length of each trajectory is eps L (1 + jitter u), u
    uniform in [-1, 1], drawn anew for each chain, so that none stays on a resonance.
    steps = 1 is Langevin dynamics (with the Metropolis correction).
    """

    def __init__(
        self,
        energy: Callable,
        step_size: float | np.ndarray,
        steps: int,
        mass: float = 1.0,
        temperature: float = 1.0,
        jitter: float = 0.0,
    ):
        for name, number in (
            ("mass", mass),
            ("temperature", temperature),
            ("step_size", step_size),
        ):
            if not np.all(np.asarray(number) > 0):
                raise ValueError(f"{name} must be above 0, got {number}")
        if steps < 1 or steps != int(steps):
            raise ValueError(f"steps must be a whole number of at least 1, got {steps}")
        self.energy = energy
        self.step_size, self.steps = step_size, steps
        self.mass, self.temperature, self.jitter = mass, temperature, jitter

    @QUIET
    def start(self, x: Array) -> State:
        """The state of chains that begin at x."""
        value, gradient = tempered(*self.energy(x), self.temperature)
        return State(x.copy(), value.copy(), gradient.copy())

    @QUIET
    def step(self, state: State, rng: np.random.Generator) -> tuple[State, dict]:
        """One trajectory of every chain, in place: (state, info).

        info, each (n,) on the host: probability (of acceptance), accepted, energy_error (H at the
        end minus at the start), divergent (the error is above 1000 or not finite).
        """
        xp = array_module(state.x)
        n, shape = len(state.x), state.x.shape
        each = (n,) + (1,) * (len(shape) - 1)  # a number for each chain, against x
        step_size = np.broadcast_to(self.step_size, n)
        if self.jitter:
            step_size = step_size * (1 + self.jitter * rng.uniform(-1, 1, n))
        step_size = step_size.reshape(each).astype(state.x.dtype)
        momentum = rng.standard_normal(shape, np.float32).astype(state.x.dtype, copy=False)
        momentum *= self.mass**0.5
        uniform = rng.random(n)

        x, value, gradient, error = self.trajectory(
            state.x, state.value, state.gradient, momentum, step_size
        )
        error = to_host(error)
        divergent = ~(np.abs(error) < DIVERGENT)
        probability = np.where(np.isfinite(error), np.exp(np.minimum(0, -error)), 0.0)
        accepted = uniform < probability

        moved = to_device(accepted, xp)
        xp.copyto(state.value, value, where=moved)
        xp.copyto(state.x, x, where=moved.reshape(each))
        xp.copyto(state.gradient, gradient, where=moved.reshape(each))
        return state, {
            "probability": probability,
            "accepted": accepted,
            "energy_error": error,
            "divergent": divergent,
        }

    def trajectory(self, x, value, gradient, momentum, step_size) -> tuple:
        """x, U / T and its gradient at the end, and the error in H; momentum is used up."""
        x, before = x.copy(), value + kinetic(momentum, self.mass)

        def energy(x):
            return tempered(*self.energy(x), self.temperature)

        value, gradient = leapfrog(energy, x, momentum, gradient, step_size, self.steps, self.mass)
        return x, value, gradient, value + kinetic(momentum, self.mass) - before


def tempered(value: Array, gradient: Array, temperature: float) -> tuple[Array, Array]:
    """U / T and its gradient."""
    return (value, gradient) if temperature == 1 else (value / temperature, gradient / temperature)


def kinetic(momentum: Array, mass: float) -> Array:
    """|phi|^2 / (2 m) of each chain, summed in float64."""
    flat = momentum.reshape(len(momentum), -1)
    return (flat * flat).sum(axis=1, dtype="float64") / (2 * mass)
