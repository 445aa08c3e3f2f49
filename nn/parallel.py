"""A network run by several threads, each on its part of the batch, over the same parameters."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

SMALLEST_PART = 8  # images; for fewer, handing over costs more than it saves


class ParallelNetwork:
    """The two calls of Network, bottom_up and top_down, with the batch split over threads.

    The result is that of `network` up to the rounding of the gradients' sum, and is the same on
    every run with the same number of threads. Gradients are left in the layers of `network`.
    """

    def __init__(self, network, threads):
        self.network = network
        self.replicas = [network, *(network.replica() for _ in range(threads - 1))]
        self.pool = ThreadPoolExecutor(max(1, threads - 1))

    def bottom_up(self, x, to=None, train=False):
        """Images x (N, H, W, C) -> the activations of layer `to` (by default the last: scores)."""
        parts = max(1, min(len(self.replicas), len(x) // SMALLEST_PART))
        self.bounds = np.linspace(0, len(x), parts + 1).astype(int)
        return np.concatenate(self._each(lambda net, part: net.forward(x[part], to, train)))

    def top_down(self, dy, param_grads=True, input_grad=True):
        """dy at the layer where the last bottom_up ended -> dx at the images; see Network."""
        dx = self._each(lambda net, part: net.backward(dy[part], param_grads, input_grad))
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

    def _each(self, work):
        """work(net, slice) for each part; the first on this thread, the others on the pool."""
        starts, ends = self.bounds[:-1], self.bounds[1:]
        jobs = [
            (net, slice(start, end))
            for net, start, end in zip(self.replicas, starts, ends, strict=False)
        ]
        others = [self.pool.submit(work, *job) for job in jobs[1:]]
        return [work(*jobs[0]), *(other.result() for other in others)]


def parallel(network, threads):
    """network itself for one thread, else a ParallelNetwork over it."""
    return network if threads == 1 else ParallelNetwork(network, threads)
