"""A network run by several threads, each on its part of the batch, over the same parameters."""

import math
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from itertools import pairwise

import numpy as np

SMALLEST_PART = 6272  # numbers in images; for fewer, handing over costs more than it saves


class ParallelNetwork:
    """The two calls of Network, bottom_up and top_down, with the batch split over threads.

    The result is that of `network` up to the rounding of the gradients' sum, and is the same on
    every run with the same number of threads. Gradients are left in the layers of `network`.
    """

    def __init__(self, network, threads):
        self.network, self.shapes = network, network.shapes
        self.smallest_part = max(1, SMALLEST_PART // math.prod(network.input_shape))  # images
        self.replicas = [network, *(network.replica() for _ in range(threads - 1))]
        self.pool = ThreadPoolExecutor(max(1, threads - 1))

    def bottom_up(self, x, to=None, train=False):
        """Images x (N, H, W, C) -> the activations of layer `to` (by default the last: scores)."""
        return np.concatenate(self.each(lambda net, part: net.forward(x[part], to, train), len(x)))

    def top_down(self, dy, param_grads=True, input_grad=True):
        """dy at the layer where the last bottom_up ended -> dx at the images; see Network."""
        dx = self.each(lambda net, part: net.backward(dy[part], param_grads, input_grad), len(dy))
        if param_grads:
            total = self.network.named("grads")
            for net in self.replicas[1 : len(dx)]:
                for name, grad in net.named("grads").items():
                    total[name] += grad
        return np.concatenate(dx) if input_grad else None

    def seed(self, *numbers):
        """Renew the dropout generators, differently for each part of the batch."""
        for place, net in enumerate(self.replicas):
            net.seed(*numbers, place)

    def each(self, work, count):
        """[work(net, part), ...]: a batch of `count` images in parts, each by a thread of its own.

        The calling thread takes the first part. The parts depend on nothing but the count.
        """
        parts = max(1, min(len(self.replicas), count // self.smallest_part))
        bounds = [count * i // parts for i in range(parts + 1)]
        jobs = [
            (net, slice(*ends)) for net, ends in zip(self.replicas, pairwise(bounds), strict=False)
        ]
        # In a copy of this thread's context, where np.errstate keeps its settings.
        others = [self.pool.submit(copy_context().run, work, *job) for job in jobs[1:]]
        return [work(*jobs[0]), *(other.result() for other in others)]


def parallel(network, threads):
    """network itself for one thread, else a ParallelNetwork over it."""
    return network if threads == 1 else ParallelNetwork(network, threads)
