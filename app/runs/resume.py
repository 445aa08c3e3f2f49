"""What a training needs to go on exactly where it was."""

import numpy as np

from app.runs.checks import check_training
from app.runs.training import Training
from nn.backend import to_device, to_host

PLAIN = "epoch", "stage", "batch", "seconds", "rows", "it", "lr"  # attributes as JSON has them


def training_state(training: Training) -> tuple[dict, dict]:
    """(arrays, the rest) of a checkpoint. FloatingPointError instead of broken weights."""
    training.look()
    weights, velocity = training.network.params(), training.sgd.velocity
    for name, w in weights.items():
        if not np.isfinite(to_host(w)).all():
            raise FloatingPointError(f"{name} is not finite after {training.when(training.it)}")
    arrays = {f"w/{name}": to_host(w) for name, w in weights.items()}
    arrays |= {f"V/{name}": to_host(V) for name, V in velocity.items()}
    arrays |= {f"further/{name}": a for name, a in training.further_state().items()}
    tally = training.tally
    rest = {name: getattr(training, name) for name in PLAIN}
    rest |= {name: getattr(tally, name) for name in tally.COUNTS}
    if len(training.queue):
        arrays["queue"], rest["queued"] = to_host(training.queue), training.queued
    return arrays, rest | {"ess_sum": list(tally.ess_sum)}


def restore_training(training: Training, arrays: dict, rest: dict) -> None:
    """Go back to what `training_state` returned. ValueError if that cannot be."""
    check_training(training, training_state(training), arrays, rest)
    training.start_stage(rest["stage"], rest["lr"])
    training.epoch = rest["epoch"]
    training.start_epoch()
    training.network.set_params({k[2:]: v for k, v in arrays.items() if k.startswith("w/")})
    for name, V in training.sgd.velocity.items():
        V[...] = to_device(arrays[f"V/{name}"], training.xp)
    further = {k[8:]: v for k, v in arrays.items() if k.startswith("further/")}
    training.restore_further(further)
    if len(training.queue):
        training.queue[...] = to_device(arrays["queue"], training.xp)
        training.queued = rest["queued"]
    for name in PLAIN:
        setattr(training, name, rest[name])
    for name in training.tally.COUNTS:
        setattr(training.tally, name, rest[name])
    training.tally.ess_sum = np.array(rest["ess_sum"])
