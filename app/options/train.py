"""The options of train.py."""

import argparse
import math
from typing import Any

from app.console import warn
from app.options.arguments import OneLineParser, absolute_path, number
from app.options.common import add_machine, add_net, add_output
from app.options.train_settings import (
    DEFAULTS,
    LATER,
    NET_DEFAULTS,
    SAMPLES,
    complete,
    goes_together,
)
from app.runs.folder import RunFolder, Settings, open_run
from nn.fillers import FILLERS
from nn.sgd import POLICIES

EPILOG = """\
examples:
  python train.py                                   the paper's GG+DG run: LeNet on MNIST
  python train.py --mode dg --epochs 3              a first try in half a minute
  python train.py --switch-ess 0.2                  let the effective sample size end GG
  python train.py --mode joint --gg-weight 0.5      both gradients at every step
  python train.py --gg-queue 1024                   GG over 64 images and 1,024 earlier ones
  python train.py --held-out 5000 --lr 0.02         try a rate without looking at the test images
  python train.py --data my-folder --classes 26     other images in MNIST's format
  python train.py --net alexnet --data imagenet     images in train/CLASS/ and val/CLASS/
  python train.py --net cifar10-quick --data cifar  CIFAR-10's binary files
  python train.py --net model.onnx --data images    go on training an imported net
  python train.py --labels 1000 --unlabeled-weight 1  learn from 59,000 images without label, too
  python train.py --mode samples                    learn from the model's own samples, to draw
  python train.py --resume runs/lenet-ggdg-seed0    go on with a run that was stopped
"""


def results(settings: Settings) -> tuple:
    """The files that a run ends with, the numbers first."""
    kind = settings.get("format", "png")
    chains = (f"chains.{kind}",) if settings.get("mode") == "samples" else ()
    return "model.npz", f"curves.{kind}", *chains


