"""Draw images from any node of a trained ConvNet by Hamiltonian Monte Carlo.

python visualize.py --unit 3
"""

import app  # noqa: F401  first: app/interrupts.py says why

# isort: split
import shlex
import sys
import time

import numpy as np
from tqdm import tqdm

from app.console import fail_in_one_line, stop_signals, warn
from app.formats.npz import save_npz
from app.job import started_job
from app.options.common import left_to_do
from app.options.visualize import settings_and_folder
from app.pictures.of_runs import ChainPictures
from app.runs.folder import write_json
from app.runs.node import NodeChains, load_network
from app.runs.report import announce, report
from fast.device import choose_device

CHECKPOINT_SECONDS = 30  # a killed run loses at most this much work


def climb(chains, stopped, job):
    """The ascent that chains may begin with; False if a signal came."""
    steps = chains.settings["ascent_steps"]
    interval = 0.1 if sys.stderr.isatty() else 10
    how = {"unit": "step", "mininterval": interval, "disable": not job.first}
    bar = tqdm(chains.climb(), "climbing", steps, **how)
    return all(not job.signal(stopped) for _ in bar)


def run_chains(chains, run, stopped, job):
    """The iterations that are left; False if a signal came."""
    total = chains.settings["iterations"]
    interval = 0.1 if sys.stderr.isatty() else 10
    saved = time.perf_counter()
    how = {"unit": "it", "mininterval": interval, "disable": not job.first}
    with tqdm(total=total, initial=chains.iteration, desc="sampling", **how) as bar:
        while chains.iteration < total:
            began = time.perf_counter()
            chains.step()
            chains.seconds += time.perf_counter() - began
            latest = {name: np.mean(record[-1]) for name, record in chains.records.items()}
            error = np.abs(chains.records["energy_error"][-1]).mean()
            bar.set_postfix_str(
                f"score {latest['score']:.4g}, acceptance {latest['probability']:.2f}, "
                f"energy error {error:.2g}, "
                f"step {np.mean(chains.step_size):.3g}",
                refresh=False,
            )
            bar.update()
            if job.signal(stopped):
                return False
            if job.ranks.agree(time.perf_counter() - saved > CHECKPOINT_SECONDS):
                save(chains, run, job)
                saved = time.perf_counter()
    return True


def save(chains, run, job):
    """Write a checkpoint: the ranks bring their chains, and rank 0 writes."""
    checkpoint = chains.checkpoint()
    if job.first:
        run.save_checkpoint(*checkpoint)


def write_results(chains, run, predicted, device, job):
    """Samples, then the diagnostics, then pictures: drawing may fail, and costs no numbers."""
    s, pictures = chains.settings, ChainPictures(chains)
    samples = {"samples": pictures.samples, "units": np.array(s["unit"])}
    if chains.reference.noise:
        samples["without_noise"] = pictures.shown
    if job.first:
        save_npz(run.path / "samples.npz", samples)
    found = [
        {"unit": unit} | row
        for unit, row in zip(s["unit"], chains.diagnose(chains.units), strict=True)
    ]
    try:
        rounding = chains.rounding()
    except MemoryError:
        rounding = None
        warn("the rounding of the energy was not checked: out of memory")
    if not job.first:
        return
    turned = chains.forecast()
    write_json(
        run.result_file,
        {
            "settings": s,
            "seed": s["seed"],
            "seconds": chains.seconds,
            "device": device,
            "forecast": vars(predicted) if predicted else None,
            "forecast_after_warm_up": vars(turned) if turned else None,
            "leapfrog_steps_after_warm_up": chains.sampler.steps,
            "rounding_error_of_U": rounding,
            "units": found,
        },
    )
    if turned and s["adapt"]:
        print(
            f"after the warm-up: theta = {turned.theta:.3g}, L = {chains.sampler.steps}; without f "
            f"{turned.remains:.2g} of the start would remain at the end"
        )
    report(found, rounding, s)
    pictures.draw(run.path)


def main(argv=None):
    with started_job() as job:
        sample(argv, job)


def sample(argv, job):
    less = "lower --chains, or the number of units"
    with fail_in_one_line(status=2, less=less):
        settings, run, resumed = job.by_first(
            lambda: left_to_do(*settings_and_folder(argv), "samples", "samples.npz")
        )
        xp, device = choose_device(settings["device"], job.ranks.place_on_host)
        net = job.in_turn(lambda: load_network(settings))
        chains = NodeChains(settings, *net, xp, job.ranks)
        predicted, flat = chains.forecast(), chains.flat_units()
        if resumed:
            job.load_checkpoint(run, chains.restore)
        elif job.first:
            run.create(settings)

    def kept():
        return f"; stopped at iteration {chains.iteration}, {run.kept()}"

    with fail_in_one_line(status=1, kept=kept, less=less), stop_signals() as stopped:
        announce(chains, run, device + job.in_words(), predicted, flat)
        whole = not chains.begins_with_an_ascent() or climb(chains, stopped, job)
        whole = whole and run_chains(chains, run, stopped, job)
        save(chains, run, job)
        if not whole:
            again = f"python visualize.py --resume {shlex.quote(str(run.path))}"
            print(f"stopped; go on with: {again}", file=sys.stderr)
            job.end(128 + job.signal(stopped))
        write_results(chains, run, predicted, device, job)
        print(f"pictures and samples are in {run.path}")


if __name__ == "__main__":
    main()
