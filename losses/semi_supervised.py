"""Learning from unlabelled images, too (Eq. 19 and section 4.5)."""

from losses.generative import generative_loss, intercepts
from nn.backend import Array, array_module


def semi_supervised_loss(
    scores: Array, labels: Array, known: Array, priors: Array, unlabeled_weight: float
) -> tuple[Array, Array, dict]:
    """Eq. 19 with log p(x) of an unlabelled image bounded from below by max_y log p_y(x) rho_y.

    scores (n, K) of labelled and unlabelled images, which all serve as a sample from q;
    labels (n,) int, of which only those where known (n,) bool is True are looked at; priors (K,),
    rho_y -> loss, dscores (n, K), info as of generative_loss, with "guesses" (n,).

    An unlabelled image takes the class argmax_y [f_y(x) - log Z_y + log rho_y] of Eq. 6, and then
    counts in Eq. 14 like a labelled one, unlabeled_weight (lambda) times. The loss leaves out
    log rho_y of the guess, which has no gradient.
    """
    xp = array_module(scores)
    guesses = (scores + intercepts(scores, priors)).argmax(axis=1)
    counts = xp.where(known, 1.0, unlabeled_weight)
    loss, dscores, info = generative_loss(scores, xp.where(known, labels, guesses), counts)
    return loss, dscores, info | {"guesses": guesses}
