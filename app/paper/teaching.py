"""Two pictures that explain: the two gradients of one batch, and GG's importance weights."""

import numpy as np
from tqdm import tqdm

from app.data.load import load
from app.formats.net import open_network
from app.pictures.curves import heat_maps
from losses.discriminative import discriminative_loss
from losses.generative import effective_sample_size, generative_loss, importance_weights
from nn.parallel import parallel
from nn.sgd import SGD
from nn.threads import THREADS

BATCH = 64
MOMENTS = {"start": 0, "middle": 60, "end": 938}  # batches of GG on MNIST: an epoch


def scores_while_learning():
    """({moment: scores (64, 10) of one batch of MNIST}, its labels), the images by class."""
    train, test = load()
    network = open_network("lenet")
    workers, sgd = parallel(network, THREADS), SGD(network, 0.01)
    shown = np.arange(BATCH)
    shown = shown[np.argsort(test.labels[shown], kind="stable")]
    images, labels = test.batch(shown)
    order = np.random.default_rng(0).permutation(len(train))
    scores = {}
    for step in tqdm(range(max(MOMENTS.values()) + 1), "learning by GG", mininterval=1):
        for moment, when in MOMENTS.items():
            if step == when:
                scores[moment] = workers.bottom_up(images)
        x, y = train.batch(order[step * BATCH : (step + 1) * BATCH])
        if len(x):
            _, dscores, _ = generative_loss(workers.bottom_up(x, train=True), y)
            workers.top_down(dscores, input_grad=False)
            sgd.step()
    return scores, labels


def gradients(settings):
    """One batch, two gradients: softmax along the rows (DG) and along the columns (GG)."""
    scores, labels = scores_while_learning()
    F = scores["middle"]
    maps = {
        "scores F": F,
        "DG: rows sum to 0": -discriminative_loss(F, labels)[1] * len(F),
        "GG: columns sum to 0": -generative_loss(F, labels)[1] * len(F),
    }
    heat_maps(maps, labels, settings.out / "gradients.png")
    return [
        "The same scores of 64 images (rows, by class) for 10 classes (columns), after 60 batches "
        "of GG, and the change that each gradient asks for.",
        "",
        "DG compares the classes of an image: every row sums to 0. GG compares the images for a "
        "class: every column sums to 0, so the bias of a class has no gradient.",
    ], {name: np.abs(array).mean().item() for name, array in maps.items()}


def weights(settings):
    """Importance weights of one batch at the start, in the middle and at the end of GG."""
    scores, labels = scores_while_learning()
    all_weights = {moment: importance_weights(F) for moment, F in scores.items()}
    ess = {moment: effective_sample_size(W) for moment, W in all_weights.items()}
    maps = {
        f"{moment}: ESS {ess[moment].mean():.1f} of {len(labels)}": W**0.5  # faint ones show, too
        for moment, W in all_weights.items()
    }
    heat_maps(maps, labels, settings.out / "weights.png")
    return [
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
    ], {moment: row.tolist() for moment, row in ess.items()}
