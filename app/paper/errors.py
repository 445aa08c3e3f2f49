"""Test errors of runs of train.py, one for each seed, and how much two kinds of run differ."""

import csv
import io
import math
import statistics
from collections.abc import Callable
from itertools import takewhile
from pathlib import Path
from typing import Any

from app.files import read_text
from app.paper.jobs import Job, by_turns, run_all

Report = tuple[list[str], dict, Callable[[Path], None]]  # Markdown, all numbers, what draws them


def training_job(folder: Path, settings: Any, seed: int, *options: Any) -> Job:
    """A run of train.py. Several run side by side: one thread each is faster than sharing."""
    common = ["--seed", seed, "--device", settings.device, "--threads", 1]
    data = ["--data", settings.data] if settings.data else []
    return Job("train.py", [*options, *data, *common], folder)


def history(job: Job) -> dict[str, list[float]]:
    """{"epoch", "error", ...: a number for each epoch} of a finished run.

    error: of the classifier of Eq. 6, in percent; error of f: without the intercepts; ess: a share
    of the sample from q; seconds.
    """
    file, epochs = job.folder / "metrics.csv", job.settings["epochs"]
    columns = {"epoch": "epoch", "error": "test_error_eq6", "error of f": "test_error"}
    columns |= {"ess": "ess", "seconds": "seconds"}
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(file))))
        found = {name: [float(row[column]) for row in rows] for name, column in columns.items()}
    except (ValueError, LookupError, TypeError, csv.Error):
        found = {"epoch": []}
    sound = found["epoch"] == list(range(1, epochs + 1)) and all(
        0 <= number <= most
        for name, most in (("error", 100), ("error of f", 100), ("ess", 1.001), ("seconds", 1e9))
        for number in found[name]
    )
    if not sound:
        raise ValueError(
            f"{file} does not end with the test error of epoch {epochs}: remove {job.folder} to "
            "run it anew"
        )
    return found


def error(job: Job) -> float:
    """The test error (%) after the last epoch."""
    return history(job)["error"][-1]


def finished(jobs: dict[Any, list[Job]], title: str, settings: Any) -> dict[Any, list[Job]]:
    """Run all jobs, {place in the table: [a job for each seed]}; or, with --so-far, none: then each
    place has the seeds that are finished, up to the first that is not.
    """
    if not settings.so_far:
        run_all(by_turns(jobs.values()), title, settings.device)
        return jobs
    for group in jobs.values():
        for job in group:
            job.check_settings()
    found = {place: list(takewhile(Job.finished, group)) for place, group in jobs.items()}
    if not any(found.values()):
        raise ValueError(
            f"no run of {title} is finished under {settings.out}: begin without --so-far"
        )
    return found


def measure(jobs: dict, title: str, settings: Any) -> dict:
    """{row: {column: [an error for each seed]}} of {(row, column): [a job for each seed]}."""
    found = {}
    for (row, column), group in finished(jobs, title, settings).items():
        if group:
            found.setdefault(row, {})[column] = [error(job) for job in group]
    return found


def mean_and_sd(errors: list[float]) -> tuple[float, float]:
    spread = statistics.stdev(errors) if len(errors) > 1 else math.nan
    return statistics.mean(errors), spread


def cell(errors: list[float]) -> str:
    """Mean and standard deviation over the seeds, as text."""
    if not errors:
        return ""
    mean, spread = mean_and_sd(errors)
    return f"{mean:.2f}" + (f" ± {spread:.2f}" if len(errors) > 1 else "")


def paired(errors: list[float], others: list[float]) -> tuple[float, float]:
    """Mean of the differences errors - others, seed by seed, and its standard error (nan for one
    seed). Runs of one seed start alike and see the same images, so much of what a seed does to an
    error is in both and drops out.
    """
    differences = [a - b for a, b in zip(errors, others, strict=True)]
    mean, spread = mean_and_sd(differences)
    return mean, spread / math.sqrt(len(differences))


def comparison(errors: list[float], others: list[float], name="GG+DG", other="DG") -> str:
    """How many standard errors lie between two columns, in words."""
    mean, standard_error = paired(errors, others)
    if mean == 0:
        return f"{name} is equal to {other}: {statistics.mean(errors):.2f}"
    where = "below" if mean < 0 else "above"
    if len(errors) < 2:
        return f"{name} is {abs(mean):.2f} {where} {other}, one seed"
    times = abs(mean) / standard_error if standard_error else math.inf
    return (
        f"{name} is {abs(mean):.3f} ± {standard_error:.3f} {where} {other}: {times:.1f} standard "
        f"errors of the paired differences, {len(errors)} seeds"
    )


def comparisons(columns: dict[str, list[float]]) -> list[str]:
    """Each column beside DG's, GG+DG beside its control DG+DG, and others than the four modes of
    table 1 beside GG+DG, by the seeds that both have.
    """
    pairs = [(name, "DG") for name in columns if name != "DG"]
    pairs += [(name, "DG+DG") for name in columns if name.startswith("GG+DG")]
    pairs += [(name, "GG+DG") for name in columns if name not in ("DG", "DG+DG", "GG", "GG+DG")]
    found = []
    for name, other in pairs:
        errors, others = columns[name], columns.get(other, [])
        both = min(len(errors), len(others))
        if both:
            found.append(f"{comparison(errors[:both], others[:both], name, other)}.")
    return found
