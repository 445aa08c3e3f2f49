"""Whether a training from the model's own samples still goes well."""

import numpy as np

MEMORY = 0.95  # of the running means
# Alarms: runs that go well stay far from these (docs/samples.md).
MOST_GAP, MOST_SCORE, LEAST_ACCEPTANCE = 60.0, 2000.0, 0.2
GOOD_GAP = 40.0  # a state with a larger one is not kept as a good one


class Guard:
    """Running means of the last updates, and what is wrong with them."""

    def __init__(self):
        self.means = np.array([np.nan, np.nan, 1.0])  # gap, largest |f|; acceptance: the first
        # step sizes may be far too large, and are given the time to be tuned

    def alarm(self, *numbers: float) -> str:
        """What is wrong, in words, or ""."""
        new = np.array(numbers, float)
        old = np.where(np.isnan(self.means), new, self.means)
        self.means = MEMORY * old + (1 - MEMORY) * new
        gap, score, acceptance = self.means
        if not np.isfinite(self.means).all():
            return "the scores are not finite"
        if abs(gap) > MOST_GAP:
            return f"the gap between images and chains is {gap:.0f}"
        if score > MOST_SCORE:
            return f"the largest score is {score:.0f}"
        return f"the acceptance is {acceptance:.2f}" if acceptance < LEAST_ACCEPTANCE else ""
