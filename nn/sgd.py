"""Stochastic gradient descent in Caffe's form, and its learning-rate policies."""

import numpy as np

from nn import kernels
from nn.backend import array_module
from nn.buffers import Buffers
from nn.linear import Factors

POLICIES = {  # rates by iteration; `size` is the length of a step
    "fixed": lambda lr, it, size: lr,
    "inv": lambda lr, it, size: lr * (1 + 1e-4 * it) ** -0.75,
    "step": lambda lr, it, size: lr * 0.1 ** (it // size),
}

CHUNK = 2**15  # numbers of a parameter at a time
PRODUCT = 2**17  # the same where the gradient comes as Factors


class SGD:
    """V = momentum V + lr lr_mult (g + weight_decay decay_mult w);  w = w - V.

    The learning rate is inside V, so momentum remembers the old rate when it changes. lr_mult and
    decay_mult come from each layer's `rates`. `it` counts steps and is what a policy sees.
    """

    def __init__(
        self, network, lr, momentum=0.9, weight_decay=0.0005, policy="inv", step_size=100_000
    ):
        self.network = network
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        if policy not in POLICIES:
            raise ValueError(f"no policy {policy!r}: there are {', '.join(POLICIES)}")
        self.policy, self.step_size = POLICIES[policy], step_size
        self.it = 0
        self.buffers = Buffers()
        self.velocity = {name: 0 * w for name, w in network.named().items()}

    def rate(self):
        return self.policy(self.lr, self.it, self.step_size)

    def step(self):
        """Update every parameter from the gradients that the last top_down left; uses them up."""
        self.update(self.rate())
        self.it += 1

    def update(self, lr):
        """The same at a given rate: a number, or on a GPU also a float64 array of shape ()."""
        for name, g in self.network.named("grads").items():
            self.update_rows(name, slice(None), [g], lr)

    def update_rows(self, name, rows, grads, lr):
        """Update some rows of a parameter, such as "conv1.w".

        grads: arrays of the parameter's shape, whose sum is its gradient (the first is used up),
        or a single Factors.
        """
        layer, _, key = name.rpartition(".")
        layer = self.network.layers[layer]
        lr_mult, decay_mult = layer.rates[key]
        w, V = layer.params[key][rows], self.velocity[name][rows]
        grads = [g[rows] for g in grads]
        decay = self.weight_decay * decay_mult
        if array_module(w) is not np:
            kernels.sgd(w, V, grads[0], lr, lr_mult, self.momentum, decay)
            return
        rate = lr * lr_mult
        for some_w, some_V, g, *others in chunks(w, V, *grads):
            if isinstance(g, Factors):
                g = g.product(self.buffers)
            for other in others:
                g += other
            some_V *= self.momentum
            g *= rate
            some_V += g
            some_V += np.multiply(some_w, rate * decay, out=g)
            some_w -= some_V


def chunks(*arrays):
    """Arrays of one shape, a few rows at a time, so that these stay in the cache."""
    numbers = PRODUCT if isinstance(arrays[-1], Factors) else CHUNK
    rows = max(1, numbers * len(arrays[0]) // max(1, arrays[0].size))
    for start in range(0, len(arrays[0]), rows):
        yield [array[start : start + rows] for array in arrays]
