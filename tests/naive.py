"""Every layer and loss once more, as loops over single numbers: the readable specification.

Slow on purpose; nothing here shares code with the product.
"""

import math

import numpy as np


def conv(x, w, b, stride, sides, groups, dilation=(1, 1)):
    """x (N, H, W, C), w (KH, KW, C/groups, F), sides ((top, bottom), (left, right))."""
    x = np.pad(x, ((0, 0), *sides, (0, 0)))
    N, H, W, C = x.shape
    KH, KW, D, F = w.shape
    OH = math.floor((H - (KH - 1) * dilation[0] - 1) / stride[0]) + 1
    OW = math.floor((W - (KW - 1) * dilation[1] - 1) / stride[1]) + 1
    y = np.zeros((N, OH, OW, F))
    for n, oh, ow, f in np.ndindex(y.shape):
        group = f // (F // groups)
        for i, j, d in np.ndindex(KH, KW, D):
            row, column = oh * stride[0] + i * dilation[0], ow * stride[1] + j * dilation[1]
            pixel = x[n, row, column, group * D + d]
            y[n, oh, ow, f] += pixel * w[i, j, d, f]
        y[n, oh, ow, f] += b[f]
    return y


def pool_sizes(H, W, kernel, stride, sides, ceil):
    sizes = []
    for size, k, s, (before, after) in zip((H, W), kernel, stride, sides, strict=True):
        rule = math.ceil if ceil else math.floor
        out = rule((size + before + after - k) / s) + 1
        if ceil and (out - 1) * s >= size + before:
            out -= 1
        sizes.append(out)
    return sizes


def max_pool(x, kernel, stride, sides, ceil):
    """(value, argmax): windows clipped at the border, the first maximum in row order wins."""
    N, H, W, C = x.shape
    OH, OW = pool_sizes(H, W, kernel, stride, sides, ceil)
    value, argmax = np.full((N, OH, OW, C), -math.inf), np.zeros((N, OH, OW, C), int)
    for n, oh, ow, c in np.ndindex(value.shape):
        for i, j in np.ndindex(*kernel):
            h, w = oh * stride[0] + i - sides[0][0], ow * stride[1] + j - sides[1][0]
            if 0 <= h < H and 0 <= w < W and x[n, h, w, c] > value[n, oh, ow, c]:
                value[n, oh, ow, c], argmax[n, oh, ow, c] = (
                    x[n, h, w, c],
                    i * kernel[1] + j,
                )
    return value, argmax


def argmax_unpool(dy, argmax, input_shape, kernel, stride, sides):
    dx = np.zeros(input_shape)
    for n, oh, ow, c in np.ndindex(dy.shape):
        i, j = divmod(int(argmax[n, oh, ow, c]), kernel[1])
        h, w = oh * stride[0] + i - sides[0][0], ow * stride[1] + j - sides[1][0]
        dx[n, h, w, c] += dy[n, oh, ow, c]
    return dx


def average_pool(x, kernel, stride, sides, ceil, count_pad):
    N, H, W, C = x.shape
    OH, OW = pool_sizes(H, W, kernel, stride, sides, ceil)
    y = np.zeros((N, OH, OW, C))
    for n, oh, ow, c in np.ndindex(y.shape):
        total, inside, padding = 0.0, 0, 0
        for i, j in np.ndindex(*kernel):
            h, w = oh * stride[0] + i - sides[0][0], ow * stride[1] + j - sides[1][0]
            if 0 <= h < H and 0 <= w < W:
                total, inside = total + x[n, h, w, c], inside + 1
            elif h < H + sides[0][1] and w < W + sides[1][1]:
                padding += 1
        y[n, oh, ow, c] = total / (inside + padding if count_pad else inside)
    return y


def lrn(x, size, alpha, beta, k, across):
    N, H, W, C = x.shape
    y, half = np.zeros(x.shape), size // 2
    for n, h, w, c in np.ndindex(x.shape):
        if across:
            near = [(h, w, d) for d in range(c - half, c + half + 1)]
        else:
            near = [(h + i - half, w + j - half, c) for i, j in np.ndindex(size, size)]
        squares = [
            x[n, i, j, d] ** 2 for i, j, d in near if 0 <= i < H and 0 <= j < W and 0 <= d < C
        ]
        y[n, h, w, c] = x[n, h, w, c] / (k + alpha * sum(squares) / len(near)) ** beta
    return y


