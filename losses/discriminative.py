"""The discriminative gradient (DG): softmax over the classes of an image. Eq. 4, 7-8 and 17-18."""

from losses.labels import own_class
from nn.backend import array_module


def discriminative_loss(scores, labels):
    """-(1/n) sum_i log p(y_i | x_i), a softmax over the rows of scores.

    scores (n, K), labels (n,) int -> loss, dscores (n, K), info {"posterior": p(y|x) (n, K)}.
    loss = -(1/n) sum_i log softmax(F[i, :])[y_i]  (Eq. 17, log K for equal scores);
    dscores = -(1/n) (onehot - posterior)          (Eq. 18), whose rows sum to 0.
    ValueError for labels that are not n of 0 .. K - 1 (on a GPU: not n).
    """
    xp = array_module(scores)
    n = len(scores)
    own = own_class(scores, labels)  # (n, K): 1[y_i = y]
    shifted = scores - scores.max(axis=1, keepdims=True)  # log-sum-exp: nothing overflows
    posterior = xp.exp(shifted)
    total = posterior.sum(axis=1, keepdims=True)
    posterior /= total
    loss = xp.where(own, xp.log(total) - shifted, 0).sum() / n
    dscores = (posterior - own) / n  # Eq. 18
    return loss, dscores, {"posterior": posterior}
