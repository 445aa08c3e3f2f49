"""What the processes of a parallel network see in common: mapped before they are forked."""

import math

from nn.linear import Factors, Linear
from nn.processes import shared


class SharedArrays:
    """Room for `images` images, in so many parts, and what a network makes of them.

    x, dx     images and the derivatives at them
    y, dy     activations of any layer and the derivatives at them: flat, see `front`
    grads     for each part the gradients of its images, {"conv1.w": array, ...}
    factors   {name: Factors of all images} of the parameters whose gradients come as such

    The parameters of the network move here too, and the velocities of sgd, if it is not None.
    """

    def __init__(self, network, sgd, images, parts, dtype):
        dicts = [layer.params for layer in network.layers.values()]
        for arrays in [*dicts, sgd.velocity if sgd else {}]:
            for name, array in arrays.items():
                arrays[name] = moved(array)
        self.params = network.named()
        largest = max(math.prod(shape) for shape in network.shapes.values())
        self.x, self.dx = (shared((images, *network.input_shape), dtype) for _ in "xd")
        self.y, self.dy = (shared((images * largest,), dtype) for _ in "yd")
        self.grads = [
            {name: shared(w.shape, w.dtype) for name, w in self.params.items()}
            for _ in range(parts)
        ]
        self.factors = {
            f"{name}.w": Factors(*(shared((images, n), dtype) for n in layer.params["w"].shape))
            for name, layer in network.layers.items()
            if isinstance(layer, Linear)
        }


def moved(array):
    """array in memory that processes forked from now on share."""
    there = shared(array.shape, array.dtype)
    there[...] = array
    return there


def front(flat, count, shape):
    """The front of a flat array as `count` times this shape."""
    return flat[: count * math.prod(shape)].reshape(count, *shape)
