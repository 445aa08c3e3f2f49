"""The chains of one rank among the chains of all."""

import numpy as np

from fast.ranks import ALONE, Ranks


class Share:
    """Which of `count` chains belong to this rank, and what they need to know of the others.

    A rank without chains runs the first one along, and what comes of it is not used: so nothing
    else needs to know of empty batches.
    """

    def __init__(self, count: int, ranks: Ranks = ALONE):
        self.count, self.ranks = count, ranks
        rows = ranks.rows(count)
        self.idle = rows.start == rows.stop
        self.rows = slice(0, 1) if self.idle else rows

    def own(self, numbers):
        """This rank's part of an array over all chains; a number is for each of them."""
        return numbers[self.rows] if np.ndim(numbers) else numbers

    def gather(self, own: np.ndarray) -> np.ndarray:
        """An array over all chains from what each rank has of it."""
        return self.ranks.gather(own[:0] if self.idle else own)

    def generator(self, rng: np.random.Generator):
        """What draws from rng for this rank's chains."""
        return rng if self.ranks.size == 1 else Draws(rng, self)


class Draws:
    """The calls of a Generator, each for this rank's chains: the numbers of all are drawn.

    So a chain has the same random numbers on any number of ranks. To draw them takes a hundredth
    of a trajectory's time.
    """

    def __init__(self, rng: np.random.Generator, share: Share):
        self.rng, self.share = rng, share

    def standard_normal(self, shape, dtype=np.float64):
        return self.share.own(self.rng.standard_normal((self.share.count, *shape[1:]), dtype))

    def uniform(self, low, high, _):
        return self.share.own(self.rng.uniform(low, high, self.share.count))

    def random(self, _):
        return self.share.own(self.rng.random(self.share.count))
