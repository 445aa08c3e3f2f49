"""Figures 3 to 7: samples from the nodes of LeNet and AlexNet."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from app.files import parse_json, read_text
from app.formats.net import is_onnx
from app.formats.npz import load_npz
from app.options.visualize import parse
from app.options.visualize_settings import complete
from app.paper.errors import Report
from app.paper.jobs import Job, run_all
from app.runs.checks import is_number
from app.runs.node import load_network

LAYERS = ["conv1", "conv2", "conv3", "conv4", "conv5"]
SHOWN = {"acceptance": ".2f", "energy_error": ".2f", "score": ".4g"}  # numbers of a unit
CLASSES = {  # as on the authors' page, by ImageNet's names
    "figure6": ["goose", "hen", "ostrich", "peacock", "giant panda", "starfish", "tench", "orange"],
    "figure7": [
        "speedboat",
        "hook",
        "horse cart",
        "hourglass",
        "knot",
        "lotion",
        "lawn mower",
        "nail",
    ],
}
NO_WEIGHTS = (
    "{} needs a trained AlexNet with its fully connected layers, which is not included: --weights "
    "takes an .onnx file that any framework exported, or torchvision's AlexNet as .safetensors"
)


def sampling_job(folder: Path, settings: Any, *options: Any) -> Job:
    """A run of visualize.py."""
    common = ["--seed", 0, "--device", settings.device, "--threads", 1]
    return Job("visualize.py", [*options, *common], folder)


def given_net(settings: Any) -> list:
    """Options for the net that the user brings. ValueError if it has no scores of ImageNet."""
    net = [] if is_onnx(settings.weights) else ["--net", "alexnet-torchvision"]
    options = [*net, "--weights", settings.weights]
    load_network(complete(parse([str(word) for word in [*options, "--unit", "starfish"]])))
    return options


def result_of(job: Job) -> dict:
    """What a run found. ValueError if the file is not this run's."""
    file = job.folder / "diagnostics.json"
    result = parse_json(read_text(file), file)
    units = job.settings["unit"]
    try:
        right = result["settings"] == job.settings and is_number(result["seconds"])
        right = right and [row["unit"] for row in result["units"]] == units
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
        "| run | node | chains | acceptance | energy error | score | seconds a sample |",
        "|---|---|---|---|---|---|---|",
    ]
    for job in jobs:
        result = result_of(job)
        s = job.settings
        seconds = result["seconds"] / s["chains"] / len(s["unit"])
        for row in result["units"]:
            unit = s["class_names"].get(str(row["unit"]), row["unit"])
            cells = ["-" if row[key] is None else f"{row[key]:{how}}" for key, how in SHOWN.items()]
            start = f"| {job.folder.name} | {s['layer']} {unit} | {s['chains']} | "
            rows.append(start + " | ".join([*cells, f"{seconds:.2f} |"]))
    return rows


def report(jobs: list[Job], paper: str, differs: list[str], draw: Callable) -> Report:
    """What comes out of a figure."""
    lines = [f"The paper: {paper}."]
    lines += [line for d in differs for line in ("", f"Differs from the paper: {d}.")]
    found = {job.folder.name: result_of(job)["units"] for job in jobs}
    return [*lines, "", *as_table(jobs)], found, draw


def copy_of(job: Job, name: str) -> Callable[[Path], Any]:
    """What brings a picture of a run to its place."""
    return lambda path: shutil.copy(job.folder / name, path)


def rows_of(samples: list[np.ndarray], *labels: list, **how: Any) -> Callable[[Path], None]:
    """What draws these samples."""

    def draw(path):
        from app.pictures.images import rows_of_groups

        rows_of_groups(samples, *labels, path, **how)

    return draw


