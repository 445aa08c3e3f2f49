"""Tables 1 to 3: test errors of DG, GG and GG+DG, with all labels and with few."""

from pathlib import Path
from typing import Any

from app.data.cifar import is_cifar
from app.data.folder import class_names, is_image_folder, list_images
from app.data.load import load
from app.paper import natural
from app.paper.errors import Report, cell, comparisons, measure, training_job

MODES = {"DG": "dg", "DG+DG": "dgdg", "GG": "gg", "GG+DG": "ggdg"}  # DG+DG: a control
LABELS = {"mnist": [100, 300, 1000, 3000, 10_000], "imagenet": [50_000, 100_000, 300_000]}
COLUMNS = {  # of table 3: the end of a run's folder, options of train.py
    "DG": ("dg", ["--mode", "dg", "--epochs", 2]),
    "GG+DG, labelled alone": ("alone", ["--unlabeled-weight", 0]),
    "GG+DG, lambda 0.1": ("lambda0.1", ["--unlabeled-weight", 0.1]),
    "GG+DG, lambda 1": ("lambda1", ["--unlabeled-weight", 1]),
}


def is_imagenet(folder: str | Path) -> bool:
    """Whether these are images in ImageNet's layout, and of as many classes."""
    train = Path(folder) / "train"
    return train.is_dir() and len(class_names(train)) == 1000


def table1(settings: Any) -> Report:
    """MNIST: test errors of LeNet trained by DG, DG with a new start, GG and GG+DG."""
    published = {} if settings.data else {"LeNet": {"DG": 1.03, "GG": 0.85, "GG+DG": 0.78}}
    differs = [f"the images of {settings.data} instead of MNIST"] if settings.data else []
    found = by_mode("table1", {"LeNet": ["--net", "lenet"]}, settings, 10)
    return mode_report(found, published, differs)


def table2(settings: Any) -> Report:
    """ImageNet (--data): AlexNet and ZeilerFergusNet; CIFAR-10, or MNIST without --data."""
    if settings.data and is_image_folder(settings.data):
        nets = {"AlexNet": ["--net", "alexnet"], "ZeilerFergusNet": ["--net", "zeilerfergus"]}
        published = {
            "AlexNet": {"DG": 40.7, "GG": 45.8, "GG+DG": 39.6},
            "ZeilerFergusNet": {"DG": 38.4, "GG": 44.3, "GG+DG": 37.4},
        }
        differs = []
        if not is_imagenet(settings.data):
            published, differs = {}, [f"the images of {settings.data} instead of ImageNet"]
    elif settings.data and is_cifar(settings.data):
        return natural.protocol(settings)
    else:
        nets, published = {"LeNet": ["--net", "lenet"]}, {}
        images = f"the images of {settings.data}" if settings.data else "MNIST"
        differs = [f"{images} and LeNet instead of ImageNet, which --data would name"]
    found = by_mode("table2", nets, settings, 1)
    return mode_report(found, published, differs)


def by_mode(name: str, nets: dict, settings: Any, seeds: int) -> dict:
    """Errors of nets, {row: options}, by mode."""
    quick = ["--epochs", 3] if settings.quick else []
    place = settings.out / "trainings"  # shared by tables 1 and 2
    jobs = {
        (net, column): [
            training_job(
                place / f"{net}-{mode}-seed{seed}", settings, seed, *options, "--mode", mode, *quick
            )
            for seed in range(settings.seeds or (1 if settings.quick else seeds))
        ]
        for net, options in nets.items()
        for column, mode in MODES.items()
    }
    return measure(jobs, name, settings)


def mode_report(found: dict, published: dict, differs: list[str]) -> Report:
    """What comes out of table 1 or 2."""
    lines = [
        "Test error in percent, with the intercepts of equation 6; mean ± standard "
        "deviation over seeds."
    ]
    if any("DG+DG" in columns for columns in found.values()):
        lines[0] += " DG+DG begins anew where GG+DG goes from GG to DG."
    lines += [line for d in differs for line in ("", f"Differs from the paper: {d}.")]
    lines += ["", "| net | gradient | paper | measured | each seed |", "|---|---|---|---|---|"]
    for net, columns in found.items():
        for column, errors in columns.items():
            printed = published.get(net, {}).get(column, "")
            each = ", ".join(f"{e:.2f}" for e in errors)
            lines.append(f"| {net} | {column} | {printed} | {cell(errors)} | {each} |")
    for net, columns in found.items():
        lines += ["", *(f"{net}: {words}" for words in comparisons(columns))]

    def draw(path):
        from app.pictures.errors import error_plot

        error_plot(found, published, path)

    return lines, found, draw


def label_counts(data: Path | None) -> list[int]:
    """Those of table 3's numbers of labels that the data have. ValueError if there are none."""
    counts = LABELS["imagenet" if data and is_imagenet(data) else "mnist"]
    if data is None:
        return counts
    if is_image_folder(data):
        names, listed = list_images(data)
        classes, images = len(names), len(listed["train"])
    else:
        train, _ = load(data)
        classes, images = train.classes, len(train)
    found = [count for count in counts if classes <= count <= images]
    if not found:
        raise ValueError(
            f"{data} has {images} training images of {classes} classes: table3 takes from "
            f"{counts[0]} to {counts[-1]} labels, at least one of each class"
        )
    return found


def table3(settings: Any) -> Report:
    """Few labels: DG, GG+DG on the labelled images alone, and with the unlabelled ones (Eq. 19)."""
    imagenet = settings.data and is_imagenet(settings.data)
    counts = label_counts(settings.data)
    net = "lenet"
    if settings.data and is_image_folder(settings.data):
        net = "alexnet"
    elif settings.data and is_cifar(settings.data):
        net = "cifar10-quick"
    quick = []
    if settings.quick:
        counts, quick = counts[:3][-1:], ["--epochs", 2]
    place = settings.out / "table3"
    jobs = {
        (count, column): [
            training_job(
                place / f"{net}-{count}-{name}-seed{seed}",
                settings,
                seed,
                "--net",
                net,
                "--labels",
                count,
                *options,
                *quick,
            )
            for seed in range(settings.seeds or (1 if settings.quick else 3))
        ]
        for count in counts
        for column, (name, options) in COLUMNS.items()
    }
    found = measure(jobs, "table3", settings)
    epochs = "1 epoch of GG and 1" if settings.quick else "5 epochs of GG and 1"
    lines = [
        "Test error in percent; mean ± standard deviation over seeds. GG+DG has "
        f"{epochs} of DG, DG alone 2, each as long as with all labels."
    ]
    if imagenet:
        lines += [
            "",
            "The paper (50,000, 100,000, 300,000 labels): DG 92.2, 78.7, 61.3; "
            "GG+DG with unlabelled images 89.2, 75.0, 57.7.",
        ]
    else:
        lines += [
            "",
            "Differs from the paper: not ImageNet and AlexNet, whose errors it gives as "
            "DG 92.2, 78.7, 61.3 and GG+DG 89.2, 75.0, 57.7 for 50,000, 100,000, 300,000 "
            "labels, but the same protocol on the data that is here.",
        ]
    lines += ["", "| labels | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for count, columns in found.items():
        cells = [cell(columns.get(name, [])) for name in COLUMNS]
        lines.append(f"| {count:,} | " + " | ".join(cells) + " |")
    by_column = {c: {n: found[n][c] for n in found if c in found[n]} for c in COLUMNS}

    def draw(path):
        from app.pictures.errors import label_plot

        label_plot(by_column, path)

    return lines, {str(count): columns for count, columns in found.items()}, draw
