"""Training: a batch of images, their scores, a loss, its gradient, an update; again and again."""

import math
import time
import zlib

import numpy as np

from app.data.labels import labelled_and_not, rounds
from app.runs.scoring import TEST_BATCH, not_finite, scores_of
from app.runs.tally import Tally
from fast import engine, record
from fast.ranks import ALONE, Ranks
from losses.discriminative import discriminative_loss
from losses.generative import effective_sample_size, generative_loss, importance_weights, intercepts
from losses.joint import joint_loss
from losses.semi_supervised import semi_supervised_loss
from nn.backend import to_device, to_host
from nn.dropout import Dropout
from nn.flatten import Flatten
from nn.global_pool import GlobalPool
from nn.sgd import POLICIES, SGD

QUICK_INTERCEPTS = 1024  # training images for the intercepts of one epoch's report
MOST_RETURNS = 8  # to a good checkpoint, in --mode samples, each to half the rate
STAGES = {"dg": ["DG"], "gg": ["GG"], "ggdg": ["GG", "DG"], "joint": ["joint"]}
STAGES |= {"dgdg": ["DG", "DG"], "samples": ["samples"]}
TRAINS_BIAS = "DG", "joint"  # the bias of the last layer is then the intercept


def bias_of_scores(network):
    """The bias that shifts the scores: of the last layer, or of one whose map is then averaged or
    flattened; None if there is none."""
    name = network.last
    while isinstance(network.layers.get(name), Flatten | GlobalPool):
        (name,) = network.sources[name]
    return network.layers[name].params.get("b") if name in network.layers else None


