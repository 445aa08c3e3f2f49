"""Table 2 with natural images that fit a CPU: CIFAR-10 and Caffe's cifar10-quick.

First the rates: each kind of run, at each rate, on nine tenths of the training images, judged by
the tenth that is held out. What is chosen is written to a file. Then the runs of the table, on all
training images; only these look at the test images.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from app.data.cifar import RECORD, batches_in
from app.options.train_settings import TWO_PARTS
from app.paper.errors import Report, cell, comparisons, error, finished, history, training_job
from app.paper.jobs import Job
from app.runs.folder import write_json

EPOCHS, SHORT = 35, 10  # of a run; of one that is to choose a rate. The paper has 70 epochs,
GG, STEP = 45 / 70, 20 / 70  # of these 45 of GG; Caffe's AlexNet a tenth of the rate after every 20
RATES = (0.002, 0.004, 0.008)  # Caffe's 0.001 for 100 images is 0.0026 for 256 in proportion
FINETUNE = 0.3  # of the rate is that of GG+DG's second part
BATCH, SMALL_BATCH = 256, 64
QUEUE = 8 * BATCH
SEEDS, BEST_SEEDS = 4, 3
HELD_OUT = 1 / 10  # of the training images: 5,000 of CIFAR-10's

PAPER = {"DG": "dg", "GG": "gg", "GG+DG": "ggdg"}
CONTROL = {"DG+DG": "dgdg"}  # begins anew at the same place and rate as GG+DG
REMEDIES = {"GG+DG, queue": "ggdg", "joint": "joint"}  # for a small effective sample size
MODES = {**PAPER, **CONTROL, **REMEDIES}
OTHERS = {"GG+DG, queue": ["--gg-queue", QUEUE]}  # options besides the mode


def options(kind: str, rate: float, epochs: int, images: int, batch: int) -> list:
    """The options of train.py for a kind of run, in the paper's proportions."""
    step = max(1, round(STEP * epochs * math.ceil(images / batch)))  # in iterations, as Caffe's
    found = ["--net", "cifar10-quick", "--mode", MODES[kind], *OTHERS.get(kind, [])]
    found += ["--epochs", epochs, "--batch-size", batch, "--lr", rate, "--lr-step", step]
    if MODES[kind] in TWO_PARTS:
        switch = min(max(1, round(GG * epochs)), epochs - 1)
        found += ["--switch-epoch", switch, "--finetune-lr", f"{FINETUNE * rate:.6g}"]
    return found


def short(kind: str) -> str:
    """A kind of run as part of a folder's name."""
    return kind.lower().replace("+", "").replace(", ", "-")


class Protocol:
    """The runs of the table, and what is known of them."""

    def __init__(self, settings: Any):
        self.settings, self.place = settings, settings.out / "table2"
        files = [path for path in batches_in(settings.data) if path.name.startswith("data_")]
        self.images = sum(path.stat().st_size for path in files) // RECORD
        self.held_out = max(1, round(HELD_OUT * self.images))
        self.epochs, self.short = (3, 2) if settings.quick else (EPOCHS, SHORT)
        self.rates_file = settings.out / "table2-rates.json"

    def job(self, kind: str, seed: int, rate: float, batch: int = BATCH) -> Job:
        """A run whose test error is in the table."""
        name = f"{short(kind)}-batch{batch}-seed{seed}"
        asked = options(kind, rate, self.epochs, self.images, batch)
        return training_job(self.place / name, self.settings, seed, *asked)

    def trial(self, kind: str, rate: float) -> Job:
        """A run that tries a rate and does not look at the test images."""
        asked = options(kind, rate, self.short, self.images - self.held_out, BATCH)
        asked += ["--held-out", self.held_out]
        return training_job(self.place / f"rate-{short(kind)}-{rate:g}", self.settings, 0, *asked)

    def choose_rates(self) -> dict:
        """{kind: {"rate": the best, "held-out errors": {rate: error}}}, also written to a file."""
        trials = {kind: [self.trial(kind, rate) for rate in RATES] for kind in MODES}
        jobs = finished(trials, "table2, rates", self.settings)
        if jobs != trials:
            raise ValueError("the rates of table2 are not chosen yet: go on without --so-far")
        self.done = [job for group in jobs.values() for job in group]
        chosen = {}
        for kind, group in jobs.items():
            errors = {rate: error(job) for rate, job in zip(RATES, group, strict=True)}
            by_text = {f"{rate:g}": found for rate, found in errors.items()}
            chosen[kind] = {"rate": min(errors, key=errors.get), "held-out errors": by_text}
        write_json(self.rates_file, chosen)
        return chosen

    def run(self) -> tuple[dict, dict]:
        """(what was chosen, {(kind, size of a batch): a job for each seed})."""
        chosen = self.choose_rates()
        rates = {kind: found["rate"] for kind, found in chosen.items()}
        # Which remedy gets more seeds is decided by the held-out images, too.
        best = min(REMEDIES, key=lambda kind: min(chosen[kind]["held-out errors"].values()))
        most = self.settings.seeds or (1 if self.settings.quick else SEEDS)
        seeds = dict.fromkeys({**PAPER, **CONTROL}, most) | dict.fromkeys(REMEDIES, 1)
        seeds[best] = min(BEST_SEEDS, most)
        jobs = {
            (kind, BATCH): [self.job(kind, seed, rates[kind]) for seed in range(n)]
            for kind, n in seeds.items()
        }
        # A quarter of the images in a batch: four times as many updates, of a quarter the rate.
        part = SMALL_BATCH / BATCH
        for kind in PAPER:
            jobs[kind, SMALL_BATCH] = [self.job(kind, 0, rates[kind] * part, SMALL_BATCH)]
        found = finished(jobs, "table2", self.settings)
        self.all = len(self.done) + sum(map(len, jobs.values()))
        self.done += [job for group in found.values() for job in group]
        return chosen, found

    def hours(self) -> float:
        """Of computing, on one core each, of all runs."""
        return sum(sum(history(job)["seconds"]) for job in self.done) / 3600


