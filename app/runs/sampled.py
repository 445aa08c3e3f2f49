"""Training from the model's own samples: images, and chains of the current model (Eq. 9).

The chains go on from update to update, each tied to one class. An update moves one chain for each
image of the batch, and then compares f_y of the images with f_y of the chains. The ranks of an MPI
job share both: each moves some of these chains, with the random numbers that they would have on
one rank, and then tells the others where they are.
"""

import time

import numpy as np

from app.console import warn
from app.formats.reference import reference_arrays, reference_from
from app.runs.checks import need
from app.runs.references import LARGEST_DATA
from app.runs.share import Share
from app.runs.tally import Tally
from app.runs.training import MOST_RETURNS, Training
from fast.ranks import ALONE, Ranks
from hmc.energy import NodeEnergy
from hmc.forecast import QUARTER_TURN
from hmc.reference import Data, Natural, White, measured
from hmc.sampler import HMC
from hmc.tuning import RobbinsMonro
from losses.discriminative import discriminative_loss
from losses.sampled import fitted_intercepts, sampled_generative_loss
from nn.adam import Adam
from nn.backend import to_device, to_host

TEMPERATURE = 1.0  # the model itself
JITTER = 0.2  # of the trajectories' lengths
FIRST_STEP = 0.3  # eps; then it is steered
MOST_STEPS = 5  # times --leapfrog-steps
GROWN = 10  # visits, after which a chain that began anew counts as a sample
PULL = 0.002  # see sampled_generative_loss
STAGES = 8  # pictures of the chains in the course of learning
GOOD = 100  # updates between two good checkpoints in memory
MEMORY = 0.95  # of the running means that the guards look at
# Alarms: runs that go well stay far from these (docs/samples.md).
MOST_GAP, MOST_SCORE, LEAST_ACCEPTANCE = 60.0, 2000.0, 0.2
GOOD_GAP = 40.0  # a state with a larger one is not kept as a good one


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
        self.energy.of(self.classes[own])
        state, acceptance = self.sampler.start(self.z[own]), []
        for _ in range(self.trajectories):
            self.sampler.step_size = self.tuning.trial[self.classes[own]]
            self.sampler.steps = self.steps_of_a_quarter_turn()
            state, info = self.sampler.step(state, rng)
            probability = share.gather(info["probability"])
            self.tuning.update(self.by_class(probability, classes))
            acceptance.append(probability.mean())
        self.z[these] = share.gather(state.x)
        self.age[these] += 1
        grown = (self.age[own] >= GROWN) & (not share.idle)
        x = self.energy.reference.image(state.x)[to_device(grown, self.xp)]
        return x, self.classes[own][grown], np.mean(acceptance)

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

    def first_of_each_class(self, classes: int) -> np.ndarray:
        """Images (classes, H, W, C) on the host."""
        return to_host(self.energy.reference.image(self.z[:classes]))


class SampledTally(Tally):
    """Means over an epoch's updates, each weighted by its images."""

    NAMES = "gap", "acceptance", "step_size", "largest_f"

    def __init__(self):
        super().__init__(len(self.NAMES))

    def means(self) -> dict:
        return dict(zip(self.NAMES, map(float, self.ess), strict=True))


class Guard:
    """Running means of the last updates, and what is wrong with them."""

    def __init__(self):
        self.means = np.full(3, np.nan)  # gap, largest |f|, acceptance

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


