"""What pictures are drawn on: a page's width, letters that can be read, colours for every eye."""

import io
import os
import textwrap
import warnings
from pathlib import Path

from app.files import write_whole

# A notebook's canvas, handed down to us, may be missing here; and matplotlib would not load.
os.environ.pop("MPLBACKEND", None)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of an older matplotlib with newer libraries
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties
    from matplotlib.ticker import LogLocator, NullLocator

PAGE = 7.0, 9.5  # inches: what is printed on a page of A4 between its margins
LETTERS = 9  # points: the size of all text
LINE = 1.3 * LETTERS / 72  # inches from line to line
DOTS = 200  # pixels an inch, where there are pixels
# Okabe and Ito's colours, which people with any colour vision tell apart, without their yellow.
COLOURS = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"

matplotlib.rcdefaults()  # not those of the user, who may have asked for LaTeX
matplotlib.rcParams.update(
    {
        "text.parse_math": False,  # a file's name with a dollar is no formula
        "font.size": LETTERS,
        "axes.formatter.use_mathtext": False,
        "axes.prop_cycle": matplotlib.cycler(color=COLOURS),
        "axes.spines.right": False,
        "axes.spines.top": False,
        "legend.frameon": False,
        "pdf.fonttype": 42,  # text stays text
        "svg.fonttype": "none",
    }
    | {f"{part}.labelsize": LETTERS for part in ("axes", "xtick", "ytick")}
    | dict.fromkeys(("axes.titlesize", "figure.titlesize"), LETTERS)
    | dict.fromkeys(("legend.fontsize", "legend.title_fontsize"), LETTERS)
)


def sheet(
    width: float, height: float, heading: str = "", layout: str | None = "constrained"
) -> Figure:
    """An empty figure of so many inches, and a heading above it that is no wider."""
    lines = wrapped(heading, width - 0.2)
    height += LINE * (lines.count("\n") + 1) if lines else 0
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    if lines:
        figure.suptitle(lines, x=0.1 / width, ha="left")
    return figure


def width_of(line: str) -> float:
    """Of a line of text, in inches."""
    renderer = RendererAgg(1, 1, 72)
    return renderer.get_text_width_height_descent(line, FontProperties(size=LETTERS), False)[0] / 72


def wrapped(text: str, inches: float) -> str:
    """A text in lines that are no wider."""
    letters = max(1, int(inches * 72 / LETTERS * 2.5))
    while True:
        lines = [line for part in text.split("\n") for line in textwrap.wrap(part, letters)]
        if letters == 1 or all(width_of(line) <= inches for line in lines):
            return "\n".join(lines)
        letters -= 1


def log_scale(axes: Axes, digits: tuple) -> None:
    """A logarithmic y axis with labels at these first digits, and nothing between them."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=digits))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")


def save_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure as a whole file, in the format of the path's suffix."""
    picture = io.BytesIO()
    figure.savefig(picture, format=str(path).rsplit(".", 1)[-1], dpi=DOTS)
    write_whole(path, lambda file: file.write(picture.getbuffer()))
