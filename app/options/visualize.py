"""The options of visualize.py, and its list of a net's layers."""

import argparse
import sys

from app import ASSETS
from app.console import by
from app.options.arguments import OneLineParser, absolute_path, number
from app.options.common import add_machine, add_net, add_output
from app.options.visualize_settings import (
    DEFAULTS,
    PRESETS,
    REFERENCES,
    STARTS,
    asked_source,
    complete,
    suited,
)
from app.runs.folder import RunFolder, Settings, open_run
from nn.canvas import receptive_field, seen_by

CLASS_NAMES = ASSETS / "imagenet-classes.txt"

EPILOG = """\
examples:
  python visualize.py --unit 3                    ten threes
  python visualize.py --net digits --unit 3       by a net that learned from its own samples
  python visualize.py --unit 0-9                  all ten digits, the paper's figure 4
  python visualize.py --unit 0-9 --preset paper   with the paper's own settings
  python visualize.py --layer conv2 --unit 0,5,7-9 --film
  python visualize.py --weights runs/lenet-ggdg-seed0/model.npz --reference white --sigma 0.7
  python visualize.py --net alexnet-torchvision --layer conv3 --unit 10
  python visualize.py --weights model.onnx --list-layers
  python visualize.py --net alexnet --weights my-alexnet.npz --layer fc8 --unit starfish,goose
  python visualize.py --resume samples/lenet-fc2  go on with a run that was stopped

In the folder: grid.png (units by chains), sequence.png (the first chain of each unit as it
grows), trace.png (score, energy, acceptance), samples.npz, diagnostics.json, with --film film.gif;
with --format pdf or svg the pictures are grid.pdf and so on.
"""


def results(settings: Settings) -> tuple:
    """The files that a run ends with, the numbers first."""
    drawn = (f"{name}.{settings.get('format', 'png')}" for name in ("grid", "sequence", "trace"))
    return "diagnostics.json", *drawn, *(["film.gif"] if settings.get("film") else [])


def units(text: str) -> tuple[list[int], dict[str, str]]:
    """("3", "0-9", "1,4,7-9" or names of ImageNet's classes) -> a list of ints, {"327": name}."""
    found, named = [], {}
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if first.isdecimal() and (last.isdecimal() or not dash):
            first, last = int(first), int(last if dash else first)
            if last < first or last - first > 10_000:
                raise ValueError(f"--unit {part!r} is not a range of units")
            found += range(first, last + 1)
        else:
            unit, name = named_unit(part.strip())
            found.append(unit)
            named[str(unit)] = name
    if len(set(found)) < len(found):
        raise ValueError(f"--unit {text}: a unit is named twice")
    return found, named


def named_unit(word: str) -> tuple[int, str]:
    """(number, name) of ImageNet's class of this name, or of the only one with this word in it."""
    names = CLASS_NAMES.read_text(encoding="utf-8").splitlines()
    wanted = word.lower()
    found = [n for n, name in enumerate(names) if name.lower() == wanted]
    found = found or [n for n, name in enumerate(names) if f" {wanted} " in f" {name.lower()} "]
    if len(found) == 1:
        return found[0], names[found[0]]
    if not found:
        raise ValueError(
            f"--unit {word!r} is not like 3, 0-9 or 1,4,7-9, nor the name of a class of ImageNet"
        )
    some = ", ".join(names[n] for n in found[:6]) + (", ..." if len(found) > 6 else "")
    raise ValueError(f"--unit {word!r} could be {some}")


def two_numbers(text: str) -> list[int]:
    """An argparse type: "row,column" or "height,width"; one number stands for both."""
    try:
        first, *rest = (int(part) for part in text.split(","))
        (second,) = rest or [first]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 3,4: two whole numbers") from None
    return [first, second]


def start(text: str) -> str:
    """An argparse type: one of STARTS, or a file."""
    return text if text in STARTS else absolute_path(text)


