"""Generative modeling of convolutional neural networks (Dai, Lu, Wu) in one file of NumPy.

`python minimal.py` trains a small ConvNet on MNIST for about a minute by the generative gradient,
prints the test error, and draws ten digits by Hamiltonian Monte Carlo into minimal.png. A ConvNet
gives an image x a score f_y(x) for each class y. The paper makes a model of images of the scores:
p_y(x) = exp(f_y(x)) q(x) / Z_y (Eq. 5), where q is a simple distribution of images.

Here q is a Gaussian with the mean and the covariance of MNIST (the paper takes white noise). The
digits are drawn where p_y is large: from exp(-U) with U = (-f_y(x) + |z|^2 / (2 sigma^2)) / T and
x = mean + A z. T = sigma = 1 would be Eq. 5 itself; T = 0.1 and sigma = 3 give clearer digits.
Images are (N, H, W, C): number, height, width, channels. The gradient in a is called da.
"""

import gzip
import time
from functools import partial
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image  # for the picture only

MNIST = Path(__file__).parent / "assets" / "mnist"
NOISE, SIGMA, TEMPERATURE = 0.1, 3.0, 0.1  # NOISE: of each pixel, in q and while learning


def windows(x, K):
    """Every K x K window of the images as a row: (N, H, W, C) -> (N OH OW, K K C)."""
    views = sliding_window_view(x, (K, K), axis=(1, 2))  # (N, OH, OW, C, K, K)
    return views.transpose(0, 1, 2, 4, 5, 3).reshape(-1, K * K * x.shape[3])


def conv(x, w, b):
    """Convolution (Eq. 1-2): each window times each filter. x (N, H, W, C), w (K, K, C, F)."""
    K, F = len(w), w.shape[3]
    y = windows(x, K) @ w.reshape(-1, F) + b  # (N OH OW, K K C) @ (K K C, F)
    return y.reshape(len(x), x.shape[1] - K + 1, -1, F)  # (N, OH, OW, F)


def conv_backward(dy, x, w):
    """dx, dw, db. A pixel's dx adds up what comes back from every window that sees it."""
    N, OH, OW, F = dy.shape
    rows = dy.reshape(-1, F)  # (N OH OW, F)
    dw = windows(x, len(w)).T @ rows  # (K K C, N OH OW) @ (N OH OW, F)
    dx = np.zeros_like(x)
    for i, j in np.ndindex(w.shape[:2]):  # pixel (i, j) of all windows: (N OH OW, F) @ (F, C)
        dx[:, i : i + OH, j : j + OW] += (rows @ w[i, j].T).reshape(N, OH, OW, -1)
    return dx, dw.reshape(w.shape), rows.sum(axis=0)


def max_pool(x):
    """The largest of each 2 x 2 block, and its place 0 .. 3: (N, H, W, C) -> (N, H/2, W/2, C)."""
    y, argmax = x[:, 0::2, 0::2], 0
    for place, (i, j) in enumerate(np.ndindex(2, 2)):
        pixel = x[:, i::2, j::2]
        argmax = np.where(pixel > y, place, argmax)  # at a tie the first place stays
        y = np.maximum(y, pixel)
    return y, argmax


def max_pool_backward(dy, argmax):
    """Arg-max un-pooling (section 4.6): dy goes back to the place of the largest pixel."""
    dx = np.empty((len(dy), 2 * dy.shape[1], 2 * dy.shape[2], dy.shape[3]), dy.dtype)
    for place, (i, j) in enumerate(np.ndindex(2, 2)):
        dx[:, i::2, j::2] = dy * (argmax == place)
    return dx


def new_network(rng):
    """[w1, b1, ..., w4, b4]: two convolutions and two fully connected layers."""
    shapes = (5, 5, 1, 8), (5, 5, 8, 16), (4 * 4 * 16, 128), (128, 10)
    w = [rng.uniform(-1, 1, shape) * np.sqrt(3 / np.prod(shape[:-1])) for shape in shapes]
    return [a.astype(np.float32) for each in w for a in (each, np.zeros(each.shape[-1]))]


