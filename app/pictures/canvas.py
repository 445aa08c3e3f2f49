"""What pictures are drawn on: matplotlib's canvas of files, whatever display there is."""

import io
import os
import warnings
from pathlib import Path

from app.files import write_whole

# A notebook's canvas, handed down to us, may be missing here; and matplotlib would not load.
os.environ.pop("MPLBACKEND", None)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of an older matplotlib with newer libraries
    import matplotlib
    from matplotlib import colormaps  # noqa: F401  for pictures
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

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
