"""Do samples of LeNet's last layer correspond to their digits, and do they vary?

    python visualize.py --unit 0-9 --out samples/ten
    python -m benchmarks.judge samples/ten

Two judges look at every sample. Another LeNet, trained with another seed, may share a network's
quirks; the nine nearest MNIST training images, by correlation of pixels, cannot. Variety is the
mean distance between two samples of a unit, each scaled to mean 0 and norm 1, as a share of the
mean distance between two MNIST images of that class.
"""

import argparse
from pathlib import Path

import numpy as np

from app import ASSETS
from app.console import fail_in_one_line
from app.data.load import load
from app.formats.net import open_network
from app.formats.npz import load_npz
from app.runs.folder import write_json

JUDGE = ASSETS / "lenet-judge.npz"
NEIGHBOURS = 9
PAIRS_OF = 300  # MNIST images of a class whose distances are taken


def normalised(images):
    """Images (n, ...) as rows of mean 0 and norm 1, so that a product of two is a correlation."""
    rows = images.reshape(len(images), -1).astype(np.float32)
    rows -= rows.mean(axis=1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)


def mean_distance(rows):
    """Mean Euclidean distance between two different rows of norm 1."""
    squared = np.maximum(2 - 2 * (rows @ rows.T).astype(np.float64), 0)
    n = len(rows)
    return np.sqrt(squared).sum() / (n * (n - 1)) if n > 1 else float("nan")


def judge(samples, units, weights=JUDGE):
    """samples (units, chains, 28, 28, 1) -> {"network", "neighbours", "variety"}, each (units,)."""
    train, _ = load()
    network = open_network("lenet", weights)
    known = normalised(train.images)
    result = {"network": [], "neighbours": [], "variety": []}
    for unit, images in zip(units, samples, strict=True):
        result["network"].append(np.mean(network.bottom_up(images).argmax(axis=1) == unit))
        rows = normalised(images)
        nearest = np.argpartition(-(rows @ known.T), NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        votes = [np.bincount(train.labels[n], minlength=10).argmax() for n in nearest]
        result["neighbours"].append(np.mean(np.array(votes) == unit))
        own = known[train.labels == unit][:PAIRS_OF]
        result["variety"].append(mean_distance(rows) / mean_distance(own))
    return {name: np.array(values, float) for name, values in result.items()}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="a finished folder of visualize.py")
    parser.add_argument("--weights", type=Path, default=JUDGE, help="the judging LeNet")
    options = parser.parse_args()
    with fail_in_one_line(status=2):
        arrays = load_npz(options.folder / "samples.npz")
        samples, units = arrays["samples"], arrays["units"]
        if samples.shape[2:] != (28, 28, 1) or units.max() > 9:
            raise ValueError(f"{options.folder}: not samples of LeNet's ten digits")
        found = judge(samples, units, options.weights)
    print(
        "| unit | recognised by another LeNet | by 9 nearest images | variety |\n|---|---|---|---|"
    )
    for u, unit in enumerate(units):
        print(f"| {unit} | " + " | ".join(f"{100 * found[k][u]:.0f} %" for k in found) + " |")
    print("| all | " + " | ".join(f"{100 * found[k].mean():.0f} %" for k in found) + " |")
    summary = {name: values.tolist() for name, values in found.items()}
    write_json(options.folder / "judgement.json", {"units": units.tolist(), **summary})


if __name__ == "__main__":
    main()
