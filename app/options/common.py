"""The options that train.py and visualize.py have alike."""

import argparse
import sys
from collections.abc import Callable

from app.formats.net import is_onnx
from app.options.arguments import absolute_path, named_path, number
from app.runs.folder import RunFolder, Settings
from fast.device import DEVICES
from nn.nets import NETS

FORMATS = "png", "pdf", "svg"


def net(text: str) -> str:
    """An argparse type: a name in NETS, or an .onnx file."""
    if text not in NETS and not is_onnx(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither an .onnx file nor one of {', '.join(NETS)}"
        )
    return text if text in NETS else absolute_path(text)


def add_net(option: Callable) -> None:
    """--net."""
    option("--net", f"which network: {', '.join(NETS)}, or an .onnx file", type=net, metavar="NET")


def add_machine(option: Callable, work: str) -> None:
    """Where to compute; `work` is what processes share."""
    option("--device", "where to compute; gpu-tf32: products rounded to 10 bits", choices=DEVICES)
    option(
        "--threads",
        f"processes of one thread each that share {work} on the CPU, in each rank of an MPI job",
        type=number(int, low=1, high=256),
        metavar="N",
    )
    option(
        "--plain",
        "run the textbook alone (nn/), without what makes it fast (fast/)",
        action="store_true",
    )


def add_output(option: Callable, what: str, parent: str) -> None:
    """Where `what` is kept, and in what format it is drawn."""
    option("--format", "of the pictures", choices=FORMATS)
    option(
        "--out",
        f"where {what} kept (default: a new folder under {parent}/)",
        type=named_path,
        metavar="FOLDER",
    )
    option(
        "--resume",
        "go on with the run in FOLDER (or in --out) from its last checkpoint",
        type=named_path,
        nargs="?",
        metavar="FOLDER",
    )


def left_to_do(settings: Settings, run: RunFolder, resumed: bool, what: str, file: str) -> tuple:
    """(settings, run, resumed) as given; if the run is finished, exits with a line about `what`."""
    if resumed and run.finished():
        print(f"{run.path} is finished: the {what} are in {run.path / file}")
        sys.exit()
    return settings, run, resumed
