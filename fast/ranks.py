"""A network run by the processes of an MPI job, its ranks, each on its part of the batch.

mpiexec starts the ranks, on one machine or many. Each has the whole net and some images. The scores
of all images are gathered on every rank, because the loss needs all of them. The gradients are
added up over the ranks in one message, and then every rank takes the same step of SGD.
"""

import math
import os
import socket
import sys
from typing import Any

import numpy as np

from fast.cpu.processes import shared
from fast.cpu.threads import CAN_FORK
from nn.backend import Array, array_module, to_device, to_host
from nn.network import Network
from nn.sgd import SGD

# What mpiexec tells the processes that it starts: MPICH, Intel MPI, MS-MPI; Open MPI.
RANK = "PMI_RANK", "OMPI_COMM_WORLD_RANK"
SIZE = "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"


def told(names: tuple) -> int:
    """The number in the first of these environment variables that is set, or 0."""
    return next((int(os.environ[n]) for n in names if os.environ.get(n, "").isdecimal()), 0)


def world() -> "Ranks":
    """The ranks of the job that mpiexec has started, or of this process alone.

    mpi4py is imported only where there are several. ImportError without it, ValueError if it is of
    another MPI than mpiexec: then only rank 0 speaks, and the others just end.
    """
    size, problem = told(SIZE), None
    if size < 2 and "mpi4py.run" not in sys.modules:  # nor started by python -m mpi4py
        return Ranks()
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        why = "mpi4py is not installed" if isinstance(error, ModuleNotFoundError) else error
        problem = ImportError(f"mpiexec started {size} processes, but {why}: pip install '.[mpi]'")
    else:
        if MPI.COMM_WORLD.size > 1:
            return Ranks(MPI.COMM_WORLD)
        if size < 2:
            return Ranks()
        problem = ValueError(
            f"mpiexec started {size} processes, but each finds itself alone: mpiexec and mpi4py "
            f"belong to two kinds of MPI (mpi4py has {MPI.get_vendor()[0]})"
        )
    if told(RANK):
        sys.exit(2)
    raise problem


class Ranks:
    """The processes of a job, and what they tell one another. Every rank makes the same calls.

    comm: an mpi4py communicator; None: this process is alone, and the calls do nothing.
    """

    def __init__(self, comm: Any = None):
        self.comm = comm
        self.rank, self.size = (comm.rank, comm.size) if comm else (0, 1)
        hosts = comm.allgather(socket.gethostname()) if comm else [None]
        self.place_on_host = hosts[: self.rank].count(hosts[self.rank])  # 0 for its first rank

    @property
    def first(self) -> bool:
        """Whether this is the rank that writes files and speaks."""
        return self.rank == 0

    def rows(self, count: int) -> slice:
        """Those of `count` things that belong to this rank: perhaps none."""
        each, more = divmod(count, self.size)
        start = self.rank * each + min(self.rank, more)
        return slice(start, start + each + (self.rank < more))

    def gather(self, own: Array) -> Array:
        """The rows of all ranks, in order of the ranks; own: some rows, or none, of any shape."""
        return self.gather_placed(own)[0]

    def gather_placed(self, own: Array) -> tuple[Array, slice]:
        """`gather`, and where this rank's rows are."""
        if self.size == 1:
            return own, slice(0, len(own))
        brought = self.comm.allgather((len(own), (own.shape[1:], own.dtype.str)))
        counts = [count for count, _ in brought]
        kinds = [kind for count, kind in brought if count] or [brought[0][1]]
        if len(set(kinds)) > 1:
            raise ValueError(f"the ranks bring rows of different kinds: {brought}")
        shape, dtype = kinds[0]
        everything = np.empty((sum(counts), *shape), dtype)
        numbers = [count * math.prod(shape) * everything.itemsize for count in counts]
        mine = np.ascontiguousarray(to_host(own)) if len(own) else everything[:0]
        self.comm.Allgatherv(as_bytes(mine), [as_bytes(everything), numbers])
        start = sum(counts[: self.rank])
        return to_device(everything, array_module(own)), slice(start, start + len(own))

    def sum(self, numbers: Array) -> None:
        """Add up an array of each rank, in place. The order of the sum depends on `size` alone."""
        if self.size > 1:
            host = to_host(numbers)  # a GPU's stream is waited for
            self.comm.Allreduce(None, host)  # None: in place
            if host is not numbers:
                numbers[...] = to_device(host, array_module(numbers))

    def agree(self, value: Any) -> Any:
        """What rank 0 has: ranks on different processors may round differently."""
        return value if self.size == 1 else self.comm.bcast(value, 0)

    def from_all(self, value: Any) -> list:
        """The value of each rank."""
        return [value] if self.size == 1 else self.comm.allgather(value)


