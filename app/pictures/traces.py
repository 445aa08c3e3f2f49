"""How chains went: score, energy and acceptance by iteration, a row of panels for each unit."""

from itertools import cycle
from pathlib import Path

import numpy as np

from app.pictures.canvas import COLOURS, PAGE, Figure, save_figure, sheet, wrapped

MOST = 10  # units of a picture, and lines of a panel
STYLES = ["-"] * len(COLOURS) + ["--"] * (MOST - len(COLOURS))


def traces(
    score: np.ndarray,
    energy: np.ndarray,
    probability: np.ndarray | None,
    rows: list[str],
    warm_up: int,
    heading: str,
    path: str | Path,
) -> Figure:
    """A line for each chain of score and energy, and the mean acceptance of a unit's chains.

    score and energy (units, chains, iterations + 1), probability (units, chains, iterations); None
    where nothing is accepted or rejected, as in an ascent. rows: the units' names.
    """
    names = ["score f", "energy U (not its first fall)"] + ["acceptance (mean)"] * (
        probability is not None
    )
    each = min(1.9, (PAGE[1] - 1) / len(rows))
    if warm_up:
        heading += "\nGrey: the warm-up, in which the step sizes are found."
    figure = sheet(PAGE[0], each * len(rows) + 0.5, heading)
    axes = figure.subplots(len(rows), len(names), squeeze=False, sharex=True)
    for u, row in enumerate(axes):
        for axis, chains in zip(row, (score[u], energy[u]), strict=False):
            for color, style, chain in zip(cycle(COLOURS), STYLES, chains, strict=False):
                axis.plot(chain, color=color, ls=style, lw=0.7)
        late = energy[u, :, energy.shape[2] // 10 :]  # the first fall would hide all that follows
        late = late[np.isfinite(late)]
        if len(late):
            low, high = np.quantile(late, [0, 0.999])
            row[1].set_ylim(low - 0.1 * (high - low) - 1e-9, high + 0.3 * (high - low) + 1e-9)
        if probability is not None:
            window = max(1, probability.shape[2] // 50)  # a running mean over a fiftieth of the run
            mean = np.convolve(probability[u].mean(axis=0), np.ones(window) / window, "valid")
            row[2].plot(np.arange(len(mean)) + window, mean, color="k", lw=1)
            row[2].set(ylim=(0, 1.05), yticks=(0, 0.5, 1))
        row[0].set_ylabel(wrapped(rows[u], each - 0.3))
        for axis in row:
            axis.locator_params(axis="x", nbins=4, integer=True)
            if axis.get_ylim() != (0, 1.05):
                axis.locator_params(axis="y", nbins=3)
            if warm_up:
                axis.axvspan(0, warm_up, color="0.92", zorder=0)
    for axis, name in zip(axes[0], names, strict=True):
        axis.set_title(name)
    for axis in axes[-1]:
        axis.set_xlabel("iteration")
    figure.align_ylabels(axes[:, 0])
    save_figure(figure, path)
    return figure
