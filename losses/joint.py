"""Both gradients at every step: each row of the scores against the others, and each column."""

from losses.discriminative import discriminative_loss
from losses.generative import generative_loss
from nn.backend import Array


def joint_loss(
    scores: Array, labels: Array, gg_weight: float, queue: Array | None = None
) -> tuple[Array, Array, dict]:
    """L = L_DG + w L_GG of the same scores (Eq. 17 and 15), w = gg_weight.

    scores (n, K), labels (n,) int, queue (m, K) as of generative_loss -> loss, dscores (n, K),
    info of both losses. One bottom-up pass serves both, and their dscores are added up, so one
    top-down pass serves both, too. DG trains the bias of each class, which GG does not see.
    """
    dg, dscores_dg, info_dg = discriminative_loss(scores, labels)
    gg, dscores_gg, info_gg = generative_loss(scores, labels, queue=queue)
    return dg + gg_weight * gg, dscores_dg + gg_weight * dscores_gg, info_dg | info_gg
