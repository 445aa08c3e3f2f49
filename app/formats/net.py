"""A net with its weights, from a table or a file: what is in a file is read once."""

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from app.console import by
from app.formats.onnx.graph import Graph
from app.formats.onnx.place import LARGEST
from app.formats.onnx.reader import onnx_input_shape, read_part
from app.formats.reference import reference_from
from app.formats.weights import is_onnx, load_weights, real_numbers
from nn.nets import NETS, table
from nn.network import Network


@dataclass
class Source:
    """A net that was read, and its weights still beside it.

    layers: as Network takes them; network: the same with parameters that take no memory, which
    tells names and shapes; arrays: {"conv1.w": array, ...}, or None if they are to be drawn at
    random; pixels: what their file tells of the input, {"scale": ..., "mean": ..., "order": ...};
    file: where the arrays are from; name: of the net; stopped: why there are no more layers, where
    a file has some that cannot be had; reference: (q, T) that the file says f goes with, or None.
    """

    layers: list
    network: Network
    arrays: dict[str, np.ndarray] | None
    file: str | Path
    name: str
    pixels: dict = field(default_factory=dict)
    stopped: str | None = None
    reference: tuple | None = None

    def filled(self, up_to: str | None = None, seed: int = 0) -> Network:
        """The net with its weights, or only its part up to a layer: weights above may be missing.

        ValueError if there is no such layer, or the weights do not fit, or some layers of the whole
        net cannot be had.
        """
        names = list(self.network.layers)
        if up_to not in (None, *names):
            raise ValueError(self.without(up_to))
        if up_to is None and self.stopped:
            raise ValueError(self.stopped)
        part = self.network.up_to(up_to or names[-1])
        if self.arrays is None:
            layers = [entry for entry in self.layers if entry[0] in part.layers]
            return Network(layers, part.input_shape, np.random.default_rng(seed))
        self.check_shapes(self.network.layers.keys() - part.layers.keys())
        for name, layer in part.layers.items():
            layer.params = {
                key: np.array(self.arrays[f"{name}.{key}"], np.float32, order="C")
                for key in layer.params
            }
        return part

    def check_shapes(self, may_lack: Iterable[str]) -> None:
        """ValueError unless the arrays fit the net; the weights of some layers may be missing."""
        lacking = {
            f"{name}.{key}": w
            for name in may_lack
            for key, w in self.network.layers[name].params.items()
        }
        try:
            self.network.set_params(lacking | self.arrays)  # which only looks at their shapes
        except ValueError as error:
            shape = by(self.network.input_shape)
            other = " (--net names another)" if self.name in NETS else ""
            place = f"{self.file} for {self.name}{other}, images of {shape}"
            raise ValueError(f"{place}: {error}") from None

    def without(self, layer: str) -> str:
        """What to say of a layer that is not there."""
        have = f"no layer {layer!r}; this net has {', '.join(self.network.layers)}"
        return f"{have}; no more, as in {self.stopped}" if self.stopped else have


def without_numbers(layers: list, input_shape: tuple) -> Network:
    """The network of these layers; its parameters are single numbers, repeated."""

    def repeated(shape, rng):
        return np.lib.stride_tricks.as_strided(np.zeros(1, np.float32), shape, [0] * len(shape))

    layers = copy.deepcopy(layers)
    for _, layer, *_ in layers:
        layer.filler = layer.bias_filler = repeated
    return Network(layers, input_shape, np.random.default_rng(0))


def read_source(
    net: str | Path | Graph,
    weights: str | Path | None = None,
    input_shape: tuple | None = None,
    classes: int | None = None,
    filler: str = "xavier",
) -> Source:
    """Read a net: a name of NETS, or an ONNX file (or its Graph), which brings its weights.

    Either takes those of the file `weights` if given. The images are of input_shape, or as a file
    tells, or as the net was made for. ValueError if a file is not sound, or they do not fit.
    """
    arrays, images = load_weights(weights) if weights is not None else (None, {})
    stopped = None
    shape = input_shape or images.get("shape")
    if isinstance(net, Graph) or is_onnx(net):
        layers, own, shape, stopped = read_part(net, shape)
        file = net.path if isinstance(net, Graph) else net
        arrays = real_numbers(file, own) if arrays is None else arrays
    else:
        layers, file = table(net, classes or classes_in(arrays, net), filler), net
        shape = shape or NETS[net].input_shape
    name = Path(file).name
    file = file if weights is None else weights
    try:
        if math.prod(shape) > LARGEST:
            raise ValueError("they are too large")
        network = without_numbers(layers, shape)
    except ValueError as error:
        raise ValueError(f"{file}: images of {by(shape)} do not fit the net: {error}") from None
    pixels = {key: value for key, value in images.items() if key not in ("shape", "q")}
    reference = reference_from(images["q"], images["shape"]) if "q" in images else None
    return Source(layers, network, arrays, file, name, pixels, stopped, reference)


def graph_or_name(net: str) -> str | Graph:
    """A name of NETS as it is, an ONNX file as its Graph: so the file is read only once."""
    return Graph(net) if is_onnx(net) else net


def input_shape_of(net: str | Graph) -> tuple:
    """(H, W, C) of the images that a net of NETS, or of this Graph, was made for."""
    return onnx_input_shape(net) if isinstance(net, Graph) else NETS[net].input_shape


def classes_in(arrays: dict | None, net: str) -> int | None:
    """The number of scores of a named net whose top layer is among the arrays, else None."""
    top = f"{table(net)[-1][0]}.b"
    return arrays[top].size if arrays is not None and top in arrays else None


def open_network(
    net: str | Path | Graph,
    weights: str | Path | None = None,
    input_shape: tuple | None = None,
    classes: int | None = None,
    filler: str = "xavier",
    seed: int = 0,
    up_to: str | None = None,
) -> Network:
    """The net that read_source reads, with its weights, or with random ones drawn from the seed.

    With up_to, only the part up to that layer: weights of layers above may be missing.
    """
    return read_source(net, weights, input_shape, classes, filler).filled(up_to, seed)