class SampledTraining(Training):
    """A run of --mode samples. Beside what Training keeps: chains, and the last good state."""

    def __init__(self, settings: dict, network, train, test, xp, ranks: Ranks = ALONE):
        super().__init__(settings, network, train, test, xp, ranks)
        self.noise = settings["pixel_noise"] * 255 * float(np.abs(train.pixels.scale).mean())
        q = reference_of_training(settings, train, self.noise) if ranks.first else None
        self.q_arrays = ranks.agree(reference_arrays(q, TEMPERATURE) if ranks.first else None)
        own = self.engine if ranks.size == 1 else self.engine.engine  # for this rank's chains
        energy = NodeEnergy(own, network.last, 0, reference=self.reference())
        self.chains = ClassChains(energy, settings, train.classes, xp, ranks)
        self.guard, self.returns = Guard(), 0
        self.stages = np.linspace(0, self.total_steps(), STAGES).astype(int)
        shape = STAGES, train.classes, *train.shape
        self.pictures = np.zeros(shape, np.float32)  # of the chains, in the course of learning
        self.pictures[0] = self.chains.first_of_each_class(train.classes)
        self.good = self.learned()

    def reference(self) -> White:
        """q as it will be in the file of weights."""
        q, _ = reference_from(self.q_arrays, self.train.shape)
        return q.to(self.xp, next(iter(self.network.params().values())).dtype)

    def start_stage(self, stage: str, lr: float) -> None:
        s = self.settings
        self.stage, self.lr, self.it = stage, lr, 0
        self.queue, self.queued = (), 0  # of GG: no images wait here
        self.sgd = Adam(self.network, s["momentum"], s["weight_decay"])

    def new_tally(self) -> SampledTally:
        return SampledTally()

    @np.errstate(over="ignore", invalid="ignore")  # the guard sees numbers that are not finite
    def step(self, images, labels, known: int) -> None:
        """Move chains, learn from them and one batch of images, and see that all is well."""
        began = time.perf_counter()
        rng = np.random.default_rng((self.settings["seed"], self.epoch, self.batch, 1))
        own = self.ranks.rows(len(labels))
        noise = rng.standard_normal((len(labels), *images.shape[1:]), np.float32)[own]
        x = to_device(images, self.xp) + self.noise * to_device(noise, self.xp)
        chains, classes, acceptance = self.chains.move(labels, rng)
        info = self.learn_from(x, labels[own], chains, classes)
        problem = self.ranks.agree(self.guard.alarm(info["gap"], info["largest"], acceptance))
        step_size = self.chains.tuning.trial.mean()
        means = [len(labels) * a for a in (info["gap"], acceptance, step_size, info["largest"])]
        self.it += 1
        self.batch += 1
        if np.isfinite(info["loss"]):
            self.tally.add(len(labels), 0, np.array([info["loss"], 0, *means]))
            self.look()
        if problem:
            self.go_back(problem)
        elif self.it % GOOD == 0 and abs(self.guard.means[0]) < GOOD_GAP:
            self.good = self.learned()
        for place in np.flatnonzero(self.stages == self.it):
            self.pictures[place] = self.chains.first_of_each_class(self.train.classes)
        self.seconds += time.perf_counter() - began

    def learn_from(self, x, labels, chains, classes) -> dict:
        """One step of Adam from images and chains: what the loss layer tells, on the host.

        All four are this rank's. The scores are those of all ranks: rank 0's images and chains,
        then those of rank 1, and so on.
        """
        xp, weight = self.xp, self.settings["dg_weight"]
        scores = self.engine.bottom_up(xp.concatenate([x, chains]), train=True)
        both = self.ranks.gather(np.concatenate([labels, classes]))
        is_chain = self.ranks.gather(np.arange(len(x) + len(chains)) >= len(x))
        both, is_chain = to_device(both, xp), to_device(is_chain, xp)
        loss, dscores, info = sampled_generative_loss(scores, both, is_chain, PULL)
        if weight:  # Eq. 18 on the images
            image = ~is_chain
            discriminative, d, _ = discriminative_loss(scores[image], both[image])
            dscores[image] += weight * d
            loss = loss + weight * discriminative
        grads: dict = {}
        self.engine.top_down(dscores, grads)
        self.sgd.step(grads, self.rate())
        return {name: float(number) for name, number in (info | {"loss": loss}).items()}

    def go_back(self, problem: str) -> None:
        """To the last good state, and on from there at half the rate."""
        when = self.when(self.it - 1)
        if self.returns == MOST_RETURNS:
            raise FloatingPointError(
                f"{problem} at {when}, after {self.returns} returns to a good state: "
                "try a smaller --lr, or more --trajectories"
            )
        self.returns += 1
        self.lr /= 2
        self.relearn(self.good)
        self.guard = Guard()
        warn(f"{problem} at {when}: back to the last good state, and on at half the rate")

    def learned(self) -> dict:
        """{name: array} of all that an update changes: weights, Adam's numbers, chains."""
        arrays = {f"w/{name}": to_host(w) for name, w in self.network.params().items()}
        arrays |= {f"V/{name}": to_host(V) for name, V in self.sgd.velocity.items()}
        return {name: w.copy() for name, w in arrays.items()} | self.adam_and_chains()

    def relearn(self, arrays: dict) -> None:
        """Go back to what `learned` returned."""
        self.network.set_params({k[2:]: w for k, w in arrays.items() if k.startswith("w/")})
        for name, V in self.sgd.velocity.items():
            V[...] = to_device(arrays[f"V/{name}"], self.xp)
        for name, S in self.sgd.squares.items():
            S[...] = to_device(arrays[f"S/{name}"], self.xp)
        self.sgd.steps = int(arrays["adam_steps"])
        self.chains.restore({k[7:]: a for k, a in arrays.items() if k.startswith("chains/")})

    def adam_and_chains(self) -> dict:
        arrays = {f"S/{name}": to_host(S).copy() for name, S in self.sgd.squares.items()}
        arrays |= {f"chains/{name}": a for name, a in self.chains.state().items()}
        return arrays | {"adam_steps": np.array(self.sgd.steps)}

    def further_state(self) -> dict:
        arrays = self.adam_and_chains() | {"pictures": self.pictures}
        arrays |= {"returns": np.array(self.returns), "guard": np.nan_to_num(self.guard.means)}
        arrays["guarded"] = np.array(~np.isnan(self.guard.means))
        # q as well: its A comes from an eigen-decomposition, which not every computer rounds alike.
        arrays |= {name: a for name, a in self.q_arrays.items() if a.dtype.kind == "f"}
        return arrays | {f"good/{name}": a for name, a in self.good.items()}

    def restore_further(self, arrays: dict) -> None:
        weights = {f"w/{name}": w for name, w in self.network.params().items()}
        weights |= {f"V/{name}": V for name, V in self.sgd.velocity.items()}
        self.relearn({name: to_host(a).copy() for name, a in weights.items()} | arrays)
        self.q_arrays |= {name: a for name, a in arrays.items() if name in self.q_arrays}
        self.chains.energy.reference = self.reference()
        self.pictures[...], self.returns = arrays["pictures"], int(arrays["returns"])
        self.guard.means = np.where(arrays["guarded"], arrays["guard"], np.nan)
        self.good = {k[5:]: a for k, a in arrays.items() if k.startswith("good/")}

    def intercepts(self, count: int) -> np.ndarray:
        """alpha_y of Eq. 6 from `count` training images."""
        scores = self.scores(self.learned_from.evenly(count))
        return self.ranks.agree(fitted_intercepts(scores, self.priors))

    def kept_with_weights(self) -> dict:
        return self.q_arrays

    def told_by_tally(self) -> dict:
        return self.tally.means() | {"returns": self.returns}

    def columns(self) -> list[str]:
        told = *SampledTally.NAMES, "returns"
        return ["epoch", "stage", "loss", *told, "test_error", "test_error_eq6", "lr", "seconds"]


def reference_of_training(settings: dict, train, noise: float) -> White:
    """q for --reference data or natural.

    noise: that of the images, a standard deviation in the net's units. It is a part of q: without
    it q would not cover the images, whose borders are constant.
    """
    x = train.evenly(60_000).batch(slice(None))[0]
    if settings["reference"] == "data" and np.prod(train.shape) <= LARGEST_DATA:
        return Data(x, noise)
    if settings["reference"] == "data":
        return measured(x)
    mean = x.mean(axis=(0, 1, 2), dtype=np.float64)
    return Natural(train.shape, float(x.std()), mean)
