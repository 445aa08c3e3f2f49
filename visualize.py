"""Draw images from any node of a trained ConvNet by Hamiltonian Monte Carlo.

python visualize.py --unit 3
"""

import nn  # noqa: F401  before NumPy: nn/threads.py says why

# isort: split
import sys
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from hmc.chains import Chains
from hmc.energy import NodeEnergy, check_node, rounding_error
from hmc.forecast import QUARTER_TURN, forecast
from hmc.sampler import HMC
from hmc.tuning import DualAveraging
from nn.backend import choose_device, to_device, to_host
from nn.nets import build
from nn.parallel import parallel
from nn.weights import load_npz, save_npz
from report.console import fail_in_one_line, stop_signals
from report.run_folder import write_json
from report.sample_options import period, settings_and_folder

WEIGHTS = Path(__file__).resolve().parent / "assets" / "lenet-dg.npz"
CHECKPOINT_SECONDS = 30  # a killed run loses at most this much work
TARGET_ACCEPTANCE = 0.8
JITTER = 0.2  # of the trajectories' lengths, where the step size is adapted
FRAMES, STAGES = 40, 10  # pictures of a film, and of a chain in the sequence


def load_network(settings):
    """The net with its weights, cut off above the node's layer, on a canvas that suits the node."""
    arrays = load_npz(settings["weights"] or WEIGHTS)
    shape = tuple(int(n) for n in arrays.pop("input_shape", (28, 28, 1)))
    classes = len(arrays["fc2.b"]) if "fc2.b" in arrays else 10
    network = build(settings["net"], shape, classes)
    network.set_params(arrays)
    layer, position = settings["layer"], settings["position"]
    check_node(network, layer, settings["unit"], position)
    if position is not None:
        return network.up_to(layer)
    return network.up_to(layer, (*network.receptive_field(layer), shape[2]))


class NodeChains(Chains):
    """Chains on a node of a net: all chains of all units, unit by unit in one batch."""

    def __init__(self, settings, network, xp):
        s = self.settings = settings
        self.network = network.to(xp, np.dtype(s["precision"]))
        self.units = len(s["unit"])
        n = self.units * s["chains"]
        self.temperature = s["temperature"] or 1.0  # ascent follows U at T = 1
        energy = NodeEnergy(
            parallel(self.network, s["threads"] if xp is np else 1),
            s["layer"],
            np.repeat(s["unit"], s["chains"]),
            s["position"],
            s["sigma"],
            self.temperature,
        )
        steps, tuning = s["leapfrog_steps"], None
        if s["adapt"]:
            largest = QUARTER_TURN * period(s) / steps / (1 + JITTER)  # no trajectory turns back
            tuning = DualAveraging(s["step_size"], n, TARGET_ACCEPTANCE, largest)
        jitter = JITTER if s["adapt"] else 0.0
        sampler = HMC(energy, s["step_size"], steps, s["mass"], jitter=jitter)
        rng = np.random.default_rng(s["seed"])
        # As in the paper, x starts from the reference distribution q.
        x = s["sigma"] * rng.standard_normal((n, *self.network.input_shape), np.float32)
        self.frames = {}  # iteration: pictures, of all chains for a film, else of each unit's first
        self.kept = set(growing(s["iterations"], STAGES))
        if s["film"]:
            self.kept |= set(growing(s["iterations"], FRAMES))
        super().__init__(
            sampler,
            to_device(x.astype(s["precision"]), xp),
            rng,
            self.score,
            warm_up=s["iterations"] // 2 if s["adapt"] else 0,
            tuning=tuning,
            ascent=s["sampler"] == "ascent",
        )

    def score(self, state):
        """f at the chains' positions, from U = (-f + |x|^2 / (2 sigma^2)) / T."""
        flat = to_host(state.x).reshape(len(state.x), -1).astype(np.float64)
        reference = (flat * flat).sum(axis=1) / (2 * self.settings["sigma"] ** 2)
        return {"score": reference - self.temperature * to_host(state.value)}

    def record(self, info):
        super().record(info)
        if self.iteration in self.kept:
            shown = self.pictures() if self.settings["film"] else self.pictures()[:, :1]
            self.frames[self.iteration] = shown.astype(np.float16)

    def pictures(self):
        """The chains' images, (units, chains, H, W, C), on the host."""
        return to_host(self.state.x).reshape(self.units, -1, *self.network.input_shape)

    def checkpoint(self):
        arrays, rest = super().checkpoint()
        return arrays | {f"frame/{i}": frame for i, frame in self.frames.items()}, rest

    def restore(self, arrays, rest):
        super().restore(arrays, rest)
        self.frames = {int(n[6:]): a for n, a in arrays.items() if n.startswith("frame/")}

    def units_without_gradient(self):
        """Units whose f has no gradient in any chain: below a dead ReLU, say."""
        flat = self.sampler.energy.slope(self.state.x).reshape(self.units, -1)
        return [unit for unit, s in zip(self.settings["unit"], flat, strict=True) if not s.any()]

    def rounding(self):
        """The largest error in U by rounding to float32, or None in float64."""
        if self.settings["precision"] == "float64":
            return None
        energy = self.sampler.energy
        exact = NodeEnergy(self.network.replica().to(np, np.float64), energy.layer, energy.unit,
                           energy.position or None, energy.sigma, energy.temperature)  # fmt: skip
        return rounding_error(energy, exact, self.state.x)


