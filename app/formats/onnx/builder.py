"""A net as it grows from the nodes of a file."""

import math

import numpy as np

from app.formats.onnx.folding import FACTOR, MORE
from app.formats.onnx.place import LARGEST, Place
from app.formats.torchvision import channels_last_rows
from nn.conv import Conv
from nn.fillers import zeros
from nn.flatten import Flatten
from nn.linear import Linear
from nn.network import IMAGE


class Builder:
    """layers: as Network takes them; arrays: {"conv1.w": array, ...}."""

    def __init__(self):
        self.layers, self.arrays, self.size = [], {}, 0  # size: of all arrays together
        self.names = {IMAGE: 1}  # {name: how many have it}

    def add(self, node, layer, *places, **params) -> Place:
        """One of our layers above these places."""
        places = [self.settled(node, place) for place in places]
        shapes = [place.shape for place in places]
        shape = layer.output_shape(shapes if layer.joins else shapes[0])
        self.size += sum(array.size for array in params.values())
        if math.prod(shape) > LARGEST or self.size > MORE + FACTOR * node.graph.size:
            raise ValueError(f"gives images of {shape}: these, or the weights, are too large")
        name = self.append(node.label(), layer, [place.layer for place in places])
        self.arrays.update({f"{name}.{key}": array for key, array in params.items()})
        return places[0]._replace(layer=name, shape=shape, open="w" in params)

    def append(self, label: str, layer, sources: list) -> str:
        """Take in a layer under a name of its own; its name."""
        below = self.layers[-1][0] if self.layers else IMAGE
        name = label
        while name in self.names:
            self.names[label] += 1
            name = f"{label}_{self.names[label]}"
        self.names[name] = 1
        self.layers.append((name, layer, *(sources if sources != [below] else ())))
        return name

    def flattened(self, x: Place) -> Place:
        return x._replace(flat=True, open=False)

    def vector(self, node, x: Place) -> Place:
        """Flat numbers (1, 1, C) as (C,)."""
        x = self.settled(node, x)
        if len(x.shape) == 1:
            return x
        return x._replace(layer=self.append("flatten", Flatten(), [x.layer]), shape=x.shape[-1:])

    def scale(self, node, x: Place, scale, shift) -> Place:
        """y = scale x + shift for each channel (or each flat number), folded in where it can be.

        Into the Conv or Linear just before; or else it is a convolution of its own of 1 x 1 pixel
        for each channel, as zero padding may follow, or for flat numbers part of the next Linear.
        """
        scale, shift = (np.asarray(a, np.float32) for a in (scale, shift))
        if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
            raise ValueError("scales by numbers that are not finite")
        if x.open:
            w, b = f"{x.layer}.w", f"{x.layer}.b"
            if (scale != 1).any():
                self.arrays[w] = self.arrays[w] * scale
            self.arrays[b] = self.arrays[b] * scale + shift
            return x
        if x.rank == 2:
            _, before, offset = x.waiting or (node, np.float32(1), np.float32(0))
            return x._replace(waiting=(node, before * scale, offset * scale + shift))
        return self.scaled(node, x, scale, shift)

    def scaled(self, node, x: Place, scale, shift) -> Place:
        """The scaling as a layer of its own."""
        C = x.shape[-1]
        w, b = (np.array(np.broadcast_to(a.ravel(), C)) for a in (scale, shift))
        layer = Conv(C, 1, groups=C, filler=zeros)
        return self.add(node, layer, x, w=w.reshape(1, 1, 1, C), b=b)

    def settled(self, node, x: Place) -> Place:
        """x without scaling that waits: here comes no Linear that it could be part of."""
        if x.waiting is None:
            return x
        scaling, scale, shift = x.waiting
        if len(x.shape) == 1 or not x.single:
            raise ValueError(f"comes after {scaling}, which could only be part of a Gemm")
        return self.scaled(scaling, x._replace(waiting=None), scale, shift)

    def linear(self, node, x: Place, w, b) -> Place:
        """w (D, F) with rows in the order of the file, b (F,)."""
        D = math.prod(x.shape)
        if x.rank == 4:
            raise ValueError(f"needs flat numbers, but here are images of {x.shape}")
        if w.ndim != 2 or len(w) != D:
            raise ValueError(
                f"has weights of {w.shape} for what should be {D} numbers, images of {x.shape} "
                "flattened: is the input shape right?"
            )
        if x.waiting is not None:
            _, scale, shift = x.waiting
            w, b = np.broadcast_to(scale, D)[:, None] * w, b + np.broadcast_to(shift, D) @ w
        if len(x.shape) == 3 and not x.channels_last:
            w = channels_last_rows(w, x.shape)
        x = x._replace(waiting=None)
        return self.add(node, Linear(w.shape[1], filler=zeros), x, w=w, b=b)

    def end(self, x: Place) -> None:
        """See to it that what x has are scores, or a map of them."""
        if x.layer == IMAGE:
            raise ValueError("there are no layers in it")
        if x.waiting is not None:
            if len(x.shape) == 1 or not x.single:
                raise ValueError(f"{x.waiting[0]}: no Gemm follows that it could be part of")
            x = self.settled(None, x)
        if len(x.shape) == 3:
            if x.single:  # scores of a global average, or of a convolution
                self.append("flatten", Flatten(), [x.layer])
            elif x.flat:
                raise ValueError(f"ends with flattened images of {x.shape}, not with scores")
