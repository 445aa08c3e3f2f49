"""The options of train.py: what they mean, their defaults (the paper's), what goes together."""

from nn.fillers import FILLERS
from nn.nets import NETS
from nn.sgd import POLICIES
from nn.threads import THREADS
from report.console import OneLineParser, absolute_path, number
from report.run_folder import open_run

DEFAULTS = {
    "net": "lenet",
    "mode": "ggdg",
    "epochs": 25,
    "switch_epoch": None,
    "switch_ess": None,
    "batch_size": 64,
    "lr": 0.01,
    "finetune_lr": 0.003,
    "momentum": 0.9,
    "weight_decay": 0.0005,
    "lr_policy": "inv",
    "filler": "xavier",
    "seed": 0,
    "device": "auto",
    "threads": THREADS,
    "data": None,
    "classes": 10,
    "limit": None,
}

EPILOG = """\
examples:
  python train.py                                   the paper's GG+DG run: LeNet on MNIST
  python train.py --mode dg --epochs 3              a first try in half a minute
  python train.py --switch-ess 0.2                  let the effective sample size end GG
  python train.py --data my-folder --classes 26     other images in MNIST's format
  python train.py --resume runs/lenet-ggdg-seed0    go on with a run that was stopped
"""


def parser():
    p = OneLineParser(
        prog="train.py",
        description="Train a ConvNet by the discriminative gradient (dg), the generative gradient\n"
        "(gg), or gg as pre-training for dg (ggdg). Defaults are the paper's settings.",
        epilog=EPILOG,
    )

    def option(name, text, **how):
        default = DEFAULTS.get(name.strip("-").replace("-", "_"))
        p.add_argument(name, help=text if default is None else f"{text} (default {default})", **how)

    option("--net", "which network", choices=NETS)
    option("--mode", "dg: softmax over classes; gg: softmax over images; ggdg: gg, then dg",
           choices=["dg", "gg", "ggdg"])  # fmt: skip
    option(
        "--epochs",
        "passes over the training images",
        type=number(int, low=1, high=10**9),
        metavar="N",
    )
    option("--switch-epoch", "ggdg: epochs of gg before dg (default 16 of 25, or as many in "
           "proportion)", type=number(int, low=1, high=10**9), metavar="N")  # fmt: skip
    option("--switch-ess", "ggdg: go to dg earlier, once the importance weights' effective sample "
           "size falls below this share of the batch, on average over an epoch",
           type=number(float, above=0, high=1), metavar="X")  # fmt: skip
    option("--batch-size", "images in a batch", type=number(int, low=2, high=10**9), metavar="N")
    option("--lr", "learning rate", type=number(float, above=0), metavar="X")
    option("--finetune-lr", "ggdg: learning rate of its dg part", type=number(float, above=0),
           metavar="X")  # fmt: skip
    option("--momentum", "momentum", type=number(float, low=0, below=1), metavar="X")
    option("--weight-decay", "weight decay", type=number(float, low=0), metavar="X")
    option("--lr-policy", "fixed; inv: lr (1 + 1e-4 it)^-0.75; step: a tenth every 100,000 steps",
           choices=POLICIES)  # fmt: skip
    option("--filler", "initial weights; xavier-caffe2014 has the bug of the paper's time",
           choices=FILLERS)  # fmt: skip
    option("--seed", "of the initial weights and the order of the images",
           type=number(int, low=0, high=10**9), metavar="N")  # fmt: skip
    option("--device", "where to compute", choices=["auto", "cpu", "gpu"])
    option("--threads", "threads that share a batch on the CPU", type=number(int, low=1, high=256),
           metavar="N")  # fmt: skip
    option("--data", "folder with four IDX files, gzipped or not (default: MNIST, included)",
           type=absolute_path, metavar="FOLDER")  # fmt: skip
    option(
        "--classes",
        "number of classes in the data",
        type=number(int, low=2, high=10**9),
        metavar="N",
    )
    option(
        "--limit",
        "use only the first N training images",
        type=number(int, low=2, high=10**9),
        metavar="N",
    )
    option(
        "--out",
        "where the run is kept (default: a new folder under runs/)",
        metavar="FOLDER",
    )
    option("--resume", "go on with the run in FOLDER (or in --out) from its last checkpoint",
           nargs="?", metavar="FOLDER")  # fmt: skip
    return p


def settings_and_folder(argv):
    """(settings, RunFolder, whether it is resumed) from a command line; see open_run."""
    given = vars(parser().parse_args(argv))
    return open_run(given, complete, "runs", "{net}-{mode}-seed{seed}", "model.npz")


def complete(given):
    """All settings from those given. ValueError if they do not go together."""
    settings = {**DEFAULTS, **given}
    epochs = settings["epochs"]
    if settings["mode"] != "ggdg":
        for name in ("switch_epoch", "switch_ess", "finetune_lr"):
            if name in given:
                raise ValueError(f"--{name.replace('_', '-')} goes with --mode ggdg only")
        return settings
    if settings["switch_epoch"] is None:
        settings["switch_epoch"] = max(1, round(epochs * 16 / 25))
    if settings["switch_epoch"] >= epochs:
        raise ValueError(
            f"--mode ggdg with {epochs} epochs, {settings['switch_epoch']} of them gg, leaves "
            "none for dg: raise --epochs or lower --switch-epoch"
        )
    return settings
