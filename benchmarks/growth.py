"""How time and memory grow with the batch, the chains and the image.

    python -m benchmarks.growth

LeNet's training step and its df/dx by the number of images, and df/dx of a conv3 node of
torchvision's AlexNet by the size of its image. A ratio of 1 means: per image (or pixel) as much as
in the row above. --device gpu measures CuPy.
"""

import argparse
import statistics
import time

import numpy as np

from app.console import fail_in_one_line
from app.formats.net import open_network
from benchmarks.versus import memory
from fast import engine
from fast.cpu.threads import cores
from fast.device import DEVICES, choose_device
from losses.generative import generative_loss
from nn.sgd import SGD

BATCHES = (1, 4, 16, 64, 256, 1024)
SIDES = (99, 163, 227, 323)  # pixels


def milliseconds(work, xp, seconds=1.0):
    """The median time of work(), called for about so long and at least three times."""
    work()
    times = []
    while len(times) < 3 or sum(times) < seconds:
        start = time.perf_counter()
        work()
        if xp is not np:
            xp.cuda.Stream.null.synchronize()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def training_step(images, xp):
    """A step of GG with LeNet on a batch of so many images."""
    network = open_network("lenet").to(xp)
    run, sgd = engine(network, xp, cores(), images), SGD(network)
    x, labels = xp.ones((images, 28, 28, 1), np.float32), xp.arange(images) % 10

    def step():
        _, dscores, _ = generative_loss(run.bottom_up(x, train=True), labels)
        run.learn(dscores, sgd, 0.001)

    return step


def slope(network, images, xp):
    """df/dx of one score (or the centre of a map) for so many images."""
    run = engine(network.to(xp), xp, cores(), images)
    x = xp.ones((images, *network.input_shape), np.float32)
    dy = xp.zeros((images, *network.shapes[network.last]), np.float32)
    dy.reshape(images, -1)[:, 3] = 1

    def derivative():
        run.bottom_up(x)
        run.top_down(dy)

    return derivative


def table(title, unit, rows, xp):
    """rows: (size, function that returns the work) from small to large."""
    print(f"\n| {title}, by {unit} | milliseconds | each, beside the row above | MiB so far |")
    print("|---|---|---|---|")
    before = None
    for size, make in rows:
        took = milliseconds(make(), xp)
        ratio = f"{took / size / before:.2f}" if before else ""
        print(f"| {size:,} | {took:.2f} | {ratio} | {memory():.0f} |", flush=True)
        before = took / size


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    with fail_in_one_line(status=2):
        xp, device = choose_device(parser.parse_args().device)
    print(f"{device}, {cores()} processes")
    steps = [(n, lambda n=n: training_step(n, xp)) for n in BATCHES]
    table("LeNet, training step", "images", steps, xp)
    slopes = [(n, lambda n=n: slope(open_network("lenet"), n, xp)) for n in BATCHES]
    table("LeNet, df/dx", "images", slopes, xp)
    whole = open_network("alexnet-torchvision", up_to="conv3")
    sides = [
        (side**2, lambda s=side: slope(whole.up_to("conv3", (s, s, 3)), 1, xp)) for side in SIDES
    ]
    table("AlexNet's conv3, df/dx of one image", "pixels", sides, xp)


if __name__ == "__main__":
    main()
