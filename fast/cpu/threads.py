"""How the processor's cores are shared: processes split the batch, BLAS keeps to one thread each.

About half of a LeNet step is matrix products; the rest is copies, maxima and sums, which BLAS
threads cannot help with. So team.py gives each of several processes its part of the batch, and
BLAS, which would fight for the same cores, gets one thread in each. Where processes cannot be
forked safely (not on Linux), BLAS gets all the threads.
"""

import os
import sys

from threadpoolctl import threadpool_limits

BLAS_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
# How many processes mpiexec has started on this machine: MPICH and Intel MPI; Open MPI.
RANKS_HERE = "MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE"
MOST = 256  # threads
CAN_FORK = sys.platform == "linux"  # elsewhere system libraries do not survive it


def cores() -> int:
    """Cores this process may use: what the user set for BLAS, else what the system grants, shared
    with the processes that mpiexec has started beside it."""
    for variable in BLAS_VARIABLES:
        if os.environ.get(variable, "").isdecimal():
            return min(max(1, int(os.environ[variable])), MOST)
    granted = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        granted = len(os.sched_getaffinity(0))
    beside = [int(os.environ[n]) for n in RANKS_HERE if os.environ.get(n, "").isdecimal()]
    return max(1, granted // max(1, *beside, 1))


def limit_blas(threads: int) -> None:
    """Let BLAS use so many threads from now on, also in processes forked later."""
    threadpool_limits(threads, user_api="blas")
