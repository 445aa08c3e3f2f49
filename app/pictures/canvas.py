"""What pictures are drawn on: matplotlib's canvas of files, whatever display there is."""

import io
import os
from pathlib import Path

# A notebook's canvas, handed down to us, may be missing here; and matplotlib would not load.
os.environ.pop("MPLBACKEND", None)

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from app.files import write_whole

matplotlib.rcdefaults()  # not those of the user, who may have asked for LaTeX
matplotlib.rcParams["text.parse_math"] = False  # a file's name with a dollar is no formula


def sheet(width: float, height: float, layout: str | None = "constrained") -> Figure:
    """An empty figure of so many inches."""
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: str | Path, dpi: int) -> None:
    """Write a figure as a whole file, in the format of the path's suffix."""
    picture = io.BytesIO()
    figure.savefig(picture, format=str(path).rsplit(".", 1)[-1], dpi=dpi)
    write_whole(path, lambda file: file.write(picture.getbuffer()))
