"""The settings of visualize.py: presets that suit a net, and what goes together."""

import math
import os

import numpy as np

from app import ASSETS
from app.formats.net import Source, read_source
from app.formats.weights import is_onnx
from fast.cpu.threads import cores
from hmc.forecast import QUARTER_TURN
from nn.canvas import seen_by
from nn.nets import NETS

WEIGHTS = {
    "lenet": "lenet-dg.npz",
    "digits": "digits.npz",
    "alexnet-torchvision": "alexnet-torchvision-conv.npz",
}
LAYERS = {"alexnet-torchvision": "conv5"}  # the last that is included

DEFAULTS = {
    "net": "lenet",
    "weights": None,
    "layer": None,
    "unit": [3],
    "class_names": {},  # of units that were asked for by name
    "position": None,
    "size": None,
    "pixel_order": None,
    "sampler": "hmc",
    "preset": "auto",
    "reference": None,
    "reference_data": None,
    "start": None,
    "ascent_steps": 100,
    "ascent_size": 0.1,
    "film": False,
    "seed": 0,
    "device": "auto",
    "precision": "float32",
    "threads": cores(),
    "plain": False,
    "format": "png",
}

STARTS = "noise", "ascent"
REFERENCES = "white", "natural", "data", "file"

# sigma is a spread in the net's own input units; here for pixels of 0 .. 1 (grey) and of a standard
# deviation of about 1 (colour). "paper": as printed, for AlexNet's convolutions. T is not given for
# LeNet; with T = 1 these numbers hardly move a chain, with AlexNet's 0.001 they do.
COMMON = {"mass": 1.0, "heat": 1.0, "spread": 1.0}
PRESETS = {
    "grey": {
        "auto": COMMON | {"chains": 10, "iterations": 150, "leapfrog_steps": 15},
        "paper": COMMON
        | {"chains": 10, "iterations": 300, "leapfrog_steps": 100, "sigma": 10.0, "mass": 0.01}
        | {"temperature": 0.001, "step_size": 1e-4 / 10},  # the printed eps moves x = sigma z
    },
    "colour": {
        "auto": COMMON | {"chains": 4, "iterations": 150, "leapfrog_steps": 15},
        "paper": COMMON
        | {"chains": 4, "iterations": 100, "leapfrog_steps": 50, "sigma": 10.0, "mass": 1e-5}
        | {"temperature": 0.001, "step_size": 3e-6 / 10},
    },
}
# What suits a reference: T = 1, the model itself, where q is that of the data. Elsewhere units that
# are weak would drown in q at T = 1, so T is lower.
SUITS = {
    ("grey", "white"): {"sigma": 2.0, "temperature": 0.01, "start": "noise"},
    ("colour", "white"): {"sigma": 8.0, "temperature": 0.001, "heat": 100.0, "spread": 0.03}
    | {"iterations": 160, "leapfrog_steps": 30, "start": "noise"},
    ("grey", "natural"): {"sigma": 0.5, "temperature": 0.1, "start": "ascent", "spread": 0.1},
    ("colour", "natural"): {"sigma": 4.0, "temperature": 0.1, "start": "ascent", "spread": 0.1},
    ("grey", "data"): {"sigma": 1.0, "temperature": 1.0, "start": "noise"},
    ("colour", "data"): {"sigma": 1.0, "temperature": 1.0, "start": "noise"},
}
# A net with a q in its file has learned from chains of up to as many steps, a quarter turn.
LEARNED = {"sigma": 1.0, "temperature": 1.0, "start": "noise", "leapfrog_steps": 25}
SUITS |= {(kind, "file"): LEARNED for kind in PRESETS}
SCORES = 5  # times as many iterations with "paper" for a score in colour: AlexNet's 500
SCALES = {"grey": 1 / 256, "colour": 0.01735}  # of pixels 0 .. 255: the sigmas are meant for these
LANGEVIN = {"leapfrog_steps": 1}  # one gradient an iteration, as many in all
ASCENT = {"iterations": 100, "leapfrog_steps": 1, "temperature": 0.0, "heat": 1.0}
ASCENT |= {"start": "noise"}
MNIST = (28, 28, 1)  # images for which a reference from data is included


latest: dict[tuple, Source] = {}  # {what was asked for: the Source that was read for it}


def net_and_weights(settings):
    """(net, file of its weights or None): an .onnx file named as the weights brings its net."""
    net, weights = settings.get("net"), settings.get("weights")
    if weights and is_onnx(weights) and net in (None, weights):
        return weights, None
    return net or DEFAULTS["net"], weights


