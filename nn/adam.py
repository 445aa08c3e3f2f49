"""Adam (Kingma & Ba, 2015): each parameter has its own rate, by the size of its gradients."""

from nn.backend import Array
from nn.sgd import SGD


class Adam(SGD):
    """V = b1 V + (1 - b1) g;  S = b2 S + (1 - b2) g^2;  w = w - lr lr_mult V' / (sqrt(S') + 1e-8).

    V' = V / (1 - b1^t) and S' = S / (1 - b2^t) at step t: both begin at 0, which this corrects.
    g is the gradient plus weight_decay decay_mult w, b1 the momentum. `velocity` holds V and
    `squares` S: {"conv1.w": array, ...}.
    """

    DECAY = 0.999  # b2

    def __init__(self, network, momentum: float = 0.9, weight_decay: float = 0.0):
        super().__init__(network, momentum, weight_decay)
        self.squares = {name: 0 * w for name, w in network.params().items()}
        self.steps = 0

    def step(self, grads: dict[str, Array], lr: float) -> None:
        """Update every parameter that has a gradient, at the rate lr."""
        self.steps += 1
        for name, g in grads.items():
            w, V, lr_mult, decay = self.of(name)
            S = self.squares[name]
            g = g + decay * w
            V += (1 - self.momentum) * (g - V)
            S += (1 - self.DECAY) * (g * g - S)
            size = (S / (1 - self.DECAY**self.steps)) ** 0.5 + 1e-8
            w -= lr * lr_mult / (1 - self.momentum**self.steps) * V / size