def channels(text: str) -> float | list[float]:
    """An argparse type: a number, or one each for red, green and blue."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if len(found) not in (1, 3) or not all(map(math.isfinite, found)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number or three: R,G,B")
    return found if len(found) == 3 else found[0]


def mean(text: str) -> str | float | list[float]:
    """An argparse type: `channels`, or the word image."""
    return text if text == "image" else channels(text)


def short(value: Any) -> str:
    """A default as it would be given on the command line."""
    if isinstance(value, list):
        return ",".join(map(short, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def parser() -> OneLineParser:
    p = OneLineParser(
        prog="train.py",
        description="Train a ConvNet by the discriminative gradient (dg), the generative gradient\n"
        "(gg), gg as pre-training for dg (ggdg), both at once (joint), or the generative gradient\n"
        "with samples of the model itself (samples). Defaults are the paper's settings; dgdg,\n"
        "joint and samples are not in the paper.",
        epilog=EPILOG,
    )

    def option(name, text, **how):
        key = name.strip("-").replace("-", "_")
        default = DEFAULTS.get(key)
        if default is not None and default is not False:
            others = [
                f", {net} {short(own[key])}" for net, own in NET_DEFAULTS.items() if key in own
            ]
            others += [f", with --mode samples {short(SAMPLES[key])}"] if key in SAMPLES else []
            text += f" (default {short(default)}{''.join(others)})"
        p.add_argument(name, help=text, **how)

    add_net(option)
    option(
        "--mode",
        "dg: softmax over classes; gg: softmax over images; ggdg: gg, then dg; dgdg: dg, then dg "
        "anew as in ggdg, to see what a new start alone does; joint: dg + w gg at every step; "
        "samples: gg with chains of the model instead of weights. Runs of one "
        "seed start from the same weights and see the same images in the same order, whatever the "
        "mode",
        choices=["dg", "gg", "ggdg", "dgdg", "joint", "samples"],
    )
    option(
        "--gg-weight",
        "joint: w, how much gg counts beside dg",
        type=number(float, low=0, high=1e6),
        metavar="W",
    )
    option(
        "--gg-queue",
        "gg compares the images of a batch with the M images before them, too, whose scores are "
        "kept as they were. A batch of n stands for all images there are; with more of them the "
        "importance weights rest on more than a few images. ESS is then a share of n + M. With 0, "
        "the batch alone",
        type=number(int, low=0, high=10**6),
        metavar="M",
    )
    option(
        "--epochs",
        "passes over the training images",
        type=number(int, low=1, high=10**9),
        metavar="N",
    )
    option(
        "--switch-epoch",
        "ggdg, dgdg: epochs of the first part (default 16 of 25, with --labels 5 of "
        "6, or as many in proportion)",
        type=number(int, low=1, high=10**9),
        metavar="N",
    )
    option(
        "--switch-ess",
        "ggdg: go to dg earlier, once the importance weights' effective sample "
        "size falls below this share of the batch (and its queue), on average over an epoch",
        type=number(float, above=0, high=1),
        metavar="X",
    )
    option("--batch-size", "images in a batch", type=number(int, low=2, high=10**9), metavar="N")
    option("--lr", "learning rate", type=number(float, above=0), metavar="X")
    option(
        "--finetune-lr",
        "ggdg, dgdg: learning rate of the second part",
        type=number(float, above=0),
        metavar="X",
    )
    option("--momentum", "momentum", type=number(float, low=0, below=1), metavar="X")
    option("--weight-decay", "weight decay", type=number(float, low=0), metavar="X")
    option(
        "--lr-policy",
        "fixed; inv: lr (1 + 1e-4 it)^-0.75; step: a tenth every --lr-step",
        choices=POLICIES,
    )
    option(
        "--lr-step",
        "iterations between two steps of the policy step",
        type=number(int, low=1, high=10**9),
        metavar="N",
    )
    option(
        "--filler",
        "initial weights; xavier-caffe2014 has the bug of the paper's time (nets of "
        "Caffe have their own)",
        choices=FILLERS,
    )
    option(
        "--weights",
        "start from these weights: .npz, .safetensors or .onnx",
        type=absolute_path,
        metavar="FILE",
    )
    option(
        "--seed",
        "of the initial weights and the order of the images",
        type=number(int, low=0, high=10**9),
        metavar="N",
    )
    add_machine(option, "a batch")
    option(
        "--data",
        "folder with four IDX files, gzipped or not (default: MNIST, included); or "
        "CIFAR-10's binary files; or train/CLASS/*.JPEG and val/CLASS/*.JPEG",
        type=absolute_path,
        metavar="FOLDER",
    )
    option(
        "--classes",
        "number of classes in IDX files (default 10)",
        type=number(int, low=2, high=10**9),
        metavar="N",
    )
    option(
        "--limit",
        "use only N training images: the first, or evenly spaced in train/CLASS/",
        type=number(int, low=2, high=10**9),
        metavar="N",
    )
    option(
        "--held-out",
        "test on N of the training images, which are then not learned from, and leave the test "
        "images alone: for choosing a rate. They are drawn at random, the same for every seed",
        type=number(int, low=1, high=10**9),
        metavar="N",
    )
    option(
        "--labels",
        "use the labels of only N images, as many of each class; gg learns from the "
        "others as well, dg from these alone (default then: 5 epochs of gg, 1 of dg)",
        type=number(int, low=1, high=10**9),
        metavar="N",
    )
    option(
        "--unlabeled-weight",
        "lambda: how much an image without label counts in gg; with 0 the "
        "labelled ones are all there is",
        type=number(float, low=0, high=1e6),
        metavar="X",
    )
    option(
        "--reference",
        "samples: q, the mean and second moments of the training images, or what natural images "
        "have in common; it is kept with the weights",
        choices=["data", "natural"],
    )
    option(
        "--chains",
        "samples: how many chains, each tied to a class",
        type=number(int, low=2, high=10**6),
        metavar="N",
    )
    option(
        "--trajectories",
        "samples: of a chain, each time that it is its turn",
        type=number(int, low=1, high=1000),
        metavar="N",
    )
    option(
        "--leapfrog-steps",
        "samples: L, leapfrog steps of a trajectory at least; up to five times as many as "
        "the step size falls, so that a trajectory stays a quarter turn",
        type=number(int, low=1, high=1000),
        metavar="N",
    )
    option(
        "--acceptance",
        "samples: the mean acceptance to which the step size is steered",
        type=number(float, above=0, below=1),
        metavar="X",
    )
    option(
        "--rebirth",
        "samples: share of the chains that begin anew from q when it is their turn",
        type=number(float, low=0, high=1),
        metavar="X",
    )
    option(
        "--pixel-noise",
        "samples: noise on the images, a part of q, as a share of the range of the pixels",
        type=number(float, above=0, high=10),
        metavar="X",
    )
    option(
        "--dg-weight",
        "samples: how much dg on the images is added to the generative gradient",
        type=number(float, low=0, high=1e6),
        metavar="X",
    )
    option(
        "--mean-over",
        "samples: the weights that are tested and kept are the mean over about the last N updates; "
        "with 1, those of the last one",
        type=number(int, low=1, high=10**9),
        metavar="N",
    )
    option(
        "--pixel-scale",
        "the net's input is (pixels 0..255 - mean) * scale: a number or R,G,B",
        type=channels,
        metavar="X",
    )
    option(
        "--pixel-mean",
        "a number, R,G,B, or the word image: the mean of the training images",
        type=mean,
        metavar="X",
    )
    option("--pixel-order", "order of the input's channels", choices=["rgb", "bgr"])
    option(
        "--prepared",
        "where images of train/ and val/ are kept decoded, once for all runs "
        "(default: in their folder)",
        type=absolute_path,
        metavar="FOLDER",
    )
    option("--skip-broken", "leave out images that cannot be decoded", action="store_true")
    add_output(option, "the run is", "runs")
    return p


def parse(argv: list[str] | None) -> Settings:
    """{name: value} of the options that a command line gives."""
    return vars(parser().parse_args(argv))


def checked(settings: Settings) -> Settings:
    """The settings of a file, held to all that a command line is held to; else ValueError."""
    if isinstance(settings, dict):
        settings = {name: DEFAULTS[name] for name in LATER} | settings
    if not isinstance(settings, dict) or settings.keys() != DEFAULTS.keys():
        raise ValueError("holds the settings of another program")
    settings = parser().checked(settings, DEFAULTS)
    goes_together(settings)
    return settings


def settings_and_folder(argv: list[str] | None) -> tuple[Settings, RunFolder, bool]:
    """(settings, RunFolder, whether it is resumed) from a command line; see open_run."""
    given = parse(argv)
    settings, run, resumed = open_run(
        given, complete, checked, "runs", "{net}-{mode}-seed{seed}", results
    )
    if settings["mode"] != given.get("mode", DEFAULTS["mode"]) and not resumed:
        warn("with one epoch there is none for dg: this is a run of gg alone, as --mode gg")
    return settings, run, resumed
