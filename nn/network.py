"""A ConvNet: named layers in order, run bottom-up for scores and top-down for derivatives."""

import numpy as np

from nn.backend import array_module, to_device
from nn.bias_relu import BiasReLU
from nn.conv_pool import ConvPool
from nn.dropout import Dropout
from nn.geometry import NO_PAD
from nn.linear import FACTORS

JOINED = ConvPool, BiasReLU  # what does the work of two layers at once
MOST_TOLD = 20  # problems in a message


def measure(layers, input_shape, prepare=lambda layer, shape: None):
    """{name: shape of the layer's output} for pairs (name, layer) on images of input_shape.

    prepare(layer, its input_shape) is called before. ValueError names a layer that has no room.
    """
    shapes, shape = {}, input_shape
    for name, layer in layers:
        try:
            prepare(layer, shape)
            shape = layer.output_shape(shape)
        except ValueError as error:
            raise ValueError(f"layer {name} on an input of {shape}: {error}") from None
        shapes[name] = shape
    return shapes


def receptive_field(layers, name):
    """(height, width) that one unit of the layer of this name sees; None if all of the image."""
    names = [below for below, _ in layers]
    size = (1, 1)
    for _, below in reversed(layers[: names.index(name) + 1]):
        if below.kernel is None:
            return None
        size = tuple(
            (n - 1) * s + k for n, s, k in zip(size, below.stride, below.kernel, strict=True)
        )
    return size


