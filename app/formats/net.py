"""Nets with their weights, from a table or a file."""

import numpy as np

from app.formats.npz import load_weights
from app.formats.onnx.reader import onnx_input_shape, read_onnx
from app.formats.torchvision import from_torchvision, is_torchvision, load_safetensors
from nn.nets import NETS, cut, table
from nn.network import Network


def is_onnx(path):
    return str(path).lower().endswith(".onnx")


def layers_of(net, input_shape=None, classes=None, filler="xavier"):
    """(layers [(name, layer), ...], {"conv1.w": array, ...}, input_shape) of a net of NETS, or of
    the one in an ONNX file; a named net has no arrays yet."""
    if is_onnx(net):
        return read_onnx(net, input_shape)
    return table(net, classes, filler), {}, input_shape or NETS[net].input_shape


def input_shape_of(net):
    """(H, W, C) of the images that a net of NETS, or the one in an ONNX file, was made for."""
    return onnx_input_shape(net) if is_onnx(net) else NETS[net].input_shape


def load_arrays(path):
    """({"conv1.w": array, ...}, {"shape": ..., "scale": ..., "mean": ..., "order": ...} of the
    net's input as far as the file tells) from a .npz, .safetensors or .onnx file."""
    if is_onnx(path):
        _, arrays, shape = read_onnx(path)
        return arrays, {"shape": shape}
    if str(path).lower().endswith(".safetensors"):
        arrays, images = load_safetensors(path), {}
    else:
        arrays, images = load_weights(path)
    return (from_torchvision(arrays) if is_torchvision(arrays) else arrays), images


def classes_in(arrays, net):
    """The number of scores of a named net whose top layer is among the arrays, else None."""
    top = None if is_onnx(net) else table(net)[-1][0]
    return arrays[f"{top}.b"].size if f"{top}.b" in arrays else None


def open_network(
    net, weights=None, input_shape=None, classes=None, filler="xavier", seed=0, up_to=None
):
    """(Network, what the weights' file tells of its input, see load_arrays).

    net: a name of NETS, which starts at random, or an ONNX file, which brings its weights; either
    takes those of the file `weights` if given. With up_to, only the part up to that layer: weights
    of layers above may be missing. ValueError if the weights do not fit.
    """
    arrays, images = load_arrays(weights) if weights else ({}, {})
    if classes is None:
        classes = classes_in(arrays, net)
    layers, own, input_shape = layers_of(net, input_shape or images.get("shape"), classes, filler)
    arrays = arrays or own
    part = cut(layers, up_to)
    network = Network(part, input_shape, np.random.default_rng(seed))
    above = {name for name, _ in layers[len(part) :]}
    arrays = {n: w for n, w in arrays.items() if n.rpartition(".")[0] not in above}
    if arrays:
        try:
            network.set_params(arrays)
        except ValueError as error:
            raise ValueError(f"{weights or net}: {error}") from None
    return network, images