def growing(last, count):
    """About `count` iterations from 0 to `last`, close together at first."""
    return sorted({round(last * (i / (count - 1)) ** 2) for i in range(count)})


def run_chains(chains, run, stopped):
    """The iterations that are left; False if a signal came."""
    total = chains.settings["iterations"]
    interval = 0.1 if sys.stderr.isatty() else 10
    saved = time.perf_counter()
    with tqdm(
        total=total, initial=chains.iteration, unit="it", mininterval=interval, desc="sampling"
    ) as bar:
        while chains.iteration < total:
            chains.step()
            latest = {name: np.mean(record[-1]) for name, record in chains.records.items()}
            bar.set_postfix_str(
                f"score {latest['score']:.4g}, acceptance {latest['probability']:.2f}, "
                f"energy error {latest['energy_error']:.2g}, "
                f"step {np.mean(chains.sampler.step_size):.3g}",
                refresh=False,
            )
            bar.update()
            if stopped:
                return False
            if time.perf_counter() - saved > CHECKPOINT_SECONDS:
                run.save_checkpoint(*chains.checkpoint())
                saved = time.perf_counter()
    return True


def warn(message):
    print(f"visualize.py: warning: {message}", file=sys.stderr)


def write_results(chains, run, told, device):
    """Diagnostics, pictures and samples, the last of which says that all is there."""
    from report.pictures import film, labelled, traces  # matplotlib takes a while to load

    s, found = chains.settings, chains.diagnose(chains.units)
    found = [{"unit": unit} | row for unit, row in zip(s["unit"], found, strict=True)]
    rounding = chains.rounding()
    write_json(
        run.path / "diagnostics.json",
        {"settings": s, "seed": s["seed"], "device": device,
         "forecast": vars(told) if told else None,
         "rounding_error_of_U": rounding, "units": found},
    )  # fmt: skip
    samples = chains.pictures()
    title = f"{s['net']} {s['layer']}, {s['sampler']}, {s['iterations']} iterations"
    rows = [str(unit) for unit in s["unit"]]
    labelled(samples, rows, [""] * samples.shape[1], title, run.path / "grid.png")
    stages = [i for i in growing(s["iterations"], STAGES) if i in chains.frames]
    sequence = np.stack([chains.frames[i][:, 0].astype(np.float32) for i in stages], axis=1)
    labelled(
        sequence, rows, [str(i) for i in stages], f"{title}: one chain", run.path / "sequence.png"
    )
    traces(*(chains.trace(name, chains.units) for name in ("score", "energy", "probability")),
           s["unit"], chains.warm_up, title, run.path / "trace.png")  # fmt: skip
    if s["film"]:
        film([frame.astype(np.float32) for _, frame in sorted(chains.frames.items())],
             run.path / "film.gif")  # fmt: skip
    save_npz(run.result_file, {"samples": samples, "units": np.array(s["unit"])})
    report(found, rounding, s)


