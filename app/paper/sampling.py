"""Runs of visualize.py for a figure: what is asked, what came out, and its table and picture."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from app.files import parse_json, read_text
from app.formats.npz import load_npz
from app.paper.errors import Report
from app.paper.jobs import Job
from app.pictures.of_runs import reference_and_heat
from app.runs.checks import is_number
from app.runs.node import STAGES, growing

SHOWN = {"acceptance": ".2f", "energy_error": ".2f", "score": ".4g"}  # numbers of a unit


def sampling_job(folder: Path, settings: Any, *options: Any) -> Job:
    """A run of visualize.py."""
    common = ["--seed", 0, "--device", settings.device, "--threads", 1]
    return Job("visualize.py", [*options, *common], folder)


def beside(settings: Any, folder: Path, options: list, *references: str) -> dict[str, Job]:
    """The same nodes with one reference distribution and with another, each as suits it."""
    return {
        reference: sampling_job(
            folder.with_name(f"{folder.name}-{reference}"),
            settings,
            *options,
            "--reference",
            reference,
        )
        for reference in references
    }


def result_of(job: Job) -> dict:
    """What a run found. ValueError if the file is not this run's."""
    file = job.folder / "diagnostics.json"
    result = parse_json(read_text(file), file)
    units = job.settings["unit"]
    try:
        right = result["settings"] == job.settings and is_number(result["seconds"])
        right = right and [row["unit"] for row in result["units"]] == units
        right = right and all(type(row["judgement"]) is str for row in result["units"])
        right = right and all(
            row[name] is None or is_number(row[name]) for row in result["units"] for name in SHOWN
        )
    except (LookupError, TypeError):
        right = False
    if not right:
        raise ValueError(f"{file} is not of this run: remove {job.folder} to run it anew")
    return result


def as_table(jobs: list[Job]) -> list[str]:
    """What the runs found, as the rows of a Markdown table."""
    rows = [
        "| run | node | chains | acceptance | energy error | score | seconds a chain | judgement |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for job in jobs:
        result = result_of(job)
        s = job.settings
        seconds = result["seconds"] / s["chains"] / len(s["unit"])
        for row in result["units"]:
            unit = s["class_names"].get(str(row["unit"]), row["unit"])
            cells = ["-" if row[key] is None else f"{row[key]:{how}}" for key, how in SHOWN.items()]
            start = f"| {job.folder.name} | {s['layer']} {unit} | {s['chains']} | "
            rows.append(start + " | ".join([*cells, f"{seconds:.2f}", f"{row['judgement']} |"]))
    return rows


def report(jobs: list[Job], paper: str, differs: list[str], draw: Callable) -> Report:
    """What comes out of a figure."""
    lines = [f"The paper: {paper}."]
    lines += [line for d in differs for line in ("", f"Differs from the paper: {d}.")]
    found = {job.folder.name: result_of(job)["units"] for job in jobs}
    return [*lines, "", *as_table(jobs)], found, draw


def arrays_of(job: Job, name: str) -> dict:
    """The arrays of a run's file. ValueError names it if they are not this run's."""
    found, s = load_npz(job.folder / name), job.settings
    if name == "samples.npz":
        found, chains = {0: found.get("samples")}, s["chains"]
    else:
        stages = growing(s["iterations"], STAGES)
        found, chains = {i: found.get(f"frame/{i}") for i in stages}, 1
    for array in found.values():
        right = getattr(array, "ndim", 0) == 5 and array.dtype.kind == "f"
        if not right or array.shape[:2] != (len(s["unit"]), chains):
            raise ValueError(
                f"{job.folder / name} is not of this run: remove {job.folder} to run it anew"
            )
    return found


def samples_of(job: Job) -> np.ndarray:
    """(units, chains, H, W, C)."""
    return arrays_of(job, "samples.npz")[0]


def growth_of(job: Job) -> dict[int, np.ndarray]:
    """{iteration: (units, H, W, C)} of each unit's first chain."""
    return {i: frames[:, 0] for i, frames in arrays_of(job, "checkpoint.npz").items()}


def titled(job: Job) -> str:
    """A run's reference distribution, as the title of its block."""
    return reference_and_heat(job.settings).replace(", ", "\n", 1)


def chains_block(job: Job, title: str) -> tuple:
    """The last images of a run: a row for each unit, a column for each chain."""
    samples = samples_of(job)
    return list(samples), [str(k + 1) for k in range(samples.shape[1])], title


def table_of(
    blocks: list[tuple], rows: list[str], corner: str, heading: str
) -> Callable[[Path], None]:
    """What draws an image table of blocks (images, labels of the columns, title)."""

    def draw(path):
        from app.pictures.images import Block, image_table

        image_table([Block(*block) for block in blocks], rows, corner, heading, path)

    return draw
