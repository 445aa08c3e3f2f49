"""Generative modeling of convolutional neural networks (Dai, Lu, Wu), in one file of NumPy.

`python minimal.py` trains a small ConvNet on MNIST by the generative gradient, prints its test
error, and draws digits from it into minimal.png. A ConvNet gives an image x a score f_y(x) for each
class y. That makes a model of images: p_y(x) = exp(f_y(x)) q(x) / Z_y (Eq. 5), a distribution q in
which images of a high score become more probable. To learn, the sample from q is the batch, and
`extra` draws from a Gaussian with the mean and covariance of the training images. To draw, q is
this Gaussian alone (the paper: white noise), and exp(-U) is exp(f_y / T) times it, with its
variances times T sigma^2 = 0.9: nearly q, but the score counts ten times.
Images are arrays (N, H, W, C). da is the gradient for a.
"""

import gzip
import os
import sys
from pathlib import Path
from time import time

if __name__ == "__main__":  # On a busy computer, more threads are slower.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from PIL import Image

MNIST = Path(__file__).parent / "assets" / "mnist"
SIGMA, TEMPERATURE, PIXEL_NOISE = 3.0, 0.1, 0.1


def windows(x, K):  # Copy each K x K window: (N, H, W, C) -> (N, OH, OW, K K C).
    views = np.lib.stride_tricks.sliding_window_view(x, (K, K), (1, 2))  # (N, OH, OW, C, K, K)
    return views.transpose(0, 1, 2, 4, 5, 3).reshape(*views.shape[:3], -1)


def conv(x, w, b):  # Multiply each window with each filter (Eq. 1): w (K, K, C, F).
    return windows(x, len(w)) @ w.reshape(-1, w.shape[3]) + b  # (N, OH, OW, F)


def conv_backward(dy, x, w):
    K, _, C, F = w.shape
    N, OH, OW, _ = dy.shape
    dy = dy.reshape(-1, F)  # (N OH OW, F)
    dw = windows(x, K).reshape(-1, K * K * C).T @ dy  # (K K C, N OH OW) @ (N OH OW, F)
    dx = np.zeros_like(x)
    for i, j in np.ndindex(K, K):  # Pixel (i, j) of each window gets its share of the gradient.
        share = dy @ w[i, j].T  # (N OH OW, F) @ (F, C)
        dx[:, i : i + OH, j : j + OW] += share.reshape(N, OH, OW, C)
    return dx, dw.reshape(w.shape), dy.sum(axis=0)


def max_pool(x):  # Find the maximum of each 2 x 2 block, and its place in the block, 0 to 3.
    pixels = np.stack([x[:, i::2, j::2] for i, j in np.ndindex(2, 2)])  # (4, N, H/2, W/2, C)
    return pixels.max(axis=0), pixels.argmax(axis=0)


def max_pool_backward(dy, argmax):  # Arg-max un-pooling: only the place of the maximum gets dy.
    N, OH, OW, C = dy.shape
    dx = np.empty((N, 2 * OH, 2 * OW, C), dy.dtype)
    for place, (i, j) in enumerate(np.ndindex(2, 2)):
        dx[:, i::2, j::2] = dy * (argmax == place)
    return dx


def relu(x):
    return np.maximum(x, 0)


def relu_backward(dy, x):
    return dy * (x > 0)


def linear(x, w, b):
    return x @ w + b  # (N, D) @ (D, F) -> (N, F), Eq. 3


def linear_backward(dy, x, w):
    return dy @ w.T, x.T @ dy, dy.sum(axis=0)  # dx, dw, db


def bottom_up(x, net):
    """From images (N, 28, 28, 1) to scores (N, 10). Also returns what top_down needs."""
    w1, b1, w2, b2, w3, b3, w4, b4 = net
    pool1, argmax1 = max_pool(conv(x, w1, b1))  # (N, 24, 24, 8) -> (N, 12, 12, 8)
    pool2, argmax2 = max_pool(conv(pool1, w2, b2))  # (N, 8, 8, 32) -> (N, 4, 4, 32)
    flat = pool2.reshape(len(x), -1)  # (N, 512)
    hidden = linear(flat, w3, b3)  # (N, 128)
    scores = linear(relu(hidden), w4, b4)
    return scores, (x, pool1, argmax1, pool2, argmax2, flat, hidden)


def top_down(dscores, kept, net):
    """From dscores (N, 10) back to dx (N, 28, 28, 1) and the gradients of the parameters."""
    x, pool1, argmax1, pool2, argmax2, flat, hidden = kept
    w1, _, w2, _, w3, _, w4, _ = net
    drelu, dw4, db4 = linear_backward(dscores, relu(hidden), w4)
    dflat, dw3, db3 = linear_backward(relu_backward(drelu, hidden), flat, w3)
    dconv2 = max_pool_backward(dflat.reshape(pool2.shape), argmax2)
    dpool1, dw2, db2 = conv_backward(dconv2, pool1, w2)
    dx, dw1, db1 = conv_backward(max_pool_backward(dpool1, argmax1), x, w1)
    return dx, [dw1, db1, dw2, db2, dw3, db3, dw4, db4]


def generative_loss(scores, labels):
    """The mean of -log(p_y(x) / q(x)), where Z_y is the mean of exp f_y over all images."""
    own = np.zeros(scores.shape, bool)  # (m, K): is y the class of the image?
    own[np.arange(len(labels)), labels] = True  # The labelled images come first.
    shifted = scores - scores.max(axis=0)  # so that exp cannot overflow
    log_weights = shifted - np.log(np.exp(shifted).sum(axis=0))
    weights = np.exp(log_weights)  # Eq. 12: a softmax over the images, for each class
    loss = -(log_weights[own] + np.log(len(scores))).mean()  # Eq. 15
    dscores = (own.sum(axis=0) * weights - own) / len(labels)  # Eq. 14
    return loss, dscores.astype(scores.dtype), 1 / (weights**2).sum(axis=0)


