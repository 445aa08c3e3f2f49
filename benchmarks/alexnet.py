"""AlexNet in milliseconds: this project beside PyTorch, in one run, with equal threads.

    python -m benchmarks.alexnet

A training step of Caffe's AlexNet (batch 32, on a GPU 256; three classes: forward, loss, backward,
update), and df/dx of a conv5 node of torchvision's AlexNet on the image that it sees (163 x 163),
for 1 and 4 images.
"""

from functools import partial

from benchmarks.versus import compare, our_device, torch_form

UNIT, CLASSES = 3, 3


def batch(device):
    """Images in a training step."""
    return 32 if device == "cpu" else 256


def ours(device):
    """({task: function}, wait) of this project."""
    import numpy as np

    from app.formats.net import open_network
    from fast import engine, record
    from fast.cpu.threads import cores
    from losses.discriminative import discriminative_loss
    from nn.canvas import on_canvas
    from nn.sgd import SGD

    xp, wait = our_device(device)
    network = open_network("alexnet", classes=CLASSES).to(xp)
    run, sgd = engine(network, xp, cores()), SGD(network)
    rng = np.random.default_rng(0)
    x = xp.asarray(rng.random((batch(device), 227, 227, 3), np.float32))
    labels = xp.asarray(rng.integers(0, CLASSES, len(x)))
    node, _ = on_canvas(open_network("alexnet-torchvision", up_to="conv5"), "conv5")
    node = engine(node.to(xp), xp, cores())
    images = xp.asarray(rng.random((4, 163, 163, 3), np.float32))
    unit = xp.zeros((4, 1, 1, 256), np.float32)
    unit[..., UNIT] = 1

    def step():
        _, dscores, _ = discriminative_loss(run.bottom_up(x, train=True), labels)
        run.learn(dscores, sgd, 0.001)

    def derivative(images, unit):
        node.bottom_up(images)
        return node.top_down(unit)

    dfdx = record(derivative, xp)
    return {
        "training step": step,
        "df/dx of conv5, 1 image": lambda: dfdx(images[:1], unit[:1]),
        "df/dx of conv5, 4 images": lambda: dfdx(images, unit),
    }, wait


def torch_tasks(form, device):
    """({task: function}, wait) of PyTorch in one of its forms."""
    import torch
    from torch import nn
    from torch.nn import functional

    there, wrap, wait = torch_form(form, device, torch)

    def pool():
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    norm = partial(nn.LocalResponseNorm, 5, alpha=1e-4, beta=0.75, k=1.0)
    model = nn.Sequential(
        nn.Conv2d(3, 96, 11, 4),
        nn.ReLU(),
        norm(),
        pool(),
        nn.Conv2d(96, 256, 5, padding=2, groups=2),
        nn.ReLU(),
        norm(),
        pool(),
        nn.Conv2d(256, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 384, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1, groups=2),
        nn.ReLU(),
        pool(),
        nn.Flatten(),
        nn.Linear(9216, 4096),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(4096, 4096),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(4096, CLASSES),
    ).to(**there)
    sgd = torch.optim.SGD(model.parameters(), lr=0.001, momentum=0.9, weight_decay=0.0005)
    x = torch.rand(batch(device), 3, 227, 227).to(**there)
    labels = torch.randint(0, CLASSES, (len(x),)).to(there["device"])
    node = nn.Sequential(
        nn.Conv2d(3, 64, 11, 4),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3),
    ).to(**there)
    node.requires_grad_(False)
    seen = torch.rand(4, 3, 163, 163).to(**there)

    def step():
        sgd.zero_grad()
        functional.cross_entropy(model(x), labels).backward()
        sgd.step()

    def derivative(n):
        images = seen[:n].clone().requires_grad_(True)
        torch.autograd.grad(node(images)[:, UNIT].sum(), images)

    return {
        "training step": wrap(step),
        "df/dx of conv5, 1 image": wrap(partial(derivative, 1)),
        "df/dx of conv5, 4 images": wrap(partial(derivative, 4)),
    }, wait


if __name__ == "__main__":
    compare(__doc__, ours, torch_tasks, repeats=2, rounds=5)