def asked_shape(settings):
    """(H, W, 0) of --size, 0 for the channels that the file tells, or None."""
    size = settings.get("size")
    if size and min(size) < 1:
        raise ValueError(f"--size {size[0]},{size[1]}: both must be at least 1")
    return (*size, 0) if size else None


def asked_source(given: dict) -> Source:
    """The net that is asked for, with the weights given or included, if there are any.

    A command that asks again for the same gets the same: what is in a file is read once.
    """
    net, weights = net_and_weights(given)
    if given.get("size") and not is_onnx(net):
        raise ValueError(f"--size is for .onnx files that leave it open: {net} has its own")
    if weights is None and net in WEIGHTS:
        weights = ASSETS / WEIGHTS[net]
    files = [os.stat(file) for file in (net, weights) if file not in (None, *NETS)]
    times = [(status.st_ino, status.st_size, status.st_mtime_ns) for status in files]
    asked = (net, weights, asked_shape(given), *times)
    if asked not in latest:
        latest.clear()
        latest[asked] = read_source(net, weights, asked_shape(given))
    return latest[asked]


def complete(given: dict) -> dict:
    """All settings from those given. ValueError if they do not go together."""
    source = asked_source(given)
    network, images = source.network, source.pixels
    shapes, input_shape = network.shapes, network.input_shape
    settings = {**DEFAULTS, **sampler_settings(given, source), **given}
    settings["pixels"] = pixels_of(images, input_shape[2])
    settings["net"], _ = net_and_weights(given)
    if settings["pixel_order"] is None:
        settings["pixel_order"] = str(images.get("order", "rgb"))
    settings["layer"] = checked_layer(settings, source)
    if is_score(settings, network) and "iterations" not in given:
        settings["iterations"] *= SCORES
    check_units(settings, shapes[settings["layer"]][-1])
    settings["adapt"] = settings["sampler"] != "ascent" and settings.get("step_size") is None
    if not settings["adapt"]:
        if given.get("heat", 1) != 1:
            raise ValueError(
                "--heat does not go with a step size that is fixed (--step-size, --preset paper)"
            )
        settings["heat"] = 1.0
    if settings.get("step_size") is None:
        ascent = settings["sampler"] == "ascent"
        settings["step_size"] = settings["ascent_size"] if ascent else first_step(settings)
    return settings


def pixels_of(images, C):
    """How pixels 0 .. 255 become the net's input, as far as the file of its weights tells.

    Where it does not, grey ones are scaled to 0 .. 1, colours to ImageNet's mean and spread.
    """
    colour = C == 3 and "scale" not in images
    mean = [123.675, 116.28, 103.53] if colour else 0.0
    scale = [1 / (255 * s) for s in (0.229, 0.224, 0.225)] if colour else 1 / 256
    found = {"scale": scale, "mean": mean, "order": "rgb"} | images
    values = {name: found[name] for name in ("scale", "mean", "order")}
    if np.ndim(values["mean"]) == 3:  # a mean image: its colour, as the canvas may be smaller
        values["mean"] = np.mean(values["mean"], axis=(0, 1))
    lists = {name: np.asarray(values[name], float).tolist() for name in ("scale", "mean")}
    return lists | {"order": str(values["order"])}


def sampler_settings(given, source):
    """The preset for images of this kind, as it suits the sampler."""
    images, input_shape = source.pixels, source.network.input_shape
    kind = "grey" if input_shape[2] == 1 else "colour"
    sampler, preset = (given.get(name, DEFAULTS[name]) for name in ("sampler", "preset"))
    reference = given.get("reference") or default_reference(preset, source, given)
    if given.get("reference_data") and reference in ("white", "file"):
        raise ValueError("--reference-data goes with --reference natural or data")
    settings = {"reference": reference, **suited(kind, reference)}
    if reference == "file":
        check_file_reference(source, given)
        settings["temperature"] = source.reference[1]
    if preset == "paper":
        settings |= {"start": "noise"} | PRESETS[kind]["paper"]
    if "scale" in images and preset == "auto" and reference not in ("data", "file"):
        settings["sigma"] *= float(f"{np.abs(images['scale']).mean() / SCALES[kind]:.3g}")
    if sampler == "langevin":
        settings["iterations"] *= settings["leapfrog_steps"]
        settings |= LANGEVIN
    if sampler == "ascent":
        settings |= ASCENT | {"step_size": None}
        for name in ("temperature", "mass", "heat"):
            if name in given:
                raise ValueError(f"--{name} does not go with --sampler ascent")
    if sampler != "hmc" and given.get("leapfrog_steps", 1) != 1:
        raise ValueError(f"--leapfrog-steps does not go with --sampler {sampler}: it takes one")
    return settings