def relu(x):
    y = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        y[index] = x[index] if x[index] > 0 else 0.0
    return y


def gelu_by_tanh(x):
    return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS = {  # of a single number, each as its authors write it
    "leaky": lambda x: x if x > 0 else 0.2 * x,
    "prelu": lambda x, a: x if x > 0 else a * x,
    "elu": lambda x: x if x > 0 else 0.7 * (math.exp(x) - 1),
    "relu6": lambda x: min(max(x, 0.0), 6.0),
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "tanh": math.tanh,
    "softplus": lambda x: math.log(1 + math.exp(x)),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "hard swish": lambda x: 0.0 if x <= -3 else x if x >= 3 else x * (x + 3) / 6,
    "gelu": lambda x: 0.5 * x * math.erfc(-x / math.sqrt(2)),
    "tanh gelu": gelu_by_tanh,
}


def linear(x, w, b):
    x = x.reshape(len(x), -1)
    y = np.zeros((len(x), w.shape[1]))
    for n, f in np.ndindex(y.shape):
        y[n, f] = sum(x[n, d] * w[d, f] for d in range(len(w))) + b[f]
    return y


def discriminative_loss(scores, labels):
    """Eq. 17: -(1/n) sum_i log( exp F[i, y_i] / sum_y exp F[i, y] )."""
    total = 0.0
    for row, y in zip(scores, labels, strict=True):
        total -= math.log(math.exp(row[y]) / sum(math.exp(f) for f in row))
    return total / len(scores)


def generative_loss(scores, labels, queue=()):
    """Eq. 15: -(1/n) sum_i log( exp F[i, y_i] / mean_k exp F[k, y_i] ), the mean over batch and
    queue."""
    n, sample = len(scores), [*scores, *queue]
    total = 0.0
    for i, y in enumerate(labels):
        mean = sum(math.exp(row[y]) for row in sample) / len(sample)
        total -= math.log(math.exp(scores[i, y]) / mean)
    return total / n


def generative_gradient(scores, labels):
    """Eq. 14 to the letter, case by case, summed over i; d loss = -1/n of it."""
    n, K = scores.shape
    d = np.zeros((n, K))
    for i, y_i in enumerate(labels):
        total = sum(math.exp(scores[k, y_i]) for k in range(n))
        for j, y in np.ndindex(n, K):
            weight = math.exp(scores[j, y_i]) / total
            if y != y_i:
                d[j, y] += 0
            elif j == i:
                d[j, y] += 1 - weight
            else:
                d[j, y] += -weight
    return -d / n


def semi_supervised_loss(scores, labels, known, priors, unlabeled_weight):
    """Eq. 19 with max_y p_y rho_y: Eq. 15 for each image, an unlabelled one lambda times."""
    n, K = scores.shape
    means = [sum(math.exp(scores[k, y]) for k in range(n)) / n for y in range(K)]
    total, count = 0.0, 0.0
    for i in range(n):
        log_p = [scores[i, y] - math.log(means[y]) for y in range(K)]
        y = labels[i] if known[i] else max(range(K), key=lambda y: log_p[y] + math.log(priors[y]))
        weight = 1 if known[i] else unlabeled_weight
        total, count = total - weight * log_p[y], count + weight
    return total / count


def sampled_generative_loss(scores, labels, chains, pull):
    """The mean of f_y over the chains of each image's class, minus its own f_y."""
    images = [i for i in range(len(scores)) if not chains[i]]
    total = 0.0
    for i in images:
        y = labels[i]
        own = [scores[j, y] for j in range(len(scores)) if chains[j] and labels[j] == y]
        if own:
            total += sum(own) / len(own) - scores[i, y]
    square = sum(scores[j, labels[j]] ** 2 for j in range(len(scores))) / len(scores)
    return total / len(images) + pull / 2 * square
