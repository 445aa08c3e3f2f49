"""Draw images from any node of a trained ConvNet by Hamiltonian Monte Carlo.

python visualize.py --unit 3
"""

import nn  # noqa: F401  before NumPy: nn/threads.py says why

# isort: split
import shlex
import sys
import time
import zlib
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
from nn.weights import load_weights, save_npz
from report.console import fail_in_one_line, stop_signals, warn
from report.run_folder import write_json
from report.sample_options import period, settings_and_folder

WEIGHTS = Path(__file__).resolve().parent / "assets" / "lenet-dg.npz"
CHECKPOINT_SECONDS = 30  # a killed run loses at most this much work
TARGET_ACCEPTANCE = 0.8
JITTER = 0.2  # of the trajectories' lengths, where the step size is adapted
MOST_SHOWN = 24  # rows and columns of a picture
FRAMES, STAGES = 40, 10  # pictures of a film, and of a chain in the sequence


def load_network(settings):
    """The net with its weights, cut off above the node's layer, on a canvas that suits the node."""
    weights = settings["weights"] or WEIGHTS
    arrays, shape = load_weights(weights, input_shape=(28, 28, 1))
    try:
        network = build(settings["net"], shape, classes=arrays.get("fc2.b", np.empty(10)).size)
        network.set_params(arrays)
    except ValueError as error:
        raise ValueError(f"{weights}: {error}") from None
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
        if not np.isfinite(to_host(self.state.value)).all():
            raise ValueError(
                f"the energy is not finite at the start: the weights, or --sigma {s['sigma']:g}, "
                "are too large"
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
            self.frames[self.iteration] = shown.astype(np.float32)

    def pictures(self):
        """The chains' images, (units, chains, H, W, C), on the host."""
        return to_host(self.state.x).reshape(self.units, -1, *self.network.input_shape)

    def weights_checksum(self):
        """Of the net's parameters: a resumed chain must go on with the same net."""
        params = self.network.named().values()
        return sum(zlib.crc32(np.ascontiguousarray(to_host(w))) for w in params)

    def checkpoint(self):
        arrays, rest = super().checkpoint()
        arrays |= {f"frame/{i}": frame for i, frame in self.frames.items()}
        return arrays, rest | {"weights": self.weights_checksum()}

    def restore(self, arrays, rest):
        if rest["weights"] != self.weights_checksum():
            raise ValueError("the net's weights have changed since")
        super().restore(arrays, rest)
        self.frames = {int(n[6:]): a for n, a in arrays.items() if n.startswith("frame/")}

    def step(self):
        super().step()
        if self.ascent and not np.isfinite(to_host(self.state.value)).all():
            raise FloatingPointError("the ascent diverged: lower --step-size")

    def flat_units(self):
        """Units whose f has no gradient in any of their chains: a dead ReLU, say."""
        flat = self.sampler.energy.is_flat(self.state.x).reshape(self.units, -1).all(axis=1)
        return [unit for unit, dead in zip(self.settings["unit"], flat, strict=True) if dead]

    def forecast(self):
        """What these settings would do if f were constant; None for an ascent."""
        s = self.settings
        if self.ascent:
            return None
        step_size = float(np.mean(self.sampler.step_size))
        return forecast(s["iterations"], step_size, s["leapfrog_steps"], s["sigma"], s["mass"],
                        s["temperature"])  # fmt: skip

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


def write_results(chains, run, told, device):
    """Samples, pictures, and last the diagnostics: they say that all the rest is there."""
    from report.pictures import film, labelled, traces  # matplotlib takes a while to load

    s = chains.settings
    samples = chains.pictures()
    save_npz(run.path / "samples.npz", {"samples": samples, "units": np.array(s["unit"])})
    title = f"{s['net']} {s['layer']}, {s['sampler']}, {s['iterations']} iterations"
    rows = [str(unit) for unit in s["unit"][:MOST_SHOWN]]
    grid = samples[:MOST_SHOWN, :MOST_SHOWN]
    cut = "" if grid.shape == samples.shape else f" (the first of {chains.units} x {s['chains']})"
    labelled(grid, rows, [""] * grid.shape[1], title + cut, run.path / "grid.png")
    stages = [i for i in growing(s["iterations"], STAGES) if i in chains.frames]
    sequence = np.stack([chains.frames[i][:MOST_SHOWN, 0] for i in stages], axis=1)
    labelled(
        sequence, rows, [str(i) for i in stages], f"{title}: one chain", run.path / "sequence.png"
    )
    traces(*(chains.trace(name, chains.units) for name in ("score", "energy", "probability")),
           s["unit"], chains.warm_up, title, run.path / "trace.png")  # fmt: skip
    if s["film"]:
        frames = [frame[:MOST_SHOWN, :MOST_SHOWN] for _, frame in sorted(chains.frames.items())]
        film(frames, run.path / "film.gif")
    found = [
        {"unit": unit} | row
        for unit, row in zip(s["unit"], chains.diagnose(chains.units), strict=True)
    ]
    rounding, turned = chains.rounding(), chains.forecast()
    write_json(
        run.result_file,
        {
            "settings": s,
            "seed": s["seed"],
            "device": device,
            "forecast": vars(told) if told else None,
            "forecast_after_warm_up": vars(turned) if turned else None,
            "rounding_error_of_U": rounding,
            "units": found,
        },
    )
    report(found, rounding, s)


def some_of(units):
    return ", ".join(map(str, units[:10])) + (", ..." if len(units) > 10 else "")


def report(found, rounding, settings):
    """The diagnostics as a table, and in words where something is wrong."""
    print("unit  acceptance  energy error  divergences    ESS  R-hat     score  step size")
    for row in found:
        cells = {
            name: "-" if value is None or isinstance(value, list) else f"{value:.3g}"
            for name, value in row.items()
        }
        print(
            "{unit:>4}  {acceptance:>10}  {energy_error:>12}  {divergences:>11}  {ess:>5}  "
            "{rhat:>5}  {score:>8}  {step_size:>9}".format(**cells)
        )
    if settings["sampler"] == "ascent":
        return

    told = set()  # the first message about a unit is the gravest: no second one

    def said(test, message):
        units = [row["unit"] for row in found if test(row) and row["unit"] not in told]
        told.update(units)
        if units:
            warn(f"unit {some_of(units)}: {message}")

    step = np.median([row["step_size"] for row in found])
    lower = f"lower --step-size (it was {step:.3g}) or raise --temperature"
    said(lambda row: row["chains_that_never_moved"], f"some chains never moved: {lower}")
    said(lambda row: row["divergences"], f"some trajectories diverged: {lower}")
    said(lambda row: (row["acceptance"] or 0) < 0.2, f"few trajectories were accepted: {lower}")
    if rounding is not None and rounding > 0.5:
        warn(
            f"rounding to float32 changes the energy by up to {rounding:.2g}, enough to disturb "
            "the acceptance: --precision float64 would mend it"
        )
    if any((row["rhat"] or 0) > 1.1 for row in found):
        print(
            "R-hat above 1.1: the chains of a unit sit in different modes, as pictures of varying "
            "shape do; each is a sample of its own mode, not of the proportions between them"
        )


def main(argv=None):
    with fail_in_one_line(status=2):
        settings, run, resumed = settings_and_folder(argv)
        if resumed and run.finished():
            print(f"{run.path} is finished: the samples are in {run.path / 'samples.npz'}")
            return
        xp, device = choose_device(settings["device"])
        chains = NodeChains(settings, load_network(settings), xp)
        told, flat = chains.forecast(), chains.flat_units()
        if resumed:
            run.load_checkpoint(chains.restore)
        else:
            run.create(settings)
    s = settings
    print(
        f"{s['net']} {s['layer']}, {chains.units} x {s['chains']} chains on images of "
        f"{chains.network.input_shape}, {device}; in {run.path}"
    )
    if told:
        print(
            f"forecast: theta = {told.theta:.3g}; {told.remains:.2g} of the start will remain, "
            f"{told.reached:.2g} of the shift will be reached"
            + (" (before the step size is adapted)" if s["adapt"] else "")
        )
        if told.warning and not s["adapt"]:
            warn(told.warning)
    if flat:
        warn(
            f"unit {some_of(flat)} of {s['layer']} has no gradient at the start: its chains will "
            "show noise; name the convolution below a ReLU"
        )

    def kept():
        if not run.checkpoint_file.exists():
            return f"; stopped at iteration {chains.iteration}, before the first checkpoint"
        return f"; stopped at iteration {chains.iteration}, go on with --resume {run.path}"

    with fail_in_one_line(status=1, kept=kept), stop_signals() as stopped:
        whole = run_chains(chains, run, stopped)
        run.save_checkpoint(*chains.checkpoint())
        if not whole:
            again = f"python visualize.py --resume {shlex.quote(str(run.path))}"
            print(f"stopped; go on with: {again}", file=sys.stderr)
            sys.exit(128 + stopped[0])
        write_results(chains, run, told, device)
    print(f"pictures and samples are in {run.path}")


if __name__ == "__main__":
    main()
