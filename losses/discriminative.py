"""The discriminative gradient (DG): softmax over the classes of an image. Eq. 4, 7-8 and 17-18."""

from losses.own_class import own_class
from nn.backend import Array, array_module


def log_softmax(scores: Array, axis: int) -> Array:
    """F - log sum exp F along an axis: its exp sums to 1 there. Nothing overflows."""
    xp = array_module(scores)
    shifted = scores - scores.max(axis=axis, keepdims=True)
    return shifted - xp.log(xp.exp(shifted).sum(axis=axis, keepdims=True))


def discriminative_loss(scores: Array, labels: Array) -> tuple[Array, Array, dict]:
    """-(1/n) sum_i log p(y_i | x_i), a softmax over the rows of scores.

    scores F (n, K), labels (n,) int -> loss, dscores (n, K), info {"posterior": p(y|x) (n, K)}.
    loss = -(1/n) sum_i log softmax(F[i, :])[y_i]  (Eq. 17, log K for equal scores);
    dscores = -(1/n) (onehot - posterior)          (Eq. 18), whose rows sum to 0.
    ValueError for labels that are not n of 0 .. K - 1 (on a GPU only their number is checked).
    """
    xp = array_module(scores)
    own = own_class(scores, labels)  # (n, K): 1[y_i = y]
    log_p = log_softmax(scores, axis=1)  # along each row
    posterior = xp.exp(log_p)
    loss = -(own * log_p).sum() / len(scores)  # Eq. 17
    dscores = -(own - posterior) / len(scores)  # Eq. 18
    return loss, dscores, {"posterior": posterior}
