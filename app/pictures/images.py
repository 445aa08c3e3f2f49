"""Samples as pictures: the grid, the sequence of figure 3, traces, a film."""

import io
import textwrap

import numpy as np

from app.files import write_whole
from app.pictures.curves import plt, save_figure

GAP = 2  # pixels between two images


def displayed(images):
    """Images (..., H, W, C) of any range as uint8, each on its own scale.

    Grey is the image's mean, and 99.5 % of its pixels lie between black and white.
    """
    axes = (-3, -2, -1)
    centred = images - images.mean(axis=axes, keepdims=True)
    reach = np.quantile(np.abs(centred), 0.995, axis=axes, keepdims=True)
    shown = centred / np.maximum(reach, 1e-30) * 127.5 + 127.5
    return np.clip(np.nan_to_num(shown), 0, 255).astype(np.uint8)


def mosaic(images, zoom):
    """Rows of images (R, K, H, W, C) -> one picture (.., .., 3), white between them."""
    R, K, H, W, C = images.shape
    picture = np.full((R * (H * zoom + GAP) + GAP, K * (W * zoom + GAP) + GAP, C), 255, np.uint8)
    for r, k in np.ndindex(R, K):
        top, left = GAP + r * (H * zoom + GAP), GAP + k * (W * zoom + GAP)
        picture[top : top + H * zoom, left : left + W * zoom] = (
            displayed(images[r, k]).repeat(zoom, axis=0).repeat(zoom, axis=1)
        )
    return picture.repeat(3, axis=-1) if C == 1 else picture[..., :3]


def labelled(images, row_labels, column_labels, title, path):
    """Rows of images (R, K, H, W, C) with labels around them, as a PNG."""
    R, K, H, W, _ = images.shape
    picture = mosaic(images, zoom=max(1, 84 // max(H, W)))
    height, width = picture.shape[:2]
    left = max(46, 6 + 6 * max(map(len, row_labels)))  # pixels
    lines = textwrap.wrap(title, (width + left) // 6)
    top, margin = 22 if any(column_labels) else 6, 12 + 12 * len(lines)
    figure = plt.figure(figsize=((width + left + 6) / 100, (height + top + margin) / 100))
    axis = figure.add_axes(
        (
            left / (width + left + 6),
            4 / (height + top + margin),
            width / (width + left + 6),
            height / (height + top + margin),
        )
    )
    axis.imshow(picture, interpolation="nearest", aspect="auto")
    axis.set_xticks((np.arange(K) + 0.5) * width / K, column_labels, fontsize=7)
    axis.set_yticks((np.arange(R) + 0.5) * height / R, row_labels, fontsize=8)
    axis.tick_params(length=0, labeltop=True, labelbottom=False)
    axis.spines[:].set_visible(False)
    figure.text(
        0.5, 1 - 4 / (height + top + margin), "\n".join(lines), ha="center", va="top", fontsize=8
    )
    save_figure(figure, path, dpi=200)


def rows_of_groups(samples, row_labels, group_labels, path, side=110):
    """A row for each array (groups, K, H, W, C) of samples, its groups side by side, as a PNG.

    The images of a row may be of any size: all are shown as squares of `side` pixels.
    """
    from PIL import Image  # comes with matplotlib

    rows = len(samples)
    groups, K = samples[0].shape[:2]
    left, gap = 60, 12  # pixels
    tops = [20 if any(labels) else 4 for labels in group_labels]  # above each row
    width = left + groups * (K * (side + GAP) + gap)
    height = sum(tops) + rows * (side + GAP)
    picture = np.full((height, width, 3), 255, np.uint8)
    figure = plt.figure(figsize=(width / 100, height / 100))
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
            small = row.shape[2] < side
            pixels = displayed(row[g, k])
            pixels = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
            image = Image.fromarray(pixels).resize(
                (side, side), Image.NEAREST if small else Image.LANCZOS
            )
            picture[y : y + side, x : x + side] = np.asarray(image)
            if k == 0:
                figure.text(
                    x / width, 1 - (y - 3) / height, group_labels[r][g], va="bottom", fontsize=7
                )
    axis = figure.add_axes((0, 0, 1, 1), zorder=-1)
    axis.imshow(picture, interpolation="nearest", aspect="auto")
    axis.set_axis_off()
    save_figure(figure, path, dpi=100)


def traces(score, energy, probability, units, warm_up, title, path):
    """Score and energy of every chain, mean acceptance of every unit, by iteration.

    score and energy (units, chains, iterations + 1), probability (units, chains, iterations).
    """
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    colors = plt.cm.turbo(np.linspace(0.05, 0.95, len(units)))
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


def film(frames, path):
    """frames: a sequence of (R, K, H, W, C), as an animated GIF that rests on its last."""
    from PIL import Image  # comes with matplotlib

    rows, columns, height, width = frames[0].shape[:4]
    zoom = max(1, min(84 // max(height, width), 600 // max(rows * height, columns * width)))
    pictures = [Image.fromarray(mosaic(frame, zoom)) for frame in frames]
    file = io.BytesIO()
    durations = [80] * (len(pictures) - 1) + [2000]
    pictures[0].save(
        file, "GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0
    )
    write_whole(path, lambda whole: whole.write(file.getvalue()))
