"""Step sizes found during warm-up, by stochastic approximation (Robbins & Monro 1951)."""

import numpy as np


class RobbinsMonro:
    """Steers each chain's step size so that its mean acceptance becomes `target`.

    With a_t the acceptance probability of iteration t,
        log eps_{t+1} = log eps_t + GAIN (a_t - target)                (tried in the next iteration)
        log average_{t+1} = log average_t + WEIGHT (log eps_{t+1} - log average_t)
    The gain stays as it is, so that eps follows a chain into regions of stronger curvature, and
    down as its temperature falls. `average` is what to go on with. Both are at most `largest`.
    """

    GAIN, WEIGHT = 0.3, 0.1

    def __init__(self, step_size: float, chains: int, target: float = 0.8, largest: float = np.inf):
        self.target, self.largest = target, largest
        self.trial = np.minimum(np.full(chains, float(step_size)), largest)
        self.average = self.trial

    def update(self, probability: np.ndarray) -> np.ndarray:
        """Learn from one iteration's acceptance probabilities (n,); return the next trial (n,)."""
        raised = self.trial * np.exp(self.GAIN * (probability - self.target))
        self.trial = np.minimum(raised, self.largest)
        self.average = self.average ** (1 - self.WEIGHT) * self.trial**self.WEIGHT
        return self.trial

    def capped(self, probability: np.ndarray) -> bool:
        """Whether longer steps than `largest` would do: it holds the chains back, nearly all of
        whose trajectories are accepted."""
        return (
            np.mean(self.trial) > 0.95 * self.largest
            and np.mean(probability) > (1 + self.target) / 2
        )

    def lengthen(self, factor: float) -> None:
        """Go on with longer steps, and allow them."""
        self.largest *= factor
        self.trial = self.trial * factor
        self.average = self.average * factor
