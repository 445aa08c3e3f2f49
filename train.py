"""Train a ConvNet by the generative gradient, the discriminative one, or one after the other.

python train.py --net lenet --mode ggdg
"""

import app  # noqa: F401  first: app/interrupts.py says why

# isort: split
import shlex
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
from tqdm import tqdm

from app.console import by, fail_in_one_line, stop_signals, warn
from app.data.ahead import ahead
from app.data.load import load
from app.formats.net import graph_or_name, input_shape_of, read_source
from app.formats.weights import save_weights
from app.job import ALONE, started_job
from app.options.common import left_to_do
from app.options.train import settings_and_folder
from app.pictures.of_runs import training_pictures
from app.runs.folder import write_csv
from app.runs.resume import restore_training, training_state
from app.runs.sampled import SampledTraining
from app.runs.training import Training, bias_of_scores
from fast.device import choose_device
from nn.backend import to_host
from nn.nets import NETS

CHECKPOINT_SECONDS = 60  # a killed run loses at most this much work, or an epoch if that is less


def run_epoch(training, run, stopped, job=ALONE):
    """The batches that are left of this epoch; False if a signal came."""
    left = training.batches()
    reader = (training.read_batch(batch) for batch in left)
    if training.train.on_disk:  # in memory it takes 0.05 ms, and a thread 1 ms of a LeNet step
        reader = ahead(training.read_batch, left)
    interval = 0.1 if sys.stderr.isatty() else 10
    title = f"epoch {training.epoch}/{training.settings['epochs']} {training.stage}"
    shown = saved = time.perf_counter()
    pause = CHECKPOINT_SECONDS
    shape = {"total": left.stop, "initial": left.start, "unit": "batch"}
    bar = tqdm(desc=title, mininterval=interval, disable=not job.first, **shape)
    with bar, closing(reader) as batches:
        for images, labels, known in batches:
            training.step(images, labels, known)
            if time.perf_counter() - shown > 0.5 or training.batch == left.stop:
                show(training, bar)
                shown = time.perf_counter()
            bar.update()
            if job.signal(stopped):
                return False
            if job.first and time.perf_counter() - saved > pause:
                began = time.perf_counter()
                run.save_checkpoint(*training_state(training))
                saved = time.perf_counter()
                pause = max(CHECKPOINT_SECONDS, 20 * (saved - began))  # 5 % of the time at most
        training.end_epoch()
        show(training, bar)
    return True


def net_and_data(settings):
    """(network, training images, test images), all of which fit together; else ValueError."""
    s = settings
    net = graph_or_name(s["net"])
    shape = input_shape_of(net)
    pixels = {name: s[f"pixel_{name}"] for name in ("scale", "mean", "order")}
    train, test = load(
        s["data"],
        s["classes"],
        s["limit"],
        shape,
        pixels,
        s["prepared"],
        s["threads"],
        s["skip_broken"],
    )
    if s["held_out"] is not None:
        train, test = train.apart(s["held_out"])
    if s["mode"] not in ("dg", "dgdg"):
        train.need_every_class()
    source = read_source(net, s["weights"], train.shape, train.classes, s["filler"])
    network = source.filled(seed=s["seed"])
    if network.shapes[network.last] != (train.classes,):
        raise ValueError(
            f"the scores of {s['net']} are {network.shapes[network.last]} for an image, "
            f"expected one for each of {train.classes} classes"
        )
    if s["mode"] not in ("dg", "dgdg", "joint") and bias_of_scores(network) is None:
        raise ValueError(
            f"--mode {s['mode']}: the intercepts of Eq. 6 become part of the bias of the scores, "
            f"and {s['net']} has no bias there: --mode dg needs none"
        )
    if s["net"] in NETS and shape != train.shape:
        images = f"the images of {s['data'] or 'MNIST'} are {by(train.shape)}"
        warn(f"{s['net']} was made for images of {by(shape)}, {images}")
    for name in source.pixels.keys() & {"scale", "order"}:
        theirs, ours = source.pixels[name], getattr(train.pixels, name)
        if (theirs != ours) if name == "order" else not np.allclose(theirs, ours, 1e-3, 0):
            warn(f"{s['weights']} is for --pixel-{name} {theirs}, this run has {ours}")
    return network, train, test


