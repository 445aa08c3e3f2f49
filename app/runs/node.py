"""Chains on a node of a net: the net on a canvas, the energy, the sampler, what is recorded."""

import zlib

import numpy as np

from app.runs.chains import Chains
from hmc.energy import NodeEnergy, check_node, rounding_error
from hmc.forecast import QUARTER_TURN, forecast
from hmc.sampler import HMC
from hmc.tuning import RobbinsMonro
from nn.backend import to_device, to_host
from nn.parallel import parallel
from app.options.visualize_settings import asked_source, latest, period

TARGET_ACCEPTANCE = 0.8
JITTER = 0.2  # of the trajectories' lengths, where the step size is adapted
FRAMES, STAGES = 40, 10  # pictures of a film, and of a chain in the sequence


def load_network(settings):
    """The net with its weights, cut off above the node's layer, on a canvas that suits the node.

    That is its receptive field, unless the node sees all of an image or has a position.
    """
    layer, position = settings["layer"], settings["position"]
    network = asked_source(settings).filled(layer)
    latest.clear()  # from here on, the weights of the layers above take no memory
    check_node(network, layer, settings["unit"], position)
    field = network.receptive_field(layer)
    if position is not None or any(
        n >= size for n, size in zip(field, network.input_shape, strict=False)
    ):
        return network
    return network.up_to(layer, field)


class NodeChains(Chains):
    """Chains on a node of a net: all chains of all units, unit by unit in one batch."""

    def __init__(self, settings, network, xp):
        s = self.settings = settings
        self.network = network.to(xp, np.dtype(s["precision"]))
        self.units, self.seconds = len(s["unit"]), 0.0
        n = self.units * s["chains"]
        self.temperature = s["temperature"] or 1.0  # ascent follows U at T = 1
        energy = NodeEnergy(
            parallel(self.network, s["threads"] if xp is np else 1, n),
            s["layer"],
            np.repeat(s["unit"], s["chains"]),
            s["position"],
            s["sigma"],
            self.temperature,
        )
        steps, tuning = s["leapfrog_steps"], None
        if s["adapt"]:
            largest = QUARTER_TURN * period(s) / steps / (1 + JITTER)  # no trajectory turns back
            tuning = RobbinsMonro(s["step_size"], n, TARGET_ACCEPTANCE, largest)
        jitter = JITTER if s["adapt"] else 0.0
        sampler = HMC(energy, s["step_size"], steps, s["mass"], jitter=jitter)
        rng = np.random.default_rng(s["seed"])
        # From q, as in the paper, or from fainter noise.
        x = (
            s["start"]
            * s["sigma"]
            * rng.standard_normal((n, *self.network.input_shape), np.float32)
        )
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
            heat=s["heat"],
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
        return {"score": reference - self.temperature * self.energy()}

    def record(self, info):
        super().record(info)
        if self.iteration in self.kept:
            shown = self.pictures() if self.settings["film"] else self.pictures()[:, :1]
            self.frames[self.iteration] = shown.astype(np.float32)

    def pictures(self):
        """The chains' images, (units, chains, H, W, C), on the host, in red, green and blue."""
        x = to_host(self.state.x).reshape(self.units, -1, *self.network.input_shape)
        return x[..., ::-1] if self.settings["pixel_order"] == "bgr" else x

    def weights_checksum(self):
        """Of the net's parameters: a resumed chain must go on with the same net."""
        params = self.network.named().values()
        return sum(zlib.crc32(np.ascontiguousarray(to_host(w))) for w in params)

    def checkpoint(self):
        arrays, rest = super().checkpoint()
        arrays |= {f"frame/{i}": frame for i, frame in self.frames.items()}
        return arrays, rest | {"weights": self.weights_checksum(), "seconds": self.seconds}

    def restore(self, arrays, rest):
        if rest["weights"] != self.weights_checksum():
            raise ValueError("the net's weights have changed since")
        super().restore(arrays, rest)
        self.seconds = rest["seconds"]
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
        return forecast(s["iterations"], step_size, self.sampler.steps, s["sigma"], s["mass"],
                        s["temperature"])

    def rounding(self):
        """The largest error in U by rounding to float32, or None in float64."""
        if self.settings["precision"] == "float64":
            return None
        energy = self.sampler.energy
        exact = NodeEnergy(self.network.replica().to(np, np.float64), energy.layer, energy.unit,
                           energy.position or None, energy.sigma, energy.temperature)
        return rounding_error(energy, exact, self.state.x)


def growing(last, count):
    """About `count` iterations from 0 to `last`, close together at first."""
    return sorted({round(last * (i / (count - 1)) ** 2) for i in range(count)})
