"""The options of visualize.py: what they mean, their presets, what goes together."""

import argparse
import math

from hmc.forecast import QUARTER_TURN
from nn.nets import NETS
from nn.threads import THREADS
from report.console import OneLineParser, absolute_path, number
from report.run_folder import open_run

DEFAULTS = {
    "net": "lenet",
    "weights": None,
    "layer": None,
    "unit": [3],
    "position": None,
    "chains": 10,
    "sampler": "hmc",
    "preset": "auto",
    "film": False,
    "seed": 0,
    "device": "auto",
    "precision": "float32",
    "threads": THREADS,
}

# sigma is in the net's own input units: LeNet's pixels are 0 .. 1. The paper does not print T for
# LeNet; with T = 1 the printed numbers hardly move a chain, with AlexNet's 0.001 they do.
PRESETS = {
    "auto": {"iterations": 100, "leapfrog_steps": 15, "sigma": 2.0, "mass": 1.0,
             "temperature": 0.01},
    "paper": {"iterations": 300, "leapfrog_steps": 100, "sigma": 10.0, "mass": 0.01,
              "temperature": 0.001, "step_size": 1e-4},
}  # fmt: skip
LANGEVIN = {"iterations": 1500, "leapfrog_steps": 1}  # one gradient an iteration, as many in all
ASCENT = {"iterations": 100, "leapfrog_steps": 1, "temperature": 0.0}

EPILOG = """\
examples:
  python visualize.py --unit 3                    ten threes
  python visualize.py --unit 0-9                  all ten digits, the paper's figure 4
  python visualize.py --unit 0-9 --preset paper   with the paper's own settings
  python visualize.py --layer conv2 --unit 0,5,7-9 --film
  python visualize.py --weights runs/lenet-ggdg-seed0/model.npz --sigma 0.7 --temperature 0.0003
  python visualize.py --resume samples/lenet-fc2  go on with a run that was stopped

In the folder: grid.png (units by chains), sequence.png (the first chain of each unit as it
grows), trace.png (score, energy, acceptance), samples.npz, diagnostics.json, with --film film.gif.
"""


def units(text):
    """An argparse type: "3", "0-9" or "1,4,7-9" as a list of ints."""
    found = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        try:
            first, last = int(first), int(last if dash else first)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not like 3, 0-9 or 1,4,7-9") from None
        if last < first or last - first > 10_000:
            raise argparse.ArgumentTypeError(f"{part!r} is not a range of units")
        found += range(first, last + 1)
    return found


def place(text):
    """An argparse type: "row,column"."""
    try:
        row, column = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 3,4 (row,column)") from None
    return [row, column]


def parser():
    p = OneLineParser(
        prog="visualize.py",
        description="Draw images from any node of a trained ConvNet by Hamiltonian Monte Carlo.",
        epilog=EPILOG,
    )

    def option(name, text, **how):
        key = name.strip("-").replace("-", "_")
        if key in PRESETS["paper"]:
            by_preset = (f"{p} {PRESETS[p].get(key, 'adapted')}" for p in PRESETS)
            text += f" ({', '.join(by_preset)})"
        default = DEFAULTS.get(key)
        if default is not None and default is not False:
            text += f" (default {','.join(map(str, default)) if name == '--unit' else default})"
        p.add_argument(name, help=text, **how)

    positive = number(
        float, above=0, low=1e-12, high=1e12
    )  # products of some stay finite in float32
    option("--net", "which network", choices=NETS)
    option("--weights", "its weights, an .npz file of train.py (default: LeNet trained by dg on "
           "MNIST, included)", type=absolute_path, metavar="FILE")  # fmt: skip
    option("--layer", "layer of the node (default: the last)", metavar="NAME")
    option("--unit", "unit or units of the layer: 3, 0-9 or 1,4,7-9", type=units, metavar="UNITS")
    option("--position", "where in the layer's map, row,column, in an image of full size (default: "
           "the node sees all of an image just as large as its receptive field)",
           type=place, metavar="R,C")  # fmt: skip
    option("--chains", "chains for each unit", type=number(int, low=1, high=100_000), metavar="N")
    option("--sampler", "hmc; langevin: one leapfrog step an iteration; ascent: activation "
           "maximisation, the limit T = 0", choices=["hmc", "langevin", "ascent"])  # fmt: skip
    option("--preset", "auto: settings under which LeNet's digits come out well, the step size "
           "found during the first half; paper: the printed ones, with T = 0.001",
           choices=PRESETS)  # fmt: skip
    option(
        "--iterations",
        "trajectories of each chain",
        type=number(int, low=1, high=10**9),
        metavar="N",
    )
    option("--step-size", "eps of the leapfrog steps; if given, it stays fixed", type=positive,
           metavar="X")  # fmt: skip
    option("--leapfrog-steps", "L, leapfrog steps of a trajectory",
           type=number(int, low=1, high=10**9), metavar="N")  # fmt: skip
    option("--sigma", "standard deviation of the reference distribution, in the net's input units",
           type=positive, metavar="X")  # fmt: skip
    option("--mass", "m of the kinetic energy", type=positive, metavar="X")
    option("--temperature", "T: small values show the likeliest images", type=positive, metavar="X")
    option("--seed", "of the first images and the chains' random numbers",
           type=number(int, low=0, high=10**9), metavar="N")  # fmt: skip
    option("--device", "where to compute", choices=["auto", "cpu", "gpu"])
    option("--precision", "of the net: float64 where rounding of a score disturbs the acceptance",
           choices=["float32", "float64"])  # fmt: skip
    option("--threads", "threads that share the chains on the CPU",
           type=number(int, low=1, high=256), metavar="N")  # fmt: skip
    option("--film", "also an animated GIF of the chains", action="store_true")
    option("--out", "where the samples are kept (default: a new folder under samples/)",
           metavar="FOLDER")  # fmt: skip
    option("--resume", "go on with the run in FOLDER (or in --out) from its last checkpoint",
           nargs="?", metavar="FOLDER")  # fmt: skip
    return p


def settings_and_folder(argv):
    """(settings, RunFolder, whether it is resumed) from a command line; see open_run."""
    given = vars(parser().parse_args(argv))
    return open_run(given, complete, "samples", "{net}-{layer}", "diagnostics.json")


def complete(given):
    """All settings from those given. ValueError if they do not go together."""
    sampler = given.get("sampler", DEFAULTS["sampler"])
    settings = {**DEFAULTS, **PRESETS[given.get("preset", DEFAULTS["preset"])]}
    if sampler == "langevin":
        settings |= LANGEVIN
    if sampler == "ascent":
        settings |= ASCENT | {"step_size": None}
        for name in ("temperature", "mass"):
            if name in given:
                raise ValueError(f"--{name} does not go with --sampler ascent")
    if sampler != "hmc" and given.get("leapfrog_steps", 1) != 1:
        raise ValueError(f"--leapfrog-steps does not go with --sampler {sampler}: it takes one")
    settings |= given
    if settings["layer"] is None:
        settings["layer"] = "fc2"
    if len(set(settings["unit"])) < len(settings["unit"]):
        raise ValueError(f"a unit is named twice: {settings['unit']}")
    settings["adapt"] = sampler != "ascent" and settings.get("step_size") is None
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
