"""The generative gradient (GG): softmax over the images of the batch. Eq. 5-6 and 9-16.

The batch itself serves as the sample from the reference distribution q(x). Each column of the
score matrix is normalised over the images, where DG normalises each row over the classes.
"""

import math

from losses.discriminative import log_softmax
from losses.own_class import own_class
from nn.backend import Array, array_module


def importance_weights(scores: Array) -> Array:
    """W[j, y] = exp f_y(x_j) / sum_k exp f_y(x_k)  (Eq. 11-12): scores (n, K) -> (n, K).

    Column y says how much each image of the batch counts as a sample from p_y; it sums to 1.
    """
    return array_module(scores).exp(log_softmax(scores, axis=0))


def effective_sample_size(weights: Array) -> Array:
    """ESS_y = 1 / sum_j W[j, y]^2: (n, K) -> (K,), from n for flat weights down to 1.

    It falls towards N_y, the images of class y in the batch, as p_y parts from q (section 4.2).
    """
    return 1 / (weights * weights).sum(axis=0)


def sample_of_q(scores: Array, queue: Array | None = None) -> Array:
    """The scores of all images that serve as a sample from q: (n, K) and (m, K) -> (n + m, K).

    queue: scores of m images of earlier batches. A larger sample makes the estimate of Z_y
    steadier and the effective sample size larger. The queue is a constant. So in the mean of
    Eq. 12, which needs df_y/dw, the n images of the batch stand for all n + m: their weights are
    multiplied by (n + m) / n. dscores is then not the derivative of the loss (docs/derivations.md).
    If the queue is the batch again, dscores is the same as without it.
    """
    if queue is None or len(queue) == 0:
        return scores
    return array_module(scores).concatenate([scores, queue])


def generative_loss(
    scores: Array, labels: Array, counts: Array | None = None, queue: Array | None = None
) -> tuple[Array, Array, dict]:
    """-(1/n) sum_i log( p_{y_i}(x_i) / q(x_i) ), a softmax over the columns of scores.

    scores F (n, K), labels (n,) int -> loss, dscores (n, K),
    info {"weights": W (n + m, K), "ess": ESS per class (K,)}; m is the length of the queue, or 0.
    Z_y is the mean of exp f_y over the n images, so p_y(x_i) / q(x_i) = n W[i, y].
    loss = -(1/n) sum_i log(n W[i, y_i])               (Eq. 15, 0 for equal scores);
    dscores[j, y] = -(1/n) (1[y_j = y] - N_y W[j, y])  (the sum over i of Eq. 14), whose columns
    sum to 0 without a queue (see `sample_of_q`). N_y is the number of images of class y. With
    counts (n,), image i is an example of its class counts[i] times (Eq. 19); N_y and 1/n then count
    it so.
    ValueError for labels that are not n of 0 .. K - 1 (on a GPU only their number is checked).
    """
    xp, n = array_module(scores), len(scores)
    own = own_class(scores, labels)  # (n, K): 1[y_i = y]
    own = own if counts is None else own * counts[:, None]
    sample = sample_of_q(scores, queue)
    log_W = log_softmax(sample, axis=0)  # along each column
    W = xp.exp(log_W)
    loss = -(own * (log_W[:n] + math.log(len(sample)))).sum() / own.sum()  # Eq. 15
    mine = len(sample) / n * W[:n]  # exp f / (n Z): the batch stands for the whole sample
    dscores = -(own - own.sum(axis=0) * mine) / own.sum()  # Eq. 14
    info = {"weights": W, "ess": effective_sample_size(W)}
    return loss, dscores.astype(scores.dtype, copy=False), info


def intercepts(scores: Array, priors: Array) -> Array:
    """alpha_y = log rho_y - log Z_y (Eq. 6), with Z_y = mean_x exp f_y(x) over training images.

    scores (n, K) of n images from q; priors (K,), rho_y > 0 -> (K,) float64. GG leaves the bias
    of the last layer without gradient (columns of dscores sum to 0), so f_y + alpha_y, not f_y
    alone, is the score whose maximum is the most probable class.
    """
    xp = array_module(scores)
    scores = scores.astype(xp.float64)
    largest = scores.max(axis=0)
    log_Z = largest + xp.log(xp.exp(scores - largest).mean(axis=0))
    return xp.log(xp.asarray(priors, xp.float64)) - log_Z
