"""Images as a table with named rows and columns, and as a film of one."""

import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from app.files import write_whole
from app.pictures.canvas import LINE, PAGE, Figure, save_figure, sheet, width_of, wrapped

GAP, APART = 0.03, 0.15  # inches between two images, and between two blocks of columns
LARGEST = 1.6  # inches of an image's side
CONTRAST = "Contrast of each image: mean = mid-grey, 99.5 % of values between black and white."


def displayed(images: np.ndarray) -> np.ndarray:
    """Images (..., H, W, C) of any range as uint8, as CONTRAST says."""
    axes = (-3, -2, -1)
    centred = images - images.mean(axis=axes, keepdims=True)
    reach = np.quantile(np.abs(centred), 0.995, axis=axes, keepdims=True)
    shown = centred / np.maximum(reach, 1e-30) * 127.5 + 127.5
    return np.clip(np.nan_to_num(shown), 0, 255).astype(np.uint8)


def panels(image: np.ndarray) -> np.ndarray:
    """An image (H, W, C) of any range as uint8 (h, w, 3), or (h, w, 1) if it is grey.

    With any other number of channels than 1 or 3, a grey panel for each, row by row in a square.
    """
    H, W, C = image.shape
    if C in (1, 3):
        return displayed(image)
    columns = math.ceil(C**0.5)
    square = np.full(
        (math.ceil(C / columns) * (H + 1) - 1, columns * (W + 1) - 1, 1), 255, np.uint8
    )
    for c in range(C):
        top, left = c // columns * (H + 1), c % columns * (W + 1)
        square[top : top + H, left : left + W] = displayed(image[..., c : c + 1])
    return square


def coloured(image: np.ndarray) -> np.ndarray:
    """`panels` as (h, w, 3)."""
    pixels = panels(image)
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


@dataclass
class Block:
    """Columns of a table that belong together."""

    images: list  # for each row (K, H, W, C); the rows may differ in size
    columns: list[str]  # K labels
    title: str = ""


class ImageTable:
    """Rows of images, block by block, as a figure no wider than a page.

    rows: their labels. corner: what the labels of the columns count, such as "chain".
    """

    def __init__(self, blocks: list[Block], rows: list[str], corner: str, heading: str):
        self.blocks = blocks
        labels = [wrapped(row, 1.4) for row in rows]
        lines = [line for label in labels for line in label.split("\n")]
        left = 0.15 + max(map(width_of, [corner, *lines]))
        each = [len(block.columns) for block in blocks]
        room = PAGE[0] - left - APART * len(blocks)
        side = min(room / sum(each), (PAGE[1] - 1) / len(rows), LARGEST) - GAP
        width = max(0.65 * PAGE[0], PAGE[0] - room + sum(each) * (side + GAP))
        titles = [wrapped(b.title, k * (side + GAP)) for b, k in zip(blocks, each, strict=True)]
        over = max(title.count("\n") + 1 if title else 0 for title in titles) * LINE
        heading = wrapped(heading, width - 0.2)
        top = 0.1 + LINE * (heading.count("\n") + 1.8) + over + LINE
        steps = [max(side + GAP, LINE * (label.count("\n") + 1)) for label in labels]
        height = top + sum(steps) + 0.1
        self.figure = sheet(width, height, layout=None)
        axis = self.figure.add_axes((0, 0, 1, 1))
        axis.set(xlim=(0, width), ylim=(height, 0))  # in inches
        axis.axis("off")
        self.heading = axis.text(0.1, 0.1, heading, va="top", linespacing=1.3)
        axis.text(left - 0.05, top - 0.05, corner, ha="right", va="bottom", color="0.35")
        tops = top + np.cumsum([0, *steps[:-1]])
        for y, step, label in zip(tops, steps, labels, strict=True):
            axis.text(left - 0.05, y + step / 2, label, ha="right", va="center")
        self.places, x = [], left  # of the images: left, top, width, height
        for block, title in zip(blocks, titles, strict=True):
            middle = x + len(block.columns) * (side + GAP) / 2
            axis.text(middle, top - LINE - 0.07, title, ha="center", va="bottom")
            for k, column in enumerate(block.columns):
                axis.text(x + side / 2, top - 0.05, column, ha="center", va="bottom", color="0.35")
                for y, step, row in zip(tops, steps, block.images, strict=True):
                    pixels = coloured(row[k])
                    h, w = (side * n / max(pixels.shape[:2]) for n in pixels.shape[:2])
                    a, b = x + (side - w) / 2, y + (step - GAP - h) / 2
                    extent = (a, a + w, b + h, b)
                    axis.imshow(pixels, extent=extent, aspect="auto")
                    self.places.append((a, b, w, h))
                x += side + GAP
            x += APART


def image_table(
    blocks: list[Block], rows: list[str], corner: str, heading: str, path: str | Path
) -> Figure:
    """Write an ImageTable."""
    figure = ImageTable(blocks, rows, corner, f"{heading}\n{CONTRAST}").figure
    save_figure(figure, path)
    return figure


def film(frames: dict[int, np.ndarray], rows: list[str], heading: str, path: str | Path) -> None:
    """{iteration: (units, chains, H, W, C)}, as an animated GIF that rests on its last."""
    last, counter = max(frames), "iteration {:,} of {:,}"
    first = frames[min(frames)]
    chains = [str(k + 1) for k in range(first.shape[1])]
    heading = f"{heading}\n{CONTRAST}\n"
    table = ImageTable([Block(list(first), chains)], rows, "chain", heading + counter)
    above = table.heading.get_text().rsplit("\n", 1)[0]
    canvas, grey = table.figure.canvas, first.shape[-1] != 3
    for shown in table.figure.axes[0].images:
        shown.remove()  # Pillow lays images on a hundred times as fast

    def drawn(iteration):
        table.heading.set_text(f"{above}\n{counter.format(iteration, last)}")
        canvas.draw()
        picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        images = frames[iteration].swapaxes(0, 1)  # column by column
        images = images.reshape(-1, *images.shape[2:])
        for place, image in zip(table.places, images, strict=True):
            left, top, width, height = (round(100 * inches) for inches in place)
            pixels = Image.fromarray(coloured(image))
            how = Image.Resampling.NEAREST if pixels.width < width else Image.Resampling.LANCZOS
            picture.paste(pixels.resize((width, height), how), (left, top))
        if grey:  # 64 shades make a file half as large as 256
            return picture.convert("L").point(lambda shade: shade // 4 * 255 // 63)
        return picture.quantize(dither=Image.Dither.NONE)

    pictures = (drawn(iteration) for iteration in sorted(frames))
    file = io.BytesIO()
    durations = [80] * (len(frames) - 1) + [2000]
    next(pictures).save(
        file, "GIF", save_all=True, append_images=pictures, duration=durations, loop=0
    )
    write_whole(path, lambda whole: whole.write(file.getbuffer()))
