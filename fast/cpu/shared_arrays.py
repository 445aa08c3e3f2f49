"""What the processes of a team see in common: mapped before they are forked."""

import math

from fast.cpu.linear import Factors
from fast.cpu.processes import shared
from nn.linear import Linear


class SharedFactors(Factors):
    """Factors of the gradient over all images, of which each process brings its part."""

    part = slice(None)  # the images of this process

    def take(self, x, dy):
        self.x[self.part], self.dy[self.part] = x, dy

    def of(self, images):
        """The factors over the first so many images."""
        return Factors(self.x[:images], self.dy[:images])


class SharedArrays:
    """Room for `images` images, in so many parts, and what a network makes of them.

    x, dx     images and the derivatives at them
    y, dy     activations of any layer and the derivatives at them: flat, see `front`
    grads     for each part the gradients of its images, {"conv1.w": array, ...}
    factors   {name: SharedFactors} of the matrices of fully connected layers, while learning

    The parameters of the network move here too, and the velocities of sgd, if it is not None.
    """

    def __init__(self, network, sgd, images, parts, dtype):
        dicts = [layer.params for layer in network.layers.values()]
        for arrays in [*dicts, sgd.velocity if sgd else {}]:
            for name, array in arrays.items():
                arrays[name] = moved(array)
        self.params = network.params()
        largest = max(math.prod(shape) for shape in network.shapes.values())
        self.x, self.dx = (shared((images, *network.input_shape), dtype) for _ in "xd")
        self.y, self.dy = (shared((images * largest,), dtype) for _ in "yd")
        self.grads = [
            {name: shared(w.shape, dtype) for name, w in self.params.items()} for _ in range(parts)
        ]
        self.factors = {
            f"{name}.w": SharedFactors(
                *(shared((images, n), dtype) for n in layer.params["w"].shape)
            )
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
