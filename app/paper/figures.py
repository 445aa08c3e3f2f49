"""Figures 3 to 7: samples from the nodes of LeNet and AlexNet."""

import json
import shutil

import numpy as np

from app.formats.net import is_onnx
from app.formats.npz import load_npz
from app.options.visualize import parse
from app.options.visualize_settings import complete
from app.paper.jobs import Job, run_all
from app.pictures.images import rows_of_groups
from app.runs.node import load_network

LAYERS = ["conv1", "conv2", "conv3", "conv4", "conv5"]
LONGER = dict.fromkeys(("conv4", "conv5"), ["--iterations", 400])
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


def sampling_job(folder, settings, *options):
    """A run of visualize.py."""
    common = ["--seed", 0, "--device", settings.device, "--threads", 1]
    return Job("visualize.py", [*options, *common], folder)


def given_net(settings):
    """Options for the net that the user brings. ValueError if it has no scores of ImageNet."""
    net = [] if is_onnx(settings.weights) else ["--net", "alexnet-torchvision"]
    options = [*net, "--weights", settings.weights]
    load_network(complete(parse([str(word) for word in [*options, "--unit", "starfish"]])))
    return options


def result_of(job):
    return json.loads((job.folder / "diagnostics.json").read_text())


def as_table(jobs):
    """What the runs found, as the rows of a Markdown table."""
    rows = [
        "| run | node | chains | acceptance | energy error | score | seconds a sample |",
        "|---|---|---|---|---|---|---|",
    ]
    for job in jobs:
        result = result_of(job)
        s = result["settings"]
        seconds = result["seconds"] / s["chains"] / len(s["unit"])
        for row in result["units"]:
            unit = s["class_names"].get(str(row["unit"]), row["unit"])
            rows.append(
                f"| {job.folder.name} | {s['layer']} {unit} | {s['chains']} "
                f"| {row['acceptance']:.2f} | {row['energy_error']:.2f} "
                f"| {row['score']:.4g} | {seconds:.2f} |"
            )
    return rows


def report(jobs, paper, differs):
    """(lines of Markdown, all numbers) of a figure."""
    lines = [f"The paper: {paper}."]
    lines += [line for d in differs for line in ("", f"Differs from the paper: {d}.")]
    return [*lines, "", *as_table(jobs)], {job.folder.name: result_of(job)["units"] for job in jobs}


def figure3(settings):
    """The pictures of one chain, from noise on."""
    place = settings.out / "figure3"
    if settings.weights:
        options, differs = [*given_net(settings), "--unit", "starfish", "--chains", 1], []
    else:
        options = ["--unit", "0-9", "--chains", 1]
        differs = ["LeNet's ten digits, as no --weights of AlexNet are given"]
    job = sampling_job(place / "chains", settings, *options)
    run_all([job], "figure3", settings.device)
    shutil.copy(job.folder / "sequence.png", settings.out / "figure3.png")
    return report([job], "one chain on the starfish node of AlexNet, from noise on", differs)


def samples_of(job):
    """(units, chains, H, W, C)."""
    return load_npz(job.folder / "samples.npz")["samples"]


def figure4(settings):
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
    rows_of_groups(samples, list("0123456789"), titles, settings.out / "figure4.png", side=56)
    told = "samples of each of LeNet's ten output nodes, of varying shapes; 24 seconds a sample"
    differs = "settings of our own; with --quick the printed ones are not run"
    if not settings.quick:
        differs = "settings of our own; to the printed ones T = 0.001 is added, AlexNet's"
    return report(jobs, told, [differs])


def figure5(settings):
    """Samples from nodes of conv1 to conv5 of AlexNet."""
    place = settings.out / "figure5"
    units, chains = ("0-1", 1) if settings.quick else ("0-3", 3)
    options = ["--net", "alexnet-torchvision", "--unit", units, "--chains", chains]
    jobs = [
        sampling_job(
            place / layer,
            settings,
            *options,
            "--layer",
            layer,
            *([] if settings.quick else LONGER.get(layer, [])),
        )
        for layer in LAYERS
    ]
    run_all(jobs[::-1], "figure5", settings.device)  # the longest first
    samples = [samples_of(job) for job in jobs]
    names = [[str(unit) for unit in result_of(job)["settings"]["unit"]] for job in jobs]
    rows_of_groups(samples, LAYERS, names, settings.out / "figure5.png")
    told = "samples from nodes of AlexNet's conv1 to conv5; 30 seconds a sample of conv1"
    return report(
        jobs,
        told,
        [
            "torchvision's AlexNet, whose input is normalised, so sigma, T and the step size are "
            "ours; the chains are annealed"
        ],
    )


def class_samples(name, settings):
    names = CLASSES[name][:2] if settings.quick else CLASSES[name]
    options = [*given_net(settings), "--unit", ",".join(names)]
    job = sampling_job(settings.out / name / "chains", settings, *options)
    run_all([job], name, settings.device)
    shutil.copy(job.folder / "grid.png", settings.out / f"{name}.png")
    told = "samples from AlexNet's output nodes; 12 minutes a sample"
    return report([job], told, ["our settings of the chains, and not Caffe's weights"])


def figure6(settings):
    """Samples from output nodes of AlexNet, for whoever brings its weights."""
    return class_samples("figure6", settings)


def figure7(settings):
    """Samples from more of them."""
    return class_samples("figure7", settings)
