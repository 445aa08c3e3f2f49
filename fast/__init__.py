"""The same numbers as nn/, sooner: the seam between the textbook and what makes it fast.

Nothing in nn/, losses/ or hmc/ imports this package. `engine` is the only place that chooses.
"""

from collections.abc import Callable
from types import ModuleType

import numpy as np

from fast.cpu.threads import CAN_FORK, limit_blas
from fast.engine import Engine
from fast.ranks import ALONE, RankEngine, Ranks
from hmc.sampler import HMC
from nn.network import Network


def engine(
    network: Network,
    xp: ModuleType = np,
    threads: int = 1,
    images: int = 1,
    plain: bool = False,
    ranks: Ranks = ALONE,
):
    """What runs `network` on the device where it is: bottom_up, top_down, learn and seed.

    xp: the library of the network's arrays. threads: on a CPU, how many cores share the work.
    images: of the largest batch to come. plain: the textbook alone, the network itself. ranks: of
    an MPI job, which share a batch (see ranks.py). Results are valid until the next call. A Team
    has processes, which its stop() ends.
    """
    if ranks.size > 1:
        return RankEngine(engine(network, xp, threads, -(-images // ranks.size), plain), ranks, xp)
    if plain:
        if xp is np:
            limit_blas(threads)
        return network
    if xp is not np:
        from fast.gpu import device

        return Engine(network, device(xp))
    from fast.cpu import CPU
    from fast.cpu.team import Team

    limit_blas(1 if CAN_FORK else threads)
    return Team(network, CPU, threads, images) if CAN_FORK and threads > 1 else Engine(network, CPU)


def record(function: Callable, xp: ModuleType, plain: bool = False) -> Callable:
    """function(*arrays, **fixed), on a GPU as a CUDA graph (see gpu/graphs.py), else as it is."""
    if plain or xp is np:
        return function
    from fast.gpu.graphs import Recorded

    return Recorded(function)


def record_trajectories(sampler: HMC, xp: ModuleType, plain: bool = False) -> None:
    """`record` for the trajectories of a sampler: a graph for each of its settings."""
    trajectory = sampler.trajectory
    recorded = record(lambda *arrays, **settings: trajectory(*arrays), xp, plain)
    sampler.trajectory = lambda *arrays: recorded(
        *arrays, steps=sampler.steps, mass=sampler.mass, temperature=sampler.temperature
    )
