"""Numbers as pictures: the metrics of a run, the errors of several."""

from pathlib import Path
from typing import Any

import numpy as np

from app.pictures.canvas import save_figure, sheet


def training_curves(rows: list[dict], title: str, path: str | Path) -> None:
    """Loss, test error and effective sample size by epoch; a line where GG gives way to DG.

    rows: the rows of metrics.csv, numbers as numbers.
    """
    figure = sheet(12, 3.4)
    axes = figure.subplots(1, 3)
    epochs = [row["epoch"] for row in rows]
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    colors = {"GG": "tab:orange", "DG": "tab:blue", "joint": "tab:purple"}
    for stage in stages:
        own = [row for row in rows if row["stage"] == stage]
        x = [row["epoch"] for row in own]
        style = {"color": colors[stage], "label": stage, "marker": "."}
        # The two losses measure different things: each has an axis of its own.
        axis = axes[0] if stage == stages[0] else axes[0].twinx()
        axis.plot(x, [row["loss"] for row in own], **style)
        axis.set_ylabel(f"{stage} loss", color=colors[stage])
        axes[2].plot(x, [100 * row["ess"] for row in own], **style)
    axes[1].plot(
        epochs,
        [r["test_error"] for r in rows],
        color="0.6",
        marker=".",
        label="argmax of f",
    )
    axes[1].plot(
        epochs,
        [r["test_error_eq6"] for r in rows],
        color="k",
        marker=".",
        label="with intercepts",
    )
    for axis, name in zip(
        axes,
        ["training loss", "test error (%)", "effective sample size (% of sample)"],
        strict=True,
    ):
        axis.set(xlabel="epoch", title=name)
        axis.xaxis.get_major_locator().set_params(integer=True)
        for before, after in zip(rows, rows[1:], strict=False):
            if before["stage"] != after["stage"]:
                axis.axvline(before["epoch"] + 0.5, color="0.8", zorder=0)
        axis.spines["top"].set_visible(False)
    for axis in axes[1:]:
        axis.legend(frameon=False)
        axis.spines["right"].set_visible(False)
    if any(row["test_error"] or row["test_error_eq6"] for row in rows):
        axes[1].set_yscale("log")
    axes[1].yaxis.set_major_formatter("{x:g}")
    axes[1].yaxis.set_minor_formatter("{x:g}")
    axes[2].set_ylim(bottom=0)
    figure.suptitle(title, fontsize=10)
    save_figure(figure, path, dpi=110)


def error_plot(nets: dict, published: dict, path: str | Path) -> None:
    """For each net a dot for each seed, the mean of each column and the paper's number as lines.

    nets: {"LeNet": {"DG": [errors of the seeds], ...}}; published: {"LeNet": {"DG": error, ...}},
    or {}.
    """
    figure = sheet(4.2 * len(nets), 3.4)
    axes = figure.subplots(1, len(nets), squeeze=False)
    for axis, (net, columns) in zip(axes[0], nets.items(), strict=True):
        errors_of_net(axis, columns, published.get(net, {}), f"{net}, test error (%)")
    save_figure(figure, path, dpi=150)


def errors_of_net(axis: Any, columns: dict, published: dict, title: str) -> None:
    """error_plot for one net."""
    for place, (name, errors) in enumerate(columns.items()):
        axis.hlines(
            np.mean(errors),
            place - 0.3,
            place + 0.3,
            color="k",
            label="mean" if not place else None,
        )
        across = place + np.linspace(-0.15, 0.15, len(errors))
        axis.plot(
            across, errors, "o", color="tab:blue", ms=4, label="a seed" if not place else None
        )
        if name in published:
            axis.hlines(
                published[name],
                place - 0.3,
                place + 0.3,
                color="tab:red",
                label="paper" if not place else None,
            )
    numbers = [e for errors in columns.values() for e in errors] + list(published.values())
    room = 0.2 * (max(numbers) - min(numbers)) + 0.01 * max(numbers)
    axis.set(
        xticks=range(len(columns)),
        xticklabels=columns,
        title=title,
        ylim=(max(0, min(numbers) - room), max(numbers) + room),
    )
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8)


def errors_and_curves(errors: dict, curves: dict, title: str, path: str | Path) -> None:
    """errors_of_net, and beside it test error and effective sample size by epoch, a line for each
    column: {name: {"epoch", "error", "ess": [...]}}.
    """
    figure = sheet(12, 3.6)
    dots, by_epoch, ess = figure.subplots(1, 3, width_ratios=[1.3, 1, 1])
    errors_of_net(dots, errors, {}, title)
    dots.tick_params(axis="x", labelrotation=20)
    styles = ["-", "--", "-.", ":", (0, (3, 1, 1, 1))]  # the lines differ without colours, too
    for (name, numbers), style in zip(curves.items(), styles, strict=False):
        by_epoch.plot(numbers["epoch"], numbers["error"], ls=style, label=name)
        ess.plot(numbers["epoch"], [100 * x for x in numbers["ess"]], ls=style, label=name)
    by_epoch.set(xlabel="epoch", title="test error (%)", yscale="log")
    by_epoch.yaxis.set_major_formatter("{x:g}")
    by_epoch.yaxis.set_minor_formatter("{x:g}")
    ess.set(xlabel="epoch", title="effective sample size (% of sample)", ylim=(0, None))
    for axis in (by_epoch, ess):
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.spines[["top", "right"]].set_visible(False)
    ess.legend(frameon=False, fontsize=9)
    save_figure(figure, path, dpi=110)


def label_plot(columns: dict, path: str | Path) -> None:
    """Test error by the number of labels, a line for each column {labels: [errors]}."""
    figure = sheet(5, 3.6)
    axis = figure.subplots()
    for name, by_count in columns.items():
        means = [np.mean(errors) for errors in by_count.values()]
        spread = [np.std(errors, ddof=1) if len(errors) > 1 else 0 for errors in by_count.values()]
        axis.errorbar(list(by_count), means, spread, marker="o", ms=4, lw=1, capsize=3, label=name)
    axis.set(xscale="log", yscale="log", xlabel="labelled images", ylabel="test error (%)")
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("{x:g}")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=8)
    save_figure(figure, path, dpi=150)


def heat_maps(maps: dict, labels: np.ndarray, path: str | Path) -> None:
    """Matrices (n, K) side by side, {title: matrix}: rows are images sorted by class.

    Red is positive, blue negative; a matrix without negative numbers goes from white to black.
    """
    figure = sheet(2.6 * len(maps), 5.2)
    axes = figure.subplots(1, len(maps))
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
        figure.colorbar(picture, ax=axis, shrink=0.4)
        first = np.flatnonzero(np.diff(labels, prepend=-1))
        middle = (first + np.append(first[1:], len(labels)) - 1) / 2  # of a class's rows
        axis.set_xticks(range(matrix.shape[1]))
        axis.tick_params(labelsize=8)
        axis.set_yticks(middle, labels[first], fontsize=7)
        axis.tick_params(axis="y", length=0)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("class", fontsize=8)
        for border in first[1:]:
            axis.axhline(border - 0.5, color="0.6", lw=0.4)
    axes[0].set_ylabel("images, by their class", fontsize=8)
    save_figure(figure, path, dpi=130)
