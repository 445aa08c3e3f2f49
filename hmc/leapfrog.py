"""The leapfrog integrator of Hamilton's equations (Eq. 20-22)."""

from collections.abc import Callable

from nn.backend import Array


def leapfrog(
    energy: Callable,
    x: Array,
    momentum: Array,
    gradient: Array,
    step_size: float | Array,
    steps: int,
    mass: float = 1.0,
) -> tuple[Array, Array]:
    """Move (x, momentum) along a trajectory of `steps` leapfrog steps, in place.

    x is any position; the chains on a node of a net move z (energy.py). energy(x) -> value and
    gradient for a batch of chains, the first axis of x. `gradient` is dU/dx at the x given;
    step_size is a number or an array that broadcasts against x (one for each chain). Returns
    energy's value and gradient at the end. One gradient a step: the half step that ends one step
    and the half step that begins the next are taken together.

        phi(t + eps/2) = phi(t) - eps/2 dU/dx(x(t))                    Eq. 20
        x(t + eps)     = x(t) + eps phi(t + eps/2) / m                 Eq. 21
        phi(t + eps)   = phi(t + eps/2) - eps/2 dU/dx(x(t + eps))      Eq. 22
    """
    momentum -= step_size / 2 * gradient  # Eq. 20
    for step in range(steps):
        x += step_size / mass * momentum  # Eq. 21
        value, gradient = energy(x)
        fraction = 1 if step < steps - 1 else 0.5  # Eq. 22, and Eq. 20 of the next step
        momentum -= fraction * step_size * gradient
    return value, gradient
