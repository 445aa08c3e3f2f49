"""What an epoch has shown so far, summed up over its images."""

import numpy as np

from nn.backend import to_host

UNSEEN = 100  # steps that a GPU is ahead at most, before their losses are looked at


class Tally:
    """Sums over the batches of an epoch: loss, ESS/n of each class, guesses that were right.

    A step hands over an array of these numbers, [loss, right guesses, ESS of each class], which may
    still be on its way on a GPU. They are summed up when somebody looks, so that the GPU need not
    be waited for at each step.
    """

    COUNTS = "images", "guessed", "right", "loss_sum"

    def __init__(self, classes: int):
        self.images, self.guessed, self.right, self.loss_sum = 0, 0, 0, 0.0
        self.ess_sum = np.zeros(classes)
        self.unseen: list = []  # (images, unlabelled ones, numbers) of the last steps

    def add(self, images: int, guessed: int, numbers) -> None:
        self.unseen.append((images, guessed, numbers.copy()))

    @property
    def full(self) -> bool:
        """Whether so many steps wait that it is time to look."""
        return isinstance(self.unseen[-1][2], np.ndarray) or len(self.unseen) == UNSEEN

    def look(self) -> int | None:
        """Sum up what the last steps gave: None, or how many steps ago a loss was not finite."""
        unseen, self.unseen = self.unseen, []
        for place, (n, guessed, numbers) in enumerate(unseen):
            loss, right, *ess = to_host(numbers)
            if not np.isfinite(loss):
                return len(unseen) - 1 - place
            self.loss_sum += float(loss) * n
            self.ess_sum += ess  # ESS/n of each batch, weighted by its n
            self.right += int(right)
            self.guessed += guessed
            self.images += n
        return None

    @property
    def loss(self) -> float:
        return self.loss_sum / max(1, self.images)

    @property
    def ess(self) -> np.ndarray:
        """ESS/n of each class, the mean over the images."""
        return self.ess_sum / max(1, self.images)

    def guessed_right(self) -> float | str:
        """The share of unlabelled images that got their true label, or "" without such images."""
        return self.right / self.guessed if self.guessed else ""
