"""Two pictures that explain: the two gradients of one batch, and GG's importance weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from app.data.images import Images
from app.data.load import load
from app.formats.net import open_network
from app.paper.errors import Report
from fast import engine
from fast.cpu.threads import cores
from losses.discriminative import discriminative_loss
from losses.generative import effective_sample_size, generative_loss, importance_weights
from nn.sgd import SGD

BATCH = 64
MOMENTS = {"before GG": 0, "60 batches": 60, "1 epoch": 938}  # of GG on MNIST, in batches


def batch_shown(test: Images) -> tuple[np.ndarray, np.ndarray]:
    """The first 64 test images of MNIST and their labels, by class."""
    first = np.arange(BATCH)
    return test.batch(first[np.argsort(test.labels[first], kind="stable")])


def scores_while_learning(
    moments: dict[str, int] = MOMENTS,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """({moment: scores (64, 10) of one batch of MNIST}, its labels), the images by class.

    moments: how many batches of GG a LeNet has learned from by then, 938 at most.
    """
    train, test = load()
    network = open_network("lenet")
    run, sgd = engine(network, threads=cores()), SGD(network)
    images, labels = batch_shown(test)
    order = np.random.default_rng(0).permutation(len(train))
    scores = {}
    for step in tqdm(range(max(moments.values()) + 1), "learning by GG", mininterval=1):
        for moment, when in moments.items():
            if step == when:
                scores[moment] = run.bottom_up(images).copy()
        x, y = train.batch(order[step * BATCH : (step + 1) * BATCH])
        if len(x):
            _, dscores, _ = generative_loss(run.bottom_up(x, train=True), y)
            run.learn(dscores, sgd, 0.01)
    return scores, labels


def heat_maps_of(maps: dict, labels: np.ndarray, heading: str) -> Callable[[Path], None]:
    """What draws these matrices."""

    def draw(path):
        from app.pictures.heat_maps import heat_maps

        heat_maps(maps, labels, heading, path)

    return draw


def gradients(settings: Any) -> Report:
    """One batch, two gradients: softmax along the rows (DG) and along the columns (GG)."""
    scores, labels = scores_while_learning()
    F = scores["60 batches"]
    maps = {
        "scores F\nimages by classes": F,
        "change by DG\nrows sum to 0": -discriminative_loss(F, labels)[1] * len(F),
        "change by GG\ncolumns sum to 0": -generative_loss(F, labels)[1] * len(F),
    }
    lines = [
        "The same scores of 64 images (rows, by class) for 10 classes (columns), after 60 batches "
        "of GG, and the change that each gradient asks for.",
        "",
        "DG compares the classes of an image: every row sums to 0. GG compares the images for a "
        "class: every column sums to 0, so the bias of a class has no gradient.",
    ]
    sizes = {name.split("\n")[0]: np.abs(array).mean().item() for name, array in maps.items()}
    heading = (
        "LeNet's scores of 64 MNIST images after 60 batches of GG, and how two gradients change "
        "them.\nScores: red positive, blue negative. Changes: red raises a score, blue lowers it."
    )
    return lines, sizes, heat_maps_of(maps, labels, heading)


def weights(settings: Any) -> Report:
    """Importance weights of one batch before GG, after 60 batches of it and after one epoch."""
    scores, labels = scores_while_learning()
    all_weights = {moment: importance_weights(F) for moment, F in scores.items()}
    ess = {moment: effective_sample_size(W) for moment, W in all_weights.items()}
    maps = {}
    for moment, W in all_weights.items():
        title = f"{moment}\nESS {ess[moment].mean():.1f} of {len(labels)}"
        maps[title] = W**0.5  # faint ones show, too
    lines = [
        "How much each of 64 images (rows, by class) counts as a sample from each class (columns); "
        f"square roots, after {', '.join(map(str, MOMENTS.values()))} batches.",
        "",
        "| | " + " | ".join(f"ESS of {y}" for y in range(10)) + " |",
        "|---" * 11 + "|",
        *(
            f"| {moment} | " + " | ".join(f"{e:.1f}" for e in row) + " |"
            for moment, row in ess.items()
        ),
        "| images of the class | " + " | ".join(map(str, np.bincount(labels))) + " |",
    ]
    sizes = {moment: row.tolist() for moment, row in ess.items()}
    heading = (
        "How much each of 64 MNIST images counts as a sample from each class, as GG learns.\n"
        "Square roots of the weights: white is 0, and each matrix has its own scale of greys.\n"
        "ESS: effective sample size."
    )
    return lines, sizes, heat_maps_of(maps, labels, heading)
