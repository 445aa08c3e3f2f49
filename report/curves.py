"""The metrics of a run as a picture."""

import io

import matplotlib

from nn.files import write_whole

matplotlib.use("Agg")
from matplotlib import pyplot as plt


def save_figure(figure, path, **options):
    """Write a figure as a whole file (in the format of the path's suffix) and close it."""
    picture = io.BytesIO()
    figure.savefig(picture, format=str(path).rsplit(".", 1)[-1], **options)
    plt.close(figure)
    write_whole(path, lambda file: file.write(picture.getvalue()))


def training_curves(rows, title, path):
    """Loss, test error and effective sample size by epoch; a line where GG gives way to DG.

    rows: the rows of metrics.csv, numbers as numbers.
    """
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    epochs = [row["epoch"] for row in rows]
    stages = list(dict.fromkeys(row["stage"] for row in rows))
    colors = {"GG": "tab:orange", "DG": "tab:blue"}
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
        ["training loss", "test error (%)", "effective sample size (% of batch)"],
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
    axes[1].set_yscale("log")
    axes[1].yaxis.set_major_formatter("{x:g}")
    axes[1].yaxis.set_minor_formatter("{x:g}")
    axes[2].set_ylim(bottom=0)
    figure.suptitle(title, fontsize=10)
    save_figure(figure, path, dpi=110)
