"""This project against PyTorch: each library in a process of its own, taking turns.

Both keep threads that wait busily, so they must not share a process; and the machine's speed
varies, so times are compared within a round: a ratio is the median over the rounds.
"""

import argparse
import multiprocessing
import os
import resource
import statistics
import time
from functools import partial
from pathlib import Path

from app.options.arguments import number

LONGEST_TURN = 0.5  # seconds
OURS, USUAL, CHANNELS_LAST = "this project", "PyTorch", "PyTorch, channels_last"
GRAPHS, COMPILED = "PyTorch, CUDA graph", "PyTorch, torch.compile"
FORMS = {  # of PyTorch, on each device
    "cpu": [USUAL, CHANNELS_LAST],
    "gpu": [USUAL, CHANNELS_LAST, COMPILED, GRAPHS],
}


def serve(connection, make_tasks, *arguments):
    """In a process of its own: time the tasks that are asked for.

    make_tasks returns ({task: function}, a function that waits for the device): what a GPU does is
    waited for once after all repeats of a turn, as in a training.
    """
    try:
        tasks, wait = make_tasks(*arguments)
    except (ImportError, ValueError) as error:
        connection.send(str(error))
        return
    connection.send(list(tasks))
    while (order := connection.recv()) is not None:
        task, repeats = order
        times = []
        while len(times) < repeats and sum(times) < LONGEST_TURN:
            start = time.perf_counter()
            tasks[task]()
            times.append(time.perf_counter() - start)
        if wait is None:
            connection.send(statistics.median(times))
            continue
        wait()
        start = time.perf_counter()
        for _ in times:
            tasks[task]()
        wait()
        connection.send((time.perf_counter() - start) / len(times))
    connection.send(memory())


def memory():
    """MiB: the peak of this process, and what processes that it forked have for themselves."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    me = os.getpid()
    forked = Path(f"/proc/{me}/task/{me}/children")  # Linux alone forks
    for pid in forked.read_text().split() if forked.exists() else ():
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Private_"):
                kilobytes += int(line.split()[1])
    return kilobytes / 1024


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


def start(context, target, *arguments):
    here, there = context.Pipe()
    context.Process(target=target, args=(there, *arguments), daemon=True).start()
    return here


def torch_form(form, device, torch):
    """Set PyTorch up for one of FORMS: (where arrays go, as arguments of `to`, wrap, wait).

    wrap(function of no arguments) -> the same as it is to be called.
    """
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high" if device == "gpu-tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = device == "gpu-tf32"
    memory = torch.contiguous_format if form == USUAL else torch.channels_last
    there = {"device": "cpu" if device == "cpu" else "cuda", "memory_format": memory}
    if form == COMPILED:
        return there, torch.compile, torch.cuda.synchronize
    if form == GRAPHS:
        return there, partial(recorded, torch), torch.cuda.synchronize
    return there, lambda function: function, None if device == "cpu" else torch.cuda.synchronize


def recorded(torch, function):
    """A CUDA graph of function(), made at its first call."""
    made = []

    def replay():
        if not made:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):
                    function()
            torch.cuda.current_stream().wait_stream(side)
            made.append(torch.cuda.CUDAGraph())
            with torch.cuda.graph(made[0]):
                function()
        made[0].replay()

    return replay


def our_device(device):
    """(array library, wait) for this project on a device."""
    from fast.device import choose_device

    xp, _ = choose_device(device)
    return xp, None if device == "cpu" else xp.cuda.Stream.null.synchronize


def compare(description, ours, torch_tasks, repeats, rounds):
    """Print a table: milliseconds of each task by this project and by PyTorch, and ratios.

    ours(device), torch_tasks(form, device) -> ({task: function}, wait); not every form needs to
    know every task. repeats: calls of a task in each of its turns; rounds: turns of each.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    few = number(int, low=1, high=256)
    parser.add_argument("--threads", type=few, default=cores, help=f"default {cores}")
    parser.add_argument("--rounds", type=few, default=rounds, help=f"default {rounds}")
    parser.add_argument(
        "--device",
        choices=["cpu", "gpu", "gpu-tf32"],
        default="cpu",
        help="default cpu; gpu-tf32: products of both libraries rounded to 10 bits",
    )
    options = parser.parse_args()

    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    os.environ.pop("OPENBLAS_CORETYPE", None)  # let OpenBLAS choose its best kernel
    context = multiprocessing.get_context("spawn")
    peak, blas = start(context, matrix_product_peak).recv()
    print(f"{options.threads} threads; {blas}; matrix product {peak:.0f} GFLOP/s")
    print(f"device {options.device}\n")

    servers, tasks_of = {}, {}
    for library in (OURS, *FORMS[options.device[:3]]):
        arguments = [options.device] if library == OURS else [library, options.device]
        server = start(context, serve, ours if library == OURS else torch_tasks, *arguments)
        try:
            tasks = server.recv()
        except EOFError:
            tasks = "its process has ended"
        if isinstance(tasks, str):
            print(f"without {library}: {tasks}")
        else:
            servers[library], tasks_of[library] = server, tasks

    if OURS not in servers:
        raise SystemExit(2)
    peers = list(servers)[1:]
    ratios = ["ratio", *(f"ratio, {peer.partition(', ')[2]}" for peer in peers[1:])]
    print("| milliseconds | " + " | ".join([*servers, *ratios[: len(peers)]]) + " |")
    print("|---" * (len(servers) + len(peers) + 1) + "|")
    for task in tasks_of[OURS]:
        times = {library: [] for library in servers if task in tasks_of[library]}
        for _ in range(options.rounds + 2):
            for library in times:
                servers[library].send((task, repeats))
                times[library].append(1e3 * servers[library].recv())
                time.sleep(0.05)  # until waiting threads have gone to sleep
        times = {library: values[2:] for library, values in times.items()}
        cells = [
            f"{statistics.median(times[library]):.2f}" if library in times else ""
            for library in servers
        ]
        for peer in peers:
            pairs = zip(times[OURS], times.get(peer, []), strict=False)
            ratios = [mine / theirs for mine, theirs in pairs]
            cells.append(f"{statistics.median(ratios):.2f}" if ratios else "")
        print(f"| {task} | " + " | ".join(cells) + " |", flush=True)
    memory = []
    for server in servers.values():
        server.send(None)
        memory.append(server.recv())
    ratios = [f"{memory[0] / other:.2f}" for other in memory[1:]]
    cells = [f"{megabytes:.0f}" for megabytes in memory] + ratios
    print("| peak memory, MiB | " + " | ".join(cells) + " |")
