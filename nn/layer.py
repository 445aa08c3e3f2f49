"""What a layer is: a function of arrays, the transpose of its derivative, perhaps parameters."""

import numpy as np

from nn.backend import Array
from nn.geometry import NO_PAD


class Layer:
    """The contract. Every call returns an array, and no call changes what it is given.

    forward(x, train=False) -> y     the layer's output; keeps what the next two calls need
    backward(dy) -> dx               dL/dx from dL/dy, at the x of the last forward
    gradients(dy) -> {"w": dw, ...}  dL/dw of every parameter, from the same dy
    output_shape(input_shape)        shapes of one image: the batch axis is left out
    initialize(input_shape, rng)     creates the parameters
    params                           {"w": array, "b": array}, or {}
    rates                            {"w": (lr_mult, decay_mult), ...}, as in Caffe
    kernel, stride, pad, dilation    of its windows; kernel None: a unit sees its whole input

    A layer that `joins` (join.py) takes several inputs: x, dx and input_shape are lists then.
    """

    joins = False
    kernel, stride, pad, dilation = (1, 1), (1, 1), NO_PAD, (1, 1)
    rates = {"w": (1.0, 1.0), "b": (2.0, 1.0)}

    def __init__(self):
        self.params: dict[str, Array] = {}

    def forward(self, x: Array, train: bool = False) -> Array:
        raise NotImplementedError

    def backward(self, dy: Array) -> Array:
        raise NotImplementedError

    def gradients(self, dy: Array) -> dict[str, Array]:
        return {}

    def output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def initialize(self, input_shape: tuple, rng: np.random.Generator) -> None:
        pass

    def parameter(self, key: str) -> Array:
        """One of the parameters. ValueError before there are any."""
        if key not in self.params:
            raise ValueError(f"{type(self).__name__} has no parameters yet: call initialize first")
        return self.params[key]
