"""Matrices of a batch as colours: images by classes."""

from pathlib import Path

import numpy as np

from app.pictures.canvas import PAGE, Figure, save_figure, sheet


def heat_maps(maps: dict, labels: np.ndarray, heading: str, path: str | Path) -> Figure:
    """Matrices (n, K) side by side, {title: matrix}: rows are images sorted by class.

    Red is positive, blue negative; a matrix without negative numbers goes from white to black.
    heading says what that means.
    """
    figure = sheet(PAGE[0], 5.4, heading)
    axes = figure.subplots(1, len(maps), sharey=True)
    for axis, (title, matrix) in zip(axes, maps.items(), strict=True):
        reach = np.abs(matrix).max()
        signed = matrix.min() < 0
        picture = axis.imshow(
            matrix,
            aspect="auto",
            interpolation="nearest",
            cmap="RdBu_r" if signed else "Greys",
            vmin=-reach if signed else 0,
            vmax=reach,
        )
        figure.colorbar(picture, ax=axis, location="bottom", aspect=12).locator.set_params(nbins=3)
        first = np.flatnonzero(np.diff(labels, prepend=-1))
        middle = (first + np.append(first[1:], len(labels)) - 1) / 2  # of a class's rows
        axis.set_xticks(range(matrix.shape[1]))
        axis.set_yticks(middle, labels[first])
        axis.tick_params(axis="y", length=0)
        axis.set(title=title, xlabel="class")
        for border in first[1:]:
            axis.axhline(border - 0.5, color="0.6", lw=0.4)
    axes[0].set_ylabel("images, by their class")
    save_figure(figure, path)
    return figure
