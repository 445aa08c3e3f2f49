"""AlexNet in milliseconds: this project beside PyTorch, in one run, with equal threads.

    python -m benchmarks.alexnet

A training step of Caffe's AlexNet (batch 32, three classes: forward, loss, backward, update), and
df/dx of a conv5 node of torchvision's AlexNet on the image that it sees (163 x 163), for 1 and 4
images.
"""

import os
from functools import partial

from benchmarks.versus import CHANNELS_LAST, OURS, USUAL, compare

BATCH, UNIT, CLASSES = 32, 3, 3


def ours():
    """{task: function} of this project."""
    import nn  # noqa: F401  before NumPy: nn/threads.py says why

    # isort: split
    import numpy as np

    from losses.discriminative import discriminative_loss
    from nn.nets import build
    from nn.parallel import parallel
    from nn.sgd import SGD
    from nn.threads import THREADS

    network = build("alexnet", classes=CLASSES)
    workers, sgd = parallel(network, THREADS), SGD(network, lr=0.001)
    rng = np.random.default_rng(0)
    x = rng.random((BATCH, 227, 227, 3), np.float32)
    labels = rng.integers(0, CLASSES, BATCH)
    node = build("alexnet-torchvision", up_to="conv5")
    node = parallel(node.up_to("conv5", node.receptive_field("conv5")), THREADS)
    images = rng.random((4, 163, 163, 3), np.float32)
    unit = np.zeros((4, 1, 1, 256), np.float32)
    unit[..., UNIT] = 1

    def step():
        _, dscores, _ = discriminative_loss(workers.bottom_up(x, train=True), labels)
        workers.learn(dscores, sgd, sgd.rate())

    def derivative(n):
        node.bottom_up(images[:n])
        node.top_down(unit[:n], param_grads=False)

    return {
        "training step": step,
        "df/dx of conv5, 1 image": partial(derivative, 1),
        "df/dx of conv5, 4 images": partial(derivative, 4),
    }


def torch_tasks(channels_last=False):
    """{task: function} of PyTorch."""
    import torch
    from torch import nn
    from torch.nn import functional

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    torch.manual_seed(0)
    memory = torch.channels_last if channels_last else torch.contiguous_format

    def pool():
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    norm = partial(nn.LocalResponseNorm, 5, alpha=1e-4, beta=0.75, k=1.0)
    model = nn.Sequential(
        nn.Conv2d(3, 96, 11, 4), nn.ReLU(), norm(), pool(),
        nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(), norm(), pool(),
        nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(), pool(), nn.Flatten(),
        nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(),
        nn.Dropout(), nn.Linear(4096, CLASSES),
    ).to(memory_format=memory)  # fmt: skip
    sgd = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9, weight_decay=0.0005)
    x = torch.rand(BATCH, 3, 227, 227).to(memory_format=memory)
    labels = torch.randint(0, CLASSES, (BATCH,))
    node = nn.Sequential(
        nn.Conv2d(3, 64, 11, 4), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5), nn.ReLU(),
        nn.MaxPool2d(3, 2), nn.Conv2d(192, 384, 3), nn.ReLU(), nn.Conv2d(384, 256, 3), nn.ReLU(),
        nn.Conv2d(256, 256, 3),
    ).to(memory_format=memory)  # fmt: skip
    node.requires_grad_(False)
    seen = torch.rand(4, 3, 163, 163).to(memory_format=memory)

    def step():
        sgd.zero_grad()
        functional.cross_entropy(model(x), labels).backward()
        sgd.step()

    def derivative(n):
        images = seen[:n].clone().requires_grad_(True)
        torch.autograd.grad(node(images)[:, UNIT].sum(), images)

    return {
        "training step": step,
        "df/dx of conv5, 1 image": partial(derivative, 1),
        "df/dx of conv5, 4 images": partial(derivative, 4),
    }


if __name__ == "__main__":
    compare(
        __doc__,
        {OURS: ours, USUAL: torch_tasks, CHANNELS_LAST: partial(torch_tasks, channels_last=True)},
        repeats=2,
        rounds=5,
    )