def preset_values(key: str, preset: str) -> str:
    """What a preset sets, in words."""
    grey, colour = (
        str((suited(kind, reference) if preset == "auto" else PRESETS[kind][preset]).get(key, ""))
        for kind, reference in (("grey", "data"), ("colour", "natural"))
    )
    adapted = "found in the first half"
    both = f"{grey}, for colour images {colour}" if colour != grey else grey
    return f"{preset} {both or adapted}"


def parser() -> OneLineParser:
    p = OneLineParser(
        prog="visualize.py",
        description="Draw images from any node of a trained ConvNet by Hamiltonian Monte Carlo.",
        epilog=EPILOG,
    )

    def option(name, text, **how):
        key = name.strip("-").replace("-", "_")
        if key in PRESETS["grey"]["paper"]:
            text += f" ({'; '.join(preset_values(key, preset) for preset in ('auto', 'paper'))})"
        default = DEFAULTS.get(key)
        if default is not None and default is not False:
            text += f" (default {','.join(map(str, default)) if name == '--unit' else default})"
        p.add_argument(name, help=text, **how)

    positive = number(float, low=1e-12, high=1e12)  # products of some stay finite in float32
    add_net(option)
    option(
        "--weights",
        "its weights: an .npz file of train.py, .safetensors with torchvision's "
        "names, or .onnx, which brings its net (included: lenet trained by dg on MNIST, "
        "digits by --mode samples, and conv1 to conv5 of alexnet-torchvision)",
        type=absolute_path,
        metavar="FILE",
    )
    option("--list-layers", "print the net's layers and stop", action="store_true")
    option("--layer", "layer of the node (default: the last)", metavar="NAME")
    option(
        "--unit",
        "unit or units of the layer: 3, 0-9 or 1,4,7-9; names of ImageNet's classes, "
        "for the scores of a net that has them",
        metavar="UNITS",
    )
    option(
        "--position",
        "where in the layer's map, row,column, in an image of full size (default: "
        "the node sees all of an image just as large as its receptive field)",
        type=two_numbers,
        metavar="R,C",
    )
    option(
        "--size",
        "height,width of the images, where an .onnx file leaves them open (default then: 224,224)",
        type=two_numbers,
        metavar="H,W",
    )
    option(
        "--pixel-order",
        "order of the net's colours, for the pictures (default: what the weights say, or rgb)",
        choices=["rgb", "bgr"],
    )
    option("--chains", "chains for each unit", type=number(int, low=1, high=100_000), metavar="N")
    option(
        "--sampler",
        "hmc; langevin: one leapfrog step an iteration; ascent: activation "
        "maximisation, the limit T = 0",
        choices=["hmc", "langevin", "ascent"],
    )
    option(
        "--preset",
        "auto: settings that draw well, the step size found during the first half; "
        "paper: the printed ones, with T = 0.001. Below, auto is for grey images on q of the data "
        "and colour images on natural q; for another --reference see settings.json",
        choices=["auto", "paper"],
    )
    option(
        "--iterations",
        "trajectories of each chain; the paper's are 500 for scores of colour images",
        type=number(int, low=1, high=10**9),
        metavar="N",
    )
    option(
        "--step-size",
        "eps of the leapfrog steps; if given, it stays fixed",
        type=positive,
        metavar="X",
    )
    option(
        "--leapfrog-steps",
        "L, leapfrog steps of a trajectory",
        type=number(int, low=1, high=10**9),
        metavar="N",
    )
    option(
        "--reference",
        "the reference distribution q: white noise, natural images, the data's own mean and "
        "second moments, or what the file of weights keeps (default: file if it keeps one, data "
        "for 28 x 28 grey images or with --reference-data, else natural; white with --preset "
        "paper)",
        choices=REFERENCES,
    )
    option(
        "--reference-data",
        "images to measure q from: a folder of pictures, or a data set as train.py takes it "
        "(default: MNIST for data)",
        type=absolute_path,
        metavar="FOLDER",
    )
    option(
        "--sigma",
        "spread of the reference distribution, in the net's input units; data: times its own",
        type=positive,
        metavar="X",
    )
    option("--mass", "m of the kinetic energy", type=positive, metavar="X")
    option("--temperature", "T: small values show the likeliest images", type=positive, metavar="X")
    option(
        "--heat",
        "begin at so many times T, and cool down to T during the first two fifths",
        type=number(float, low=1, high=1e9),
        metavar="X",
    )
    option(
        "--start",
        "where the chains begin: noise from q; ascent: uphill from there; or a picture (a file) "
        "(default: ascent on a natural reference, else noise)",
        type=start,
        metavar="START",
    )
    option(
        "--spread",
        "spread of the first noise, as a multiple of that of q",
        type=number(float, low=0, high=1e6),
        metavar="X",
    )
    option(
        "--ascent-steps",
        "steps of the ascent that --start ascent begins with",
        type=number(int, low=1, high=10**6),
        metavar="N",
    )
    option(
        "--ascent-size",
        "how far the largest of these steps goes, in spreads of q; they get shorter",
        type=positive,
        metavar="X",
    )
    option(
        "--seed",
        "of the first images and the chains' random numbers",
        type=number(int, low=0, high=10**9),
        metavar="N",
    )
    add_machine(option, "the chains")
    option(
        "--precision",
        "of the net: float64 where rounding of a score disturbs the acceptance",
        choices=["float32", "float64"],
    )
    option("--film", "also an animated GIF of the chains", action="store_true")
    add_output(option, "the samples are", "samples")
    return p


