"""A training as a picture: its metrics by epoch."""

from pathlib import Path

from app.pictures.canvas import COLOURS, PAGE, Figure, log_scale, save_figure, sheet

STAGES = {"GG": COLOURS[1], "DG": COLOURS[0], "joint": COLOURS[2]}


def training_curves(rows: list[dict], heading: str, path: str | Path) -> Figure:
    """Loss of each stage, test error and effective sample size by epoch.

    rows: the rows of metrics.csv, numbers as numbers. The two losses measure different things:
    each has a panel of its own.
    """
    stages = {s: [row for row in rows if row["stage"] == s] for s in STAGES}
    stages = {stage: own for stage, own in stages.items() if own}
    if len(stages) > 1:
        heading += ". Grey line: GG gives way to DG"
    figure = sheet(PAGE[0], 4.8 if len(stages) > 1 else 2.4, heading)
    axes = figure.subplots(*((2, 2) if len(stages) > 1 else (1, 3))).ravel()
    for axis, (stage, own) in zip(axes, stages.items(), strict=False):
        axis.plot([r["epoch"] for r in own], [r["loss"] for r in own], ".-", color=STAGES[stage])
        axis.set_title(f"{stage} loss on training images")
    *_, error, ess = axes
    epochs = [row["epoch"] for row in rows]
    for name, label, color in (
        ("test_error", "argmax of the scores", "0.6"),
        ("test_error_eq6", "with intercepts (Eq. 6)", "k"),
    ):
        error.plot(epochs, [row[name] for row in rows], ".-", color=color, label=label)
    error.set_title("test error (%)")
    error.legend(frameon=True, framealpha=1, edgecolor="white")
    found = [row[name] for row in rows for name in ("test_error", "test_error_eq6") if row[name]]
    if found and max(found) > 3 * min(found):
        log_scale(error, (1, 1.5, 2, 3, 4, 5, 7) if max(found) < 10 * min(found) else (1, 2, 5))
    for stage, own in stages.items():
        numbers = [100 * row["ess"] for row in own]
        ess.plot([r["epoch"] for r in own], numbers, ".-", color=STAGES[stage], label=stage)
    ess.set_title("effective sample size\n(% of the sample)")
    ess.set_ylim(bottom=0)
    ess.legend()
    for axis in axes:
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
    for before, after in zip(rows, rows[1:], strict=False):
        if before["stage"] != after["stage"]:
            for axis in (error, ess):
                axis.axvline(before["epoch"] + 0.5, color="0.7", zorder=0)
    save_figure(figure, path)
    return figure


def sampled_curves(rows: list[dict], heading: str, path: str | Path) -> Figure:
    """Gap, test error, acceptance and step size by epoch, of --mode samples."""
    figure = sheet(PAGE[0], 4.8, heading)
    epochs = [row["epoch"] for row in rows]
    panels = {
        "f of images less f of chains": {"gap": None},
        "test error (%)": {
            "test_error": "argmax of the scores",
            "test_error_eq6": "with intercepts (Eq. 6)",
        },
        "acceptance of the chains": {"acceptance": None},
        "step size of the chains": {"step_size": None},
    }
    for axis, (title, lines) in zip(figure.subplots(2, 2).ravel(), panels.items(), strict=True):
        for color, (column, label) in zip(COLOURS, lines.items(), strict=False):
            axis.plot(epochs, [row[column] for row in rows], ".-", color=color, label=label)
        axis.set(xlabel="epoch", title=title)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.set_ylim(bottom=min(0, axis.get_ylim()[0]))
        if len(lines) > 1:
            axis.legend()
    save_figure(figure, path)
    return figure
