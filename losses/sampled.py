"""The generative gradient from the model's own samples: Eq. 9, and the last sentence of the paper.

generative.py turns the batch into samples of p_y by importance weights. Here chains of Hamiltonian
Monte Carlo (hmc/) are samples of p_y, and so need no weights.
"""

import numpy as np

from losses.discriminative import log_softmax
from losses.own_class import own_class
from nn.backend import Array, array_module


def sampled_generative_loss(
    scores: Array, labels: Array, chains: Array, pull: float = 0.0
) -> tuple[Array, Array, dict]:
    """The mean of f_y over chains of class y, minus its mean over the images of class y.

    scores F (n, K) of images and chains in one batch; labels (n,): the class of an image, or that
    of a chain, which is a sample of this p_y; chains (n,) bool -> loss, dscores (n, K),
    info {"gap": -loss without pull, "largest": max |F|}.
    loss = -(1/N) sum_y [sum_i f_y(x_i) - N_y sum_j V[j, y] f_y(x_j)], i the images of class y;
    dscores[j, y] = -(1/N) (1[image j is of class y] - N_y V[j, y])  (Eq. 9), whose columns sum to
    0. N_y is the number of images of class y, N of all; V[j, y] = 1 / M_y for each of the M_y
    chains of class y, else 0.

    generative_loss has the importance weights W of the batch instead of V. Both estimate the same
    expectation E_{p_y}[df_y/dw]. A class without chains teaches nothing. pull adds pull / 2 times
    the mean of f_y^2 (own class), as Eq. 9 leaves f_y free to drift by a constant.
    """
    xp = array_module(scores)
    own = own_class(scores, labels)  # (n, K): 1[y_j = y]
    image, chain = own & ~chains[:, None], own & chains[:, None]
    M = chain.sum(axis=0)
    V = chain / xp.maximum(M, 1)
    image = image & (M > 0)
    difference = (image - image.sum(axis=0) * V) / (~chains).sum()
    gap = (difference * scores).sum()
    loss = pull / 2 * (own * scores**2).sum() / len(scores) - gap  # Eq. 9
    dscores = pull * own * scores / len(scores) - difference
    info = {"gap": gap, "largest": abs(scores).max()}
    return loss, dscores.astype(scores.dtype, copy=False), info


def fitted_intercepts(scores: np.ndarray, priors: np.ndarray) -> np.ndarray:
    """alpha_y of Eq. 6 where Z_y is out of reach, up to a constant common to all: (K,) float64.

    Under a Gaussian q no average of a few images gives Z_y = E_q[exp f_y]. But the alpha for which
    the posterior softmax(f(x) + alpha) has the mean rho_y over training images is the one of the
    largest likelihood (Eq. 17). scores (n, K) of these images, priors (K,) rho_y > 0.
    """
    scores = scores.astype(np.float64)
    alpha = np.zeros(scores.shape[1])
    for _ in range(300):
        posterior = np.exp(log_softmax(scores + alpha, axis=1))
        step = np.log(priors) - np.log(posterior.mean(axis=0) + 1e-300)
        alpha += step
        if abs(step).max() < 1e-4:
            break
    return alpha - alpha.mean()