def report(found, rounding, settings):
    """The diagnostics as a table, and in words where something is wrong."""
    print("unit  acceptance  energy error  divergences    ESS  R-hat     score")
    for row in found:
        ess, rhat = ("-" if row[k] is None else f"{row[k]:.3g}" for k in ("ess", "rhat"))
        error = "-" if row["energy_error"] is None else f"{row['energy_error']:.3g}"
        print(f"{row['unit']:4}  {row['acceptance']:10.2f}  {error:>12}  {row['divergences']:11}  "
              f"{ess:>5}  {rhat:>5}  {row['score']:8.4g}")  # fmt: skip
    if settings["sampler"] == "ascent":
        return
    lower = f"lower --step-size (it was {settings['step_size']:.3g}) or raise --temperature"
    for row in found:
        if row["chains_that_never_moved"]:
            warn(f"unit {row['unit']}: {row['chains_that_never_moved']} of {settings['chains']} "
                 f"chains never moved: {lower}")  # fmt: skip
        elif row["divergences"]:
            warn(f"unit {row['unit']}: {row['divergences']} trajectories diverged: {lower}")
        elif row["acceptance"] < 0.2:
            warn(f"unit {row['unit']}: acceptance is only {row['acceptance']:.2f}: {lower}")
    if rounding is not None and rounding > 0.5:
        warn(f"rounding to float32 changes the energy by up to {rounding:.2g}, enough to disturb "
             "the acceptance: --precision float64 would mend it")  # fmt: skip


def main(argv=None):
    with fail_in_one_line(status=2):
        settings, run, resumed = settings_and_folder(argv)
        if resumed and run.finished():
            print(f"{run.path} is finished: the samples are in {run.result_file}")
            return
        xp, device = choose_device(settings["device"])
        chains = NodeChains(settings, load_network(settings), xp)
        checkpoint = run.load_checkpoint() if resumed else None
        if checkpoint:
            chains.restore(*checkpoint)
        if not resumed:
            run.create(settings)
    s, told = settings, None
    print(f"{s['net']} {s['layer']}, {chains.units} x {s['chains']} chains on images of "
          f"{chains.network.input_shape}, {device}; in {run.path}")  # fmt: skip
    if s["sampler"] != "ascent":
        told = forecast(*(s[name] for name in ("iterations", "step_size", "leapfrog_steps",
                                               "sigma", "mass", "temperature")))  # fmt: skip
        print(f"forecast: theta = {told.theta:.3g}; {told.remains:.2g} of the start will remain, "
              f"{told.reached:.2g} of the shift will be reached")  # fmt: skip
        if told.warning and not s["adapt"]:
            warn(told.warning)
    for unit in chains.units_without_gradient():
        warn(f"unit {unit} of {s['layer']} has no gradient at the start: its chains will show "
             "noise; name the convolution below a ReLU")  # fmt: skip

    def kept():
        return f"; stopped at iteration {chains.iteration}" + (
            f", the last checkpoint is {run.checkpoint_file}"
            if run.checkpoint_file.exists()
            else ""
        )

    with fail_in_one_line(status=1, kept=kept), stop_signals() as stopped:
        whole = run_chains(chains, run, stopped)
        run.save_checkpoint(*chains.checkpoint())
        if not whole:
            print(f"stopped; go on with: python visualize.py --resume {run.path}", file=sys.stderr)
            sys.exit(128 + stopped[0])
        write_results(chains, run, told, device)
    print(f"pictures and samples are in {run.path}")


if __name__ == "__main__":
    main()
