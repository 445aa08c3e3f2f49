"""What a chain will do, told before it runs: f ignored, U is a harmonic oscillator."""

import math
from dataclasses import dataclass

STUCK = 0.1  # share of the start that may remain
QUARTER_TURN = math.pi / 2  # after it, a trajectory has forgotten where it began


@dataclass
class Forecast:
    """theta: the angle by which an exact trajectory turns the chain, in radians.

    remains: correlation of the last picture with the first, |cos a|^iterations, where a is the
        angle of the leapfrog steps themselves, a little more than theta.
    reached: share of the shift A^T df/dx of z that a constant gradient would bring.
    warning: what is wrong and settings that would do, or "".
    """

    theta: float
    remains: float
    reached: float
    warning: str


def forecast(
    iterations: int,
    step_size: float,
    steps: int,
    mass: float,
    temperature: float,
) -> Forecast:
    """The chain of these settings without f: z -> z cos theta + sqrt(T) sin theta N(0, 1).

    theta = eps L / sqrt(T m): U = |z|^2 / (2 T) turns with frequency 1 / sqrt(T m), whatever the
    reference is (reference.py).
    """
    period = math.sqrt(temperature * mass)
    theta = step_size * steps / period
    power = math.cos(steps * leapfrog_angle(step_size / period)) ** iterations
    unstable = step_size / period >= 2
    remains, reached = (1.0, 0.0) if unstable else (abs(power), 1 - power)
    better = QUARTER_TURN * period / steps
    warning = ""
    if unstable:
        warning = (
            f"unstable: a step of {step_size:.3g} is beyond 2 sqrt(T m) = {2 * period:.3g}; "
            f"--step-size {better:.3g} would do"
        )
    elif remains > STUCK and abs(math.sin(theta)) < 0.3 and theta > 1:
        warning = (
            f"resonance: theta = {theta:.2f} is near {round(theta / math.pi)} pi: a trajectory "
            f"ends where it began, and {remains:.0%} of the start will remain; "
            f"--step-size {better:.3g} would do"
        )
    elif remains > STUCK:
        cooler = (step_size * steps / QUARTER_TURN) ** 2 / mass
        warning = (
            f"the chain will hardly move: theta = {theta:.3f}, and after {iterations} iterations "
            f"{remains:.0%} of the start will remain; --step-size {better:.3g}, or "
            f"--temperature {cooler:.3g}, would do"
        )
    return Forecast(theta, remains, reached, warning)


def leapfrog_angle(x: float) -> float:
    """The angle of one leapfrog step of eps omega = x: a little more than x, pi from x = 2 on."""
    return math.acos(max(-1.0, 1 - x**2 / 2))