def parse(argv: list[str] | None) -> Settings:
    """{name: value} of the options that a command line gives."""
    given = vars(parser().parse_args(argv))
    if "unit" in given:
        given["unit"], given["class_names"] = units(given["unit"])
    return given


def checked(settings: Settings) -> Settings:
    """The settings of a file, held to all that a command line is held to; else ValueError."""
    names = {*DEFAULTS, *PRESETS["grey"]["paper"], "adapt", "pixels"}
    if not isinstance(settings, dict) or settings.keys() != names:
        raise ValueError("holds the settings of another program")
    unit, named = settings["unit"], settings["class_names"]
    if not (isinstance(unit, list) and isinstance(named, dict)):
        raise ValueError(f"unit is {unit!r}, class_names {named!r}; expected a list and some names")
    if units(",".join(str(named.get(str(n), n)) for n in unit)) != (unit, named):
        raise ValueError(f"unit is {unit!r}, which class_names {named!r} does not fit")
    apart = {"unit", "class_names", "adapt", "pixels"}  # of these, no option has the value as it is
    if settings["sampler"] == "ascent":
        apart |= {"temperature", "mass", "heat"}
    given = {name: value for name, value in settings.items() if name not in apart}
    found = parser().checked(given, DEFAULTS)
    if settings["adapt"] is True:  # then the step size is where the search for one begins
        given.pop("step_size")
    found = complete(given | {"unit": unit, "class_names": named}) | found
    for name, value in found.items():
        if value != settings[name]:
            raise ValueError(f"{name} is {settings[name]!r}, but {value!r} goes with the others")
    return found


def settings_and_folder(argv: list[str] | None) -> tuple[Settings, RunFolder, bool]:
    """(settings, RunFolder, whether it is resumed) from a command line; see open_run."""
    given = parse(argv)
    if given.pop("list_layers", False):
        list_layers(given)
        sys.exit()
    return open_run(given, complete, checked, "samples", "{net}-{layer}", results)


def list_layers(given: Settings) -> None:
    """Print each layer's name, the shape of its output, its units and what one of them sees."""
    source = asked_source(given)
    network = source.network
    if source.arrays is not None:
        source.check_shapes(may_lack=network.layers)
    wide, size = max(map(len, ["layer", *network.layers])), by(network.input_shape)
    print(f"{'layer':{wide}}{'output':>16}{'units':>8}{'sees':>12}   on images of {size}")
    for name in network.layers:
        shape = network.shapes[name]
        sees = by(receptive_field(network, name)) if seen_by(network, name, 0) else "all"
        print(f"{name:{wide}}{by(shape):>16}{shape[-1]:>8}{sees:>12}")
    if source.stopped:
        print(f"no more can be had: {source.stopped}")