def train(images, labels, mean, A, rng, epochs, batch=64, extra=32, rate=0.02):
    net, start = [], time()
    for shape in (5, 5, 1, 8), (5, 5, 8, 32), (4 * 4 * 32, 128), (128, 10):
        bound = (3 / np.prod(shape[:-1])) ** 0.5
        net += [rng.uniform(-bound, bound, shape), np.zeros(shape[-1])]
    net = [w.astype(np.float32) for w in net]
    velocity = [np.zeros_like(w) for w in net]
    order = np.concatenate([rng.permutation(len(images)) for _ in range(epochs)])
    batches = np.array_split(order, len(order) // batch)
    for step, chosen in enumerate(batches):
        from_q = mean + rng.standard_normal((extra, 784), np.float32) @ A.T
        noise = PIXEL_NOISE * rng.standard_normal(images[chosen].shape, np.float32)
        x = np.concatenate([images[chosen] + noise, from_q.reshape(-1, 28, 28, 1)])
        scores, kept = bottom_up(x, net)
        loss, dscores, ess = generative_loss(scores, labels[chosen])
        _, dnet = top_down(dscores, kept, net)
        for w, dw, v in zip(net, dnet, velocity, strict=True):  # One rate for all, unlike Caffe.
            v[...] = 0.9 * v + rate * (1 - step / len(batches)) * (dw + 0.0005 * w)
            w -= v
        if step % 200 == 199:  # ESS: effective sample size of the weights, section 4.2
            print(f"step {step + 1}: loss {loss:.2f}, ESS {ess.mean():.1f}, {time() - start:.0f} s")
    return net


def energy(z, own, net, mean, A):  # own (N, 10): True at the class of each chain
    """U = (-f_y(x) + |z|^2 / (2 sigma^2)) / T of the image x = mean + A z, and dU/dz."""
    scores, kept = bottom_up((mean + z @ A.T).reshape(-1, 28, 28, 1), net)
    dx, _ = top_down(own.astype(z.dtype), kept, net)  # df/dx
    U = ((z**2).sum(axis=1, dtype=float) / (2 * SIGMA**2) - scores[own]) / TEMPERATURE
    return U, (z / SIGMA**2 - dx.reshape(z.shape) @ A) / TEMPERATURE


def leapfrog(energy, z, momentum, dU, step_size, steps):
    for _ in range(steps):
        momentum = momentum - step_size / 2 * dU  # Eq. 20
        z = z + step_size * momentum  # Eq. 21, with mass 1
        U, dU = energy(z)
        momentum = momentum - step_size / 2 * dU  # Eq. 22
    return z, momentum, U, dU


def hmc_step(energy, z, U, dU, rng, step_size=0.04, steps=12):
    """Moves each chain. Finite steps change H a little: accept or reject corrects for that."""
    start = rng.standard_normal(z.shape, np.float32).astype(z.dtype)  # momentum
    new_z, end, new_U, new_dU = leapfrog(energy, z, start, dU, step_size, steps)
    H = U + (start**2).sum(axis=1, dtype=float) / 2
    new_H = new_U + (end**2).sum(axis=1, dtype=float) / 2
    accepted = rng.random(len(z)) < np.exp(np.minimum(0, H - new_H))  # Metropolis
    for old, new in (z, new_z), (U, new_U), (dU, new_dU):
        old[accepted] = new[accepted]
    return accepted


def read(part):
    images = gzip.decompress((MNIST / f"{part}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((MNIST / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    images = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28, 1)
    return images / np.float32(256), np.frombuffer(labels, np.uint8, offset=8)


def main(seed=0, epochs=2, iterations=100, rows=3):
    rng = np.random.default_rng(seed)
    if not MNIST.exists():
        sys.exit(f"minimal.py: there is no folder {MNIST}. It comes with this project.")
    (images, labels), (test_images, test_labels) = read("train"), read("t10k")
    flat = images.reshape(len(images), -1)  # (N, 784)
    covariance = np.cov(flat.T) + PIXEL_NOISE**2 * np.eye(784)  # some pixels never change
    mean, A = flat.mean(axis=0), np.linalg.cholesky(covariance).astype(np.float32)
    net = train(images, labels, mean, A, rng, epochs)
    log_Z = np.log(np.exp(bottom_up(images[:2000], net)[0], dtype=float).mean(axis=0))
    alpha = np.log(np.bincount(labels) / len(labels)) - log_Z  # Eq. 6
    scores = np.concatenate([bottom_up(x, net)[0] for x in np.array_split(test_images, 20)])
    print(f"test error {np.mean((scores + alpha).argmax(axis=1) != test_labels):.2%}")
    own = np.tile(np.eye(10, dtype=bool), (rows, 1))
    z = SIGMA * TEMPERATURE**0.5 * rng.standard_normal((len(own), 784), np.float32)
    U, dU = energy(z, own, net, mean, A)
    for iteration in range(iterations):
        accepted = hmc_step(lambda z: energy(z, own, net, mean, A), z, U, dU, rng)
        if iteration % 20 == 19:
            print(f"HMC iteration {iteration + 1}: accepted {accepted.mean():.0%}")
    pixels = np.clip(256 * (mean + z @ A.T), 0, 255).reshape(rows, 10, 28, 28)
    pixels = pixels.swapaxes(1, 2).reshape(rows * 28, 280).astype(np.uint8)
    Image.fromarray(pixels).resize((1120, rows * 112)).save("minimal.png")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
