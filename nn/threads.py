"""How the processor's cores are shared: processes split the batch, BLAS keeps to one thread each.

About half of a LeNet step is matrix products; the rest is copies, maxima and sums, which BLAS
threads cannot help with. So `parallel.py` gives each of several processes its part of the batch,
and BLAS, which would fight for the same cores, gets one thread in each. BLAS reads its environment
once, when NumPy loads it: import `nn` before `numpy`. If NumPy came first, or where processes
cannot be forked safely (not on Linux), BLAS keeps its own threads and THREADS is 1: more slowly to
the same numbers, up to rounding.
"""

import os
import sys

BLAS_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
MOST = 256  # threads
CAN_FORK = sys.platform == "linux"  # elsewhere system libraries do not survive it


def cores():
    """Cores this process may use: what the user set for BLAS, else what the system grants."""
    for variable in BLAS_VARIABLES:
        if os.environ.get(variable, "").isdecimal():
            return min(max(1, int(os.environ[variable])), MOST)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load_numpy_with_one_blas_thread():
    """Import NumPy so that BLAS runs on its caller's thread; return our number of processes."""
    if "numpy" in sys.modules or not CAN_FORK:
        return 1
    threads = cores()
    before = {variable: os.environ.get(variable) for variable in BLAS_VARIABLES}
    os.environ.update(dict.fromkeys(BLAS_VARIABLES, "1"))
    import numpy  # noqa: F401

    for variable, value in before.items():  # a child process makes its own choice
        if value is None:
            del os.environ[variable]
        else:
            os.environ[variable] = value
    return threads


THREADS = load_numpy_with_one_blas_thread()
