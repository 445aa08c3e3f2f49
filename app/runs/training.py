"""A training run: a batch through the net and back, an epoch's test, the switch from GG to DG."""

import math
import time
from itertools import count

import numpy as np

from app.data.labels import labelled_and_not, rounds
from app.runs.checks import check_training
from app.runs.scoring import TEST_BATCH, not_finite, scores_of
from losses.discriminative import discriminative_loss
from losses.generative import effective_sample_size, generative_loss, importance_weights, intercepts
from losses.semi_supervised import semi_supervised_loss
from nn.backend import to_device, to_host
from nn.dropout import Dropout
from nn.graphs import Recorded
from nn.parallel import parallel
from nn.sgd import SGD

QUICK_INTERCEPTS = 1024  # training images for the intercepts of one epoch's report
UNSEEN = 100  # steps that a GPU is ahead at most, before their losses are looked at


class Training:
    """A run: everything that has to be the same for it to go on exactly where it was."""

    COUNTS = "batch", "images", "guessed", "right", "loss_sum", "seconds", "rows"

    def __init__(self, settings, network, train, test, xp):
        self.settings, self.network, self.xp = settings, network, xp
        self.train, self.test = train.to(xp), test.to(xp)
        self.labelled, self.others = np.arange(len(train)), np.empty(0, int)
        if settings["labels"] is not None:
            self.labelled, self.others = labelled_and_not(
                train.labels, settings["labels"], train.classes, settings["seed"]
            )
        if settings["unlabeled_weight"] == 0:
            self.others = np.empty(0, int)
        batch = min(settings["batch_size"], len(train))
        largest = max(batch * (2 if len(self.others) else 1), TEST_BATCH)
        self.workers = parallel(network, settings["threads"] if xp is np else 1, largest)
        self.learned_from = self.train.only(np.union1d(self.labelled, self.others))
        known = train.labels[self.labelled]
        self.priors = np.bincount(known, minlength=train.classes) / len(known)
        self.priors_there = to_device(self.priors, xp)
        self.unseen = []  # (images, unlabelled ones, what `learn` returned) of the last steps
        self.rows = []  # of metrics.csv
        self.epoch = 1
        self.start_stage("DG" if settings["mode"] == "dg" else "GG", settings["lr"])
        self.start_epoch()

    def start_stage(self, stage, lr):
        s = self.settings
        self.stage = stage
        self.sgd = SGD(
            self.network, lr, s["momentum"], s["weight_decay"], s["lr_policy"], s["lr_step"]
        )
        # Dropout's numbers come from the host; such nets are large, and launches cost them little.
        dropout = any(isinstance(layer, Dropout) for layer in self.network.layers.values())
        self.learn = self._learn if dropout else Recorded(self._learn)

    def start_epoch(self):
        """With labels for some images only, these are gone through again and again; an epoch is
        as long as with all labels."""
        seed, count = self.settings["seed"], len(self.train)
        self.order = rounds(self.labelled, count, seed, self.epoch)
        self.other_order = []
        if len(self.others) and self.stage == "GG":
            self.other_order = rounds(self.others, count, seed, self.epoch, 1)
        self.batch, self.images, self.guessed, self.right = 0, 0, 0, 0  # done in this epoch
        self.loss_sum, self.seconds = 0.0, 0.0
        self.ess_sum = np.zeros(self.train.classes)

    def loss(self, scores, labels, known):
        """All that tells GG from DG while training: the loss layer above the same two passes."""
        if self.stage == "DG":
            return discriminative_loss(scores, labels)
        if known == len(labels):
            return generative_loss(scores, labels)
        weight = self.settings["unlabeled_weight"]
        is_known = self.xp.arange(len(labels)) < known
        return semi_supervised_loss(scores, labels, is_known, self.priors_there, weight)

    def batches(self):
        """The numbers of the batches that are left of this epoch."""
        return range(self.batch, math.ceil(len(self.train) / self.settings["batch_size"]))

    def read_batch(self, batch):
        """(images, labels, how many of these are known) of a batch: the same at any time.

        The known ones come first; the other labels are only for counting how many are guessed.
        """
        size, seed = self.settings["batch_size"], self.settings["seed"]
        these = slice(batch * size, (batch + 1) * size)
        index = np.concatenate([self.order[these], self.other_order[these]]).astype(int)
        rng = np.random.default_rng((seed, self.epoch, batch))
        return *self.train.training_batch(index, rng), len(self.order[these])

    @np.errstate(over="ignore", invalid="ignore")  # a loss that is not finite is seen to below
    def step(self, images, labels, known):
        """One batch: scores, loss, gradient, update."""
        self.workers.seed(self.settings["seed"], self.epoch, self.batch)
        x, labels = to_device(images, self.xp), to_device(labels, self.xp)
        numbers = self.learn(x, labels, self.sgd.rate(), known=known)
        self.unseen.append((len(labels), len(labels) - known, numbers.copy()))
        self.newest = x
        self.sgd.it += 1
        self.batch += 1
        if self.xp is np or len(self.unseen) == UNSEEN:
            self.look()

    def _learn(self, x, labels, lr, known):
        """A step as a GPU records it: [loss, guesses that are right, ESS/n of each class]."""
        scores = self.workers.bottom_up(x, train=True)
        loss, dscores, info = self.loss(scores, labels, known)
        numbers = self.xp.zeros(2 + len(self.priors))
        numbers[0] = loss
        if "guesses" in info:
            numbers[1] = (info["guesses"] == labels)[known:].sum()
        ess = info["ess"] if "ess" in info else effective_sample_size(importance_weights(scores))
        numbers[2:] = ess
        if self.xp is not np or math.isfinite(loss):  # on a GPU it is looked at later
            self.workers.learn(dscores, self.sgd, lr)
        return numbers

    def look(self):
        """Add up what the last steps gave; on a GPU this waits for them."""
        if not self.unseen:
            return
        unseen, self.unseen = self.unseen, []
        seen = to_host(self.xp.stack([numbers for _, _, numbers in unseen]))
        first = self.sgd.it - len(unseen)
        for it, (n, guessed, _), (loss, right, *ess) in zip(count(first), unseen, seen):
            if not math.isfinite(loss):
                where = not_finite(self.network, self.newest)
                since = self.sgd.it - 1 - it
                where = f"{since} steps later, {where}" if since else where
                raise FloatingPointError(
                    f"the loss is {loss} at {self.when(it)}: {where}; a smaller --lr may help"
                )
            self.loss_sum += loss * n
            self.ess_sum += ess  # ESS/n of each batch, weighted by its n
            self.right += int(right)
            self.guessed += guessed
            self.images += n

    def guessed_right(self):
        """The share of unlabelled images that got their true label in this epoch, or ""."""
        return self.right / self.guessed if self.guessed else ""

    def when(self, it=None):
        it = self.sgd.it if it is None else it
        return f"iteration {it} of {self.stage} in epoch {self.epoch}"

    def scores(self, images):
        return scores_of(self.workers, images, self.xp)

    def intercepts(self, count):
        """alpha_y of Eq. 6 from `count` of the images learned from, evenly spaced."""
        return intercepts(self.scores(self.learned_from.evenly(count)), self.priors)

    @np.errstate(over="ignore", invalid="ignore")
    def end_epoch(self):
        """Test, add a row to the metrics, and see whether GG gives way to DG."""
        self.look()
        began = time.perf_counter()
        s, ess = self.settings, self.ess_sum / self.images
        lr = self.sgd.rate()
        last = self.epoch == s["epochs"]
        switch = self.stage == "GG" and not last and s["mode"] == "ggdg"
        if switch and self.epoch < s["switch_epoch"]:  # earlier only if the weights are uneven
            switch = s["switch_ess"] is not None and ess.mean() < s["switch_ess"]
        scores, labels = self.scores(self.test), self.test.labels
        alpha = np.zeros(self.train.classes)  # in DG the bias is trained: it is the intercept
        if self.stage == "GG":
            alpha = self.intercepts(len(self.train) if switch or last else QUICK_INTERCEPTS)
        error, error_eq6 = (
            100 * np.count_nonzero((scores + shift).argmax(axis=1) != labels) / len(labels)
            for shift in (0, alpha)
        )
        if not np.isfinite(scores).all():
            raise FloatingPointError(f"test scores are not finite after {self.when()}")
        row = {"epoch": self.epoch, "stage": self.stage, "loss": self.loss_sum / self.images}
        row |= {"ess": ess.mean()} | {f"ess_{y}": share for y, share in enumerate(ess)}
        if self.settings["labels"] is not None:
            row["guessed_right"] = self.guessed_right()
        row |= {"test_error": error, "test_error_eq6": error_eq6, "lr": lr}
        if self.stage == "GG" and (switch or last):
            bias = self.network.layers[self.network.last].params["b"]
            bias += to_device(alpha.astype(bias.dtype), self.xp)
        if switch:
            self.start_stage("DG", s["finetune_lr"])
        row["seconds"] = self.seconds + time.perf_counter() - began
        self.rows.append({k: v if isinstance(v, str | int) else float(v) for k, v in row.items()})
        self.epoch += 1
        self.start_epoch()

    def state(self):
        """(arrays, the rest) of a checkpoint. FloatingPointError instead of broken weights."""
        self.look()
        for name, w in self.network.named().items():
            if not np.isfinite(to_host(w)).all():
                raise FloatingPointError(f"{name} is not finite after {self.when()}")
        arrays = {f"w/{name}": to_host(w) for name, w in self.network.named().items()}
        arrays |= {f"V/{name}": to_host(V) for name, V in self.sgd.velocity.items()}
        rest = {name: getattr(self, name) for name in ("epoch", "stage", *self.COUNTS)}
        rest |= {"ess_sum": list(self.ess_sum), "it": self.sgd.it, "lr": self.sgd.lr}
        return arrays, rest

    def restore(self, arrays, state):
        """Go back to what `state` returned. ValueError if that cannot be."""
        check_training(self, arrays, state)
        self.start_stage(state["stage"], state["lr"])
        self.epoch = state["epoch"]
        self.start_epoch()
        self.network.set_params({k[2:]: v for k, v in arrays.items() if k.startswith("w/")})
        for name, V in self.sgd.velocity.items():
            V[...] = to_device(arrays[f"V/{name}"], self.xp)
        self.sgd.it = state["it"]
        for name in self.COUNTS:
            setattr(self, name, state[name])
        self.ess_sum = np.array(state["ess_sum"])
