"""The generative gradient (GG): softmax over the images of the batch. Eq. 5-6 and 9-16.

The batch itself serves as the sample from the reference distribution q(x). Each column of the
score matrix is normalised over the images, where DG normalises each row over the classes.
"""

from losses.labels import own_class
from nn.backend import array_module


def importance_weights(scores):
    """W[j, y] = exp f_y(x_j) / sum_k exp f_y(x_k)  (Eq. 11-12): scores (n, K) -> (n, K).

    Column y says how much each image of the batch counts as a sample from p_y; it sums to 1.
    """
    xp = array_module(scores)
    weights = xp.exp(scores - scores.max(axis=0))  # the largest exponent is 0: nothing overflows
    weights /= weights.sum(axis=0)
    return weights


def effective_sample_size(weights):
    """ESS_y = 1 / sum_j W[j, y]^2: (n, K) -> (K,), from n for flat weights down to 1.

    It falls towards N_y, the images of class y in the batch, as p_y parts from q (section 4.2).
    """
    return 1 / (weights * weights).sum(axis=0)


def generative_loss(scores, labels, counts=None):
    """-(1/n) sum_i log p_{y_i}(x_i) / q(x_i), a softmax over the columns of scores.

    scores (n, K), labels (n,) int -> loss, dscores (n, K),
    info {"weights": W (n, K), "ess": ESS per class (K,)}.
    loss = -(1/n) sum_i log(n W[i, y_i])            (Eq. 15, 0 for equal scores);
    dscores[j, y] = -(1/n) (1[y_j = y] - N_y W[j, y])  (the sum over i of Eq. 14),
    whose columns sum to 0. N_y is the number of images of class y. With counts (n,), image i
    is taken counts[i] times instead of once, n becomes their sum in 1/n.
    ValueError for labels that are not n of 0 .. K - 1 (on a GPU: not n).
    """
    xp = array_module(scores)
    n = len(scores)
    own = own_class(scores, labels)  # (n, K): 1[y_i = y]
    counts = xp.ones(n) if counts is None else counts
    shares = counts / counts.sum()
    shifted = scores - scores.max(axis=0)
    weights = xp.exp(shifted)
    total = weights.sum(axis=0)
    weights /= total
    # Eq. 15: Z_y is the mean of exp f_y over the batch, hence total / n.
    own_shares = own * shares[:, None]
    loss = xp.where(own, (xp.log(total / n) - shifted) * shares[:, None], 0).sum()
    of_class = own_shares.sum(axis=0)  # N_y / n
    dscores = (weights * of_class - own_shares).astype(scores.dtype, copy=False)  # Eq. 14
    return loss, dscores, {"weights": weights, "ess": effective_sample_size(weights)}


def intercepts(scores, priors):
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
