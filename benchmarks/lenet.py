"""LeNet in milliseconds: this project beside PyTorch, in one run, with equal threads.

    python -m benchmarks.lenet

A training step (batch 64: forward, loss, backward, update) by DG and GG, and df/dx of one score
for 1, 16 and 64 images. PyTorch (an optional extra: pip install '.[bench]') is called the usual
way and with its memory in channels_last. Each library runs in a process of its own, since both
keep threads that wait busily; they take turns, and a ratio is the median over the rounds.
"""

import argparse
import multiprocessing
import os
import statistics
import time

BATCH, UNIT = 64, 3
TASKS = ["training step", "GG training step", "df/dx, 1 image", "df/dx, 16 images",
         "df/dx, 64 images"]  # fmt: skip


def ours():
    """{task: function} of this project."""
    import nn  # noqa: F401  before NumPy: nn/threads.py says why

    # isort: split
    import numpy as np

    from losses.discriminative import discriminative_loss
    from losses.generative import generative_loss
    from nn.nets import build
    from nn.parallel import parallel
    from nn.sgd import SGD
    from nn.threads import THREADS

    network = build("lenet")
    workers, sgd = parallel(network, THREADS), SGD(network, lr=0.001)
    rng = np.random.default_rng(0)
    x = rng.random((BATCH, 28, 28, 1), np.float32)
    labels = rng.integers(0, 10, BATCH)
    unit = np.zeros((BATCH, 10), np.float32)
    unit[:, UNIT] = 1

    def step(loss):
        _, dscores, _ = loss(workers.bottom_up(x, train=True), labels)
        workers.top_down(dscores, input_grad=False)
        sgd.step()

    def derivative(n):
        workers.bottom_up(x[:n])
        workers.top_down(unit[:n], param_grads=False)

    return {
        "training step": lambda: step(discriminative_loss),
        "GG training step": lambda: step(generative_loss),
        **{task: lambda n=n: derivative(n) for task, n in zip(TASKS[2:], (1, 16, 64), strict=True)},
    }


def torch_tasks(channels_last):
    """{task: function} of PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(0)
    memory = torch.channels_last if channels_last else torch.contiguous_format
    model = nn.Sequential(
        nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10),
    ).to(memory_format=memory)  # fmt: skip
    sgd = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9, weight_decay=0.0005)
    x = torch.rand(BATCH, 1, 28, 28).to(memory_format=memory)
    labels = torch.randint(0, 10, (BATCH,))

    def step():
        sgd.zero_grad()
        functional.cross_entropy(model(x), labels).backward()
        sgd.step()

    def derivative(n):
        images = x[:n].clone().requires_grad_(True)
        torch.autograd.grad(model(images)[:, UNIT].sum(), images)

    return {
        "training step": step,
        **{task: lambda n=n: derivative(n) for task, n in zip(TASKS[2:], (1, 16, 64), strict=True)},
    }


LIBRARIES = {
    "this project": ours,
    "PyTorch": lambda: torch_tasks(channels_last=False),
    "PyTorch, channels_last": lambda: torch_tasks(channels_last=True),
}


def serve(connection, library):
    """In a process of its own: time the tasks that are asked for."""
    try:
        tasks = LIBRARIES[library]()
    except ImportError as error:
        connection.send(str(error))
        return
    connection.send(list(tasks))
    while (order := connection.recv()) is not None:
        task, repeats = order
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            tasks[task]()
            times.append(time.perf_counter() - start)
        connection.send(statistics.median(times))


def matrix_product_peak(connection):
    """GFLOP/s of a float32 product of 1500 x 1500 matrices by NumPy, and the BLAS it is."""
    import numpy as np

    a = np.random.default_rng(0).random((1500, 1500), np.float32)
    times = []
    for _ in range(10):
        start = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - start)
    try:
        from threadpoolctl import threadpool_info

        blas = ", ".join(f"{i['internal_api']} {i.get('architecture')}" for i in threadpool_info())
    except ImportError:
        blas = "BLAS unknown (threadpoolctl is not installed)"
    connection.send((2 * 1500**3 / min(times) / 1e9, blas))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser.add_argument("--threads", type=int, default=cores, help=f"default {cores}")
    parser.add_argument("--rounds", type=int, default=12, help="turns of each (default 12)")
    options = parser.parse_args()

    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    os.environ.pop("OPENBLAS_CORETYPE", None)  # let OpenBLAS choose its best kernel
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    context.Process(target=matrix_product_peak, args=(there,), daemon=True).start()
    peak, blas = here.recv()
    print(f"{options.threads} threads; {blas}; matrix product {peak:.0f} GFLOP/s\n")

    servers, tasks_of = {}, {}
    for library in LIBRARIES:
        here, there = context.Pipe()
        context.Process(target=serve, args=(there, library), daemon=True).start()
        tasks = here.recv()
        if isinstance(tasks, str):
            print(f"without {library}: {tasks}")
        else:
            servers[library], tasks_of[library] = here, tasks

    print("| milliseconds | " + " | ".join(servers) + " | ratio | ratio, channels_last |")
    print("|---" * (len(servers) + 3) + "|")
    for task in TASKS:
        times = {library: [] for library in servers if task in tasks_of[library]}
        for _ in range(options.rounds + 2):
            for library in times:
                servers[library].send((task, 30))
                times[library].append(1e3 * servers[library].recv())
                time.sleep(0.05)  # until waiting threads have gone to sleep
        times = {library: values[2:] for library, values in times.items()}
        cells = [
            f"{statistics.median(times[library]):.2f}" if library in times else ""
            for library in servers
        ]
        for peer in ("PyTorch", "PyTorch, channels_last"):
            pairs = zip(times["this project"], times.get(peer, []), strict=False)
            ratios = [mine / theirs for mine, theirs in pairs]
            cells.append(f"{statistics.median(ratios):.2f}" if ratios else "")
        print(f"| {task} | " + " | ".join(cells) + " |", flush=True)
    for server in servers.values():
        server.send(None)


if __name__ == "__main__":
    main()