class Network:
    """layers: pairs (name, layer), the lowest first; input_shape: one image, (H, W, C).

    rng fills the parameters. `shapes` maps each layer's name to the shape of its output. A layer
    may be replaced by another that fits; one that has run keeps its kernel, stride and padding.
    """

    def __init__(self, layers, input_shape, rng):
        self.layers = dict(layers)
        if len(self.layers) != len(layers):
            raise ValueError(f"layer names must be unique: {[name for name, _ in layers]}")
        self.path, self.paths = [], {}  # what ran last; what ran for images of a shape
        self.top_shape = None  # of the last bottom_up's result
        self.joined = {}  # {(layer, the next): what does the work of both}
        self.input_shape = tuple(input_shape)
        self.shapes = measure(
            layers, self.input_shape, lambda layer, shape: layer.initialize(shape, rng)
        )

    @property
    def last(self):
        """The name of the top layer."""
        return next(reversed(self.layers))

    def bottom_up(self, x, to=None, train=False):
        """Images x (N, H, W, C) -> the activations of layer `to` (by default the last: scores)."""
        return self.forward(x, to, train).copy()

    def top_down(self, dy, param_grads=True, input_grad=True):
        """dy at the layer where the last bottom_up ended -> dx at the images (Eq. 13 from dy on).

        With param_grads, every layer's `grads` below is filled; without input_grad the lowest
        layer saves itself the work for dx, and None is returned.
        """
        dx = self.backward(dy, param_grads, input_grad)
        return dx.copy() if input_grad else None

    def forward(self, x, to=None, train=False):
        """bottom_up without the copy: the result is overwritten by the next call."""
        self.top_shape = None  # unless all goes well
        if x.shape[1:] != self.input_shape:
            raise ValueError(f"expected images of {self.input_shape}, got {x.shape[1:]}")
        if to is not None and to not in self.layers:
            raise ValueError(f"no layer {to!r}; this net has {', '.join(self.layers)}")
        key = x.shape, x.dtype, array_module(x), to, train, *self.layers.values()
        if key in self.paths:
            self.path = self.paths[key]
            for layer in self.path:
                x = layer.forward(x, train)
        else:
            x = self._first(x, to, train, key)
        self.top_shape = x.shape
        return x

    def _first(self, x, to, train, key):
        """forward with images of which it is not yet known what layers can be joined."""
        names = list(self.layers)
        layers = list(self.layers.values())[: names.index(to) + 1 if to else None]
        self.path = []
        while layers:
            layer = layers.pop(0)
            for join in JOINED if layers else ():
                if join.fits(layer, layers[0], x, train):
                    both = layer, layers.pop(0)
                    if both not in self.joined:
                        self.joined[both] = join(*both)
                    layer = self.joined[both]
                    break
            x = layer.forward(x, train)
            self.path.append(layer)
        self.paths[key] = self.path
        return x

    def backward(self, dy, param_grads=True, input_grad=True):
        """top_down without the copy: the result is overwritten by the next call."""
        if dy.shape != self.top_shape:
            there = f"gave {self.top_shape}" if self.top_shape else "has not been called"
            raise ValueError(f"top_down with dy {dy.shape}, but bottom_up {there}")
        for layer in reversed(self.path):
            dy = layer.backward(dy, param_grads, input_grad or layer is not self.path[0])
        return dy

    def learn(self, dy, sgd, lr):
        """top_down for the parameters' gradients, then their update at rate lr: uses them up."""
        self.backward(dy, FACTORS, input_grad=False)
        sgd.update(lr)
        self.forget_grads()

    def forget_grads(self):
        """Leave no gradients in the layers."""
        for layer in self.layers.values():
            layer.grads = {}

    def named(self, what="params"):
        """{"conv1.w": array, ...} of all parameters, or with what="grads" of their gradients."""
        return {
            f"{name}.{key}": array
            for name, layer in self.layers.items()
            for key, array in getattr(layer, what).items()
        }

    def set_params(self, arrays):
        """Take parameters from {"conv1.w": array, ...}, on the device where they now are.

        ValueError lists names that are missing, unknown or of another shape.
        """
        ours = self.named()
        problems = [f"{name} is missing" for name in ours if name not in arrays]
        problems += [f"{name} is unknown" for name in arrays if name not in ours]
        problems += [
            f"{name} is {arrays[name].shape}, expected {ours[name].shape}"
            for name in ours
            if name in arrays and arrays[name].shape != ours[name].shape
        ]
        if problems:
            more = f"; and {len(problems) - MOST_TOLD} more" if len(problems) > MOST_TOLD else ""
            told = "; ".join(problems[:MOST_TOLD])
            raise ValueError(f"these weights do not fit the net: {told}{more}")
        for name, array in ours.items():
            array[...] = to_device(arrays[name], array_module(array))

    def to(self, xp=np, dtype=None):
        """Move the parameters to the array library xp and, if given, to another dtype."""
        self.paths, self.joined, self.top_shape = {}, {}, None
        for layer in self.layers.values():
            moved = {key: to_device(array, xp) for key, array in layer.params.items()}
            layer.params = {
                key: array if dtype is None else array.astype(dtype, copy=False)
                for key, array in moved.items()
            }  # a new dict: replicas made before keep theirs
        return self

    def seed(self, *numbers):
        """Renew the generators of the dropout layers from these numbers and the layer's place."""
        for place, layer in enumerate(self.layers.values()):
            if isinstance(layer, Dropout):
                layer.rng = np.random.default_rng((*numbers, place))

    def receptive_field(self, layer):
        """(height, width) of the part of an image that one unit of `layer` sees."""
        return receptive_field(list(self.layers.items()), layer) or self.input_shape[:2]

    def release(self):
        """Give up the memory of all that the last run left; the parameters stay."""
        self.path, self.paths, self.joined, self.top_shape = [], {}, {}, None
        for layer in self.layers.values():
            layer.release()

    def up_to(self, layer, canvas=None):
        """The lower part of this net, ending with `layer`, over the same parameters.

        canvas: (height, width) of smaller images, each cut out from the midst of a larger one:
        there is no padding at their borders.
        """
        names = list(self.layers)
        part = self.replica()
        part.layers = {name: part.layers[name] for name in names[: names.index(layer) + 1]}
        if canvas is not None:
            part.input_shape = (*canvas, self.input_shape[2])
            for below in part.layers.values():
                below.pad = NO_PAD
        part.shapes = measure(part.layers.items(), part.input_shape)
        return part

    def replica(self):
        """The same net over the same parameters, with gradients and buffers of its own."""
        twin = Network.__new__(Network)
        twin.__dict__.update(self.__dict__)
        twin.layers = {name: layer.replica() for name, layer in self.layers.items()}
        twin.path, twin.paths, twin.joined, twin.top_shape = [], {}, {}, None  # it has not run yet
        return twin
