"""Do samples of a net's ten scores correspond to their digits, do they vary, are they like MNIST?

    python visualize.py --unit 0-9 --chains 100 --out samples/many
    python -m benchmarks.judge samples/many [samples/more ...]

Two judges look at every sample. Another LeNet, trained with another seed, may share a network's
quirks; the nine nearest MNIST training images, by correlation of pixels, cannot. Variety is the
mean distance between two samples of a unit, each scaled to mean 0 and norm 1, as a share of the
mean distance between two MNIST images of that class.

The Frechet distance (measures.py) compares all samples together with the test images. It is larger
for fewer samples. So it is given beside that of as many training images, the floor, and of as many
draws from q, the start.

Where the net learned images with noise, a second row judges its samples without it
(NodeEnergy.without_noise), as visualize.py shows them.

Then: the test error of the net that drew (its intercepts are in its bias, Eq. 6), and how near the
nearest training image is to a sample (without noise), compared with a test image. Into each folder
go judgement.json and nearest.png, samples beside their nearest training images.
"""

import argparse
import json
from functools import cached_property
from pathlib import Path

import numpy as np

from app import ASSETS
from app.console import fail_in_one_line
from app.data.load import load
from app.formats.net import open_network
from app.formats.npz import load_npz
from app.options.visualize_settings import asked_source
from app.pictures.images import Block, image_table
from app.runs.folder import write_json
from app.runs.references import reference_of
from app.runs.scoring import scores_of
from benchmarks.measures import AT_ONCE, features, frechet, mean_distance, nearest, normalised

JUDGE = ASSETS / "lenet-judge.npz"
NEIGHBOURS = 9
PAIRS_OF = 300  # MNIST images of a class whose distances are taken
SHOWN = 4  # samples of a unit beside their nearest images


class Known:
    """The images that samples are compared with, as both judges see them."""

    def __init__(self, weights=JUDGE, data=None):
        self.train, self.test = load(data)
        self.network = open_network("lenet", weights)
        self.rows = normalised(self.train.images)

    @cached_property
    def features(self):
        """Those of all test images."""
        return features(self.test.batch(slice(None))[0], self.network)

    @cached_property
    def distance(self):
        """Of a test image to the nearest training image."""
        some = self.test.evenly(AT_ONCE).batch(slice(None))[0]
        return float(nearest(some, self.rows)[1].mean())


