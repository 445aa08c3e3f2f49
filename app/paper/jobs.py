"""Runs of train.py and visualize.py, several at a time, each in a folder that it can go on from."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path

from tqdm import tqdm

from app import ROOT
from app.console import stop_signals
from app.options import train, visualize
from app.runs.folder import RunFolder, Settings
from fast.device import gpus

OPTIONS = {"train.py": train, "visualize.py": visualize}


@dataclass
class Job:
    """A command: the script, its options, and the folder that becomes its --out."""

    script: str
    options: list
    folder: Path

    def words(self) -> list[str]:
        return [str(word) for word in self.options]

    @cached_property
    def settings(self) -> Settings:
        """All that the options stand for."""
        options = OPTIONS[self.script]
        return options.complete(options.parse(self.words()))

    def check_settings(self) -> None:
        """ValueError if the folder holds a run with other settings than ours."""
        run = RunFolder(self.folder)
        if not run.holds_a_run():
            return
        made = run.read_settings(OPTIONS[self.script].checked)
        for name, asked in self.settings.items():
            if made[name] != asked:
                raise ValueError(
                    f"{self.folder} was made with {name.replace('_', '-')} {made[name]}, and "
                    f"not {asked}: choose another --out"
                )

    def finished(self) -> bool:
        return RunFolder(self.folder, OPTIONS[self.script].results(self.settings)).finished()

    @property
    def log(self) -> Path:
        return self.folder.parent / f"{self.folder.name}.log"

    def start(self) -> subprocess.Popen:
        """Begin the run, or go on with it."""
        command = [
            sys.executable,
            ROOT / self.script,
            *self.words(),
            "--out",
            self.folder,
            "--resume",
        ]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "wb") as log:
            # In a session of its own: Ctrl-C is for us, who pass it on once.
            return subprocess.Popen(
                [str(word) for word in command], stdout=log, stderr=log, start_new_session=True
            )

    def words_of_the_run(self) -> list[str]:
        """The lines of the log, where a progress bar overwrites its own line."""
        text = self.log.read_bytes().decode(errors="replace").replace("\r", "\n")
        return [line for line in text.split("\n") if line.strip()]

    def last_words(self) -> str:
        return next(reversed(self.words_of_the_run()), "")

    def was_locked_out(self) -> bool:
        """Whether another process is at work in the folder; its own last words may follow."""
        return any("another process is at work" in line for line in self.words_of_the_run())


def by_turns(groups: Iterable[list[Job]]) -> list[Job]:
    """The first job of each group, then the second of each: where a group is a kind of run and its
    jobs are the seeds, runs that can be compared are done one after the other."""
    turns = zip_longest(*groups)
    return [job for turn in turns for job in turn if job is not None]


def at_once(device: str) -> int:
    """How many runs share a device: one a core, but a GPU is for one alone."""
    if device != "cpu" and gpus():
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def run_all(jobs: list[Job], title: str, device: str) -> None:
    """Run what is not finished yet. ChildProcessError with the last words of a run that failed,
    ValueError if there are runs with other settings.

    If this program is stopped, so are the runs, each of which saves what it has; a run left over
    from a program that was killed is waited for.
    """
    for job in jobs:
        job.check_settings()
    waiting = [job for job in jobs if not job.finished()]
    running, most = {}, at_once(device)
    done = len(jobs) - len(waiting)
    interval = 0.1 if sys.stderr.isatty() else 30
    with stop_signals() as stopped:
        try:
            with tqdm(
                total=len(jobs), initial=done, desc=title, unit="run", mininterval=interval
            ) as bar:
                while (waiting or running) and not stopped:
                    while waiting and len(running) < most:
                        job = waiting.pop(0)
                        running[job.start()] = job
                    time.sleep(0.2)
                    for process, job in list(running.items()):
                        if process.poll() is None:
                            continue
                        del running[process]
                        if process.returncode == 0:
                            bar.update()
                        elif job.was_locked_out():
                            time.sleep(2)
                            waiting.append(job)
                        else:
                            raise ChildProcessError(f"{job.folder}: {why(process, job)}")
                    words = (
                        f"{job.folder.name}: {job.last_words()[:30]}" for job in running.values()
                    )
                    bar.set_postfix_str("; ".join(words), refresh=False)
                    if sys.stderr.isatty():
                        bar.refresh()
        finally:
            end(running)
        if stopped:
            raise KeyboardInterrupt(stopped[0])


def why(process: subprocess.Popen, job: Job) -> str:
    """What ended a run that failed."""
    if process.returncode > 0:
        return job.last_words()
    name = signal.Signals(-process.returncode).name
    return f"ended by the signal {name}, after: {job.last_words()}"


def end(processes: dict) -> None:
    """Have runs save what they have, and wait for them; or not, when a second signal comes."""
    try:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()
    except KeyboardInterrupt:
        for process in processes:
            process.kill()  # each has a checkpoint
        raise
