"""What the ranks of an MPI job tell one another in a training step, and how long that takes.

    python -m benchmarks.wire
    mpiexec -n 2 python -m mpi4py -m benchmarks.wire

The first computes bytes and seconds from the nets. The second measures on the ranks that there
are: a LeNet step that all of them share, and in turns the same step by rank 0 alone.
"""

import functools
import math
import statistics
import time

import numpy as np

from app.job import started_job
from fast import engine
from losses.generative import generative_loss
from nn.nets import NETS, table
from nn.network import Network
from nn.sgd import SGD

CASES = {  # batch, classes, seconds of an image on one machine of 2 cores (performance.md)
    "lenet": (64, 10, 0.0063 / 64),
    "alexnet": (256, 1000, 0.783 / 32),
}
RATES = 1, 10, 100  # Gbit/s
LATENCY = 30e-6  # seconds of a message between two machines
IMAGENET, EPOCHS = 1_281_167, 70
FASTER = 16  # a machine of 32 such cores
ROUNDS, STEPS, WIDE = 15, 20, 256  # measured: turns, steps of each, the larger batch


@functools.cache
def parameters(name):
    net = Network(table(name), NETS[name].input_shape, np.random.default_rng(0))
    return sum(w.size for w in net.params().values())


def sent(name, size, batch):
    """Bytes that each of `size` ranks sends in a step: (the gradients' sum, the scores).

    A sum is added up in parts, each by one rank, and then handed round: 2 (size - 1) / size times
    its length, the least that there can be.
    """
    part = (size - 1) / size
    return 2 * part * 4 * parameters(name), part * 4 * batch * CASES[name][1]


def on_the_wire(name, size, batch, rate):
    """Seconds of a step's messages: one sum, the scores, and two small ones."""
    if size == 1:
        return 0.0
    messages = 5 * math.ceil(math.log2(size))
    return sum(sent(name, size, batch)) * 8 / (rate * 1e9) + messages * LATENCY


def row(*cells):
    print(f"| {' | '.join(map(str, cells))} |")


def head(*cells):
    print()
    row(*cells)
    print("|" + "---|" * len(cells))


def duration(seconds):
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{1e3 * seconds:.3g} ms"


def computed():
    head("net", "parameters", "batch", "ranks", "sum, sent by each", "scores, sent by each")
    for name, (batch, _, _) in CASES.items():
        for size in (2, 4, 64):
            total, scores = sent(name, size, batch)
            sums = f"{total / 1e6:.3g} MB", f"{scores / 1e3:,.1f} kB"
            row(name, f"{parameters(name):,}", batch, size, *sums)
    head("net", "batch", "ranks", "to compute", *(f"{rate} Gbit/s" for rate in RATES))
    for name, (batch, _, seconds) in CASES.items():
        for size in (2, 4, 16, 64):
            compute = seconds * batch / size
            times = [on_the_wire(name, size, batch, rate) for rate in RATES]
            gains = [f"{duration(t)}: {seconds * batch / (compute + t):.2g} x" for t in times]
            row(name, batch, size, duration(compute), *gains)
    head("machines", "batch", "images each", "to compute", *(f"{rate} Gbit/s" for rate in RATES))
    for batch in (256, 2048):
        for size in (1, 4, 16, 64):
            steps = EPOCHS * math.ceil(IMAGENET / batch)
            compute = CASES["alexnet"][2] / FASTER * math.ceil(batch / size)
            times = [on_the_wire("alexnet", size, batch, rate) for rate in RATES]
            row(
                size,
                batch,
                batch // size,
                duration(steps * compute),
                *(duration(steps * (compute + t)) for t in times),
            )


def measured(job):
    head("ms of a LeNet step", "1 rank", f"{job.ranks.size} ranks", "ratio")
    for batch in (64, WIDE):
        x = np.random.default_rng(0).random((batch, 28, 28, 1), np.float32)
        labels = np.arange(batch) % 10

        def stepper(ranks=None, x=x, labels=labels):
            net = Network(table("lenet"), (28, 28, 1), np.random.default_rng(0))
            run, sgd = engine(net, images=len(x), **({"ranks": ranks} if ranks else {})), SGD(net)
            own = x[ranks.rows(len(x))] if ranks else x

            def steps():
                began = time.perf_counter()
                for _ in range(STEPS):
                    _, dscores, _ = generative_loss(run.bottom_up(own, train=True), labels)
                    run.learn(dscores, sgd, 1e-3)
                return 1e3 * (time.perf_counter() - began) / STEPS

            return steps

        alone, shared, times = stepper(), stepper(job.ranks), []
        for _ in range(ROUNDS):
            job.wait()
            one = alone() if job.first else 0.0
            job.wait()
            times.append((one, shared()))
        one, many = (statistics.median(column) for column in zip(*times, strict=True))
        ratio = statistics.median(b / a for a, b in times) if job.first else 0
        row(f"batch {batch}", f"{one:.2f}", f"{many:.2f}", f"{ratio:.2f}")


def main():
    with started_job() as job:
        if job.ranks.size > 1:
            measured(job)
        else:
            computed()


if __name__ == "__main__":
    main()
