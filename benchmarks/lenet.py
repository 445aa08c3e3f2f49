"""LeNet in milliseconds: this project beside PyTorch, in one run, with equal threads.

    python -m benchmarks.lenet

A training step (batch 64: forward, loss, backward, update) by DG and GG, and df/dx of one score
for 1, 16, 64 and 1,024 images. PyTorch (an optional extra: pip install '.[bench]') is called the
usual way and with its memory in channels_last; with --device gpu also by torch.compile and as a
CUDA graph, which is how this project runs there.
"""

from functools import partial

from benchmarks.versus import compare, our_device, torch_form

BATCH, UNIT = 64, 3
SAMPLES = {
    "df/dx, 1 image": 1,
    "df/dx, 16 images": 16,
    "df/dx, 64 images": 64,
    "df/dx, 1,024 images": 1024,
}


def ours(device):
    """({task: function}, wait) of this project."""
    import numpy as np

    from app.formats.net import open_network
    from fast import engine, record
    from fast.cpu.threads import cores
    from losses.discriminative import discriminative_loss
    from losses.generative import generative_loss
    from nn.sgd import SGD

    xp, wait = our_device(device)
    network = open_network("lenet").to(xp)
    run, sgd = engine(network, xp, cores()), SGD(network)
    rng = np.random.default_rng(0)
    x = xp.asarray(rng.random((1024, 28, 28, 1), np.float32))
    labels = xp.asarray(rng.integers(0, 10, BATCH))
    unit = xp.zeros((1024, 10), np.float32)
    unit[:, UNIT] = 1

    def step(loss, x, labels, lr):
        value, dscores, _ = loss(run.bottom_up(x, train=True), labels)
        run.learn(dscores, sgd, lr)
        return value

    def derivative(x, unit):
        run.bottom_up(x)
        return run.top_down(unit)

    losses = discriminative_loss, generative_loss
    dg, gg = (record(partial(step, loss), xp) for loss in losses)
    dfdx = record(derivative, xp)
    return {
        "training step": lambda: dg(x[:BATCH], labels, 0.001),
        "GG training step": lambda: gg(x[:BATCH], labels, 0.001),
        **{task: lambda n=n: dfdx(x[:n], unit[:n]) for task, n in SAMPLES.items()},
    }, wait


def torch_tasks(form, device):
    """({task: function}, wait) of PyTorch in one of its forms."""
    import torch
    from torch import nn
    from torch.nn import functional

    there, wrap, wait = torch_form(form, device, torch)
    model = nn.Sequential(
        nn.Conv2d(1, 20, 5),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(800, 500),
        nn.ReLU(),
        nn.Linear(500, 10),
    ).to(**there)
    sgd = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9, weight_decay=0.0005)
    x = torch.rand(1024, 1, 28, 28).to(**there)
    labels = torch.randint(0, 10, (BATCH,)).to(there["device"])

    def step():
        sgd.zero_grad()
        functional.cross_entropy(model(x[:BATCH]), labels).backward()
        sgd.step()

    def derivative(n):
        images = x[:n].clone().requires_grad_(True)
        torch.autograd.grad(model(images)[:, UNIT].sum(), images)

    return {
        "training step": wrap(step),
        **{task: wrap(partial(derivative, n)) for task, n in SAMPLES.items()},
    }, wait


if __name__ == "__main__":
    compare(__doc__, ours, torch_tasks, repeats=30, rounds=20)
