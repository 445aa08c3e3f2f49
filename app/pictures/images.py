"""Samples as pictures: the grid, the sequence of figure 3, traces, a film."""

import io
import math
import textwrap
from pathlib import Path

import numpy as np
from PIL import Image

from app.files import write_whole
from app.pictures.canvas import colormaps, save_figure, save_with_pixels, sheet

GAP = 2  # pixels between two images
LARGE = 1500  # pixels: from here on a picture is as large as its images, and not twice
FILM = 1200  # pixels of a film's sides at most: of larger images, fewer are shown


def displayed(images: np.ndarray) -> np.ndarray:
    """Images (..., H, W, C) of any range as uint8, each on its own scale.

    Grey is the image's mean, and 99.5 % of its pixels lie between black and white.
    """
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


def mosaic(images: np.ndarray, zoom: int | None = None) -> np.ndarray:
    """Rows of images (R, K, H, W, C) -> one picture (.., .., 3), white between them.

    zoom: how often each pixel is repeated; by default, as often as an image stays below 84 pixels.
    """
    R, K = images.shape[:2]
    h, w, colours = panels(images[0, 0]).shape
    zoom = zoom or max(1, 84 // max(h, w))
    H, W = h * zoom + GAP, w * zoom + GAP
    picture = np.full((R * H + GAP, K * W + GAP, colours), 255, np.uint8)
    for r, k in np.ndindex(R, K):
        picture[r * H + GAP : (r + 1) * H, k * W + GAP : (k + 1) * W] = (
            panels(images[r, k]).repeat(zoom, axis=0).repeat(zoom, axis=1)
        )
    return np.broadcast_to(picture, (*picture.shape[:2], 3))


def labelled(
    images: np.ndarray,
    row_labels: list[str],
    column_labels: list[str],
    title: str,
    path: str | Path,
) -> None:
    """Rows of images (R, K, H, W, C) with labels around them, as a PNG."""
    R, K = images.shape[:2]
    picture = mosaic(images)
    height, width = picture.shape[:2]
    left = max(46, 6 + 6 * max(map(len, row_labels)))  # pixels
    lines = textwrap.wrap(title, (width + left) // 6)
    top, margin = 22 if any(column_labels) else 6, 12 + 12 * len(lines)
    figure = sheet((width + left + 6) / 100, (height + top + margin) / 100, layout=None)
    axis = figure.add_axes(
        (
            left / (width + left + 6),
            4 / (height + top + margin),
            width / (width + left + 6),
            height / (height + top + margin),
        )
    )
    axis.set(xlim=(0, width), ylim=(height, 0), facecolor="white")
    axis.set_xticks((np.arange(K) + 0.5) * width / K, column_labels, fontsize=7)
    axis.set_yticks((np.arange(R) + 0.5) * height / R, row_labels, fontsize=8)
    axis.tick_params(length=0, labeltop=True, labelbottom=False)
    axis.spines[:].set_visible(False)
    figure.text(
        0.5, 1 - 4 / (height + top + margin), "\n".join(lines), ha="center", va="top", fontsize=8
    )
    dots = 2 if max(width, height) < LARGE else 1
    save_with_pixels(figure, path, picture, left, top + margin - 4, dots)


def rows_of_groups(
    samples: list[np.ndarray],
    row_labels: list[str],
    group_labels: list[list[str]],
    path: str | Path,
    side: int = 110,
) -> None:
    """A row for each array (groups, K, H, W, C) of samples, its groups side by side, as a PNG.

    The images of a row may be of any size: all are shown as squares of `side` pixels.
    """
    rows = len(samples)
    groups, K = samples[0].shape[:2]
    left, gap = 60, 12  # pixels
    tops = [20 if any(labels) else 4 for labels in group_labels]  # above each row
    width = left + groups * (K * (side + GAP) + gap)
    height = sum(tops) + rows * (side + GAP)
    picture = np.full((height, width, 3), 255, np.uint8)
    figure = sheet(width / 100, height / 100, layout=None)
    for r, row in enumerate(samples):
        y = sum(tops[: r + 1]) + r * (side + GAP)
        figure.text(
            left / 2 / width,
            1 - (y + side / 2) / height,
            row_labels[r],
            ha="center",
            va="center",
            fontsize=10,
        )
        for g, k in np.ndindex(groups, K):
            x = left + g * (K * (side + GAP) + gap) + k * (side + GAP)
            pixels = panels(row[g, k])
            small = len(pixels) < side
            pixels = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
            image = Image.fromarray(pixels).resize(
                (side, side), Image.NEAREST if small else Image.LANCZOS
            )
            picture[y : y + side, x : x + side] = np.asarray(image)
            if k == 0:
                figure.text(
                    x / width, 1 - (y - 3) / height, group_labels[r][g], va="bottom", fontsize=7
                )
    save_with_pixels(figure, path, picture)


def traces(
    score: np.ndarray,
    energy: np.ndarray,
    probability: np.ndarray,
    units: list[int],
    warm_up: int,
    title: str,
    path: str | Path,
) -> None:
    """Score and energy of every chain, mean acceptance of every unit, by iteration.

    score and energy (units, chains, iterations + 1), probability (units, chains, iterations).
    """
    figure = sheet(12, 3.4)
    axes = figure.subplots(1, 3)
    colors = colormaps["turbo"](np.linspace(0.05, 0.95, len(units)))
    for u, color in zip(range(len(units)), colors, strict=True):
        axes[0].plot(score[u].T, color=color, lw=0.6)
        axes[1].plot(energy[u].T, color=color, lw=0.6)
        iterations = np.arange(1, probability.shape[2] + 1)
        window = max(1, len(iterations) // 50)  # a running mean over a fiftieth of the run
        mean = np.convolve(probability[u].mean(axis=0), np.ones(window) / window, "valid")
        axes[2].plot(iterations[window - 1 :], mean, color=color, lw=1, label=str(units[u]))
    for axis, name in zip(axes, ["score f", "energy U", "acceptance"], strict=True):
        axis.set(xlabel="iteration", title=name)
        axis.spines[["top", "right"]].set_visible(False)
        if warm_up:
            axis.axvspan(0, warm_up, color="0.93", zorder=0)
    late = energy[..., energy.shape[2] // 10 :]  # the first fall would hide all that follows
    low, high = np.quantile(late[np.isfinite(late)], [0, 0.999])
    axes[1].set_ylim(low - 0.1 * (high - low) - 1e-9, high + 0.3 * (high - low) + 1e-9)
    axes[2].set_ylim(0, 1.05)
    if 1 < len(units) <= 20:
        axes[2].legend(frameon=False, fontsize=7, ncols=2, title="unit", title_fontsize=7)
    if warm_up:
        axes[0].text(
            0.98,
            0.03,
            "grey: warm-up",
            transform=axes[0].transAxes,
            ha="right",
            va="bottom",
            fontsize=7,
        )
    figure.suptitle(title, fontsize=9)
    save_figure(figure, path, dpi=110)


def film(frames: list[np.ndarray], path: str | Path) -> None:
    """frames: a sequence of (R, K, H, W, C), as an animated GIF that rests on its last."""
    h, w, _ = panels(frames[0][0, 0]).shape
    rows, columns = (max(1, FILM // (side + GAP)) for side in (h, w))
    frames = [frame[:rows, :columns] for frame in frames]
    rows, columns = frames[0].shape[:2]
    zoom = max(1, min(84 // max(h, w), 600 // max(rows * h, columns * w)))
    pictures = (Image.fromarray(mosaic(frame, zoom)) for frame in frames)
    first, others = next(pictures), pictures
    file = io.BytesIO()
    durations = [80] * (len(frames) - 1) + [2000]
    first.save(file, "GIF", save_all=True, append_images=others, duration=durations, loop=0)
    write_whole(path, lambda whole: whole.write(file.getbuffer()))