def protocol(settings: Any) -> Report:
    """Table 2 for CIFAR-10's files."""
    runs = Protocol(settings)
    chosen, jobs = runs.run()
    errors, errors_small = (
        {kind: [error(job) for job in jobs[kind, batch]] for kind in kinds}
        for kinds, batch in ((MODES, BATCH), (PAPER, SMALL_BATCH))
    )
    n, gg = runs.epochs, round(GG * runs.epochs)
    lines = [
        "CIFAR-10 and Caffe's cifar10-quick instead of ImageNet, whose errors the paper gives as "
        "DG 40.7, GG 45.8, GG+DG 39.6 % for AlexNet. Test error in percent, with the intercepts of "
        "equation 6; mean ± standard deviation over seeds.",
        "",
        f"{n} epochs, {gg} of them GG in GG+DG, whose DG part begins at {FINETUNE:g} of the rate; "
        f"a tenth of the rate after every {STEP * n:.0f} epochs of a part. DG+DG: DG that begins "
        "anew at the same place and rate, so that what GG does can be told from what a new start "
        "does. Queue: the scores of "
        f"{QUEUE:,} images before the batch. Joint: DG + GG at every step. Rates: the best of "
        f"{', '.join(f'{rate:g}' for rate in RATES)} in {runs.short} epochs, by {runs.held_out:,} "
        f"training images that were held out; for {SMALL_BATCH} images a quarter of it.",
        "",
        "| gradient | rate | held-out error of each rate | batch 256 | each seed | batch 64 |",
        "|---|---|---|---|---|---|",
    ]
    for kind, found in errors.items():
        tried = ", ".join(f"{e:.2f}" for e in chosen[kind]["held-out errors"].values())
        each = ", ".join(f"{e:.2f}" for e in found)
        rate, alone = chosen[kind]["rate"], cell(errors_small.get(kind, []))
        lines.append(f"| {kind} | {rate:g} | {tried} | {cell(found)} | {each} | {alone} |")
    lines += ["", *comparisons(errors)]
    hours = runs.hours()
    of_all = f" of {runs.all}" if runs.all > len(runs.done) else ""
    lines += ["", f"{len(runs.done)} runs{of_all}, {hours:.1f} hours on one core."]
    by_run = {job.folder.name: history(job) for job in runs.done}
    numbers = {"rates": chosen, "errors": errors, "errors with batch 64": errors_small}
    numbers |= {"hours": hours, "runs": by_run}
    curves = {kind: mean_history(jobs[kind, BATCH]) for kind in errors if errors[kind]}
    return lines, numbers, drawing({kind: errors[kind] for kind in curves}, curves)


def mean_history(jobs: list[Job]) -> dict[str, list[float]]:
    """`history`, the mean over jobs that have as many epochs."""
    found = [history(job) for job in jobs]
    return {name: np.mean([one[name] for one in found], axis=0).tolist() for name in found[0]}


def drawing(errors: dict, curves: dict) -> Callable[[Path], None]:
    """What draws the errors, and how error and ESS went."""

    def draw(path):
        from app.pictures.errors import errors_and_curves

        errors_and_curves(errors, curves, "cifar10-quick", path)

    return draw
