"""Step sizes found during warm-up: dual averaging (Hoffman & Gelman 2014, section 3.2)."""

import numpy as np


class DualAveraging:
    """Steers each chain's step size so that its mean acceptance becomes `target`.

    With a_t the acceptance probability of iteration t and g_t the mean of target - a_s:
        log eps_t     = mu - sqrt(t) / gamma g_t          (tried in the next iteration)
        log eps_bar_t = t^-kappa log eps_t + (1 - t^-kappa) log eps_bar_{t-1}   (kept at the end)
    mu = log(eps_0) draws the trials towards the start; step sizes stay at or below `largest`.
    """

    GAMMA, T0, KAPPA = 0.05, 10.0, 0.75

    def __init__(self, step_size, chains, target=0.8, largest=np.inf):
        self.target, self.largest = target, largest
        self.mu = np.full(chains, np.log(step_size))
        self.shortfall = np.zeros(chains)
        self.log_average = np.full(chains, np.log(step_size))
        self.t = 0
        self.trial = np.exp(self.mu)

    def update(self, probability):
        """Learn from one iteration's acceptance probabilities (n,); return the next trial (n,)."""
        self.t += 1
        weight = 1 / (self.t + self.T0)
        self.shortfall += weight * (self.target - probability - self.shortfall)
        log_step = self.mu - np.sqrt(self.t) / self.GAMMA * self.shortfall
        log_step = np.minimum(log_step, np.log(self.largest))
        decay = self.t**-self.KAPPA
        self.log_average = decay * log_step + (1 - decay) * self.log_average
        self.trial = np.exp(log_step)
        return self.trial

    @property
    def average(self):
        """The step size of each chain to go on with after warm-up."""
        return np.exp(self.log_average)
