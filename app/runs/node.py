"""Chains on a node of a net: the net on a canvas, the energy, the sampler, what is recorded."""

import zlib
from copy import copy

import numpy as np

from app.options.visualize_settings import STARTS, asked_source, latest, period
from app.runs.chains import Chains
from app.runs.checks import check_chains
from app.runs.references import read_image, reference_of
from app.runs.share import Share
from fast import engine, record_trajectories
from fast.ranks import ALONE
from hmc.ascent import Ascent
from hmc.energy import NodeEnergy, check_node, rounding_error
from hmc.forecast import QUARTER_TURN, forecast
from hmc.sampler import HMC
from hmc.tuning import RobbinsMonro
from nn.backend import array_module, to_device, to_host
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
    """Chains on a node of a net: all chains of all units, unit by unit in one batch.

    They move z; the images are x = mu + A z of the reference distribution.
    """

    def __init__(self, settings, network, position, xp, ranks=ALONE):
        s = self.settings = settings
        self.network = network.to(xp, np.dtype(s["precision"]))
        self.units, self.seconds, self.climbed = len(s["unit"]), 0.0, False
        n = self.units * s["chains"]
        share = Share(n, ranks)
        own = len(range(n)[share.rows])
        self.engine = engine(self.network, xp, s["threads"], own, s["plain"])
        self.reference = reference_of(s, network.input_shape).to(xp, np.dtype(s["precision"]))
        unit = share.own(np.repeat(s["unit"], s["chains"]))
        self.node = NodeEnergy(self.engine, s["layer"], unit, position, self.reference)
        steps, tuning = s["leapfrog_steps"], None
        if s["adapt"]:
            largest = QUARTER_TURN * period(s) / steps / (1 + JITTER)  # no trajectory turns back
            tuning = RobbinsMonro(s["step_size"], n, TARGET_ACCEPTANCE, largest)
        self.ascent = s["sampler"] == "ascent"
        if self.ascent:
            sampler = Ascent(self.node, s["step_size"], s["iterations"])
        else:
            jitter = JITTER if s["adapt"] else 0.0
            sampler = HMC(self.node, s["step_size"], steps, s["mass"], s["temperature"], jitter)
            record_trajectories(sampler, xp, s["plain"])
        rng = np.random.default_rng(s["seed"])
        self.frames = {}  # iteration: pictures, of all chains for a film, else of each unit's first
        self.stages = growing(s["iterations"], STAGES)
        self.kept = set(self.stages)
        if s["film"]:
            self.kept |= set(growing(s["iterations"], FRAMES))
        super().__init__(
            sampler,
            to_device(share.own(self.first(rng, n)), xp),
            rng,
            self.score,
            warm_up=s["iterations"] // 2 if s["adapt"] else 0,
            tuning=tuning,
            heat=s["heat"],
            share=share,
        )
        if not np.isfinite(self.records["energy"][0]).all():
            raise ValueError(
                f"the energy is not finite at the start: the weights, or --sigma {s['sigma']:g}, "
                "are too large"
            )

    def first(self, rng, n):
        """The chains' first z: noise from q, or the z of a picture."""
        s = self.settings
        noise = s["spread"] * rng.standard_normal((n, *self.reference.shape), np.float32)
        if s["start"] in STARTS:
            return noise.astype(s["precision"])
        x = read_image(s["start"], self.network.input_shape, s["pixels"]).astype(s["precision"])
        z = self.reference.coordinates(to_device(x[None], array_module(self.reference.mean)))
        return np.repeat(to_host(z), n, axis=0) + 0 * noise.astype(s["precision"])

    def begins_with_an_ascent(self):
        return self.settings["start"] == "ascent" and not self.climbed

    def climb(self):
        """Begin anew from where an ascent leads: a step of it at each turn of the caller's loop."""
        s = self.settings
        ascent = Ascent(self.node, s["ascent_size"], s["ascent_steps"])
        state = ascent.start(self.state.x)
        for _ in range(s["ascent_steps"]):
            state, _ = ascent.step(state)
            yield
        self.state, self.climbed = self.sampler.start(state.x), True
        self.begin()

    def score(self, state):
        """f at the chains' positions: U is known there, so no pass through the net is needed."""
        return {"score": to_host(self.node.score(state.x, self.state_energy(state)))}

    def record(self, info):
        super().record(info)
        if self.iteration in self.kept:
            shown = self.shown() if self.settings["film"] else self.shown()[:, :1]
            self.frames[self.iteration] = shown.astype(np.float32)

    def pictures(self):
        """The chains' images, (units, chains, H, W, C), on the host, in red, green and blue."""
        return self.as_pictures(self.reference.image(self.state.x))

    def shown(self):
        """The same without noise, if the net was learned from images with noise."""
        return self.as_pictures(self.node.without_noise(self.state.x))

    def as_pictures(self, x):
        x = self.share.gather(to_host(x))
        x = x.reshape(self.units, -1, *self.network.input_shape)
        colours = x.shape[-1] == 3
        return x[..., ::-1] if colours and self.settings["pixel_order"] == "bgr" else x

    def weights_checksum(self):
        """Of the net's parameters, and of what q was measured from or came with them: a resumed
        chain must go on with the same."""
        params = list(self.network.params().values())
        if self.settings["reference"] == "file":
            params += [a for a in vars(self.reference).values() if hasattr(a, "dtype")]
        own = sum(zlib.crc32(np.ascontiguousarray(to_host(w))) for w in params)
        return own + getattr(self.reference, "checksum", 0)

    def checkpoint(self):
        arrays, rest = super().checkpoint()
        arrays |= {f"frame/{i}": frame for i, frame in self.frames.items()}
        return arrays, rest | {
            "weights": self.weights_checksum(),
            "seconds": self.seconds,
            "climbed": self.climbed,
        }

    def restore(self, arrays, rest):
        if rest.get("weights") != self.weights_checksum():
            images = " or the images of --reference-data" if self.settings["reference_data"] else ""
            raise ValueError(f"the net's weights{images} have changed since")
        check_chains(self, arrays, rest)
        super().restore(arrays, rest)
        self.seconds, self.climbed = rest["seconds"], rest["climbed"]
        self.frames = {int(n[6:]): a for n, a in arrays.items() if n.startswith("frame/")}

    def step(self):
        super().step()
        if self.ascent and not np.isfinite(self.records["energy"][-1]).all():
            raise FloatingPointError("the ascent diverged: lower --ascent-size")

    def flat_units(self):
        """Units whose f has no gradient in any of their chains: a dead ReLU, say."""
        flat = self.share.gather(self.node.is_flat(self.state.x))
        flat = flat.reshape(self.units, -1).all(axis=1)
        return [unit for unit, dead in zip(self.settings["unit"], flat, strict=True) if dead]

    def forecast(self):
        """What these settings would do if f were constant; None for an ascent."""
        s = self.settings
        if self.ascent:
            return None
        step_size = float(np.mean(self.step_size))
        return forecast(s["iterations"], step_size, self.sampler.steps, s["mass"], s["temperature"])

    def rounding(self):
        """The largest error in U by rounding to float32, or None in float64; chain by chain, so
        that it takes no more memory than the chains did."""
        if self.settings["precision"] == "float64":
            return None
        node, errors, value = self.node, [], self.energy()
        network = self.network.up_to(node.layer).to(np, np.float64)
        exact_q = copy(self.reference).to(np, np.float64)
        for i, unit in enumerate(node.unit):
            exact = NodeEnergy(network, node.layer, unit, node.position or None, exact_q)
            one = slice(i, i + 1)
            errors.append(rounding_error(value[one], exact, self.state.x[one]))
        return max(self.share.ranks.from_all(max(errors))) / self.sampler.temperature


def growing(last, count):
    """About `count` iterations from 0 to `last`, close together at first."""
    return sorted({round(last * (i / (count - 1)) ** 2) for i in range(count)})