def figure3(settings: Any) -> Report:
    """The pictures of one chain, from noise on."""
    place = settings.out / "figure3"
    if settings.weights:
        options, differs = [*given_net(settings), "--unit", "starfish", "--chains", 1], []
    else:
        options = ["--unit", "0-9", "--chains", 1]
        differs = ["LeNet's ten digits, as no --weights of AlexNet are given"]
    job = sampling_job(place / "chains", settings, *options)
    run_all([job], "figure3", settings.device)
    told = "one chain on the starfish node of AlexNet, from noise on"
    return report([job], told, differs, copy_of(job, "sequence.png"))


def samples_of(job: Job) -> np.ndarray:
    """(units, chains, H, W, C). ValueError if the file is not this run's."""
    file, s = job.folder / "samples.npz", job.settings
    samples = load_npz(file).get("samples", np.empty(()))
    right = samples.shape[:2] == (len(s["unit"]), s["chains"]) and samples.ndim == 5
    if not right or samples.dtype.kind != "f":
        raise ValueError(f"{file} is not of this run: remove {job.folder} to run it anew")
    return samples


def figure4(settings: Any) -> Report:
    """Samples from LeNet's output nodes, by our settings and (without --quick) the printed ones."""
    presets = {"auto": "ours", "paper": "the paper's settings, T = 0.001"}
    chains = 10
    if settings.quick:
        presets, chains = {"auto": "ours"}, 3
    jobs = [
        sampling_job(
            settings.out / "figure4" / preset,
            settings,
            "--unit",
            "0-9",
            "--chains",
            chains,
            "--preset",
            preset,
        )
        for preset in presets
    ]
    run_all(jobs, "figure4", settings.device)
    samples = np.stack([samples_of(job) for job in jobs], axis=1)  # (10, presets, chains, ...)
    titles = [list(presets.values())] + 9 * [["" for _ in presets]]
    told = "samples of each of LeNet's ten output nodes, of varying shapes; 24 seconds a sample"
    differs = "settings of our own; with --quick the printed ones are not run"
    if not settings.quick:
        differs = (
            "settings of our own, on the reference distribution of the data; to the printed ones "
            "T = 0.001 is added, AlexNet's"
        )
    draw = rows_of(samples, list("0123456789"), titles, side=56)
    return report(jobs, told, [differs], draw)


def figure5(settings: Any) -> Report:
    """Samples from nodes of conv1 to conv5 of AlexNet."""
    place = settings.out / "figure5"
    units, chains = ("0-1", 1) if settings.quick else ("0-3", 3)
    options = ["--net", "alexnet-torchvision", "--unit", units, "--chains", chains]
    jobs = [sampling_job(place / layer, settings, *options, "--layer", layer) for layer in LAYERS]
    run_all(jobs[::-1], "figure5", settings.device)  # the longest first
    samples = [samples_of(job) for job in jobs]
    names = [[str(unit) for unit in job.settings["unit"]] for job in jobs]
    told = "samples from nodes of AlexNet's conv1 to conv5; 30 seconds a sample of conv1"
    return report(
        jobs,
        told,
        [
            "torchvision's AlexNet on a reference distribution of natural images instead of white "
            "noise; the chains begin with an ascent, at a T of our own"
        ],
        rows_of(samples, LAYERS, names),
    )


def class_samples(name: str, settings: Any) -> Report:
    names = CLASSES[name][:2] if settings.quick else CLASSES[name]
    options = [*given_net(settings), "--unit", ",".join(names)]
    job = sampling_job(settings.out / name / "chains", settings, *options)
    run_all([job], name, settings.device)
    told = "samples from AlexNet's output nodes; 12 minutes a sample"
    differs = ["our settings of the chains, and not Caffe's weights"]
    return report([job], told, differs, copy_of(job, "grid.png"))


def figure6(settings: Any) -> Report:
    """Samples from output nodes of AlexNet, for whoever brings its weights."""
    return class_samples("figure6", settings)


def figure7(settings: Any) -> Report:
    """Samples from more of them."""
    return class_samples("figure7", settings)
