"""A run of many chains: warmed up, recorded, resumable, judged."""

import numpy as np

from app.runs.share import Share
from hmc.diagnostics import (
    autocorrelation,
    effective_draws,
    judgement,
    recent,
    split_rhat,
    unmoved,
)
from hmc.sampler import DIVERGENT
from nn.backend import array_module, to_device, to_host

COOLING = 0.8  # of the warm-up; then the temperature is final, and trajectories can be judged
RECOVERY = 10  # iterations that the tuning needs after a change of the trajectories
LAGS = 20  # of the autocorrelation that is kept


class Chains:
    """Chains from x (n, ...), moved by a sampler: HMC, or an Ascent.

    During the first `warm_up` iterations `tuning` chooses the step sizes; its average is kept from
    then on. With `heat` above 1 the chains begin at `heat` times the sampler's temperature, which
    is reached geometrically in the first four fifths of the warm-up (simulated annealing). After
    that, chains that could take longer steps than the tuning allows take fewer of them, as long
    as enough of the warm-up is left to tune these.
    `records` holds, for each iteration, a number for each chain: energy and what
    observe(state) -> {name: (n,)} returns, from the start on; probability and energy_error from
    the first iteration on. With a `share`, x are the chains of this rank of an MPI job; step sizes
    and records are those of the chains of all ranks.
    """

    def __init__(self, sampler, x, rng, observe, warm_up=0, tuning=None, heat=1.0, share=None):
        self.sampler, self.rng, self.observe = sampler, rng, observe
        self.share = share or Share(len(x))
        self.step_size = sampler.step_size
        self.warm_up, self.tuning, self.heat = warm_up, tuning, heat
        self.iteration = 0
        self.final = sampler.temperature
        self.sampler.temperature = self.final * self.heat_now()
        self.state = sampler.start(x)
        self.begin()

    def begin(self):
        """Begin the records with the state as it is."""
        self.records = {"probability": [], "energy_error": []}
        self.record({})

    def step(self):
        """One iteration of every chain."""
        self.iteration += 1
        self.cool()
        self.state, info = self.sampler.step(self.state, self.share.generator(self.rng))
        info = {name: self.share.gather(info[name]) for name in ("probability", "energy_error")}
        if self.iteration < self.warm_up:
            # With eps ~ sqrt(T) a trajectory without f turns by the same angle at any temperature.
            self.tuning.update(info["probability"])
            final, left = self.iteration > COOLING * self.warm_up, self.warm_up - self.iteration
            if final and left >= RECOVERY and self.sampler.steps > 1:
                self.shorten(info["probability"])
            self.go_on_with(self.tuning.trial * self.heat_now() ** 0.5)
        elif self.iteration == self.warm_up:
            self.tuning.update(info["probability"])
            self.go_on_with(self.tuning.average)
        self.record(info)

    def go_on_with(self, step_size):
        """Take this step size, or these of all chains, from now on."""
        self.step_size, self.sampler.step_size = step_size, self.share.own(step_size)

    def shorten(self, probability):
        """If longer steps would do, take half as many: a trajectory stays as long as it was."""
        if self.tuning.capped(probability):
            before, self.sampler.steps = self.sampler.steps, (self.sampler.steps + 1) // 2
            self.tuning.lengthen(before / self.sampler.steps)

    def heat_now(self):
        """This iteration's temperature over the final one."""
        if self.heat == 1 or not self.warm_up:
            return 1.0
        return self.heat ** max(0.0, 1 - self.iteration / (COOLING * self.warm_up))

    def cool(self):
        """Go to this iteration's temperature; U and dU/dx are in units of it."""
        before, now = self.sampler.temperature, self.final * self.heat_now()
        self.sampler.temperature = now
        self.state.value *= before / now
        self.state.gradient *= before / now

    def state_energy(self, state):
        """U of each chain, at T = 1: (n,)."""
        return state.value * self.sampler.temperature

    def energy(self):
        """U of each chain of this rank, at T = 1: (n,) on the host."""
        return to_host(self.state_energy(self.state))

    def record(self, info):
        own = {"energy": self.energy()} | self.observe(self.state)
        info = info | {name: self.share.gather(numbers) for name, numbers in own.items()}
        for name, numbers in info.items():
            self.records.setdefault(name, []).append(numbers)

    def checkpoint(self):
        """(arrays, the rest as JSON): everything that `step` needs to go on."""
        state = vars(self.state).items()
        arrays = {name: self.share.gather(to_host(array)) for name, array in state}
        arrays |= {f"record/{name}": np.array(record) for name, record in self.records.items()}
        arrays["steps"] = np.array(self.sampler.steps)
        arrays["temperature"] = np.float64(self.sampler.temperature)
        arrays["step_size"] = np.asarray(self.step_size)
        if self.tuning:
            arrays |= {f"tuning/{name}": np.asarray(v) for name, v in vars(self.tuning).items()}
        return arrays, {"iteration": self.iteration, "rng": self.rng.bit_generator.state}

    def restore(self, arrays, rest):
        """Go back to what `checkpoint` returned."""
        xp = array_module(self.state.x)
        self.state = type(self.state)(
            **{name: to_device(self.share.own(arrays[name]), xp) for name in vars(self.state)}
        )
        self.records = {name: list(arrays[f"record/{name}"]) for name in self.records}
        step_size = arrays["step_size"]
        self.go_on_with(step_size if step_size.ndim else step_size.item())
        for name in vars(self.tuning) if self.tuning else ():
            value = arrays[f"tuning/{name}"]
            setattr(self.tuning, name, value if value.ndim else value.item())
        self.sampler.steps = int(arrays["steps"])
        self.sampler.temperature = float(arrays["temperature"])
        self.iteration, self.rng.bit_generator.state = rest["iteration"], rest["rng"]

    def trace(self, name, chains=slice(None)):
        """A record of these chains as (chains, iterations)."""
        return np.array([numbers[chains] for numbers in self.records[name]]).T

    def diagnose(self, groups):
        """For each group of chains a dict of what tells whether to believe them.

        The chains stand group by group. Means are over the iterations after warm-up, or over the
        second half without one: "iterations_judged" are as many. A chain counts as one that never
        moved if it stayed where it was in the second half of these, the "last_iterations".
        ESS, R-hat and autocorrelation (at lags 0, 1, ...) are of the score. None stands for what
        cannot be told, such as R-hat of one draw.
        """
        size = self.share.count // groups
        return [self.diagnose_group(slice(g * size, (g + 1) * size)) for g in range(groups)]

    def diagnose_group(self, chains):
        """`diagnose` for one group."""
        first = self.warm_up or self.iteration // 2
        judged = self.iteration - first
        error = np.abs(self.trace("energy_error", chains))
        divergent = ~(error < DIVERGENT)
        score, energy = self.trace("score", chains), self.trace("energy", chains)
        late = score[:, first + 1 :]
        step_size = np.broadcast_to(self.step_size, self.share.count)[chains]
        return {
            "iterations_judged": judged,
            "last_iterations": recent(late).shape[1],
            "acceptance": number(self.trace("probability", chains)[:, first:].mean()),
            "energy_error": number(error[:, first:].mean()),
            "divergences": int(divergent[:, first:].sum()),
            "divergences_in_warm_up": int(divergent[:, :first].sum()),
            "chains_that_never_moved": int(unmoved(late).sum()),
            "judgement": judgement(late),
            "own_rhat": [number(split_rhat(own[None])) for own in late],
            "ess": number(effective_draws(late)),
            "rhat": number(split_rhat(late)),
            "energy_change": number((energy[:, -1] - energy[:, 0]).mean()),
            "score": number(late.mean()),
            "score_sd": number(late.std()),
            "autocorrelation": [number(r) for r in autocorrelation(late).mean(axis=0)[:LAGS]],
            "step_size": number(step_size.mean()),
        }


def number(value):
    """For JSON, which knows no nan and no inf."""
    return float(value) if np.isfinite(value) else None
