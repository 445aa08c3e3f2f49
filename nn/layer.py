"""What every layer is: a function of an array, its transpose, and perhaps parameters."""

import copy

from nn.buffers import Buffers
from nn.geometry import NO_PAD


class Layer:
    """The contract of a layer.

    forward(x, train=False) -> y        keeps what backward needs; x is not touched
    backward(dy, param_grads=True, input_grad=True) -> dx, or None without input_grad;
                                        fills `grads` if param_grads (see also linear.py)
    output_shape(input_shape)           shapes of one image, without the batch axis
    params, grads                       dicts of arrays of equal names and shapes
    rates                               for each parameter (lr_mult, decay_mult), as in Caffe

    y, dx and grads stay valid until the next call of the same layer: they live in kept buffers.
    """

    kernel = stride = (1, 1)  # of its windows; None if a unit sees the whole image
    pad = NO_PAD
    rates = {"w": (1.0, 1.0), "b": (2.0, 1.0)}

    def __init__(self):
        self.params = {}
        self.grads = {}
        self.buffers = Buffers()

    def initialize(self, input_shape, rng):
        """Create the parameters for images of this shape; nothing to do without parameters."""

    def output_shape(self, input_shape):
        return input_shape

    def release(self):
        """Give up every array but the parameters."""
        self.grads, self.buffers = {}, Buffers()
        for name, value in vars(self).items():
            if hasattr(value, "shape"):
                setattr(self, name, None)

    def replica(self):
        """The same layer over the same parameters, with gradients and buffers of its own."""
        twin = copy.copy(self)
        twin.grads = {}
        twin.buffers = Buffers()
        return twin