def bottom_up(x, net):
    """Images (N, 28, 28, 1) -> scores (N, 10), and what top_down needs of the layers."""
    w1, b1, w2, b2, w3, b3, w4, b4 = net
    pool1, argmax1 = max_pool(conv(x, w1, b1))  # (N, 24, 24, 8) -> (N, 12, 12, 8)
    pool2, argmax2 = max_pool(conv(pool1, w2, b2))  # (N, 8, 8, 16) -> (N, 4, 4, 16)
    flat = pool2.reshape(len(x), -1)  # (N, 256)
    hidden = np.maximum(flat @ w3 + b3, 0)  # ReLU: (N, 128)
    scores = hidden @ w4 + b4  # Eq. 3: (N, 128) @ (128, 10)
    return scores, (x, pool1, argmax1, pool2, argmax2, flat, hidden)


def top_down(dscores, layers, net):
    """dscores (N, 10) -> dx (N, 28, 28, 1) and the gradients of all parameters (Eq. 13)."""
    x, pool1, argmax1, pool2, argmax2, flat, hidden = layers
    w1, _, w2, _, w3, _, w4, _ = net
    dw4, db4 = hidden.T @ dscores, dscores.sum(axis=0)
    dhidden = dscores @ w4.T * (hidden > 0)  # through the ReLU
    dflat, dw3, db3 = dhidden @ w3.T, flat.T @ dhidden, dhidden.sum(axis=0)
    dconv2 = max_pool_backward(dflat.reshape(pool2.shape), argmax2)
    dpool1, dw2, db2 = conv_backward(dconv2, pool1, w2)
    dx, dw1, db1 = conv_backward(max_pool_backward(dpool1, argmax1), x, w1)
    return dx, [dw1, db1, dw2, db2, dw3, db3, dw4, db4]


def generative_loss(scores, labels):
    """Loss, dscores (n, K), ESS (K,). An image with the label -1 is a sample from q, no more."""
    own = labels[:, None] == np.arange(scores.shape[1])  # (n, K): 1 for the class of an image
    weights = np.exp(np.maximum(scores - scores.max(axis=0), -50))  # e^-50: smaller ones are slow
    weights /= weights.sum(axis=0)  # Eq. 12: each column sums to 1
    loss = -np.log(len(scores) * weights[own]).sum() / own.sum()  # Eq. 15
    dscores = -(own - own.sum(axis=0) * weights) / own.sum()  # Eq. 14
    return loss, dscores.astype(scores.dtype), 1 / (weights**2).sum(axis=0)


