"""LeNet in milliseconds: this project beside PyTorch, in one run, with equal threads.

    python -m benchmarks.lenet

A training step (batch 64: forward, loss, backward, update) by DG and GG, and df/dx of one score
for 1, 16, 64 and 1,024 images. PyTorch (an optional extra: pip install '.[bench]') is called the
usual way and with its memory in channels_last.
"""

import os
from functools import partial

from benchmarks.versus import CHANNELS_LAST, OURS, USUAL, compare

BATCH, UNIT = 64, 3
SAMPLES = {"df/dx, 1 image": 1, "df/dx, 16 images": 16, "df/dx, 64 images": 64,
           "df/dx, 1,024 images": 1024}  # fmt: skip


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
    x = rng.random((1024, 28, 28, 1), np.float32)
    labels = rng.integers(0, 10, BATCH)
    unit = np.zeros((1024, 10), np.float32)
    unit[:, UNIT] = 1

    def step(loss):
        _, dscores, _ = loss(workers.bottom_up(x[:BATCH], train=True), labels)
        workers.learn(dscores, sgd, sgd.rate())

    def derivative(n):
        workers.bottom_up(x[:n])
        workers.top_down(unit[:n], param_grads=False)

    return {
        "training step": lambda: step(discriminative_loss),
        "GG training step": lambda: step(generative_loss),
        **{task: partial(derivative, n) for task, n in SAMPLES.items()},
    }


def torch_tasks(channels_last=False):
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
    x = torch.rand(1024, 1, 28, 28).to(memory_format=memory)
    labels = torch.randint(0, 10, (BATCH,))

    def step():
        sgd.zero_grad()
        functional.cross_entropy(model(x[:BATCH]), labels).backward()
        sgd.step()

    def derivative(n):
        images = x[:n].clone().requires_grad_(True)
        torch.autograd.grad(model(images)[:, UNIT].sum(), images)

    return {
        "training step": step,
        **{task: partial(derivative, n) for task, n in SAMPLES.items()},
    }


if __name__ == "__main__":
    compare(
        __doc__,
        {OURS: ours, USUAL: torch_tasks, CHANNELS_LAST: partial(torch_tasks, channels_last=True)},
        repeats=30,
        rounds=12,
    )
