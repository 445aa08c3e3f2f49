"""Chains on a node of a net: the net on a canvas, the energy, the sampler, what is recorded."""

import zlib

import numpy as np

from app.options.visualize_settings import (
    asked_source,
    latest,
    period,
)
from app.runs.chains import Chains
from app.runs.checks import check_chains
from fast import engine, record
from hmc.energy import NodeEnergy, check_node, rounding_error
from hmc.forecast import QUARTER_TURN, forecast
from hmc.sampler import HMC
from hmc.tuning import RobbinsMonro
from nn.backend import to_device, to_host
from nn.canvas import on_canvas

TARGET_ACCEPTANCE = 0.8
JITTER = 0.2  # of the trajectories' lengths, where the step size is adapted
FRAMES, STAGES = 40, 10  # pictures of a film, and of a chain in the sequence


def load_network(settings):
    """(the net with its weights up to the node's layer, the node's position or None).

    Its images are as large as the node's receptive field, unless a position is given.
    """
    layer, position = settings["layer"], settings["position"]
    network = asked_source(settings).filled(layer)
    latest.clear()  # from here on, the weights of the layers above take no memory
    check_node(network, layer, settings["unit"], position)
    if position is not None:
        return network, position
    return on_canvas(network, layer)


class NodeChains(Chains):
    """Chains on a node of a net: all chains of all units, unit by unit in one batch."""

    def __init__(self, settings, network, position, xp):
        s = self.settings = settings
        self.network = network.to(xp, np.dtype(s["precision"]))
        self.units, self.seconds = len(s["unit"]), 0.0
        n = self.units * s["chains"]
        self.engine = engine(self.network, xp, s["threads"], n, s["plain"])
        unit = np.repeat(s["unit"], s["chains"])
        self.node = NodeEnergy(self.engine, s["layer"], unit, position, s["sigma"])
        steps, tuning = s["leapfrog_steps"], None
        if s["adapt"]:
            largest = QUARTER_TURN * period(s) / steps / (1 + JITTER)  # no trajectory turns back
            tuning = RobbinsMonro(s["step_size"], n, TARGET_ACCEPTANCE, largest)
        sampler = HMC(
            self.node,
            s["step_size"],
            steps,
            s["mass"],
            s["temperature"] or 1.0,  # ascent follows U itself
            JITTER if s["adapt"] else 0.0,
            lambda function: record(function, xp, s["plain"]),
        )
        rng = np.random.default_rng(s["seed"])
        # From q, as in the paper, or from fainter noise.
        x = (
            s["start"]
            * s["sigma"]
            * rng.standard_normal((n, *self.network.input_shape), np.float32)
        )
        self.frames = {}  # iteration: pictures, of all chains for a film, else of each unit's first
        self.stages = growing(s["iterations"], STAGES)
        self.kept = set(self.stages)
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
        """f at the chains' positions: U is known there, so no pass through the net is needed."""
        return {"score": to_host(self.node.reference(state.x)) - self.energy()}

    def record(self, info):
        super().record(info)
        if self.iteration in self.kept:
            shown = self.pictures() if self.settings["film"] else self.pictures()[:, :1]
            self.frames[self.iteration] = shown.astype(np.float32)

    def pictures(self):
        """The chains' images, (units, chains, H, W, C), on the host, in red, green and blue."""
        x = to_host(self.state.x).reshape(self.units, -1, *self.network.input_shape)
        colours = x.shape[-1] == 3
        return x[..., ::-1] if colours and self.settings["pixel_order"] == "bgr" else x

    def weights_checksum(self):
        """Of the net's parameters: a resumed chain must go on with the same net."""
        params = self.network.params().values()
        return sum(zlib.crc32(np.ascontiguousarray(to_host(w))) for w in params)

    def checkpoint(self):
        arrays, rest = super().checkpoint()
        arrays |= {f"frame/{i}": frame for i, frame in self.frames.items()}
        return arrays, rest | {"weights": self.weights_checksum(), "seconds": self.seconds}

    def restore(self, arrays, rest):
        if rest.get("weights") != self.weights_checksum():
            raise ValueError("the net's weights have changed since")
        check_chains(self, arrays, rest)
        super().restore(arrays, rest)
        self.seconds = rest["seconds"]
        self.frames = {int(n[6:]): a for n, a in arrays.items() if n.startswith("frame/")}

    def step(self):
        super().step()
        if self.ascent and not np.isfinite(to_host(self.state.value)).all():
            raise FloatingPointError("the ascent diverged: lower --step-size")

    def flat_units(self):
        """Units whose f has no gradient in any of their chains: a dead ReLU, say."""
        flat = self.node.is_flat(self.state.x).reshape(self.units, -1).all(axis=1)
        return [unit for unit, dead in zip(self.settings["unit"], flat, strict=True) if dead]

    def forecast(self):
        """What these settings would do if f were constant; None for an ascent."""
        s = self.settings
        if self.ascent:
            return None
        step_size = float(np.mean(self.sampler.step_size))
        return forecast(
            s["iterations"], step_size, self.sampler.steps, s["sigma"], s["mass"], s["temperature"]
        )

    def rounding(self):
        """The largest error in U by rounding to float32, or None in float64; chain by chain, so
        that it takes no more memory than the chains did."""
        if self.settings["precision"] == "float64":
            return None
        node, errors, value = self.node, [], self.energy()
        network = self.network.up_to(node.layer).to(np, np.float64)
        for i, unit in enumerate(node.unit):
            exact = NodeEnergy(network, node.layer, unit, node.position or None, node.sigma)
            known = value[i : i + 1], None
            errors.append(
                rounding_error(lambda x, known=known: known, exact, self.state.x[i : i + 1])
            )
        return max(errors) / self.sampler.temperature


def growing(last, count):
    """About `count` iterations from 0 to `last`, close together at first."""
    return sorted({round(last * (i / (count - 1)) ** 2) for i in range(count)})
