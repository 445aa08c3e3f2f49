"""A layer on NumPy or CuPy that takes and returns host arrays, so that one test serves both."""

from nn.backend import to_host


class OnDevice:
    def __init__(self, layer, xp, input_shape=None, rng=None):
        self.layer, self.xp = layer, xp
        if input_shape is not None:
            layer.initialize(input_shape, rng)
        self.params = dict(layer.params)  # on the host

    def forward(self, x, train=False):
        self.layer.params = {name: self.xp.asarray(w) for name, w in self.params.items()}
        return to_host(self.layer.forward(self.xp.asarray(x), train))

    def backward(self, dy):
        return to_host(self.layer.backward(self.xp.asarray(dy)))

    def gradients(self, dy):
        grads = self.layer.gradients(self.xp.asarray(dy))
        return {name: to_host(grad) for name, grad in grads.items()}