def judge(samples, units, known=None):
    """samples (units, chains, 28, 28, 1) -> {"network", "neighbours", "variety"}, each (units,)."""
    known = known or Known()
    train, result = known.train, {"network": [], "neighbours": [], "variety": []}
    for unit, images in zip(units, samples, strict=True):
        result["network"].append(np.mean(known.network.bottom_up(images).argmax(axis=1) == unit))
        rows = normalised(images)
        nearest = np.argpartition(-(rows @ known.rows.T), NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        votes = [np.bincount(train.labels[n], minlength=train.classes).argmax() for n in nearest]
        result["neighbours"].append(np.mean(np.array(votes) == unit))
        own = known.rows[train.labels == unit][:PAIRS_OF]
        result["variety"].append(mean_distance(rows) / mean_distance(own))
    return {name: np.array(values, float) for name, values in result.items()}


def distances(samples, q, known):
    """{"samples", "floor", "start"}: Frechet distances to the test images, n images each."""
    n = len(samples)
    z = np.random.default_rng(0).standard_normal((n, *q.shape), np.float32)
    floor = known.train.evenly(n).batch(slice(None))[0]
    sets = {"samples": samples, "floor": floor, "start": q.image(z)}
    return {name: frechet(features(x, known.network), known.features) for name, x in sets.items()}


def test_error(network, test):
    """Percent of test images whose largest score is another class's."""
    wrong = scores_of(network, test, np).argmax(axis=1) != test.labels
    return 100 * float(np.mean(wrong))


def judged(folder, known):
    """Judge a folder of visualize.py, and write judgement.json and nearest.png into it."""
    arrays = load_npz(folder / "samples.npz")
    settings = json.loads((folder / "settings.json").read_text())
    samples, units = arrays["samples"], arrays["units"]
    if samples.shape[2:] != (28, 28, 1) or units.max() > 9:
        raise ValueError(f"{folder}: not samples of ten digits")
    q = reference_of(settings, samples.shape[2:]).to(np, np.float32)
    shown = arrays.get("without_noise", samples)
    number, distance = nearest(shown.reshape(-1, *samples.shape[2:]), known.rows)
    summary = {"units": units.tolist()} | numbers(samples, units, q, known)
    if shown is not samples:
        summary["without_noise"] = numbers(shown, units, q, known)
    summary["test_error"] = test_error(asked_source(settings).filled(), known.test)
    summary["nearest"] = {"samples": float(distance.mean()), "test": known.distance}
    write_json(folder / "judgement.json", summary)
    near = known.train.batch(number)[0].reshape(samples.shape)[:, :SHOWN]
    pairs = np.stack([shown[:, :SHOWN], near], axis=2)
    pairs = pairs.reshape(len(units), -1, *samples.shape[2:])
    heads = ["sample", "nearest"] * (pairs.shape[1] // 2)
    noise = "" if shown is samples else " without their noise"
    title = f"Samples{noise}, and the training image nearest to each"
    rows = [f"unit {u}" for u in units]
    image_table([Block(list(pairs), heads)], rows, "", title, folder / "nearest.png")
    return summary


def numbers(samples, units, q, known):
    """What is said of samples (units, chains, 28, 28, 1), for JSON."""
    found = {name: values.tolist() for name, values in judge(samples, units, known).items()}
    flat = samples.reshape(-1, *samples.shape[2:])
    return found | {"frechet": distances(flat, q, known), "count": len(flat)}


def by_unit(folder, summary):
    """The lines of a table of each unit's numbers."""
    kinds = "network", "neighbours", "variety"
    lines = ["| unit | another LeNet | nine nearest | variety |", "|---|---|---|---|"]
    for name, *values in zip(summary["units"], *(summary[kind] for kind in kinds), strict=True):
        lines.append(f"| {name} | " + " | ".join(f"{100 * v:.0f} %" for v in values) + " |")
    near = summary["nearest"]
    end = f"distance to the nearest training image: {near['samples']:.3f}, of test images "
    return [str(folder), "", *lines, "", end + f"{near['test']:.3f}", ""]


def by_folder(summaries):
    """The lines of a table with a row for each folder, {its name: what `judged` returned}."""
    lines = [
        "| samples | how many | another LeNet | nine nearest | variety | Frechet distance "
        "| of training images | of q | test error |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    rows = []
    for name, found in summaries.items():
        rows.append((name, found))
        if "without_noise" in found:
            rows.append((f"{name}, without noise", found | found["without_noise"]))
    for name, found in rows:
        three = (f"{100 * np.mean(found[k]):.0f} %" for k in ("network", "neighbours", "variety"))
        far = (found["frechet"][k] for k in ("samples", "floor", "start"))
        far = (f"{v:,.0f}" if v >= 100 else f"{v:.1f}" for v in far)
        cells = name, f"{found['count']:,}", *three, *far, f"{found['test_error']:.2f} %"
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+", help="finished folders of visualize.py")
    parser.add_argument("--weights", type=Path, default=JUDGE, help="the judging LeNet")
    parser.add_argument("--data", type=Path, help="IDX files instead of MNIST's")
    parser.add_argument("--out", type=Path, help="write the table of all folders to this file")
    options = parser.parse_args()
    with fail_in_one_line(status=2):
        known = Known(options.weights, options.data)
        found = {folder: judged(folder, known) for folder in options.folders}
    for folder, summary in found.items():
        print(*by_unit(folder, summary), sep="\n")
    lines = by_folder({folder.name: summary for folder, summary in found.items()})
    print(*lines, sep="\n")
    if options.out:
        options.out.write_text("\n".join(["# judge", "", *lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
