"""A checkpoint from a file, held against what a run with its settings can have come to."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from app.runs.training import MOST_RETURNS, STAGES


def need(true: bool, message: str) -> None:
    """ValueError with this message unless something is true."""
    if not true:
        raise ValueError(message)


def same_names(found: Iterable[str], expected: Iterable[str]) -> None:
    """ValueError if names are missing or unknown."""
    found, expected = set(found), set(expected)
    for word, names in (("missing", expected - found), ("unknown", found - expected)):
        need(not names, f"{', '.join(sorted(map(str, names)))} is {word}")


def like(arrays: dict[str, np.ndarray], expected: dict[str, Any], finite: Iterable[str]) -> None:
    """ValueError unless names, shapes and dtypes are as expected, and `finite` ones without NaN."""
    same_names(arrays, expected)
    for name, array in expected.items():
        wanted, there = (f"{np.shape(a)} {np.asarray(a).dtype}" for a in (array, arrays[name]))
        need(wanted == there, f"{name} is {there}, expected {wanted}")
    for name in finite:
        need(np.isfinite(arrays[name]).all(), f"{name} is not finite")


def is_number(value: Any, low: float = -math.inf, high: float = math.inf) -> bool:
    """Whether this is a finite int or float within bounds."""
    return type(value) in (int, float) and math.isfinite(value) and low <= value <= high


def is_count(value: Any, most: float = 10**18) -> bool:
    """Whether this is a whole number from 0 on."""
    return type(value) is int and 0 <= value <= most


def check_training(training: Any, begun: tuple, arrays: dict[str, np.ndarray], state: dict) -> None:
    """ValueError unless a Training that has just begun can go on with this checkpoint.

    begun: (arrays, state) of its own checkpoint, before its first step.
    """
    fresh_arrays, fresh = begun
    like(arrays, fresh_arrays, finite=fresh_arrays)
    same_names(state, fresh)
    s, count, sums = training.settings, len(training.train), len(training.tally.ess_sum)
    epoch, batch, stage, rows = (state[name] for name in ("epoch", "batch", "stage", "rows"))
    stages = STAGES[s["mode"]]
    need(is_count(epoch, s["epochs"] + 1) and epoch, f"epoch is {epoch!r}")
    need(is_count(batch, math.ceil(count / s["batch_size"])), f"batch is {batch!r}")
    need(stage in stages, f"stage is {stage!r}")
    images = min(batch * s["batch_size"], count)
    if stage == "GG" and len(training.others):
        images *= 2
    second = stage == "DG" and s["mode"] == "ggdg"
    second |= s["mode"] == "dgdg" and epoch > s["switch_epoch"]
    lr = s["finetune_lr" if second else "lr"]
    returns = arrays.get("further/returns", np.zeros((), int))
    need(0 <= returns <= MOST_RETURNS, f"further/returns is {returns}")
    lr /= 2 ** int(returns)
    need(state["lr"] == lr, f"lr is {state['lr']!r}, expected {lr!r}")
    found = state["images"]
    fewer = s["mode"] == "samples" and is_count(found, images)  # some losses were not finite
    need(found == images or fewer, f"images is {found!r}, expected {images!r}")
    for name, most in (("guessed", images), ("right", images), ("it", 10**18)):
        need(is_count(state[name], most), f"{name} is {state[name]!r}")
    queued = state.get("queued", 0)
    need(is_count(queued, s["gg_queue"]), f"queued is {queued!r}")
    for name, low in (("loss_sum", -math.inf), ("seconds", 0)):
        need(is_number(state[name], low), f"{name} is {state[name]!r}")
    ess = state["ess_sum"]
    need(isinstance(ess, list) and len(ess) == sums, f"ess_sum has not {sums} numbers")
    least = -math.inf if s["mode"] == "samples" else 0
    need(all(is_number(number, least) for number in ess), f"ess_sum is {ess!r}")
    need(isinstance(rows, list) and len(rows) == epoch - 1, "rows has no row for each epoch")
    columns = training.columns()
    for number, row in enumerate(rows, 1):
        need(isinstance(row, dict), f"row {number} is {row!r}")
        same_names(row, columns)
        need(row["epoch"] == number and row["stage"] in stages, f"row {number} is {row!r}")
        for name in set(columns) - {"epoch", "stage"}:
            right = is_number(row[name]) or (name == "guessed_right" and row[name] == "")
            need(right, f"{name} of row {number} is {row[name]!r}")


def check_chains(chains: Any, arrays: dict[str, np.ndarray], state: dict) -> None:
    """ValueError unless NodeChains that have just begun can go on with this checkpoint."""
    expected, fresh = chains.checkpoint()
    same_names(state, fresh)
    iteration, n = state["iteration"], chains.share.count
    need(is_count(iteration, chains.settings["iterations"]), f"iteration is {iteration!r}")
    for name, record in chains.records.items():
        length = iteration + len(record)
        shape = (length, n) if length else (0,)
        expected[f"record/{name}"] = np.broadcast_to(0.0, shape)
    frame = expected["frame/0"]
    expected |= {f"frame/{i}": frame for i in chains.kept if i <= iteration}
    if np.shape(arrays.get("step_size")) == (n,):  # once they are tuned, each chain has its own
        expected["step_size"] = np.broadcast_to(0.0, (n,))
    like(arrays, expected, finite=("x", "value", "record/energy", "record/score"))
    for name in ("step_size", "temperature", *(name for name in expected if "tuning/" in name)):
        need((np.isfinite(arrays[name]) & (arrays[name] > 0)).all(), f"{name} is not above 0")
    climbed = state["climbed"]
    need(isinstance(climbed, bool), f"climbed is {climbed!r}")
    steps, probability = arrays["steps"], arrays["record/probability"]
    need(1 <= steps <= chains.settings["leapfrog_steps"], f"steps is {steps}")
    need(((probability >= 0) & (probability <= 1)).all(), "record/probability is not from 0 to 1")
    need(is_number(state["seconds"], 0), f"seconds is {state['seconds']!r}")