def learn(images, labels, q, rng, epochs, batch=64, extra=32, rate=0.02):
    """Each batch: images, and samples from q, which show the scores what no digit looks like."""
    net, start = new_network(rng), time.time()
    velocity = [0 * w for w in net]
    for epoch in range(1, epochs + 1):
        for chosen in np.array_split(rng.permutation(len(images)), len(images) // batch):
            noise = NOISE * rng.standard_normal((len(chosen), 28, 28, 1), np.float32)
            more = image(rng.standard_normal((extra, 784), np.float32), q)
            scores, layers = bottom_up(np.concatenate([images[chosen] + noise, more]), net)
            loss, dscores, ess = generative_loss(scores, np.append(labels[chosen], [-1] * extra))
            for w, dw, V in zip(net, top_down(dscores, layers, net)[1], velocity, strict=True):
                V *= 0.9  # momentum
                V += rate * (1.1 - epoch / epochs) * (dw + 0.0005 * w)  # weight decay
                w -= V
        print(f"epoch {epoch}: loss {loss:.2f}, ESS {ess.mean():.0f}, {time.time() - start:.0f} s")
    return net


def fit_q(images):
    """mean (784,) and A (784, 784): A A^T is the covariance of the images and of their noise."""
    flat = images.reshape(len(images), -1)
    values, vectors = np.linalg.eigh(np.cov(flat.T))
    A = (vectors * np.sqrt(np.maximum(values, 0) + NOISE**2)) @ vectors.T
    return flat.mean(axis=0), A.astype(np.float32)


def image(z, q):
    return (q[0] + z @ q[1].T).reshape(-1, 28, 28, 1)  # x = mean + A z


def energy(z, classes, net, q):
    """U of each chain, and dU/dz = (z / sigma^2 - A^T df/dx) / T."""
    scores, layers = bottom_up(image(z, q), net)
    own = classes[:, None] == np.arange(10)
    dx, _ = top_down(own.astype(z.dtype), layers, net)  # df_y/dx: bottom-up, then top-down
    U = ((z * z).sum(axis=1) / (2 * SIGMA**2) - scores[own]) / TEMPERATURE
    return U, (z / SIGMA**2 - dx.reshape(z.shape) @ q[1]) / TEMPERATURE


def leapfrog(energy, z, phi, dU, step_size, steps):
    for _ in range(steps):
        phi = phi - step_size / 2 * dU  # Eq. 20
        z = z + step_size * phi  # Eq. 21
        U, dU = energy(z)
        phi = phi - step_size / 2 * dU  # Eq. 22
    return z, phi, U, dU


def hmc_step(energy, z, U, dU, rng, step_size, steps):
    """A trajectory of every chain; each is accepted or rejected for itself (Metropolis)."""
    phi, uniform = rng.standard_normal(z.shape, np.float32).astype(z.dtype), rng.random(len(z))
    z1, phi1, U1, dU1 = leapfrog(energy, z, phi, dU, step_size, steps)
    error = U1 - U + ((phi1**2).sum(axis=1) - (phi**2).sum(axis=1)) / 2  # H at the end - at start
    accepted = uniform < np.exp(-np.maximum(error, 0))
    each = accepted[:, None]
    return np.where(each, z1, z), np.where(accepted, U1, U), np.where(each, dU1, dU), accepted


def read(name):
    """A file of MNIST: a header that ends with the sizes, then the bytes; images (N, 28, 28, 1)."""
    data = gzip.decompress((MNIST / f"{name}-ubyte.gz").read_bytes())
    sizes = np.frombuffer(data, ">i4", data[3], offset=4)  # data[3]: how many there are
    array = np.frombuffer(data, np.uint8, offset=4 + 4 * len(sizes)).reshape(sizes)
    return array[..., None] / np.float32(256) if len(sizes) == 3 else array.astype(int)


def main(seed=0, epochs=3, images=60_000, iterations=120, picture="minimal.png"):
    def scores_of(images):
        return np.concatenate([bottom_up(x, net)[0] for x in np.split(images, len(images) // 500)])

    rng = np.random.default_rng(seed)
    x, labels = read("train-images-idx3")[:images], read("train-labels-idx1")[:images]
    q = fit_q(x)
    net = learn(x, labels, q, rng, epochs)
    Z = np.exp(scores_of(x).astype(float)).mean(axis=0)
    net[-1] += (np.log(np.bincount(labels) / len(x)) - np.log(Z)).astype(np.float32)  # Eq. 6
    wrong = scores_of(read("t10k-images-idx3")).argmax(axis=1) != read("t10k-labels-idx1")
    print(f"test error {100 * wrong.mean():.2f} %")
    node, moves = partial(energy, classes=np.arange(10), net=net, q=q), []
    z = SIGMA * TEMPERATURE**0.5 * rng.standard_normal((10, 784), np.float32)  # from q
    U, dU = node(z)
    for _ in range(iterations):
        z, U, dU, accepted = hmc_step(node, z, U, dU, rng, step_size=0.05, steps=12)
        moves.append(accepted)
    digits = np.pad(np.clip(image(z, q)[..., 0], 0, 1), ((0, 0), (2, 2), (2, 2)))
    row = (255 * np.concatenate(digits, axis=1)).astype(np.uint8)
    Image.fromarray(row.repeat(4, 0).repeat(4, 1)).save(picture)
    print(f"ten digits are in {picture}; {100 * np.mean(moves):.0f} % of the moves were accepted")


if __name__ == "__main__":
    main()