def preset(input_shape: tuple, reference: str, name: str = "auto") -> dict:
    """Settings of chains that suit images of this shape and a reference distribution.

    input_shape (H, W, C); reference: "white", "natural", "data", or "file"
    for a q that a net's file of weights keeps; name: "auto", or "paper" for the
    numbers that the paper prints -> {"sigma": of the reference, in the net's input units,
    "temperature", "mass", "leapfrog_steps", "step_size": of z, "iterations", "chains", "heat":
    how many times hotter the chains begin, "spread": of the first z, "start": "noise" or "ascent"}.

    The step size of "auto" makes a trajectory 0.8 of a quarter turn: a start for RobbinsMonro.
    sigma is meant for pixels of 0 to 1 (grey) or of a standard deviation of about 1 (colour).
    ValueError for another name.
    """
    kind = "grey" if input_shape[2] == 1 else "colour"
    if name not in PRESETS[kind] or reference not in REFERENCES:
        raise ValueError(
            f"no preset {name!r} for {reference!r}: there are {', '.join(PRESETS[kind])} for "
            f"{', '.join(REFERENCES)}"
        )
    found = suited(kind, reference)
    if name != "auto":
        found |= {"start": "noise"} | PRESETS[kind][name]
    return {"step_size": first_step(found)} | found


def first_step(settings):
    """The step size with which a trajectory is 0.8 of a quarter turn, if f is not looked at."""
    return 0.8 * QUARTER_TURN * period(settings) / settings["leapfrog_steps"]


def suited(kind, reference):
    """The settings of the preset auto for "grey" or "colour" images and a reference."""
    return PRESETS[kind]["auto"] | SUITS[kind, reference]


def default_reference(preset, source, given):
    """The paper's white noise with its preset; that which the net has learned with, or that of the
    data where there is some; or natural."""
    if preset == "paper":
        return "white"
    if given.get("reference_data"):
        return "data"
    if source.reference and sees_all(source.network, given):
        return "file"
    return "data" if source.network.input_shape == MNIST else "natural"


def sees_all(network, given):
    """Whether the node that is asked for sees all of an image, as the q of a file does."""
    layer = given.get("layer") or network.last
    return layer in network.layers and (
        given.get("position") is not None or seen_by(network, layer, 0) is None
    )


def check_file_reference(source, given):
    """ValueError if the file has no reference distribution, or the node sees a part of it."""
    if not source.reference:
        raise ValueError(f"--reference file: {source.file} keeps none")
    if not sees_all(source.network, given):
        raise ValueError(
            "--reference file is for nodes that see all of an image: name the last layer, or a "
            "--position"
        )


def is_score(settings, network):
    """Whether the paper's chains are asked for of a node that sees all of a colour image."""
    if settings["preset"] != "paper" or settings["sampler"] == "ascent":
        return False
    return network.input_shape[2] > 1 and seen_by(network, settings["layer"], 0) is None


def checked_layer(settings, source):
    """The layer that is asked for, or the last that there are weights for."""
    net, weights = net_and_weights(settings)
    names = list(source.network.layers)
    if weights is None and net in NETS and net not in WEIGHTS:
        raise ValueError(
            f"no weights of {net} are included: --weights names an .npz file of train.py, or an "
            ".onnx file of any framework, which brings its net"
        )
    last = names[-1] if weights else LAYERS.get(net, names[-1])
    layer = settings["layer"] or last
    if source.stopped and not settings["layer"]:
        raise ValueError(f"{source.stopped}; --layer names one below it, see --list-layers")
    if layer not in names:
        raise ValueError(source.without(layer))
    if names.index(layer) > names.index(last):
        raise ValueError(
            f"{layer} of {net}: the included weights end with {last}; --weights names a file"
        )
    return layer


def check_units(settings, count):
    """ValueError if units of a layer of so many are named wrongly."""
    if settings["class_names"] and count != 1000:
        raise ValueError(
            f"--unit: names are for the 1,000 classes of ImageNet, {settings['layer']} has {count} "
            "units"
        )


def period(settings):
    """sqrt(T m), the time in which a chain without f turns by one radian."""
    return math.sqrt(settings["temperature"] * settings["mass"])