def show(training, bar):
    """The numbers that matter, behind the bar."""
    training.look()
    row, tally = training.rows[-1] if training.rows else {}, training.tally
    numbers = {}
    ess = "ESS/(n+m)" if training.queued else "ESS/n"
    if training.stage == "samples":
        means = tally.means() if tally.images else row
        numbers |= {
            name.replace("_", " "): f"{means[name]:.3g}"
            for name in ("gap", "acceptance", "step_size")
            if means
        }
    elif tally.images:
        numbers |= {"loss": f"{tally.loss:.4f}", ess: f"{tally.ess.mean():.2f}"}
    elif row:
        numbers |= {"loss": f"{row['loss']:.4f}", ess: f"{row['ess']:.2f}"}
    if tally.guessed:
        numbers["guessed right"] = f"{100 * tally.guessed_right():.1f} %"
    if row:
        of = f" of epoch {row['epoch']}" if training.batch else ""  # else the bar's own
        numbers[f"{error_name(training.settings)}{of}"] = f"{row['test_error_eq6']:.2f} %"
    bar.set_postfix(numbers, refresh=False)


def error_name(settings):
    """Which images an error is of, in words."""
    return "test error" if settings["held_out"] is None else "held-out error"


def main(argv=None):
    with started_job() as job:
        run_training(argv, job)


def run_training(argv, job):
    with fail_in_one_line(status=2):
        settings, run, resumed = job.by_first(
            lambda: left_to_do(*settings_and_folder(argv), "weights", "model.npz")
        )
        xp, device = choose_device(settings["device"], job.ranks.place_on_host)
        network, train, test = job.in_turn(lambda: net_and_data(settings))
        network.to(xp)
        kind = SampledTraining if settings["mode"] == "samples" else Training
        training = kind(settings, network, train, test, xp, job.ranks)
        if resumed:
            job.load_checkpoint(run, lambda *saved: restore_training(training, *saved))
        elif job.first:
            run.create(settings)

    def kept():
        done = f"epoch {training.epoch}, batch {training.batch}"
        done = "after all epochs" if training.epoch > settings["epochs"] else f"in {done}"
        return f"; stopped {done}, {run.kept()}"

    batch = min(settings["batch_size"], len(train))
    less = f"lower --batch-size (it is {batch})"
    with fail_in_one_line(status=1, kept=kept, less=less), stop_signals() as stopped:
        form = f"{device}, the textbook alone" if settings["plain"] else device
        print(
            f"{Path(settings['net']).stem}, {settings['mode']}, {len(train)} images, {form}"
            f"{job.in_words()}; in {run.path}"
        )
        while training.epoch <= settings["epochs"]:
            whole = run_epoch(training, run, stopped, job)
            if job.first:
                run.save_checkpoint(*training_state(training))
                if training.rows:
                    write_csv(run.path / "metrics.csv", training.rows)
            number = job.signal(stopped)
            if number or not whole:
                print(
                    f"stopped; go on with: python train.py --resume {shlex.quote(str(run.path))}",
                    file=sys.stderr,
                )
                job.end(128 + number)
        if not job.first:
            return
        rows = training.rows
        write_csv(run.path / "metrics.csv", rows)
        weights = {name: to_host(w) for name, w in training.network.params().items()}
        weights |= training.kept_with_weights()
        save_weights(run.result_file, weights, network.input_shape, *train.input_settings())
        minutes = sum(row["seconds"] for row in rows) / 60
        print(
            f"{error_name(settings)} {rows[-1]['test_error_eq6']:.2f} % after {len(rows)} epochs, "
            f"{minutes:.1f} minutes; weights in {run.result_file}"
        )
        training_pictures(training, run.path)


if __name__ == "__main__":
    main()