class Training:
    """A run: GG or DG by batches and epochs, the switch between them, a test after each epoch.

    The ranks of an MPI job have the same Training, but each reads only its own images of a batch.
    """

    def __init__(self, settings: dict, network, train, test, xp, ranks: Ranks = ALONE):
        self.settings, self.network, self.xp, self.ranks = settings, network, xp, ranks
        same_start(ranks, network, train, test)
        self.train, self.test = train.to(xp), test.to(xp)
        self.labelled, self.others = np.arange(len(train)), np.empty(0, int)
        if settings["labels"] is not None:
            self.labelled, self.others = labelled_and_not(
                train.labels, settings["labels"], train.classes, settings["seed"]
            )
        if settings["unlabeled_weight"] == 0:
            self.others = np.empty(0, int)
        batch = min(settings["batch_size"], len(train))
        twice = len(self.others) or settings["mode"] == "samples"
        largest = max(batch * (2 if twice else 1), TEST_BATCH)
        self.engine = engine(network, xp, settings["threads"], largest, settings["plain"], ranks)
        self.learned_from = self.train.only(np.union1d(self.labelled, self.others))
        known = train.labels[self.labelled]
        self.priors = np.bincount(known, minlength=train.classes) / len(known)
        self.priors_there = to_device(self.priors, xp)
        self.rows: list[dict] = []  # of metrics.csv
        self.epoch = 1
        self.start_stage(STAGES[settings["mode"]][0], settings["lr"])
        self.start_epoch()

    def learn(self, x, labels, lr, known, queued):
        """One step: the scores of a batch, the loss and its gradient, and the update.

        known: how many of the images have a label; they come first. queued: how many scores are
        in the queue. Returns an array of what the loss layer tells, see Tally.
        """
        scores = self.engine.bottom_up(x, train=True)  # (n, K)
        loss, dscores, info = self.loss(scores, labels, known, self.queue[:queued])
        if self.stage != "DG" and len(self.queue):  # the newest come first, the oldest fall out
            self.queue[...] = self.xp.concatenate([scores, self.queue])[: len(self.queue)]
        if self.xp is not np or math.isfinite(loss):  # a GPU is not waited for
            self.engine.learn(dscores, self.sgd, lr)  # top-down, then w -= V
        share = len(labels) / (len(labels) + queued)
        return self.numbers(loss, info, scores, labels, known, share)

    def loss(self, scores, labels, known, queue):
        """All that tells GG from DG while training: the loss layer above the same two passes."""
        if self.stage == "DG":
            return discriminative_loss(scores, labels)
        if self.stage == "joint":
            return joint_loss(scores, labels, self.settings["gg_weight"], queue)
        if known == len(labels):
            return generative_loss(scores, labels, queue=queue)
        weight = self.settings["unlabeled_weight"]
        is_known = self.xp.arange(len(labels)) < known
        return semi_supervised_loss(scores, labels, is_known, self.priors_there, weight)

    def numbers(self, loss, info, scores, labels, known, share):
        """[loss, guesses that are right, ESS of each class] as one array.

        share: of the batch among the images that the ESS is of, n / (n + m). ESS times it is a
        number of images of the batch, so that Tally's ESS/n is a share of batch and queue.
        """
        numbers = self.xp.zeros(2 + len(self.priors))
        numbers[0] = loss
        if "guesses" in info:
            numbers[1] = (info["guesses"] == labels)[known:].sum()
        ess = info["ess"] if "ess" in info else effective_sample_size(importance_weights(scores))
        numbers[2:] = ess * share
        return numbers

    def start_stage(self, stage: str, lr: float) -> None:
        """Begin with GG or DG: a new SGD, whose rate starts anew."""
        s = self.settings
        self.stage, self.lr, self.it = stage, lr, 0
        self.sgd = SGD(self.network, s["momentum"], s["weight_decay"])
        dtype = next(iter(self.network.params().values())).dtype
        self.queue = self.xp.zeros((s["gg_queue"], len(self.priors)), dtype)  # of scores
        self.queued = 0  # rows of it that are in use
        # Dropout's numbers come from the host, so such a net cannot be recorded as a CUDA graph.
        dropout = any(isinstance(layer, Dropout) for layer in self.network.layers.values())
        alone = self.ranks.size == 1  # messages cannot be recorded, either
        self.recorded = record(self.learn, self.xp, plain=dropout or s["plain"] or not alone)

    def rate(self) -> float:
        """The learning rate of the step to come."""
        s = self.settings
        return POLICIES[s["lr_policy"]](self.lr, self.it, s["lr_step"])

    def start_epoch(self) -> None:
        """With labels for some images only, these are gone through again and again; an epoch is
        as long as with all labels."""
        seed, count = self.settings["seed"], len(self.train)
        self.order = rounds(self.labelled, count, seed, self.epoch)
        self.other_order = []
        if len(self.others) and self.stage == "GG":
            self.other_order = rounds(self.others, count, seed, self.epoch, 1)
        self.batch, self.seconds = 0, 0.0  # done in this epoch
        self.tally = self.new_tally()

    def new_tally(self) -> Tally:
        return Tally(self.train.classes)

    def batches(self) -> range:
        """The numbers of the batches that are left of this epoch."""
        return range(self.batch, math.ceil(len(self.train) / self.settings["batch_size"]))

    def read_batch(self, batch: int) -> tuple:
        """(images, labels, how many of these are known) of a batch: the same at any time.

        The images are this rank's, the labels those of all. The known ones come first; the other
        labels are only for counting how many are guessed.
        """
        size, seed = self.settings["batch_size"], self.settings["seed"]
        these = slice(batch * size, (batch + 1) * size)
        index = np.concatenate([self.order[these], self.other_order[these]]).astype(int)
        rng = np.random.default_rng((seed, self.epoch, batch))
        own = self.ranks.rows(len(index))
        return *self.train.training_batch(index, rng, own), len(self.order[these])

    @np.errstate(over="ignore", invalid="ignore")  # `look` sees a loss that is not finite
    def step(self, images, labels, known: int) -> None:
        """Learn from one batch, and count it."""
        began = time.perf_counter()
        self.engine.seed(self.settings["seed"], self.epoch, self.batch)
        x, labels = to_device(images, self.xp), to_device(labels, self.xp)
        numbers = self.recorded(x, labels, self.rate(), known=known, queued=self.queued)
        if self.stage != "DG":
            self.queued = min(len(self.queue), self.queued + len(labels))
        self.tally.add(len(labels), len(labels) - known, numbers)
        self.newest = x
        self.it += 1
        self.batch += 1
        if self.tally.full or self.ranks.size > 1:  # which then look together
            self.look()
        self.seconds += time.perf_counter() - began

    def look(self) -> None:
        """Sum up the last steps. FloatingPointError if a loss was not finite."""
        since = self.tally.look()
        if since is None:
            return
        where = not_finite(self.network, self.ranks.gather(self.newest))
        where = f"{since} steps later, {where}" if since else where
        when = self.when(self.it - 1 - since)
        raise FloatingPointError(
            f"the loss is not finite at {when}: {where}; a new run with a smaller --lr may help, "
            "this one would come to the same again"
        )

    def when(self, it: int) -> str:
        stage = "learning from samples" if self.stage == "samples" else self.stage
        return f"iteration {it} of {stage} in epoch {self.epoch}"

    def scores(self, images) -> np.ndarray:
        """f_y(x) of all images, of which each rank does its own."""
        if self.ranks.size == 1:
            return scores_of(self.engine, images, self.xp)
        own = images.only(self.ranks.rows(len(images)))
        return self.ranks.gather(scores_of(self.engine.engine, own, self.xp))

    def intercepts(self, count: int) -> np.ndarray:
        """alpha_y of Eq. 6 from `count` of the images learned from, evenly spaced."""
        scores = self.scores(self.learned_from.evenly(count))
        return self.ranks.agree(intercepts(scores, self.priors))

    def test_errors(self, alpha: np.ndarray) -> tuple[float, float]:
        """Percent of the test images whose class is not argmax f_y, nor argmax f_y + alpha_y."""
        scores, labels = self.scores(self.test), self.test.labels
        if not np.isfinite(scores).all():
            raise FloatingPointError(f"test scores are not finite after {self.when(self.it)}")
        wrong = [(scores + shift).argmax(axis=1) != labels for shift in (0, alpha)]
        return tuple(100 * np.count_nonzero(these) / len(labels) for these in wrong)

    def told_by_tally(self) -> dict:
        """The columns of metrics.csv between the loss and the errors."""
        ess = self.tally.ess
        told = {"ess": ess.mean()} | {f"ess_{y}": share for y, share in enumerate(ess)}
        if self.settings["labels"] is not None:
            told["guessed_right"] = self.tally.guessed_right()
        return told

    def columns(self) -> list[str]:
        """Of metrics.csv."""
        told = ["ess", *(f"ess_{y}" for y in range(self.train.classes))]
        told += ["guessed_right"] if self.settings["labels"] is not None else []
        return ["epoch", "stage", "loss", *told, "test_error", "test_error_eq6", "lr", "seconds"]

    def kept_with_weights(self) -> dict:
        """What the file of weights holds besides them: {name: array}."""
        return {}

    def further_state(self) -> dict:
        """What a checkpoint holds besides weights and velocities: {name: array}."""
        return {}

    def restore_further(self, arrays: dict) -> None:
        """Go back to what further_state returned."""

    def switches(self) -> bool:
        """Whether GG gives way to DG after this epoch, or DG begins anew in --mode dgdg."""
        s = self.settings
        if s["mode"] == "dgdg":
            return self.epoch == s["switch_epoch"]
        if self.stage != "GG" or s["mode"] != "ggdg" or self.epoch == s["epochs"]:
            return False
        if s["switch_ess"] is not None and self.tally.ess.mean() < s["switch_ess"]:
            return True
        return self.epoch >= s["switch_epoch"]

    @np.errstate(over="ignore", invalid="ignore")
    def end_epoch(self) -> None:
        """Test, add a row to the metrics, and see whether the second part begins."""
        self.look()
        began, lr = time.perf_counter(), self.rate()
        switch, last = self.ranks.agree(self.switches()), self.epoch == self.settings["epochs"]
        alpha = np.zeros(self.train.classes)
        if self.stage not in TRAINS_BIAS:
            alpha = self.intercepts(len(self.train) if switch or last else QUICK_INTERCEPTS)
        error, error_eq6 = self.test_errors(alpha)
        row = {"epoch": self.epoch, "stage": self.stage, "loss": self.tally.loss}
        row |= self.told_by_tally()
        row |= {"test_error": error, "test_error_eq6": error_eq6, "lr": lr}
        if self.stage not in TRAINS_BIAS and (switch or last):
            bias = bias_of_scores(self.network)
            bias += to_device(alpha.astype(bias.dtype), self.xp)
        if switch:
            self.start_stage("DG", self.settings["finetune_lr"])
        row["seconds"] = self.seconds + time.perf_counter() - began
        self.rows.append({k: v if isinstance(v, str | int) else float(v) for k, v in row.items()})
        check_weights(self.ranks, self.network)
        self.epoch += 1
        self.start_epoch()


def same_start(ranks: Ranks, network, train, test) -> None:
    """Give all ranks the weights of rank 0. ValueError if they have not got the same images."""
    if ranks.size > 1:
        labels = [(len(part), zlib.crc32(part.labels.astype(int))) for part in (train, test)]
        if len(set(map(tuple, ranks.from_all(labels)))) > 1:
            raise ValueError(f"{train.source}: the ranks have not found the same images there")
        weights = {name: to_host(w) for name, w in network.params().items()}
        network.set_params(ranks.agree(weights if ranks.first else None))


def check_weights(ranks: Ranks, network) -> None:
    """ArithmeticError if the ranks' weights differ: no rank would notice by itself."""
    if ranks.size > 1:
        weights = [np.ascontiguousarray(to_host(w)) for w in network.params().values()]
        found = ranks.from_all([zlib.crc32(w) for w in weights])
        odd = [rank for rank, sums in enumerate(found) if sums != found[0]]
        if odd:
            raise ArithmeticError(f"the weights of rank {odd[0]} are not those of rank 0 any more")
