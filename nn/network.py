"""A ConvNet: named layers, run bottom-up for scores and top-down for derivatives."""

from copy import copy
from types import ModuleType

import numpy as np

from nn.backend import Array, array_module, to_device
from nn.dropout import Dropout
from nn.layer import Layer
from nn.sgd import SGD

IMAGE = "image"  # the name of what goes in
MOST_NAMED = 20  # problems in a message


class Network:
    """layers: (name, layer), or (name, layer, names of the layers that it takes its input from).

    Without such names a layer takes the one below it: a net without branches is a list of pairs.
    Where several layers take the same one, what comes down from them is added up. input_shape is
    that of one image, (H, W, C). rng fills the parameters; without it, layers keep those that they
    have. `shapes` maps each layer's name to the shape of its output for one image.
    """

    def __init__(
        self, layers: list[tuple], input_shape: tuple, rng: np.random.Generator | None = None
    ):
        self.input_shape = tuple(input_shape)
        self.layers: dict[str, Layer] = {}
        self.sources: dict[str, list[str]] = {}
        self.shapes: dict[str, tuple] = {}
        self.ran: list[str] = []  # the layers that the last bottom_up went through
        shapes, below = {IMAGE: self.input_shape}, IMAGE
        for name, layer, *sources in layers:
            if name in shapes:
                raise ValueError(f"two layers are called {name!r}")
            self.sources[name] = sources = sources or [below]
            unknown = [source for source in sources if source not in shapes]
            if unknown:
                raise ValueError(f"layer {name} takes {unknown[0]!r}, which is not below it")
            if len(sources) > 1 and not layer.joins:
                raise ValueError(f"layer {name} takes one input, got {', '.join(sources)}")
            self.layers[name] = layer
            shape = self.inputs(name, shapes)
            try:
                if rng is not None:
                    layer.initialize(shape, rng)
                self.shapes[name] = shapes[name] = layer.output_shape(shape)
            except ValueError as error:
                raise ValueError(f"layer {name} on an input of {shape}: {error}") from None
            below = name
        if not self.layers:
            raise ValueError("a net needs at least one layer")

    @property
    def last(self) -> str:
        """The name of the top layer."""
        return next(reversed(self.layers))

    def inputs(self, name: str, outputs: dict) -> Array | list[Array]:
        """What a layer is given of these outputs (or shapes): one of them, or a list to join."""
        found = [outputs[source] for source in self.sources[name]]
        return found if self.layers[name].joins else found[0]

    def needed_for(self, name: str) -> list[str]:
        """The names of this layer and of all that it depends on, the lowest first."""
        if name not in self.layers:
            raise ValueError(f"no layer {name!r}; this net has {', '.join(self.layers)}")
        needed = {name}
        for layer in reversed(self.layers):
            if layer in needed:
                needed.update(self.sources[layer])
        return [layer for layer in self.layers if layer in needed]

    def check_images(self, x: Array) -> None:
        """ValueError if these are not images as this net takes them."""
        if x.shape[1:] != self.input_shape:
            raise ValueError(f"expected images of {self.input_shape}, got {x.shape[1:]}")
        if x.dtype.kind != "f":
            raise ValueError(
                f"expected images of floating-point numbers, got {x.dtype}: pixels 0..255 become "
                "(pixels - mean) * scale first, as the net was trained"
            )

    def bottom_up(self, x: Array, to: str | None = None, train: bool = False) -> Array:
        """Images x (N, H, W, C) -> the activations of layer `to` (by default the last: scores)."""
        self.check_images(x)
        names = self.needed_for(to or self.last)
        y = {IMAGE: x}
        for name in names:
            y[name] = self.layers[name].forward(self.inputs(name, y), train)
        self.ran, self.top_shape = names, y[name].shape
        return y[name]

    def top_down(self, dy: Array, grads: dict[str, Array] | None = None) -> Array:
        """dy at the layer where the last bottom_up ended -> dx at the images (Eq. 13 from dy on).

        A dict `grads` is filled with the gradient of every parameter below: {"conv1.w": dw, ...}.
        """
        if not self.ran:
            raise ValueError("top_down needs the bottom_up that it belongs to: there was none")
        if dy.shape != self.top_shape:
            raise ValueError(f"top_down got dy {dy.shape}, but bottom_up gave {self.top_shape}")
        d = {self.ran[-1]: dy}
        for name in reversed(self.ran):
            layer, dy = self.layers[name], d.pop(name)
            if grads is not None:
                grads |= {f"{name}.{key}": dw for key, dw in layer.gradients(dy).items()}
            dx = layer.backward(dy)
            for source, part in zip(self.sources[name], dx if layer.joins else [dx], strict=True):
                d[source] = d[source] + part if source in d else part
        return d[IMAGE]

    def learn(self, dy: Array, sgd: SGD, lr: float) -> None:
        """top_down for the parameters' gradients, then a step of `sgd` at the rate lr."""
        grads: dict[str, Array] = {}
        self.top_down(dy, grads)
        sgd.step(grads, lr)

    def params(self) -> dict[str, Array]:
        """{"conv1.w": array, ...}: the arrays themselves."""
        return {
            f"{name}.{key}": w
            for name, layer in self.layers.items()
            for key, w in layer.params.items()
        }

    def set_params(self, arrays: dict[str, Array]) -> None:
        """Take numbers from {"conv1.w": array, ...}. ValueError lists all names that do not fit."""
        ours = self.params()
        problems = [f"{name} is missing" for name in ours if name not in arrays]
        problems += [f"{name} is unknown" for name in arrays if name not in ours]
        for name in ours.keys() & arrays.keys():
            found, expected = arrays[name].shape, ours[name].shape
            if found != expected:
                problems.append(f"{name} is {found}, expected {expected}")
        if problems:
            more = len(problems) - MOST_NAMED
            listed = "; ".join(problems[:MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")
            raise ValueError(f"these weights do not fit the net: {listed}")
        for name, w in ours.items():
            w[...] = to_device(arrays[name], array_module(w))

    def to(self, xp: ModuleType = np, dtype: type | None = None) -> "Network":
        """Move the parameters to the array library xp and, if given, to another dtype."""
        for layer in self.layers.values():
            moved = {key: to_device(w, xp) for key, w in layer.params.items()}
            layer.params = {key: xp.asarray(w, dtype) for key, w in moved.items()}
        return self

    def up_to(self, name: str, input_shape: tuple | None = None) -> "Network":
        """The part of this net up to layer `name`, over the same parameters."""
        needed = self.needed_for(name)
        layers = [(n, copy(self.layers[n]), *self.sources[n]) for n in needed]
        return Network(layers, input_shape or self.input_shape)

    def seed(self, *numbers: int) -> None:
        """Renew the generators of the dropout layers from these numbers and the layer's place."""
        for place, layer in enumerate(self.layers.values()):
            if isinstance(layer, Dropout):
                layer.rng = np.random.default_rng((*numbers, place))

    def __str__(self) -> str:
        """A table: each layer, what it takes, its output's shape and its number of parameters."""
        rows = [("layer", "", "takes", "output", "parameters")]
        for name, layer in self.layers.items():
            shape = " x ".join(map(str, self.shapes[name]))
            size = sum(w.size for w in layer.params.values())
            kind = type(layer).__name__
            rows.append((name, kind, ", ".join(self.sources[name]), shape, f"{size:,}"))
        rows.append(("", "", "", "", f"{sum(w.size for w in self.params().values()):,}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(f"{c:{w}}" for c, w in zip(row, widths, strict=True)) for row in rows)
        return "\n".join(line.rstrip() for line in lines)
