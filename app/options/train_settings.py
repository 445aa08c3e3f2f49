"""The settings of train.py: the paper's for LeNet, those of a net's authors, what goes together."""

from typing import Any

from fast.cpu.threads import cores
from nn.nets import NETS

DEFAULTS = {
    "net": "lenet",
    "mode": "ggdg",
    "epochs": 25,
    "switch_epoch": None,
    "switch_ess": None,
    "batch_size": 64,
    "lr": 0.01,
    "finetune_lr": 0.003,
    "gg_weight": 1.0,
    "gg_queue": 0,
    "momentum": 0.9,
    "weight_decay": 0.0005,
    "lr_policy": "inv",
    "lr_step": 100_000,
    "filler": "xavier",
    "weights": None,
    "seed": 0,
    "device": "auto",
    "threads": cores(),
    "plain": False,
    "format": "png",
    "data": None,
    "classes": None,
    "limit": None,
    "held_out": None,
    "labels": None,
    "unlabeled_weight": 0.1,
    "reference": "data",
    "chains": 50,
    "trajectories": 1,
    "leapfrog_steps": 5,
    "acceptance": 0.7,
    "rebirth": 0.01,
    "pixel_noise": 0.1,
    "dg_weight": 5.0,
    "mean_over": 500,
    "pixel_scale": 1 / 256,
    "pixel_mean": 0.0,
    "pixel_order": "rgb",
    "prepared": None,
    "skip_broken": False,
}

SEMI_SUPERVISED_EPOCHS = 6  # 5 of gg and 1 of dg, each as long as with all labels

# Many small updates: chains are moved for each image, whatever the batch.
SAMPLES = {"net": "digits", "epochs": 4, "batch_size": 32, "lr": 5e-4, "lr_policy": "fixed"}
SAMPLES |= {"weight_decay": 0.0}

# What else a net's authors did: Caffe's bvlc_alexnet and cifar10_quick solvers, torchvision.
CAFFE_PIXELS = {"pixel_scale": 1.0, "pixel_mean": "image"}
IMAGENET = {"epochs": 70, "batch_size": 256, "lr_policy": "step"}
NET_DEFAULTS = {
    "alexnet": {**IMAGENET, **CAFFE_PIXELS, "pixel_order": "bgr"},
    "zeilerfergus": {**IMAGENET, **CAFFE_PIXELS, "pixel_order": "bgr"},
    "alexnet-torchvision": {
        **IMAGENET,
        "pixel_mean": [123.675, 116.28, 103.53],
        "pixel_scale": [1 / (255 * s) for s in (0.229, 0.224, 0.225)],
    },
    "cifar10-quick": {
        **CAFFE_PIXELS,
        "epochs": 10,
        "batch_size": 100,
        "lr": 0.001,
        "finetune_lr": 0.0003,
        "weight_decay": 0.004,
        "lr_policy": "step",
        "lr_step": 4000,
    },
}


TWO_PARTS = "ggdg", "dgdg"
ONLY_TWO_PARTS = ("switch_epoch", "switch_ess", "finetune_lr")
ONLY_SAMPLES = ("reference", "chains", "trajectories", "leapfrog_steps", "acceptance", "rebirth")
ONLY_SAMPLES = *ONLY_SAMPLES, "dg_weight", "pixel_noise", "mean_over"
ONLY_WITH_OTHERS = (  # settings that go with some others, not with all
    "filler",
    "unlabeled_weight",
    "lr_step",
    "gg_weight",
    *ONLY_TWO_PARTS,
    *ONLY_SAMPLES,
)
# Runs made before there were these had their defaults.
LATER = ("gg_weight", "gg_queue", "held_out", "format", *ONLY_SAMPLES)


def defaults_of(given: dict[str, Any]) -> dict[str, Any]:
    """The settings of the net that is given, or is usual for the mode that is given."""
    samples = SAMPLES if given.get("mode") == "samples" else {}
    net = given.get("net", samples.get("net", DEFAULTS["net"]))
    pixels = {k: v for k, v in NET_DEFAULTS.get(net, {}).items() if not samples or "pixel" in k}
    return {**DEFAULTS, **samples, **pixels, "net": net}


def complete(given: dict[str, Any]) -> dict[str, Any]:
    """All settings from those given. ValueError if they do not go together."""
    samples = given.get("mode") == "samples"
    usual = defaults_of(given)
    net, settings = given.get("net", usual["net"]), {**usual, **given}
    for name in ONLY_SAMPLES if not samples else ("labels", "unlabeled_weight"):
        if given.get(name) is not None:
            option = name.replace("_", "-")
            raise ValueError(
                f"--{option} does not go with --mode samples"
                if samples
                else f"--{option} goes with --mode samples only"
            )
    if "filler" in given and not (net in NETS and NETS[net].takes_filler):
        raise ValueError(f"{net} has initial weights of its own: --filler does not go with it")
    if settings["labels"] is None and "unlabeled_weight" in given:
        raise ValueError("--unlabeled-weight goes with --labels only")
    if settings["mode"] in ("dg", "dgdg") and "unlabeled_weight" in given:
        raise ValueError("--unlabeled-weight goes with gg and ggdg only: dg has no use for them")
    if settings["mode"] != "joint" and "gg_weight" in given:
        raise ValueError("--gg-weight goes with --mode joint only")
    if settings["gg_queue"] and settings["mode"] in ("dg", "dgdg", "samples"):
        raise ValueError("--gg-queue goes with gg, ggdg and joint: no others weigh images")
    if settings["labels"] is not None and (settings["gg_queue"] or settings["mode"] == "joint"):
        raise ValueError("--labels goes with neither --mode joint nor --gg-queue")
    if settings["lr_policy"] != "step" and "lr_step" in given:
        raise ValueError("--lr-step goes with --lr-policy step only")
    if settings["labels"] is not None and "epochs" not in given:
        settings["epochs"] = SEMI_SUPERVISED_EPOCHS
    epochs = settings["epochs"]
    asked = [name for name in ONLY_TWO_PARTS if name in given]
    if epochs == 1 and "mode" not in given and not asked:
        settings["mode"] = "gg"  # nobody asked for a dg epoch
    if settings["mode"] not in TWO_PARTS:
        if asked:
            modes = "ggdg only" if asked[0] == "switch_ess" else "ggdg and dgdg only"
            raise ValueError(f"--{asked[0].replace('_', '-')} goes with --mode {modes}")
        return settings
    if settings["mode"] == "dgdg" and "switch_ess" in given:
        raise ValueError("--switch-ess goes with --mode ggdg only")
    if settings["switch_epoch"] is None:
        share = 16 / 25 if settings["labels"] is None else 5 / 6
        settings["switch_epoch"] = max(1, min(round(epochs * share), epochs - 1))
    if settings["switch_epoch"] >= epochs:
        instead = "lower --switch-epoch" if epochs > 1 else "choose --mode gg or dg"
        raise ValueError(
            f"--mode {settings['mode']} with --epochs {epochs}, {settings['switch_epoch']} of them "
            f"in its first part, leaves none for dg: raise --epochs, or {instead}"
        )
    return settings


def goes_together(settings: dict[str, Any]) -> None:
    """ValueError if no command line can have asked for these settings."""
    usual = defaults_of(settings)
    asked = {
        name: value
        for name, value in settings.items()
        if name not in ONLY_WITH_OTHERS or value != usual[name]
    }
    for name, value in complete(asked).items():
        if settings[name] != value:
            raise ValueError(f"{name} is {settings[name]!r}, but {value!r} goes with the others")
