"""Seconds of a LeNet sample in the paper's settings: 300 iterations of 100 leapfrog steps.

    python -m benchmarks.sampling --chains 1000 --device gpu

Some iterations of so many chains at a time are timed, and the rest is taken to last as long; the
paper has 0.4 minute a sample, on a GTX Titan.
"""

import argparse
import statistics
import time

import numpy as np

from app import ASSETS
from app.console import fail_in_one_line
from app.formats.net import open_network
from app.options.arguments import number
from fast import engine, record_trajectories
from fast.cpu.threads import cores
from fast.device import DEVICES, choose_device
from hmc.energy import NodeEnergy
from hmc.reference import White
from hmc.sampler import HMC
from nn.backend import to_device

WEIGHTS = ASSETS / "lenet-dg.npz"
ITERATIONS, STEPS, PAPER = 300, 100, 24  # PAPER: seconds
SIGMA, TEMPERATURE, MASS, EPS = (
    10,
    0.001,
    0.01,
    1e-4,
)  # EPS: of x, as printed; that of z is EPS / SIGMA


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    count = number(int, low=1, high=10**6)
    parser.add_argument("--chains", type=count, nargs="+", default=[16, 64], help="default 16 64")
    parser.add_argument("--iterations", type=count, default=5, help="timed, default 5")
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="default cpu")
    options = parser.parse_args()
    with fail_in_one_line(status=2):
        xp, device = choose_device(options.device)
    print(f"{device}, {cores() if xp is np else 1} processes\n")
    print("| chains | milliseconds of a leapfrog step | seconds a sample | the paper's |")
    print("|---|---|---|---|")
    for chains in options.chains:
        network = open_network("lenet", WEIGHTS)
        network.to(xp)
        run = engine(network, xp, cores(), chains)
        q = White(network.input_shape, SIGMA).to(xp, np.float32)
        sampler = HMC(NodeEnergy(run, "fc2", 3, None, q), EPS / SIGMA, STEPS, MASS, TEMPERATURE)
        record_trajectories(sampler, xp)
        rng = np.random.default_rng(0)
        z = rng.standard_normal((chains, *q.shape), np.float32)
        state = sampler.start(to_device(z, xp))
        times = []
        for _ in range(3 + options.iterations):  # a GPU records the second
            start = time.perf_counter()
            state, _ = sampler.step(state, rng)  # which waits for the device
            times.append(time.perf_counter() - start)
        took = statistics.median(times[3:])
        row = f"{chains:,} | {1e3 * took / STEPS:.2f} | {ITERATIONS * took / chains:.3f} | {PAPER}"
        print(f"| {row} |", flush=True)


if __name__ == "__main__":
    main()
