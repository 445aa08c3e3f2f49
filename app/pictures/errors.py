"""Test errors of several seeds: tables 1 to 3 as pictures."""

from pathlib import Path
from typing import Any

import numpy as np

from app.pictures.canvas import COLOURS, PAGE, Figure, log_scale, save_figure, sheet

MARKERS = "osD^v"


def spread(errors: list[float]) -> float:
    """The standard deviation over seeds, 0 of a single one."""
    return float(np.std(errors, ddof=1)) if len(errors) > 1 else 0.0


def seeds(counts: set[int]) -> str:
    """How many trainings are behind a mean, in words."""
    least, most = min(counts), max(counts)
    if most == 1:
        return "n = 1 seed"
    n = f"n = {most}" if least == most else f"n = {least} to {most}"
    return f"mean and standard deviation of {n} seeds"


def error_plot(nets: dict, published: dict, path: str | Path) -> Figure:
    """For each net a dot for each seed, mean and spread of each column and the paper's number.

    nets: {"LeNet": {"DG": [errors of the seeds], ...}}; published: {"LeNet": {"DG": error, ...}},
    or {}.
    """
    counts = {len(errors) for columns in nets.values() for errors in columns.values()}
    figure = sheet(PAGE[0] if len(nets) > 1 else 5, 3.2, f"Test error in percent; {seeds(counts)}")
    axes = figure.subplots(1, len(nets), squeeze=False)
    for axis, (net, columns) in zip(axes[0], nets.items(), strict=True):
        errors_of_net(axis, columns, published.get(net, {}))
        axis.set_title(net)
    axes[0, 0].set_ylabel("test error (%)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    save_figure(figure, path)
    return figure


def errors_of_net(axis: Any, columns: dict, published: dict) -> None:
    """error_plot for one net."""
    for place, (name, errors) in enumerate(columns.items()):
        first = {} if place else {"label": "mean and spread"}
        dots = {} if place else {"label": "a seed"}
        across = place - 0.1 + np.linspace(-0.1, 0.1, len(errors))
        axis.plot(across, errors, "o", color=COLOURS[0], ms=4, **dots)
        axis.errorbar(
            place + 0.2, np.mean(errors), spread(errors), fmt="_k", ms=12, capsize=4, **first
        )
        if name in published:
            paper = {} if place else {"label": "the paper"}
            ends = place - 0.35, place + 0.35
            axis.hlines(published[name], *ends, color=COLOURS[1], ls="--", **paper)
    numbers = [e for errors in columns.values() for e in errors] + list(published.values())
    room = 0.2 * (max(numbers) - min(numbers)) + 0.01 * max(numbers)
    axis.set(
        xticks=range(len(columns)),
        xticklabels=[f"{name}\nn = {len(errors)}" for name, errors in columns.items()],
        ylim=(max(0, min(numbers) - room), max(numbers) + room),
    )


def errors_and_curves(errors: dict, curves: dict, net: str, path: str | Path) -> Figure:
    """error_plot of one net, and test error and effective sample size by epoch below it.

    errors: {name: [errors of the seeds]}; curves: {name: {"epoch", "error", "ess": [...]}}. All
    last errors are in the frame; errors of the first epochs may lie above it.
    """
    heading = f"{net}: test error in percent; {seeds({len(found) for found in errors.values()})}"
    figure = sheet(PAGE[0], 6.2, f"{heading}. Below, by epoch, the mean over seeds")
    above, below = figure.subfigures(2, 1, height_ratios=(1, 1.3))
    dots = above.subplots()
    errors_of_net(dots, errors, {})
    dots.set_ylabel("test error (%)")
    above.legend(*dots.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    by_epoch, ess = below.subplots(1, 2, width_ratios=(1.7, 1))
    lowest = min(min(numbers["error"]) for numbers in curves.values())
    highest = max(numbers["error"][-1] for numbers in curves.values())  # after the last epoch
    for i, (name, numbers) in enumerate(curves.items()):
        style = {"marker": MARKERS[i % len(MARKERS)], "ms": 3, "lw": 1, "label": name}
        style["markevery"] = (i % 3, 3)  # not all at the same epochs
        by_epoch.plot(numbers["epoch"], numbers["error"], **style)
        ess.plot(numbers["epoch"], [100 * share for share in numbers["ess"]], **style)
    by_epoch.set_title("test error (%)")
    by_epoch.set_ylim(0.97 * lowest, max(1.6 * lowest, 1.05 * highest, 1))
    ess.set_title("effective sample size\n(% of the sample)")
    ess.set_ylim(bottom=0)
    for axis in (by_epoch, ess):
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
    below.legend(*ess.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    save_figure(figure, path)
    return figure


def label_plot(columns: dict, path: str | Path) -> Figure:
    """Test error by the number of labels, a line for each column {labels: [errors]}."""
    counts = {len(errors) for column in columns.values() for errors in column.values()}
    figure = sheet(0.8 * PAGE[0], 3.6, f"Test error by the number of labels; {seeds(counts)}")
    axis = figure.subplots()
    for i, (name, by_count) in enumerate(columns.items()):
        places = [count * 1.04 ** (i - (len(columns) - 1) / 2) for count in by_count]
        means = [np.mean(errors) for errors in by_count.values()]
        deviations = [spread(errors) for errors in by_count.values()]
        marker = MARKERS[i % len(MARKERS)]
        axis.errorbar(places, means, deviations, marker=marker, ms=4, lw=1, capsize=3, label=name)
    axis.set(xscale="log", ylabel="test error (%)")
    axis.set_xlabel("labelled images (lines are shifted a little, to see their bars)")
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.xaxis.set_minor_formatter("")
    log_scale(axis, (1, 2, 3, 5))
    axis.legend()
    save_figure(figure, path)
    return figure
