"""Stochastic gradient descent in Caffe's form, its learning-rate policies, and means of weights."""

from nn.backend import Array

POLICIES = {  # rates by iteration; `size` is the length of a step
    "fixed": lambda lr, it, size: lr,
    "inv": lambda lr, it, size: lr * (1 + 1e-4 * it) ** -0.75,
    "step": lambda lr, it, size: lr * 0.1 ** (it // size),
}


class SGD:
    """V = momentum V + lr lr_mult (g + weight_decay decay_mult w);  w = w - V.

    The learning rate is inside V, so momentum remembers the old rate when it changes. lr_mult and
    decay_mult come from each layer's `rates`. `velocity` holds V: {"conv1.w": array, ...}.
    """

    def __init__(self, network, momentum: float = 0.9, weight_decay: float = 0.0005):
        self.network, self.momentum, self.weight_decay = network, momentum, weight_decay
        self.velocity = {name: 0 * w for name, w in network.params().items()}

    def step(self, grads: dict[str, Array], lr: float) -> None:
        """Update every parameter that has a gradient, at the rate lr (see POLICIES)."""
        for name, g in grads.items():
            w, V, lr_mult, decay = self.parts_of(name)
            V *= self.momentum
            V += lr * lr_mult * (g + decay * w)
            w -= V

    def parts_of(self, name: str) -> tuple[Array, Array, float, float]:
        """(w, V, lr_mult, weight_decay decay_mult) of a parameter such as "conv1.w"."""
        layer, _, key = name.rpartition(".")
        lr_mult, decay_mult = self.network.layers[layer].rates[key]
        w, V = self.network.layers[layer].params[key], self.velocity[name]
        return w, V, lr_mult, self.weight_decay * decay_mult


class MeanWeights:
    """m = m + (w - m) / min(t, over), after update t: the mean of w over about `over` updates.

    Steps go round the place to which they lead; their mean is nearer to it than any of them
    (Polyak and Juditsky, 1992). `means` holds m: {"conv1.w": array, ...}.
    """

    def __init__(self, network, over: int):
        self.network, self.over, self.updates = network, over, 0
        self.means = {name: w.copy() for name, w in network.params().items()}

    def update(self) -> None:
        """Take in the network's weights after an update."""
        self.updates += 1
        for name, w in self.network.params().items():
            self.means[name] += (w - self.means[name]) / min(self.updates, self.over)
