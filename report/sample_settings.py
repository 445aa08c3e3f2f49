"""The settings of visualize.py: presets that suit a net, and what goes together."""

import math
from pathlib import Path

import numpy as np

from hmc.forecast import QUARTER_TURN
from nn.load import classes_in, is_onnx, layers_of, load_arrays
from nn.nets import NETS
from nn.network import measure
from nn.threads import THREADS

ASSETS = Path(__file__).resolve().parent.parent / "assets"
WEIGHTS = {"lenet": "lenet-dg.npz", "alexnet-torchvision": "alexnet-torchvision-conv.npz"}
LAYERS = {"alexnet-torchvision": "conv5"}  # the last that is included

DEFAULTS = {
    "net": "lenet",
    "weights": None,
    "layer": None,
    "unit": [3],
    "class_names": {},  # of units that were asked for by name
    "position": None,
    "pixel_order": None,
    "sampler": "hmc",
    "preset": "auto",
    "film": False,
    "seed": 0,
    "device": "auto",
    "precision": "float32",
    "threads": THREADS,
}

# sigma is in the net's own input units; here for pixels of 0 .. 1 (grey) and of a standard
# deviation of about 1 (colour). "paper": as printed, for AlexNet's convolutions. T is not given for
# LeNet; with T = 1 these numbers hardly move a chain, with AlexNet's 0.001 they do.
PRESETS = {
    "grey": {
        "auto": {"chains": 10, "iterations": 100, "leapfrog_steps": 15, "sigma": 2.0, "mass": 1.0,
                 "temperature": 0.01, "heat": 1.0, "start": 1.0},
        "paper": {"chains": 10, "iterations": 300, "leapfrog_steps": 100, "sigma": 10.0,
                  "mass": 0.01, "temperature": 0.001, "step_size": 1e-4, "heat": 1.0, "start": 1.0},
    },
    "colour": {
        "auto": {"chains": 4, "iterations": 160, "leapfrog_steps": 30, "sigma": 8.0, "mass": 1.0,
                 "temperature": 0.001, "heat": 100.0, "start": 0.03},
        "paper": {"chains": 4, "iterations": 100, "leapfrog_steps": 50, "sigma": 10.0,
                  "mass": 1e-5, "temperature": 0.001, "step_size": 3e-6, "heat": 1.0,
                  "start": 1.0},
    },
}  # fmt: skip
SCALES = {"grey": 1 / 256, "colour": 1 / 58}  # of pixels 0 .. 255, for which these sigmas are meant
LANGEVIN = {"leapfrog_steps": 1}  # one gradient an iteration, as many in all
ASCENT = {"iterations": 100, "leapfrog_steps": 1, "temperature": 0.0, "start": 1.0, "heat": 1.0}


def described(given):
    """(layers, {name: shape}, input_shape, what the weights tell of pixels) of a net."""
    net, weights = given.get("net"), given.get("weights")
    if weights and is_onnx(weights) and net is None:
        net = weights
    net = net or DEFAULTS["net"]
    arrays, images = load_arrays(weights) if weights and weights != net else ({}, {})
    layers, _, input_shape = layers_of(net, images.get("shape"), classes_in(arrays, net))
    return layers, measure(layers, input_shape), input_shape, images


def complete(given):
    """All settings from those given. ValueError if they do not go together."""
    sampler = given.get("sampler", DEFAULTS["sampler"])
    layers, shapes, input_shape, images = described(given)
    kind = "grey" if input_shape[2] == 1 else "colour"
    preset = given.get("preset", DEFAULTS["preset"])
    settings = {**DEFAULTS, **PRESETS[kind][preset]}
    if "scale" in images and preset == "auto":
        settings["sigma"] *= float(f"{np.mean(images['scale']) / SCALES[kind]:.3g}")
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
    settings |= given
    if settings["weights"] and is_onnx(settings["weights"]) and "net" not in given:
        settings["net"] = settings["weights"]
    if settings["pixel_order"] is None:
        settings["pixel_order"] = str(images.get("order", "rgb"))
    if settings["layer"] is None:
        included = LAYERS if settings["weights"] is None else {}
        settings["layer"] = included.get(settings["net"], list(shapes)[-1])
    if settings["layer"] not in shapes:
        raise ValueError(f"no layer {settings['layer']!r}; this net has {', '.join(shapes)}")
    count = shapes[settings["layer"]][-1]
    if settings["class_names"] and count != 1000:
        raise ValueError(
            f"--unit: names are for the 1,000 classes of ImageNet, {settings['layer']} has {count} "
            "units"
        )
    if len(set(settings["unit"])) < len(settings["unit"]):
        raise ValueError(f"a unit is named twice: {settings['unit']}")
    if settings["weights"] is None and settings["net"] not in WEIGHTS and settings["net"] in NETS:
        raise ValueError(
            f"no weights of {settings['net']} are included: --weights names an .npz file of "
            "train.py, or an .onnx file of any framework, which brings its net"
        )
    settings["adapt"] = sampler != "ascent" and settings.get("step_size") is None
    if not settings["adapt"]:
        if given.get("heat", 1) != 1:
            raise ValueError(
                "--heat does not go with --step-size: the step follows the temperature"
            )
        settings["heat"] = 1.0
    if settings.get("step_size") is None:
        settings["step_size"] = (
            0.1 * settings["sigma"] ** 2  # x moves by a tenth to sigma^2 df/dx, its rest
            if sampler == "ascent"
            else 0.8 * QUARTER_TURN * period(settings) / settings["leapfrog_steps"]
        )
    return settings


def period(settings):
    """sigma sqrt(T m), the time in which a chain without f turns by one radian."""
    return settings["sigma"] * math.sqrt(settings["temperature"] * settings["mass"])
