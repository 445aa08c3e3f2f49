"""Chains of a model that changes, each tied to a class: they go on from update to update.

The ranks of an MPI job share them: each moves some, with the random numbers that they would have on
one rank, and then tells the others where they are.
"""

import numpy as np

from app.runs.checks import need
from app.runs.share import Share
from fast.ranks import ALONE
from hmc.energy import NodeEnergy
from hmc.forecast import QUARTER_TURN
from hmc.sampler import HMC
from hmc.tuning import RobbinsMonro
from nn.backend import to_device, to_host

JITTER = 0.2  # of the trajectories' lengths
FIRST_STEP = 0.3  # eps; then it is steered
MOST_STEPS = 5  # times --leapfrog-steps
GROWN = 10  # visits, after which a chain that began anew counts as a sample
WARM_UP = 50  # trajectories of all chains, before a net that has learned already goes on


class ClassChains:
    """Chains of z, chain j a sample of the class j % K; see hmc/ for what moves them."""

    def __init__(self, energy: NodeEnergy, settings: dict, classes: int, xp, ranks=ALONE):
        self.energy, self.xp, self.ranks = energy, xp, ranks
        self.rebirth = settings["rebirth"]
        self.trajectories = settings["trajectories"]
        self.classes = np.arange(settings["chains"]) % classes
        need(settings["chains"] >= classes, f"--chains: at least one for each of {classes} classes")
        rng = np.random.default_rng((settings["seed"], 0))
        self.z = to_device(self.noise(rng, len(self.classes)), xp)
        # A net that has learned nothing yet has f of about 0, so that draws from q are its samples.
        visits = GROWN if settings["weights"] is None else 0
        self.age = np.full(len(self.classes), visits)
        # Each class has a step size of its own: for a common one, the narrowest p_y would be stuck.
        self.tuning = RobbinsMonro(FIRST_STEP, classes, settings["acceptance"])
        self.fewest_steps = settings["leapfrog_steps"]
        self.sampler = HMC(energy, FIRST_STEP, self.fewest_steps, jitter=JITTER)

    def noise(self, rng: np.random.Generator, n: int) -> np.ndarray:
        noise = rng.standard_normal((n, *self.energy.reference.shape), np.float32)
        return noise.astype(self.energy.reference.mean.dtype, copy=False)

    def chosen(self, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A chain of its class for each image, as far as there are chains: their numbers."""
        some = [
            rng.choice(own, min(count, len(own)), replace=False)
            for y, count in zip(*np.unique(labels, return_counts=True), strict=True)
            if len(own := np.flatnonzero(self.classes == y))
        ]
        return np.concatenate(some)

    def move(self, labels: np.ndarray, rng: np.random.Generator) -> tuple:
        """Move chains of these classes: (images, classes, mean acceptance) of those that count.

        Images and classes are those of this rank's chains. Some chains begin anew from q, and count
        once they have moved GROWN times: until then they are no samples, but on their way from the
        noise.
        """
        these = self.chosen(labels, rng)
        anew = these[rng.random(len(these)) < self.rebirth]
        self.age[anew] = 0
        self.z[anew] = to_device(self.noise(rng, len(anew)), self.xp)
        share, classes = Share(len(these), self.ranks), self.classes[these]
        rng, own = share.generator(rng), share.own(these)
        own_classes = self.classes[own]
        self.energy.take_units(own_classes)
        state, acceptance = self.sampler.start(self.z[own]), []
        for _ in range(self.trajectories):
            self.sampler.step_size = self.tuning.trial[own_classes]
            self.sampler.steps = self.steps_of_a_quarter_turn()
            state, info = self.sampler.step(state, rng)
            probability = share.gather(info["probability"])
            self.tuning.update(self.by_class(probability, classes))
            acceptance.append(probability.mean())
        self.z[these] = share.gather(state.x)
        self.age[these] += 1
        grown = (self.age[own] >= GROWN) & (not share.idle)
        x = self.energy.reference.image(state.x)[to_device(grown, self.xp)]
        return x, own_classes[grown], np.mean(acceptance)

    def warm_up(self, rng: np.random.Generator) -> None:
        """Leave the noise, and find the step sizes, of a net that has learned already."""
        for _ in range(-(-WARM_UP // self.trajectories)):
            self.move(self.classes, rng)

    def steps_of_a_quarter_turn(self) -> int:
        """As the model gets steeper, eps falls, and L must rise: else the chains would lag behind,
        and the model would learn to look right where they are, not where its samples are."""
        steps = round(QUARTER_TURN / self.tuning.trial.mean())
        return min(max(steps, self.fewest_steps), MOST_STEPS * self.fewest_steps)

    def by_class(self, probability: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """The mean of each class; the target for a class without chains, so that it stays."""
        K = len(self.tuning.trial)
        total, count = (np.bincount(classes, w, K) for w in (probability, None))
        return np.where(count, total / np.maximum(count, 1), self.tuning.target)

    def state(self) -> dict:
        """{name: array} of all that `move` changes."""
        return {
            "z": to_host(self.z).copy(),
            "age": self.age.copy(),
            "trial": self.tuning.trial,
            "average": self.tuning.average,
        }

    def restore(self, arrays: dict) -> None:
        for name in ("trial", "average"):
            need((arrays[name] > 0).all(), f"chains/{name} is not above 0")
        self.z[...] = to_device(arrays["z"], self.xp)
        self.age[...] = arrays["age"]
        self.tuning.trial, self.tuning.average = arrays["trial"], arrays["average"]

    def oldest_of_each_class(self) -> np.ndarray:
        """Images (classes, H, W, C) on the host, without the noise."""
        classes = np.arange(len(self.tuning.trial))
        own = self.classes == classes[:, None]
        oldest = np.where(own, self.age, -1).argmax(axis=1)
        self.energy.take_units(classes)
        return to_host(self.energy.without_noise(self.z[oldest]))
