"""Run what is behind a table or figure of the paper, and put the paper's numbers beside ours.

python reproduce.py table1
"""

import app  # noqa: F401  first: app/interrupts.py says why

# isort: split
import argparse
import sys
from pathlib import Path

from app.console import fail_in_one_line
from app.data.load import layout
from app.files import write_whole
from app.options.arguments import OneLineParser, absolute_path, named_path, number
from app.options.common import FORMATS
from app.page.page import page
from app.paper import figures, tables, teaching
from app.pictures import attempt
from app.runs.folder import write_json
from fast.device import DEVICES

TARGETS = {
    make.__name__: make
    for make in (
        tables.table1,
        tables.table2,
        tables.table3,
        figures.figure3,
        figures.figure4,
        figures.figure5,
        figures.figure6,
        figures.figure7,
        teaching.gradients,
        teaching.weights,
        page,
    )
}

USED = {  # options that a target has a use for; --out and --format are for all
    "table": ("seeds", "data", "quick", "device", "so_far"),
    "figure": ("quick", "device", "weights", "more"),
    "page": ("quick", "device"),
}

UNSET = {"seeds": None, "data": None, "quick": False, "device": "auto", "so_far": False}
UNSET |= {"weights": None, "more": []}

EPILOG = """\
Everything is kept under --out: the runs, which go on where they were when the same command is given
again; and NAME.md, NAME.json and NAME.png (or --format) with what came out. page has the runs of
figures 3 and 5, and those of figures 6 and 7 if they are there; a run of train.py --mode samples is
looked for in samples.

What stands behind -- goes to visualize.py, with the net that --weights brings:

  python reproduce.py figure6 --weights net.onnx -- --size 131 --pixel-order bgr --sigma 57
"""


def parser() -> OneLineParser:
    p = OneLineParser(
        prog="reproduce.py",
        description="The paper's tables and figures, each by one command:\n\n"
        + "\n".join(
            f"  {name:9}  {make.__doc__.splitlines()[0]}" for name, make in TARGETS.items()
        ),
        epilog=EPILOG,
    )
    p.add_argument("target", choices=TARGETS, help="which", metavar="NAME")
    p.add_argument(
        "--seeds",
        type=number(int, low=1, high=1000),
        default=UNSET["seeds"],
        metavar="N",
        help="trainings of each kind (default 10 for table1, 3 for table3, 4 for "
        "CIFAR-10 in table2, else 1; --quick 1)",
    )
    p.add_argument(
        "--data",
        type=absolute_path,
        default=None,
        metavar="FOLDER",
        help="images for the tables: ImageNet (train/CLASS/, val/CLASS/), CIFAR-10's binary files, "
        "or IDX files (default MNIST)",
    )
    p.add_argument(
        "--quick",
        action="store_true",
        default=False,
        help="a short try in minutes; its numbers mean little",
    )
    p.add_argument(
        "--so-far",
        action="store_true",
        default=False,
        help="a table of the runs that are finished by now; begin none",
    )
    p.add_argument(
        "--device", choices=DEVICES, default="auto", help="where to compute (default auto)"
    )
    p.add_argument(
        "--weights",
        type=absolute_path,
        default=None,
        metavar="FILE",
        help="a classifier of ImageNet for figures 3, 6 and 7: .onnx, or torchvision's AlexNet "
        "as .safetensors",
    )
    p.add_argument("--format", choices=FORMATS, default="png", help="of the picture (default png)")
    p.add_argument(
        "--out",
        type=named_path,
        default="results",
        metavar="FOLDER",
        help="where all is kept (default results)",
    )
    return p


def check_options(name: str, settings: argparse.Namespace) -> None:
    """ValueError if an option is given that this target has no use for."""
    used = USED.get(name.rstrip("0123456789"), ())
    for option, unset in UNSET.items():
        if option not in used and getattr(settings, option) != unset:
            what = "options behind --" if option == "more" else f"--{option.replace('_', '-')}"
            raise ValueError(f"{name} has no use for {what}")


def main(argv: list[str] | None = None) -> None:
    words = sys.argv[1:] if argv is None else argv
    end = words.index("--") if "--" in words else len(words)
    settings = parser().parse_args(words[:end])
    settings.more = words[end + 1 :]
    name = settings.target
    settings.out = Path(settings.out, "quick" if settings.quick else "")
    with fail_in_one_line(status=2):
        check_options(name, settings)
        if name in figures.CLASSES and not settings.weights:
            raise ValueError(figures.NO_WEIGHTS.format(name))
        if settings.more and not settings.weights:
            raise ValueError(f"options behind -- need --weights: {' '.join(settings.more)}")
        if settings.weights:
            figures.given_net(settings)
        if settings.data:
            layout(Path(settings.data))  # whether train.py can read what is there
            if name == "table3":
                tables.label_counts(settings.data)
        settings.out.mkdir(parents=True, exist_ok=True)
    again = f"; the same command goes on from there: what was done is under {settings.out}"
    again = "" if settings.so_far else again
    with fail_in_one_line(status=1, kept=lambda: again):
        lines, numbers, draw = TARGETS[name](settings)
        title = f"# {name}" + (" (quick: a short try)" if settings.quick else "")
        text = "\n".join([title, "", *lines, ""])
        write_whole(
            settings.out / f"{name}.md", lambda file: file.write(text.encode("utf-8", "replace"))
        )
        write_json(settings.out / f"{name}.json", numbers)
        suffix = "html" if name == "page" else settings.format
        attempt(draw, settings.out / f"{name}.{suffix}")
        print(text)
        print(f"written to {settings.out / name}.md, .json and .{suffix}")


if __name__ == "__main__":
    main()
