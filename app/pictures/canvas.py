"""What pictures are drawn on: matplotlib's canvas of files, whatever display there is."""

import io
import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

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


def save_with_pixels(
    figure: Figure, path: str | Path, pixels: np.ndarray, left: int = 0, top: int = 0, dots: int = 1
) -> None:
    """Write a figure of 100 pixels an inch as a PNG, with pixels (H, W, 3) laid over what is white.

    left, top: where in the figure; each pixel becomes a square of dots x dots. For the same,
    matplotlib's imshow takes ten times the memory.
    """
    figure.set_dpi(100 * dots)
    figure.canvas.draw()
    drawn = np.asarray(figure.canvas.buffer_rgba())
    H, W = pixels.shape[:2]
    part = drawn[top * dots : (top + H) * dots, left * dots : (left + W) * dots, :3]
    for y in range(dots):
        for x in range(dots):
            under = part[y::dots, x::dots]
            h, w = under.shape[:2]
            np.minimum(under, pixels[:h, :w], out=under)
    picture = io.BytesIO()
    Image.fromarray(drawn).convert("RGB").save(picture, "PNG")
    write_whole(path, lambda file: file.write(picture.getbuffer()))
