"""Runs of train.py and visualize.py, several at a time, each in a folder that it can go on from."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from app import ROOT
from app.options import train, train_settings, visualize, visualize_settings
from fast.device import gpus

# What is written last; the settings that options stand for.
RESULTS = {"train.py": "model.npz", "visualize.py": "diagnostics.json"}
SETTINGS = {
    "train.py": lambda words: train_settings.complete(train.parse(words)),
    "visualize.py": lambda words: visualize_settings.complete(visualize.parse(words)),
}


@dataclass
class Job:
    """A command: the script, its options, and the folder that becomes its --out."""

    script: str
    options: list
    folder: Path

    def words(self):
        return [str(word) for word in self.options]

    def check_settings(self):
        """ValueError if the folder holds a run with other settings than ours."""
        file = self.folder / "settings.json"
        if not file.exists():
            return
        made, asked = json.loads(file.read_text()), SETTINGS[self.script](self.words())
        for name in asked:
            if made.get(name) != asked[name]:
                raise ValueError(
                    f"{self.folder} was made with {name.replace('_', '-')} {made.get(name)}, and "
                    f"not {asked[name]}: choose another --out"
                )

    def finished(self):
        return (self.folder / RESULTS[self.script]).exists()

    @property
    def log(self):
        return self.folder.parent / f"{self.folder.name}.log"

    def start(self):
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

    def last_words(self):
        """The last line of the log, where a progress bar overwrites its own line."""
        text = self.log.read_bytes().decode(errors="replace").replace("\r", "\n")
        return next((line for line in reversed(text.split("\n")) if line.strip()), "")


def at_once(device):
    """How many runs share a device: one a core, but a GPU is for one alone."""
    if device != "cpu" and gpus():
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def run_all(jobs, title, device):
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
    try:
        with tqdm(
            total=len(jobs), initial=done, desc=title, unit="run", mininterval=interval
        ) as bar:
            while waiting or running:
                while waiting and len(running) < most:
                    job = waiting.pop(0)
                    running[job.start()] = job
                time.sleep(0.2)
                for process, job in list(running.items()):
                    status = process.poll()
                    if status is None:
                        continue
                    del running[process]
                    if status == 0:
                        bar.update()
                    elif "another process is at work" in job.last_words():
                        time.sleep(2)
                        waiting.append(job)
                    else:
                        raise ChildProcessError(f"{job.folder}: {job.last_words()}")
                words = [f"{job.folder.name}: {job.last_words()[:30]}" for job in running.values()]
                bar.set_postfix_str("; ".join(words), refresh=False)
                if sys.stderr.isatty():
                    bar.refresh()
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()
