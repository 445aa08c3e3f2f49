"""Training from the model's own samples: images, and chains of the current model (Eq. 9).

An update moves one chain for each image of the batch (class_chains.py), and then compares f_y of
the images with f_y of the chains.
"""

import time

import numpy as np

from app.console import warn
from app.formats.reference import reference_arrays, reference_from
from app.runs.checks import need
from app.runs.class_chains import ClassChains
from app.runs.guard import GOOD_GAP, Guard
from app.runs.references import reference_of_training
from app.runs.tally import Tally
from app.runs.training import MOST_RETURNS, Training
from fast.ranks import ALONE, Ranks
from hmc.energy import NodeEnergy
from hmc.reference import White
from losses.discriminative import discriminative_loss
from losses.sampled import fitted_intercepts, sampled_generative_loss
from nn.backend import to_device, to_host
from nn.sgd import MeanWeights

TEMPERATURE = 1.0  # the model itself
PULL = 0.002  # see sampled_generative_loss
STAGES = 8  # pictures of the chains in the course of learning
GOOD = 100  # updates between two good checkpoints in memory


class SampledTally(Tally):
    """Means over an epoch's updates, each weighted by its images."""

    NAMES = "gap", "acceptance", "step_size", "largest_f"

    def __init__(self):
        super().__init__(len(self.NAMES))

    def means(self) -> dict:
        return dict(zip(self.NAMES, map(float, self.ess), strict=True))


class SampledTraining(Training):
    """A run of --mode samples. Beside what Training keeps: chains, the mean of the weights, and the
    last good state.

    Chains move by the weights as they are. The mean is what is tested, and what the file will have:
    each update lowers f just where the chains stand, and the mean evens out these dents.
    """

    def __init__(self, settings: dict, network, train, test, xp, ranks: Ranks = ALONE):
        super().__init__(settings, network, train, test, xp, ranks)
        self.noise = settings["pixel_noise"] * 255 * float(np.abs(train.pixels.scale).mean())
        q = reference_of_training(settings, train, self.noise) if ranks.first else None
        self.q_arrays = ranks.agree(reference_arrays(q, TEMPERATURE) if ranks.first else None)
        own = self.engine if ranks.size == 1 else self.engine.engine  # for this rank's chains
        energy = NodeEnergy(own, network.last, 0, reference=self.reference())
        self.chains = ClassChains(energy, settings, train.classes, xp, ranks)
        self.mean = MeanWeights(network, settings["mean_over"])
        self.guard, self.returns = Guard(), 0
        self.stages = np.linspace(0, settings["epochs"] * len(self.batches()), STAGES).astype(int)
        shape = STAGES, train.classes, *train.shape
        self.pictures = np.zeros(shape, np.float32)  # of the chains, in the course of learning
        self.pictures[0] = self.chains.oldest_of_each_class()
        self.good = self.learned()

    def reference(self) -> White:
        """q as it will be in the file of weights."""
        q, _ = reference_from(self.q_arrays, self.train.shape)
        return q.to(self.xp, next(iter(self.network.params().values())).dtype)

    def new_tally(self) -> SampledTally:
        return SampledTally()

    @np.errstate(over="ignore", invalid="ignore")  # the guard sees numbers that are not finite
    def step(self, images, labels, known: int) -> None:
        """Move chains, learn from them and one batch of images, and see that all is well."""
        began = time.perf_counter()
        if self.it == 0 and self.settings["weights"] is not None:
            self.chains.warm_up(np.random.default_rng((self.settings["seed"], 1)))
            self.good = self.learned()
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
            self.pictures[place] = self.chains.oldest_of_each_class()
        self.seconds += time.perf_counter() - began

    def learn_from(self, x, labels, chains, classes) -> dict:
        """One step from images and chains: what the loss layer tells, on the host.

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
        self.engine.learn(dscores, self.sgd, self.rate())
        self.mean.update()
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
        """{name: array} of all that an update changes: weights, velocities, means, chains."""
        arrays = {f"w/{name}": to_host(w) for name, w in self.network.params().items()}
        arrays |= {f"V/{name}": to_host(V) for name, V in self.sgd.velocity.items()}
        return {name: w.copy() for name, w in arrays.items()} | self.own_state()

    def relearn(self, arrays: dict) -> None:
        """Go back to what `learned` returned."""
        self.network.set_params({k[2:]: w for k, w in arrays.items() if k.startswith("w/")})
        for name, V in self.sgd.velocity.items():
            V[...] = to_device(arrays[f"V/{name}"], self.xp)
        for name, mean in self.mean.means.items():
            mean[...] = to_device(arrays[f"mean/{name}"], self.xp)
        need(arrays["updates"] >= 0, f"updates is {arrays['updates']}")
        self.mean.updates = int(arrays["updates"])
        self.chains.restore({k[7:]: a for k, a in arrays.items() if k.startswith("chains/")})

    def own_state(self) -> dict:
        """The part of `learned` that other runs do not have."""
        arrays = {f"chains/{name}": a for name, a in self.chains.state().items()}
        arrays |= {f"mean/{name}": to_host(m).copy() for name, m in self.mean.means.items()}
        return arrays | {"updates": np.array(self.mean.updates)}

    def further_state(self) -> dict:
        arrays = self.own_state() | {"pictures": self.pictures}
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

    def end_epoch(self) -> None:
        """Test the mean of the weights; after the last epoch the net keeps it."""
        last, own = self.epoch == self.settings["epochs"], self.network.params()
        own = {name: w.copy() for name, w in own.items()}
        self.network.set_params(self.mean.means)
        super().end_epoch()
        if not last:
            self.network.set_params(own)

    def intercepts(self, count: int) -> np.ndarray:
        """alpha_y of Eq. 6 from all training images: it hangs on the few that are hard to tell."""
        scores = self.scores(self.learned_from)
        return self.ranks.agree(fitted_intercepts(scores, self.priors))

    def kept_with_weights(self) -> dict:
        return self.q_arrays

    def told_by_tally(self) -> dict:
        return self.tally.means() | {"returns": self.returns}

    def columns(self) -> list[str]:
        told = *SampledTally.NAMES, "returns"
        return ["epoch", "stage", "loss", *told, "test_error", "test_error_eq6", "lr", "seconds"]
