"""The processes that mpiexec has started, as one program: who speaks, and what ends it."""

import io
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from app.console import fail_in_one_line
from app.runs.folder import RunFolder
from fast.ranks import Ranks, world

PATIENCE = 1.0  # seconds that a failing rank leaves to rank 0, which may have failed likewise
LOOK = 0.05  # seconds between two looks whether a rank that works for long is done


class Job:
    """The ranks of a run, of which rank 0 alone writes and speaks; or one process, as ever."""

    def __init__(self, ranks: Ranks):
        self.ranks, self.first = ranks, ranks.first
        self.together = False  # whether all ranks know that the job ends

    def signal(self, received: list) -> int:
        """The number of a signal that any rank has received, or 0: the same on every rank."""
        return max(self.ranks.from_all(received[0] if received else 0))

    def by_first(self, work: Callable) -> Any:
        """What work() returns on rank 0, on every rank. If it fails there, all ranks end."""
        result, failed = None, True
        try:
            if self.first:
                result, failed = work(), False
        finally:
            self.together, result = self.ranks.agree((failed, result))
        if self.together:
            sys.exit()
        return result

    def in_turn(self, work: Callable) -> Any:
        """work() on rank 0, then on one rank of each other machine, then on all others.

        So what the first of them puts on a disk, the others find there.
        """
        result = None
        first_here = self.ranks.place_on_host == 0
        mine = 0 if self.first else 1 if first_here else 2
        for turn in range(3 if self.ranks.size > 1 else 1):
            failed = turn == mine
            try:
                if failed:
                    result, failed = work(), False
            finally:
                if turn == 0:
                    self.wait()
                    self.together = self.ranks.agree(failed)
            if self.together:
                sys.exit()
            self.wait()
        return result

    def load_checkpoint(self, run: RunFolder, restore: Callable) -> None:
        """run.load_checkpoint(restore) on all ranks, of which rank 0 alone reads the file."""
        saved = []

        def restore_all(*found):
            saved.append(found)
            self.ranks.agree(found)
            restore(*found)

        if self.first:
            run.load_checkpoint(restore_all)
            if not saved:
                self.ranks.agree(None)
        elif found := self.ranks.agree(None):
            restore(*found)

    def in_words(self) -> str:
        return f", {self.ranks.size} ranks" if self.ranks.size > 1 else ""

    def wait(self) -> None:
        """Wait for all ranks, without keeping a core busy."""
        if self.ranks.size > 1:
            request = self.ranks.comm.Ibarrier()
            while not request.Test():
                time.sleep(LOOK)

    def end(self, status: int) -> None:
        """End on all ranks, each of which calls this."""
        self.together = True
        sys.exit(status)


ALONE = Job(Ranks())


def exit_status(stop: SystemExit) -> int:
    return stop.code if isinstance(stop.code, int) else int(stop.code is not None)


@contextmanager
def started_job() -> Iterator[Job]:
    """The job of this process. A rank that fails in this block ends all of them, with a line.

    Ranks other than 0 say nothing but that.
    """
    with fail_in_one_line(status=2):
        job = Job(world())
    if job.ranks.size == 1:
        yield job
        return
    out, err = sys.stdout, sys.stderr
    if not job.first:
        sys.stdout, sys.stderr = open(os.devnull, "w"), io.StringIO()  # noqa: SIM115
    try:
        yield job
    except SystemExit as stop:
        status = exit_status(stop)
    except BaseException:  # noqa: BLE001  whatever it is, the other ranks must not wait for ever
        traceback.print_exc()
        status = 1
    else:
        return
    if job.together:
        status = job.ranks.agree(status)
        if not job.first and status:
            job.ranks.comm.Barrier()  # until rank 0 ends all, so that its status is the job's
    elif not job.first:
        time.sleep(PATIENCE)
        said = sys.stderr.getvalue().rstrip()
        last = said if "Traceback" in said else said.rpartition("\n")[2]
        print(f"rank {job.ranks.rank}: {last}", file=err)
    for stream in (out, err):
        stream.flush()
    if status == 0:
        sys.exit()
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 2)  # MPI would add a line of its own
    job.ranks.comm.Abort(status)
