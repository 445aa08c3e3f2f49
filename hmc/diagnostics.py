"""Whether to believe a sample: autocorrelation, effective sample size, split R-hat.

All take a trace of one number (a node's score) over iterations: draws (n chains, m iterations).
"""

import numpy as np


def moves(draws: np.ndarray) -> np.ndarray:
    """How far each chain is from where it began: exactly 0, without rounding, if it never moved."""
    return draws - draws[:, :1]


def autocovariance(draws: np.ndarray) -> np.ndarray:
    """Of each chain at lags 0 .. m - 1, biased (divided by m): (n, m) -> (n, m)."""
    m = draws.shape[1]
    moved = moves(draws)
    centred = moved - moved.mean(axis=1, keepdims=True)
    spectrum = np.fft.rfft(centred, n=2 * m)  # padded with zeros: no wrap-around
    return np.fft.irfft(spectrum * spectrum.conj(), n=2 * m)[:, :m] / m


def autocorrelation(draws: np.ndarray) -> np.ndarray:
    """Of each chain, 1 at lag 0; nan for a chain that never moved: (n, m) -> (n, m)."""
    covariance = autocovariance(draws)
    with np.errstate(invalid="ignore", divide="ignore"):
        return covariance / covariance[:, :1]


def between_and_within(draws: np.ndarray) -> tuple[float, float]:
    """(pooled variance estimate var+, mean within-chain variance) of n chains of m draws."""
    m = draws.shape[1]
    within = moves(draws).var(axis=1, ddof=1).mean()
    means = draws.mean(axis=1)
    between = means.var(ddof=1) if len(draws) > 1 else 0.0
    return (m - 1) / m * within + between, within


def split_rhat(draws: np.ndarray) -> float:
    """sqrt(var+ / W) over the halves of the chains (Gelman et al., BDA3, section 11.4): near 1 if
    they agree. nan if there are fewer than 4 draws or nothing moved.
    """
    half = draws.shape[1] // 2
    if half < 2:
        return float("nan")
    halves = np.concatenate([draws[:, :half], draws[:, -half:]])
    pooled, within = between_and_within(halves)
    return float(np.sqrt(pooled / within)) if within > 0 else float("nan")


def effective_draws(draws: np.ndarray) -> float:
    """n m / (1 + 2 sum of autocorrelations), the sum ended by Geyer's initial monotone sequence.

    The number of independent draws that would estimate the mean as well (BDA3, section 11.5).
    nan if there are fewer than 4 draws or nothing moved.
    """
    n, m = draws.shape
    if m < 4:
        return float("nan")
    pooled, within = between_and_within(draws)
    if not within > 0:
        return float("nan")
    covariance = autocovariance(draws).mean(axis=0) * m / (m - 1)
    rho = 1 - (within - covariance) / pooled
    rho[0] = 1
    pairs = rho[0 : m - m % 2 : 2] + rho[1 : m - m % 2 + 1 : 2]  # positive for a reversible chain
    ends = np.flatnonzero(pairs <= 0)
    pairs = np.minimum.accumulate(pairs[: ends[0]] if len(ends) else pairs)
    time = max(
        2 * pairs.sum() - 1, 1 / np.log10(n * m)
    )  # the bound is Stan's, for antithetic chains
    return float(n * m / time)


FEW = 10  # draws of a chain, from which nothing can be told but that it stands still
MOVES = 5  # draws at least, or all, in which a chain has the time to move
AGREE, SETTLED = 1.1, 1.2  # R-hat between chains; of a chain's own halves, which are shorter


def recent(draws: np.ndarray) -> np.ndarray:
    """The second half, but 5 draws at least, or all if there are fewer: (n, m) -> (n, l)."""
    m = draws.shape[1]
    return draws[:, m - max(m // 2, min(m, MOVES)) :]


def unmoved(draws: np.ndarray) -> np.ndarray:
    """Whether each chain stood still over its `recent` draws, 2 at least: (n, m) -> (n,) bool."""
    late = recent(draws)
    return (late == late[:, -1:]).all(axis=1) & (late.shape[1] > 1)


def judgement(draws: np.ndarray) -> str:
    """What chains have come to, from the draws (n chains, m iterations) after their warm-up.

    "stuck"         some chain has not moved of late (`unmoved`, from 3 draws on)
    "too few"       there are fewer than 10 draws of each: nothing else can be told
    "still moving"  the halves of a chain differ: its own split R-hat is above 1.2 in the median
                    (a single chain's above 1.1, as there are no others to ask)
    "apart"         each chain has settled, but they disagree: their split R-hat is above 1.1
    "samples"       they agree
    "settled"       a single chain agrees with itself; others may be elsewhere
    """
    n, m = draws.shape
    if m >= 3 and unmoved(draws).any():
        return "stuck"
    if m < FEW:
        return "too few"
    if np.median([split_rhat(own[None]) for own in draws]) > (SETTLED if n > 1 else AGREE):
        return "still moving"
    if n == 1:
        return "settled"
    return "samples" if split_rhat(draws) <= AGREE else "apart"
