"""Figures 3 to 7: what chains on the nodes of LeNet and AlexNet come to."""

from pathlib import Path
from typing import Any

import numpy as np

from app.formats.net import is_onnx
from app.options.visualize import parse
from app.options.visualize_settings import complete
from app.paper.errors import Report
from app.paper.jobs import Job, run_all
from app.paper.sampling import (
    beside,
    chains_block,
    growth_of,
    report,
    samples_of,
    sampling_job,
    table_of,
    titled,
)
from app.pictures.of_runs import unit_names
from app.runs.node import load_network

LAYERS = ["conv1", "conv2", "conv3", "conv4", "conv5"]
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
    "{} needs a trained classifier of ImageNet, which is not included: --weights takes an .onnx "
    "file that any framework exported, or torchvision's AlexNet as .safetensors"
)
OURS = {"net", "weights", "unit", "seed", "device", "threads", "out", "resume", "list_layers"}


def given_net(settings: Any) -> list:
    """Options for the net that the user brings. ValueError if it has no scores of ImageNet."""
    own = OURS & parse([str(word) for word in settings.more]).keys()
    if own:
        words = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(own))
        raise ValueError(f"behind --, {words}: reproduce.py sets this itself")
    net = [] if is_onnx(settings.weights) else ["--net", "alexnet-torchvision"]
    options = [*net, "--weights", settings.weights, *settings.more]
    load_network(complete(parse([str(word) for word in [*options, "--unit", "starfish"]])))
    return options


def lenet_jobs(settings: Any, *references: str) -> dict[str, Job]:
    """One chain on each of LeNet's digits, by reference distribution."""
    options = ["--unit", "0-9", "--chains", 1, *(["--iterations", 10] if settings.quick else [])]
    return beside(settings, settings.out / "figure3" / "chains", options, *references)


def figure3(settings: Any) -> Report:
    """One chain as it grows, on white noise and on the data's reference (colour: natural)."""
    net, other = "LeNet", "data"
    differs = ["LeNet's ten digits, as no --weights of AlexNet are given"]
    if settings.weights:
        options = [*given_net(settings), "--unit", "starfish", "--chains", 1]
        options += ["--iterations", 10] if settings.quick else []
        net, differs, other = Path(settings.weights).stem, [], "natural"
        jobs = beside(settings, settings.out / "figure3" / "chains", options, "white", other)
    else:
        jobs = lenet_jobs(settings, "white", other)
    run_all(list(jobs.values()), "figure3", settings.device)
    told = "one chain on the starfish node of AlexNet, from noise on"
    differs += ["our settings of the chains, and a second reference distribution"]
    blocks = []
    for job in jobs.values():
        grown = growth_of(job)
        stages = list(grown)[:: 1 if len(grown) < 8 else 2]  # so that two blocks fit a page
        stages = sorted({*stages, max(grown)})
        images = np.stack([grown[i] for i in stages], axis=1)
        blocks.append((list(images), [str(i) for i in stages], titled(job)))
    heading = f"{net}'s output nodes: one chain of HMC on each, as it grows from left to right."
    draw = table_of(blocks, unit_names(jobs["white"].settings), "iteration", heading)
    return report(list(jobs.values()), told, differs, draw)


def figure4(settings: Any) -> Report:
    """Images from LeNet's output nodes: on the data's reference, on white noise, as printed."""
    options = ["--unit", "0-9", "--chains", 2 if settings.quick else 6]
    place = settings.out / "figure4"
    jobs = beside(settings, place / "ours", options, "data", "white")
    differs = "settings of our own; with --quick the printed ones are not run"
    if not settings.quick:
        jobs["paper"] = sampling_job(place / "paper", settings, *options, "--preset", "paper")
        differs = "our settings beside the printed ones, to which AlexNet's T = 0.001 is added"
    run_all(list(jobs.values())[::-1], "figure4", settings.device)  # the longest first
    told = "samples of each of LeNet's ten output nodes, of varying shapes; 24 seconds a sample"
    titles = {name: titled(job) for name, job in jobs.items()}
    if "paper" in titles:
        titles["paper"] = f"as printed; {titles['paper']}"
    blocks = [chains_block(job, titles[name]) for name, job in jobs.items()]
    heading = "LeNet's ten output nodes: the last images of chains of HMC."
    draw = table_of(blocks, [f"unit {digit}" for digit in range(10)], "chain", heading)
    return report(list(jobs.values()), told, [differs], draw)


def alexnet_jobs(settings: Any) -> dict[str, dict[str, Job]]:
    """One chain on each of some units of AlexNet, by layer and by reference distribution."""
    layers, units = (LAYERS[:2], "0-1") if settings.quick else (LAYERS, "0-3")
    net = ["--net", "alexnet-torchvision", "--unit", units, "--chains", 1]
    if settings.quick:
        net += ["--iterations", 20]
    place = settings.out / "figure5"
    return {
        layer: beside(settings, place / layer, [*net, "--layer", layer], "natural", "white")
        for layer in layers
    }


def figure5(settings: Any) -> Report:
    """Images from nodes of conv1 to conv5 of AlexNet, on natural images' reference and on white."""
    jobs = alexnet_jobs(settings)
    every = [job for pair in jobs.values() for job in pair.values()]
    run_all(every[::-1], "figure5", settings.device)  # the longest first
    blocks, rows = [], []
    for reference, job in jobs["conv1"].items():
        images = [samples_of(pair[reference])[:, 0] for pair in jobs.values()]
        blocks.append((images, [str(unit) for unit in job.settings["unit"]], titled(job)))
    for layer, pair in jobs.items():
        H, W = samples_of(pair["natural"]).shape[2:4]
        rows.append(f"{layer}\n{H} x {W} pixels")
    told = "samples from nodes of AlexNet's conv1 to conv5; 30 seconds a sample of conv1"
    differs = (
        "torchvision's AlexNet, a reference distribution of natural images beside white noise, one "
        "chain for each node, at a T of our own"
    )
    heading = (
        "Units of the convolutions of torchvision's AlexNet: the last image of a chain of HMC on "
        "each.\nAn image is as large as what a unit sees."
    )
    return report(every, told, [differs], table_of(blocks, rows, "unit", heading))


def class_samples(name: str, settings: Any) -> Report:
    names = CLASSES[name][:2] if settings.quick else CLASSES[name]
    options = [*given_net(settings), "--unit", ",".join(names)]
    job = sampling_job(settings.out / name / "chains", settings, *options)
    run_all([job], name, settings.device)
    told = "samples from AlexNet's output nodes; 12 minutes a sample"
    differs = ["the net, the reference distribution and the settings of the chains"]
    heading = f"Output nodes of {Path(settings.weights).stem}: the last images of chains of HMC."
    rows = unit_names(job.settings)
    draw = table_of([chains_block(job, titled(job))], rows, "chain", heading)
    return report([job], told, differs, draw)


def figure6(settings: Any) -> Report:
    """Samples from the output nodes of a classifier of ImageNet that you bring (--weights)."""
    return class_samples("figure6", settings)


def figure7(settings: Any) -> Report:
    """Samples from more of them."""
    return class_samples("figure7", settings)