def as_bytes(array: np.ndarray) -> np.ndarray:
    """The memory of a contiguous array."""
    return array.reshape(-1).view(np.uint8)


ALONE = Ranks()


class RankEngine:
    """The calls of an engine: images are those of this rank, activations those of all ranks.

    engine: what runs this rank's images: a Network, an Engine or a Team. The result is that of one
    process up to the rounding of the gradients' sum. With dropout it is of another draw, because
    each rank draws for its own images. A rank may have no images.
    """

    def __init__(self, engine: Any, ranks: Ranks, xp: Any = np):
        self.engine, self.ranks, self.xp = engine, ranks, xp
        self.network = engine if isinstance(engine, Network) else engine.network
        self.input_shape, self.shapes = self.network.input_shape, self.network.shapes
        self.totals: dict = {}  # {(layer, dtype): (flat, {"conv1.w": a part of it, ...})}
        self.mine = None

    def bottom_up(self, x: Array, to: str | None = None, train: bool = False) -> Array:
        """Images of this rank -> the activations of layer `to` for the images of all ranks."""
        self.mine = None
        if train and hasattr(self.engine, "total"):
            _, self.engine.total = self.total(to, x.dtype)  # a Team's processes must know it
        own = self.engine.bottom_up(x, to, train) if len(x) else self.xp.empty((0,), x.dtype)
        y, mine = self.ranks.gather_placed(own)
        self.to, self.dtype, self.mine, self.count = to, x.dtype, mine, len(y)
        return y

    def top_down(self, dy: Array, grads: dict[str, Array] | None = None) -> Array:
        """dy of all images -> dx of this rank's; `grads` is filled with the sums over all ranks."""
        dy = self.own(dy)
        if not len(dy):
            dx = self.xp.empty((0, *self.input_shape), dy.dtype)
        elif grads is None:
            dx = self.engine.top_down(dy)
        else:
            own: dict[str, Array] = {}
            dx = self.engine.top_down(dy, own)
        if grads is not None:
            flat, total = self.total(self.to, self.dtype)
            for name, array in total.items():
                array[...] = own[name] if len(dy) else 0
            self.ranks.sum(flat)
            for name, array in total.items():
                grads.setdefault(name, self.xp.empty_like(array))[...] = array
        return dx

    def learn(self, dy: Array, sgd: SGD, lr: float) -> None:
        """top_down of this rank's part for the gradients, their sum, and a step of `sgd`."""
        dy, engine = self.own(dy), self.engine
        flat, total = self.total(self.to, self.dtype)
        if not len(dy):
            flat[...] = 0
            engine = getattr(engine, "alone", engine)
        elif engine is self.network:
            grads: dict[str, Array] = {}
            engine.top_down(dy, grads)
            for name, array in total.items():
                array[...] = grads[name]
        else:
            engine.gradients(dy, total)
        self.ranks.sum(flat)
        if engine is self.network:
            sgd.step(total, lr)
        else:
            engine.update(sgd, total, lr)

    def own(self, dy: Array) -> Array:
        """This rank's rows of dy. ValueError if these are not of the last bottom_up."""
        if self.mine is None:
            raise ValueError("top_down needs the bottom_up that it belongs to: there was none")
        if len(dy) != self.count:
            raise ValueError(f"top_down got dy of {len(dy)} images, but bottom_up had {self.count}")
        return dy[self.mine]

    def total(self, to: str | None, dtype: Any) -> tuple[Array, dict[str, Array]]:
        """One array for the gradients of all parameters up to layer `to`, and its parts."""
        below = self.network.needed_for(to or self.network.last)
        layers = {name: self.network.layers[name] for name in below}
        params = {f"{n}.{key}": w for n, layer in layers.items() for key, w in layer.params.items()}
        dtype = np.result_type(dtype, *params.values())
        if (to, dtype) not in self.totals:
            empty = shared if CAN_FORK and self.xp is np else self.xp.empty
            flat, parts, start = empty((sum(w.size for w in params.values()),), dtype), {}, 0
            for name, w in params.items():
                parts[name] = flat[start : start + w.size].reshape(w.shape)
                start += w.size
            self.totals = {(to, dtype): (flat, parts)}  # the last one: they are large
        return self.totals[to, dtype]

    def seed(self, *numbers: int) -> None:
        """Renew the dropout generators, differently on each rank."""
        self.engine.seed(*numbers, self.ranks.rank)
